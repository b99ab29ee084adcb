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

#[path = "../interop/tools.rs"]
#[expect(dead_code, reason = "these tests need but a part of it")]
mod tools;
