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
//! | [`run`] | a job on this machine: the coordinator's nodes and workers as child processes |
//! | [`process`] | the processes that go on: a node of the coordinator, a worker |
//! | [`cli`] | the command line: what can be said, and what is done about it |
//! | [`progress`] | how a job goes on, on the screen |
//! | [`ground`] | clients, and work beside tokio |
//! | [`failure`] | one line on stderr, and an exit code |
//! | [`worker`] | a worker: asks the coordinator for attempts, and has them carried out |
//!
//! `main.rs` only calls [`cli::run`].

pub mod cli;
pub mod coordinator;
pub mod data;
pub mod execute;
pub mod failure;
pub mod generate;
pub mod ground;
pub mod job;
pub mod jobs;
pub mod process;
pub mod progress;
pub mod run;
pub mod sequential;
pub mod swarm;
pub mod task;
pub mod worker;
