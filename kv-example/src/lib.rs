//! A replicated, versioned key/value store.
pub mod store;
