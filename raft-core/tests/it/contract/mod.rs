//! The contract between the core and whoever drives it, a test a sentence.

mod answers;
mod changes;
mod driver;
mod effects;
mod failover;
mod idle;
mod limits;
mod log;
mod refusals;
mod requests;
#[cfg(feature = "serde")]
mod serialized;
