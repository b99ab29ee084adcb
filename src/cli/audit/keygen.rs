//! `shardcast audit keygen`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use shardcast::audit::trail::{PseudonymKey, SigningKey};

use super::super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write the private key here, and the public one of a signature beside it as FILE.pub
    file: PathBuf,

    /// Make the key of pseudonyms instead: addresses and principals then stand in the trail as hashes by it
    #[arg(long)]
    pseudonyms: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.pseudonyms {
        return make_pseudonyms(&args.file);
    }
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

fn make_pseudonyms(file: &Path) -> Result<(), Failure> {
    let key = PseudonymKey::generate().map_err(Failure::runtime)?;
    write(file, &format!("{}\n", key.to_hex()), 0o600)?;
    println!("key {}", key.id());
    println!("  hides   {}: name it as audit.pseudonym_key_file in the server's configuration", file.display());
    println!("  finds   shardcast audit pseudonym NAME --key {}", file.display());
    println!("  when no copy of it is left, nobody can tell any more who is in the trail");
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
