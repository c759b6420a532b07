//! Tests of the simulator, and of clusters in it.

mod bad_input;
mod determinism;
mod planted;
mod scenarios;
mod shrinking;
mod swarm;
