//! Commands (Adobe RTMP 1.0, section 7.2) and what they are answered.
//!
//! A refusal always says, in its description, what the person at the other end can do about it; then the
//! connection ends, in order.

use std::time::Duration;

use super::address::Address;
use super::amf::Value;
use super::message::{Command, STREAM_BEGIN, STREAM_EOF};
use super::packetizer::{CHUNK_SIZE, Format};
use super::publish::Publishing;
use super::session::{Connection, Stream, StreamState, Turn, WINDOW_BYTES};
use crate::clock::Instant;
use crate::id::NameError;
use crate::limits::Limit;
use crate::protocol::wishes::play_options;
use crate::protocol::{Output, PlayRequest, PublishRequest, StreamHandle};
use crate::reason::{Label, Reason};

/// Flags of `capsEx` (Enhanced RTMP v2, "Enhancing NetConnection connect Command").
const CAPS_RECONNECT: u32 = 1;
const CAPS_MULTITRACK: u32 = 2;
const CAPS_MOD_EX: u32 = 4;
const CAPS_TIMESTAMP_NANO_OFFSET: u32 = 8;
/// What we say of every codec: we pass it on.
const CAN_FORWARD: f64 = 4.0;

/// Stream ids end here, so that a [`Format`] has room for its flag.
const STREAM_ID_MAX: u32 = 0x7FFF_FFFF;

/// `level` of a status.
const STATUS: &str = "status";
const ERROR: &str = "error";

impl Connection {
    pub(super) fn command(&mut self, turn: &mut Turn<'_>, stream: u32, command: Command) -> Result<(), Reason> {
        if &*command.name == "connect" {
            return self.connect(turn, &command);
        }
        if self.address.is_none() {
            let reason = Reason::Misbehaved(Label("rtmp.not_connected"));
            self.call_failed(turn, &command, "Send 'connect' before anything else.");
            return Err(reason);
        }
        match &*command.name {
            "createStream" => return self.create_stream(turn, &command),
            "publish" => return self.publish(turn, stream, &command),
            "play" => return self.play(turn, stream, &command),
            "deleteStream" => {
                // An id that is not one of this connection's own has no stream here.
                if let Some(id) = command.arguments.first().and_then(Value::as_number).and_then(whole) {
                    self.end_stream(turn, id);
                    self.streams.retain(|stream| stream.id != id);
                }
            }
            "closeStream" => {
                if self.end_stream(turn, stream) {
                    self.status(turn, stream, STATUS, "NetStream.Unpublish.Success", "The publish has ended.");
                }
            }
            "releaseStream" | "_checkbw" => self.result(turn, &command, Value::Undefined),
            "getStreamLength" => self.result(turn, &command, Value::Number(0.0)),
            "FCPublish" => self.notify(turn, "onFCPublish", "NetStream.Publish.Start", &command),
            "FCUnpublish" => self.notify(turn, "onFCUnpublish", "NetStream.Unpublish.Success", &command),
            "FCSubscribe" => self.notify(turn, "onFCSubscribe", "NetStream.Play.Start", &command),
            "FCUnsubscribe" => self.notify(turn, "onFCUnsubscribe", "NetStream.Play.Stop", &command),
            "pause" | "pauseRaw" => self.pause(turn, stream, &command),
            "seek" => {
                self.status(turn, stream, ERROR, "NetStream.Seek.Failed", "This is a live stream: it can't seek.");
            }
            "play2" => {
                let text = "Switching by play2 is not supported: use play with the other stream's name.";
                self.status(turn, stream, ERROR, "NetStream.Play.Failed", text);
            }
            // All media is sent; and replies to what we never called.
            "receiveAudio" | "receiveVideo" | "_result" | "_error" | "onStatus" | "onBWDone" => {}
            _ => self.call_failed(turn, &command, "There is no such command."),
        }
        Ok(())
    }

