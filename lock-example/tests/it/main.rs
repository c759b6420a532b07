//! The locks as their users meet them: in virtual time, and as processes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod bad_input;
mod commands;
mod process;
mod scenarios;
mod swarm;
