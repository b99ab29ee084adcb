//! What a host implements: small synchronous traits, all injected, none a singleton.

mod any_of;
pub mod auth;
mod credentials;
mod frames;
mod grant;
mod health;
mod observer;
mod resources;
pub mod storage;
#[cfg(feature = "token")]
pub mod token;
#[cfg(feature = "token")]
mod users;

pub use any_of::AnyOf;
pub use auth::{Action, AllowAll, AuthReply, AuthRequest, Authenticator, Decision};
pub use credentials::{Credentials, Secret};
pub use frames::{FrameSink, FrameSource, SinkVerdict, SourcePoll};
pub use grant::{Actions, Grant, KeyPattern, NotActions};
pub use health::{CapacityCheck, Health, HealthCheck, HealthRegistry, HealthReport};
pub use observer::Observer;
pub use resources::{Resource, ResourceAnswer, ResourceRequest, Resources};
pub use storage::{ObjectInfo, ObjectName, ObjectNameError, ObjectWriter, StorageBackend, StorageError};
#[cfg(feature = "token")]
pub use token::{Claims, TokenAuthenticator, TokenError, TokenKey};
#[cfg(feature = "token")]
pub use users::{UserError, UserList};