    fn connect(&mut self, turn: &mut Turn<'_>, command: &Command) -> Result<(), Reason> {
        if self.address.is_some() {
            self.call_failed(turn, command, "This connection is connected already.");
            return Err(Reason::Misbehaved(Label("rtmp.connect_twice")));
        }
        let object = &command.object;
        let address = match Address::from_connect(object) {
            Ok(address) => address,
            Err(error) => {
                let text = format!("{}. Correct the application in the URL.", capital(&error.to_string()));
                let info = info(ERROR, "NetConnection.Connect.Rejected", &text);
                self.reply(turn, 0, "_error", command.transaction, &[Value::Null, info]);
                return Err(Reason::BadName);
            }
        };
        let caps = object.get("capsEx").and_then(Value::as_number).and_then(whole);
        self.multitrack = caps.unwrap_or(0) & CAPS_MULTITRACK != 0;
        self.reconnect = caps.unwrap_or(0) & CAPS_RECONNECT != 0;
        self.address = Some(address);

        let mut out = Vec::with_capacity(512);
        self.writer.window_acknowledgement_size(&mut out, WINDOW_BYTES);
        self.writer.set_peer_bandwidth(&mut out, WINDOW_BYTES);
        self.writer.set_chunk_size(&mut out, CHUNK_SIZE);
        // Flash clients read the version; what nginx-rtmp says has offended none in ten years.
        let properties =
            Value::object([("fmsVer", Value::string("FMS/3,0,1,123")), ("capabilities", Value::Number(31.0))]);
        let mut info = info(STATUS, "NetConnection.Connect.Success", "Connection succeeded.");
        if let Value::Object(members) = &mut info {
            members.push(("objectEncoding".into(), Value::Number(0.0)));
            if object.get("fourCcList").is_some() {
                members.push(("fourCcList".into(), Value::StrictArray(vec![Value::string("*")])));
            }
            for map in ["videoFourCcInfoMap", "audioFourCcInfoMap"] {
                if object.get(map).is_some() {
                    members.push((map.into(), Value::object([("*", Value::Number(CAN_FORWARD))])));
                }
            }
            if caps.is_some() {
                let ours = CAPS_RECONNECT | CAPS_MULTITRACK | CAPS_MOD_EX | CAPS_TIMESTAMP_NANO_OFFSET;
                members.push(("capsEx".into(), Value::Number(ours.into())));
            }
        }
        self.writer.command(&mut out, 0, "_result", command.transaction, &[properties, info]);
        turn.send(out);
        Ok(())
    }

    fn create_stream(&mut self, turn: &mut Turn<'_>, command: &Command) -> Result<(), Reason> {
        if self.streams.len() >= turn.bounds.streams_per_connection || self.next_stream > STREAM_ID_MAX {
            self.call_failed(turn, command, "This connection has too many streams: open another connection.");
            return Err(Reason::Limit(Limit::StreamsPerConnection));
        }
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.push(Stream { id, state: StreamState::Created });
        self.result(turn, command, Value::Number(id.into()));
        Ok(())
    }

    fn publish(&mut self, turn: &mut Turn<'_>, id: u32, command: &Command) -> Result<(), Reason> {
        let misuse = match self.stream(id).map(|s| &s.state) {
            Some(StreamState::Created | StreamState::Ending { .. } | StreamState::Over) => None,
            Some(StreamState::Publishing(_) | StreamState::AskedToPublish) => Some("rtmp.publish_twice"),
            Some(StreamState::Playing | StreamState::AskedToPlay { .. }) => Some("rtmp.publish_while_playing"),
            None => Some("rtmp.no_such_stream"),
        };
        if let Some(label) = misuse {
            let text = "Publish once, on a stream from createStream that plays nothing.";
            self.status(turn, id, ERROR, "NetStream.Publish.BadName", text);
            return Err(Reason::Misbehaved(Label(label)));
        }
        match self.named(command) {
            Ok((key, credentials)) => {
                self.set_state(id, StreamState::AskedToPublish);
                self.waiting = Some(id);
                turn.output(Output::Publish(Box::new(PublishRequest { handle: id, key, credentials })));
                Ok(())
            }
            Err(error) => {
                let text = format!("{}. Correct the stream name or key.", capital(&error.to_string()));
                self.status(turn, id, ERROR, "NetStream.Publish.BadName", &text);
                Err(Reason::BadName)
            }
        }
    }

