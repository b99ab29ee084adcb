//! A record as one line of JSON.
//!
//! Written by hand and not by a serializer: the exact bytes are the contract (a later trail hashes them), and one
//! record is one line whatever its texts hold. Fields are only ever added; their order is fixed; what a record
//! does not have is left out.

use std::io::Write;

use super::record::{Entry, Loss, Record};
use super::utc::write_rfc3339;
use crate::fact::Fact;
use crate::reason::Reason;

/// Appends the record and a line feed.
pub fn write_line(record: &Record, out: &mut Vec<u8>) {
    write_record(record, record.seq, None, None, out);
    out.extend_from_slice(b"}\n");
}

/// What stands for an address or a principal.
pub(super) type Hide<'a> = Option<&'a dyn Fn(&str) -> String>;

/// Appends the record as number `seq`, told in this boot of its trail, without the brace that closes it.
pub(super) fn write_record(record: &Record, seq: u64, boot: Option<u64>, hide: Hide<'_>, out: &mut Vec<u8>) {
    let mut line = Line::begin(seq, boot, out);
    line.number("producer", record.producer.into());
    line.number("pseq", record.producer_seq);
    match &record.entry {
        Entry::Fact(fact) => write_fact(fact, hide, &mut line),
        Entry::Loss(loss) => write_loss(loss, &mut line),
    }
    if line.truncated {
        line.out.extend_from_slice(b",\"truncated\":true");
    }
}

/// The value of `v`: raised when a field changes its meaning, not when one is added.
pub const LINE_VERSION: u64 = 1;

/// Bytes of one text in a record; what is longer is cut and the record says `"truncated":true`.
pub const TEXT_BYTES_MAX: usize = 1024;

/// `code` of a loss; facts have the number of their kind, from 1.
const LOSS_CODE: u64 = 0;

fn write_fact(fact: &Fact, hide: Hide<'_>, line: &mut Line<'_>) {
    line.time("wall", fact.now.wall);
    line.number("mono_ns", fact.now.mono.0);
    line.text("event", fact.name());
    line.number("code", fact.code().into());
    line.number("shard", fact.shard.0.into());
    if let Some(key) = &fact.stream {
        line.text("app", key.app());
        line.text("stream", key.name());
    }
    if let Some(generation) = fact.generation {
        line.number("generation", generation.0);
    }
    if let Some(who) = &fact.who {
        line.number("connection", who.connection.0);
        if let Some(peer) = who.peer {
            // The port would tell two connections of one address apart, which their numbers do.
            line.text(
                "peer",
                &hide.map_or_else(|| peer.to_string(), |hide| hide(&peer.ip().to_canonical().to_string())),
            );
        }
        line.text("protocol", who.protocol);
        if let Some(principal) = &who.principal {
            match hide {
                Some(hide) => line.text("principal", &hide(principal)),
                None => line.text("principal", principal),
            }
        }
    }
    if let Some(reason) = fact.reason {
        line.text("reason", reason.code());
        if let Some(detail) = reason.detail() {
            line.text("detail", detail);
        }
        if let Reason::Malformed { at, .. } = reason {
            line.number("at", at);
        }
    }
    if let Some(note) = fact.host.as_ref().and_then(|event| event.note.as_deref()) {
        line.text("note", note);
    }
    line.number("bytes", fact.bytes);
    line.number("duration_ms", u64::try_from(fact.duration.as_millis()).unwrap_or(u64::MAX));
    line.number("count", fact.count);
}

fn write_loss(loss: &Loss, line: &mut Line<'_>) {
    line.time("wall", loss.first_seen.wall);
    line.number("mono_ns", loss.first_seen.mono.0);
    line.text("event", "loss");
    line.number("code", LOSS_CODE);
    line.text("reason", loss.cause.name());
    line.number("first", loss.first);
    line.number("last", loss.last);
    line.time("last_seen", loss.last_seen.wall);
    line.number("count", loss.count);
}

pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    truncated: bool,
}

