//! Sample entries read: which codec, and its configuration record as frames of ours have it.

use bytes::Bytes;

use super::Mp4Error;
use super::boxes::{Fields, FourCc, child};
use super::entry::{
    OBJECT_AAC, OBJECT_MP3_MPEG_1, OBJECT_MP3_MPEG_2, TAG_DECODER_CONFIG, TAG_DECODER_SPECIFIC, TAG_ES,
};
use crate::codec::{Description, flac, opus};
use crate::limits::CONFIG_BYTES_MAX;
use crate::media::{Codec, Media};

/// Further object type indications (mp4ra.org).
const OBJECT_AAC_MPEG_2: std::ops::RangeInclusive<u8> = 0x66..=0x68;
const OBJECT_AC3: u8 = 0xA5;
const OBJECT_EAC3: u8 = 0xA6;
/// Bytes of a sample entry before the boxes in it.
const VISUAL_BYTES: usize = 78;
const AUDIO_BYTES: usize = 28;
/// What QuickTime adds in its versions 1 and 2.
const QUICKTIME_1_BYTES: usize = 16;
const QUICKTIME_2_BYTES: usize = 36;

/// What a sample entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadEntry {
    pub(super) codec: Codec,
    pub(super) config: Bytes,
    pub(super) size: Option<(u32, u32)>,
    pub(super) channels: Option<u8>,
}

impl ReadEntry {
    /// Of a box within `stsd`; none if the codec is not known here.
    pub(super) fn read(kind: FourCc, body: &[u8]) -> Result<Option<Self>, Mp4Error> {
        let codec = match &kind.0 {
            b"avc1" | b"avc3" => Codec::H264,
            b"hvc1" | b"hev1" => Codec::H265,
            b"vvc1" | b"vvi1" => Codec::H266,
            b"av01" => Codec::Av1,
            b"vp08" => Codec::Vp8,
            b"vp09" => Codec::Vp9,
            b"mp4a" => Codec::Aac,
            b".mp3" => Codec::Mp3,
            b"Opus" => Codec::Opus,
            b"fLaC" => Codec::Flac,
            b"ac-3" => Codec::Ac3,
            b"ec-3" => Codec::Eac3,
            b"alaw" => Codec::G711A,
            b"ulaw" => Codec::G711U,
            _ => return Ok(None),
        };
        match codec.media() {
            Media::Video => Self::video(codec, kind, body).map(Some),
            _ => Self::audio(codec, kind, body),
        }
    }

    fn video(codec: Codec, kind: FourCc, body: &[u8]) -> Result<Self, Mp4Error> {
        let mut fields = Fields::new(&kind.0, body);
        fields.skip(24)?;
        let (width, height) = (u32::from(fields.u16()?), u32::from(fields.u16()?));
        let boxes = body.get(VISUAL_BYTES..).ok_or(Mp4Error::Cut(kind))?;
        let found = |kind: &[u8; 4]| child(boxes, kind)?.ok_or(Mp4Error::Missing(FourCc(*kind)));
        let record = match codec {
            Codec::H264 => found(b"avcC")?,
            Codec::H265 => found(b"hvcC")?,
            Codec::H266 => behind_version(b"vvcC", found(b"vvcC")?)?,
            Codec::Av1 => found(b"av1C")?,
            _ => behind_version(b"vpcC", found(b"vpcC")?)?,
        };
        let config = kept(kind, record)?;
        let described = Description::read(codec, &config, None).ok().and_then(|description| description.size);
        let said = (width > 0 && height > 0).then_some((width, height));
        let size = described.or(said);
        Ok(Self { codec, config, size, channels: None })
    }

