//! A replicated, versioned key/value store.
