//! What every transport over sockets shares: frames, the codec of packets, handshake, reconnect policy, queues,
//! and the loops of connections over the small seam of [`socket`]. The shells in [`crate::transport`]
//! bring the sockets alone.
//!
//! ```text
//! Endpoint ── a Link a peer ── Target ─▶ dial ─▶ pump (packets out)
//!          └─ accept ─▶ handshake ─┬─▶ packets in, from a peer
//!                                  └─▶ Session: a client's requests in, answers out
//! Caller ──── a connection a node ── dial ─▶ requests out, answers in (Calls)
//! ```

pub(crate) mod address_book;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod caller;
pub(crate) mod calls;
pub(crate) mod counters;
pub(crate) mod dial;
pub(crate) mod endpoint;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod incoming;
pub(crate) mod link;
pub(crate) mod message_codec;
pub(crate) mod pump;
pub(crate) mod queue;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod target;
pub(crate) mod tasks;

#[cfg(test)]
mod tests;
