//! The bench tests itself in three seconds, so that it does not rot between measurements.

use std::io;

use super::chunk::{self, ChunkReader, Outgoing};
use super::fanout::{self, Settings};
use super::media::{Bank, Schedule};
use super::target::{Mode, Target};

/// The reader against bytes of our own making, then three viewers against the floor for a second.
pub(crate) fn run() -> io::Result<()> {
    reads_what_was_written_however_it_is_cut();
    reads_the_short_headers();
    notices_a_changed_byte();
    let settings = Settings {
        targets: vec![Target::Floor],
        modes: vec![Mode::Default],
        players: vec![3],
        rounds: 1,
        window_ms: 1000,
        warm_up_ms: 100,
        joins_per_s: 100,
        server_core: 0,
        generator_core: std::thread::available_parallelism().map_or(0, |count| usize::from(count) - 1),
    };
    let measures = fanout::cell(&settings, &Target::Floor, Mode::Default, 3)?;
    assert!(measures.viewers > 2.5, "all viewers are there: {measures:?}");
    assert!(measures.received > 0.0 && measures.received >= measures.expected, "all frames came: {measures:?}");
    assert!(measures.gaps + measures.repeated + measures.falls + measures.corrupt + measures.strange < 0.5);
    assert!(measures.checked > 0.0 && measures.cpu_s > 0.0, "{measures:?}");
    println!("relay bench: the self-check passed; `cargo bench --bench relay` measures");
    Ok(())
}

/// Two seconds of the schedule, with timestamps that need the extended field from `start_ms` on.
fn written(start_ms: u32) -> (Vec<u8>, usize) {
    let (bank, mut schedule) = (Bank::new(), Schedule::default());
    let mut bytes = Vec::new();
    Outgoing::control(chunk::SET_CHUNK_SIZE).write(&4096_u32.to_be_bytes(), 128, &mut bytes);
    for _ in 0..146 {
        let slot = schedule.take();
        let mut message = Vec::new();
        bank.head(slot, 7, 8, &mut message);
        message.extend(&bank.body(slot).bytes);
        let kind = if slot.track == super::media::Track::Video { chunk::VIDEO } else { chunk::AUDIO };
        Outgoing::media(kind, 1, start_ms + slot.timestamp()).write(&message, 4096, &mut bytes);
    }
    (bytes, 146)
}

fn reads_what_was_written_however_it_is_cut() {
    for start_ms in [0, 0xff_fff0] {
        let (bytes, count) = written(start_ms);
        for cut in [1, 7, 1460, bytes.len()] {
            let (mut reader, mut seen) = (ChunkReader::new(), 0);
            for part in bytes.chunks(cut) {
                let read = reader.push(part, true, |message| {
                    let Some(stamp) = message.stamp else { return };
                    assert!(stamp.due == 7 && stamp.sent == 8);
                    assert!(message.body.is_some_and(|body| stamp.fits(body)));
                    assert!(message.timestamp >= start_ms && message.timestamp < start_ms + 2_100);
                    seen += 1;
                });
                assert_eq!(read, Ok(()));
            }
            assert_eq!(seen, count, "from {start_ms} cut to {cut}");
        }
    }
}

/// A full header, then a delta with a new length, a delta alone, and nothing at all.
fn reads_the_short_headers() {
    let full = [0x06, 0, 0, 100, 0, 0, 1, 9, 1, 0, 0, 0, 0xaa];
    let with_length = [0x46, 0, 0, 33, 0, 0, 2, 9, 0xaa, 0xbb];
    let delta_alone = [0x86, 0, 0, 34, 0xaa, 0xbb];
    let nothing = [0xc6, 0xaa, 0xbb];
    let bytes = [full.as_slice(), &with_length, &delta_alone, &nothing].concat();
    let mut times = Vec::new();
    let read = ChunkReader::new().push(&bytes, false, |message| times.push((message.timestamp, message.start.len())));
    assert_eq!(read, Ok(()));
    assert_eq!(times, [(100, 1), (133, 2), (167, 2), (201, 2)]);
}

fn notices_a_changed_byte() {
    let (mut bytes, _) = written(0);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut corrupt = 0;
    let read = ChunkReader::new().push(&bytes, true, |message| {
        let fits = message.stamp.zip(message.body).is_none_or(|(stamp, body)| stamp.fits(body));
        corrupt += u32::from(!fits);
    });
    assert!(read.is_err() || corrupt == 1, "{corrupt} frames of a stream with one changed byte are corrupt");
}
