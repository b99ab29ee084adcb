//! `shardcast audit show`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::super::Failure;
use super::super::plain::shortened;
use super::filter::{Filter, stream_of};
use super::lines::Lines;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the trail: DIR/audit of `serve --data DIR`
    dir: PathBuf,

    #[command(flatten)]
    filter: Filter,

    /// Print the lines as they are
    #[arg(long)]
    json: bool,

    /// Go on with what is appended
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match show(args) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Failure::runtime),
    }
}

fn show(args: &Args) -> io::Result<()> {
    let mut lines = Lines::open(&args.dir)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if !args.json {
        writeln!(out, "{:<23} {:<18} {:<28} {:<32} WHY", "TIME (UTC)", "EVENT", "STREAM", "WHO")?;
    }
    loop {
        while let Some(line) = lines.next()? {
            // A line that is none is the verifier's to tell of.
            let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
            if !args.filter.wants(&record) {
                continue;
            }
            if args.json {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", row(&record))?;
            }
        }
        out.flush()?;
        if !args.follow {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

/// One line for people.
pub(super) fn row(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or("");
    let time = text("wall").get(..23).unwrap_or("").replace('T', " ");
    let who = [text("principal"), text("protocol"), text("peer")].into_iter().filter(|part| !part.is_empty());
    let mut why = vec![text("reason").to_owned(), text("detail").to_owned(), text("note").to_owned()];
    for (key, unit) in [("bytes", " bytes"), ("duration_ms", " ms")] {
        why.extend(record[key].as_u64().filter(|number| *number > 0).map(|number| format!("{number}{unit}")));
    }
    why.extend(record["count"].as_u64().filter(|count| *count > 0).map(|count| format!("x {count}")));
    why.extend(record["by_ms"].as_i64().map(|step| format!("the clock was set by {step:+} ms")));
    why.retain(|part| !part.is_empty());
    format!(
        "{time:<23} {:<18} {:<28} {:<32} {}",
        shortened(text("event"), 18),
        shortened(&stream_of(record).unwrap_or_default(), 28),
        shortened(&who.collect::<Vec<_>>().join(" "), 32),
        shortened(&why.join(", "), 80)
    )
}

const FOLLOW_EVERY: Duration = Duration::from_millis(200);
