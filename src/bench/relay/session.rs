//! An RTMP client, without its socket: handshake, then what [`Conversation`] says.
//!
//! Media goes past the conversation to whoever measures, by the harness' own reader of chunks.

use std::rc::Rc;

use super::chunk::{self, ChunkReader, Message};
use crate::protocol::rtmp::client::{self, Conversation, Refused};

pub(crate) use crate::protocol::rtmp::client::Progress;

/// C1, S1, C2 and S2 (RTMP 1.0, section 5.2).
const HANDSHAKE_LEN: usize = 1536;
/// The chunk size that a publisher announces: a frame is one chunk.
pub(crate) const CHUNK_SIZE: usize = 65_536;

const _: () = assert!(CHUNK_SIZE == client::CHUNK_SIZE as usize);

/// What a client wants, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub(crate) role: Role,
    pub(crate) app: Rc<str>,
    /// Of the server, as `host:port`, as the user wrote it: virtual hosts are told apart by it.
    pub(crate) host: Rc<str>,
    /// The name of the stream, with its query.
    pub(crate) stream: Rc<str>,
    /// Which of the run's streams that is.
    pub(crate) number: u32,
}

/// What a client is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publish,
    Play,
    /// Says which stream it wants and reads chunks at once: the far end is the floor's bare sender.
    Sink,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the server sent what is no RTMP: {0}")]
    Malformed(#[from] chunk::Malformed),
    /// The server answered with `_error` or a failure code.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// One client's side of a session.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    reader: ChunkReader,
}

#[derive(Debug)]
enum State {
    /// Waits for the rest of S0, S1 and S2.
    Handshake(client::Purpose, Vec<u8>),
    Talking(Box<Conversation>),
    /// It was said what there is to say.
    Sink,
}

impl Session {
    /// A session, and the bytes that open it.
    pub(crate) fn new(purpose: Purpose, out: &mut Vec<u8>) -> Self {
        let role = match purpose.role {
            Role::Publish => Some(client::Role::Publish),
            Role::Play => Some(client::Role::Play),
            Role::Sink => None,
        };
        let state = match role {
            None => {
                out.extend(purpose.number.to_be_bytes());
                State::Sink
            }
            Some(role) => {
                out.push(3);
                out.extend([0; 8]);
                out.extend((0..HANDSHAKE_LEN - 8).map(|i| i.to_le_bytes()[0]));
                let text = |text: &Rc<str>| Box::from(&**text);
                let (app, host, stream) = (text(&purpose.app), text(&purpose.host), text(&purpose.stream));
                State::Handshake(client::Purpose { role, app, host, stream }, Vec::new())
            }
        };
        Self { state, reader: ChunkReader::new() }
    }

    /// Takes in what the server sent; `media` gets audio and video, `out` the answers.
    pub(crate) fn input(
        &mut self,
        bytes: &[u8],
        checking: bool,
        out: &mut Vec<u8>,
        mut media: impl FnMut(&Message<'_>),
    ) -> Result<(), Fault> {
        let bytes = self.shake(bytes, out);
        let Self { state, reader } = self;
        let mut refused = Ok(());
        reader.push(bytes, checking, |message| match (message.kind, &mut *state) {
            (chunk::AUDIO | chunk::VIDEO, _) => media(message),
            (kind, State::Talking(conversation)) => {
                if let Err(why) = conversation.handle(kind, message.start, out) {
                    refused = Err(why);
                }
            }
            _ => {}
        })?;
        if let State::Talking(conversation) = state {
            conversation.received(bytes.len(), out);
        }
        Ok(refused?)
    }

    /// Whether the handshake is over.
    pub(crate) fn has_shaken(&self) -> bool {
        !matches!(self.state, State::Handshake(..))
    }

    /// How far it is behind the handshake.
    pub(crate) fn progress(&self) -> Progress {
        match &self.state {
            State::Handshake(..) => Progress::Connect,
            State::Talking(conversation) => conversation.progress(),
            State::Sink => Progress::Started,
        }
    }

    /// The message stream that `createStream` gave.
    pub(crate) fn stream_id(&self) -> u32 {
        if let State::Talking(conversation) = &self.state { conversation.stream() } else { 0 }
    }

    /// Reads S0, S1, S2; answers S1 with C2 and S2 with `connect`. Returns what lies behind S2.
    fn shake<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        const S1_END: usize = 1 + HANDSHAKE_LEN;
        const S2_END: usize = S1_END + HANDSHAKE_LEN;
        let State::Handshake(purpose, gathered) = &mut self.state else { return bytes };
        let before = gathered.len();
        let (mine, rest) = bytes.split_at(bytes.len().min(S2_END - before));
        gathered.extend(mine);
        if before < S1_END && gathered.len() >= S1_END {
            out.extend(&gathered[1..S1_END]);
        }
        if gathered.len() == S2_END {
            let mut conversation = Conversation::new(purpose.clone(), out);
            conversation.received(S2_END, out);
            self.state = State::Talking(Box::new(conversation));
        }
        rest
    }
}
