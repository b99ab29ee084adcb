//! What the server publishes itself, and what `shardcast push` sends to it: real files, pipes and datagrams, made by
//! ffmpeg and played by ffmpeg.
//!
//! Pictures are compared as they look when they are decoded, sound as it is coded: a container may add to the coded
//! picture what no viewer sees.
#![cfg(all(feature = "server", feature = "media"))]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/tools.rs"]
mod tools;

#[path = "../interop/media.rs"]
#[expect(dead_code, reason = "media of its own is shorter: it is looped")]
mod media;
#[path = "../interop/packets.rs"]
#[expect(dead_code, reason = "packets are compared over laps here")]
mod packets;
#[path = "../interop/world.rs"]
#[expect(dead_code, reason = "a part of it is needed")]
mod world;

mod film;

mod datagrams;
mod files;
mod pipes;
mod pushes;
