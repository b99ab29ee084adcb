//! What went over the wire, packet by packet: the output of ffmpeg's `-f framecrc`, read and compared.
//!
//! A line is `stream, dts, pts, duration, size, checksum[, F=flags]`, in milliseconds here; the flags stand there
//! unless the packet is a keyframe and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One packet of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) dts: i64,
    pub(crate) pts: i64,
    pub(crate) size: u32,
    pub(crate) sum: u32,
    pub(crate) key: bool,
}

impl Packet {
    /// The same bytes, with the same composition time.
    fn is_copy_of(&self, other: &Self) -> bool {
        (self.size, self.sum, self.pts - self.dts) == (other.size, other.sum, other.pts - other.dts)
    }
}

/// One stream of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    /// `video`, `audio`, or something that nobody published.
    pub(crate) kind: String,
    pub(crate) codec: String,
    /// `320x180`, of video.
    pub(crate) size: Option<String>,
    /// Of audio.
    pub(crate) sample_rate: Option<u32>,
    pub(crate) packets: Vec<Packet>,
}

/// All packets of one player, or of what was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capture {
    tracks: Vec<Track>,
}

/// Where in the published stream a player's packets lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index of the first packet.
    pub(crate) first: usize,
    /// Index after the last packet.
    pub(crate) end: usize,
    /// What the player's timestamps are ahead of the published ones, modulo 2^32 ms, which is all that RTMP carries.
    pub(crate) offset: i64,
}

impl Capture {
    /// Reads the output of `-f framecrc`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut tracks = BTreeMap::<usize, Track>::new();
        for line in text.lines() {
            match line.strip_prefix('#') {
                Some(header) => read_header(header, &mut tracks),
                None => read_packet(line, &mut tracks),
            }
        }
        Self { tracks: tracks.into_values().collect() }
    }

    pub(crate) fn video(&self) -> &Track {
        self.only("video")
    }

    pub(crate) fn audio(&self) -> &Track {
        self.only("audio")
    }

    pub(crate) fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The one track of a kind. There must be no other kinds: a player that is shown a stream which it does not know,
    /// out of a stray data message, may wait for it for ever.
    fn only(&self, kind: &str) -> &Track {
        let known = |track: &Track| track.kind == "video" || track.kind == "audio";
        let mut found = self.tracks.iter().filter(|track| track.kind == kind);
        match (found.next(), found.next()) {
            (Some(track), None) if self.tracks.iter().all(known) => track,
            _ => panic!("one track of {kind}, and only audio and video, should be in {:?}", self.summary()),
        }
    }

    fn summary(&self) -> Vec<(&str, usize)> {
        self.tracks.iter().map(|track| (&*track.codec, track.packets.len())).collect()
    }
}

impl Track {
    /// Checks that this is a contiguous stretch of `published`: the same bytes, none missing, none twice, on a
    /// timeline that is the published one or that one moved.
    ///
    /// # Panics
    /// At the first packet that is not the next one.
    pub(crate) fn assert_contiguous_run_of(&self, published: &Self) -> Run {
        match self.run_of(published) {
            Ok(run) => run,
            Err(text) => panic!("{}: {text}", self.codec),
        }
    }

    fn run_of(&self, published: &Self) -> Result<Run, String> {
        let head = self.packets.first().ok_or("no packet was received")?;
        // Some codecs have packets that are alike.
        let starts = (0..published.packets.len()).filter(|start| head.is_copy_of(&published.packets[*start]));
        let mut runs = starts.map(|first| self.run_from(first, published));
        let likely = runs.next().ok_or("the first packet received was never published")?;
        likely.or_else(|why| runs.find_map(Result::ok).ok_or(why))
    }

    fn run_from(&self, first: usize, published: &Self) -> Result<Run, String> {
        let head = &self.packets[0];
        let offset = wire(head.dts - published.packets[first].dts);
        for (nth, packet) in self.packets.iter().enumerate() {
            let wanted = published.packets.get(first + nth);
            if wanted.is_some_and(|wanted| packet.is_copy_of(wanted) && wire(packet.dts - wanted.dts) == offset) {
                continue;
            }
            let mut text = format!("packet {nth} of the player should be packet {} of the publisher", first + nth);
            match position(&published.packets, packet) {
                Some(other) if other != first + nth => write!(text, ", but it is packet {other}"),
                Some(_) => write!(text, ", and is, but at another time: {packet:?}, published {wanted:?}"),
                None => write!(text, ", but it was never published: {packet:?}, published {wanted:?}"),
            }
            .expect("a string can be written to");
            return Err(text);
        }
        Ok(Run { first, end: first + self.packets.len(), offset })
    }

