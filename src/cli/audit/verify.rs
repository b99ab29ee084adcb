//! `shardcast audit verify`.

use std::fs::{File, TryLockError};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use shardcast::audit::producer_of;
use shardcast::audit::trail::{Finding, Report, Verifier, VerifyingKey, hex, segments};
use shardcast::fact::Class;
use shardcast::limits::SHARDS_MAX;

use super::super::{Failure, key_file};

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The folder of the trail: DIR/audit of `serve --data DIR`
    dir: PathBuf,

    /// Check the signatures of checkpoints with this public key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Checkpoints that were kept elsewhere, instead of those beside the trail
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,

    /// Print the result for programs
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Exit codes:
  0  whole: every fact that was told is there, in its place, unchanged
  3  whole, and facts are missing that records speak of
  4  facts are missing and no record says so
  5  something was changed, removed, added or moved; or a checkpoint is not to be believed
  6  the last line is torn
  7  the end was cut off, or there are no checkpoints
  1  it cannot be read; 2 it was asked for wrongly
What it cannot know: whoever has the key, or writes trail and checkpoints anew where nobody checks the key, is found only
by checkpoints that were kept elsewhere (--against).";

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let key = args.key.as_deref().map(read_key).transpose()?;
    if segments(&args.dir).map_err(|error| unreadable(&args.dir, &error))?.is_empty() {
        return Err(Failure::runtime(format!("there is no audit trail in {}", args.dir.display())));
    }
    let verifier = Verifier { key: key.as_ref(), against: args.against.as_deref(), running: is_written(&args.dir) };
    let bar = if std::io::stderr().is_terminal() && !args.json { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    let report = verifier.verify(&args.dir, &mut |progress| {
        bar.set_length(progress.all);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| unreadable(&args.dir, &error))?;
    if args.json {
        println!("{}", for_programs(&report));
    } else {
        print!("{}", for_people(&report, key.is_some()));
    }
    match report.code() {
        0 => Ok(()),
        code => Err(Failure { sentence: worth(&report).into(), code }),
    }
}

pub(super) fn read_key(path: &Path) -> Result<VerifyingKey, Failure> {
    key_file::read("the public key", path, VerifyingKey::from_pem)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::runtime(format!("cannot read {}: {error}", path.display()))
}

/// Whether a server writes it now.
fn is_written(dir: &Path) -> bool {
    let lock = File::open(dir.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn for_people(report: &Report, keyed: bool) -> String {
    let mut said = format!(
        "trail {}: {} records in {} segments, {} checkpoints\n",
        report.log.as_deref().unwrap_or("without a name"),
        report.records,
        report.segments,
        report.checkpoints.0
    );
    for (number, boot) in &report.boots {
        let (written, lost) = boot
            .producers
            .values()
            .fold((0, 0), |(written, lost), account| (written + account.written, lost + account.lost));
        if lost > 0 {
            said += &format!("boot {number}: {} facts told = {written} written + {lost} lost\n", written + lost);
        }
        for loss in &boot.losses {
            said += &format!(
                "  lost: {}, {} facts from number {} on, {} (record {})\n",
                producer(loss.producer),
                loss.count,
                loss.first,
                cause(&loss.cause),
                loss.seq
            );
        }
    }
    let (attempted, written, lost) = report.sums();
    said += &format!("{attempted} facts told = {written} written + {lost} lost\n");
    for finding in &report.findings {
        said += &format!("! {}\n", sentence(finding));
    }
    if report.more_findings > 0 {
        said += &format!("! and {} more\n", report.more_findings);
    }
    said += &format!("last record {}\nroot        {}\n", hex(&report.end.0), hex(&report.end.1));
    if !keyed {
        said += "signatures were not checked: give --key FILE\n";
    }
    said
}

fn cause(name: &str) -> &str {
    match name {
        "killed" => "the process was killed",
        "channel_full" => "the channel was full",
        "sinks_refused" => "the disk refused them",
        other => other,
    }
}

/// Whose facts, for people; a program has the number.
fn producer(number: u16) -> String {
    let (id, class) = producer_of(number);
    let what = match class {
        Class::Decision => "decisions",
        Class::Telemetry => "telemetry",
    };
    match usize::from(id) {
        shard @ ..SHARDS_MAX => format!("producer {number}, {what} of shard {shard}"),
        _ => format!("producer {number}, {what} of the router itself"),
    }
}

fn sentence(finding: &Finding) -> String {
    match finding {
        Finding::Broken { file, offset, after } => {
            format!("{}, byte {offset}: this line is not what its hash says (behind record {after})", file.display())
        }
        Finding::Unchained { file, offset, found, expected } => format!(
            "{}, byte {offset}: record {found} does not follow the one before; record {expected} was to come",
            file.display()
        ),
        Finding::Gap(gap) => format!(
            "boot {}, {}: fact {} was to come and {} did; no record says that any is missing",
            gap.boot,
            producer(gap.producer),
            gap.expected,
            gap.found
        ),
        Finding::Torn { file, offset, bytes } => {
            format!("{}, byte {offset}: the last line is torn; {bytes} bytes of it are there", file.display())
        }
        Finding::Checkpoint { file, line, why } => format!("{}, line {line}: {why}", file.display()),
        Finding::Contradiction { file, line, seq, what } => {
            format!("{}, line {line}: the checkpoint of record {seq} contradicts the trail: {what}", file.display())
        }
        Finding::Truncated { file, known, there } => format!(
            "{}: a checkpoint speaks of record {known}, and the trail ends with record {there}: its end was cut off",
            file.display()
        ),
        Finding::NoCheckpoint => "there is no checkpoint: that nothing was cut off at the end cannot be known".into(),
    }
}

fn worth(report: &Report) -> &'static str {
    match report.code() {
        3 => "the trail is whole; facts are missing, and records say which",
        4 => "the trail is not whole: facts are missing in silence",
        5 => "the trail is not to be believed: something in it was changed",
        6 => "the trail is whole but for its last line",
        _ => "the trail is not whole: its end was cut off, or nothing vouches for it",
    }
}

fn for_programs(report: &Report) -> serde_json::Value {
    let (attempted, written, lost) = report.sums();
    let boots = report.boots.iter().map(|(number, boot)| {
        let producers = boot.producers.iter().map(|(id, account)| {
            json!({"producer": id, "attempted": account.last(), "written": account.written, "lost": account.lost})
        });
        let losses = boot.losses.iter().map(|loss| {
            json!({"producer": loss.producer, "first": loss.first, "count": loss.count, "cause": loss.cause, "record": loss.seq})
        });
        json!({"boot": number, "producers": producers.collect::<Vec<_>>(), "losses": losses.collect::<Vec<_>>()})
    });
    json!({
        "code": report.code(),
        "log": report.log,
        "records": report.records,
        "segments": report.segments,
        "checkpoints": report.checkpoints.0,
        "signatures_checked": report.checkpoints.1,
        "attempted": attempted,
        "written": written,
        "lost": lost,
        "boots": boots.collect::<Vec<_>>(),
        "findings": report.findings.iter().map(|one| json!({"code": one.code(), "what": sentence(one)})).collect::<Vec<_>>(),
        "more_findings": report.more_findings,
        "last": hex(&report.end.0),
        "root": hex(&report.end.1),
    })
}