    fn audio(mut codec: Codec, kind: FourCc, body: &[u8]) -> Result<Option<Self>, Mp4Error> {
        let mut fields = Fields::new(&kind.0, body);
        fields.skip(8)?;
        let version = fields.u16()?;
        fields.skip(6)?;
        let mut channels = u8::try_from(fields.u16()?).ok().filter(|channels| *channels > 0);
        let more = match version {
            1 => QUICKTIME_1_BYTES,
            2 => QUICKTIME_2_BYTES,
            _ => 0,
        };
        let boxes = body.get(AUDIO_BYTES.saturating_add(more)..).ok_or(Mp4Error::Cut(kind))?;
        let found = |kind: &[u8; 4]| child(boxes, kind)?.ok_or(Mp4Error::Missing(FourCc(*kind)));
        let wrong = |error| Mp4Error::Config(codec, error);
        let config = match codec {
            Codec::Aac => {
                // QuickTime puts it one level deeper.
                let inner = match child(boxes, b"esds")? {
                    Some(esds) => esds,
                    None => child(found(b"wave")?, b"esds")?.ok_or(Mp4Error::Missing(FourCc(*b"esds")))?,
                };
                let (object, specific) = decoder_config(behind_version(b"esds", inner)?)?;
                if object == OBJECT_AAC || OBJECT_AAC_MPEG_2.contains(&object) {
                    kept(kind, specific)?
                } else {
                    codec = match object {
                        OBJECT_MP3_MPEG_1 | OBJECT_MP3_MPEG_2 => Codec::Mp3,
                        OBJECT_AC3 => Codec::Ac3,
                        OBJECT_EAC3 => Codec::Eac3,
                        _ => return Ok(None),
                    };
                    Bytes::new()
                }
            }
            Codec::Opus => opus::OpusHead::read_box(found(b"dOps")?).map_err(wrong)?.to_bytes(),
            Codec::Flac => flac::record_of_box(found(b"dfLa")?).map_err(wrong)?,
            Codec::Ac3 => kept(kind, found(b"dac3")?)?,
            Codec::Eac3 => kept(kind, found(b"dec3")?)?,
            _ => Bytes::new(),
        };
        if let Ok(description) = Description::read(codec, &config, None)
            && !matches!(codec, Codec::G711A | Codec::G711U)
        {
            channels = description.channels.or(channels);
        }
        Ok(Some(Self { codec, config, size: None, channels }))
    }
}

/// A part of the box, of its own: what a track keeps for as long as it lives does not pin the rest.
fn kept(kind: FourCc, record: &[u8]) -> Result<Bytes, Mp4Error> {
    if record.len() > CONFIG_BYTES_MAX {
        return Err(Mp4Error::TooLong(kind));
    }
    Ok(Bytes::copy_from_slice(record))
}

fn behind_version<'a>(kind: &[u8; 4], body: &'a [u8]) -> Result<&'a [u8], Mp4Error> {
    Ok(Fields::full(kind, body)?.2.rest())
}

/// The object type, and what the decoder itself is told (ISO/IEC 14496-1, 7.2.6.6).
fn decoder_config(esds: &[u8]) -> Result<(u8, &[u8]), Mp4Error> {
    let wrong = Mp4Error::Value(FourCc(*b"esds"));
    let (tag, stream, _) = descriptor(esds)?;
    if tag != TAG_ES {
        return Err(wrong);
    }
    let mut fields = Fields::new(b"esds", stream);
    fields.skip(2)?;
    let flags = fields.u8()?;
    // streamDependenceFlag, URL_Flag, OCRstreamFlag
    fields.skip(if flags & 0x80 != 0 { 2 } else { 0 })?;
    if flags & 0x40 != 0 {
        let length = fields.u8()?;
        fields.skip(length.into())?;
    }
    fields.skip(if flags & 0x20 != 0 { 2 } else { 0 })?;
    let (tag, decoder, _) = descriptor(fields.rest())?;
    if tag != TAG_DECODER_CONFIG {
        return Err(wrong);
    }
    let mut fields = Fields::new(b"esds", decoder);
    let object = fields.u8()?;
    fields.skip(12)?;
    let mut rest = fields.rest();
    while !rest.is_empty() {
        let (tag, body, behind) = descriptor(rest)?;
        if tag == TAG_DECODER_SPECIFIC {
            return Ok((object, body));
        }
        rest = behind;
    }
    Ok((object, &[]))
}

/// Tag, contents, and what is behind it.
fn descriptor(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Mp4Error> {
    let mut fields = Fields::new(b"esds", bytes);
    let tag = fields.u8()?;
    let mut length = 0_usize;
    // At most four groups of seven bits.
    for _ in 0..4 {
        let group = fields.u8()?;
        length = length << 7 | usize::from(group & 0x7F);
        if group & 0x80 == 0 {
            break;
        }
    }
    let (body, behind) = fields.rest().split_at_checked(length).ok_or(Mp4Error::Cut(FourCc(*b"esds")))?;
    Ok((tag, body, behind))
}
