//! One server with its port and its directory, and the programs that publish to it and play from it.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::media::{self, Media};
use crate::packets::Capture;
use crate::process::{Dir, Process, wait_for};
pub(crate) use crate::process::{SOON, now};
use crate::tools::{self, Tool};

/// How soon a player has to end by itself after its publisher.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A server of one test.
#[derive(Debug)]
pub(crate) struct World {
    // Dropped in this order: the directory goes when nothing writes into it any more.
    pub(crate) server: Process,
    pub(crate) dir: Dir,
    pub(crate) port: u16,
}

impl World {
    /// Starts the server, or says that a tool is missing.
    pub(crate) fn start(tools: &[Tool]) -> Option<Self> {
        if !is_control_group() {
            return Self::start_shardcast(tools, &[]);
        }
        tools::found(&[tools, &[Tool::Nginx]].concat()).then(|| Self::listening(nginx))
    }

    /// Starts shardcast with arguments of its own: not for the control group.
    pub(crate) fn start_shardcast(tools: &[Tool], args: &[&str]) -> Option<Self> {
        (is_shardcast_tested() && tools::found(tools))
            .then(|| Self::listening(|dir, port| shardcast(&serve_args(port, args), dir)))
    }

    /// The same with a configuration file.
    pub(crate) fn start_configured(tools: &[Tool], config: &str, args: &[&str]) -> Option<Self> {
        (is_shardcast_tested() && tools::found(tools)).then(|| {
            Self::listening(|dir, port| {
                let file = dir.file("shardcast.toml");
                fs::write(&file, config).expect("the test's directory is writable");
                let file = file.to_string_lossy().into_owned();
                shardcast(&serve_args(port, &[&["--config", &file], args].concat()), dir)
            })
        })
    }

    fn listening(start: impl Fn(&Dir, u16) -> Process) -> Self {
        // Somebody may take the port between the look and the server's own bind.
        for _ in 0..5 {
            let (dir, port) = (Dir::new(), free_port());
            let mut server = start(&dir, port);
            let listens = wait_for("that the server listens or ends", SOON, || {
                let ended = server.try_wait().is_some();
                let listens = TcpStream::connect(loopback(port)).is_ok();
                (ended || listens).then_some(listens && !ended)
            });
            if listens {
                return Self { server, dir, port };
            }
            let said = server.stderr();
            assert!(said.contains(&port.to_string()), "the server does not start: {said}");
        }
        panic!("the server finds every port taken");
    }

    /// Where clients find a stream.
    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{stream}", self.port)
    }

    /// Publishes a file at the speed of its clock.
    pub(crate) fn publish(&self, media: &Media, stream: &str) -> Publisher {
        self.publish_with(media, stream, &[])
    }

    /// The same, with further output options.
    pub(crate) fn publish_with(&self, media: &Media, stream: &str, options: &[&str]) -> Publisher {
        let mut command = Command::new(&media.ffmpeg);
        command.args("-v warning -nostdin -nostats -progress pipe:1 -stats_period 0.1 -re -i".split(' '));
        command.arg(&media.path).args(["-c", "copy"]).args(options);
        if media.enhanced {
            command.args(["-rtmp_enhanced_codecs", "hvc1,av01,vp09,Opus"]);
        }
        command.args(["-f", "flv", &self.url(stream)]);
        Publisher { process: Process::start(&self.dir, "publisher", &mut command) }
    }

    /// Plays to the end of the stream and lists what comes, on the timeline that the server gives it.
    pub(crate) fn play(&self, ffmpeg: &Path, stream: &str) -> Player {
        self.play_with(ffmpeg, stream, &["-copyts"], &[])
    }

    /// The same, for so many seconds of media.
    pub(crate) fn play_for(&self, ffmpeg: &Path, stream: &str, seconds: &str) -> Player {
        self.play_with(ffmpeg, stream, &[], &["-t", seconds])
    }

    fn play_with(&self, ffmpeg: &Path, stream: &str, input: &[&str], output: &[&str]) -> Player {
        self.play_from(ffmpeg, &self.url(stream), input, output)
    }

    /// The same from any address.
    pub(crate) fn play_from(&self, ffmpeg: &Path, url: &str, input: &[&str], output: &[&str]) -> Player {
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-nostdin"]).args(input).args(["-i", url]);
        command.args(output).args(media::listing());
        Player { process: Process::start(&self.dir, "player", &mut command) }
    }

    /// Decodes so many seconds of a stream and fails the test if there is anything to complain about.
    pub(crate) fn assert_decodes(&self, ffmpeg: &Path, stream: &str, seconds: &str) {
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-nostdin", "-i", &self.url(stream), "-t", seconds]);
        // With the time base of the frame rate ffmpeg itself would round two pictures to one time, and complain.
        command.args(["-enc_time_base:v", "1/1000", "-f", "null", "-"]);
        let mut decoder = Process::start(&self.dir, "decoder", &mut command);
        decoder.succeed(SOON);
        assert_eq!(decoder.stderr(), "", "the decoder complains");
    }

    /// Decodes a stream until it is stopped, and ends at the first error.
    pub(crate) fn decode(&self, ffmpeg: &Path, stream: &str) -> Process {
        let mut command = Command::new(ffmpeg);
        command.args(["-v", "error", "-nostdin", "-xerror", "-i", &self.url(stream)]);
        command.args(["-enc_time_base:v", "1/1000", "-f", "null", "-"]);
        Process::start(&self.dir, "decoder", &mut command)
    }

    /// What ffprobe tells of a stream, one `name=value` per line.
    pub(crate) fn probe(&self, stream: &str) -> String {
        let mut command = Command::new("ffprobe");
        let wanted = "stream=codec_name,profile,width,height,sample_rate,channels,has_b_frames";
        command.args(["-v", "error", "-of", "default=noprint_wrappers=1", "-show_entries", wanted]);
        let mut probe = Process::start(&self.dir, "ffprobe", command.arg(self.url(stream)));
        probe.succeed(SOON);
        probe.stdout()
    }

    /// A GStreamer pipeline, `launch` as for `gst-launch-1.0`.
    pub(crate) fn gstreamer(&self, name: &str, launch: &str) -> Process {
        let mut command = Command::new("gst-launch-1.0");
        Process::start(&self.dir, name, command.arg("-q").args(launch.split_whitespace()))
    }

    /// Whether somebody listens on the port.
    pub(crate) fn accepts(&self) -> bool {
        TcpStream::connect(loopback(self.port)).is_ok()
    }
}

