//! The program: see [`mapreduce_example`].

fn main() {}
