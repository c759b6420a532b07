//! Integration tests of the core: one binary, so that shared test code is built once.

mod cluster;
mod contract;
mod harness;
mod paper;
mod properties;
mod transcripts;
mod traps;
