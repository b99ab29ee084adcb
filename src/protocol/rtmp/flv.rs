//! What is in an FLV file, as if it were published.
//!
//! A file is read whole, as a publisher's messages would be; what is cut off at its end is left out.

use std::collections::VecDeque;

use bytes::Bytes;

use super::publish::{Publishing, reason};
use super::session::{Bounds, Turn};
use crate::clock::{Instant, Now};
use crate::container::flv::{AUDIO, FlvError, SCRIPT, TagReader, VIDEO};
use crate::limits::Limits;
use crate::media::{Frame, Media};
use crate::protocol::Output;
use crate::reason::Reason;

/// The frames of a file, in its order, with the file's own times.
///
/// # Errors
/// The bytes are no FLV, or what is in it could not be published either.
pub fn frames_of_flv(file: Bytes) -> Result<Vec<Frame>, Reason> {
    let bounds = Bounds::from(&Limits::default());
    let mut outputs = VecDeque::new();
    let mut publishing = Publishing::new(0);
    let now = Now { mono: Instant::ZERO, ..Now::default() };
    let mut tags = TagReader::default();
    tags.push(file);
    while let Some(tag) = tags.next_tag().map_err(|error| reason(error, 0))? {
        let mut turn = Turn::new(now, tag.at, &bounds, &mut outputs);
        match tag.kind {
            _ if tag.body.is_empty() => {}
            AUDIO => publishing.media(&mut turn, Media::Audio, tag.timestamp, tag.body)?,
            VIDEO => publishing.media(&mut turn, Media::Video, tag.timestamp, tag.body)?,
            SCRIPT => publishing.data(&mut turn, tag.timestamp, tag.body)?,
            _ => {}
        }
    }
    if !tags.has_begun() {
        return Err(reason(FlvError::Header, 0));
    }
    let frame = |output| if let Output::Frame(_, frame) = output { Some(frame) } else { None };
    Ok(outputs.into_iter().filter_map(frame).collect())
}

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
