//! `shardcast audit export`.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::Value;

use super::super::Failure;
use super::filter::Filter;
use super::lines::Lines;
use super::show::row;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the trail
    dir: PathBuf,

    /// As what
    #[arg(long, value_enum, default_value = "json")]
    format: Format,

    #[command(flatten)]
    filter: Filter,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// The lines as they are.
    Json,
    /// RFC 4180, with a heading; safe to open in a spreadsheet.
    Csv,
    /// As `show` prints it.
    Text,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match export(args) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Failure::runtime),
    }
}

fn export(args: &Args) -> io::Result<()> {
    let mut lines = Lines::open(&args.dir)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if matches!(args.format, Format::Csv) {
        write!(out, "{}\r\n", COLUMNS.join(","))?;
    }
    while let Some(line) = lines.next()? {
        let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
        if !args.filter.wants(&record) {
            continue;
        }
        match args.format {
            Format::Json => {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            }
            Format::Csv => write!(out, "{}\r\n", COLUMNS.map(|column| field(&record[column])).join(","))?,
            Format::Text => writeln!(out, "{}", row(&record))?,
        }
    }
    out.flush()
}

const COLUMNS: [&str; 23] = [
    "seq",
    "boot",
    "wall",
    "event",
    "code",
    "shard",
    "app",
    "stream",
    "generation",
    "connection",
    "peer",
    "protocol",
    "principal",
    "reason",
    "detail",
    "note",
    "bytes",
    "duration_ms",
    "count",
    "producer",
    "pseq",
    "first",
    "h",
];

/// One field: in quotes where it must be, and never a formula.
fn field(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // A spreadsheet would execute it: an apostrophe makes it text.
    let guard = if value.is_string() && text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        return text;
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_one_field_and_never_a_formula() {
        for (value, expected) in [
            (json!("plain"), "plain"),
            (json!(-5), "-5"),
            (json!("a,\"b\"\r\nc"), "\"a,\"\"b\"\"\r\nc\""),
            (json!("=cmd|' /C calc'!A0"), "\"'=cmd|' /C calc'!A0\""),
            (json!("@SUM(1)"), "\"'@SUM(1)\""),
            (Value::Null, ""),
        ] {
            assert_eq!(field(&value), expected);
        }
    }
}
