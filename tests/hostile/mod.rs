//! The attacks, by what they attack.

mod heap;
mod peer;
mod world;
mod rows;

mod child;
mod commands;
mod descriptors;
mod endings;
mod floods;
mod framing;
mod full_disk;
mod killed;
mod memory;
mod names;
mod promise;
mod reload;
mod seats;
mod secrets;
mod trail;
