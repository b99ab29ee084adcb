//! The multivariant playlist (RFC 8216bis, 4.4.6): every video track with every kind of sound, or sound alone.

use std::fmt::{self, Write};

use super::SECOND;
use super::name::Name;
use super::rendition::Rendition;

/// Audio renditions of one codec.
struct Group<'a> {
    codec: &'a str,
    members: Vec<&'a Rendition>,
}

impl Group<'_> {
    /// Bits per second of the greatest.
    fn bandwidth(&self) -> (u64, u64) {
        let rates = self.members.iter().map(|member| member.bandwidth());
        rates.fold((0, 0), |(peak, average), rate| (peak.max(rate.0), average.max(rate.1)))
    }
}

/// Writes it.
pub(super) fn write(renditions: &[Rendition]) -> Result<String, fmt::Error> {
    let (video, audio): (Vec<_>, Vec<_>) = renditions.iter().partition(|rendition| rendition.name.video);
    let mut out = String::from("#EXTM3U\n#EXT-X-VERSION:6\n");
    if video.is_empty() {
        for rendition in audio {
            let (peak, average) = rendition.bandwidth();
            let codec = &rendition.info.description.codec_string;
            write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{codec}\"")?;
            writeln!(out, "\n{}", Name::Playlist(rendition.name))?;
        }
        return Ok(out);
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for rendition in audio {
        let codec = &*rendition.info.description.codec_string;
        match groups.iter_mut().find(|group| group.codec == codec) {
            Some(group) => group.members.push(rendition),
            None => groups.push(Group { codec, members: vec![rendition] }),
        }
    }
    for (number, group) in groups.iter().enumerate() {
        for (nth, member) in group.members.iter().enumerate() {
            // Only one may be chosen without a language to choose by.
            let chosen = if nth == 0 { "YES" } else { "NO" };
            let uri = Name::Playlist(member.name);
            write!(out, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound{number}\",NAME=\"{}\",", member.name)?;
            write!(out, "DEFAULT={chosen},AUTOSELECT={chosen}")?;
            if let Some(channels) = member.info.description.channels {
                write!(out, ",CHANNELS=\"{channels}\"")?;
            }
            writeln!(out, ",URI=\"{uri}\"")?;
        }
    }
    for rendition in video {
        if groups.is_empty() {
            write_variant(&mut out, rendition, None)?;
        }
        for group in groups.iter().enumerate() {
            write_variant(&mut out, rendition, Some(group))?;
        }
    }
    Ok(out)
}

fn write_variant(out: &mut String, video: &Rendition, sound: Option<(usize, &Group<'_>)>) -> fmt::Result {
    let (mut peak, mut average) = video.bandwidth();
    if let Some((_, group)) = sound {
        let (more_peak, more_average) = group.bandwidth();
        (peak, average) = (peak.saturating_add(more_peak), average.saturating_add(more_average));
    }
    let description = &video.info.description;
    write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}")?;
    write!(out, ",CODECS=\"{}", description.codec_string)?;
    if let Some((_, group)) = sound {
        write!(out, ",{}", group.codec)?;
    }
    out.push('"');
    if let Some((width, height)) = description.size {
        write!(out, ",RESOLUTION={width}x{height}")?;
    }
    // What the encoder says counts for the stream, what was measured for a second of it.
    let measured = if video.info.step > 0 { thousandths(SECOND, video.info.step) } else { 0 };
    let rate = description.frame_rate.map_or(measured, |rate| thousandths(rate.frames.into(), rate.seconds.into()));
    if rate > 0 {
        write!(out, ",FRAME-RATE={}.{:03}", rate / 1000, rate % 1000)?;
    }
    if let Some((number, _)) = sound {
        write!(out, ",AUDIO=\"sound{number}\"")?;
    }
    writeln!(out, "\n{}", Name::Playlist(video.name))
}

/// A fraction in thousandths, rounded.
fn thousandths(numerator: i64, denominator: i64) -> i64 {
    let doubled = numerator.saturating_mul(2000).checked_div(denominator).unwrap_or(0);
    doubled.saturating_add(1) / 2
}
