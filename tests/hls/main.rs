//! Streams are packaged as HLS and looked at after each frame: every playlist keeps to the rules of RFC 8216bis, no
//! file ever changes, no frame is lost; and players find nothing to complain about.

mod encrypted;
mod made_up;
mod manifest;
mod oracle;
mod parsed;
mod players;
mod random;
mod stream;
mod watcher;

#[path = "../support/tools.rs"]
mod tools;
