//! What a host implements: small synchronous traits, all injected, none a singleton.

pub mod auth;
mod credentials;
mod frames;
mod health;
mod observer;

pub use auth::{Action, AllowAll, AuthReply, AuthRequest, Authenticator, Decision};
pub use credentials::{Credentials, Secret};
pub use frames::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
pub use health::{Health, HealthCheck};
pub use observer::Observer;
