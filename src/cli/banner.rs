//! What the server says when it is up: addresses, what to publish and play with, cores, and where the audit goes.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use shardcast::id::StreamKey;

use super::config::ServerConfig;

/// What is known only when the router runs.
#[derive(Debug)]
pub(super) struct Running<'a> {
    /// Protocol and address of each listener; ports are real ones.
    pub(super) listeners: &'a [(&'static str, SocketAddr)],
    /// The core of each shard, `None` where it is not pinned.
    pub(super) cores: &'a [Option<usize>],
    /// The folder that the audit trail is written to.
    pub(super) audit: Option<&'a Path>,
    /// The socket that `shardcast top` asks.
    pub(super) control: Option<&'a Path>,
    /// The stream of the demo.
    pub(super) demo: Option<&'a StreamKey>,
}

/// The text that is printed at the start.
pub(super) fn banner(config: &ServerConfig, running: &Running<'_>) -> String {
    let mut said = format!("shardcast {} is up\n", env!("CARGO_PKG_VERSION"));
    // Writing to a string cannot fail.
    for (protocol, address) in running.listeners {
        let _ = writeln!(said, "  {protocol:<9}{address}");
    }
    let _ = writeln!(said, "  access   {}", access(config));
    let _ = writeln!(said, "  shards   {}", shards(running.cores));
    let _ = match running.audit {
        Some(path) => writeln!(said, "  audit    {}", path.display()),
        None => writeln!(said, "  audit    not kept: give --data DIR"),
    };
    if let Some(path) = running.control {
        let _ = writeln!(said, "  control  {}: see `shardcast top`", path.display());
    }
    if let Some((_, address)) = running.listeners.iter().find(|(protocol, _)| *protocol == "rtmp") {
        let place = reachable(*address);
        let demo = running.demo.map(ToString::to_string);
        let stream = demo.clone().unwrap_or_else(|| format!("{}/demo", app(config)));
        let url = format!("rtmp://{place}/{stream}");
        match demo {
            Some(_) => {
                let _ = write!(
                    said,
                    "
Watch the demo with
  {}
",
                    play(&url, &stream, config)
                );
            }
            None => {
                let _ = write!(
                    said,
                    "
Publish a test picture with
  {}
",
                    publish(&url, &stream, config)
                );
                let _ = write!(
                    said,
                    "and play it with
  {}
",
                    play(&url, &stream, config)
                );
            }
        }
        if let Some((_, address)) = running.listeners.iter().find(|(protocol, _)| *protocol == "http") {
            let url = format!("http://{}/watch/{stream}", reachable(*address));
            let _ = write!(
                said,
                "or in a browser at
  {}
",
                with_credentials(&url, "play", &stream, config)
            );
        }
    }
    said
}

fn access(config: &ServerConfig) -> String {
    let access = &config.access;
    match (access.users, access.token_keys.len()) {
        (0, 0) if access.open => "open: everybody may publish and play".into(),
        (0, 0) => "everybody on this machine may publish and play".into(),
        (users, 0) => format!("{users} user(s)"),
        (0, keys) => format!("tokens of {keys} key(s)"),
        (users, keys) => format!("{users} user(s), tokens of {keys} key(s)"),
    }
}

fn shards(cores: &[Option<usize>]) -> String {
    let cores_known: Option<Vec<_>> = cores.iter().map(|core| core.map(|core| core.to_string())).collect();
    match cores_known {
        Some(known) if known.len() == 1 => format!("1, on core {}", known[0]),
        Some(known) => format!("{}, on cores {}", known.len(), known.join(" ")),
        None => format!("{}, not pinned to cores", cores.len()),
    }
}

fn publish(url: &str, stream: &str, config: &ServerConfig) -> String {
    format!(
        "ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
         -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 60 -b:v 2500k -c:a aac -b:a 128k \
         -f flv {}",
        with_credentials(url, "publish", stream, config)
    )
}

fn play(url: &str, stream: &str, config: &ServerConfig) -> String {
    format!("ffplay -fflags nobuffer {}", with_credentials(url, "play", stream, config))
}

