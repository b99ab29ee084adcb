//! A table in a file of SQLite that refuses to change or forget what it has.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::trail::from_hex;
use super::destination::{Batch, DeliveryError, Destination, Standing};

/// A [`Destination`] in a file: the table `audit`, with a row for each record and the whole line in `record`.
///
/// Triggers refuse update, delete and replacement, so that no program changes it by mistake. Whoever may write the file
/// can drop them; that a row was changed shows by its hash and by the next one's `ph`, as in the trail itself.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens or makes it.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        // Readers and the one who writes do not wait for each other; what was committed is durable.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(TABLE)?;
        Ok(Self { connection })
    }

    fn insert(&mut self, batch: &Batch<'_>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare(INSERT)?;
            for record in batch.records {
                let head = record.head();
                let (boot, event) = head.map_or((0, ""), |head| (head.boot, head.event));
                let (seq, boot) = (record.seq.cast_signed(), boot.cast_signed());
                insert.execute(params![
                    batch.log,
                    seq,
                    boot,
                    record.wall(),
                    event,
                    record.text(),
                    record.hash_hex()
                ])?;
            }
        }
        transaction.commit()
    }
}

impl Destination for Sqlite {
    fn last(&mut self, log: &str, _known: u64) -> Result<Option<Standing>, DeliveryError> {
        let row = self.connection.query_row(LAST, [log], |row| Ok((row.get(0)?, row.get(1)?))).optional();
        let row: Option<(i64, String)> = row.map_err(DeliveryError::later)?;
        Ok(Some(row.map_or_else(Standing::default, |(seq, hash)| Standing {
            seq: seq.cast_unsigned(),
            hash: from_hex(hash.as_bytes()),
        })))
    }

    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        self.insert(batch).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::TooBig) => DeliveryError::refused(error),
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                DeliveryError::contradiction(format!("another writes to it as well: {error}"))
            }
            _ => DeliveryError::later(error),
        })
    }
}

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS audit (
    log TEXT NOT NULL, seq INTEGER NOT NULL, boot INTEGER NOT NULL, wall TEXT NOT NULL, event TEXT NOT NULL,
    record TEXT NOT NULL, h TEXT NOT NULL, PRIMARY KEY (log, seq)
) WITHOUT ROWID, STRICT;
CREATE TRIGGER IF NOT EXISTS audit_keeps_what_it_has BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_forgets_nothing BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_replaces_nothing BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE log = NEW.log AND seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit table has this record already'); END;
";
const INSERT: &str = "INSERT INTO audit (log, seq, boot, wall, event, record, h) VALUES (?, ?, ?, ?, ?, ?, ?)";
const LAST: &str = "SELECT seq, h FROM audit WHERE log = ? ORDER BY seq DESC LIMIT 1";
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, World};
    use super::super::{Follower, FollowerState};
    use super::*;

    fn follower(folder: &Folder) -> Follower {
        let file = folder.path().join("audit.sqlite");
        Follower { batch_records: 10, ..Follower::new("table", Box::new(Sqlite::open(&file).unwrap())) }
    }

    #[test]
    fn the_table_has_the_trail_and_lets_nobody_change_it() {
        let folder = Folder::new();
        for count in [33, 0, 12] {
            let world = World::start(&folder, vec![follower(&folder)]);
            world.tell(count);
            let (_, stats) = world.stop();
            assert_eq!((stats[0].lag, stats[0].refused, stats[0].failures), (0, 0, 0));
        }
        let reader = Connection::open(folder.path().join("audit.sqlite")).unwrap();
        let mut rows = reader.prepare("SELECT seq, record FROM audit ORDER BY seq").unwrap();
        let rows =
            rows.query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, String>(1)?))).unwrap();
        let rows: std::collections::BTreeMap<_, _> = rows.map(Result::unwrap).collect();
        assert_eq!(rows, folder.trail());
        let starts: i64 = reader
            .query_row("SELECT count(*) FROM audit WHERE event = 'play_start' AND wall > '20'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(starts, 45);
        for change in [
            "UPDATE audit SET event = 'x'",
            "DELETE FROM audit WHERE seq = 3",
            "REPLACE INTO audit SELECT log, seq, boot, wall, 'x', record, h FROM audit WHERE seq = 3",
        ] {
            let refused = reader.execute(change, []).unwrap_err().to_string();
            assert!(refused.contains("audit table"), "{change}: {refused}");
        }
    }

    #[test]
    fn a_table_that_lost_its_end_gets_it_again_and_one_that_has_something_else_stops_the_follower() {
        let folder = Folder::new();
        let world = World::start(&folder, vec![follower(&folder)]);
        world.tell(30);
        let _ = world.stop();
        let writer = Connection::open(folder.path().join("audit.sqlite")).unwrap();
        writer.execute_batch("DROP TRIGGER audit_forgets_nothing; DELETE FROM audit WHERE seq > 7").unwrap();

        let _ = World::start(&folder, vec![follower(&folder)]).stop();
        let count = || writer.query_row("SELECT count(*) FROM audit", [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count(), i64::try_from(folder.trail().len()).unwrap());

        writer.execute_batch("DROP TRIGGER audit_keeps_what_it_has").unwrap();
        let other = "0".repeat(64);
        writer.execute("UPDATE audit SET h = ? WHERE seq = (SELECT max(seq) FROM audit)", [&other]).unwrap();
        let world = World::start(&folder, vec![follower(&folder)]);
        let stats = world.until("halted", |stats| matches!(stats.state, FollowerState::Halted(_)));
        let FollowerState::Halted(why) = stats.state else { unreachable!() };
        assert!(why.contains("was replaced or changed"), "{why}");
    }
}
