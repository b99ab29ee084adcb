//! PostgreSQL, in a folder of the test, on a Unix socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use shardcast::audit::follow::{FollowerState, Postgres};

use crate::process::{Dir, Process, SOON, wait_for};
use crate::tools::{Tool, found};
use crate::world::{World, read_trail, trail_in};

struct Database {
    process: Process,
    home: PathBuf,
}

impl Database {
    /// A cluster in a folder that its user owns: PostgreSQL refuses to run as root.
    fn new(dir: &Dir) -> Self {
        // The path of a Unix socket has 107 bytes at most.
        let home = std::env::temp_dir().join(format!("shardcast-pg-{}-{}", std::process::id(), line!()));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).unwrap();
        if is_root() {
            assert!(Command::new("chown").args(["postgres"]).arg(&home).status().unwrap().success());
        }
        let mut init = as_its_user("initdb");
        init.args(["--no-sync", "--auth=trust", "--username=owner", "-D"]).arg(home.join("data"));
        Process::start(dir, "initdb", &mut init).succeed(2 * SOON);
        let process = Self::run(dir, &home);
        Self { process, home }
    }

    fn run(dir: &Dir, home: &Path) -> Process {
        let mut server = as_its_user("postgres");
        server.arg("-D").arg(home.join("data")).arg("-k").arg(home);
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        let mut process = Process::start(dir, "postgres", &mut server);
        wait_for("that PostgreSQL answers", 2 * SOON, || {
            process.assert_running();
            PgConnection::establish(&address(home, "owner")).ok()
        });
        process
    }

    /// Ends it as a crash would.
    fn kill(&mut self) {
        let pid = fs::read_to_string(self.home.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        // SIGQUIT: at once, without a word to anybody.
        assert!(Command::new("kill").args(["-QUIT", pid]).status().unwrap().success());
        self.process.wait(SOON);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.home.join("data/postmaster.pid")) {
            let _ = Command::new("kill").args(["-QUIT", pid.lines().next().unwrap_or("")]).status();
            let _ = self.process.wait(SOON);
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

fn as_its_user(program: &str) -> Command {
    let program = Tool::Postgres.path().unwrap().with_file_name(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program).current_dir("/");
    command
}

fn address(home: &Path, user: &str) -> String {
    format!("host={} user={user} dbname=postgres", home.display())
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    record: String,
}

#[test]
fn the_table_has_the_trail_and_lets_nobody_change_it() {
    if !found(&[Tool::Postgres]) {
        return;
    }
    let dir = Dir::new();
    let trail = trail_in(&dir);
    let mut database = Database::new(&dir);
    let home = database.home.clone();
    let world = World::start(&trail, Postgres::new(address(&home, "owner")));
    world.tell(50);
    world.delivered();
    let mut owner = PgConnection::establish(&address(&home, "owner")).unwrap();
    owner
        .batch_execute(
            "CREATE ROLE follower LOGIN; GRANT SELECT, INSERT ON shardcast_audit TO follower;
             CREATE ROLE thief LOGIN; GRANT ALL ON shardcast_audit TO thief",
        )
        .unwrap();
    let _ = world.stop();

    // With a role that may do nothing but that; killed amid the trail, and back.
    let world = World::start(&trail, Postgres::new(address(&home, "follower")));
    world.tell(30);
    world.delivered();
    database.kill();
    world.tell(60);
    world.until("that it fails", |stats| matches!(stats.state, FollowerState::Failing(_)));
    database.process = Database::run(&dir, &home);
    world.delivered();
    world.tell(10);
    let stats = world.stop();
    assert_eq!(stats.refused, 0);

    let mut thief = PgConnection::establish(&address(&home, "thief")).unwrap();
    for change in [
        "UPDATE shardcast_audit SET event = 'x' WHERE seq = 3",
        "DELETE FROM shardcast_audit WHERE seq = 3",
        "TRUNCATE shardcast_audit",
        "INSERT INTO shardcast_audit SELECT * FROM shardcast_audit WHERE seq = 3
         ON CONFLICT (log, seq) DO UPDATE SET event = 'x'",
    ] {
        let refused = sql_query(change).execute(&mut thief).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{change}: {refused}");
    }
    let rows: Vec<Row> = sql_query("SELECT seq, record FROM shardcast_audit ORDER BY seq").load(&mut thief).unwrap();
    let rows: BTreeMap<u64, String> = rows.into_iter().map(|row| (row.seq.cast_unsigned(), row.record)).collect();
    assert_eq!(rows, read_trail(&trail).1);
    let count = "SELECT count(*) AS seq, max(log) AS record FROM shardcast_audit
                 WHERE event = 'play_start' AND wall > now() - interval '1 hour'";
    let count: Row = sql_query(count).get_result(&mut thief).unwrap();
    assert_eq!((count.seq, count.record), (150, read_trail(&trail).0));
}
