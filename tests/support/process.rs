//! Child processes with a deadline: started, watched, waited for and, whatever happens, never left behind.
//!
//! Their output goes to files, so that none of them ever blocks on a full pipe, and a failed test prints it.
#![allow(dead_code, reason = "each suite needs a part of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shardcast::clock::{Clock, Instant};

/// Generous for anything that takes a moment on a busy machine; no test depends on its length.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The time since the first question.
pub(crate) fn now() -> Instant {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::start).instant()
}

/// Looks again and again until there is something, and panics with `what` was awaited after `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory of one test, gone with it; a failed test leaves it to be looked at.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("processes").join(name);
        fs::create_dir_all(&path).expect("the test's directory can be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file name that this test has not used yet.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.0.join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    shown: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    started: Instant,
}

impl Process {
    /// Starts a program; `name` is what failures call it.
    pub(crate) fn start(dir: &Dir, name: &str, command: &mut Command) -> Self {
        Self::start_with(dir, name, command, Stdio::null())
    }

    /// Starts a program that reads from `stdin`.
    pub(crate) fn start_with(dir: &Dir, name: &str, command: &mut Command, stdin: Stdio) -> Self {
        let (stdout, stderr) = (dir.file(&format!("{name}.out")), dir.file(&format!("{name}.err")));
        command.stdin(stdin);
        command.stdout(File::create(&stdout).expect("the test's directory is writable"));
        command.stderr(File::create(&stderr).expect("the test's directory is writable"));
        let shown = shown(command);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}\n  {shown}"));
        Self { name: name.to_owned(), shown, child, stdout, stderr, started: now() }
    }

    /// The writing end of its standard input, if it was started with a pipe.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal by its name, such as `TERM`. The child is not reaped, so the pid is still its own.
    pub(crate) fn signal(&mut self, signal: &str) {
        if self.try_wait().is_none() {
            let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.child.id())).status();
            assert!(status.is_ok_and(|status| status.success()), "{} can't be sent SIG{signal}", self.name);
        }
    }

    pub(crate) fn kill(&mut self) {
        // Fails only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("that {} ends by itself", self.name);
        wait_for(&what, limit, || self.try_wait())
    }

    /// Waits until it ends by itself, successfully.
    pub(crate) fn succeed(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Fails the test if it has ended.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.try_wait();
        assert!(ended.is_none(), "{} ended too early: {ended:?}", self.name);
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        now().since(self.started)
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let state = match self.try_wait() {
            Some(status) => status.to_string(),
            None => "still running, killed now".to_owned(),
        };
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {}: {state}\n  {}", self.name, self.shown);
            for (what, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                for line in tail(&text, 20) {
                    eprintln!("  {what} | {line}");
                }
            }
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// A command as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn tail(text: &str, lines: usize) -> impl Iterator<Item = &str> {
    let all = text.lines().count();
    text.lines().skip(all.saturating_sub(lines))
}
