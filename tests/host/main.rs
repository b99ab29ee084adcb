//! The library as a host uses it: real shards on their threads, and nothing but the public interface.
//!
//! No test sleeps: it waits for a delivery, an event or a state, each with a deadline that only a failure reaches.

mod access;
mod backup;
mod caps;
mod delivery;
mod ends;
mod failure;
mod hang;
mod lag;
mod limits;
mod on_record;
mod operations;
mod publishers;
mod records;
mod sinks;
mod starts;
mod world;
