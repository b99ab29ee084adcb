//! `shardcast audit events`: what there is to happen.

use shardcast::fact::FactKind;

use super::super::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.json {
        let kinds = FactKind::ALL.iter().map(|kind| {
            serde_json::json!({
                "event": kind.name(),
                "code": *kind as u16,
                "class": kind.class().name(),
                "sentence": kind.sentence(),
            })
        });
        let text = serde_json::to_string_pretty(&kinds.collect::<Vec<_>>()).map_err(Failure::runtime)?;
        println!("{text}");
        return Ok(());
    }
    println!("{:<18} {:>4}  {:<9}  what it says", "event", "code", "class");
    for kind in FactKind::ALL {
        println!("{:<18} {:>4}  {:<9}  {}", kind.name(), *kind as u16, kind.class().name(), kind.sentence());
    }
    println!(
        "\nThe trail tells of itself: loss, recovery, segment, segment_end, sync_failed, disk_full, clock_step,\n\
         follower_refuse, follower_fail, follower_return."
    );
    Ok(())
}
