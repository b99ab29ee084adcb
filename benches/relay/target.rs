//! The servers that are measured, each started fresh for each run.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use super::process::{self, Guarded};

/// How many messages share one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Video leaves at once, audio with the next video frame.
    Default,
    /// All of so many milliseconds; at 0 each message is sent alone.
    Merge(u32),
}

impl FromStr for Mode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "default" => Ok(Self::Default),
            ms => ms.parse().map(Self::Merge).map_err(drop),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Merge(ms) => write!(f, "{ms}"),
        }
    }
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Our server; with more than one shard it is not pinned.
    Shardcast { program: PathBuf, shards: usize },
    /// nginx with its RTMP module.
    Nginx,
    /// The bare sends, see [`super::floor`].
    Floor,
    /// A server that runs already, with its process id if that is known.
    Running { address: SocketAddr, app: String, pid: u32 },
}

impl Target {
    /// A server somewhere: `rtmp://host:port/app`, with `#PID` behind it if its CPU time is to be read.
    pub(crate) fn running(url: &str) -> io::Result<Self> {
        let wrong = || io::Error::other(format!("{url}: expected rtmp://host:port/app or …/app#PID"));
        let (url, pid) = url.split_once('#').unwrap_or((url, "0"));
        let (host, app) = url.strip_prefix("rtmp://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
        let address = host.to_socket_addrs()?.next().ok_or_else(wrong)?;
        Ok(Self::Running { address, app: app.to_owned(), pid: pid.parse().map_err(|_| wrong())? })
    }

    /// Whether merging can be chosen.
    pub(crate) fn has_modes(&self) -> bool {
        matches!(self, Self::Shardcast { .. } | Self::Floor)
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&self, wanted: Wanted) -> io::Result<Server> {
        let Wanted { mode, connections, core, absent_waits } = wanted;
        match self {
            Self::Shardcast { program, shards } => {
                let address = free_address()?;
                let mut command = process::command(program, connections + 64)?;
                command.args(["serve", "--rtmp", &address.to_string(), "--shards", &shards.to_string()]);
                command.args(["--log", "error"]).stdin(Stdio::null()).stdout(Stdio::null());
                let scratch = Scratch::new()?;
                if absent_waits {
                    let config = scratch.0.join("shardcast.toml");
                    fs::write(&config, "[[app]]\nname = \"*\"\nabsent = \"wait 10m\"\n")?;
                    command.arg("--config").arg(config);
                }
                let core = if *shards == 1 { Some(core) } else { None };
                Server::new(Guarded::spawn(command, core)?, address, "live", Some(scratch)).wait()
            }
            Self::Nginx => {
                let address = free_address()?;
                let scratch = Scratch::new()?;
                fs::write(scratch.0.join("nginx.conf"), nginx_config(address, &scratch.0))?;
                let mut command = process::command(Path::new("nginx"), 16_384 + 64)?;
                command.arg("-p").arg(&scratch.0).arg("-c").arg(scratch.0.join("nginx.conf"));
                command.arg("-e").arg(scratch.0.join("error.log")).stdin(Stdio::null());
                Server::new(Guarded::spawn(command, Some(core))?, address, "live", Some(scratch)).wait()
            }
            Self::Floor => {
                let mut command = process::command(&std::env::current_exe()?, connections + 64)?;
                command.args(["floor", "--players", &connections.to_string(), "--mode", &mode.to_string()]);
                let mut child = Guarded::spawn(
                    {
                        command.stdout(Stdio::piped());
                        command
                    },
                    Some(core),
                )?;
                let mut line = String::new();
                if let Some(stdout) = child.0.stdout.take() {
                    BufReader::new(stdout).read_line(&mut line)?;
                }
                let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
                let port: u16 = port.ok_or_else(|| io::Error::other("the floor did not start"))?;
                Ok(Server::new(child, SocketAddr::from(([127, 0, 0, 1], port)), "", None))
            }
            Self::Running { address, app, pid } => {
                Ok(Server { child: None, pid: *pid, address: *address, app: app.clone(), _scratch: None })
            }
        }
    }

    /// The stream name that a viewer asks for.
    pub(crate) fn play_name(&self, stream: &str, mode: Mode) -> String {
        match (self, mode) {
            (Self::Shardcast { .. }, Mode::Merge(ms)) => format!("{stream}?merge_ms={ms}"),
            _ => stream.to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shardcast { shards: 1, .. } => f.write_str("shardcast"),
            Self::Shardcast { shards, .. } => write!(f, "shardcast/{shards}"),
            Self::Nginx => f.write_str("nginx-rtmp"),
            Self::Floor => f.write_str("floor"),
            Self::Running { address, app, .. } => write!(f, "{address}/{app}"),
        }
    }
}

/// How a server is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    /// Where it is pinned to.
    pub(crate) core: usize,
    /// Whether who asks for a stream that is not there is kept, where that can be chosen.
    pub(crate) absent_waits: bool,
}

/// A server that runs; stopped and its files removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Guarded>,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    pub(crate) app: String,
    _scratch: Option<Scratch>,
}

impl Server {
    fn new(child: Guarded, address: SocketAddr, app: &str, scratch: Option<Scratch>) -> Self {
        Self { pid: child.pid(), child: Some(child), address, app: app.to_owned(), _scratch: scratch }
    }

    /// Waits until it accepts.
    fn wait(mut self) -> io::Result<Self> {
        for _ in 0..500 {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(self);
            }
            if self.child.as_mut().is_some_and(|child| !child.is_alive()) {
                return Err(io::Error::other("the server ended at once"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::other("the server did not listen within 5 s"))
    }
}

/// A directory of our own.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("shardcast-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Whether nginx and its RTMP module are installed.
pub(crate) fn has_nginx() -> bool {
    let runs = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    runs && Path::new(NGINX_MODULE).exists()
}

const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// One process, so that its id is all of it; nothing recorded; as shipped but for the length of its queues.
fn nginx_config(address: SocketAddr, scratch: &Path) -> String {
    let scratch = scratch.display();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {scratch}/nginx.pid;\n\
         error_log {scratch}/error.log error;\nload_module {NGINX_MODULE};\n\
         events {{ worker_connections 16384; }}\n\
         rtmp {{\n  out_queue 4096;\n  server {{\n    listen {address};\n\
         \x20   application live {{ live on; record off; }}\n  }}\n}}\n"
    )
}

/// A port that nobody has at this moment.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
