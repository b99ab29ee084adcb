//! The same playlists read by quick-m3u8: no tag that it does not know, no value that it cannot read.

use quick_m3u8::config::ParsingOptionsBuilder;
use quick_m3u8::tag::{KnownTag, hls};
use quick_m3u8::{HlsLine, Reader};

pub(crate) fn reads(text: &str) {
    let options = ParsingOptionsBuilder::new().with_parsing_for_all_tags().build();
    let mut reader = Reader::from_str(text, options);
    let (mut segments, mut uris) = (0, 0);
    loop {
        match reader.read_line() {
            Ok(None) => break,
            Ok(Some(HlsLine::KnownTag(KnownTag::Hls(hls::Tag::Inf(_))))) => segments += 1,
            Ok(Some(HlsLine::KnownTag(KnownTag::Hls(_)))) => {}
            Ok(Some(HlsLine::Uri(_))) => uris += 1,
            other => panic!("{other:?}\n{text}"),
        }
    }
    assert_eq!(segments, uris, "{text}");
}
