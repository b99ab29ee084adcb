//! rsyslog, with a certificate of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use shardcast::audit::follow::{FollowerState, Roots, Syslog, SyslogOptions};

use crate::certificates::Certificates;
use crate::process::{Dir, Process, SOON, wait_for};
use crate::tools::{Tool, found};
use crate::world::{World, free_port, read_trail, trail_in};

struct Receiver {
    configuration: PathBuf,
    out: PathBuf,
    pid: PathBuf,
    port: u16,
}

impl Receiver {
    fn new(dir: &Dir, certificates: &Certificates) -> Self {
        let port = free_port();
        let (configuration, out, pid) =
            (dir.path().join("rsyslog.conf"), dir.path().join("messages"), dir.path().join("rsyslog.pid"));
        let text = format!(
            r#"global(workDirectory="{work}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
       defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{authority}"
       defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="parts" type="string"
         string="%pri%|%timestamp:::date-rfc3339%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\n")
action(type="omfile" file="{out}" template="parts" sync="on" asyncWriting="off")
"#,
            work = dir.path().display(),
            authority = certificates.authority.display(),
            certificate = certificates.certificate.display(),
            key = certificates.key.display(),
            out = out.display(),
        );
        fs::write(&configuration, text).unwrap();
        Self { configuration, out, pid, port }
    }

    fn run(&self, dir: &Dir) -> Process {
        let _ = fs::remove_file(&self.pid);
        let mut server = Command::new(Tool::Rsyslog.path().unwrap());
        server.args(["-n", "-f"]).arg(&self.configuration).arg("-i").arg(&self.pid);
        let mut process = Process::start(dir, "rsyslogd", &mut server);
        wait_for("that rsyslog listens", SOON, || {
            process.assert_running();
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
        process
    }

    /// What it wrote, by the numbers in the structured data; one that came twice must be the same.
    fn messages(&self, log: &str) -> BTreeMap<u64, String> {
        let mut messages = BTreeMap::new();
        for line in fs::read_to_string(&self.out).unwrap_or_default().lines() {
            let parts: Vec<_> = line.splitn(7, '|').collect();
            let &[priority, time, host, app, _event, data, message] = &parts[..] else { panic!("{line}") };
            assert_eq!((priority, host, app), ("110", "camera-7", "shardcast"), "{line}");
            assert!(time.starts_with("20"), "{line}");
            let start = format!("[shardcast@32473 log=\"{log}\" seq=\"");
            let seq = data.strip_prefix(&start).and_then(|rest| rest.split('"').next()).expect(line);
            let before = messages.insert(seq.parse().unwrap(), message.trim_start_matches('\u{feff}').to_owned());
            assert!(before.is_none_or(|before| before == message.trim_start_matches('\u{feff}')), "{line}");
        }
        messages
    }
}

fn syslog(port: u16, authority: &Path) -> Syslog {
    let options = SyslogOptions { address: format!("localhost:{port}"), facility: 13, hostname: "camera-7".into() };
    Syslog::new(options, &Roots::from_pem(&fs::read(authority).unwrap()).unwrap()).unwrap()
}

#[test]
fn each_record_is_a_message_also_of_a_server_that_is_killed() {
    if !found(&[Tool::Rsyslog, Tool::Openssl]) {
        return;
    }
    let dir = Dir::new();
    let trail = trail_in(&dir);
    let certificates = Certificates::new(&dir);
    let receiver = Receiver::new(&dir, &certificates);
    let mut server = receiver.run(&dir);

    let world = World::start(&trail, syslog(receiver.port, &certificates.authority));
    world.tell(50);
    world.delivered();
    server.kill();
    world.tell(120);
    world.until("that it fails", |stats| matches!(stats.state, FollowerState::Failing(_)));
    server = receiver.run(&dir);
    world.delivered();
    let _ = world.stop();
    server.signal("TERM");
    server.wait(SOON);

    let (log, lines) = read_trail(&trail);
    assert_eq!(receiver.messages(&log), lines);
}

#[test]
fn a_server_with_a_certificate_of_another_authority_gets_nothing() {
    if !found(&[Tool::Rsyslog, Tool::Openssl]) {
        return;
    }
    let (dir, other) = (Dir::new(), Dir::new());
    let trail = trail_in(&dir);
    let certificates = Certificates::new(&dir);
    let receiver = Receiver::new(&dir, &certificates);
    let _server = receiver.run(&dir);
    let world = World::start(&trail, syslog(receiver.port, &Certificates::new(&other).authority));
    world.tell(3);
    let stats = world.until("that it fails", |stats| stats.failures > 1);
    let FollowerState::Failing(why) = stats.state else { panic!("{stats:?}") };
    assert!(why.contains("certificate"), "{why}");
    assert!(fs::read_to_string(&receiver.out).unwrap_or_default().is_empty());
}
