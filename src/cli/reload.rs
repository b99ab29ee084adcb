//! What a reloaded configuration changes while the server runs, and what would need a restart.

use super::config::ServerConfig;

/// The difference of two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reload {
    /// Takes effect at once.
    pub(super) applied: Vec<&'static str>,
    /// Was changed in the file and stays as it is until a restart.
    pub(super) needs_restart: Vec<&'static str>,
}

impl Reload {
    /// Compares what runs with what was read.
    pub(super) fn between(running: &ServerConfig, read: &ServerConfig) -> Self {
        let mut reload = Self::default();
        for (name, changed) in [
            ("[limits]", running.limits != read.limits),
            ("router.sample_every", running.sample_every != read.sample_every),
            ("audit.on_decision_loss", running.on_loss.decisions != read.on_loss.decisions),
            ("audit.on_telemetry_loss", running.on_loss.telemetry != read.on_loss.telemetry),
            ("[[app]]", running.apps != read.apps),
            // Secrets cannot be compared, and files may hold others: whatever guards is replaced.
            (AUTH, running.access.is_guarded() || read.access.is_guarded()),
        ] {
            if changed {
                reload.applied.push(name);
            }
        }
        for (name, changed) in [
            ("data", running.data != read.data),
            ("control", running.control != read.control),
            ("audit.key_file", running.audit_key != read.audit_key),
            ("audit.pseudonym_key_file", running.pseudonym_key != read.pseudonym_key),
            ("[[audit.follower]]", running.followers != read.followers),
            ("[record]", running.record != read.record),
            ("log", running.log != read.log),
            ("router.shards", running.shards != read.shards),
            ("router.idle", running.idle != read.idle),
            ("router.drain", running.drain != read.drain),
            ("router.exit_on_hang", running.exit_on_hang != read.exit_on_hang),
            ("listen.rtmp", running.rtmp != read.rtmp),
            ("listen.http", running.http != read.http),
            // The channel and the receivers are made at the start.
            ("limits.events", running.limits.events != read.limits.events),
            ("limits.audit_records", running.limits.audit_records != read.limits.audit_records),
            ("limits.audit_decisions", running.limits.audit_decisions != read.limits.audit_decisions),
        ] {
            if changed {
                reload.needs_restart.push(name);
            }
        }
        reload
    }

    /// Whether somebody else decides from now on who may come in.
    pub(super) fn replaces_access(&self) -> bool {
        self.applied.contains(&AUTH)
    }

    /// For the log.
    pub(super) fn sentence(&self) -> String {
        let mut said = match self.applied.as_slice() {
            [] => "the configuration was read again; nothing to apply".to_owned(),
            applied => format!("the configuration was read again; applied: {}", applied.join(", ")),
        };
        if !self.needs_restart.is_empty() {
            said.push_str("; needs a restart: ");
            said.push_str(&self.needs_restart.join(", "));
        }
        said
    }
}

const AUTH: &str = "[auth]";

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::config::{Idle, LogLevel, Overrides};
    use super::*;

    fn config() -> ServerConfig {
        ServerConfig::load(None, &Overrides::default()).unwrap()
    }

    #[test]
    fn nothing_changed_applies_nothing() {
        let reload = Reload::between(&config(), &config());
        assert_eq!(reload, Reload::default());
        assert_eq!(reload.sentence(), "the configuration was read again; nothing to apply");
    }

    #[test]
    fn limits_applications_and_access_are_applied_and_the_rest_is_told() {
        let mut read = config();
        read.limits.connections = 5;
        read.limits.audit_records = 7;
        read.apps[0].lag.max_age = Duration::from_secs(1);
        read.access.token_keys = vec![shardcast::extension::TokenKey::new("web", b"0123456789abcdef").unwrap()];
        read.data = Some(PathBuf::from("d"));
        read.log = LogLevel::Off;
        read.shards = Some(2);
        read.idle = Idle::Spin;
        read.drain = Duration::ZERO;
        read.rtmp = vec!["127.0.0.1:1".parse().unwrap()];

        assert_eq!(
            Reload::between(&config(), &read).sentence(),
            "the configuration was read again; applied: [limits], [[app]], [auth]; needs a restart: data, log, \
             router.shards, router.idle, router.drain, listen.rtmp, limits.audit_records"
        );
    }
}