    fn play(&mut self, turn: &mut Turn<'_>, id: u32, command: &Command) -> Result<(), Reason> {
        let misuse = match self.stream(id).map(|s| &s.state) {
            Some(StreamState::Created | StreamState::Ending { .. } | StreamState::Over | StreamState::Playing) => {
                None
            }
            Some(StreamState::Publishing(_) | StreamState::AskedToPublish) => Some("rtmp.play_while_publishing"),
            Some(StreamState::AskedToPlay { .. }) => Some("rtmp.play_twice"),
            None => Some("rtmp.no_such_stream"),
        };
        if let Some(label) = misuse {
            let text = "Play on a stream from createStream that publishes nothing.";
            self.status(turn, id, ERROR, "NetStream.Play.Failed", text);
            return Err(Reason::Misbehaved(Label(label)));
        }
        match self.named(command) {
            Ok((key, credentials)) => {
                // Another stream in the place of the one that plays.
                self.end_stream(turn, id);
                let reset = command.arguments.get(3).and_then(Value::as_bool).unwrap_or(true);
                self.set_state(id, StreamState::AskedToPlay { reset });
                self.waiting = Some(id);
                // FFmpeg knows multitrack and does not say so: its user can.
                let multitrack = self.multitrack || credentials.param("multitrack") == Some("1");
                let format = Format { stream: id, multitrack }.to_number();
                let options = play_options(&credentials);
                let request = PlayRequest { handle: id, key, credentials, format, options };
                turn.output(Output::Play(Box::new(request)));
                Ok(())
            }
            Err(error) => {
                let text = format!("{}. Correct the stream name.", capital(&error.to_string()));
                self.status(turn, id, ERROR, "NetStream.Play.StreamNotFound", &text);
                Err(Reason::BadName)
            }
        }
    }

    fn named(&self, command: &Command) -> Result<(crate::id::StreamKey, crate::extension::Credentials), NameError> {
        let name = command.arguments.first().and_then(Value::as_str).ok_or(NameError::Empty)?;
        self.address.as_ref().ok_or(NameError::Empty)?.stream(name)
    }

    fn pause(&mut self, turn: &mut Turn<'_>, id: u32, command: &Command) {
        if !matches!(self.stream(id).map(|s| &s.state), Some(StreamState::Playing)) {
            return;
        }
        let pause = command.arguments.first().and_then(Value::as_bool).unwrap_or(true);
        turn.output(Output::Pause(id, pause));
        if pause {
            self.status(turn, id, STATUS, "NetStream.Pause.Notify", "Paused.");
        } else {
            self.status(turn, id, STATUS, "NetStream.Unpause.Notify", "Goes on from the next keyframe.");
        }
    }

    /// The answer to a publish.
    pub(super) fn published(
        &mut self,
        turn: &mut Turn<'_>,
        id: StreamHandle,
        result: Result<(), Reason>,
    ) -> Result<(), Reason> {
        if !matches!(self.stream(id).map(|s| &s.state), Some(StreamState::AskedToPublish)) {
            return Ok(());
        }
        self.waiting = None;
        if let Err(reason) = result {
            self.set_state(id, StreamState::Over);
            self.status(turn, id, ERROR, publish_code(reason), &sentence(reason));
            return Err(reason);
        }
        self.let_in = true;
        self.reader.set_limits(turn.bounds.chunks);
        self.set_state(id, StreamState::Publishing(Box::new(Publishing::new(id))));
        self.status(turn, id, STATUS, "NetStream.Publish.Start", "The stream is live.");
        Ok(())
    }

