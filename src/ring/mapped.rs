//! Counters in a file that is mapped into memory: they survive the process that counts, and cost it no system call.
//!
//! A slot is two cache lines, as adjacent ones are fetched together. What the words of a slot mean is its users'
//! affair.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

/// Words of one slot.
const WORDS: usize = 16;
const SLOT_BYTES: usize = WORDS * size_of::<AtomicU64>();

/// Slots of words in a file, written through memory.
#[derive(Debug)]
pub struct MappedSlots {
    map: MmapRaw,
    slots: usize,
}

impl MappedSlots {
    /// Makes the file with so many slots of zeros, for its owner alone; what was there is gone.
    ///
    /// # Errors
    /// The file cannot be made or mapped.
    pub fn create(path: &Path, slots: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        file.set_len((slots * SLOT_BYTES) as u64)?;
        let map = MmapOptions::new().len(slots * SLOT_BYTES).map_raw(&file)?;
        Ok(Self { map, slots })
    }

    /// One word of a slot.
    ///
    /// # Panics
    /// There is no such slot or word.
    #[must_use]
    pub fn word(&self, slot: usize, word: usize) -> &AtomicU64 {
        assert!(slot < self.slots && word < WORDS, "slot {slot} has no word {word}");
        let at = slot * SLOT_BYTES + word * size_of::<AtomicU64>();
        // SAFETY: The map is as long as all slots, and `at` lies within it.
        let word = unsafe { self.map.as_mut_ptr().add(at) };
        // SAFETY: The map lives as long as `self` and begins on a page, so that `at` is aligned. Nothing but these
        // atomics reads or writes it. Were the file shortened by somebody else, an access would be a SIGBUS and no
        // data race; it is its owner's alone.
        unsafe { &*word.cast::<AtomicU64>() }
    }

    /// Reads the words of a file whose process is gone, slot by slot; `None` if it has not so many slots.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, slots: usize) -> io::Result<Option<Vec<[u64; WORDS]>>> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() != (slots * SLOT_BYTES) as u64 {
            return Ok(None);
        }
        let mut found = vec![[0; WORDS]; slots];
        let mut bytes = [0; size_of::<u64>()];
        let mut reader = io::BufReader::new(&mut file);
        for word in found.iter_mut().flatten() {
            reader.read_exact(&mut bytes)?;
            *word = u64::from_ne_bytes(bytes);
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_was_counted_is_there_when_nobody_maps_it_any_more() {
        let path = std::env::temp_dir().join(format!("shardcast-mapped-{}", std::process::id()));
        let slots = MappedSlots::create(&path, 5).unwrap();
        slots.word(0, 0).store(7, Ordering::Relaxed);
        slots.word(4, WORDS - 1).store(8, Ordering::Relaxed);
        drop(slots);

        let found = MappedSlots::read(&path, 5).unwrap().unwrap();
        assert_eq!((found[0][0], found[4][WORDS - 1], found.iter().flatten().sum::<u64>()), (7, 8, 15));
        assert_eq!(MappedSlots::read(&path, 6).unwrap(), None, "it has five");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[should_panic(expected = "slot 1 has no word 16")]
    fn no_word_lies_beyond_its_slot() {
        let path = std::env::temp_dir().join(format!("shardcast-mapped-{}-word", std::process::id()));
        let slots = MappedSlots::create(&path, 5).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _ = slots.word(1, WORDS);
    }
}
