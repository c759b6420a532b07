//! A machine that keeps all commands, and commits on a cluster of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::time::Duration;

use raft_rsm::raft_core::{LogIndex, NodeId};
use raft_rsm::{Context, SnapshotView, StateMachine};
use raft_sim::network::Conditions;
use raft_sim::{NodeSetup, Report};

use super::stand::{MS, Proposal, SECOND, Stand, run};

/// A commit must be there after this.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// A proposal that a leader has taken is made again elsewhere after this.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// All commands that were applied, in their order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    numbers: Vec<u64>,
    last: LogIndex,
}

/// A number, and bytes that make it long.
pub(super) type Command = (u64, Vec<u8>);

/// Whether a proposal may be made again.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Retry {
    Yes,
    No,
}

impl Ledger {
    /// At which place, counted from 1, a command stands.
    pub(super) fn place(&self, number: u64) -> Option<usize> {
        self.numbers.iter().rposition(|other| *other == number).map(|before| before + 1)
    }

    pub(super) fn numbers(&self) -> &[u64] {
        &self.numbers
    }
}

impl StateMachine for Ledger {
    type Command = Command;
    /// The place of the command, counted from 1.
    type Response = u64;
    type Query = ();
    /// How many commands there are.
    type Answer = u64;

    fn apply(&mut self, context: &Context, (number, _): Command) -> u64 {
        assert!(context.index > self.last, "{} is applied after {}", context.index, self.last);
        self.last = context.index;
        self.numbers.push(number);
        self.numbers.len() as u64
    }

    fn query(&self, (): ()) -> u64 {
        self.numbers.len() as u64
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let state = (self.numbers.clone(), self.last.0);
        Box::new(move |image: &mut dyn io::Write| {
            let bytes = postcard::to_allocvec(&state).map_err(io::Error::other)?;
            image.write_all(&bytes)
        })
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes)?;
        let (numbers, last): (Vec<u64>, u64) =
            postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        // "Snapshot up to i" after a later snapshot was installed must do nothing.
        assert!(last >= self.last.0, "{last} is restored after {}", self.last);
        (self.numbers, self.last) = (numbers, LogIndex(last));
        Ok(())
    }
}

/// Runs a scenario of the Raft layer with each seed.
pub(super) fn raft<F: Future<Output = ()> + Send + 'static>(
    nodes: usize,
    seeds: Range<u64>,
    scenario: impl Fn(Stand<Ledger>) -> F,
) -> Vec<Report> {
    raft_with(nodes, seeds, |_, _| {}, scenario)
}

/// The same with other settings.
pub(super) fn raft_with<F: Future<Output = ()> + Send + 'static>(
    nodes: usize,
    seeds: Range<u64>,
    set_up: impl Fn(u64, &mut NodeSetup),
    scenario: impl Fn(Stand<Ledger>) -> F,
) -> Vec<Report> {
    run(nodes, seeds, Ledger::default, set_up, |stand: Stand<Ledger>| {
        let story = scenario(stand.clone());
        async move {
            stand.set_conditions(reliable());
            story.await;
            stand.check_ledgers();
        }
    })
}

/// The networks of the Raft scenarios: those who cannot reach a node notice it late.
pub(super) fn reliable() -> Conditions {
    Conditions::reliable().with_long_delays()
}

pub(super) fn unreliable() -> Conditions {
    Conditions::unreliable().with_long_delays()
}

impl Stand<Ledger> {
    /// Has a new command committed: proposes it at whoever leads until at least `copies` nodes have applied it at the
    /// same place. Returns that place.
    pub(super) async fn commit(&self, copies: usize) -> usize {
        self.commit_command((self.fresh(), Vec::new()), copies, Retry::Yes).await
    }

    /// The same where the first leader that takes it must succeed.
    pub(super) async fn commit_at_once(&self, copies: usize) -> usize {
        self.commit_command((self.fresh(), Vec::new()), copies, Retry::No).await
    }

    pub(super) async fn commit_command(
        &self,
        command: Command,
        copies: usize,
        retry: Retry,
    ) -> usize {
        let number = command.0;
        let until = self.now() + COMMIT_WITHIN;
        while self.now() < until {
            let Some(proposal) = self.propose_at_leader(command.clone()).await else {
                self.sleep(MS * 10).await;
                continue;
            };
            let again_at = self.now() + AGAIN_AFTER;
            while self.now() < again_at {
                if let Some(place) = self.committed(number, copies) {
                    return place;
                }
                if proposal.is_refused() && retry == Retry::Yes {
                    break;
                }
                self.sleep(MS * 5).await;
            }
            assert!(retry == Retry::Yes, "command {number} is not committed on {copies}");
        }
        panic!("command {number} is not committed on {copies} within {COMMIT_WITHIN:?}");
    }

    /// Proposes at a connected node that takes itself for the leader; `None` if there is none, or it knows better.
    async fn propose_at_leader(&self, command: Command) -> Option<Proposal<u64>> {
        for (_, leader) in self.leaders() {
            if let Some(proposal) = self.accepted(leader, command.clone()).await {
                return Some(proposal);
            }
        }
        None
    }

    /// Proposes a new command at a node, whatever it takes itself for.
    pub(super) fn propose_new(&self, id: NodeId) -> (u64, Proposal<u64>) {
        let number = self.fresh();
        (number, self.propose(id, (number, Vec::new())))
    }

    /// Proposes so many new commands at a node at once, which must take all of them.
    pub(super) async fn propose_many(&self, id: NodeId, many: usize) -> Vec<(u64, Proposal<u64>)> {
        let proposed: Vec<_> = (0..many).map(|_| self.propose_new(id)).collect();
        self.sleep(MS).await;
        let taken = proposed.iter().all(|(_, proposal)| !proposal.is_refused());
        assert!(taken, "node {id} does not take all of {many} proposals");
        proposed
    }

    /// The place of a command that at least `copies` nodes have applied.
    pub(super) fn committed(&self, number: u64, copies: usize) -> Option<usize> {
        let place = |id| self.cluster.inspect(id, |ledger| ledger.place(number)).flatten();
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for place in self.ids().into_iter().filter_map(place) {
            *places.entry(place).or_default() += 1;
        }
        places.into_iter().find(|(_, nodes)| *nodes >= copies).map(|(place, _)| place)
    }

    /// On how many nodes a command was applied.
    pub(super) fn copies(&self, number: u64) -> usize {
        let has = |id| self.cluster.inspect(id, |ledger| ledger.place(number).is_some());
        self.ids().into_iter().filter(|id| has(*id) == Some(true)).count()
    }

    pub(super) fn numbers(&self, id: NodeId) -> Vec<u64> {
        self.cluster.inspect(id, |ledger| ledger.numbers().to_vec()).unwrap_or_default()
    }

    /// No two nodes differ at a place.
    pub(super) fn check_ledgers(&self) {
        let ledgers: Vec<_> = self.ids().into_iter().map(|id| self.numbers(id)).collect();
        let longest = ledgers.iter().max_by_key(|ledger| ledger.len()).unwrap();
        for ledger in &ledgers {
            assert_eq!(ledger[..], longest[..ledger.len()], "the machines differ");
        }
    }

    /// Waits, and then nobody has applied any of these.
    pub(super) async fn assert_uncommitted(&self, proposed: &[(u64, Proposal<u64>)]) {
        self.sleep(2 * SECOND).await;
        for (number, proposal) in proposed {
            assert_eq!(self.copies(*number), 0, "{number} is applied without a majority");
            assert!(!proposal.is_done(), "{number} is acknowledged without a majority");
        }
    }
}
