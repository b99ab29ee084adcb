//! A peer that speaks RTMP, as little of it as publishing and playing take, on the public parts of the protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shardcast::clock::Instant;
use shardcast::id::StreamKey;
use shardcast::limits::Limits;
use shardcast::media::{Codec, Frame, FrameFlags, FrameKind, Media, Timestamp, TrackId};
use shardcast::protocol::rtmp::amf::Value;
use shardcast::protocol::rtmp::chunk::{ChunkLimits, ChunkReader};
use shardcast::protocol::rtmp::handshake;
use shardcast::protocol::rtmp::message::{
    AUDIO, CSID_AUDIO, CSID_VIDEO, Command, MessageWriter, Typed, VIDEO, understand,
};

use super::proto::{Heard, Note, Say, Tongue};

pub struct RtmpTongue {
    handshake: Option<handshake::Client>,
    random: [u64; 4],
    /// What is said behind the handshake.
    queued: Vec<u8>,
    writer: MessageWriter,
    reader: ChunkReader,
    chunk_size: u32,
}

impl RtmpTongue {
    pub fn new(random: [u64; 4], chunk_size: u32) -> Self {
        let reader = ChunkReader::new(ChunkLimits::from(&Limits::default()), 0);
        let writer = MessageWriter::default();
        Self { handshake: None, random, queued: Vec::new(), writer, reader, chunk_size }
    }

    fn hello(&mut self, out: &mut BytesMut) {
        let mut bytes = Vec::new();
        let digest = self.random[0].is_multiple_of(2);
        self.handshake = Some(handshake::Client::new(self.random, digest, &mut bytes));
        out.put_slice(&bytes);
        self.writer.set_chunk_size(&mut self.queued, self.chunk_size);
    }

    fn connect(&mut self, key: &StreamKey) {
        let object = Value::object([("app", Value::string(key.app())), ("tcUrl", Value::string("rtmp://sim/live"))]);
        self.writer.command(&mut self.queued, 0, "connect", 1.0, &[object]);
        self.writer.command(&mut self.queued, 0, "createStream", 2.0, &[Value::Null]);
    }

    fn flush(&mut self, out: &mut BytesMut) {
        if self.handshake.is_none() {
            out.put_slice(&self.queued);
            self.queued.clear();
        }
    }
}

impl Tongue for RtmpTongue {
    fn say(&mut self, out: &mut BytesMut, what: Say, _handle: u32, rest: &[u8]) {
        let queued = &mut self.queued;
        match what {
            Say::Hello => return self.hello(out),
            Say::Publish | Say::Play => {
                // Before the key stand a plain player's wishes.
                let text = std::str::from_utf8(if what == Say::Play { &rest[10..] } else { rest });
                let key = StreamKey::parse(text.expect("a key is text")).expect("a key");
                self.connect(&key);
                let wish = match (what, rest) {
                    (Say::Play, [_, 1, ..]) => "?start=live".into(),
                    (Say::Play, [_, 2, ..]) => "?start=catch-up".into(),
                    (Say::Play, [_, 3, high, low, ..]) => {
                        format!("?behind_ms={}", u16::from_be_bytes([*high, *low]))
                    }
                    _ => String::new(),
                };
                let name = Value::string(&format!("{}{wish}", key.name()));
                let command = if what == Say::Play { "play" } else { "publish" };
                self.writer.command(&mut self.queued, STREAM, command, 3.0, &[Value::Null, name]);
            }
            Say::Unpublish | Say::Stop => {
                let stream = Value::Number(f64::from(STREAM));
                self.writer.command(queued, 0, "deleteStream", 4.0, &[Value::Null, stream]);
            }
            Say::Pause | Say::Resume => {
                let values = [Value::Null, Value::Boolean(what == Say::Pause), Value::Number(0.0)];
                self.writer.command(queued, STREAM, "pause", 5.0, &values);
            }
            Say::Frame | Say::NeedKey | Say::Bye | Say::Explode => {}
        }
        self.flush(out);
    }

