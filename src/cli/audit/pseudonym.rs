//! `shardcast audit pseudonym`: what stands in a trail for somebody.

use std::path::{Path, PathBuf};

use shardcast::audit::trail::PseudonymKey;

use super::super::{Failure, key_file};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A principal, or an address without its port: 192.0.2.7, 2001:db8::1
    name: String,

    /// The key that the trail is kept with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    println!("{}", read_key(&args.key)?.pseudonym(&args.name));
    Ok(())
}

/// Reads the key.
pub(in crate::cli) fn read_key(path: &Path) -> Result<PseudonymKey, Failure> {
    key_file::read("the key of pseudonyms", path, PseudonymKey::from_hex)
}
