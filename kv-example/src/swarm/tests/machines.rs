//! Stores that end leases by a clock of their own, and that lose or double what is watched.

use std::io;

use raft_rsm::raft_core::LogIndex;
use raft_rsm::{Admission, Context, SnapshotView};

use super::*;
use crate::store::{Changes, Cursor};

/// What is wrong with a store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Leases end by how long this process has run.
    LocalClock,
    /// A node that has restored a snapshot says that nothing has happened before.
    LosesEvents,
    /// Nodes count differently how much of a moment was told.
    DoublesEvents,
    /// Whoever asks for what has happened is told at times that it is forgotten.
    ForgetsTooEarly,
    /// Whoever asks for keys to which nothing has happened is sent back to where it was.
    StandsStill,
}

struct Faulty {
    store: Store,
    fault: Fault,
    /// How often the log's time was told to this process: no part of the state.
    ticks: u32,
    is_restored: bool,
}

fn faulty(fault: Fault) -> impl Fn() -> Faulty + Send + Sync + Copy + 'static {
    move || Faulty { store: store(), fault, ticks: 0, is_restored: false }
}

impl StateMachine for Faulty {
    type Command = Command;
    type Response = Response;
    type Query = Query;
    type Answer = Answer;

    fn apply(&mut self, context: &Context, command: Command) -> Response {
        self.store.apply(context, command)
    }

    fn advance(&mut self, context: &Context) {
        self.ticks += 1;
        let mut context = *context;
        if self.fault == Fault::LocalClock {
            context.time += Duration::from_millis(1) * self.ticks;
        }
        self.store.advance(&context);
    }

    fn due(&self) -> Option<Duration> {
        self.store.due()
    }

    fn admission(&self) -> Admission<Command> {
        self.store.admission()
    }

    fn query(&self, query: Query) -> Answer {
        let asked_from = match &query {
            Query::Changes { from, .. } => *from,
            Query::Get { .. } | Query::Scan { .. } | Query::Lease { .. } | Query::About => {
                Cursor::default()
            }
        };
        match (self.store.query(query), self.fault) {
            (Answer::Changes(Changes::Compacted { oldest }), Fault::LosesEvents)
                if self.is_restored =>
            {
                let next = Cursor::from(oldest);
                Answer::Changes(Changes::Events { events: Vec::new(), next })
            }
            (Answer::Changes(Changes::Events { events, next }), Fault::DoublesEvents)
                if self.is_restored =>
            {
                let next = events.last().map_or(next, |event| Cursor::from(event.revision));
                Answer::Changes(Changes::Events { events, next })
            }
            (Answer::Changes(Changes::Events { events, next }), Fault::ForgetsTooEarly)
                if !events.is_empty() && next.revision.0 % 2 == 0 =>
            {
                Answer::Changes(Changes::Compacted { oldest: next.revision })
            }
            (Answer::Changes(Changes::Events { events, .. }), Fault::StandsStill)
                if events.is_empty() =>
            {
                Answer::Changes(Changes::Events { events, next: asked_from })
            }
            (answer, _) => answer,
        }
    }

    fn is_ready(&self, query: &Query, since: LogIndex) -> bool {
        self.store.is_ready(query, since)
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        self.store.snapshot()
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        self.is_restored = true;
        self.store.restore(image)
    }
}

/// Whichever checker sees it first, it is one of these; and the workload's own judgement sees it alone.
fn is_found(fault: Fault, first: &[&str]) {
    let violated = found(faulty(fault), Clerks::<Faulty>::default, None);
    assert!(first.contains(&&*violated.violation.checker), "{violated}");
    let violated = found(faulty(fault), Clerks::<Faulty>::default, Some("workload"));
    assert_eq!(violated.violation.checker, "workload");
}

#[test]
fn the_stand_alone_does_no_harm() {
    for seed in 0..10 {
        let run = Simulation::new(seed).bounds(bounds()).machine(faulty(Fault::None));
        run.workload(Clerks::default()).run().unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_lease_that_is_ended_by_a_local_clock_is_found() {
    is_found(
        Fault::LocalClock,
        &["state machine safety", "workload", "same state", "linearizability"],
    );
}

#[test]
fn a_watch_that_loses_an_event_at_a_restore_is_found() {
    is_found(Fault::LosesEvents, &["workload"]);
}

#[test]
fn a_watch_that_doubles_an_event_across_nodes_is_found() {
    is_found(Fault::DoublesEvents, &["workload"]);
}

#[test]
fn a_watch_that_is_told_too_early_that_it_came_too_late_is_found() {
    is_found(Fault::ForgetsTooEarly, &["workload"]);
}

#[test]
fn a_watch_that_never_moves_on_is_found() {
    is_found(Fault::StandsStill, &["workload", "liveness"]);
}
