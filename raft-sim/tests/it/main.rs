//! Tests of the simulator, and of clusters in it.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

mod bad_input;
mod determinism;
mod planted;
mod scenarios;
mod shrinking;
mod swarm;
