//! A stream as one shard sees it: the log of its frames, who reads it from where, and what is known of it.
//!
//! Home stream and replica are the same structure; they differ in where frames come from.

mod directory;
mod log;
mod qos;
mod rate;
mod spec;
mod stages;
mod subscriber;

pub use directory::{Claim, Directory, Line, Listed, Located};
pub use log::{Appended, StreamLog};
pub use qos::Qos;
pub use rate::RateWindow;
pub use spec::{Absent, AppSpec, Conflict, GopCache, LagPolicy};
pub use stages::{Spread, Stage, Stages};
pub use subscriber::{Cursor, LagVerdict, Position};
