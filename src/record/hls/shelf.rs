//! What has been made of a stream, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::dash::View;
use super::name::{Name, TrackName};
use super::playlist;
use super::rendition::{Content, Info, Piece, Rendition};
use super::{Answer, Request, Resource, SECOND, Settings, multivariant, nanos};
use crate::clock::Wall;

const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
const MANIFEST_TYPE: &str = "application/dash+xml";
/// Target durations for which a playlist that was waited for may be cached (RFC 8216bis, appendix B.1).
const WAITED_FOR_TARGETS: u32 = 6;
/// How far ahead of the last part one may ask, in time (6.2.5.2).
const ADVANCE: i64 = 3 * SECOND;

/// Frames that are in no segment, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// A decoder could not start there: before the first keyframe, or behind a jump.
    pub before_keyframe: u64,
    /// Of a codec that MP4 has no sample entry for, or with a configuration that cannot be read.
    pub unsupported: u64,
    /// Empty, with times that nothing can be played at, or of more tracks than a stream may have.
    pub impossible: u64,
    /// Left out before they came here.
    pub lost: u64,
}

/// Playlists, segments and parts of one stream. Any thread may ask; a lock is held for as long as an answer takes.
#[derive(Debug)]
pub struct Shelf {
    version: AtomicU64,
    epoch: u64,
    settings: Settings,
    /// There is no manifest, which would have to tell keys.
    locked: bool,
    left_out: [AtomicU64; 4],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    renditions: Vec<Rendition>,
    /// Seconds; none before the first segments are complete.
    target: Option<u64>,
    ended: bool,
    /// When the first frame was made.
    begun: Option<Wall>,
    /// Bytes of all segments.
    bytes: u64,
    /// Segments so far.
    born: u64,
    /// Changes so far.
    serial: u64,
}

impl Shelf {
    pub(super) fn new(epoch: u64, settings: Settings, locked: bool) -> Self {
        Self {
            version: AtomicU64::new(0),
            epoch,
            settings,
            locked,
            left_out: Default::default(),
            state: Mutex::new(State::default()),
        }
    }

    /// Answers one request.
    #[must_use]
    pub fn get(&self, request: &Request<'_>) -> Answer {
        let Some(name) = Name::read(request.path) else { return Answer::NotFound };
        let mut state = self.state.lock();
        let resource = match name {
            Name::Multivariant | Name::Manifest | Name::Playlist(_) if state.target.is_none() => {
                return if state.ended { Answer::NotFound } else { Answer::Wait };
            }
            Name::Multivariant => self.multivariant(&state),
            Name::Manifest => self.manifest(&state),
            Name::Playlist(track) => return self.playlist(&mut state, track, request),
            Name::Init(epoch, track, number) => {
                let init = state.rendition(track).and_then(|rendition| rendition.init(number));
                init.filter(|_| epoch == self.epoch)
                    .map(|(init, _)| self.media(track, request.path, vec![init.clone()]))
            }
            Name::Segment(epoch, track, msn) => {
                let segment = state.rendition(track).and_then(|rendition| rendition.segment(msn));
                let segment = segment.filter(|segment| !matches!(segment.content, Content::Gap));
                segment.filter(|_| epoch == self.epoch).map(|segment| {
                    let slices = segment.parts.iter().flat_map(|part| &part.slices).cloned();
                    self.media(track, request.path, slices.collect())
                })
            }
            Name::Part(epoch, track, msn, part) => {
                let rendition = state.rendition(track).filter(|_| epoch == self.epoch);
                let Some(rendition) = rendition else { return Answer::NotFound };
                match rendition.part(msn, part) {
                    None if !state.ended && rendition.hint() == Some((msn, part)) => return Answer::Wait,
                    part => part.map(|part| self.media(track, request.path, part.slices.clone())),
                }
            }
        };
        resource.map_or(Answer::NotFound, Answer::Ready)
    }

