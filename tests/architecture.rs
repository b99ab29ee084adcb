//! The rules of the tree that can be checked: which module may use which, where unsafe code and the clock are
//! allowed, what is never a dependency, where files lie and how long they grow.
//!
//! A rule that is broken is reported with file and line. The checks themselves are tested at the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The spokes under `shard`: they do not know each other, save for the pairs of [`SPOKES_USE`].
const SPOKES: [&str; 6] = ["net", "protocol", "record", "stream", "extension", "audit"];
/// Which spoke may use which other one.
const SPOKES_USE: [(&str, &str); 2] = [("protocol", "extension"), ("record", "extension")];
/// shardcast has no async runtime, not even an unused one.
const RUNTIMES: [&str; 6] = ["tokio", "async-std", "smol", "async-executor", "glommio", "monoio"];
/// What lies at the top of the repository, besides dot files and licences.
const TOP_LEVEL: [&str; 7] = ["Cargo.toml", "Cargo.lock", "README.md", "src", "benches", "tests", "tools"];
/// Lines of a source file.
const LINES_MAX: usize = 700;

#[test]
fn each_module_uses_only_those_declared_above_it() {
    let order = module_order(&read("src/lib.rs"), &read("src/main.rs"));
    report(sources(&["src"]).iter().flat_map(|file| downward_uses(file, &order)));
}

#[test]
fn the_spokes_under_shard_do_not_use_each_other() {
    report(sources(&["src"]).iter().flat_map(spoke_uses));
}

#[test]
fn unsafe_code_is_fenced_in() {
    report(unfenced_unsafe(&sources(&["src"])));
}

#[test]
fn the_clock_is_read_in_one_place() {
    let files = sources(&["src"]);
    report(files.iter().filter(|file| file.path != "src/clock.rs").flat_map(clock_reads));
}

#[test]
fn no_source_file_is_longer_than_700_lines() {
    report(sources(&["src", "tests", "benches", "tools"]).iter().filter_map(too_long));
}

#[test]
fn each_dependency_says_why_it_is_there() {
    report(dependencies_without_reason(&read("Cargo.toml")));
}

#[test]
fn no_async_runtime_is_locked_or_linked() {
    report(runtimes_locked(&read("Cargo.lock")));

    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--all-features", "-e", "normal,build", "--prefix", "none"]);
    let tree = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs, it runs this test");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("names of crates are text");
    assert!(tree.starts_with("shardcast "), "not a tree of shardcast:\n{tree}");
    let linked = tree.lines().filter(|line| RUNTIMES.iter().any(|name| line.split(' ').next() == Some(name)));
    report(linked.map(|line| format!("cargo tree: {line} is an async runtime")));
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let Some(tracked) = git.ok().filter(|git| git.status.success()) else {
        eprintln!("SKIPPED: not a git checkout, so nothing tells what belongs to the repository");
        return;
    };
    let tracked = String::from_utf8_lossy(&tracked.stdout).into_owned();
    report(out_of_place(tracked.split('\0').filter(|path| !path.is_empty())));
}

