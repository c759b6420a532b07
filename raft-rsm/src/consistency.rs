//! How fresh an answer is.

use serde::{Deserialize, Serialize};

/// What a query sees.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum Consistency {
    /// Every command that had its response, anywhere, when the query was asked. The leader confirms that it leads by a
    /// round of heartbeats that all queries meanwhile share; a follower asks the leader (diss. §6.4).
    #[default]
    Linearizable,
    /// The same, without that round, while the leader holds a lease: as good as the bound on the drift of clocks that
    /// [`raft_core::Options::lease`] states (diss. §6.4.1). Without a lease it is answered as
    /// [`Consistency::Linearizable`]. A follower sends a client on to the leader.
    Lease,
    /// Whatever the asked node has applied, however old: no other node takes part.
    Stale,
}