    /// Another number whenever something was added: to be read before a question whose answer may be to wait.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether the stream has ended: nothing is waited for any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Bytes of all segments that are kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Frames that are in no segment.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        let [before_keyframe, unsupported, impossible, lost] =
            [0, 1, 2, 3].map(|at| self.left_out.get(at).map_or(0, |count| count.load(Ordering::Relaxed)));
        LeftOut { before_keyframe, unsupported, impossible, lost }
    }

    // ---- for the packager

    pub(super) fn count(&self, left_out: LeftOut) {
        let LeftOut { before_keyframe, unsupported, impossible, lost } = left_out;
        for (count, more) in self.left_out.iter().zip([before_keyframe, unsupported, impossible, lost]) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Another track, behind those that are there.
    pub(super) fn begin_track(&self, video: bool, info: Info, init: Bytes, part_target: Option<i64>) -> usize {
        let mut state = self.state.lock();
        let number = state.renditions.iter().filter(|rendition| rendition.name.video == video).count();
        let name = TrackName { video, number: u8::try_from(number).unwrap_or(u8::MAX) };
        let mut rendition = Rendition::new(name, info.clone(), part_target, self.settings.first_sequence);
        rendition.begin_init(init, info);
        state.renditions.push(rendition);
        state.renditions.len().saturating_sub(1)
    }

    /// What follows in a track is of another configuration.
    pub(super) fn begin_init(&self, track: usize, info: Info, init: Bytes) {
        if let Some(rendition) = self.state.lock().renditions.get_mut(track) {
            rendition.begin_init(init, info);
        }
    }

    pub(super) fn add(&self, track: usize, piece: Piece) {
        let mut state = self.state.lock();
        state.born = state.born.saturating_add(u64::from(piece.begin.is_some()));
        if let Some(begin) = piece.begin {
            state.begun.get_or_insert(begin.era_wall);
        }
        let born = state.born;
        let Some(rendition) = state.renditions.get_mut(track) else { return };
        let before = rendition.next_msn;
        let bytes = rendition.add(piece, born);
        let closed = rendition.next_msn != before;
        state.bytes = state.bytes.saturating_add(bytes);
        self.settle(&mut state, track, closed);
    }

    /// The open segment of a track has no further piece.
    pub(super) fn close(&self, track: usize) {
        let mut state = self.state.lock();
        let Some(rendition) = state.renditions.get_mut(track) else { return };
        rendition.close();
        self.settle(&mut state, track, true);
    }

    /// When the packager began, and the number of the segment that a track begins next.
    pub(super) fn next_segment(&self, track: usize) -> (u64, u64) {
        (self.epoch, self.state.lock().renditions.get(track).map_or(0, |rendition| rendition.next_msn))
    }

    /// From now on there are playlists.
    pub(super) fn set_target(&self, target: u64) {
        let mut state = self.state.lock();
        state.target = Some(target);
        self.tell(&mut state);
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        self.tell(&mut state);
    }

    // ---- within the lock

    fn settle(&self, state: &mut State, track: usize, closed: bool) {
        if closed {
            let least = nanos(self.settings.segment) / 2;
            let target = state.target.and_then(|target| i64::try_from(target).ok()).unwrap_or(0);
            let window = nanos(self.settings.window).max(target.saturating_mul(3).saturating_mul(SECOND));
            if let Some(rendition) = state.renditions.get_mut(track) {
                rendition.count_peak(least);
                let gone = rendition.trim(window);
                state.bytes = state.bytes.saturating_sub(gone);
            }
        }
        while state.bytes > self.settings.bytes {
            let oldest = state.renditions.iter_mut().filter(|rendition| rendition.oldest().is_some());
            let Some(oldest) = oldest.min_by_key(|rendition| rendition.oldest()) else { break };
            let gone = oldest.forget_first();
            state.bytes = state.bytes.saturating_sub(gone);
        }
        self.tell(state);
    }

    fn tell(&self, state: &mut State) {
        state.serial = state.serial.wrapping_add(1);
        self.version.store(state.serial, Ordering::Release);
    }

    fn multivariant(&self, state: &State) -> Option<Resource> {
        let text = multivariant::write(&state.renditions).ok()?;
        let max_age = Duration::from_secs(state.target.unwrap_or(1));
        Some(self.text(text.into(), max_age, state.serial))
    }

    fn manifest(&self, state: &State) -> Option<Resource> {
        let (target, begun) = (state.target?, state.begun.filter(|_| !self.locked)?);
        let window = self.settings.window.max(Duration::from_secs(target.saturating_mul(3)));
        let (epoch, renditions, ended) = (self.epoch, &*state.renditions, state.ended && self.settings.end_list);
        let text = View { epoch, renditions, target, window, begun, ended }.write().ok()?;
        let half = Duration::from_millis(target.saturating_mul(500));
        let content_type = MANIFEST_TYPE;
        Some(Resource { content_type, ..self.text(text.into(), half, state.serial) })
    }

    fn playlist(&self, state: &mut State, track: TrackName, request: &Request<'_>) -> Answer {
        let (Some(target), Some(at)) = (state.target, state.place(track)) else { return Answer::NotFound };
        let Some(rendition) = state.renditions.get(at) else { return Answer::NotFound };
        if request.part.is_some() && request.msn.is_none() {
            return Answer::Bad("_HLS_part without _HLS_msn");
        }
        if let Some(msn) = request.msn.filter(|_| !state.ended) {
            let (open, parts) = (rendition.next_msn, rendition.open_parts());
            if msn > open.saturating_add(1) {
                return Answer::Bad("_HLS_msn is too far ahead");
            }
            if let Some(part) = request.part {
                let there = if msn == open { parts } else { 0 };
                if msn >= open && u64::from(part) >= there.saturating_add(advance(rendition.part_target)) {
                    return Answer::Bad("_HLS_part is too far ahead");
                }
            }
            let complete = msn < open;
            let reached = request.part.is_some_and(|part| msn == open && u64::from(part) < parts);
            if !complete && !reached {
                return Answer::Wait;
            }
        }
        let seconds = Duration::from_secs(target);
        let half = Duration::from_millis(target.saturating_mul(500));
        let max_age = if request.msn.is_some() { seconds.saturating_mul(WAITED_FOR_TARGETS) } else { half };
        let serial = state.serial;
        let kind = usize::from(request.skip);
        if let Some((_, text)) = rendition.written.get(kind).and_then(Option::as_ref).filter(|(of, _)| *of == serial)
        {
            return Answer::Ready(self.text(text.clone(), max_age, serial));
        }
        let all = &state.renditions;
        let (epoch, ended, end_list) = (self.epoch, state.ended, self.settings.end_list);
        let locked = self.locked;
        let view = playlist::View { epoch, target, rendition, all, ended, end_list, locked };
        let skipped = if request.skip { view.skippable() } else { 0 };
        let Ok(text) = view.write(skipped) else { return Answer::NotFound };
        let text = Bytes::from(text);
        if let Some(written) = state.renditions.get_mut(at).and_then(|rendition| rendition.written.get_mut(kind)) {
            *written = Some((serial, text.clone()));
        }
        Answer::Ready(self.text(text, max_age, serial))
    }

    fn text(&self, text: Bytes, max_age: Duration, serial: u64) -> Resource {
        let etag = fingerprint(&[&self.epoch.to_be_bytes(), &serial.to_be_bytes()]);
        Resource { body: vec![text], content_type: PLAYLIST_TYPE, immutable: false, max_age, etag }
    }

    fn media(&self, track: TrackName, path: &str, body: Vec<Bytes>) -> Resource {
        let content_type = if track.video { "video/mp4" } else { "audio/mp4" };
        let max_age = Duration::from_secs(0);
        Resource { body, content_type, immutable: true, max_age, etag: fingerprint(&[path.as_bytes()]) }
    }
}

impl State {
    fn place(&self, track: TrackName) -> Option<usize> {
        self.renditions.iter().position(|rendition| rendition.name == track)
    }

    fn rendition(&self, track: TrackName) -> Option<&Rendition> {
        self.place(track).and_then(|at| self.renditions.get(at))
    }
}

/// How many parts ahead of the last one may ask.
fn advance(part_target: Option<i64>) -> u64 {
    let target = part_target.filter(|target| (1..SECOND).contains(target)).unwrap_or(SECOND);
    let parts = ADVANCE.saturating_add(target).saturating_sub(1).checked_div(target);
    parts.map_or(0, i64::unsigned_abs)
}

/// FNV-1a.
fn fingerprint(fields: &[&[u8]]) -> u64 {
    let bytes = fields.iter().copied().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
