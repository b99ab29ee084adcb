//! Whether the router, or a part of the host, is fit for work.

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
