//! `shardcast audit stats`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use shardcast::audit::trail::segments;

use super::super::Failure;
use super::super::plain::shortened;
use super::filter::{Filter, stream_of};
use super::lines::Lines;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the trail
    dir: PathBuf,

    #[command(flatten)]
    filter: Filter,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut lines = Lines::open(&args.dir).map_err(Failure::runtime)?;
    let (mut events, mut streams) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    let (mut records, mut bytes, mut first, mut last) = (0_u64, 0_u64, String::new(), String::new());
    while let Some(line) = lines.next().map_err(Failure::runtime)? {
        let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
        if !args.filter.wants(&record) {
            continue;
        }
        records += 1;
        bytes += line.len() as u64 + 1;
        let wall = record["wall"].as_str().unwrap_or("");
        if first.is_empty() {
            wall.clone_into(&mut first);
        }
        wall.clone_into(&mut last);
        count(&mut events, record["event"].as_str().unwrap_or("?").to_owned());
        if let Some(stream) = stream_of(&record) {
            count(&mut streams, stream);
        }
    }
    let segments = segments(&args.dir).map_err(Failure::runtime)?.len();
    println!("{records} records, {bytes} bytes, in {segments} segments");
    println!("from {} to {}", shortened(&first, 40), shortened(&last, 40));
    for (title, counts) in [("EVENT", &events), ("STREAM", &streams)] {
        let mut counts: Vec<_> = counts.iter().collect();
        counts.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        println!("\n{title:<40} RECORDS");
        for (name, count) in counts.into_iter().take(ROWS_MAX) {
            println!("{:<40} {count}", shortened(name, 40));
        }
    }
    Ok(())
}

/// Counts one; names beyond [`NAMES_MAX`] count together.
fn count(counts: &mut BTreeMap<String, u64>, name: String) {
    let full = counts.len() >= NAMES_MAX && !counts.contains_key(&name);
    *counts.entry(if full { "(others)".into() } else { name }).or_default() += 1;
}

/// Names that are counted each on its own.
const NAMES_MAX: usize = 100_000;
const ROWS_MAX: usize = 20;
