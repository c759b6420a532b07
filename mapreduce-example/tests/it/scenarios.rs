//! The MapReduce in virtual time: real nodes and real workers on a simulated network and simulated disks; only what a map or a
//! reduce call does is a toy.

mod faults;
mod work;
mod world;
