//! A client in a test's hand, and what it sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::formats::{self, Format};
use super::*;
use crate::clock::{Instant, Now, Wall};
use crate::container::{flv, mpegts};
use crate::extension::{Resource, ResourceAnswer, ResourceRequest};
use crate::id::StreamKey;
use crate::limits::Limits;
use crate::media::{Codec, Frame, Timestamp};
use crate::protocol::{Body, Input, Output, PlayRequest};
use crate::reason::Reason;

/// Files in memory: `wait` comes with the third look.
#[derive(Default)]
struct Files {
    looks: Mutex<u32>,
}

fn file(body: &[&'static str]) -> Resource {
    Resource {
        body: body.iter().map(|part| Bytes::from_static(part.as_bytes())).collect(),
        content_type: "text/x",
        max_age: None,
        etag: Some("v1".into()),
        policy: None,
    }
}

impl Resources for Files {
    fn file(&self, key: &StreamKey, request: &ResourceRequest<'_>) -> ResourceAnswer {
        assert_eq!(key.as_str(), "live/a");
        match request.file {
            "index.m3u8" => ResourceAnswer::Ready(file(&["abc", "defg", "hij"])),
            "wait" => {
                *self.looks.lock() += 1;
                if *self.looks.lock() < 3 { ResourceAnswer::Wait } else { ResourceAnswer::Ready(file(&["late"])) }
            }
            "never" => ResourceAnswer::Wait,
            "bad" => ResourceAnswer::Bad("too far ahead"),
            _ => ResourceAnswer::NotFound,
        }
    }

    fn page(&self, path: &str) -> Option<Resource> {
        let policy = Some("default-src 'self'");
        (path == "/").then(|| Resource { policy, max_age: Some(Duration::from_secs(9)), ..file(&["page"]) })
    }
}

struct Client {
    session: Box<dyn Session>,
    now: Now,
    /// What the client was sent and has not looked at.
    sent: Vec<u8>,
    plays: Vec<PlayRequest>,
    stopped: Vec<u32>,
    closed: Option<Reason>,
    /// Something shared is under way.
    sharing: bool,
}

impl Client {
    fn new() -> Self {
        Self::of(&Http::with(Arc::new(Files::default())))
    }

    fn of(http: &Http) -> Self {
        let limits = Limits::default();
        let now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
        let peer = "127.0.0.1:1".parse().unwrap();
        let context = SessionContext { peer, limits: &limits, now, random: [1; 4] };
        let session = http.session(context);
        Self { session, now, sent: vec![], plays: vec![], stopped: vec![], closed: None, sharing: false }
    }

    fn give(&mut self, input: Input) -> Result<(), Reason> {
        let result = self.session.handle(self.now, input);
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Output::Share(bytes) => {
                    self.sharing = true;
                    self.sent.extend_from_slice(&bytes);
                }
                Output::Play(play) => self.plays.push(*play),
                Output::Stop(handle) => self.stopped.push(handle),
                Output::Close(reason) => self.closed = Some(reason),
                Output::Established => {}
                other => panic!("{other:?}"),
            }
        }
        result
    }

    /// What the router does with what is shared.
    fn settle(&mut self) {
        while std::mem::take(&mut self.sharing) {
            self.give(Input::Sent).unwrap();
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Reason> {
        self.give(Input::Bytes(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn get(&mut self, path: &str, headers: &str) {
        self.say(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).unwrap();
    }

    /// Says yes to the last play.
    fn allow(&mut self) {
        let handle = self.plays.last().unwrap().handle;
        self.give(Input::Playing(handle, Ok(()))).unwrap();
    }

    /// All that came since the last look.
    fn seen(&mut self) -> String {
        self.settle();
        String::from_utf8(std::mem::take(&mut self.sent)).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while let Some((at, _)) = self.session.deadline().filter(|(at, _)| *at <= end) {
            self.now.mono = at;
            self.give(Input::Deadline).unwrap();
            self.settle();
        }
        self.now.mono = end;
    }
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("")
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn live_media_begins_with_the_head_of_its_format() {
    for (path, format, content, begins) in [
        ("/live/a.flv?start=live", Format::Flv, "video/x-flv", "d\r\nFLV\u{1}\u{5}"),
        ("/live/a.ts", Format::Ts, "video/mp2t", "bc\r\nG\u{1f}"),
    ] {
        let mut client = Client::new();
        client.get(path, "");
        assert!(client.sent.is_empty(), "nothing is said before it is known");
        let play = &client.plays[0];
        assert_eq!((play.key.as_str(), play.format), ("live/a", format.to_number()));
        client.allow();
        let seen = String::from_utf8_lossy(&std::mem::take(&mut client.sent)).into_owned();
        assert_eq!(status(&seen), "200");
        assert!(seen.contains(content) && seen.contains("Transfer-Encoding: chunked\r\n"), "{seen}");
        assert!(body(&seen).starts_with(begins) && !seen.contains("Content-Length"), "{seen}");
        // A request that was sent ahead is answered behind the end.
        client.get("/", "");
        assert!(client.sent.is_empty());
        client.give(Input::Ended(1, Reason::Ended)).unwrap();
        let seen = client.seen();
        assert!(seen.starts_with("\r\n0\r\n\r\nHTTP/1.1 200 OK") && seen.ends_with("page"), "{seen}");
        assert_eq!(client.closed, None);
    }
}

#[test]
fn a_websocket_gets_the_same_in_messages_and_is_answered() {
    let mut client = Client::new();
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.get("/live/a.flv", headers);
    assert_eq!(client.plays[0].format, Format::WebSocketFlv.to_number());
    client.allow();
    let sent = std::mem::take(&mut client.sent);
    let end = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = std::str::from_utf8(&sent[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(&sent[end..end + 5], &[0x82, 13, b'F', b'L', b'V']);

    client.give(Input::Bytes(Bytes::from_static(&[0x89, 0x81, 0, 0, 0, 0, b'x']))).unwrap();
    assert_eq!(std::mem::take(&mut client.sent), [0x8A, 1, b'x']);
    client.give(Input::Bytes(Bytes::from_static(&[0x88, 0x80, 0, 0, 0, 0]))).unwrap();
    assert_eq!((client.sent[0], client.closed), (0x88, Some(Reason::PeerClosed)));
}

#[test]
fn whoever_may_not_play_is_told_and_may_ask_for_something_else() {
    for (reason, code) in [
        (Reason::NotFound, "404"),
        (Reason::Denied, "403"),
        (Reason::TokenExpired, "403"),
        (Reason::Limit(crate::limits::Limit::Connections), "503"),
        (Reason::AuditUnavailable, "503"),
    ] {
        let mut client = Client::new();
        client.get("/live/a.flv", "");
        client.give(Input::Playing(1, Err(reason))).unwrap();
        let seen = client.seen();
        assert_eq!((status(&seen), body(&seen).trim_end()), (code, &*reason.to_string()));
        assert_eq!(client.closed, None);
        client.get("/live/b.flv", "");
        assert_eq!(client.plays[1].key.as_str(), "live/b");
    }
}

#[test]
fn a_connection_asks_once_for_a_stream_and_counts_as_its_viewer_from_then_on() {
    let mut client = Client::new();
    client.get("/hls/live/a/index.m3u8", "");
    client.allow();
    assert_eq!(body(&client.seen()), "abcdefghij");
    client.get("/hls/live/a/index.m3u8", "");
    assert_eq!(body(&client.seen()), "abcdefghij");
    assert_eq!(client.plays.len(), 1);
    assert_eq!(client.plays[0].format, Format::Files.to_number());

    client.get("/hls/live/other/index.m3u8", "");
    assert_eq!((client.stopped.clone(), client.plays.len()), (vec![1], 2));
    client.give(Input::Playing(2, Err(Reason::Denied))).unwrap();
    assert_eq!(status(&client.seen()), "403");
    // And the first is asked for again.
    client.get("/hls/live/a/index.m3u8", "");
    assert_eq!(client.plays.len(), 3);
}

#[test]
fn who_was_sent_away_gets_no_more_files_and_who_saw_the_end_does() {
    for (reason, asks_again) in [(Reason::Ended, false), (Reason::Kicked, true)] {
        let mut client = Client::new();
        client.get("/hls/live/a/index.m3u8", "");
        client.allow();
        let _ = client.seen();
        client.give(Input::Ended(1, reason)).unwrap();
        client.get("/hls/live/a/index.m3u8", "");
        assert_eq!(client.plays.len() == 2, asks_again, "{reason:?}");
    }
}

#[test]
fn what_was_shown_comes_back_as_a_cookie_and_counts_without_a_query() {
    let mut client = Client::new();
    client.get("/hls/live/a/index.m3u8?token=a%2Fb;&x=1", "");
    assert_eq!(client.plays[0].credentials.token.as_ref().unwrap().expose(), "a/b;");
    client.allow();
    let seen = client.seen();
    let cookie = seen.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
    assert!(cookie.contains("; Path=/hls/live/a/; HttpOnly; SameSite=Lax"), "{cookie}");
    let mut other = Client::new();
    other.get("/hls/live/a/part.m4s", &format!("Cookie: {}\r\n", cookie.split(';').next().unwrap()));
    assert_eq!(other.plays[0].credentials.token.as_ref().unwrap().expose(), "a/b;");
    // Nothing shown, no cookie.
    let mut third = Client::new();
    third.get("/hls/live/a/index.m3u8", "");
    third.allow();
    assert!(!third.seen().contains("Set-Cookie"));
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for_but_not_for_ever() {
    let mut client = Client::new();
    client.get("/hls/live/a/wait", "");
    client.allow();
    assert!(client.seen().is_empty());
    client.pass(Duration::from_millis(30));
    assert!(client.seen().is_empty());
    // A request that was sent ahead waits behind it.
    client.get("/", "");
    client.pass(Duration::from_millis(30));
    let seen = client.seen();
    assert!(seen.contains("late") && seen.find("late") < seen.find("page"), "{seen}");

    client.get("/hls/live/a/never", "");
    client.pass(Duration::from_secs(60));
    assert_eq!(status(&client.seen()), "503");
    client.get("/hls/live/a/bad", "");
    let seen = client.seen();
    assert_eq!((status(&seen), body(&seen)), ("400", "too far ahead\n"));
}

#[test]
fn no_more_wait_at_once_than_there_are_places_for_and_who_is_gone_gives_its_place_back() {
    let http = Http::with(Arc::new(Files::default()));
    let mut waiting: Vec<Client> = (0..crate::limits::HTTP_PARKED_MAX).map(|_| Client::of(&http)).collect();
    let ask = |client: &mut Client| {
        client.get("/hls/live/a/never", "");
        client.allow();
        client.seen()
    };
    assert!(waiting.iter_mut().all(|client| ask(client).is_empty()));
    let mut more = Client::of(&http);
    let refused = ask(&mut more);
    assert!(status(&refused) == "503" && refused.contains("Retry-After"), "{refused}");
    waiting.pop();
    more.get("/hls/live/a/never", "");
    assert!(more.seen().is_empty(), "there is room again");
    // One whose time is over is no more in the way of others.
    waiting[0].pass(Duration::from_secs(60));
    assert_eq!(status(&waiting[0].seen()), "503");
    assert!(ask(&mut Client::of(&http)).is_empty());
}

#[test]
fn parts_tags_and_heads_of_a_file() {
    for (headers, code, text) in [
        ("Range: bytes=2-7\r\n", "206", "cdefgh"),
        ("Range: bytes=-1\r\n", "206", "j"),
        ("Range: bytes=10-\r\n", "416", ""),
        ("If-None-Match: \"v0\", \"v1\"\r\n", "304", ""),
        ("If-None-Match: \"v2\"\r\n", "200", "abcdefghij"),
    ] {
        let mut client = Client::new();
        client.get("/hls/live/a/index.m3u8", headers);
        client.allow();
        let seen = client.seen();
        assert_eq!((status(&seen), body(&seen)), (code, text), "{headers}");
        assert!(!seen.contains("Content-Range") || seen.contains("/10\r\n"), "{seen}");
    }
    let mut client = Client::new();
    client.say("HEAD / HTTP/1.1\r\n\r\n").unwrap();
    let seen = client.seen();
    assert!(seen.contains("Content-Length: 4\r\n") && body(&seen).is_empty(), "{seen}");
    assert!(seen.contains("Content-Security-Policy: default-src 'self'") && seen.contains("max-age=9"), "{seen}");
    client.say("OPTIONS /x HTTP/1.1\r\n\r\n").unwrap();
    assert!(client.seen().contains("Access-Control-Allow-Methods: GET, HEAD, OPTIONS"));
}

#[test]
fn requests_that_come_together_are_answered_one_after_the_other() {
    let mut client = Client::new();
    client.say(&"GET / HTTP/1.1\r\n\r\n".repeat(3)).unwrap();
    assert_eq!(client.seen().matches("page").count(), 3);
    client.say("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(client.seen().matches("page").count(), 1);
    assert_eq!(client.closed, Some(Reason::Ended));
}

#[test]
fn what_is_wrong_is_answered_and_ends_the_connection() {
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    for (text, code, why) in [
        ("\x16\x03\x01\x02", "400", "malformed"),
        ("GET / HTTP/2.0\r\n\r\n", "400", "malformed"),
        (&long, "431", "limit"),
        (&many, "431", "malformed"),
    ] {
        let mut client = Client::new();
        assert_eq!(client.say(text).unwrap_err().code(), why, "{text:.20}");
        assert_eq!(status(&client.seen()), code, "{text:.20}");
    }
    for (text, code, ends) in [
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", "413", true),
        ("DELETE / HTTP/1.1\r\n\r\n", "405", false),
        ("GET /nothing HTTP/1.1\r\n\r\n", "404", false),
        ("GET /hls/../x HTTP/1.1\r\n\r\n", "404", false),
        ("GET /live/..%2f.flv HTTP/1.1\r\n\r\n", "404", false),
    ] {
        let mut client = Client::new();
        client.say(text).unwrap();
        assert_eq!((status(&client.seen()), client.closed.is_some()), (code, ends), "{text}");
    }
}

#[test]
fn who_takes_no_answer_is_let_go() {
    let mut client = Client::new();
    client.get("/", "");
    let (at, _) = client.session.deadline().unwrap();
    assert!(at.since(client.now.mono) >= Duration::from_secs(30));
    client.now.mono = at;
    assert_eq!(client.give(Input::Deadline), Err(Reason::CloseTimeout));
}

fn frames() -> Vec<Frame> {
    let avcc = Bytes::from_static(&[
        1, 66, 0, 30, 0xFF, 0xE1, 0, 8, 0x67, 66, 0, 30, 0xAB, 0x40, 0x50, 0x1E, 1, 0, 2, 0x68, 0xCE,
    ]);
    let at = Timestamp::from_millis;
    let mut long = vec![0x41; 70_004];
    long[..4].copy_from_slice(&70_000_u32.to_be_bytes());
    vec![
        Frame::config(Codec::H264, at(0), avcc),
        Frame::config(Codec::Aac, at(0), Bytes::from_static(&[0x12, 0x10])),
        Frame::video(Codec::H264, true, at(40), at(40), Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88])),
        Frame::audio(Codec::Aac, at(41), Bytes::from_static(&[0x21; 60])),
        Frame::video(Codec::H264, false, at(80), at(80), Bytes::from(long)),
    ]
}

/// What a viewer of a format gets.
fn streamed(format: Format) -> Vec<u8> {
    let mut packetizer = formats::packetizer(format.to_number());
    let mut out = Vec::new();
    for frame in frames() {
        let Some(packet) = packetizer.packetize(&frame) else { continue };
        out.extend_from_slice(packet.head.as_slice());
        match &packet.body {
            Body::Closed { tail } => {
                out.extend_from_slice(&frame.payload);
                out.extend_from_slice(tail);
            }
            Body::Own(bytes) => out.extend_from_slice(bytes),
            other => panic!("{other:?}"),
        }
    }
    out
}

/// What a client makes of what stands behind the first chunk.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(b"\r\n").expect("the chunk before ends");
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        out.extend_from_slice(&rest[line + 2..][..length]);
        rest = &rest[line + 2 + length..];
    }
    out
}

#[test]
fn who_was_sent_away_from_live_media_sees_no_end_of_it() {
    let mut client = Client::new();
    client.get("/live/a.flv", "");
    client.allow();
    client.sent.clear();
    client.give(Input::Ended(1, Reason::Kicked)).unwrap();
    assert_eq!((client.sent.len(), client.closed), (0, Some(Reason::Kicked)));
    let mut old = Client::new();
    old.say("GET /live/a.flv HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((status(&old.seen()), old.plays.len()), ("400", 0));
}

#[test]
fn what_flows_is_what_the_container_says() {
    let tags: Vec<u8> =
        frames().iter().filter_map(|frame| flv::Writer::new(false).write(frame)).fold(vec![], |mut all, tag| {
            all.extend_from_slice(&tag.to_bytes());
            all
        });
    assert_eq!(unchunked(&streamed(Format::Flv)), tags);
    // Each tag is a message.
    let messages = streamed(Format::WebSocketFlv);
    let (mut rest, mut unwrapped) = (&messages[..], Vec::new());
    while let [0x82, length, behind @ ..] = rest {
        let (length, behind) = match length {
            126 => (usize::from(u16::from_be_bytes([behind[0], behind[1]])), &behind[2..]),
            127 => (usize::try_from(u64::from_be_bytes(behind[..8].try_into().unwrap())).unwrap(), &behind[8..]),
            length => (usize::from(*length), behind),
        };
        unwrapped.extend_from_slice(&behind[..length]);
        rest = &behind[length..];
    }
    assert_eq!((unwrapped == tags, rest.len()), (true, 0));

    let packets = unchunked(&streamed(Format::Ts));
    assert!(packets.chunks(mpegts::PACKET_BYTES).all(|packet| packet.len() == 188 && packet[0] == 0x47));
    let mut demuxer = mpegts::Demuxer::new(mpegts::DemuxLimits::from(&Limits::default()));
    demuxer.push(Instant::ZERO, &packets).unwrap();
    demuxer.finish(Instant::ZERO).unwrap();
    let media: Vec<_> = std::iter::from_fn(|| demuxer.poll())
        .filter_map(|event| match event {
            mpegts::Event::Frame(frame) if frame.kind != crate::media::FrameKind::Config => Some(frame.kind),
            _ => None,
        })
        .collect();
    assert_eq!(media.len(), 3, "{media:?}");
    assert!(streamed(Format::Files).is_empty());
}

proptest! {
    #[test]
    fn no_bytes_in_any_pieces_do_harm(
        pieces in proptest::collection::vec(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "(GET|HEAD|PUT) /(live|hls)/[a-z./%]{0,12} HTTP/1.[01]\r\n(Range: bytes=[0-9-]{0,5}\r\n)?\r\n".prop_map(String::into_bytes),
        ], 0..12),
    ) {
        let mut client = Client::new();
        for piece in pieces {
            let asked = client.plays.len();
            if client.give(Input::Bytes(piece.into())).is_err() {
                return Ok(());
            }
            if client.plays.len() > asked && client.plays.last().unwrap().key.as_str() == "live/a" {
                client.allow();
            }
            client.settle();
        }
        prop_assert!(client.session.held_bytes() < 256 * 1024);
    }
}
