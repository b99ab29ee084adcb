//! `shardcast audit keygen`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use shardcast::audit::trail::SigningKey;

use super::super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write the private key here, and the public one beside it as FILE.pub
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let key = SigningKey::generate().map_err(Failure::runtime)?;
    let mut public = args.file.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    write(&args.file, &key.to_pem().map_err(Failure::runtime)?, 0o600)?;
    write(&public, &key.verifying().to_pem(), 0o644)?;
    println!("key {}", key.id());
    println!(
        "  signs     {}: name it as audit.key_file in the server's configuration, and keep no copy",
        args.file.display()
    );
    println!("  verifies  {}: shardcast audit verify DIR --key {0}", public.display());
    Ok(())
}

/// A file that is not there yet: a key that is in use is never written over.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written =
        options.open(path).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::runtime(format!("cannot make {}: {error}", path.display())))
}
