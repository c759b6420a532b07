//! What must hold in every run, a file each.

pub mod linearizability;