/// The URL with a place for what the server will ask for.
fn with_credentials(url: &str, action: &str, stream: &str, config: &ServerConfig) -> String {
    if !config.access.token_keys.is_empty() {
        return format!("\"{url}?token=$(shardcast token --action {action} --stream {stream} --expires 1h …)\"");
    }
    if config.access.users > 0 {
        return format!("\"{url}?user=NAME&password=PASSWORD\"");
    }
    url.into()
}

/// An application that exists.
fn app(config: &ServerConfig) -> &str {
    match config.apps.iter().find(|app| &*app.name == "live").or_else(|| config.apps.first()) {
        Some(app) if &*app.name != "*" => &app.name,
        _ => "live",
    }
}

/// The address as a client on this machine writes it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::super::config::Overrides;
    use super::*;

    fn config() -> ServerConfig {
        ServerConfig::load(None, &Overrides::default()).unwrap()
    }

    fn running(listeners: &[(&'static str, SocketAddr)]) -> String {
        banner(&config(), &Running { listeners, cores: &[Some(0), Some(2)], audit: None, control: None, demo: None })
    }

    #[test]
    fn it_says_where_what_and_how() {
        let said = running(&[("rtmp", "127.0.0.1:1935".parse().unwrap())]);
        for expected in [
            "  rtmp     127.0.0.1:1935\n",
            "  access   everybody on this machine may publish and play\n",
            "  shards   2, on cores 0 2\n",
            "  audit    not kept: give --data DIR\n",
            "ffmpeg -re -f lavfi -i testsrc2=",
            " -f flv rtmp://127.0.0.1:1935/live/demo\n",
            "  ffplay -fflags nobuffer rtmp://127.0.0.1:1935/live/demo\n",
        ] {
            assert!(said.contains(expected), "{expected:?} in\n{said}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_shown_by_one_that_can_be_reached() {
        let said = running(&[("rtmp", "0.0.0.0:1936".parse().unwrap())]);
        assert!(said.contains("rtmp://127.0.0.1:1936/live/demo"), "{said}");
        let said = running(&[("rtmp", "[::]:1936".parse().unwrap())]);
        assert!(said.contains("rtmp://[::1]:1936/live/demo"), "{said}");
    }

    #[test]
    fn with_the_demo_there_is_nothing_to_publish_but_something_to_watch() {
        let demo = StreamKey::parse("studio/clock").unwrap();
        let listeners = [("rtmp", "0.0.0.0:1935".parse().unwrap())];
        let running =
            Running { listeners: &listeners, cores: &[Some(0)], audit: None, control: None, demo: Some(&demo) };
        let said = banner(&config(), &running);
        assert!(said.ends_with("  ffplay -fflags nobuffer rtmp://127.0.0.1:1935/studio/clock\n"), "{said}");
        assert!(!said.contains("ffmpeg"), "{said}");
    }

    #[test]
    fn where_keys_are_asked_for_the_commands_show_their_place() {
        let mut config = config();
        config.access.token_keys = vec![shardcast::extension::TokenKey::new("web", b"0123456789abcdef").unwrap()];
        let listeners = [("rtmp", "127.0.0.1:1935".parse().unwrap())];
        let audit = Some(Path::new("data/audit"));
        let said = banner(
            &config,
            &Running {
                listeners: &listeners,
                cores: &[None],
                audit,
                control: Some(Path::new("data/control.sock")),
                demo: None,
            },
        );
        assert!(said.contains("/live/demo?token=$(shardcast token --action play --stream live/demo "), "{said}");
        assert!(said.contains("  access   tokens of 1 key(s)\n"), "{said}");
        assert!(said.contains("  shards   1, not pinned to cores\n"), "{said}");
        assert!(said.contains("  audit    data/audit\n"), "{said}");
        assert!(said.contains("  control  data/control.sock: see `shardcast top`\n"), "{said}");
        assert!(!said.contains("0123456789abcdef"));
    }

    #[test]
    fn the_commands_name_an_application_that_exists() {
        let mut config = config();
        config.apps[0].name = "studio".into();
        let listeners = [("rtmp", "127.0.0.1:1935".parse().unwrap())];
        let said = banner(
            &config,
            &Running { listeners: &listeners, cores: &[Some(0)], audit: None, control: None, demo: None },
        );
        assert!(said.contains("rtmp://127.0.0.1:1935/studio/demo"), "{said}");
        assert!(said.contains("  shards   1, on core 0\n"), "{said}");
    }
}