impl<'a> Line<'a> {
    /// What every line begins with.
    pub(super) fn begin(seq: u64, boot: Option<u64>, out: &'a mut Vec<u8>) -> Self {
        let mut line = Self { out, truncated: false };
        line.out.extend_from_slice(b"{\"v\":");
        line.digits(LINE_VERSION);
        line.number("seq", seq);
        if let Some(boot) = boot {
            line.number("boot", boot);
        }
        line
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value);
    }

    pub(super) fn time(&mut self, key: &str, value: crate::clock::Wall) {
        self.key(key);
        self.out.push(b'"');
        write_rfc3339(value, self.out);
        self.out.push(b'"');
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let kept = cut(value);
        self.truncated |= kept.len() < value.len();
        self.out.push(b'"');
        let mut plain = 0;
        for (at, c) in kept.char_indices().filter(|&(_, c)| must_be_escaped(c)) {
            self.out.extend_from_slice(&kept.as_bytes()[plain..at]);
            plain = at + c.len_utf8();
            match c {
                '"' => self.out.extend_from_slice(b"\\\""),
                '\\' => self.out.extend_from_slice(b"\\\\"),
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a vector cannot fail.
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
            }
        }
        self.out.extend_from_slice(&kept.as_bytes()[plain..]);
        self.out.push(b'"');
    }

    /// JSON of our own making.
    #[cfg(feature = "trail")]
    pub(super) fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(json);
    }

    fn digits(&mut self, value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = value;
        loop {
            at -= 1;
            // A remainder of ten.
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    /// Keys are ours: nothing in them needs an escape.
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// Appends two lower-case digits for each byte.
#[cfg(feature = "trail")]
pub(super) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
}

/// The first [`TEXT_BYTES_MAX`] bytes, or up to three less so as not to cut a character.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const fn must_be_escaped(c: char) -> bool {
    matches!(c, '"' | '\\') || is_sly(c)
}

