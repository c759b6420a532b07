//! MapReduce on [`raft_rsm`]: the table of tasks is a replicated state machine, so that workers, coordinators and whole
//! machines may come and go.
//!
//! | file | what is in it |
//! |---|---|
//! | [`coordinator`] | the replicated table of tasks: who works on what, and what is done |
//! | [`swarm`] | jobs, workers and everything that can go wrong, in the simulator |
//! | [`task`] | the words that coordinator and workers share: jobs, tasks, attempts, and what becomes of them |
//! | [`job`] | what a job is: map, combine, reduce, partition; the jobs by name |
//! | [`jobs`] | the jobs that come with the crate |
//! | [`data`] | inputs, sorted runs between map and reduce, results; in a folder or another store |
//! | [`execute`] | an attempt at a task, carried out |
//! | [`sequential`] | a job without any of that: what the results are compared with |
//! | [`generate`] | gigabytes of text from a seed |
//! | [`worker`] | a worker: asks the coordinator for attempts, and has them carried out |

pub mod coordinator;
pub mod data;
pub mod execute;
pub mod generate;
pub mod job;
pub mod jobs;
pub mod sequential;
pub mod swarm;
pub mod task;
pub mod worker;
