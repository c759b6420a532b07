//! The locks in virtual time: real nodes and the real clerk on a simulated network and simulated disks.

mod fenced;
mod versioned;
mod world;
