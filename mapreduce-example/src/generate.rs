//! Gigabytes of text from a seed.
