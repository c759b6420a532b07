//! Integration tests of the core: one binary, so that shared test code is built once.

// A test says by a panic that something is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod contract;
mod harness;
mod members;
mod paper;
mod properties;
mod quorums;
mod transcripts;
mod traps;
