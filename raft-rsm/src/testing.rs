//! Conformance suites: the contracts of the traits as tests, for users who bring their own.

pub mod runtime;
pub mod storage;
pub mod transport;