/// What would begin a line, move a cursor, hide itself or turn the direction of writing where somebody looks at a text:
/// C0, C1, DEL, soft hyphen, zero-width and bidirectional controls, the line and paragraph separators, tags.
#[must_use]
pub const fn is_sly(c: char) -> bool {
    matches!(
        c,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::record::LossCause;
    use super::*;
    use crate::clock::{Instant, Now, Wall};
    use crate::fact::{Class, FactKind, HostEvent, HostKind, Who};
    use crate::id::{ConnectionId, Generation, ShardId, StreamKey};
    use crate::limits::Limit;
    use crate::reason::Label;

    const NOW: Now = Now { mono: Instant(12_345), wall: Wall(1_735_689_599_000_000_001) };

    fn line(entry: Entry) -> String {
        let mut out = Vec::new();
        write_line(&Record { seq: 9, producer: 2, producer_seq: 4, entry }, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn with_principal(principal: &str) -> Fact {
        Fact::new(FactKind::PlayStart, NOW, ShardId(2)).who(&Who {
            connection: ConnectionId(77),
            peer: Some("[2001:db8::1]:40000".parse().unwrap()),
            protocol: "rtmp",
            principal: Some(principal.into()),
        })
    }

    #[test]
    fn a_fact_has_all_its_fields_in_their_order() {
        let fact = with_principal("eve")
            .stream(&StreamKey::parse("live/room/42").unwrap())
            .generation(Generation(3))
            .reason(Reason::Malformed { what: Label("rtmp.chunk_size"), at: 8 })
            .totals(1_000, Duration::from_millis(2_500))
            .count(5);
        assert_eq!(
            line(Entry::Fact(fact)),
            concat!(
                r#"{"v":1,"seq":9,"producer":2,"pseq":4,"wall":"2024-12-31T23:59:59.000000001Z","mono_ns":12345,"#,
                r#""event":"play_start","code":30,"shard":2,"app":"live","stream":"room/42","generation":3,"#,
                r#""connection":77,"peer":"[2001:db8::1]:40000","protocol":"rtmp","principal":"eve","#,
                r#""reason":"malformed","detail":"rtmp.chunk_size","at":8,"#,
                r#""bytes":1000,"duration_ms":2500,"count":5}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_a_fact_does_not_have_is_left_out() {
        let fact = Fact::new(FactKind::RouterStart, NOW, ShardId(0));
        assert_eq!(
            line(Entry::Fact(fact)),
            concat!(
                r#"{"v":1,"seq":9,"producer":2,"pseq":4,"wall":"2024-12-31T23:59:59.000000001Z","mono_ns":12345,"#,
                r#""event":"router_start","code":1,"shard":0,"bytes":0,"duration_ms":0,"count":0}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_loss_names_its_range_count_and_cause() {
        let loss = Loss {
            producer: 2,
            first: 4,
            last: 9,
            count: 6,
            cause: LossCause::ChannelFull,
            first_seen: NOW,
            last_seen: Now { wall: Wall(NOW.wall.0 + 1), ..NOW },
        };
        assert_eq!(
            line(Entry::Loss(loss)),
            concat!(
                r#"{"v":1,"seq":9,"producer":2,"pseq":4,"wall":"2024-12-31T23:59:59.000000001Z","mono_ns":12345,"#,
                r#""event":"loss","code":0,"reason":"channel_full","first":4,"last":9,"#,
                r#""last_seen":"2024-12-31T23:59:59.000000002Z","count":6}"#,
                "\n"
            )
        );
    }

    /// Fields and kinds may be added, and get lines of their own here; a line that is there never changes.
    #[test]
    fn every_kind_of_record_is_written_as_version_1_always_was() {
        let with_all = |kind| Fact { kind, ..with_principal("eve").count(3).reason(Reason::Lag) };
        let mut lines: String = FactKind::ALL
            .iter()
            .filter(|kind| **kind != FactKind::Host)
            .map(|kind| line(Entry::Fact(with_all(*kind))))
            .collect();
        const DOOR: HostKind = HostKind::new(10_001, "door_open", Class::Telemetry, "A door was opened.");
        let stream = StreamKey::parse("live/court").ok();
        let event = HostEvent { stream, note: Some("room 7\nleft".into()), ..HostEvent::new(DOOR) };
        lines += &line(Entry::Fact(Fact::of_host(event, NOW, ShardId(0))));
        let golden = include_str!("../../tests/golden/lines-v1.jsonl");
        for (line, golden) in lines.lines().zip(golden.lines()) {
            assert_eq!(line, golden);
        }
        assert_eq!(lines.lines().count(), golden.lines().count(), "lines of new kinds are missing there:\n{lines}");
    }

    #[test]
    fn a_limit_is_named() {
        let fact = Fact::new(FactKind::ConnectionRefuse, NOW, ShardId(0)).reason(Reason::Limit(Limit::Connections));
        let value: Value = serde_json::from_str(&line(Entry::Fact(fact))).unwrap();
        assert_eq!((&value["reason"], &value["detail"]), (&"limit".into(), &"connections".into()));
    }

    #[test]
    fn a_hostile_text_stays_on_its_line_and_shows_no_control_character() {
        for hostile in [
            "a\nb",
            "a\r\n{\"v\":1,\"seq\":10}",
            "\x1b[2J\x1b]0;owned\x07",
            "\u{2028}\u{2029}\u{85}",
            "\u{202e}gnp.exe",
            "\"},{\"",
            "\\",
            "\0",
            "\u{feff}\u{200b}\u{e0041}",
        ] {
            let line = line(Entry::Fact(with_principal(hostile)));
            assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
            assert!(
                !line.trim_end().chars().any(|c| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}')),
                "{line:?}"
            );
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["principal"], hostile);
            assert_eq!(value.get("truncated"), None);
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_the_record_says_so() {
        let long = format!("{}é{}", "x".repeat(TEXT_BYTES_MAX - 1), "y".repeat(1 << 20));
        let line = line(Entry::Fact(with_principal(&long)));
        assert!(line.len() < 2 * TEXT_BYTES_MAX);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["principal"], "x".repeat(TEXT_BYTES_MAX - 1));
        assert_eq!(value["truncated"], true);
    }

    #[test]
    fn a_user_who_has_a_readable_name_keeps_it() {
        assert!(line(Entry::Fact(with_principal("Zoë 山田"))).contains(r#""principal":"Zoë 山田""#));
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in any::<String>(), bytes in any::<u64>(), at in any::<u64>()) {
            let fact = with_principal(&text)
                .totals(bytes, Duration::MAX)
                .reason(Reason::Malformed { what: Label("x"), at });
            let line = line(Entry::Fact(fact));
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let value: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["principal"].as_str(), Some(cut(&text)));
            prop_assert_eq!(value["bytes"].as_u64(), Some(bytes));
            prop_assert_eq!(value["at"].as_u64(), Some(at));
        }
    }
}
