//! What the tests of storage stand on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use raft_rsm::Runtime;

/// Does blocking work on the caller's thread, at once: storage needs no more.
#[derive(Debug, Default)]
pub(crate) struct InlineRuntime {
    drawn: AtomicU64,
}

impl Runtime for InlineRuntime {
    fn spawn(&self, name: &str, _task: BoxFuture<'static, ()>) {
        unreachable!("storage spawns {name}");
    }

    fn spawn_blocking(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        unreachable!("storage sleeps for {duration:?}");
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn random(&self) -> u64 {
        mix(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

/// The next number of SplitMix64 after `seed`.
pub(crate) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
