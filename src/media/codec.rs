//! The codecs that a frame can be in.

use std::fmt;

/// What a codec codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Metadata, captions, cue points.
    Data,
}

/// A codec, in one byte: it travels with every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Codec {
    /// ITU-T H.264, AVC.
    H264 = 0,
    /// ITU-T H.265, HEVC.
    H265 = 1,
    /// ITU-T H.266, VVC.
    H266 = 2,
    /// AOMedia Video 1.
    Av1 = 3,
    /// VP8.
    Vp8 = 4,
    /// VP9.
    Vp9 = 5,
    /// MPEG-4 AAC.
    Aac = 32,
    /// Opus, RFC 6716.
    Opus = 33,
    /// MPEG audio layer III.
    Mp3 = 34,
    /// FLAC, RFC 9639.
    Flac = 35,
    /// AC-3.
    Ac3 = 36,
    /// Enhanced AC-3.
    Eac3 = 37,
    /// G.711 A-law.
    G711A = 38,
    /// G.711 µ-law.
    G711U = 39,
    /// Speex.
    Speex = 40,
    /// Uncompressed PCM.
    Pcm = 41,
    /// An AMF0 script data message (`onMetaData`, `onCuePoint`, …): its name, then its values.
    Script = 64,
    /// An ID3v2 tag: timed metadata of HTTP Live Streaming.
    Id3 = 65,
    /// A KLV unit of SMPTE ST 336: metadata of sensors.
    Klv = 66,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::H264,
        Self::H265,
        Self::H266,
        Self::Av1,
        Self::Vp8,
        Self::Vp9,
        Self::Aac,
        Self::Opus,
        Self::Mp3,
        Self::Flac,
        Self::Ac3,
        Self::Eac3,
        Self::G711A,
        Self::G711U,
        Self::Speex,
        Self::Pcm,
        Self::Script,
        Self::Id3,
        Self::Klv,
    ];

    /// Pictures, sound or data.
    #[must_use]
    pub const fn media(self) -> Media {
        match self as u8 {
            0..=31 => Media::Video,
            32..=63 => Media::Audio,
            _ => Media::Data,
        }
    }

    /// The name that people use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::H266 => "H.266",
            Self::Av1 => "AV1",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Aac => "AAC",
            Self::Opus => "Opus",
            Self::Mp3 => "MP3",
            Self::Flac => "FLAC",
            Self::Ac3 => "AC-3",
            Self::Eac3 => "E-AC-3",
            Self::G711A => "G.711 A-law",
            Self::G711U => "G.711 µ-law",
            Self::Speex => "Speex",
            Self::Pcm => "PCM",
            Self::Script => "script data",
            Self::Id3 => "ID3",
            Self::Klv => "KLV",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
