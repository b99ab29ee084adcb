//! `shardcast audit`: looks at an audit trail, verifies it, takes proofs out of it.

mod events;
mod export;
mod filter;
mod keygen;
mod lines;
mod proof;
pub(super) mod pseudonym;
mod show;
mod stats;
mod verify;

use clap::Subcommand;

use super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that nothing was changed, removed, added or lost in silence
    Verify(verify::Args),
    /// Show what happened
    Show(show::Args),
    /// Write it for other programs: JSON lines, CSV, text
    Export(export::Args),
    /// Tell which events there are, and what each says
    Events(events::Args),
    /// Count what is in it
    Stats(stats::Args),
    /// Take the proof of one record out of it, which stands without the others
    Prove(proof::Prove),
    /// Check such a proof
    CheckProof(proof::Check),
    /// Make the key that signs checkpoints, or the one of pseudonyms
    Keygen(keygen::Args),
    /// Tell what stands for somebody in a trail that is kept with pseudonyms
    Pseudonym(pseudonym::Args),
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Verify(args) => verify::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Prove(args) => proof::prove(&args),
        Command::CheckProof(args) => proof::check(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Pseudonym(args) => pseudonym::run(&args),
    }
}
