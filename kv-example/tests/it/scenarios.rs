//! The scenarios of MIT 6.5840 for its key/value server, in virtual time: real nodes and the real clerk on a simulated
//! network and simulated disks. All checkers of the simulator watch, and what clients saw must be linearizable by key,
//! versions included.

mod random_clients;
mod single_server;
mod snapshots;
mod speed;
mod stranded_minority;
mod world;
