//! Snapshots: a short log, and nodes that are behind it.

use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raft_rsm::raft_core::NodeId;
use raft_sim::disk::Speed;
use raft_sim::event::Crash;
use raft_sim::{NodeSetup, Report};

use super::ledger::{Ledger, raft_with, unreliable};
use super::stand::{MS, SECOND, Stand};

/// A snapshot each so many commands.
const EACH: usize = 10;
/// The log of a node, without its snapshot, in bytes of content.
const LOG_BYTES_MAX: u64 = 2000;

/// What the victim suffers.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Fault {
    None,
    Cut,
    Crash,
}

/// The service takes the snapshots, and the log keeps nothing behind them.
fn set_up(_: u64, setup: &mut NodeSetup) {
    setup.options.snapshot_log_bytes = u64::MAX;
    setup.options.core.limits.kept_entries_max = 0;
    setup.segment_bytes = 512;
}

fn snapshots<F: Future<Output = ()> + Send + 'static>(
    seeds: Range<u64>,
    scenario: impl Fn(Stand<Ledger>) -> F,
) -> Vec<Report> {
    let reports = raft_with(3, seeds, set_up, |stand| {
        stand.ids().into_iter().for_each(|id| stand.spawn(take_snapshots(stand.clone(), id)));
        scenario(stand)
    });
    for report in &reports {
        assert!(report.counts.snapshots_stored > 0, "no snapshot was taken");
    }
    reports
}

/// Has a node take a snapshot of each ten commands that it applies.
async fn take_snapshots(stand: Stand<Ledger>, id: NodeId) {
    let mut taken = 0;
    loop {
        stand.sleep(MS).await;
        let tens = stand.cluster.inspect(id, |ledger| ledger.numbers().len() / EACH);
        if tens.is_some_and(|tens| tens > taken)
            && let Some(replica) = stand.cluster.replica(id)
            && replica.snapshot().await.is_ok()
        {
            taken = tens.unwrap_or(taken);
        }
    }
}

fn check_log_bytes(stand: &Stand<Ledger>) {
    for id in stand.ids() {
        if let Some(status) = stand.cluster.status(id) {
            let bytes = status.log_bytes;
            assert!(bytes < LOG_BYTES_MAX, "the log of node {id} has {bytes} bytes");
        }
    }
}

/// From 5 to 14.
fn some_commands(stand: &Stand<Ledger>) -> usize {
    EACH / 2 + stand.draw(|random| random.index(EACH))
}

/// Thirty times a node misses some commands, and comes back.
async fn install(stand: Stand<Ledger>, fault: Fault) {
    stand.commit(3).await;
    for round in 0..30 {
        let leader = stand.one_leader().await;
        let victim = if round % 3 == 1 { leader } else { stand.after(leader, 1) };
        match fault {
            Fault::None => {}
            Fault::Cut => stand.cut(victim),
            Fault::Crash => stand.crash(victim),
        }
        stand.commit(2).await;
        let (_, leader) = stand.leaders()[0];
        for _ in 0..some_commands(&stand) {
            stand.propose_new(leader);
        }
        stand.commit(if fault == Fault::None { 3 } else { 2 }).await;
        check_log_bytes(&stand);
        match fault {
            Fault::None => {}
            Fault::Cut => stand.connect(victim),
            Fault::Crash => stand.start(victim),
        }
        stand.commit(3).await;
        check_log_bytes(&stand);
    }
}

fn assert_installed(reports: &[Report]) {
    for report in reports {
        assert!(report.counts.snapshots_installed > 0, "no snapshot was installed");
    }
}

#[test]
fn snapshot_basic_keeps_the_log_short() {
    snapshots(0..5, |stand| install(stand, Fault::None));
}

#[test]
fn snapshot_install_brings_back_who_was_cut_off() {
    assert_installed(&snapshots(0..5, |stand| install(stand, Fault::Cut)));
}

#[test]
fn snapshot_install_unreliable_brings_back_who_was_cut_off() {
    let reports = snapshots(0..5, |stand| async move {
        stand.set_conditions(unreliable());
        install(stand, Fault::Cut).await;
    });
    assert_installed(&reports);
}

#[test]
fn snapshot_install_crash_brings_back_who_crashed() {
    assert_installed(&snapshots(0..5, |stand| install(stand, Fault::Crash)));
}

