//! MapReduce on [`raft_rsm`]: the table of tasks is a replicated state machine, so that workers, coordinators and whole
//! machines may come and go.
//!
//! | file | what is in it |
//! |---|---|
//! | [`task`] | the words that coordinator and workers share: jobs, tasks, attempts, and what becomes of them |

pub mod task;
