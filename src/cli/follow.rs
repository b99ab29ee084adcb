//! Followers of the audit trail, as the configuration wants them.

use std::fmt::Display;
use std::path::Path;

use shardcast::audit::follow::{Destination, Follower, FollowerState, FollowersWatch};
use shardcast::extension::{Health, HealthCheck};

use super::Failure;
use super::config::{FollowerSpec, To, read_secret_file};

/// What is to be started.
pub(super) fn followers(specs: &[FollowerSpec]) -> Result<Vec<Follower>, Failure> {
    specs
        .iter()
        .map(|spec| {
            let destination = destination(&spec.to);
            let destination = destination.map_err(|why| {
                Failure::runtime(format!("the follower {:?} of the audit trail cannot start: {why}", spec.name))
            })?;
            Ok(Follower::new(spec.name.clone(), destination))
        })
        .collect()
}

fn destination(to: &To) -> Result<Box<dyn Destination>, String> {
    match to {
        #[cfg(feature = "follow-sqlite")]
        To::Sqlite { path } => {
            let table = shardcast::audit::follow::Sqlite::open(path);
            Ok(Box::new(table.map_err(|error| format!("{}: {error}", path.display()))?))
        }
        #[cfg(feature = "follow-postgres")]
        To::Postgres { address_file } => Ok(Box::new(shardcast::audit::follow::Postgres::new(secret(address_file)?))),
        #[cfg(feature = "follow-kafka")]
        To::Kafka { brokers, topic, partition, settings_file } => {
            use shardcast::audit::follow::{Kafka, KafkaOptions};
            let settings = settings_file.as_deref().map(settings).transpose()?.unwrap_or_default();
            let (brokers, topic) = (brokers.clone(), topic.clone());
            let options = KafkaOptions { brokers, topic, partition: *partition, settings };
            Ok(Box::new(Kafka::new(options).map_err(of)?))
        }
        #[cfg(feature = "follow-s3")]
        To::S3(bucket) => {
            use shardcast::audit::follow::{LockMode, S3, S3Options};
            let options = S3Options {
                endpoint: bucket.endpoint.clone(),
                region: bucket.region.clone(),
                bucket: bucket.bucket.clone(),
                path_style: bucket.path_style,
                prefix: bucket.prefix.clone(),
                key_id: bucket.key_id.clone(),
                secret: secret(&bucket.secret_file)?,
                lock: if bucket.governance { LockMode::Governance } else { LockMode::Compliance },
                retain: bucket.retain,
            };
            Ok(Box::new(S3::new(options, &roots(bucket.ca_file.as_deref())?)?))
        }
        #[cfg(feature = "follow-syslog")]
        To::Syslog { address, facility, hostname, ca_file } => {
            use shardcast::audit::follow::{Syslog, SyslogOptions};
            let hostname =
                hostname.clone().unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
            let options = SyslogOptions { address: address.clone(), facility: *facility, hostname };
            Ok(Box::new(Syslog::new(options, &roots(ca_file.as_deref())?)?))
        }
        #[cfg(feature = "follow-webhook")]
        To::Webhook { address, secret_file, ca_file } => {
            use shardcast::audit::follow::{Webhook, WebhookSecret};
            let key = WebhookSecret::parse(&secret(secret_file)?);
            let key = key.map_err(|error| format!("{}: {error}", secret_file.display()))?;
            Ok(Box::new(Webhook::new(address, key, &roots(ca_file.as_deref())?).map_err(of)?))
        }
        #[allow(unreachable_patterns, reason = "with all of the features there is nothing left")]
        _ => Err("this program was built without it: see the features follow-… in Cargo.toml".into()),
    }
}

#[cfg(feature = "follow-kafka")]
fn settings(path: &Path) -> Result<Vec<(String, String)>, String> {
    let text = secret(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, value) = line.split_once('=').ok_or_else(|| {
                format!("{}: a line is no setting: it has no =, as in security.protocol=ssl", path.display())
            })?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(any(feature = "follow-s3", feature = "follow-syslog", feature = "follow-webhook"))]
fn roots(file: Option<&Path>) -> Result<shardcast::audit::follow::Roots, String> {
    use shardcast::audit::follow::Roots;
    let Some(path) = file else { return Roots::of_this_machine() };
    let failed = |why: &dyn Display| format!("{}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| failed(&error))?;
    Roots::from_pem(&pem).map_err(|why| failed(&why))
}

#[allow(dead_code, reason = "without any of the features nothing is secret")]
fn secret(path: &Path) -> Result<String, String> {
    let mut warnings = Vec::new();
    let secret = read_secret_file(path, &mut warnings);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    secret
}

#[allow(dead_code, reason = "without any of the features nothing fails")]
fn of(error: impl Display) -> String {
    error.to_string()
}

/// What followers are for the health of the router.
pub(super) struct FollowersHealth(pub(super) FollowersWatch);

impl HealthCheck for FollowersHealth {
    fn name(&self) -> &'static str {
        "followers of the audit trail"
    }

    fn check(&self) -> Health {
        let states = self.0.stats().into_iter().map(|stats| match stats.state {
            FollowerState::Failing(why) => Health::Degraded(format!("{}: {why}", stats.name)),
            FollowerState::Halted(why) => Health::Unhealthy(format!("{}: {why}", stats.name)),
            FollowerState::Following | FollowerState::Stopped => Health::Healthy,
        });
        states.max().unwrap_or(Health::Healthy)
    }
}

/// Says in the log when a follower begins to fail, and when it goes on.
pub(super) struct Teller {
    watch: FollowersWatch,
    /// Of each: what was said last.
    told: Vec<bool>,
}

impl Teller {
    pub(super) fn new(watch: FollowersWatch) -> Self {
        Self { told: vec![false; watch.stats().len()], watch }
    }

    pub(super) fn tell(&mut self) {
        for (stats, told) in self.watch.stats().into_iter().zip(&mut self.told) {
            let why = match &stats.state {
                FollowerState::Failing(why) | FollowerState::Halted(why) => Some(why),
                FollowerState::Following | FollowerState::Stopped => None,
            };
            if why.is_some() == *told {
                continue;
            }
            *told = why.is_some();
            let (name, lag) = (&stats.name, stats.lag);
            match (why, &stats.state) {
                (Some(why), FollowerState::Halted(_)) => {
                    tracing::error!(
                        "the follower {name:?} of the audit trail has stopped, {lag} records behind: {why}"
                    );
                }
                (Some(why), _) => {
                    tracing::warn!(
                        "the follower {name:?} of the audit trail is {lag} records behind, and fails: {why}"
                    );
                }
                (None, _) => tracing::info!("the follower {name:?} of the audit trail goes on, {lag} records behind"),
            }
        }
    }
}
