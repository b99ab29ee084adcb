//! The initialization segment: `ftyp` and `moov` (ISO/IEC 14496-12, 8; ISO/IEC 23000-19, 7.3.1).

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{put_box, put_full_box};
use super::entry::Entry;
use crate::media::{Media, Track};

/// Ticks per second of the movie; nothing is counted in it here.
const MOVIE_TIMESCALE: u32 = 1000;
/// No rotation, no scaling: 16.16 and 2.30 numbers.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// The track is used, in the presentation and in previews.
const TRACK_IN_USE: u32 = 7;
/// The media lie in the same file.
const SELF_CONTAINED: u32 = 1;
/// ISO 639-2 codes of languages that streams are in, by their shorter tags of BCP 47.
const LANGUAGES: [(&str, &[u8; 3]); 30] = [
    ("ar", b"ara"),
    ("bg", b"bul"),
    ("cs", b"ces"),
    ("da", b"dan"),
    ("de", b"deu"),
    ("el", b"ell"),
    ("en", b"eng"),
    ("es", b"spa"),
    ("et", b"est"),
    ("fa", b"fas"),
    ("fi", b"fin"),
    ("fr", b"fra"),
    ("he", b"heb"),
    ("hi", b"hin"),
    ("hr", b"hrv"),
    ("hu", b"hun"),
    ("id", b"ind"),
    ("it", b"ita"),
    ("ja", b"jpn"),
    ("ko", b"kor"),
    ("nl", b"nld"),
    ("no", b"nor"),
    ("pl", b"pol"),
    ("pt", b"por"),
    ("ru", b"rus"),
    ("sv", b"swe"),
    ("th", b"tha"),
    ("tr", b"tur"),
    ("uk", b"ukr"),
    ("zh", b"zho"),
];
pub(super) const UNDETERMINED: [u8; 3] = *b"und";

/// Writes it, with tracks numbered by `number_of`.
pub(super) fn segment(tracks: &[(Track, Entry)], number_of: impl Fn(&Track) -> u32) -> Bytes {
    let mut out = BytesMut::new();
    put_box(&mut out, b"ftyp", |out| {
        out.put_slice(b"iso6\0\0\0\0iso6mp41");
        // A CMAF track stands alone.
        if tracks.len() == 1 {
            out.put_slice(b"cmfc");
        }
    });
    put_box(&mut out, b"moov", |out| {
        let next = tracks.iter().map(|(track, _)| number_of(track)).max().unwrap_or(0).saturating_add(1);
        put_movie_header(out, next);
        for (track, entry) in tracks {
            put_box(out, b"trak", |out| put_track(out, track, entry, number_of(track)));
        }
        put_box(out, b"mvex", |out| {
            for (track, _) in tracks {
                put_full_box(out, b"trex", 0, 0, |out| {
                    out.put_u32(number_of(track));
                    out.put_u32(1); // the only sample entry
                    out.put_bytes(0, 12);
                });
            }
        });
    });
    out.freeze()
}

fn put_movie_header(out: &mut BytesMut, next_track: u32) {
    put_full_box(out, b"mvhd", 0, 0, |out| {
        out.put_u64(0); // creation and modification time
        out.put_u32(MOVIE_TIMESCALE);
        out.put_u32(0); // duration
        out.put_u32(0x1_0000); // rate
        out.put_u16(0x100); // volume
        out.put_bytes(0, 10);
        MATRIX.iter().for_each(|value| out.put_u32(*value));
        out.put_bytes(0, 24);
        out.put_u32(next_track);
    });
}

fn put_track(out: &mut BytesMut, track: &Track, entry: &Entry, number: u32) {
    let video = track.codec.media() == Media::Video;
    put_full_box(out, b"tkhd", 0, TRACK_IN_USE, |out| {
        out.put_u64(0);
        out.put_u32(number);
        out.put_bytes(0, 4 + 4 + 8);
        out.put_u32(0); // layer, alternate_group
        out.put_u16(if video { 0 } else { 0x100 });
        out.put_u16(0);
        MATRIX.iter().for_each(|value| out.put_u32(*value));
        out.put_u32(u32::from(entry.size.0) << 16);
        out.put_u32(u32::from(entry.size.1) << 16);
    });
    put_box(out, b"mdia", |out| {
        put_full_box(out, b"mdhd", 0, 0, |out| {
            out.put_u64(0);
            out.put_u32(entry.timescale);
            out.put_u32(0);
            out.put_u16(packed_language(track.language.as_deref()));
            out.put_u16(0);
        });
        put_full_box(out, b"hdlr", 0, 0, |out| {
            out.put_u32(0);
            out.put_slice(if video { b"vide" } else { b"soun" });
            out.put_bytes(0, 12);
            out.put_slice(if video { b"VideoHandler\0" } else { b"SoundHandler\0" });
        });
        if let Some(tag) = &track.language {
            put_full_box(out, b"elng", 0, 0, |out| {
                out.put_slice(tag.as_bytes());
                out.put_u8(0);
            });
        }
        put_box(out, b"minf", |out| {
            if video {
                put_full_box(out, b"vmhd", 0, 1, |out| out.put_bytes(0, 8));
            } else {
                put_full_box(out, b"smhd", 0, 0, |out| out.put_bytes(0, 4));
            }
            put_box(out, b"dinf", |out| {
                put_full_box(out, b"dref", 0, 0, |out| {
                    out.put_u32(1);
                    put_full_box(out, b"url ", 0, SELF_CONTAINED, |_| {});
                });
            });
            put_box(out, b"stbl", |out| {
                put_full_box(out, b"stsd", 0, 0, |out| {
                    out.put_u32(1);
                    out.put_slice(&entry.bytes);
                });
                // Samples are in the fragments.
                for kind in [b"stts", b"stsc", b"stco"] {
                    put_full_box(out, kind, 0, 0, |out| out.put_u32(0));
                }
                put_full_box(out, b"stsz", 0, 0, |out| out.put_u64(0));
            });
        });
    });
}

/// Three letters of five bits each.
fn packed_language(tag: Option<&str>) -> u16 {
    let primary = tag.and_then(|tag| tag.split('-').next()).unwrap_or_default().to_ascii_lowercase();
    let code = match primary.as_bytes() {
        &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_lowercase) => [a, b, c],
        _ => LANGUAGES.iter().find(|(short, _)| *short == primary).map_or(UNDETERMINED, |(_, code)| **code),
    };
    code.iter().fold(0, |packed, letter| packed << 5 | u16::from(letter & 0x1F))
}
