//! The configuration as a whole: defaults, the example, contradictions, and what each error says.

use std::path::PathBuf;

use shardcast::protocol::{Merge, Start};
use shardcast::stream::{Absent, Conflict, GopCache};

use super::*;
use crate::cli::config_command::EXAMPLE;

fn load(text: &str) -> Result<ServerConfig, Vec<String>> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<ServerConfig, Vec<String>> {
    ServerConfig::from_text(text, Path::new("/nowhere"), overrides)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn one_problem(text: &str) -> String {
    let mut problems = load(text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn nothing_given_is_loopback_with_every_application_and_the_cache_on() {
    let config = load("").unwrap();
    assert_eq!(config.rtmp, ["127.0.0.1:1935".parse().unwrap()]);
    assert_eq!(config.apps, [AppSpec::new("*")]);
    assert!(config.apps[0].gop_cache.frames > 0);
    assert_eq!((config.shards, config.idle, config.log), (None, Idle::Park, LogLevel::Info));
    assert!(config.access.authenticator().is_none() && config.data.is_none());
}

#[test]
fn the_example_is_the_default_with_every_key() {
    let (example, default) = (load(EXAMPLE).unwrap(), load("").unwrap());
    let access = std::mem::take(&mut example.clone().access);
    assert!(!access.open && !access.is_guarded());
    assert_eq!(format!("{example:?}"), format!("{default:?}"));
    for key in limits::KEYS {
        assert!(EXAMPLE.contains(&format!("\n{key} = ")), "{key}");
    }
}

#[test]
fn the_lines_of_the_example_that_are_commented_out_are_valid_but_for_their_files() {
    let uncommented: Vec<_> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let problems = load(&uncommented.join("\n")).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[1].contains("auth.user[1].password_file cannot be read: /nowhere/studio.password: "),
        "{problems:?}"
    );
    assert!(
        problems[2].contains("auth.token_key[1].secret_file cannot be read: /nowhere/web.secret: "),
        "{problems:?}"
    );
    assert!(problems[0].contains("app[1].filler cannot be used: /nowhere/slate.flv: "), "{problems:?}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let problems = load("log = \"loud\"\n[router]\nshards = 0\n[limits]\nconnections = -1\nfoo = 1\n").unwrap_err();
    assert_eq!(
        problems[..3],
        [
            "line 1: log must be \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", not \"loud\"",
            "line 3: router.shards must be \"auto\" or a whole number from 1 to 256, not 0",
            "line 5: limits.connections must be a whole number from 1 to 16777216, not -1",
        ]
    );
    assert!(
        problems[3].starts_with("line 6: limits.foo is unknown here; known are: memory, connections, "),
        "{problems:?}"
    );
}

#[test]
fn each_error_names_its_key_and_says_what_is_allowed() {
    for (text, expected) in [
        ("[listen", "line 1: this is not TOML: "),
        (
            "lissen = 1",
            "line 1: lissen is unknown here; known are: data, log, control, router, listen, audit, record, limits, app, auth",
        ),
        ("[[router]]", "line 1: router must be a table: [router]"),
        ("listen = 1", "line 1: listen must be a table: [listen]"),
        ("[app]\nname = \"x\"", "line 1: app must be given as one [[app]] for each"),
        ("app = [1]", "line 1: app must be given as one [[app]] for each"),
        ("[router]\nshards = 257", "line 2: router.shards must be \"auto\" or a whole number from 1 to 256, not 257"),
        ("[router]\nidle = \"sleep\"", "line 2: router.idle must be \"park\", \"spin\" or a time up to \"1s\""),
        ("[router]\nidle = \"2s\"", "line 2: router.idle must be \"park\", \"spin\" or a time up to \"1s\""),
        (
            "[router]\ndrain = 10",
            "line 2: router.drain must be a time from \"0s\" to \"1h\" in us, ms, s, m or h, not 10",
        ),
        (
            "[listen]\nrtmp = \"127.0.0.1:1935\"",
            "line 2: listen.rtmp must be a list such as [\"…\"], not \"127.0.0.1:1935\"",
        ),
        ("[listen]\nrtmp = [\"localhost\"]", "line 2: listen.rtmp must be an address and a port, such as"),
        ("[listen]\nrtmp = []", "listen.rtmp must name at least one address"),
        ("[[app]]\n", "line 1: app[1].name is missing: "),
        (
            "[[app]]\nname = \"a b\"",
            "line 2: app[1].name must be \"*\" or a name out of A-Z a-z 0-9 _ . ~ -, not \"a b\"",
        ),
        ("[[app]]\nname = \"a/b\"", "line 2: app[1].name must be "),
        ("[[app]]\nname = \"a\"\n[[app]]\nname = \"a\"", "line 4: app[2].name is there twice"),
        ("[[app]]\nname = \"a\"\ngop_cache = 5", "line 3: app[1].gop_cache must be a table"),
        (
            "[[app]]\nname = \"a\"\ngop_cache = { frames = -1 }",
            "line 3: app[1].gop_cache.frames must be a whole number from 0 to 1000000, not -1",
        ),
        (
            "[[app]]\nname = \"a\"\ngop_cache = { size = 1 }",
            "line 3: app[1].gop_cache.size is unknown here; known are: frames, bytes, age",
        ),
        (
            "[[app]]\nname = \"a\"\nmax_age = \"0s\"",
            "line 3: app[1].max_age must be a time from \"100ms\" to \"10m\"",
        ),
        (
            "[[app]]\nname = \"a\"\nevict_lost = \"11s\"",
            "line 3: app[1].evict_lost must not be longer than evict_window",
        ),
        (
            "[[app]]\nname = \"a\"\nmerge = \"3s\"",
            "line 3: app[1].merge must be \"audio-rides\", \"off\" or a time from \"1ms\" to \"2s\"",
        ),
        (
            "[[app]]\nname = \"a\"\nstart = \"behind\"",
            "line 3: app[1].start must be \"instant\", \"live\", \"catch-up\" or \"behind 30s\" (up to 10m), not \"behind\"",
        ),
        (
            "[[app]]\nname = \"a\"\nstart = \"behind 30s\"\ndelay_max = \"10s\"",
            "line 3: app[1].start is farther behind than delay_max, so that nobody could play",
        ),
        ("[[app]]\nname = \"a\"\nabsent = \"wait\"", "line 3: app[1].absent must be \"refuse\" or \"wait 10s\""),
        (
            "[[app]]\nname = \"a\"\nconflict = \"fight\"",
            "line 3: app[1].conflict must be \"refuse\", \"take-over\" or \"backup\", not \"fight\"",
        ),
        ("[auth]\nopen = 1", "line 2: auth.open must be true or false, not 1"),
        (
            "[[auth.user]]\nname = \"eve\"",
            "line 1: auth.user[1].password is missing, and so is password_file: give one of them",
        ),
        ("[[auth.user]]\npassword = \"x\"", "line 1: auth.user[1].name is missing"),
        (
            "[[auth.user]]\nname = \"eve\"\npassword = \"\"",
            "line 2: auth.user[1].name \"eve\" cannot be added: the password",
        ),
        (
            "[[auth.user]]\nname = \"eve\"\npassword = \"x\"\nplay = [\"live\"]",
            "line 4: auth.user[1].play must hold \"app/name\", \"app/*\" or \"*\"",
        ),
        (
            "[[auth.user]]\nname = \"eve\"\npassword = \"x\"\n[[auth.user]]\nname = \"eve\"\npassword = \"y\"",
            "line 5: auth.user[2].name \"eve\" cannot be added: there is a user of this name already",
        ),
        (
            "[[auth.token_key]]\nid = \"web\"\nsecret = \"short\"",
            "line 2: auth.token_key[1].id \"web\" cannot be used: the secret of a token key must have at least 16 bytes",
        ),
        (
            "[[auth.token_key]]\nid = \"web\"\nsecret_file = \"/nonexistent\"",
            "line 3: auth.token_key[1].secret_file cannot be read: /nonexistent: ",
        ),
    ] {
        let problem = one_problem(text);
        assert!(problem.starts_with(expected), "{text:?}\n  gives   {problem}\n  not     {expected}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn two_listeners_of_one_port_are_refused() {
    for (one, other, free) in [
        ("127.0.0.1:1935", "127.0.0.1:1935", false),
        ("127.0.0.1:1935", "0.0.0.0:1935", false),
        ("[::]:1935", "0.0.0.0:1935", false),
        ("[::]:1935", "127.0.0.1:1935", false),
        ("[::ffff:127.0.0.1]:1935", "127.0.0.1:1935", false),
        ("127.0.0.1:1935", "127.0.0.1:1936", true),
        ("127.0.0.1:1935", "127.0.0.2:1935", true),
        ("0.0.0.0:1935", "[::1]:1935", true),
        ("127.0.0.1:0", "127.0.0.1:0", true),
    ] {
        let read = load(&format!("[listen]\nrtmp = [\"{one}\", \"{other}\"]\n[auth]\nopen = true"));
        assert_eq!(read.is_ok(), free, "{one} {other}: {read:?}");
        if let Err(problems) = read {
            let expected = format!("listen.rtmp must not name one port twice: {one} and {other} overlap; remove one");
            assert_eq!(problems, [expected]);
        }
    }
}

#[test]
fn what_other_machines_can_reach_needs_a_guard_or_a_word() {
    let key = "\n[[auth.token_key]]\nid = \"web\"\nsecret = \"0123456789abcdef\"";
    for address in ["0.0.0.0:1935", "[::]:1935", "192.0.2.1:1935", "[::ffff:192.0.2.1]:1935"] {
        let listen = format!("[listen]\nrtmp = [\"{address}\"]");
        let problem = one_problem(&listen);
        assert!(problem.contains(address) && problem.contains("--open"), "{problem}");
        assert!(load(&format!("{listen}{key}")).is_ok());
        assert!(load(&format!("{listen}\n[auth]\nopen = true")).is_ok());
        assert!(load_with(&listen, &Overrides { open: true, ..Overrides::default() }).is_ok());
    }
    for address in ["127.0.0.1:1935", "[::1]:1935", "127.1.2.3:1935", "[::ffff:127.0.0.1]:1935"] {
        assert!(load(&format!("[listen]\nrtmp = [\"{address}\"]")).is_ok(), "{address}");
    }
    assert!(
        one_problem(&format!("[auth]\nopen = true{key}")).starts_with("auth.open (or --open) must not stand beside")
    );
}

#[test]
fn nobody_is_promised_to_be_on_record_where_no_record_is_kept() {
    let text = "[[app]]\nname = \"court\"\ndurable = \"before-effect\"\n";
    let problem = one_problem(text);
    assert!(problem.contains("court") && problem.contains("--data DIR"), "{problem}");
    assert!(load(&format!("data = \"d\"\n{text}")).is_ok());
    assert!(load_with(text, &Overrides { data: Some("d".into()), ..Overrides::default() }).is_ok());
    let wrong = one_problem("[audit]\non_decision_loss = \"ignore\"\n");
    assert!(wrong.contains("\"continue\", \"refuse-new\" or \"halt\", not \"ignore\""), "{wrong}");
}

#[test]
fn the_command_line_stands_above_the_file() {
    let overrides = Overrides {
        rtmp: vec!["127.0.0.1:2000".parse().unwrap()],
        shards: Some(3),
        idle: Some(Idle::Spin),
        drain: Some(Duration::from_secs(1)),
        data: Some(PathBuf::from("d")),
        log: Some(LogLevel::Debug),
        ..Overrides::default()
    };
    let config = load_with(
        "data = \"x\"\nlog = \"off\"\n[router]\nshards = 1\n[listen]\nrtmp = [\"127.0.0.1:1\"]",
        &overrides,
    )
    .unwrap();
    assert_eq!((config.rtmp, config.shards, config.idle), (overrides.rtmp, Some(3), Idle::Spin));
    assert_eq!((config.drain, config.data, config.log), (Duration::from_secs(1), Some("d".into()), LogLevel::Debug));
}

#[test]
fn an_application_says_how_its_streams_behave() {
    let text = "[[app]]\nname = \"live\"\ngop_cache = false\nmax_age = \"1s\"\nmax_bytes = \"1MiB\"\nevict_window = \"5s\"\n\
                start = \"behind 30s\"\ndelay_max = \"1m\"\n\
                merge = \"50ms\"\nrepublish_grace = \"10s\"\nabsent = \"wait 2m\"\nconflict = \"backup\"\n\
                stall_after = \"700ms\"\nreturn_after = \"never\"";
    let app = load(text).unwrap().apps.remove(0);
    assert_eq!((&*app.name, app.gop_cache), ("live", GopCache::OFF));
    assert_eq!((app.lag.max_age, app.lag.max_bytes), (Duration::from_secs(1), 1 << 20));
    assert_eq!((app.lag.evict_window, app.lag.evict_lost), (Duration::from_secs(5), Duration::from_secs(5)));
    assert_eq!((app.start, app.delay_max), (Start::Behind(Duration::from_secs(30)), Duration::from_secs(60)));
    assert_eq!(app.merge, Merge::Window(Duration::from_millis(50)));
    assert_eq!(app.republish_grace, Duration::from_secs(10));
    assert_eq!((app.absent, app.conflict), (Absent::Wait(Duration::from_secs(120)), Conflict::Backup));
    assert_eq!((app.stall_after, app.return_after), (Duration::from_millis(700), None));
}

#[test]
fn a_filler_that_cannot_be_shown_is_refused_with_its_file() {
    let problems = load("[[app]]\nname = \"live\"\nfiller = \"/nowhere/slate.flv\"").unwrap_err();
    let expected = "line 3: app[1].filler cannot be used: /nowhere/slate.flv: ";
    assert!(problems[0].starts_with(expected), "{problems:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error =
        ServerConfig::load(Some(Path::new("/nonexistent/shardcast.toml")), &Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/shardcast.toml: cannot be read: "), "{error}");
}

#[test]
fn no_secret_is_printed_with_the_configuration() {
    let text = "[[auth.user]]\nname = \"eve\"\npassword = \"planted-secret\"\n[[auth.token_key]]\nid = \"web\"\nsecret = \"planted-secret-0123456789\"";
    let config = load(text).unwrap();
    assert_eq!((config.access.users, config.access.token_keys.len()), (1, 1));
    assert!(!format!("{config:?}").contains("planted"));
    // Nor with an error beside it.
    let problems = load(&format!("{text}\nkey = 1")).unwrap_err();
    assert!(!problems.concat().contains("planted"), "{problems:?}");
}
