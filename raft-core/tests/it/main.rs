//! Integration tests of the core: one binary, so that shared test code is built once.

mod cluster;
mod properties;
