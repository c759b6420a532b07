//! The contract between the core and whoever drives it, a test a sentence.

mod driver;
mod limits;
mod log;
mod requests;
