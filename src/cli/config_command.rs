//! `shardcast config check FILE` and `shardcast config example`.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use super::config::{Overrides, ServerConfig};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether a file would be taken, and if not, everything that is wrong with it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print a configuration with every key, its default and what it means
    Example,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let said = match args.what {
        What::Check { file } => check(&file)?,
        What::Example => EXAMPLE.to_owned(),
    };
    // Whoever closes the pipe has read enough.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(())
}

fn check(file: &std::path::Path) -> Result<String, Failure> {
    let config = ServerConfig::load(Some(file), &Overrides::default()).map_err(Failure::usage)?;
    let mut said = format!(
        "{} is valid: {} listener(s), {} application(s), {} user(s), {} token key(s)\n",
        file.display(),
        config.rtmp.len(),
        config.apps.len(),
        config.access.users,
        config.access.token_keys.len()
    );
    for warning in &config.warnings {
        said.push_str(&format!("but {warning}\n"));
    }
    Ok(said)
}

/// Every key with its default.
pub(super) const EXAMPLE: &str = include_str!("config/example.toml");
