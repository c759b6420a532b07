//! The program as its users meet it: processes, signals, exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod bad_input;
mod chaos;
mod commands;
mod crashes;
mod demo;
mod http;
mod load;
mod lost_answers;
mod members;
mod moves;
mod process;
mod recovery;
mod scenarios;
mod swarm;
mod system_calls;
