use std::task::Waker;

use futures::FutureExt;
use futures::channel::oneshot;
use raft_core::{Incarnation, Term};

use super::*;
use crate::nothing::Nothing;
use crate::payload::Known;

fn intake(change: impl FnOnce(&mut Options)) -> Intake<Nothing> {
    let mut options = Options::new(NodeId(1));
    change(&mut options);
    Intake::new(&options)
}

/// Whether it was taken.
fn ask(intake: &Intake<Nothing>, len_bytes: usize) -> bool {
    let (sender, answer) = oneshot::channel();
    let (respond, consistency) = (Responder::Local(sender), Consistency::Stale);
    let wait = Duration::ZERO;
    intake.request(Request::Query { query: (), consistency, wait, len_bytes, respond });
    match answer.now_or_never() {
        None => true,
        Some(answer) => {
            assert_eq!(answer.expect("answered"), Err(QueryError::Busy));
            false
        }
    }
}

/// Whether it was taken.
fn propose(intake: &Intake<Nothing>, len_bytes: usize) -> bool {
    let (sender, answer) = oneshot::channel();
    let draft = Draft::encoded_command(Known::Not, &vec![0; len_bytes]);
    intake
        .request(Request::Propose { draft, respond: Proposer::Command(Responder::Local(sender)) });
    match answer.now_or_never() {
        None => true,
        Some(answer) => {
            assert_eq!(answer.expect("answered"), Err(ProposeError::Busy));
            false
        }
    }
}

fn take(intake: &Intake<Nothing>, batch: &mut Batch<Nothing>, pending: Pending) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    intake.poll_take(&mut context, batch, pending).is_ready()
}

fn pending(queries: (usize, usize), others: usize) -> Pending {
    Pending { queries: Load { count: queries.0, bytes: queries.1 }, others }
}

fn packet() -> Packet {
    let (from, to, incarnation) = (NodeId(2), NodeId(1), Incarnation(0));
    let (term, message) = (Term(1), Message::TimeoutNow);
    Packet::Raft(Envelope { from, incarnation, is_meant: true, to, term, message })
}

#[test]
fn queries_and_proposals_have_limits_of_their_own() {
    let intake = intake(|options| {
        options.queries_pending_max = 2;
        options.requests_pending_max = 3;
    });
    assert!(ask(&intake, 1) && ask(&intake, 1) && !ask(&intake, 1));
    assert!(propose(&intake, 1) && propose(&intake, 1) && propose(&intake, 1));
    assert!(!propose(&intake, 1));
    let mut batch = Batch::default();
    assert!(take(&intake, &mut batch, Pending::default()));
    assert_eq!((batch.requests.len(), batch.refused.requests), (5, 2));
}

#[test]
fn what_the_driver_holds_counts_with_what_it_has_not_seen() {
    let intake = intake(|options| {
        options.queries_pending_max = 4;
        options.requests_pending_max = 4;
    });
    assert!(!take(&intake, &mut Batch::default(), pending((3, 0), 2)));
    assert!(ask(&intake, 1) && !ask(&intake, 1));
    assert!(propose(&intake, 1) && propose(&intake, 1) && !propose(&intake, 1));
    assert!(take(&intake, &mut Batch::default(), pending((0, 0), 0)));
    assert!(ask(&intake, 1) && propose(&intake, 1), "there is room again");
}

/// The driver counts what it has taken at its next visit only: more must not slip in meanwhile.
#[test]
fn what_the_driver_has_just_taken_still_counts() {
    let intake = intake(|options| {
        options.requests_pending_max = 4;
        options.queries_pending_max = 4;
    });
    assert!((0..4).all(|_| propose(&intake, 1)) && (0..4).all(|_| ask(&intake, 1)));
    let mut batch = Batch::default();
    assert!(take(&intake, &mut batch, Pending::default()));
    assert!(!propose(&intake, 1) && !ask(&intake, 1), "all are still there");
}

#[test]
fn bytes_are_limited_but_for_the_first_one() {
    let intake = intake(|options| {
        options.queries_pending_bytes_max = 100;
        options.requests_pending_bytes_max = 100;
    });
    assert!(ask(&intake, 1000), "it would never be taken else");
    assert!(!ask(&intake, 1));
    assert!(propose(&intake, 60) && !propose(&intake, 60) && propose(&intake, 40));
    assert!(take(&intake, &mut Batch::default(), pending((0, 0), 0)));
    assert!(!take(&intake, &mut Batch::default(), pending((1, 90), 2)));
    assert!(!ask(&intake, 20) && ask(&intake, 10));
}

#[test]
fn packets_beyond_the_limit_are_dropped_and_counted() {
    let intake = intake(|options| options.packets_pending_max = 2);
    for _ in 0..5 {
        intake.deliver(packet());
    }
    let mut batch = Batch::default();
    assert!(take(&intake, &mut batch, Pending::default()));
    assert_eq!((batch.packets.len(), batch.refused.packets), (2, 3));
}

/// 9 GiB and 20 GB resident (raft-rs #419, tikv #19593): what a burst took is given back.
#[test]
fn a_burst_leaves_no_memory_behind() {
    let intake = intake(|_| ());
    let mut batch = Batch::default();
    for _ in 0..10_000 {
        assert!(ask(&intake, 1));
        intake.deliver(packet());
        intake.complete(Completion::SnapshotSkipped);
    }
    assert!(take(&intake, &mut batch, Pending::default()));
    assert_eq!((batch.requests.len(), batch.packets.len()), (10_000, 10_000));
    // The driver empties it; the next look gives the room back, whether there is something or not.
    batch.requests.clear();
    batch.packets.clear();
    batch.completions.clear();
    assert!(!take(&intake, &mut batch, Pending::default()));
    for room in [batch.requests.capacity(), batch.packets.capacity(), batch.completions.capacity()]
    {
        assert!(room <= 4 * KEPT_ITEMS, "room for {room}");
    }
}

#[test]
fn who_waits_for_room_is_helped_by_a_look_of_the_driver() {
    struct Woken(std::sync::atomic::AtomicBool);
    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let intake = intake(|options| options.queries_pending_max = 4);
    for (held, wakes) in [(0, false), (1, false), (2, true), (4, true)] {
        let woken = std::sync::Arc::new(Woken(false.into()));
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let batch = &mut Batch::default();
        assert!(intake.poll_take(&mut context, batch, pending((held, 0), 0)).is_pending());
        intake.queries_answered();
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::SeqCst), wakes, "{held} of 4");
    }
}
