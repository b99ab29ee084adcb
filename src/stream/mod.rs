//! A stream as one shard sees it: the log of its frames, who reads it from where, and what is known of it.
//!
//! Home stream and replica are the same structure; they differ in where frames come from.

mod bucket;
mod directory;
mod filler;
mod log;
mod qos;
mod rate;
mod seats;
mod spec;
mod squeeze;
mod stages;
mod subscriber;
mod timeline;

pub use bucket::Bucket;
pub use directory::{Claim, Directory, Entered, Line, Listed, Located};
pub use filler::Filler;
pub use log::{Appended, StreamLog};
pub use qos::Qos;
pub use rate::RateWindow;
pub use seats::{Newcomer, Seat, SwitchCause};
pub use spec::{Absent, AppSeats, AppSpec, Conflict, Durable, Excess, GopCache, LagPolicy, PublisherCaps};
pub use squeeze::Squeeze;
pub use stages::{Spread, Stage, Stages};
pub use subscriber::{Bounds, Cursor, LagVerdict, Position};
pub use timeline::{BACK_MAX, Corrections, FOLLOW_WITHIN, JUMP_MAX, SKEW_MAX, SKEW_STEP, Timeline, TrackClock};
