//! Mechanisms that cost other consensus libraries their safety, their liveness or their users' trust. Each test
//! names where it happened. "paper" is the extended Raft paper, "diss." Ongaro's dissertation.

mod elections;
mod incarnations;
mod membership;
mod reads;
mod replication;
mod slow_disk;
mod snapshots;