#[test]
fn snapshot_install_unreliable_crash_brings_back_who_crashed() {
    let reports = snapshots(0..5, |stand| async move {
        stand.set_conditions(unreliable());
        install(stand, Fault::Crash).await;
    });
    assert_installed(&reports);
}

async fn crash_and_start_all(stand: &Stand<Ledger>) {
    stand.crash_all(&stand.ids());
    stand.sleep(MS).await;
    stand.ids().into_iter().for_each(|id| stand.start(id));
}

#[test]
fn snapshot_all_crash_loses_nothing() {
    snapshots(0..5, |stand| async move {
        stand.set_conditions(unreliable());
        stand.commit(3).await;
        for _ in 0..5 {
            for _ in 0..some_commands(&stand) {
                stand.commit(3).await;
            }
            let before = stand.commit(3).await;
            crash_and_start_all(&stand).await;
            let after = stand.commit(3).await;
            assert!(after > before, "{after} after {before}");
        }
    });
}

#[test]
fn snapshot_init_begins_with_what_the_snapshot_holds() {
    snapshots(0..5, |stand| async move {
        stand.set_conditions(unreliable());
        for _ in 0..12 {
            stand.commit(3).await;
        }
        for commands in [13, 14] {
            crash_and_start_all(&stand).await;
            // A command that was proposed again because its leader was slow counts twice.
            assert!(stand.commit(3).await >= commands);
        }
    });
}

#[test]
fn snapshot_that_is_finished_after_a_later_one_was_installed_does_nothing() {
    let late = Arc::new(AtomicUsize::new(0));
    let reports = raft_with(3, 0..20, set_up, |stand| {
        let late = Arc::clone(&late);
        async move { late_snapshot(stand, late).await }
    });
    assert_installed(&reports);
    // A single seed may be one of the others.
    assert!(reports.len() < 20 || late.load(Ordering::Relaxed) > 0, "none was late");
}

/// A byte of a snapshot leaves each eighth of a second, in chunks of a second each.
fn set_up_slow(seed: u64, setup: &mut NodeSetup) {
    set_up(seed, setup);
    setup.options.snapshot_chunk_bytes = 8;
    setup.options.snapshot_bytes_per_second_max = Some(8);
}

/// A node misses so much that it takes more than a minute to send it what it missed. Returns who leads, and who is
/// behind and down.
async fn leave_one_behind(stand: &Stand<Ledger>) -> (NodeId, NodeId) {
    let (leader, victims) = leave_behind(stand, 1).await;
    (leader, victims[0])
}

/// The same with several.
async fn leave_behind(stand: &Stand<Ledger>, victims: usize) -> (NodeId, Vec<NodeId>) {
    let nodes = stand.ids().len();
    stand.commit(nodes).await;
    let leader = stand.one_leader().await;
    let victims: Vec<NodeId> = (1..=victims).map(|steps| stand.after(leader, steps)).collect();
    stand.crash_all(&victims);
    for _ in 0..4 {
        stand.propose_many(leader, 100).await;
        stand.commit(nodes - victims.len()).await;
    }
    for id in stand.others(&victims) {
        stand.cluster.replica(id).unwrap().snapshot().await.unwrap();
    }
    (leader, victims)
}

/// Waits until a node has as many commands as another one, and returns how long that took.
async fn caught_up(stand: &Stand<Ledger>, victim: NodeId, leader: NodeId) -> Duration {
    let begin = stand.now();
    while stand.numbers(victim).len() < stand.numbers(leader).len() {
        assert!(stand.now() < begin + 300 * SECOND, "node {victim} does not follow");
        stand.sleep(100 * MS).await;
    }
    stand.now() - begin
}

/// The same in the core alone is `a_snapshot_that_takes_a_minute_to_send_causes_no_election`.
#[test]
fn a_snapshot_whose_rate_makes_it_take_a_minute_causes_no_election() {
    let reports = raft_with(3, 0..5, set_up_slow, |stand| async move {
        let (leader, victim) = leave_one_behind(&stand).await;
        let term = stand.cluster.status(leader).unwrap().term;
        stand.start(victim);
        // The service goes on meanwhile.
        for _ in 0..20 {
            stand.commit(2).await;
            stand.sleep(2 * SECOND).await;
        }
        let took = 40 * SECOND + caught_up(&stand, victim, leader).await;
        assert!(took > 60 * SECOND, "it took {took:?}");
        assert_eq!((stand.one_leader().await, stand.one_term()), (leader, term));
    });
    assert_installed(&reports);
}

