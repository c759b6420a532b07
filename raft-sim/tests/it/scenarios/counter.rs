//! A machine that counts, and those who call it.

use std::future::Future;
use std::io;
use std::ops::Range;

use raft_rsm::raft_core::NodeId;
use raft_rsm::{Context, ProposeError, SnapshotView, StateMachine};
use raft_sim::{NodeSetup, Report};
use serde::{Deserialize, Serialize};

use super::stand::{MS, Proposal, SECOND, Stand, run};

/// Counts up. Nothing may ever make it count down.
#[derive(Debug, Default)]
pub(super) struct Counter(u64);

/// What it can be told. `Dec` is proposed only where nobody can commit it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Command {
    Inc,
    Null,
    Dec,
}

impl StateMachine for Counter {
    type Command = Command;
    /// The count after it.
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, _: &Context, command: Command) -> u64 {
        match command {
            Command::Inc => self.0 += 1,
            Command::Null => {}
            Command::Dec => panic!("a command without a majority is applied"),
        }
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let image = self.0.to_le_bytes();
        Box::new(move |to: &mut dyn io::Write| to.write_all(&image))
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        let mut count = [0; 8];
        image.read_exact(&mut count)?;
        self.0 = u64::from_le_bytes(count);
        Ok(())
    }
}

/// Runs a scenario of three counters with each seed.
pub(super) fn rsm<F: Future<Output = ()> + Send + 'static>(
    seeds: Range<u64>,
    scenario: impl Fn(Stand<Counter>) -> F,
) -> Vec<Report> {
    rsm_with(seeds, |_, _| {}, scenario)
}

/// The same with other settings.
pub(super) fn rsm_with<F: Future<Output = ()> + Send + 'static>(
    seeds: Range<u64>,
    set_up: impl Fn(u64, &mut NodeSetup),
    scenario: impl Fn(Stand<Counter>) -> F,
) -> Vec<Report> {
    run(3, seeds, Counter::default, set_up, scenario)
}

impl Stand<Counter> {
    /// Has a command carried out at whoever leads, within 10 s, and returns the count.
    pub(super) async fn submit(&self, command: Command) -> u64 {
        let until = self.now() + 10 * SECOND;
        while self.now() < until {
            for (_, leader) in self.leaders() {
                match self.cluster.propose(leader, command).await {
                    Ok(count) => return count,
                    Err(error) if !error.may_take_effect() => {}
                    Err(error) => panic!("{command:?}: {error}"),
                }
            }
            self.sleep(MS * 10).await;
        }
        panic!("{command:?} is not carried out within 10 s");
    }

    /// Counts up so many times, one after the other.
    pub(super) async fn count_up(&self, times: u64) {
        for _ in 0..times {
            self.submit(Command::Inc).await;
        }
    }

    /// Waits until the counters of at least `copies` nodes have reached `count`.
    pub(super) async fn check_counters(&self, count: u64, copies: usize) {
        let until = self.now() + 10 * SECOND;
        let counts = || self.ids().into_iter().filter_map(|id| self.count(id));
        while counts().filter(|other| *other == count).count() < copies {
            let others: Vec<u64> = counts().collect();
            assert!(self.now() < until, "{others:?} do not become {count} on {copies}");
            self.sleep(MS * 10).await;
        }
    }

    pub(super) fn count(&self, id: NodeId) -> Option<u64> {
        self.cluster.inspect(id, |counter| counter.0)
    }

    /// Submits so many times at one node at once, and waits for nothing.
    pub(super) fn submit_many(&self, node: NodeId, command: Command, many: usize) -> Submitted {
        Submitted((0..many).map(|_| self.propose(node, command)).collect())
    }
}

/// What was submitted at once.
pub(super) struct Submitted(pub(super) Vec<Proposal<u64>>);

impl Submitted {
    pub(super) fn answered(&self) -> usize {
        self.0.iter().filter(|proposal| proposal.is_answered()).count()
    }

    /// The counts of those that were carried out, sorted.
    pub(super) fn counts(&self) -> Vec<u64> {
        let done = |proposal: &Proposal<u64>| proposal.answer().and_then(Result::ok);
        let mut counts: Vec<u64> = self.0.iter().filter_map(done).collect();
        counts.sort_unstable();
        counts
    }

    /// How many may or may not have been carried out.
    pub(super) fn maybes(&self) -> usize {
        self.errors().iter().filter(|error| error.may_take_effect()).count()
    }

    pub(super) fn errors(&self) -> Vec<ProposeError> {
        self.0.iter().filter_map(|proposal| proposal.answer()?.err()).collect()
    }
}
