//! What needs a process of its own: the real binary under other conditions, or this test binary once more.
#![expect(unsafe_code, reason = "what a signal does can only be set by a call to the system")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use shardcast::audit::trail::segments;

use super::world::{SOON, Turn, now};

const CHILD: &str = "SHARDCAST_HOSTILE_CHILD";

/// Whether this process was started by [`run_test`].
pub(crate) fn is_one() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this binary in a process of its own, and fails as it fails.
pub(crate) fn run_test(name: &str) {
    let own = std::env::current_exe().expect("this process has a program");
    let output = Command::new(own).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
    let output = output.expect("this program starts once more");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Rust ignores SIGPIPE; a host in C does not.
pub(crate) fn let_sigpipe_kill() {
    // SAFETY: the default action of a signal involves no handler, so nothing of ours can run in one.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
}

/// A running `shardcast serve`.
pub(crate) struct Server {
    child: Child,
    line: String,
    pub(crate) address: SocketAddr,
    pub(crate) dir: PathBuf,
    _turn: Turn,
}

impl Server {
    /// Starts it behind words for the shell, such as `ulimit -n 64;`.
    pub(crate) fn start(before: &str, config: &str) -> Self {
        Self::start_with(before, config, "")
    }

    /// The same with more words for the command line.
    pub(crate) fn start_with(before: &str, config: &str, more: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let turn = Turn::shared();
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(name);
        fs::create_dir_all(&dir).expect("the test's directory can be made");
        fs::write(dir.join("shardcast.toml"), config).expect("the test's directory is writable");
        let line = format!(
            "{before} exec {} serve --rtmp 127.0.0.1:0 --rtmp [::1]:0 --http off --shards 2 --data . --log trace --config shardcast.toml {more}",
            env!("CARGO_BIN_EXE_shardcast")
        );
        let child = launch(&line, &dir);
        let mut server = Self { child, line, address: ([127, 0, 0, 1], 0).into(), dir, _turn: turn };
        server.wait_for_address();
        server
    }

    /// Kills it: it has no time to say or write anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child can be waited for");
    }

    /// Starts it again after that, over the same files.
    pub(crate) fn start_again(&mut self) {
        self.child = launch(&self.line, &self.dir);
        self.wait_for_address();
    }

    fn wait_for_address(&mut self) {
        self.address = super::world::wait_for("the address of the server", || {
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the server ended: {ended:?}\n{}", self.read("stderr"));
            let said = BufReader::new(fs::File::open(self.dir.join("stdout")).ok()?);
            let lines = said.lines().map_while(Result::ok);
            let mut rtmp =
                lines.filter_map(|line| line.trim().strip_prefix("rtmp ").map(|rest| rest.trim().to_owned()));
            rtmp.find_map(|address| address.parse().ok())
        });
    }

    /// The folder of its audit trail.
    pub(crate) fn audit(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// Its audit trail so far.
    pub(crate) fn trail(&self) -> String {
        let segments = segments(&self.audit()).unwrap_or_default();
        let text = segments.iter().map(|(_, path)| fs::read(path).unwrap_or_default());
        String::from_utf8_lossy(&text.collect::<Vec<_>>().concat()).into_owned()
    }

    /// A file of its directory.
    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }

    /// Puts another configuration in the place of the one that it was started with, and tells it to read that.
    pub(crate) fn reload(&self, config: &str) {
        fs::write(self.dir.join("shardcast.toml"), config).expect("the test's directory is writable");
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server is gone already");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far, in ticks of the system.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }

    /// The most bytes that were resident so far.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.and_then(|kib| kib.parse::<usize>().ok()).expect("a running process has a peak") * 1024
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Ends it in an orderly way, and fails if that is not how it ends.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let end = now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                assert!(status.success(), "the server ended with {status}\n{}", self.read("stderr"));
                return;
            }
            assert!(now() < end, "the server does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn launch(line: &str, dir: &Path) -> Child {
    let file = |name| fs::File::create(dir.join(name)).expect("the test's directory is writable");
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(dir).stdin(Stdio::null());
    command.stdout(file("stdout")).stderr(file("stderr")).spawn().expect("a shell starts")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- the server's directory is {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