/// Fails with all that is wrong, one per line.
fn report(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

// ---- the rules

/// The modules of the crate, lowest first: as `lib.rs` declares them, and above them those of the binary.
fn module_order(lib: &str, main: &str) -> Vec<String> {
    let declared = |text: &str| {
        let tokens = tokens(text);
        let names = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
        names.map(|three| three[1].text.clone()).collect::<Vec<_>>()
    };
    [declared(lib), declared(main)].concat()
}

fn downward_uses(file: &Source, order: &[String]) -> Vec<String> {
    let Some(own) = file.module() else { return Vec::new() };
    let Some(height) = order.iter().position(|name| *name == own) else {
        return vec![format!("{}:1: module '{own}' is declared neither in src/lib.rs nor in src/main.rs", file.path)];
    };
    let wrong = file.uses().into_iter().filter_map(|(line, used)| {
        let why = match order.iter().position(|name| *name == used) {
            Some(other) if other <= height => return None,
            Some(_) => format!("which is declared below '{own}' in src/lib.rs"),
            None => "which is no module of src/lib.rs".to_owned(),
        };
        Some(format!("{}:{line}: uses crate::{used}, {why}", file.path))
    });
    wrong.collect()
}

fn spoke_uses(file: &Source) -> Vec<String> {
    let Some(own) = file.module().filter(|name| SPOKES.contains(&&**name)) else { return Vec::new() };
    let allowed = |used: &str| used == own || !SPOKES.contains(&used) || SPOKES_USE.contains(&(&*own, used));
    let wrong = file.uses().into_iter().filter(|(_, used)| !allowed(used));
    wrong.map(|(line, used)| format!("{}:{line}: '{own}' uses '{used}', another spoke", file.path)).collect()
}

/// Unsafe code outside of `ring`, `capi` and one file of `net`.
fn unfenced_unsafe(files: &[Source]) -> Vec<String> {
    let mut in_net = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files {
        let Some(token) = file.tokens.iter().find(|token| token.text == "unsafe") else { continue };
        match file.module().as_deref() {
            Some("ring" | "capi") => {}
            Some("net") => _ = in_net.insert(&file.path),
            _ => wrong.push(format!("{}:{}: unsafe code outside of ring, capi and net", file.path, token.line)),
        }
    }
    if in_net.len() > 1 {
        wrong.push(format!("unsafe code in more than one file of net: {in_net:?}"));
    }
    wrong
}

fn clock_reads(file: &Source) -> Vec<String> {
    let read = |four: &[Token]| {
        let [of, colon, colon2, call] = four else { return false };
        let clock = ["Instant", "SystemTime"].contains(&&*of.text) && call.text == "now";
        clock && colon.text == ":" && colon2.text == ":"
    };
    let reads = file.tokens.windows(4).filter(|four| read(four));
    reads.map(|four| format!("{}:{}: {}::now outside of clock.rs", file.path, four[0].line, four[0].text)).collect()
}

fn too_long(file: &Source) -> Option<String> {
    (file.lines > LINES_MAX).then(|| format!("{}:{}: more than {LINES_MAX} lines", file.path, file.lines))
}

/// A dependency needs a comment above it, or above the block of lines that it stands in.
fn dependencies_without_reason(manifest: &str) -> Vec<String> {
    let (mut in_dependencies, mut reason, mut depth) = (false, false, 0_i32);
    let mut wrong = Vec::new();
    for (line, text) in (1..).zip(manifest.lines()) {
        let at_start = depth == 0;
        if text.starts_with('[') && at_start {
            in_dependencies = text.trim_end().ends_with("dependencies]");
            reason = false;
        } else if text.starts_with('#') || text.trim().is_empty() {
            reason = text.starts_with('#');
        } else {
            let opened = text.matches(['[', '{']).count().cast_signed();
            let closed = text.matches([']', '}']).count().cast_signed();
            depth += i32::try_from(opened - closed).expect("a line has fewer brackets");
            if in_dependencies && at_start && !reason {
                let name = text.split(['=', '.', ' ']).next().unwrap_or(text);
                wrong.push(format!("Cargo.toml:{line}: {name} has no comment that says why it is there"));
            }
        }
    }
    wrong
}

fn runtimes_locked(lock: &str) -> Vec<String> {
    let named = |text: &str| RUNTIMES.iter().find(|name| text == format!("name = \"{name}\"")).copied();
    let found = (1..).zip(lock.lines()).filter_map(|(line, text)| Some((line, named(text)?)));
    found.map(|(line, name): (usize, _)| format!("Cargo.lock:{line}: {name} is an async runtime")).collect()
}

fn out_of_place<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let tops = paths.map(|path| path.split('/').next().unwrap_or(path));
    let allowed = |top: &str| top.starts_with('.') || top.starts_with("LICENSE-") || TOP_LEVEL.contains(&top);
    tops.filter(|top| !allowed(top)).map(|top| format!("{top}: does not belong at the top level")).collect()
}

// ---- reading Rust as far as the rules need it

/// A source file, by its path from the top of the repository.
struct Source {
    path: String,
    lines: usize,
    tokens: Vec<Token>,
}

