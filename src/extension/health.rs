//! Whether the router, or a part of the host, is fit for work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;

/// A verdict; the worst of all checks is the router's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All is well.
    Healthy,
    /// It works, but somebody should look: a sentence says at what.
    Degraded(String),
    /// It does not work: a sentence says what.
    Unhealthy(String),
}

/// One thing that can be asked how it is. Cheap, called on request from any thread.
pub trait HealthCheck: Send + Sync {
    /// What is checked, in a word or two.
    fn name(&self) -> &str;

    /// How it is.
    fn check(&self) -> Health;
}

/// Checks that are asked together.
#[derive(Clone, Default)]
pub struct HealthRegistry {
    /// By name.
    checks: Vec<Arc<dyn HealthCheck>>,
}

impl HealthRegistry {
    /// Adds a check; one of the same name that was there before is replaced and given back.
    pub fn register(&mut self, check: Arc<dyn HealthCheck>) -> Option<Arc<dyn HealthCheck>> {
        match self.checks.binary_search_by(|there| there.name().cmp(check.name())) {
            Ok(at) => Some(std::mem::replace(&mut self.checks[at], check)),
            Err(at) => {
                self.checks.insert(at, check);
                None
            }
        }
    }

    /// Asks all, one after the other, in the order of their names.
    #[must_use]
    pub fn report(&self, now: Instant) -> HealthReport {
        let checks: Vec<_> = self.checks.iter().map(|check| (check.name().to_owned(), check.check())).collect();
        HealthReport { uptime: now.since(Instant::ZERO), checks }
    }
}

impl fmt::Debug for HealthRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|check| check.name())).finish()
    }
}

/// What the checks said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// Since the router's clock was started.
    pub uptime: Duration,
    /// Name and verdict, by name.
    pub checks: Vec<(String, Health)>,
}

impl HealthReport {
    /// The worst verdict; the first of them if several are as bad. Healthy without checks.
    #[must_use]
    pub fn worst(&self) -> Health {
        let mut worst = &Health::Healthy;
        for (_, health) in &self.checks {
            if health.severity() > worst.severity() {
                worst = health;
            }
        }
        worst.clone()
    }
}

impl Health {
    const fn severity(&self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded(_) => 1,
            Self::Unhealthy(_) => 2,
        }
    }
}

/// How full something is: degraded from 90 % on, unhealthy when it is full.
pub struct CapacityCheck {
    name: Box<str>,
    capacity: u64,
    used: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl CapacityCheck {
    /// A check of something that `used` counts and that has room for `capacity`.
    #[must_use]
    pub fn new(name: &str, capacity: u64, used: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { name: name.into(), capacity, used: Box::new(used) }
    }
}

impl HealthCheck for CapacityCheck {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Health {
        let used = (self.used)();
        let told = || format!("{}: {used} of {} in use", self.name, self.capacity);
        if used >= self.capacity {
            Health::Unhealthy(told())
        } else if u128::from(used) * 100 >= u128::from(self.capacity) * DEGRADED_PERCENT {
            Health::Degraded(told())
        } else {
            Health::Healthy
        }
    }
}

impl fmt::Debug for CapacityCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapacityCheck({}, {})", self.name, self.capacity)
    }
}

/// From here on a capacity check is degraded.
const DEGRADED_PERCENT: u128 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(name: &str, capacity: u64, used: u64) -> Arc<dyn HealthCheck> {
        Arc::new(CapacityCheck::new(name, capacity, move || used))
    }

    #[test]
    fn a_capacity_is_degraded_from_ninety_percent_and_unhealthy_when_full() {
        let at = |used| capacity("connections", 1000, used).check();
        assert_eq!(at(0), Health::Healthy);
        assert_eq!(at(899), Health::Healthy);
        assert_eq!(at(900), Health::Degraded("connections: 900 of 1000 in use".into()));
        assert_eq!(at(999), Health::Degraded("connections: 999 of 1000 in use".into()));
        assert_eq!(at(1000), Health::Unhealthy("connections: 1000 of 1000 in use".into()));
        assert_eq!(at(u64::MAX), Health::Unhealthy(format!("connections: {} of 1000 in use", u64::MAX)));
        assert!(matches!(capacity("nothing", 0, 0).check(), Health::Unhealthy(_)));
        assert!(matches!(capacity("much", u64::MAX, u64::MAX - 1).check(), Health::Degraded(_)));
    }

    #[test]
    fn the_worst_check_speaks_for_all_and_all_are_listed_by_name() {
        let mut registry = HealthRegistry::default();
        for (name, used) in [("streams", 95), ("connections", 10), ("audit", 92)] {
            assert!(registry.register(capacity(name, 100, used)).is_none());
        }

        let report = registry.report(Instant(7_000_000_000));
        assert_eq!(report.uptime, Duration::from_secs(7));
        assert_eq!(
            report.checks.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
            ["audit", "connections", "streams"]
        );
        assert_eq!(report.worst(), Health::Degraded("audit: 92 of 100 in use".into()));

        assert!(registry.register(capacity("streams", 100, 100)).is_some(), "the one before is given back");
        assert_eq!(registry.report(Instant::ZERO).worst(), Health::Unhealthy("streams: 100 of 100 in use".into()));
    }

    #[test]
    fn without_checks_all_is_well() {
        assert_eq!(HealthRegistry::default().report(Instant::ZERO).worst(), Health::Healthy);
    }
}
