//! `shardcast bench compare`: two results beside each other.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use shardcast::bench::model::Report;
use shardcast::bench::report::compare::compare;
use shardcast::bench::report::{compare_html, json};

use crate::cli::Failure;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The older result, as --json wrote it
    before: PathBuf,

    /// The newer one
    after: PathBuf,

    /// Write the comparison as one HTML page that opens offline, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let comparison = compare(&before, &after);
    if let Some(file) = &args.html {
        std::fs::write(file, compare_html::page(&comparison, &before, &after))
            .map_err(|error| Failure::runtime(format!("cannot write {}: {error}", file.display())))?;
    }
    if let Some(refused) = comparison.refused {
        return Err(Failure::runtime(format!("cannot be compared: {refused}")));
    }
    let out = std::io::stdout();
    let text = if out.is_terminal() { comparison.in_colour() } else { comparison.to_string() };
    // Whoever closes the pipe has read enough.
    let _ = out.lock().write_all(text.as_bytes());
    Ok(())
}

fn read(file: &Path) -> Result<Report, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    json::read(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

const EXAMPLES: &str = "\
Examples:
  shardcast bench fanout --json before.json
  shardcast bench fanout --json after.json
  shardcast bench compare before.json after.json --html comparison.html

A difference counts as one if its interval excludes 1 and it exceeds 3 %. Results of different machines are refused.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_result_is_named() {
        let absent = read(Path::new("/no/such.json")).unwrap_err();
        assert_eq!(absent.code, 2);
        assert!(absent.sentence.contains("/no/such.json"), "{}", absent.sentence);
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert!(read(Path::new(manifest)).unwrap_err().sentence.contains("Cargo.toml"));
    }
}
