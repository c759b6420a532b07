//! The data half by hand, the coordinating half in virtual time, and the whole as its users meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod data;
mod processes;
mod scenarios;
mod swarm;
