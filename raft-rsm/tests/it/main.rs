//! Integration tests.

mod runtime_threads;
#[cfg(feature = "tokio")]
mod runtime_tokio;