    /// The answer to a play.
    pub(super) fn playing(
        &mut self,
        turn: &mut Turn<'_>,
        id: StreamHandle,
        result: Result<(), Reason>,
    ) -> Result<(), Reason> {
        let Some(StreamState::AskedToPlay { reset }) = self.stream(id).map(|s| &s.state) else { return Ok(()) };
        let reset = *reset;
        self.waiting = None;
        if let Err(reason) = result {
            self.set_state(id, StreamState::Over);
            self.status(turn, id, ERROR, play_code(reason), &sentence(reason));
            return Err(reason);
        }
        self.set_state(id, StreamState::Playing);
        let mut out = Vec::with_capacity(512);
        self.writer.user_control(&mut out, STREAM_BEGIN, id);
        if reset {
            let info = info(STATUS, "NetStream.Play.Reset", "Playing and resetting.");
            self.writer.command(&mut out, id, "onStatus", 0.0, &[Value::Null, info]);
        }
        let start = info(STATUS, "NetStream.Play.Start", "Started playing.");
        self.writer.command(&mut out, id, "onStatus", 0.0, &[Value::Null, start]);
        let access = [Value::string("|RtmpSampleAccess"), Value::Boolean(true), Value::Boolean(true)];
        self.writer.data(&mut out, id, 0, &access);
        turn.send(out);
        Ok(())
    }

    /// The stream that is played has ended. FFmpeg and librtmp end at the status, GStreamer at the event.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>, id: StreamHandle, reason: Reason) {
        let Some(StreamState::Playing) = self.stream(id).map(|s| &s.state) else { return };
        self.set_state(id, StreamState::Ending { at: turn.now.mono + FAREWELL, reason });
    }

    /// When the next player is to be told the end.
    pub(super) fn next_farewell(&self) -> Option<(Instant, Reason)> {
        let ending = self.streams.iter().filter_map(|stream| match stream.state {
            StreamState::Ending { at, reason } => Some((at, reason)),
            _ => None,
        });
        ending.min_by_key(|(at, _)| *at)
    }

    /// The time to take in the last frames is over: the players are told the end.
    pub(super) fn deadline(&mut self, turn: &mut Turn<'_>) {
        for index in 0..self.streams.len() {
            let Some(Stream { id, state: StreamState::Ending { at, reason } }) = self.streams.get(index) else {
                continue;
            };
            let (id, at, reason) = (*id, *at, *reason);
            if at <= turn.now.mono {
                self.end_of_play(turn, id, reason);
                self.set_state(id, StreamState::Over);
                self.close_if_unused(turn, reason);
            }
        }
    }

    /// The router has ended a publish.
    pub(super) fn unpublished(&mut self, turn: &mut Turn<'_>, id: StreamHandle, reason: Reason) {
        let Some(StreamState::Publishing(_)) = self.stream(id).map(|s| &s.state) else { return };
        self.status(turn, id, ERROR, publish_code(reason), &sentence(reason));
        self.set_state(id, StreamState::Over);
        self.close_if_unused(turn, reason);
    }

    /// Last words.
    pub(super) fn closing(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        if self.address.is_none() {
            return;
        }
        if self.reconnect && reason == Reason::Shutdown {
            let code = "NetConnection.Connect.ReconnectRequest";
            self.status(turn, 0, STATUS, code, "The server is stopping: connect again.");
        }
        let mut used = false;
        for index in 0..self.streams.len() {
            let Some(Stream { id, state }) = self.streams.get(index) else { break };
            let id = *id;
            match state {
                StreamState::Playing | StreamState::Ending { .. } => self.end_of_play(turn, id, reason),
                StreamState::Publishing(_) | StreamState::AskedToPublish => {
                    self.status(turn, id, ERROR, publish_code(reason), &sentence(reason));
                }
                StreamState::AskedToPlay { .. } => {
                    self.status(turn, id, ERROR, play_code(reason), &sentence(reason));
                }
                StreamState::Created | StreamState::Over => continue,
            }
            used = true;
        }
        if !used {
            self.status(turn, 0, STATUS, "NetConnection.Connect.Closed", &sentence(reason));
        }
    }

    fn end_of_play(&mut self, turn: &mut Turn<'_>, id: u32, reason: Reason) {
        let mut out = Vec::with_capacity(256);
        self.writer.user_control(&mut out, STREAM_EOF, id);
        let info = info(STATUS, "NetStream.Play.UnpublishNotify", &sentence(reason));
        self.writer.command(&mut out, id, "onStatus", 0.0, &[Value::Null, info]);
        turn.send(out);
    }

    fn close_if_unused(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        if self.streams.iter().all(|s| matches!(s.state, StreamState::Created | StreamState::Over)) {
            turn.output(Output::Close(reason));
        }
    }

    /// Ends what the stream is used for, and says whether that was a publish.
    fn end_stream(&mut self, turn: &mut Turn<'_>, id: u32) -> bool {
        let Some(stream) = self.stream(id) else { return false };
        match std::mem::replace(&mut stream.state, StreamState::Over) {
            StreamState::Publishing(_) => {
                turn.output(Output::Unpublish(id));
                true
            }
            StreamState::Playing => {
                turn.output(Output::Stop(id));
                false
            }
            // Commands are read only while no answer is awaited: these do not come here.
            state @ (StreamState::AskedToPublish | StreamState::AskedToPlay { .. } | StreamState::Created) => {
                stream.state = state;
                false
            }
            StreamState::Ending { .. } | StreamState::Over => false,
        }
    }

    fn set_state(&mut self, id: u32, state: StreamState) {
        if let Some(stream) = self.stream(id) {
            stream.state = state;
        }
    }

    fn result(&mut self, turn: &mut Turn<'_>, command: &Command, value: Value) {
        if command.transaction != 0.0 {
            self.reply(turn, 0, "_result", command.transaction, &[Value::Null, value]);
        }
    }

    fn call_failed(&mut self, turn: &mut Turn<'_>, command: &Command, text: &str) {
        if command.transaction != 0.0 {
            let info = info(ERROR, "NetConnection.Call.Failed", text);
            self.reply(turn, 0, "_error", command.transaction, &[Value::Null, info]);
        }
    }

    /// The answer that Flash Media Server gives to FCPublish and the like.
    fn notify(&mut self, turn: &mut Turn<'_>, name: &str, code: &str, command: &Command) {
        self.result(turn, command, Value::Undefined);
        self.reply(turn, 0, name, 0.0, &[Value::Null, info(STATUS, code, "")]);
    }

    fn status(&mut self, turn: &mut Turn<'_>, stream: u32, level: &str, code: &str, text: &str) {
        self.reply(turn, stream, "onStatus", 0.0, &[Value::Null, info(level, code, text)]);
    }

    fn reply(&mut self, turn: &mut Turn<'_>, stream: u32, name: &str, transaction: f64, values: &[Value]) {
        let mut out = Vec::with_capacity(256);
        self.writer.command(&mut out, stream, name, transaction, values);
        turn.send(out);
    }
}

