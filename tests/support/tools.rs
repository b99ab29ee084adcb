//! The tools of others, where they are, and what happens when they are not there.
#![allow(dead_code, reason = "each suite needs some of them")]

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A program that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// ffmpeg of the distribution, 5.1 or newer, with ffprobe and ffplay beside it.
    Ffmpeg,
    /// An ffmpeg that speaks enhanced RTMP: `SHARDCAST_FFMPEG_NEW`, or what `tools/ci.sh` has installed.
    FfmpegNew,
    /// `gst-launch-1.0` and the plugin sets base, good, bad, ugly and libav.
    Gstreamer,
    /// `rtmpdump`, the old client.
    Rtmpdump,
    /// `script` of util-linux, which gives a program a terminal.
    Script,
    /// nginx with nginx-rtmp, for the control group.
    Nginx,
    /// `postgres` and `initdb`.
    Postgres,
    /// `rsyslogd` with its driver for OpenSSL.
    Rsyslog,
    /// `openssl`, which makes certificates.
    Openssl,
    /// Chromium, driven by `playwright-core` under node.
    Chromium,
    /// A Python with `moto[server]` and `standardwebhooks`.
    Python,
}

impl Tool {
    /// Where it is.
    pub(crate) fn path(self) -> Option<PathBuf> {
        match self {
            Self::Ffmpeg => {
                ["ffprobe", "ffplay"].iter().all(|name| in_path(name).is_some()).then(|| in_path("ffmpeg"))?
            }
            Self::FfmpegNew => match env::var_os("SHARDCAST_FFMPEG_NEW") {
                Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
                None => in_cache(),
            },
            Self::Gstreamer => has_elements().then(|| in_path("gst-launch-1.0"))?,
            Self::Rtmpdump => in_path("rtmpdump"),
            Self::Script => in_path("script"),
            Self::Nginx => {
                in_path("nginx").or_else(|| Some("/usr/sbin/nginx".into()).filter(|path: &PathBuf| path.is_file()))
            }
            Self::Postgres => {
                in_folders("/usr/lib/postgresql", "bin/initdb").map(|path| path.with_file_name("postgres"))
            }
            Self::Rsyslog => {
                in_folders("/usr/lib", "rsyslog/lmnsd_ossl.so")?;
                Some("/usr/sbin/rsyslogd".into()).filter(|path: &PathBuf| path.is_file())
            }
            Self::Openssl => in_path("openssl"),
            Self::Chromium => {
                let playwright = cache()?.join("node/node_modules/playwright-core/index.mjs");
                in_path("node").filter(|_| playwright.is_file())?;
                in_path("chromium").map(|_| playwright)
            }
            Self::Python => {
                let python = cache()?.join("venv/bin/python3");
                let can = Command::new(&python).args(["-c", "import moto.server, standardwebhooks"]).output();
                Some(python).filter(|_| can.is_ok_and(|done| done.status.success()))
            }
        }
    }
}

/// Whether the test can run: all of `tools` are there.
///
/// # Panics
/// If one is missing on a machine that has to have them all.
pub(crate) fn found(tools: &[Tool]) -> bool {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| tool.path().is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(env::var_os("CI").is_none(), "in CI every tool must be there, but these are not: {missing:?}");
    skip(&format!("these tools are missing: {missing:?}"));
    false
}

/// Says that this test did not run, past the test harness, which shows nothing of a test that passes.
pub(crate) fn skip(why: &str) {
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {why}", thread.name().unwrap_or("a test"));
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Whether GStreamer has what the tests use. The first call on a machine makes GStreamer look through its plugins,
/// which takes seconds: better here than while a stream is running.
fn has_elements() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let elements =
        "rtmp2src rtmpsrc rtmp2sink flvdemux flvmux h264parse avdec_h264 x264enc aacparse avdec_aac voaacenc";
    let exists = |name: &str| {
        let mut inspect = Command::new("gst-inspect-1.0");
        inspect.args(["--exists", name]).output().is_ok_and(|output| output.status.success())
    };
    *FOUND.get_or_init(|| elements.split(' ').all(exists))
}

/// What `.ci/run` has put aside.
fn cache() -> Option<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(path) => PathBuf::from(path),
        None => Path::new(&env::var_os("HOME")?).join(".cache"),
    };
    Some(cache.join("shardcast-ci"))
}

/// A file in one of the folders in a folder.
fn in_folders(folder: &str, file: &str) -> Option<PathBuf> {
    let folders = Path::new(folder).read_dir().ok()?.flatten();
    folders.map(|folder| folder.path().join(file)).find(|path| path.is_file())
}

/// The binary inside the Python package `imageio-ffmpeg`, in the virtual environment that `.ci/run` makes.
fn in_cache() -> Option<PathBuf> {
    let pythons = cache()?.join("venv/lib").read_dir().ok()?.flatten();
    let binaries = pythons.map(|python| python.path().join("site-packages/imageio_ffmpeg/binaries"));
    let mut files = binaries.filter_map(|dir| dir.read_dir().ok()).flatten().flatten().map(|entry| entry.path());
    files.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ffmpeg-")))
}
