//! What RTMP peers send, made beforehand.

use bytes::Bytes;
use shardcast::protocol::rtmp::amf::Value;
use shardcast::protocol::rtmp::handshake::{Client, PACKET_BYTES};
use shardcast::protocol::rtmp::message::{AUDIO, CSID_AUDIO, CSID_VIDEO, MessageWriter, VIDEO};

/// Chunks as OBS cuts them.
const CHUNK_BYTES: u32 = 4096;

/// A peer up to its request to publish or play `live/NAME`, all at once.
pub(crate) fn request(verb: &str, name: &str) -> (MessageWriter, Bytes) {
    let mut out = Vec::new();
    let _client = Client::new([7; 4], false, &mut out);
    out.extend_from_slice(&[0; PACKET_BYTES]);
    let mut writer = MessageWriter::default();
    writer.set_chunk_size(&mut out, CHUNK_BYTES);
    let app = vec![("app".into(), Value::string("live")), ("tcUrl".into(), Value::string("rtmp://host/live"))];
    writer.command(&mut out, 0, "connect", 1.0, &[Value::Object(app)]);
    writer.command(&mut out, 0, "createStream", 2.0, &[Value::Null]);
    writer.command(&mut out, 1, verb, 3.0, &[Value::Null, Value::string(name)]);
    (writer, out.into())
}

/// Configuration of H.264 and AAC.
pub(crate) fn headers(writer: &mut MessageWriter) -> Bytes {
    let mut out = Vec::new();
    writer.message(&mut out, CSID_VIDEO, VIDEO, 1, 0, b"\x17\0\0\0\0avcC-record");
    writer.message(&mut out, CSID_AUDIO, AUDIO, 1, 0, &[0xAF, 0, 0x12, 0x10]);
    out.into()
}

pub(crate) fn video(writer: &mut MessageWriter, key: bool, ms: u32, bytes: usize) -> Bytes {
    let mut tag = vec![0; bytes];
    tag[..2].copy_from_slice(&[if key { 0x17 } else { 0x27 }, 1]);
    let mut out = Vec::new();
    writer.message(&mut out, CSID_VIDEO, VIDEO, 1, ms, &tag);
    out.into()
}

pub(crate) fn audio(writer: &mut MessageWriter, ms: u32, bytes: usize) -> Bytes {
    let mut tag = vec![0; bytes];
    tag[..2].copy_from_slice(&[0xAF, 1]);
    let mut out = Vec::new();
    writer.message(&mut out, CSID_AUDIO, AUDIO, 1, ms, &tag);
    out.into()
}
