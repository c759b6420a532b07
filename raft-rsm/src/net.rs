//! What every transport over sockets shares: frames, the codec of packets, handshake, reconnect policy, queues,
//! and the loops of connections over the small seam of [`socket`]. The shells in [`crate::transport`]
//! bring the sockets alone.

pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod message_codec;
pub(crate) mod queue;
