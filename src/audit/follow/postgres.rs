//! A table in PostgreSQL that refuses to change or forget what it has.

use std::fmt;

use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, ConnectionError, OptionalExtension, PgConnection, QueryableByName, RunQueryDsl, sql_query};

use super::super::trail::from_hex;
use super::destination::{Batch, DeliveryError, Destination, Standing};

/// A [`Destination`] in a database: the table `shardcast_audit`, with a row for each record and the whole line in
/// `record`.
///
/// The table is made if it is not there. Triggers refuse update, delete and truncate, for everybody but who owns the
/// table and drops them; give the follower a role that may `INSERT` and `SELECT` alone.
pub struct Postgres {
    address: String,
    connection: Option<PgConnection>,
}

impl fmt::Debug for Postgres {
    /// The address may have a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

impl Postgres {
    /// Connects when there is something to do. The address is a URL or a string of `keyword=value` as libpq takes it.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), connection: None }
    }

    /// On a connection that works; one on which something failed is not used again.
    fn on<T>(&mut self, work: impl FnOnce(&mut PgConnection) -> Result<T, Error>) -> Result<T, DeliveryError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let done = work(&mut connection).map_err(answer)?;
        self.connection = Some(connection);
        Ok(done)
    }

    fn connect(&self) -> Result<PgConnection, DeliveryError> {
        let mut connection = PgConnection::establish(&self.address).map_err(|error| match error {
            // What libpq says has no password in it.
            ConnectionError::BadConnection(why) => DeliveryError::later(why.trim().to_owned()),
            error => DeliveryError::later(error),
        })?;
        connection.batch_execute(PATIENCE).map_err(DeliveryError::later)?;
        // Who may only insert cannot make a table, and need not where there is one.
        let there = sql_query("SELECT 1::bigint AS seq, '' AS h WHERE to_regclass('shardcast_audit') IS NOT NULL");
        let there: Option<Row> = there.get_result(&mut connection).optional().map_err(DeliveryError::later)?;
        if there.is_none() {
            connection.transaction(|connection| connection.batch_execute(TABLE)).map_err(DeliveryError::later)?;
        }
        Ok(connection)
    }
}

impl Destination for Postgres {
    fn last(&mut self, log: &str, _known: u64) -> Result<Option<Standing>, DeliveryError> {
        let row: Option<Row> =
            self.on(|connection| sql_query(LAST).bind::<Text, _>(log).get_result(connection).optional())?;
        Ok(Some(row.map_or_else(Standing::default, |row| Standing {
            seq: row.seq.cast_unsigned(),
            hash: from_hex(row.h.as_bytes()),
        })))
    }

    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), DeliveryError> {
        // The answer to the last commit may have been lost.
        let after = if batch.again { self.last(batch.log, 0)?.map_or(0, |last| last.seq) } else { 0 };
        self.on(|connection| {
            connection.transaction(|connection| {
                for record in batch.records.iter().filter(|record| record.seq > after) {
                    let (boot, event) = record.head().map_or((0, ""), |head| (head.boot, head.event));
                    sql_query(INSERT)
                        .bind::<Text, _>(batch.log)
                        .bind::<BigInt, _>(record.seq.cast_signed())
                        .bind::<BigInt, _>(boot.cast_signed())
                        .bind::<Text, _>(record.wall())
                        .bind::<Text, _>(event)
                        .bind::<Text, _>(record.text())
                        .bind::<Text, _>(record.hash_hex())
                        .execute(connection)?;
                }
                Ok(())
            })
        })
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Text)]
    h: String,
}

fn answer(error: Error) -> DeliveryError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, why) => {
            DeliveryError::contradiction(format!("another writes to it as well: {}", why.message()))
        }
        error => DeliveryError::later(error),
    }
}

const PATIENCE: &str = "SET statement_timeout = '10s'; SET synchronous_commit = on";
const TABLE: &str = "
CREATE TABLE shardcast_audit (
    log text NOT NULL, seq bigint NOT NULL, boot bigint NOT NULL, wall timestamptz NOT NULL, event text NOT NULL,
    record text NOT NULL, h text NOT NULL, PRIMARY KEY (log, seq)
);
CREATE FUNCTION shardcast_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the audit table is append-only'; END $$;
CREATE TRIGGER shardcast_audit_keeps_what_it_has BEFORE UPDATE OR DELETE ON shardcast_audit
    FOR EACH ROW EXECUTE FUNCTION shardcast_audit_append_only();
CREATE TRIGGER shardcast_audit_forgets_nothing BEFORE TRUNCATE ON shardcast_audit
    FOR EACH STATEMENT EXECUTE FUNCTION shardcast_audit_append_only();
";
const INSERT: &str = "INSERT INTO shardcast_audit (log, seq, boot, wall, event, record, h)
    VALUES ($1, $2, $3, $4::timestamptz, $5, $6, $7)";
const LAST: &str = "SELECT seq, h FROM shardcast_audit WHERE log = $1 ORDER BY seq DESC LIMIT 1";
