//! The past of a GOP on the timeline of one who catches up.
//!
//! A player shows a picture when its timestamp is due. Given a GOP that began two seconds ago as it was published, it
//! shows everything two seconds late, for as long as it plays. So the pictures before the live edge are moved to just
//! before it: in order, a millisecond apart where that fits, on a monotone function of time that changes nothing from
//! the edge on. Decoding and presentation times go through the same function, so pictures that are reordered stay in
//! order. Sound from before the edge is left out: nobody could hear it in that time.

use std::borrow::Cow;
use std::time::Duration;

use super::log::{StreamLog, track_bit};
use crate::limits::TRACKS_MAX;
use crate::media::{Frame, FrameKind, Media, Timestamp, TrackId};

/// Where the past of a GOP lies for one joiner.
#[derive(Clone, Copy, Debug)]
pub struct Squeeze {
    /// Frames from this sequence number on are as they were published.
    until: u64,
    /// The live edge: no squeezed track has a frame from `until` on that is earlier.
    edge: Timestamp,
    /// The squeezed tracks, by bit; the others are far behind the main one, and stay as they are.
    tracks: u16,
    /// The past is shorter by `step / interval`; `0 < step <= interval`.
    step: i64,
    interval: i64,
}

impl Squeeze {
    /// For one who starts at the keyframe `from` while the log ends as it does; none if that is the live edge.
    #[must_use]
    pub fn new(log: &StreamLog, from: u64) -> Option<Self> {
        let until = log.head();
        let main = log.frame(from)?.track;
        let newest = newest_of_each_track(log, from, until);
        let latest = newest[usize::from(main.0)]?;
        let near = |dts: &Timestamp| dts.0 >= latest.0.saturating_sub(nanos(SKEW_MAX));
        let (mut edge, mut tracks) = (latest, 0);
        for (track, dts) in (0..).zip(newest) {
            if let Some(dts) = dts.filter(near) {
                edge = edge.min(dts);
                tracks |= track_bit(TrackId(track));
            }
        }
        let first = log.frame(from)?.dts;
        let past = edge.0 - first.0;
        if past <= 0 {
            return None;
        }
        let (mut step, mut interval) = (nanos(STEP), least_interval(log, from, until, main)?);
        if i128::from(past) * i128::from(step) > i128::from(nanos(SPAN_MAX)) * i128::from(interval) {
            (step, interval) = (nanos(SPAN_MAX), past);
        }
        Some(Self { until, edge, tracks, step: step.min(interval), interval })
    }

    /// Frames from this sequence number on are as they were published.
    #[must_use]
    pub const fn until(&self) -> u64 {
        self.until
    }

    /// A frame of the past as this joiner gets it; `None` if it is left out.
    #[must_use]
    pub fn stamp<'a>(&self, frame: &'a Frame) -> Option<Cow<'a, Frame>> {
        if frame.kind == FrameKind::Data && frame.codec.media() == Media::Data {
            return None;
        }
        if self.tracks & track_bit(frame.track) == 0 || frame.dts >= self.edge {
            return Some(Cow::Borrowed(frame));
        }
        if frame.kind == FrameKind::Audio {
            return None;
        }
        let mut moved = frame.clone();
        (moved.dts, moved.pts) = (self.at(frame.dts), self.at(frame.pts));
        Some(Cow::Owned(moved))
    }

    fn at(&self, time: Timestamp) -> Timestamp {
        let before = self.edge.0.saturating_sub(time.0);
        if before <= 0 {
            return time;
        }
        let shorter = i128::from(before) * i128::from(self.step) / i128::from(self.interval);
        Timestamp(self.edge.0 - i64::try_from(shorter).unwrap_or(before))
    }
}

fn newest_of_each_track(log: &StreamLog, from: u64, until: u64) -> [Option<Timestamp>; TRACKS_MAX] {
    let mut newest = [None; TRACKS_MAX];
    for frame in (from..until).filter_map(|seq| log.frame(seq)) {
        if matches!(frame.kind, FrameKind::Key | FrameKind::Delta | FrameKind::Audio) {
            newest[usize::from(frame.track.0) % TRACKS_MAX] = Some(frame.dts);
        }
    }
    newest
}

/// The shortest time between two frames of a track that have not the same.
fn least_interval(log: &StreamLog, from: u64, until: u64, track: TrackId) -> Option<i64> {
    let frames = (from..until).filter_map(|seq| log.frame(seq));
    let mut times = frames.filter(|frame| frame.track == track && frame.is_video()).map(|frame| frame.dts.0);
    let mut last = times.next()?;
    let mut least = None;
    for time in times {
        let interval = time - std::mem::replace(&mut last, time);
        if interval > 0 && least.is_none_or(|least| interval < least) {
            least = Some(interval);
        }
    }
    least
}

#[expect(clippy::cast_possible_truncation, reason = "each is less than two seconds")]
const fn nanos(duration: Duration) -> i64 {
    duration.as_nanos() as i64
}