/// The files of snapshots that are being written.
fn unfinished(stand: &Stand<Ledger>, id: NodeId) -> Vec<PathBuf> {
    let is_unfinished = |path: &PathBuf| path.extension().is_some_and(|end| end == "tmp");
    stand.cluster.disk(id).files().into_iter().filter(is_unfinished).collect()
}

#[test]
fn a_crash_amid_the_transfer_of_a_snapshot_leaves_nothing_and_it_begins_anew() {
    let reports = raft_with(3, 0..10, set_up_slow, |stand| async move {
        let (leader, victim) = leave_one_behind(&stand).await;
        stand.start(victim);
        stand.sleep(30 * SECOND).await;
        assert_eq!(unfinished(&stand, victim).len(), 1, "it is under way");
        let crash = stand.draw(|random| *random.choose(&[Crash::Killed, Crash::PowerLost]));
        stand.cluster.crash(victim, crash);
        let left = unfinished(&stand, victim).len();
        assert!(left == 1 || crash == Crash::PowerLost, "who is killed cleans nothing up");
        stand.cut(victim);
        stand.start(victim);
        stand.sleep(SECOND).await;
        assert_eq!(unfinished(&stand, victim), Vec::<PathBuf>::new());
        assert_eq!(stand.cluster.status(victim).unwrap().snapshot, None);
        stand.connect(victim);
        let took = caught_up(&stand, victim, leader).await;
        assert!(took > 60 * SECOND, "all of it is sent again: {took:?}");
        stand.commit(3).await;
        assert_eq!(unfinished(&stand, victim), Vec::<PathBuf>::new());
    });
    assert_installed(&reports);
}

/// The bound is one, of two who need one.
#[test]
fn no_more_snapshots_are_sent_at_once_than_are_allowed() {
    let set_up = |seed, setup: &mut NodeSetup| {
        set_up_slow(seed, setup);
        setup.options.snapshot_bytes_per_second_max = Some(64);
        setup.options.snapshots_sending_max = 1;
    };
    let reports = raft_with(5, 0..5, set_up, |stand| async move {
        let (leader, victims) = leave_behind(&stand, 2).await;
        victims.iter().for_each(|victim| stand.start(*victim));
        let until = stand.now() + 60 * SECOND;
        let all = stand.numbers(leader).len();
        while victims.iter().any(|victim| stand.numbers(*victim).len() < all) {
            assert!(stand.now() < until, "{victims:?} do not follow");
            let under_way = victims.iter().map(|victim| unfinished(&stand, *victim).len());
            assert!(under_way.sum::<usize>() <= 1, "two at once");
            stand.sleep(50 * MS).await;
        }
    });
    assert_installed(&reports);
}

async fn late_snapshot(stand: Stand<Ledger>, late: Arc<AtomicUsize>) {
    stand.commit(3).await;
    let leader = stand.one_leader().await;
    let victim = stand.after(leader, 1);
    stand.cut(victim);
    for _ in 0..20 {
        stand.commit(2).await;
    }
    for id in stand.others(&[victim]) {
        stand.cluster.replica(id).unwrap().snapshot().await.unwrap();
    }
    // Which of its disk's works ends first, its own snapshot or the one that comes from the leader, is left to
    // chance.
    let slow = Speed { latency: MS..MS * 400, factor: 1 };
    stand.cluster.disk(victim).set_speed(slow);
    stand.connect(victim);
    let pause = stand.draw(|random| random.duration(&(Duration::ZERO..SECOND / 2)));
    stand.sleep(pause).await;
    let replica = stand.cluster.replica(victim).unwrap();
    let own = replica.clone();
    stand.spawn(async move {
        let taken = own.snapshot().await.unwrap();
        let is_late = own.status().snapshot > Some(taken);
        late.fetch_add(usize::from(is_late), Ordering::Relaxed);
    });
    let mut newest = None;
    let until = stand.now() + 10 * SECOND;
    while stand.numbers(victim).len() < 21 {
        assert!(stand.now() < until, "node {victim} does not follow");
        let snapshot = replica.status().snapshot;
        assert!(snapshot >= newest, "{snapshot:?} after {newest:?}");
        newest = snapshot;
        stand.sleep(MS).await;
    }
    stand.cluster.disk(victim).set_speed(Speed::default());
    stand.sleep(SECOND).await;
    assert!(replica.status().snapshot >= newest);
    // And it is the later one that a restart finds.
    stand.crash(victim);
    stand.start(victim);
    stand.commit(3).await;
}
