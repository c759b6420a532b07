//! Tests of the simulator, and of clusters in it.

mod planted;
mod scenarios;
