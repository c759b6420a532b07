//! A model checker's view of `raft-core`: real nodes, and every order of events within bounds.
//!
//! The checker is the crate `stateright`; a state is three servers (a real [`raft_core::Node`], what its disk holds, the
//! write that is on its way there), the messages, and what is remembered of the past to judge it. From each state every
//! [`Action`] is tried that the [`Bounds`] allow, until there is no state that was not seen.
//!
//! | to find | look in |
//! |---|---|
//! | what can happen | `model.rs` |
//! | how often, and the named bounds | `bounds.rs` |
//! | what must hold | `properties.rs` |
//! | errors that are planted, to see that they are found | `fault.rs` |
//! | the network, and which messages make no difference any more | `network.rs` |
//! | the canonical form of a node | `model.rs` of `raft-core`, behind its feature `model` |
//!
//! # What is left out, and why that hides nothing
//!
//! States are told apart by 64-bit hashes of their canonical form. A bug is hidden where two states that behave differently
//! have one form. What the form leaves out:
//!
//! - **Time.** Clocks run as they like: at every moment every node may time out, or cease to protect its leader, or find
//!   that it leads and hears nobody. So no deadline orders events, and of each time it is enough whether it has come.
//!   After each step a node's clock is set to one and the same time, and its deadlines to where they are after a fresh
//!   start.
//! - **Chance.** It draws election timeouts, which are up to the checker; whether a learner that may have to lead campaigns
//!   when it times out, which it always does here; and a leader's first round of heartbeats, which is always the same here. Rounds are compared within a term; an answer from an earlier term that is taken
//!   for one of this term's is a behaviour more, not less.
//! - **Names of writes and fetches**, of which there is one at a time, and **counters**, which no node reads.
//! - **Limits**: the logs are shorter than any window or buffer, so what only limits read is left out.
//! - **Loss, repetition, disorder.** What was sent once stays, and can arrive whenever it can have an effect. A lost message
//!   is one that does not arrive; so these take no actions, and no bounds.
//! - **Messages without a future** (`network.rs`). A term on the disk never goes back, so whoever has it there takes nothing
//!   of an earlier one; nobody becomes a candidate in a term that is durable, nor leads without having been one. What is
//!   only refused is brought into one form for all that are refused alike.
//! - **The past.** Who led a term is forgotten when no disk is before the next term and nobody leads it.
//! - **Names of nodes**, at the first step only, and only where no rule compares them (`Bounds::goes_first`).
//!
//! A down time is no state of its own: to the others, a server that is down is one that is not heard. A crash between a
//! write and the news of it is the same as one after the news, whose messages are lost.
//!
//! # What bounds leave out
//!
//! With [`Bounds::refusals`] off, a refusal is no message. Instead, a node may learn of a later term at any time, from
//! whoever is in it, also where nothing was sent that could be refused: more than there is. Less than there is: a
//! denied vote does not make a candidate give up early (it might as well wait for votes that do not come, which
//! differs in nothing that others see), the refusal of an append of an old term does not make a leader that leads again
//! send from the start, and a term that a crash has taken from all nodes is not learnt from a refusal that has outlived it. One
//! of the bounds has refusals on.
//!
//! # What no bounds hold
//!
//! Snapshots and compaction; reads and leases; leadership transfer on request (a leader that was removed does
//! name its successor); lost disks and their incarnations; a learner that does not catch up in time; peers that a leader
//! gives up on after they have left; several inputs before one drain; answers of storage to fetches, and of the state
//! machine, that come late. For these, there are the random clusters of raft-core's tests and the simulator.
//! Liveness is the simulator's, too.

mod bounds;
mod disk;
mod fault;
mod model;
mod network;
mod properties;
mod server;
mod state;

pub use bounds::Bounds;
pub use fault::Fault;
pub use model::{Action, Cluster};
pub use properties::Claim;
pub use state::State;