/// An ffmpeg that publishes.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) process: Process,
}

impl Publisher {
    /// How much of its media it has sent.
    pub(crate) fn sent(&self) -> Duration {
        let progress = self.process.stdout();
        let last = progress.lines().filter_map(|line| line.strip_prefix("out_time_us=")?.parse().ok()).next_back();
        Duration::from_micros(last.unwrap_or(0))
    }

    /// Waits until it has sent so much, and returns how much it was then.
    pub(crate) fn wait_until_sent(&mut self, wanted: Duration) -> Duration {
        wait_for(&format!("that {wanted:?} of media are published"), wanted + SOON, || {
            self.process.assert_running();
            Some(self.sent()).filter(|sent| *sent >= wanted)
        })
    }
}

/// An ffmpeg that plays and lists what it gets.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) process: Process,
}

impl Player {
    /// Waits until it ends by itself; what it has received.
    pub(crate) fn finish(&mut self, limit: Duration) -> Capture {
        self.process.succeed(limit);
        assert_eq!(self.process.stderr(), "", "the player complains");
        self.so_far()
    }

    /// Waits until it has listed a packet; `false` if it ended before.
    pub(crate) fn gets_something(&mut self) -> bool {
        wait_for("that the player gets something or ends", SOON, || {
            let gets = self.so_far().tracks().iter().any(|track| !track.packets.is_empty());
            (gets || self.process.try_wait().is_some()).then_some(gets)
        })
    }

    /// The same, where it must.
    pub(crate) fn wait_until_it_gets_something(&mut self) {
        assert!(self.gets_something(), "the player ended without a packet");
    }

    /// What it has received until now.
    pub(crate) fn so_far(&self) -> Capture {
        Capture::parse(&self.process.stdout())
    }
}

/// Starts the binary under test.
pub(crate) fn shardcast(args: &[String], dir: &Dir) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    // One that is killed leaves its control socket where it goes with the test.
    Process::start(dir, "shardcast", command.args(args).env("XDG_RUNTIME_DIR", dir.path()))
}

/// `serve` on a port of loopback, and more.
pub(crate) fn serve_args(port: u16, more: &[&str]) -> Vec<String> {
    let address = loopback(port).to_string();
    let fixed = ["serve", "--rtmp", &address, "--log", "warn"];
    // The default port of HTTP is one for all tests of this machine.
    let http: &[&str] = if more.contains(&"--http") { &[] } else { &["--http", "off"] };
    let fixed = [&fixed, http].concat();
    fixed.iter().chain(more).map(|&word| word.to_owned()).collect()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(loopback(0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Whether nginx-rtmp takes shardcast's place.
pub(crate) fn is_control_group() -> bool {
    match env::var("SHARDCAST_INTEROP_AGAINST").as_deref() {
        Err(_) | Ok("" | "shardcast") => false,
        Ok("nginx-rtmp") => true,
        Ok(other) => panic!("SHARDCAST_INTEROP_AGAINST is {other:?}, neither 'shardcast' nor 'nginx-rtmp'"),
    }
}

/// Whether the server is shardcast; a test of what nginx-rtmp does not do says so and returns.
pub(crate) fn is_shardcast_tested() -> bool {
    if is_control_group() {
        tools::skip("nginx-rtmp does not do this");
    }
    !is_control_group()
}

/// What the server calls a failure.
pub(crate) fn words(shardcast: &'static str, nginx: &'static str) -> &'static str {
    if is_control_group() { nginx } else { shardcast }
}

fn nginx(dir: &Dir, port: u16) -> Process {
    let module = ["/usr/lib/nginx/modules", "/usr/share/nginx/modules"].map(|dir| PathBuf::from(dir).join(MODULE));
    let module = module.iter().find(|path| path.is_file()).expect("nginx-rtmp is installed where Debian puts it");
    let conf = dir.file("nginx.conf");
    let text = format!(
        "worker_processes 1; daemon off; master_process off; pid nginx.pid; error_log stderr error;\n\
         load_module {};\n\
         events {{ worker_connections 128; }}\n\
         rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096;\n\
         application live {{ live on; wait_key on; idle_streams off; publish_notify on; }} }} }}\n",
        module.display()
    );
    fs::write(&conf, text).expect("the test's directory is writable");
    let program = Tool::Nginx.path().expect("the test has asked for this tool");
    Process::start(dir, "nginx", Command::new(program).arg("-p").arg(dir.path()).arg("-c").arg(&conf))
}

const MODULE: &str = "ngx_rtmp_module.so";
