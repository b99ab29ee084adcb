//! Followers of the audit trail against the real thing: PostgreSQL, rsyslog, librdkafka's mock brokers, a server that
//! speaks S3 (moto: a double that checks locks, not a store) and a receiver of webhooks that checks signatures with the
//! library of those who wrote the specification. Each is killed or refuses amid a trail; what arrives is compared line
//! by line with the trail.

#[path = "../support/process.rs"]
mod process;
#[path = "../support/tools.rs"]
mod tools;

mod bucket;
mod certificates;
mod database;
mod topic;
mod messages;
mod webhook;
mod world;