fn info(level: &str, code: &str, text: &str) -> Value {
    Value::object([
        ("level", Value::string(level)),
        ("code", Value::string(code)),
        ("description", Value::string(text)),
    ])
}

const fn publish_code(reason: Reason) -> &'static str {
    match reason {
        Reason::NameTaken | Reason::TakenOver | Reason::BadName => "NetStream.Publish.BadName",
        _ => "NetStream.Publish.Denied",
    }
}

const fn play_code(reason: Reason) -> &'static str {
    match reason {
        Reason::NotFound | Reason::UnknownApp | Reason::BadName => "NetStream.Play.StreamNotFound",
        _ => "NetStream.Play.Failed",
    }
}

/// Why, and what to do about it.
fn sentence(reason: Reason) -> String {
    let advice = match reason {
        Reason::NameTaken => " Stop it, or publish under another name.",
        Reason::UnknownApp => " Check the application in the URL.",
        Reason::NotFound => " Check the name, or wait for its publisher.",
        Reason::TokenExpired => " Ask for a new one.",
        Reason::Limit(Limit::Delay) => " Ask to be less far behind.",
        Reason::AuthTimeout | Reason::Limit(_) | Reason::AuditUnavailable | Reason::ShardLost => " Try again later.",
        Reason::Shutdown => " Connect again.",
        _ => "",
    };
    format!("{}.{advice}", capital(&reason.to_string()))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A number that is an id or a set of flags.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the range of u32")]
fn whole(number: f64) -> Option<u32> {
    (0.0..=4_294_967_295.0).contains(&number).then_some(number as u32)
}

/// From the last frame to the word that it was the last. GStreamer's rtmp2src forgets the frame that it has and has not
/// handed on yet when it hears of the end.
const FAREWELL: Duration = Duration::from_millis(200);
