//! Who is measured: servers that are started fresh for each run, the floor, and servers that run already.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::error::RelayError;
use super::plan::{Plan, Said, Sends};
use super::process::{self, Guarded};
use super::settings::{Merge, Programs};
use super::talk::Part;
use super::url::Url;

/// Who is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Our server, started for each run; with more than one shard it is not pinned.
    Shardcast {
        /// Its shards.
        shards: usize,
    },
    /// nginx with its RTMP module, started for each run.
    Nginx,
    /// No server: a bare loop of the sends that none could avoid.
    Floor,
    /// A server that runs already, here or elsewhere.
    Running(Url),
}

impl Subject {
    /// Whether its merging can be chosen.
    pub(crate) const fn merges(&self) -> bool {
        matches!(self, Self::Shardcast { .. } | Self::Floor)
    }

    /// Whether it can be started here.
    pub(crate) fn is_there(&self, programs: &Programs) -> Result<(), RelayError> {
        match self {
            Self::Shardcast { .. } if !programs.shardcast.is_file() => {
                Err(RelayError::NoProgram { path: programs.shardcast.clone() })
            }
            Self::Nginx if !has_nginx() => Err(RelayError::NotStarted {
                name: self.to_string(),
                why: "nginx with its RTMP module is not installed (Debian: libnginx-mod-rtmp)".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&self, programs: &Programs, wanted: Wanted) -> Result<Server, RelayError> {
        match self {
            Self::Shardcast { shards } => self.start_shardcast(*shards, programs, wanted),
            Self::Nginx => self.start_nginx(wanted),
            Self::Floor => start_floor(programs, wanted),
            Self::Running(url) => Ok(Server {
                child: None,
                bare: false,
                family: url.pid.map(process::family).unwrap_or_default(),
                address: url.address,
                host: url.host.clone(),
                app: url.app.clone(),
                _scratch: None,
            }),
        }
    }

    /// The names of the streams, to publish and to play, with their queries.
    pub(crate) fn names(&self, streams: u32, merge: Merge) -> (Vec<String>, Vec<String>) {
        let (name, query) = match self {
            Self::Running(url) => (url.name.as_deref().unwrap_or(STREAM), url.query.as_deref()),
            _ => (STREAM, None),
        };
        let with = |number: u32, query: Option<String>| {
            let number = if streams == 1 { String::new() } else { format!("-{number}") };
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            format!("{name}{number}{query}")
        };
        let play = match (self, merge) {
            (Self::Shardcast { .. }, Merge::Window(ms)) => Some(format!("merge_ms={ms}")),
            _ => query.map(str::to_owned),
        };
        let all = 0..streams;
        let publish = all.clone().map(|number| with(number, query.map(str::to_owned)));
        (publish.collect(), all.map(|number| with(number, play.clone())).collect())
    }

    fn start_shardcast(&self, shards: usize, programs: &Programs, wanted: Wanted) -> Result<Server, RelayError> {
        let address = free_address()?;
        let mut command = process::command(&programs.shardcast, wanted.connections + 64)?;
        command.args(["serve", "--rtmp", &address.to_string(), "--shards", &shards.to_string()]);
        command.args(["--log", "error"]).stdin(Stdio::null()).stdout(Stdio::null());
        // Not what the environment of the one who measures says.
        for name in ["SHARDCAST_CONFIG", "SHARDCAST_DATA", "SHARDCAST_LOG"] {
            command.env_remove(name);
        }
        let scratch = Scratch::new()?;
        let config = scratch.0.join("shardcast.toml");
        let absent = if wanted.absent_waits { "absent = \"wait 10m\"\n" } else { "" };
        fs::write(&config, format!("[[app]]\nname = \"*\"\n{absent}"))
            .map_err(RelayError::system("configuration"))?;
        command.arg("--config").arg(config);
        let core = (shards == 1).then_some(wanted.core);
        self.spawn(command, core, address, scratch)
    }

    fn start_nginx(&self, wanted: Wanted) -> Result<Server, RelayError> {
        let address = free_address()?;
        let scratch = Scratch::new()?;
        let config = scratch.0.join("nginx.conf");
        let text = nginx_config(address, wanted.connections, &scratch.0);
        fs::write(&config, text).map_err(RelayError::system("configuration"))?;
        let mut command = process::command(Path::new("nginx"), wanted.connections + 64)?;
        command.arg("-p").arg(&scratch.0).arg("-c").arg(config);
        command.arg("-e").arg(scratch.0.join("error.log")).stdin(Stdio::null());
        self.spawn(command, Some(wanted.core), address, scratch)
    }

    fn spawn(
        &self,
        command: Command,
        core: Option<usize>,
        address: SocketAddr,
        scratch: Scratch,
    ) -> Result<Server, RelayError> {
        let not = |why: String| RelayError::NotStarted { name: self.to_string(), why };
        let mut child = Guarded::spawn(command, core).map_err(|error| not(error.to_string()))?;
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                let family = process::family(child.pid());
                let (child, bare, host) = (Some(Child::Server(child)), false, address.to_string());
                return Ok(Server {
                    child,
                    bare,
                    family,
                    address,
                    host,
                    app: "live".into(),
                    _scratch: Some(scratch),
                });
            }
            if !child.is_alive() {
                return Err(not("it ended at once".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(not("it did not listen within 5 s".into()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shardcast { shards: 1 } => f.write_str("shardcast"),
            Self::Shardcast { shards } => write!(f, "shardcast, {shards} shards"),
            Self::Nginx => f.write_str("nginx-rtmp"),
            Self::Floor => f.write_str("floor"),
            Self::Running(url) => write!(f, "{}/{}", url.host, url.app),
        }
    }
}

/// How a server is to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) merge: Merge,
    pub(crate) streams: u32,
    pub(crate) kbps: u32,
    /// Viewers, or connections of other kinds, and their publishers.
    pub(crate) connections: usize,
    /// Viewers that the floor waits for.
    pub(crate) players: usize,
    /// Where it is pinned to.
    pub(crate) core: usize,
    /// Whether who asks for a stream that is not there is kept, where that can be chosen.
    pub(crate) absent_waits: bool,
}

/// A server that runs; one that we started is stopped and its files are removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    /// It makes the streams itself and sends bare chunks.
    pub(crate) bare: bool,
    /// Its processes, if they are here and known.
    pub(crate) family: Vec<u32>,
    pub(crate) address: SocketAddr,
    /// As clients call it.
    pub(crate) host: String,
    pub(crate) app: String,
    _scratch: Option<Scratch>,
}

/// What we started.
#[derive(Debug)]
enum Child {
    Server(Guarded),
    Floor(#[expect(dead_code, reason = "held, so that it lives as long")] Part),
}

impl Server {
    /// Whether it runs, as far as we can know.
    pub(crate) fn is_alive(&mut self) -> bool {
        match &mut self.child {
            Some(Child::Server(child)) => child.is_alive(),
            // What the floor has to say, its viewers notice.
            Some(Child::Floor(_)) | None => true,
        }
    }

    /// Whether it was started by us, and so is where we pinned it.
    pub(crate) fn is_ours(&self) -> bool {
        self.child.is_some()
    }
}

/// The name that is published where the user gives none.
const STREAM: &str = "bench";
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

fn start_floor(programs: &Programs, wanted: Wanted) -> Result<Server, RelayError> {
    let Wanted { merge, streams, kbps, connections, players, core, .. } = wanted;
    let plan = Plan::Floor(Sends { players, streams, kbps, merge });
    let mut part = Part::start(programs, &plan, core, connections + 64)?;
    let port = match part.hear()? {
        Said::Listening(port) => port,
        other => return Err(part.unexpected(&other)),
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let family = vec![part.pid()];
    let child = Some(Child::Floor(part));
    Ok(Server { child, bare: true, family, address, host: address.to_string(), app: String::new(), _scratch: None })
}

/// Whether nginx and its RTMP module are installed.
fn has_nginx() -> bool {
    let runs = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    runs && Path::new(NGINX_MODULE).exists()
}

/// One process, so that its id is all of it; nothing recorded; as shipped but for the length of its queues.
fn nginx_config(address: SocketAddr, connections: usize, scratch: &Path) -> String {
    let (scratch, connections) = (scratch.display(), connections + 64);
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {scratch}/nginx.pid;\n\
         error_log {scratch}/error.log error;\nload_module {NGINX_MODULE};\n\
         events {{ worker_connections {connections}; }}\n\
         rtmp {{\n  out_queue 4096;\n  server {{\n    listen {address};\n\
         \x20   application live {{ live on; record off; }}\n  }}\n}}\n"
    )
}

/// A port that nobody has at this moment.
fn free_address() -> Result<SocketAddr, RelayError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map_err(RelayError::system("no port of the loopback is free"))
}

/// A directory of our own, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, RelayError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shardcast-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(RelayError::system(format!("cannot make {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_names_with_what_their_server_wants_to_be_told() {
        let ours = Subject::Shardcast { shards: 1 };
        let names = |subject: &Subject, streams, merge| {
            let (publish, play) = subject.names(streams, merge);
            format!("{} {}", publish.join(","), play.join(","))
        };
        assert_eq!(names(&ours, 1, Merge::AudioRides), "bench bench");
        assert_eq!(names(&ours, 2, Merge::Window(20)), "bench-0,bench-1 bench-0?merge_ms=20,bench-1?merge_ms=20");
        let theirs = Subject::Running("rtmp://127.0.0.1/live/cam?key=1".parse().unwrap());
        assert_eq!(names(&theirs, 2, Merge::AudioRides), "cam-0?key=1,cam-1?key=1 cam-0?key=1,cam-1?key=1");
    }
}
