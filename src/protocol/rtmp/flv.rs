//! FLV files (Adobe FLV 10.1, annex E): the same tags as in RTMP messages, behind headers of their own.
//!
//! A file is read whole, as a publisher's messages would be; what is cut off at its end is left out.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::message::{AUDIO, DATA, VIDEO};
use super::publish::Publishing;
use super::session::{Bounds, Turn};
use crate::clock::{Instant, Now};
use crate::limits::Limits;
use crate::media::{Frame, Media};
use crate::protocol::Output;
use crate::reason::{Label, Reason};

/// The frames of a file, in its order, with the file's own times.
///
/// # Errors
/// The bytes are no FLV, or what is in it could not be published either.
pub fn frames_of_flv(mut file: Bytes) -> Result<Vec<Frame>, Reason> {
    let length = file.len();
    let at = |rest: &Bytes| (length - rest.len()) as u64;
    let malformed = |at| Reason::Malformed { what: Label("flv.header"), at };
    if !file.starts_with(b"FLV\x01") || file.len() < HEADER_BYTES {
        return Err(malformed(0));
    }
    let header = file.get(5..HEADER_BYTES).map_or(0, |mut bytes| bytes.get_u32());
    let skipped = usize::try_from(header).ok().filter(|skipped| (HEADER_BYTES..=length).contains(skipped));
    file.advance(skipped.ok_or_else(|| malformed(5))?);
    let bounds = Bounds::from(&Limits::default());
    let mut outputs = VecDeque::new();
    let mut publishing = Publishing::new(0);
    let now = Now { mono: Instant::ZERO, ..Now::default() };
    // Each tag stands behind the length of the one before.
    while file.len() >= 4 + TAG_HEADER_BYTES {
        file.advance(4);
        let mut head = file.split_to(TAG_HEADER_BYTES);
        let (kind, size) = (head.get_u8() & 0x1f, head.get_uint(3));
        let timestamp = (u32::try_from(head.get_uint(3)).unwrap_or(0)) | (u32::from(head.get_u8()) << 24);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > file.len() {
            break;
        }
        let mut turn = Turn::new(now, at(&file), &bounds, &mut outputs);
        let body = file.split_to(size);
        match kind {
            _ if body.is_empty() => {}
            AUDIO => publishing.media(&mut turn, Media::Audio, timestamp, body)?,
            VIDEO => publishing.media(&mut turn, Media::Video, timestamp, body)?,
            DATA => publishing.data(&mut turn, timestamp, body)?,
            _ => {}
        }
    }
    let frame = |output| if let Output::Frame(_, frame) = output { Some(frame) } else { None };
    Ok(outputs.into_iter().filter_map(frame).collect())
}

const HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::FrameKind;

    fn tag(kind: u8, timestamp: u32, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len()).unwrap().to_be_bytes();
        let [high, rest @ ..] = timestamp.to_be_bytes();
        let head = [&[kind][..], &size[1..], &rest, &[high], &[0, 0, 0], body].concat();
        let length = u32::try_from(head.len()).unwrap().to_be_bytes();
        [head, length.to_vec()].concat()
    }

    fn file(tags: &[Vec<u8>]) -> Bytes {
        [b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00".to_vec(), tags.concat()].concat().into()
    }

    #[test]
    fn a_file_is_read_tag_by_tag_with_extended_times_and_a_cut_off_end_left_out() {
        let config = tag(VIDEO, 0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 31, 255]);
        let key = tag(VIDEO, 0x0100_0000, &[0x17, 1, 0, 0, 80, 9, 9]);
        let delta = tag(VIDEO, 0x0100_0028, &[0x27, 1, 0, 0, 0, 7]);
        let cut = &tag(VIDEO, 0x0100_0050, &[0x27, 1, 0, 0, 0, 7, 7, 7])[..15];
        let frames = frames_of_flv(file(&[config, key, delta, cut.to_vec()])).unwrap();
        let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
        assert_eq!(kinds, [FrameKind::Config, FrameKind::Key, FrameKind::Delta]);
        assert_eq!((frames[1].pts - frames[1].dts).as_millis(), 80);
        assert_eq!((frames[2].dts - frames[1].dts).as_millis(), 40);
        assert_eq!(&*frames[2].payload, [7]);
    }

    #[test]
    fn what_is_no_flv_is_refused_and_never_panics() {
        for bytes in [&b""[..], b"FLV\x01", b"FLV\x01\x05\xff\xff\xff\xff\x00", b"RIFF\x00\x00\x00\x00WAVE"] {
            assert!(frames_of_flv(Bytes::copy_from_slice(bytes)).is_err());
        }
        let whole = file(&[tag(VIDEO, 0, &[0x17, 1, 0, 0, 0, 9]), tag(AUDIO, 5, &[0xaf, 1, 2])]);
        for end in 0..whole.len() {
            let _ = frames_of_flv(whole.slice(..end));
        }
        assert!(frames_of_flv(file(&[tag(VIDEO, 0, &[0x12, 0, 0])])).is_err(), "a codec that could not be published");
    }
}
