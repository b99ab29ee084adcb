//! What the boots before have left: where the trail ends, and what was told and never written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::account::{Account, Accounts, Entry, enter};
use super::disk::{pages, segments, sync_folder};
use super::hash::from_hex;
use super::line::{Head, Next, Sealed, next_line};
use super::merkle::Frontier;
use super::page::CounterPage;
use super::{Hash, State};

/// Where a trail goes on.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) log: Option<String>,
    pub(super) state: State,
    /// The last segment.
    pub(super) segment: u64,
    /// The last boot.
    pub(super) boot: u64,
    /// Facts that were told and are not there.
    pub(super) lost: Vec<Lost>,
    /// Bytes of a torn line that were put aside.
    pub(super) torn: u64,
    /// Pages whose boots are accounted for as soon as that is written down.
    pub(super) pages: Vec<PathBuf>,
}

/// Facts of a boot that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) boot: u64,
    pub(super) producer: u16,
    pub(super) first: u64,
    pub(super) count: u64,
    /// The machine was not started anew since, so that the counter is right.
    pub(super) exact: bool,
}

/// What the first line of a segment says of all that was before.
#[derive(serde::Deserialize)]
struct Opening {
    log: String,
    tree: Vec<String>,
    producers: BTreeMap<u16, [u64; 2]>,
}

/// Looks at what is there, and puts a torn line aside.
pub(super) fn recover(dir: &Path) -> io::Result<Left> {
    let mut left = Left::default();
    let found = segments(dir)?;
    let pages = pages(dir)?;
    // The oldest boot whose counters are still there may have its last lines in an earlier segment.
    let oldest = pages.iter().map(|(boot, _)| *boot).min();
    let mut from = found.len().saturating_sub(1);
    while from > 0 && oldest.is_some_and(|oldest| boot_of(&found[from].1).is_none_or(|boot| boot > oldest)) {
        from -= 1;
    }
    let mut boots: BTreeMap<u64, Accounts> = BTreeMap::new();
    for (number, path) in found.iter().skip(from) {
        left.segment = *number;
        let is_last = found.last().is_some_and(|(last, _)| last == number);
        left.torn += read_segment(path, is_last, &mut left, &mut boots)?;
    }
    left.state.accounts = boots.remove(&left.boot).unwrap_or_default();
    boots.insert(left.boot, left.state.accounts.clone());
    for (boot, path) in pages {
        if let Some(page) = CounterPage::read(&path)? {
            let accounts = boots.remove(&boot).unwrap_or_default();
            // A shard that was restarted has several places.
            let mut told: BTreeMap<u16, u64> = BTreeMap::new();
            for one in &page.counted {
                *told.entry(one.producer).or_default() += one.attempted;
            }
            for (producer, attempted) in told {
                let last = accounts.get(&producer).map_or(0, Account::last);
                if attempted > last {
                    let exact = page.same_machine_boot && !page.overflown;
                    let (first, count) = (last + 1, attempted - last);
                    left.lost.push(Lost { boot, producer, first, count, exact });
                }
            }
        }
        left.boot = left.boot.max(boot);
        left.pages.push(path);
    }
    Ok(left)
}

fn boot_of(segment: &Path) -> Option<u64> {
    let mut line = Vec::new();
    next_line(&mut BufReader::new(File::open(segment).ok()?), &mut line).ok()?;
    Some(Head::read(&line)?.boot)
}

/// Reads a segment up to its last whole line; how many bytes were torn off behind that.
fn read_segment(path: &Path, is_last: bool, left: &mut Left, boots: &mut BTreeMap<u64, Accounts>) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let (mut line, mut whole, mut first) = (Vec::new(), 0_u64, true);
    loop {
        let (next, read) = next_line(&mut reader, &mut line)?;
        match next {
            Next::End => return Ok(0),
            Next::Line => {}
            Next::Torn | Next::TooLong => break,
        }
        let text = &line[..];
        let Some((sealed, head)) = Sealed::read(text).filter(Sealed::is_whole).zip(Head::read(text)) else { break };
        if std::mem::take(&mut first)
            && let Some(state) = read_opening(text, sealed.before, &head, left, boots)
        {
            left.state = state;
        }
        left.state.seq = head.seq;
        left.state.hash = sealed.hash;
        left.state.tree.push(&sealed.hash);
        left.boot = head.boot;
        if let Some(entry) = Entry::read(&head, text) {
            enter(boots, entry);
        }
        whole += read;
    }
    if !is_last {
        // That was no crash: it is left as it is, for whoever verifies.
        return Ok(0);
    }
    // Nothing can be said of what stands behind a line that is not whole: all of it goes aside, and is kept.
    let mut file = File::options().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(whole))?;
    let mut torn = File::create(aside(path))?;
    let bytes = io::copy(&mut file, &mut torn)?;
    torn.sync_all()?;
    sync_folder(path)?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(bytes)
}

/// A name that is not taken yet.
fn aside(segment: &Path) -> PathBuf {
    let name = |n: u32| segment.with_extension(if n == 0 { "torn".into() } else { format!("{n}.torn") });
    (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
}

fn read_opening(
    line: &[u8],
    before: Hash,
    head: &Head<'_>,
    left: &mut Left,
    boots: &mut BTreeMap<u64, Accounts>,
) -> Option<State> {
    let opening: Opening = serde_json::from_slice(line).ok()?;
    let roots: Option<Vec<Hash>> = opening.tree.iter().map(|root| from_hex(root.as_bytes())).collect();
    left.log = Some(opening.log);
    let accounts = opening
        .producers
        .iter()
        .map(|(producer, [written, lost])| (*producer, Account { written: *written, lost: *lost }));
    // What earlier segments say of this boot is the same.
    boots.insert(head.boot, accounts.collect());
    let seq = head.seq.checked_sub(1)?;
    Some(State { seq, hash: before, tree: Frontier::resume(seq, roots?)?, accounts: Accounts::new() })
}

const READ_BYTES: usize = 256 * 1024;