    fn frame(&mut self, out: &mut BytesMut, frame: &Frame) {
        let time = u32::try_from(frame.dts.as_millis() & 0xFFFF_FFFF).expect("32 bits");
        let mut tag = Vec::with_capacity(5 + frame.payload.len());
        let config = frame.kind == FrameKind::Config;
        let (csid, kind) = if frame.codec.media() == Media::Video {
            tag.push(match frame.kind {
                FrameKind::Delta if frame.flags.contains(FrameFlags::DISPOSABLE) => 0x37,
                FrameKind::Delta => 0x27,
                _ => 0x17,
            });
            tag.push(u8::from(!config));
            let composition = i32::try_from(frame.pts.as_millis() - frame.dts.as_millis()).expect("small");
            tag.put_slice(&composition.to_be_bytes()[1..]);
            (CSID_VIDEO, VIDEO)
        } else {
            tag.put_slice(&[0xaf, u8::from(!config)]);
            (CSID_AUDIO, AUDIO)
        };
        tag.put_slice(&frame.payload);
        self.writer.message(&mut self.queued, csid, kind, STREAM, time, &tag);
        self.flush(out);
    }

    fn hear(&mut self, inbox: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Heard>, String> {
        let mut input = inbox.split().freeze();
        if let Some(client) = &mut self.handshake {
            let mut reply = Vec::new();
            let done = client.handle(&mut input, &mut reply).map_err(|error| error.to_string())?;
            out.put_slice(&reply);
            if done {
                self.handshake = None;
                self.flush(out);
            }
        }
        let mut heard = None;
        while self.handshake.is_none()
            && heard.is_none()
            && let Some(message) = self.reader.read(&mut input).map_err(|error| error.to_string())?
        {
            let timestamp = message.timestamp;
            heard = match understand(message).map_err(|error| error.to_string())? {
                Typed::Command(command) => note(&command),
                Typed::Video(tag) => Some(media(Media::Video, timestamp, tag)?),
                Typed::Audio(tag) => Some(media(Media::Audio, timestamp, tag)?),
                _ => None,
            };
        }
        // The rest is for the next time.
        inbox.unsplit(BytesMut::from(&input[..]));
        Ok(heard)
    }

    fn is_rtmp(&self) -> bool {
        true
    }
}

fn note(command: &Command) -> Option<Heard> {
    if &*command.name != "onStatus" {
        return None;
    }
    let code = command.arguments.first().and_then(|info| info.get("code")).and_then(Value::as_str)?;
    let (note, handle) = match code {
        "NetStream.Publish.Start" => (Note::Published, 0),
        "NetStream.Publish.BadName" | "NetStream.Publish.Denied" => (Note::PublishRefused, 0),
        "NetStream.Unpublish.Success" => (Note::Unpublished, 0),
        "NetStream.Play.Start" => (Note::Playing, STREAM),
        "NetStream.Play.StreamNotFound" | "NetStream.Play.Failed" => (Note::PlayRefused, STREAM),
        "NetStream.Play.UnpublishNotify" => (Note::Ended, STREAM),
        _ => return None,
    };
    Some(Heard::Note(note as u8, handle))
}

fn media(media: Media, timestamp: u32, mut tag: Bytes) -> Result<Heard, String> {
    if tag.len() < 5 {
        return Err(format!("a tag of {} bytes", tag.len()));
    }
    let head = tag.get_u8();
    let config = tag.get_u8() == 0;
    // 32 bits wrap: the watcher knows where.
    let dts = Timestamp::from_millis(timestamp.cast_signed().into());
    let (codec, track, kind) = match (media, head) {
        (Media::Video, 0x17) if config => (Codec::H264, TrackId::VIDEO, FrameKind::Config),
        (Media::Video, 0x17) => (Codec::H264, TrackId::VIDEO, FrameKind::Key),
        (Media::Video, 0x27) => (Codec::H264, TrackId::VIDEO, FrameKind::Delta),
        (Media::Audio, 0xaf) if config => (Codec::Aac, TrackId::AUDIO, FrameKind::Config),
        (Media::Audio, 0xaf) => (Codec::Aac, TrackId::AUDIO, FrameKind::Audio),
        _ => return Err(format!("a tag that begins with {head:#x}")),
    };
    let mut pts = dts;
    if media == Media::Video {
        let composition = tag.split_to(3);
        let bytes = [composition[0], composition[1], composition[2], 0];
        pts = pts + Timestamp::from_millis((i32::from_be_bytes(bytes) >> 8).into());
    }
    let (origin, flags) = (Instant::ZERO, FrameFlags::default());
    Ok(Heard::Frame(STREAM, Box::new(Frame { payload: tag, pts, dts, origin, track, kind, codec, flags })))
}

/// The first stream that `createStream` makes.
const STREAM: u32 = 1;
