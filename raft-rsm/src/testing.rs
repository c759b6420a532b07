//! Conformance suites: the contracts of the traits as tests, for users who bring their own.

<<<<<<< HEAD
pub mod runtime;
pub mod transport;
=======
pub mod storage;
>>>>>>> storage