/// Between two pictures: a hair more than the millisecond that RTMP tells apart, so that rounding joins no two.
const STEP: Duration = Duration::from_nanos(1_001_000);
/// What the past lasts at most, since a player without sound is so late: 250 pictures, ten seconds of 25 per second,
/// and what rounding makes of them. Of more, some have the same millisecond.
const SPAN_MAX: Duration = Duration::from_millis(260);
/// A track whose newest frame is so much older than the newest picture has no part in the live edge.
const SKEW_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Instant;
    use crate::media::Codec;
    use crate::stream::GopCache;
    use bytes::Bytes;

    const MS: i64 = 1_000_000;

    fn log(frames: impl IntoIterator<Item = (char, i64, i64)>) -> StreamLog {
        let mut log = StreamLog::new(GopCache::default(), Duration::from_secs(3));
        for (kind, dts, pts) in frames {
            let (dts, pts) = (Timestamp(dts * MS), Timestamp(pts * MS));
            let payload = Bytes::from_static(b"x");
            let frame = match kind {
                'a' => Frame::audio(Codec::Aac, dts, payload),
                'c' => Frame::config(Codec::Aac, dts, payload),
                'm' => Frame { kind: FrameKind::Data, ..Frame::config(Codec::Script, dts, payload) },
                's' => Frame::video(Codec::H264, false, pts, dts, payload).on_track(TrackId(3)),
                _ => Frame::video(Codec::H264, kind == 'k', pts, dts, payload),
            };
            log.append(Instant::ZERO, frame);
        }
        log
    }

    /// What is left of a log, in ms: `dts/pts` by kind.
    fn squeezed(log: &StreamLog) -> Vec<String> {
        let squeeze = Squeeze::new(log, log.key().unwrap());
        let frames = (log.tail()..log.head()).filter_map(|seq| log.frame(seq));
        let stamped = frames.filter_map(|frame| match squeeze {
            Some(squeeze) => squeeze.stamp(frame),
            None => Some(Cow::Borrowed(frame)),
        });
        let shown = |frame: Cow<'_, Frame>| {
            format!("{:?} {}/{}", frame.kind, frame.dts.as_millis(), frame.pts.as_millis()).to_lowercase()
        };
        stamped.map(shown).collect()
    }

    #[test]
    fn the_past_ends_just_before_the_live_edge_and_its_sound_is_left_out() {
        let frames = [
            ('k', 1_000, 1_000),
            ('a', 1_010, 1_010),
            ('c', 1_011, 1_011),
            ('d', 1_033, 1_033),
            ('m', 1_034, 1_034),
            ('d', 1_067, 1_067),
            ('a', 1_067, 1_067),
            ('d', 1_100, 1_100),
            ('a', 1_110, 1_110),
        ];
        assert_eq!(
            squeezed(&log(frames)),
            ["key 1097/1097", "config 1097/1097", "delta 1098/1098", "delta 1099/1099", "delta 1100/1100"]
                .into_iter()
                .chain(["audio 1110/1110"])
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn pictures_that_are_reordered_stay_in_order() {
        let pts = [1_080, 1_200, 1_120, 1_160, 1_320, 1_240, 1_280, 1_440, 1_360];
        let frames = pts.into_iter().enumerate().map(|(n, pts)| {
            let dts = 1_000 + 40 * i64::try_from(n).unwrap();
            (if n == 0 { 'k' } else { 'd' }, dts, pts)
        });
        let log = log(frames);
        let squeeze = Squeeze::new(&log, 0).unwrap();
        let stamped: Vec<_> =
            (0..9).map(|seq| squeeze.stamp(log.frame(seq).unwrap()).unwrap().into_owned()).collect();
        let mut shown = stamped.clone();
        shown.sort_by_key(|frame| frame.pts);
        let mut published: Vec<i64> = pts.to_vec();
        published.sort_unstable();
        let order: Vec<i64> =
            shown.iter().map(|frame| pts[stamped.iter().position(|other| other.pts == frame.pts).unwrap()]).collect();
        assert_eq!(order, published);
        assert!(stamped.iter().all(|frame| frame.pts >= frame.dts));
        assert_eq!(stamped[7].pts.as_millis(), 1_440, "the newest picture is shown when it was to be shown");
    }

    #[test]
    fn every_picture_has_a_millisecond_of_its_own_up_to_250_and_more_never_take_longer() {
        for (count, distinct) in [(2, true), (60, true), (250, true), (4_000, false)] {
            // 30 per second, rounded to milliseconds as an encoder does.
            let frames = (0..count).map(|n| (if n == 0 { 'k' } else { 'd' }, n * 1_000 / 30, n * 1_000 / 30));
            let log = log(frames);
            let squeeze = Squeeze::new(&log, 0).unwrap();
            let times: Vec<i64> =
                (0..log.head()).map(|seq| squeeze.stamp(log.frame(seq).unwrap()).unwrap().dts.as_millis()).collect();
            assert!(times.is_sorted_by(|a, b| if distinct { a < b } else { a <= b }), "{times:?}");
            assert!(times[times.len() - 1] - times[0] <= 261, "{} ms", times[times.len() - 1] - times[0]);
        }
    }

    #[test]
    fn no_track_falls_behind_what_was_squeezed() {
        // The sound is late, and a second picture is far too late to count.
        let frames = [
            ('k', 2_000, 2_000),
            ('s', 100, 100),
            ('d', 2_040, 2_040),
            ('a', 1_990, 1_990),
            ('d', 2_080, 2_080),
            ('a', 2_050, 2_050),
        ];
        assert_eq!(
            squeezed(&log(frames)),
            ["key 2049/2049", "delta 100/100", "delta 2050/2050", "delta 2080/2080", "audio 2050/2050"]
        );
    }

    #[test]
    fn there_is_nothing_to_squeeze_at_the_live_edge() {
        assert_eq!(squeezed(&log([('k', 5, 5), ('a', 6, 6)])), ["key 5/5", "audio 6/6"]);
    }
}