/// A word, or a character that is neither in a word nor in a comment or literal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), lines: text.lines().count(), tokens: tokens(text) }
    }

    /// The module directly under the crate's root that this file is part of; the roots themselves are in none.
    fn module(&self) -> Option<String> {
        let inside = self.path.strip_prefix("src/")?;
        let name = inside.split('/').next()?.trim_end_matches(".rs");
        (!["lib", "main"].contains(&name)).then(|| name.to_owned())
    }

    /// How deep the file's own module lies: 1 for `src/ring.rs` and `src/ring/mod.rs`.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches("/mod.rs");
        inside.split('/').count()
    }

    /// What directly under the crate's root is named, with the line: by `crate::…`, by `crate::{…}`, or by `super::…`
    /// from as deep as the file lies.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        // Inline modules that are open, by the depth of braces that they were opened at.
        let (mut braces, mut inline) = (0_usize, Vec::new());
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            at += 1;
            match &*token.text {
                "mod" if self.text(at + 1) == "{" => inline.push(braces),
                "{" => braces += 1,
                "}" => {
                    braces = braces.saturating_sub(1);
                    inline.pop_if(|opened| *opened == braces);
                }
                "crate" => self.named_after(at, &mut found),
                "super" => {
                    let mut steps = 1;
                    while self.is_path(at) && self.text(at + 2) == "super" {
                        (steps, at) = (steps + 1, at + 3);
                    }
                    if steps >= self.depth() + inline.len() {
                        self.named_after(at, &mut found);
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The names after `::`, be it one or a group in braces.
    fn named_after(&self, at: usize, found: &mut Vec<(usize, String)>) {
        if !self.is_path(at) {
            return;
        }
        let mut add = |at: usize| {
            let token = self.tokens.get(at).filter(|token| token.text.starts_with(char::is_alphabetic));
            found.extend(token.filter(|token| token.text != "self").map(|token| (token.line, token.text.clone())));
        };
        if self.text(at + 2) != "{" {
            return add(at + 2);
        }
        let mut depth = 0;
        for inside in at + 2..self.tokens.len() {
            match self.text(inside) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            match (depth, self.text(inside)) {
                (0, _) => return,
                (1, "{" | ",") => add(inside + 1),
                _ => {}
            }
        }
    }

    fn is_path(&self, at: usize) -> bool {
        self.text(at) == ":" && self.text(at + 1) == ":"
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }
}

/// Cuts Rust into words and characters, without comments, strings and character literals.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        match (get(at), get(at + 1)) {
            ('/', '/') => at += chars[at..].iter().take_while(|c| **c != '\n').count(),
            ('/', '*') => at = end_of_block_comment(&chars, at),
            ('"', _) => at = end_of_string(&chars, at),
            ('\'', '\\') => at = at + 2 + 1 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1,
            ('\'', _) if get(at + 2) == '\'' => at += 3,
            (c, _) if is_word(c) => {
                at += chars[at..].iter().take_while(|c| is_word(**c)).count();
                let word: String = chars[start..at].iter().collect();
                match raw_string_end(&chars, at) {
                    Some(end) if ["r", "br", "cr"].contains(&&*word) => at = end,
                    _ => tokens.push(Token { line, text: word }),
                }
            }
            (c, _) => {
                at += 1;
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.into() });
                }
            }
        }
        at = at.min(chars.len());
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Block comments nest.
fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Where a raw string ends of which `at` is the first `#` or the opening quote.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
    let body = at + hashes + 1;
    if chars.get(body - 1) != Some(&'"') {
        return None;
    }
    let closes = |quote: &usize| chars[*quote] == '"' && chars[quote + 1..].iter().take(hashes).all(|c| *c == '#');
    (body..chars.len()).find(closes).map(|quote| quote + 1 + hashes)
}

