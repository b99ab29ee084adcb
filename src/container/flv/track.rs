//! Track numbers: Enhanced RTMP counts audio and video apart, a stream of ours counts all tracks together.
//!
//! The default tracks have their places by convention. Further ones go to places from which both directions can
//! be computed: video n ↔ 2n + 1, audio n ↔ 2n + 2, so that what a publisher's metadata says of its track ids
//! holds for players too.

use crate::limits::TRACKS_MAX;
use crate::media::{Media, TrackId};

/// The place that suits this track id of a publisher, if it exists.
pub(crate) fn from_wire(media: Media, wire: u8) -> Option<TrackId> {
    let id = match (media, wire) {
        (Media::Video, 0) => return Some(TrackId::VIDEO),
        (Media::Audio, 0) => return Some(TrackId::AUDIO),
        (Media::Data, _) => return Some(TrackId::METADATA),
        (Media::Video, n) => n.checked_mul(2)?.checked_add(1)?,
        (Media::Audio, n) => n.checked_mul(2)?.checked_add(2)?,
    };
    (usize::from(id) < TRACKS_MAX).then_some(TrackId(id))
}

/// The id that a player is told: for every track of one medium another.
pub(crate) const fn to_wire(media: Media, track: TrackId) -> u8 {
    let TrackId(id) = track;
    match (media, id) {
        (_, 0..=2) => 0,
        (Media::Video, id) if id % 2 == 1 => id / 2,
        (Media::Audio, id) if id % 2 == 0 => id / 2 - 1,
        // A place of the other medium: behind all that the rule above gives.
        (_, id) => 128 + id / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_track_ids_of_a_publisher_reach_players_as_they_were() {
        for wire in 1..=6 {
            for media in [Media::Video, Media::Audio] {
                let track = from_wire(media, wire).unwrap();
                assert!(track.0 >= 3);
                assert_eq!(to_wire(media, track), wire);
            }
        }
        assert_eq!(from_wire(Media::Video, 7), Some(TrackId(15)));
        assert_eq!(from_wire(Media::Audio, 7), None);
        assert_eq!(from_wire(Media::Video, 255), None);
    }

    #[test]
    fn no_two_tracks_of_a_medium_share_an_id() {
        for media in [Media::Video, Media::Audio] {
            let mut ids: Vec<u8> = (3..=255).map(|id| to_wire(media, TrackId(id))).collect();
            ids.truncate(TRACKS_MAX - 3);
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), TRACKS_MAX - 3);
        }
    }
}
