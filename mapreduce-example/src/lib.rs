//! MapReduce on [`raft_rsm`]: the table of tasks is a replicated state machine, so that workers, coordinators and whole
//! machines may come and go.
//!
//! | file | what is in it |
//! |---|---|
//! | [`coordinator`] | the replicated table of tasks: who works on what, and what is done |
//! | [`swarm`] | jobs, workers and everything that can go wrong, in the simulator |
//! | [`task`] | the words that coordinator and workers share: jobs, tasks, attempts, and what becomes of them |
//! | [`worker`] | a worker: asks the coordinator for attempts, and has them carried out |

pub mod coordinator;
pub mod swarm;
pub mod task;
pub mod worker;
