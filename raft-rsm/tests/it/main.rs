//! Integration tests.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by a panic")]

mod storage_crash;
mod storage_damage;
mod storage_disk;
mod storage_file;
mod storage_identity;
mod storage_memory;
mod storage_stand;
