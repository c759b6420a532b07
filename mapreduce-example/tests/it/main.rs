//! The MapReduce as its users meet it: in virtual time, and as processes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod scenarios;
mod swarm;
