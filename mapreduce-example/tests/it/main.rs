//! The data half by hand, and the whole as its users meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod data;
mod processes;
