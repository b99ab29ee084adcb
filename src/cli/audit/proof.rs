//! `shardcast audit prove` and `check-proof`: that one record is in a trail, without the others.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shardcast::audit::trail::{
    CHECKPOINTS, Checkpoint, Hash, Next, Sealed, from_hex, hex, next_line, prove as path_to_root, root_of,
};

use super::super::Failure;
use super::lines::Lines;
use super::verify::read_key;

#[derive(Debug, clap::Args)]
pub(super) struct Prove {
    /// The folder of the trail
    dir: PathBuf,

    /// The number of the record: its `seq`
    seq: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// What `prove` printed
    file: PathBuf,

    /// The public key of who vouches for the trail
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// A record, the way to the root of a checkpoint, and that.
#[derive(Debug, Serialize, Deserialize)]
struct Proof {
    v: u32,
    /// The line as it is.
    record: String,
    seq: u64,
    /// Hashes on the way from the record to the root.
    path: Vec<String>,
    /// The line as it is.
    checkpoint: String,
}

pub(super) fn prove(args: &Prove) -> Result<(), Failure> {
    let covering = newest_checkpoint(&args.dir.join(CHECKPOINTS)).map_err(Failure::runtime)?;
    let Some((checkpoint, size)) = covering.filter(|(_, size)| (1..=*size).contains(&args.seq)) else {
        return Err(Failure::runtime(format!("no checkpoint covers record {}", args.seq)));
    };
    let mut lines = Lines::open(&args.dir).map_err(Failure::runtime)?;
    let (mut at, mut record) = (0, None);
    let mut leaves = std::iter::from_fn(|| {
        let line = lines.next().ok()??;
        at += 1;
        let hash = Sealed::read(&line)?.hash;
        if at == args.seq {
            record = String::from_utf8(line).ok();
        }
        Some(hash)
    });
    let path = path_to_root(args.seq - 1, size, &mut leaves);
    let (Some(path), Some(record)) = (path, record) else {
        return Err(Failure::runtime(format!("the trail ends before record {size}: verify it")));
    };
    let path = path.iter().map(|hash| hex(hash)).collect();
    let proof = Proof { v: 1, record, seq: args.seq, path, checkpoint };
    println!("{}", serde_json::to_string_pretty(&proof).map_err(Failure::runtime)?);
    Ok(())
}

/// The newest one that is one, and how many records it covers.
fn newest_checkpoint(path: &Path) -> io::Result<Option<(String, u64)>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut newest) = (Vec::new(), None);
    loop {
        match next_line(&mut reader, &mut line)?.0 {
            Next::End | Next::Torn => return Ok(newest),
            Next::TooLong => {}
            Next::Line => {
                if let Ok(checkpoint) = Checkpoint::read(&line, None)
                    && let Ok(text) = str::from_utf8(&line)
                {
                    newest = Some((text.to_owned(), checkpoint.seq));
                }
            }
        }
    }
}

pub(super) fn check(args: &Check) -> Result<(), Failure> {
    let key = read_key(&args.key)?;
    let text = fs::read_to_string(&args.file)
        .map_err(|error| Failure::runtime(format!("cannot read {}: {error}", args.file.display())))?;
    let proof: Proof =
        serde_json::from_str(&text).map_err(|error| Failure::usage(format!("this is no proof: {error}")))?;
    let wrong = |why: &str| Failure { sentence: format!("the proof does not hold: {why}"), code: 5 };
    let checkpoint = Checkpoint::read(proof.checkpoint.as_bytes(), Some(&key))
        .map_err(|error| wrong(&format!("of its checkpoint, {error}")))?;
    let sealed = Sealed::read(proof.record.as_bytes()).filter(Sealed::is_whole);
    let sealed = sealed.ok_or_else(|| wrong("the record is not what its hash says"))?;
    let path: Option<Vec<Hash>> = proof.path.iter().map(|digits| from_hex(digits.as_bytes())).collect();
    let path = path.ok_or_else(|| wrong("its path is none"))?;
    let root = proof.seq.checked_sub(1).and_then(|index| root_of(&sealed.hash, index, checkpoint.seq, &path));
    if root != Some(checkpoint.root) {
        return Err(wrong("the record is not in the trail that the checkpoint vouches for"));
    }
    println!("record {} of the trail {} is proved: key {} vouches for it", proof.seq, checkpoint.log, key.id());
    println!("{}", proof.record);
    Ok(())
}
