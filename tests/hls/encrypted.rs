//! Encrypted segments: who has the keys plays them, and nobody else.

use std::collections::BTreeSet;

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use shardcast::clock::{Instant, Now};
use shardcast::extension::FrameSink;
use shardcast::media::{Codec, Frame, TrackId};
use shardcast::reason::Reason;
use shardcast::record::hls::{Answer, KeyProvider, MANIFEST, Packager, Request, SegmentKey};

use crate::parsed::Playlist;
use crate::stream::{LARGE, Packaged, Reel, START, all, behind, by_track, usual};
use crate::watcher::{Leniency, Watcher, demux};

/// Another key for every other segment, and none for that of one number.
pub(crate) struct Rotating {
    pub(crate) none_at: Option<u64>,
}

impl Rotating {
    pub(crate) fn key_of(name: &str) -> [u8; 16] {
        let number = name.strip_prefix("key-").and_then(|name| name.strip_suffix(".bin"));
        [number.unwrap_or_else(|| panic!("{name}")).parse().unwrap(); 16]
    }
}

impl KeyProvider for Rotating {
    fn key(&mut self, sequence: u64) -> Option<SegmentKey> {
        let uri = format!("key-{}.bin", sequence / 2 + 1).into_boxed_str();
        (self.none_at != Some(sequence)).then(|| SegmentKey { key: Self::key_of(&uri), uri })
    }
}

/// Packages with keys.
pub(crate) fn package(frames: &[Frame], keys: impl KeyProvider + 'static) -> Packaged {
    let now = Now { mono: Instant(0), wall: START };
    let mut packager = Packager::with_keys(all(), now, keys);
    let shelf = packager.shelf();
    for frame in frames {
        packager.on_frame(frame);
    }
    packager.on_end(Reason::Ended);
    Packaged { shelf: shelf.clone(), watcher: Watcher::new(shelf, Leniency::default()) }
}

fn decrypt(key: [u8; 16], iv: u128, mut bytes: Vec<u8>) -> Vec<u8> {
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, &key).unwrap()).unwrap();
    let context = DecryptionContext::Iv128(FixedLength::from(iv.to_be_bytes()));
    key.decrypt(&mut bytes, context).expect("it has a padding").to_vec()
}

/// The frames of a track, decrypted.
fn frames(packaged: &Packaged, name: &str, ivs: &mut BTreeSet<u128>) -> Vec<Frame> {
    let Playlist { segments, .. } = packaged.playlist(name);
    let (mut init, mut frames) = (Vec::new(), Vec::new());
    for segment in segments {
        init = segment.map.as_ref().map_or(init, |map| packaged.get(map));
        if segment.gap {
            continue;
        }
        let (uri, iv) = segment.key.as_ref().expect("each has a key");
        assert!(ivs.insert(*iv), "no initialization vector is used twice");
        let sealed = packaged.get(&segment.complete.as_ref().unwrap().1);
        let bytes = decrypt(Rotating::key_of(uri), *iv, sealed);
        frames.extend(demux(&init, &bytes).1);
    }
    frames
}

#[test]
fn who_has_the_keys_has_every_frame_and_initialization_is_in_the_clear() {
    let mut second = Reel::default();
    second.config(Codec::H264, LARGE, 0);
    second.run(0, 5_000_000_000, (30, 1), 60, true);
    let stream = behind(usual(9).frames, second.frames, 1_000_000_000);

    let packaged = package(&stream, Rotating { none_at: None });

    let mut ivs = BTreeSet::new();
    for (track, source) in by_track(&stream) {
        let name = if track == TrackId::VIDEO { "video0.m3u8" } else { "audio0.m3u8" };
        let ours = frames(&packaged, name, &mut ivs);
        assert!(ours.iter().map(|frame| &frame.payload).eq(source.iter().map(|frame| &frame.payload)), "{name}");
        let playlist = packaged.playlist(name);
        assert_eq!(playlist.part_target, None, "parts are not encrypted");
        let keys: BTreeSet<_> = playlist.segments.iter().filter_map(|one| Some(&one.key.as_ref()?.0)).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        for segment in &playlist.segments {
            let bytes = packaged.get(&segment.complete.as_ref().unwrap().1);
            assert!(!bytes.windows(4).any(|four| four == b"moof"), "nothing is in the clear");
        }
    }
    let manifest = Request { path: MANIFEST, ..Request::default() };
    assert_eq!(packaged.shelf.get(&manifest), Answer::NotFound, "it says nothing of keys");
}

#[test]
fn a_segment_without_a_key_is_a_gap_and_never_in_the_clear() {
    let stream = usual(9).frames;

    let packaged = package(&stream, Rotating { none_at: Some(2) });

    for name in ["video0.m3u8", "audio0.m3u8"] {
        let playlist = packaged.playlist(name);
        let gaps: Vec<bool> = playlist.segments.iter().map(|segment| segment.gap).collect();
        assert_eq!(gaps, [false, false, true, false, false], "{name}");
        let uri = &playlist.segments[2].complete.as_ref().unwrap().1;
        assert_eq!(packaged.shelf.get(&Request { path: uri, ..Request::default() }), Answer::NotFound);
        let count = frames(&packaged, name, &mut BTreeSet::new()).len();
        let all = if name == "video0.m3u8" { 270 } else { 422 };
        assert!((all - 95..all - 59).contains(&count), "{name}: {count}");
    }
}

#[test]
fn a_key_whose_place_would_break_the_playlist_is_none() {
    struct Bad(&'static str);
    impl KeyProvider for Bad {
        fn key(&mut self, _: u64) -> Option<SegmentKey> {
            Some(SegmentKey { key: [1; 16], uri: self.0.into() })
        }
    }
    for uri in ["", "a\"b", "a\nb", "a b", "\u{e4}"] {
        let packaged = package(&usual(3).frames, Bad(uri));
        assert!(packaged.playlist("video0.m3u8").segments.iter().all(|segment| segment.gap), "{uri:?}");
    }
}

#[test]
fn a_key_is_not_told_where_it_is_printed() {
    let key = SegmentKey { key: [0x5A; 16], uri: "there".into() };
    assert_eq!(format!("{key:?}"), "SegmentKey { uri: \"there\", .. }");
}