    /// Checks that the timestamps never fall. (Those of ffmpeg rise; GStreamer repeats some.)
    pub(crate) fn assert_dts_never_falls(&self) {
        for pair in self.packets.windows(2) {
            let step = wire(pair[1].dts - pair[0].dts);
            assert!(step >= 0, "{}: after {:?} comes {:?}", self.codec, pair[0], pair[1]);
        }
    }

    pub(crate) fn assert_starts_with_a_keyframe(&self) {
        assert!(self.packets[0].key, "{} starts with {:?}", self.codec, self.packets[0]);
    }
}

/// A difference of two 32-bit timestamps, the short way round.
fn wire(difference: i64) -> i64 {
    const LAP: i64 = 1 << 32;
    let forward = difference.rem_euclid(LAP);
    if forward >= LAP / 2 { forward - LAP } else { forward }
}

fn position(packets: &[Packet], wanted: &Packet) -> Option<usize> {
    packets.iter().position(|packet| wanted.is_copy_of(packet))
}

fn read_header(header: &str, tracks: &mut BTreeMap<usize, Track>) {
    let Some((name, value)) = header.split_once(": ") else { return };
    let Some((name, stream)) = name.split_once(' ') else { return };
    let Ok(stream) = stream.parse() else { return };
    let track = tracks.entry(stream).or_default();
    match name {
        "media_type" => value.clone_into(&mut track.kind),
        "codec_id" => value.clone_into(&mut track.codec),
        "dimensions" => track.size = Some(value.to_owned()),
        "sample_rate" => track.sample_rate = value.parse().ok(),
        "tb" => assert_eq!(value, "1/1000", "RTMP counts milliseconds"),
        _ => {}
    }
}

/// A line that is not whole was cut off by the end of the player: it is left out.
fn read_packet(line: &str, tracks: &mut BTreeMap<usize, Track>) {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [stream, dts, pts, _duration, size, sum, rest @ ..] = &*fields else { return };
    let Some(sum) = sum.strip_prefix("0x").filter(|digits| digits.len() == 8) else { return };
    let packet = (|| {
        Some(Packet {
            dts: dts.parse().ok()?,
            pts: pts.parse().ok()?,
            size: size.parse().ok()?,
            sum: u32::from_str_radix(sum, 16).ok()?,
            key: !rest.iter().any(|field| field.starts_with("F=")),
        })
    })();
    if let (Ok(stream), Some(packet)) = (stream.parse(), packet) {
        tracks.entry(stream).or_default().packets.push(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#software: Lavf59.27.100\n#tb 0: 1/1000\n#media_type 0: video\n#codec_id 0: h264\n\
        #dimensions 0: 320x180\n#tb 1: 1/1000\n#media_type 1: audio\n#codec_id 1: aac\n#sample_rate 1: 44100\n\
        0,          0,         80,       40,     6626, 0xf8fda42a\n\
        1,         57,         57,       23,      137, 0x9a37438d\n\
        0,         40,        200,       40,     3148, 0x1480fb7e, F=0x0\n\
        0,         80,        120,       40,     2300, 0x1a1267bd, F=0x0\n\
        1,         80,         80,       23,      1";

    #[test]
    fn a_framecrc_listing_is_read_and_a_half_line_left_out() {
        let capture = Capture::parse(TEXT);
        assert_eq!(capture.summary(), [("h264", 3), ("aac", 1)]);
        assert_eq!(capture.video().size.as_deref(), Some("320x180"));
        assert_eq!(capture.audio().sample_rate, Some(44100));
        assert!(capture.video().packets[0].key && !capture.video().packets[1].key);
    }

    #[test]
    fn a_stretch_is_found_with_its_offset_also_across_the_wrap() {
        let published = Capture::parse(TEXT).video().clone();
        let mut received = published.clone();
        received.packets.remove(0);
        for packet in &mut received.packets {
            packet.dts += (1 << 32) - 20;
            packet.pts += (1 << 32) - 20;
        }
        assert_eq!(received.run_of(&published), Ok(Run { first: 1, end: 3, offset: -20 }));
    }

    #[test]
    fn a_missing_a_doubled_and_a_moved_packet_are_found() {
        let published = Capture::parse(TEXT).video().clone();
        let broken = |change: fn(&mut Vec<Packet>)| {
            let mut received = published.clone();
            change(&mut received.packets);
            received.run_of(&published).expect_err("it is broken")
        };
        let missing = broken(|packets| {
            packets.remove(1);
        });
        assert!(missing.contains("packet 1 of the publisher, but it is packet 2"), "{missing}");
        assert!(broken(|packets| packets.insert(1, packets[0])).contains("but it is packet 0"));
        assert!(broken(|packets| packets[2].sum ^= 1).contains("never published"));
        let moved = broken(|packets| {
            packets[2].dts += 1;
            packets[2].pts += 1;
        });
        assert!(moved.contains("at another time"), "{moved}");
    }
}
