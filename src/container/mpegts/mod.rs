//! MPEG-TS, the MPEG-2 transport stream (ISO/IEC 13818-1): [`Muxer`] and [`Demuxer`].
//!
//! The muxer writes a frame once into shared bytes, for all viewers and segments; the demuxer takes bytes as they come
//! and gives tracks and frames. Neither sees a file, a socket or a clock.
//!
//! Carried: H.264, H.265, H.266 (to the muxer only: its record is not made of a stream), AAC in ADTS, MPEG audio layer
//! III, AC-3, E-AC-3 (ATSC A/52, A/53), Opus (with the control header of Xiph.Org's mapping), ID3 (Apple's timed
//! metadata) and KLV (SMPTE ST 1402). Left out: what has no mapping that players know (AV1, VP8, VP9, FLAC, G.711,
//! PCM, script data), AAC in LATM, more than one program (the first of the table is read), scrambled packets, M2TS's
//! 192-byte packets, and PES packets with several or half pictures (one is an access unit, as all encoders for
//! streaming write it).

mod audio;
mod crc;
mod demux;
mod language;
mod mux;
mod opus;
mod pes;
mod table;

#[cfg(test)]
mod tests;

pub use demux::{DemuxCounters, DemuxError, DemuxLimits, Demuxer, Event};
pub use mux::{MuxError, Muxer};

/// Bytes of a packet.
pub const PACKET_BYTES: usize = 188;
/// Ticks per second of timestamps.
pub const TIMESCALE: u32 = 90_000;

/// The first byte of a packet.
const SYNC: u8 = 0x47;
/// Bytes of a packet behind its header.
const BODY_BYTES: usize = PACKET_BYTES - 4;
const PID_PAT: u16 = 0;
const PID_NULL: u16 = 0x1FFF;
/// Timestamps have 33 bits.
const TICKS_WRAP: i64 = 1 << 33;

/// What stands for an elementary stream in the program map (ISO/IEC 13818-1, table 2-34; ATSC A/53; Apple's and ETSI's
/// additions).
mod stream_type {
    pub(super) const MPEG1_AUDIO: u8 = 0x03;
    pub(super) const MPEG2_AUDIO: u8 = 0x04;
    pub(super) const PRIVATE_DATA: u8 = 0x06;
    pub(super) const AAC_ADTS: u8 = 0x0F;
    pub(super) const METADATA: u8 = 0x15;
    pub(super) const H264: u8 = 0x1B;
    pub(super) const H265: u8 = 0x24;
    pub(super) const H266: u8 = 0x33;
    pub(super) const AC3: u8 = 0x81;
    pub(super) const EAC3: u8 = 0x87;
}

/// Tags of descriptors.
mod descriptor {
    pub(super) const REGISTRATION: u8 = 0x05;
    pub(super) const ISO_639_LANGUAGE: u8 = 0x0A;
    pub(super) const METADATA_POINTER: u8 = 0x25;
    pub(super) const METADATA: u8 = 0x26;
    /// ETSI EN 300 468, annex D.
    pub(super) const DVB_AC3: u8 = 0x6A;
    pub(super) const DVB_EAC3: u8 = 0x7A;
    /// Its first byte says which: 0x80 is Opus's channel configuration.
    pub(super) const DVB_EXTENSION: u8 = 0x7F;
    pub(super) const EXTENSION_OPUS: u8 = 0x80;
}