/// All Rust files of these folders, build outputs left out.
fn sources(folders: &[&str]) -> Vec<Source> {
    let mut folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        // Not every folder is there yet.
        let Ok(entries) = root().join(&folder).read_dir() else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != "target" => folders.push(path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|it| it == "rs") => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no source files in {}", root().display());
    files.iter().map(|path| Source::new(&path.to_string_lossy(), &read(path))).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// ---- the checks, checked

fn order() -> Vec<String> {
    let lib =
        "//! mod ghost;\npub mod clock;\n#[cfg(feature = \"x\")]\npub mod media;\npub mod stream;\nmod shard;\n";
    module_order(lib, "mod cli;\nfn main() {}\n")
}

#[test]
fn the_order_is_read_from_the_declarations() {
    assert_eq!(order(), ["clock", "media", "stream", "shard", "cli"]);
}

#[test]
fn a_use_that_points_downward_is_found_with_its_line() {
    let file = Source::new("src/media/mod.rs", "use crate::clock::Now;\nuse crate::stream::StreamLog;\n");
    let wrong = ["src/media/mod.rs:2: uses crate::stream, which is declared below 'media' in src/lib.rs"];
    assert_eq!(downward_uses(&file, &order()), wrong);
}

#[test]
fn groups_paths_in_code_and_supers_are_seen_too() {
    let lines = |path: &str, text: &str| {
        let file = Source::new(path, text);
        file.uses().into_iter().filter(|(_, name)| name == "shard").map(|(line, _)| line).collect::<Vec<_>>()
    };
    assert_eq!(lines("src/media/mod.rs", "use crate::{\n  clock::{self, Now},\n  shard::Shard,\n};\n"), [3]);
    assert_eq!(lines("src/media/mod.rs", "fn f() {\n  let x = crate::shard::turn();\n}\n"), [2]);
    assert_eq!(lines("src/media.rs", "\n\nuse super::shard::Shard;\n"), [3]);
    assert_eq!(lines("src/media/time.rs", "use super::super::shard::Shard;\n"), [1]);
    assert_eq!(lines("src/media.rs", "mod tests {\n  use super::super::{clock, shard};\n}\n"), [2]);
}

#[test]
fn names_of_the_module_itself_in_comments_and_in_strings_are_no_uses() {
    let text = "//! See crate::shard.\n/* crate::shard /* crate::shard */ */\nuse super::shard::Frame;\n\
                const A: &str = \"crate::shard\"; const B: &str = r#\"crate::\"shard\"#; const C: char = '\"';\n\
                pub(crate) fn f<'a>(x: &'a str) -> char { '\\'' }\nmod tests { use super::shard; }\n";
    assert_eq!(Source::new("src/media/time.rs", text).uses(), []);
}

#[test]
fn a_name_that_is_no_module_is_found() {
    let file = Source::new("src/shard/mod.rs", "use crate::Router;\n");
    assert_eq!(
        downward_uses(&file, &order()),
        ["src/shard/mod.rs:1: uses crate::Router, which is no module of src/lib.rs"]
    );
    let file = Source::new("src/lost.rs", "");
    assert_eq!(downward_uses(&file, &order()).len(), 1, "a file of no declared module");
}

#[test]
fn a_spoke_that_uses_another_one_is_found() {
    let file = Source::new("src/stream/log.rs", "use crate::media::Frame;\nuse crate::net::Network;\n");
    assert_eq!(spoke_uses(&file), ["src/stream/log.rs:2: 'stream' uses 'net', another spoke"]);
    let file = Source::new("src/protocol/mod.rs", "use crate::extension::Credentials;\n");
    assert_eq!(spoke_uses(&file), [""; 0]);
}

#[test]
fn unsafe_code_is_found_where_it_must_not_be() {
    let code = "\nfn f() { unsafe { g() } }\n";
    let at = |path| Source::new(path, code);
    assert_eq!(unfenced_unsafe(&[at("src/ring/mod.rs"), at("src/capi/mod.rs"), at("src/net/udp.rs")]), [""; 0]);
    let wrong = unfenced_unsafe(&[at("src/media/mod.rs")]);
    assert_eq!(wrong, ["src/media/mod.rs:2: unsafe code outside of ring, capi and net"]);
    assert_eq!(unfenced_unsafe(&[at("src/net/udp.rs"), at("src/net/tcp.rs")]).len(), 1);
    assert_eq!(unfenced_unsafe(&[Source::new("src/id.rs", "// unsafe\n#![deny(unsafe_code)]\n")]), [""; 0]);
}

#[test]
fn a_clock_that_is_read_elsewhere_is_found() {
    let file =
        Source::new("src/id.rs", "// Instant::now\nlet a = std::time::Instant::now();\nlet b = SystemTime :: now;\n");
    let wrong = ["src/id.rs:2: Instant::now outside of clock.rs", "src/id.rs:3: SystemTime::now outside of clock.rs"];
    assert_eq!(clock_reads(&file), wrong);
}

#[test]
fn a_file_that_grew_too_long_is_found() {
    assert_eq!(too_long(&Source::new("src/id.rs", &"\n".repeat(LINES_MAX))), None);
    assert!(too_long(&Source::new("src/id.rs", &"\n".repeat(LINES_MAX + 1))).is_some());
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[features]\nserver = [\n  \"dep:a\",\n]\n[dependencies]\n# Why.\na = \"1\"\nb = { version = \"1\", features = [\n\
                    \"x\",\n] }\n\nc = \"1\"\n[target.'cfg(loom)'.dependencies]\nd = \"1\"\n[lints]\nrust = \"warn\"\n";
    let wrong = dependencies_without_reason(manifest);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].starts_with("Cargo.toml:12: c ") && wrong[1].starts_with("Cargo.toml:14: d "), "{wrong:?}");
}

#[test]
fn a_locked_runtime_and_a_stray_file_are_found() {
    let lock = "[[package]]\nname = \"tokio\"\n[[package]]\nname = \"smol_str\"\n";
    assert_eq!(runtimes_locked(lock), ["Cargo.lock:2: tokio is an async runtime"]);
    let paths = [".gitignore", ".ci/run", "LICENSE-MIT", "src/lib.rs", "notes.txt", "doc/a.md", "doc/b.md"];
    let wrong = ["doc: does not belong at the top level", "notes.txt: does not belong at the top level"];
    assert_eq!(out_of_place(paths.into_iter()).into_iter().collect::<Vec<_>>(), wrong);
}
