use std::ops::Range;

use super::*;
use crate::disk::Operation;
use crate::event::OperationOutcome;
use crate::faults::{Beside, Change};
use crate::registers::Registers;
use crate::{Report, Simulation};

const MS: Duration = Duration::from_millis(1);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

#[derive(Default)]
struct Events(Mutex<Vec<Event>>);

impl Listener for Events {
    fn event(&self, _now: Duration, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

type Named = Nemesis<Registers>;

/// Looks at the cluster at a time, in milliseconds.
type Look = (u32, fn(&Cluster<Registers>));

fn planned(number: usize, millis: Range<u32>, fault: Fault) -> Planned {
    let (at, lasts) = (MS * millis.start, MS * (millis.end - millis.start));
    Planned { number, at, lasts, fault }
}

/// Three nodes on which these faults happen, a few from the time 500 ms on; `look` looks at times.
fn run(faults: Vec<Planned>, until: Duration, looks: Vec<Look>) -> (Report, Arc<Events>) {
    run_with(0, faults, until, looks)
}

/// The same with so many spare nodes.
fn run_with(
    spares: usize,
    faults: Vec<Planned>,
    until: Duration,
    looks: Vec<Look>,
) -> (Report, Arc<Events>) {
    let events = Arc::new(Events::default());
    let listener = Arc::clone(&events) as Arc<dyn Listener>;
    let simulation = Simulation::new(3).nodes(3 + spares).machine(Registers::default);
    let report = simulation.scenario(
        |setup| setup.is_spare = setup.options.core.id.0 > 3,
        |cluster| async move {
            let nemesis = Named::new(cluster.clone(), listener, Conditions::reliable());
            let ended = nemesis.schedule(&faults, until);
            for (at, look) in looks {
                cluster.sleep((MS * at).saturating_sub(cluster.now())).await;
                look(&cluster);
            }
            ended.await;
            assert!(cluster.now() <= until);
            nemesis.heal();
            cluster.sleep(MS * 5000).await;
            nemesis.recover(MS * 20_000).await;
            assert!(nemesis.committed().is_some() && cluster.running().len() == 3 + spares);
        },
    );
    (report.unwrap(), events)
}

fn kinds(events: &Events) -> Vec<&'static str> {
    let events = events.0.lock().unwrap();
    let kinds = events
        .iter()
        .filter_map(|event| if let Event::Fault { kind, .. } = event { Some(*kind) } else { None });
    kinds.collect()
}

#[test]
fn the_end_of_a_fault_does_not_end_another_one_that_still_lasts() {
    let one = Target::Node(ONE);
    let bad = |loss: f64| {
        let mut conditions = Conditions::reliable();
        conditions.requests.loss = loss;
        Fault::Network { conditions: Box::new(conditions) }
    };
    let faults = vec![
        planned(0, 500..1000, Fault::Isolate { node: one }),
        planned(1, 600..1500, Fault::OneWay { from: one, to: TWO }),
        planned(2, 500..1000, Fault::StuckDisk { node: one }),
        planned(3, 400..1500, Fault::StuckDisk { node: one }),
        planned(4, 500..1000, Fault::FullDisk { node: one }),
        planned(5, 400..1500, Fault::FullDisk { node: one }),
        planned(6, 500..1000, bad(1.0)),
        planned(7, 400..1500, bad(0.5)),
        planned(8, 500..1000, Fault::SlowDisk { node: one, factor: 3 }),
        planned(9, 400..1500, Fault::SlowDisk { node: one, factor: 7 }),
    ];
    run(
        faults,
        MS * 3000,
        vec![
            (1100, |cluster| {
                assert!(cluster.network().is_cut(Site::Node(ONE), Site::Node(TWO)));
                assert!(!cluster.network().is_cut(Site::Node(TWO), Site::Node(ONE)));
                let disk = cluster.disk(ONE);
                assert!(disk.work_time(cluster.now(), "write") >= MS * 400);
                assert!(disk.work_time(MS * 1600, "write") >= MS * 7 / 20);
                disk.mount().create(std::path::Path::new("/x")).unwrap_err();
                assert_eq!(cluster.network().conditions().requests.loss, 0.5);
            }),
            (1600, |cluster| {
                assert!(!cluster.network().is_cut(Site::Node(ONE), Site::Node(TWO)));
                let disk = cluster.disk(ONE);
                assert!(disk.work_time(cluster.now(), "write") < MS * 2);
                disk.mount().create(std::path::Path::new("/x")).unwrap();
                assert_eq!(cluster.network().conditions(), Conditions::reliable());
            }),
        ],
    );
}

#[test]
fn two_pauses_last_until_the_end_of_the_later_one_and_tell_of_one() {
    let pause = || Fault::Pause { node: Target::Node(ONE) };
    let faults = vec![planned(0, 500..1500, pause()), planned(1, 600..800, pause())];
    let (report, events) = run(faults, MS * 3000, vec![]);
    assert_eq!((report.counts.pauses, kinds(&events).len()), (1, 2));
}

#[test]
fn what_has_no_effect_is_not_told() {
    let one = Target::Node(ONE);
    let crash = Fault::Crash { node: one, crash: Crash::Killed, moment: Moment::Now };
    let operation = Operation::Write;
    let faults = vec![
        planned(0, 500..1500, crash.clone()),
        planned(1, 600..700, crash),
        planned(2, 600..700, Fault::Pause { node: one }),
        planned(3, 600..700, Fault::StuckDisk { node: one }),
        planned(4, 600..700, Fault::FullDisk { node: one }),
        planned(5, 600..700, Fault::FailingDisk { node: one, operation }),
    ];
    let (report, events) = run(
        faults,
        MS * 3000,
        vec![
            // The end of the others does not start it.
            (1400, |cluster| assert!(!cluster.running().contains(&ONE))),
            (1600, |cluster| assert!(cluster.running().contains(&ONE))),
        ],
    );
    assert_eq!(kinds(&events), ["kill"]);
    assert_eq!((report.counts.kills, report.counts.pauses), (1, 0));
}

#[test]
fn a_link_has_two_ends_even_if_the_other_one_is_the_leader() {
    for other in 1..=3 {
        let other = NodeId(other);
        let one = Target::LeaderOr(ONE);
        let each = MS * 10;
        let faults = vec![
            planned(0, 2000..2100, Fault::Close { one, other }),
            planned(1, 2000..2100, Fault::Flap { one, other, each }),
            planned(2, 2000..2100, Fault::OneWay { from: one, to: other }),
        ];
        let (report, events) = run(faults, MS * 3000, vec![]);
        assert_eq!(kinds(&events).len(), 3);
        assert_eq!(report.counts.network.disconnects, 2);
        assert!(report.counts.network.lost > 0);
    }
}

#[test]
fn no_fault_goes_on_for_longer_than_it_may() {
    let (one, other, each) = (Target::Node(ONE), TWO, MS * 700);
    let faults = vec![
        planned(0, 500..5000, Fault::Flap { one, other, each }),
        planned(1, 600..5000, Fault::RollingRestart),
        planned(2, 600..5000, Fault::Pause { node: one }),
    ];
    // It looks at the time itself.
    run(faults, MS * 1000, vec![]);
}

fn change(change: Change, beside: Beside) -> Fault {
    Fault::Membership { change, pick: 0x5a5a_1234_5678_9abc, beside }
}

/// What was said about each operation.
fn operations(events: &Events) -> Vec<OperationOutcome> {
    let events = events.0.lock().unwrap();
    let outcomes = events.iter().filter_map(|event| {
        if let Event::Operated { outcome, .. } = event { Some(*outcome) } else { None }
    });
    outcomes.collect()
}

#[test]
fn every_kind_of_change_leads_to_a_configuration_that_is_committed() {
    let kinds = [
        Change::AddLearner,
        Change::AddVoter,
        Change::RemoveLearner,
        Change::Promote,
        Change::Demote,
        Change::RemoveVoter,
        Change::Replace,
        Change::Move,
        Change::Any,
    ];
    let faults = kinds.into_iter().enumerate().map(|(number, kind)| {
        let begin = 2000 + u32::try_from(number).unwrap() * 1000;
        planned(number, begin..begin + 10, change(kind, Beside::Nothing))
    });
    let (report, events) = run_with(2, faults.collect(), MS * 12_000, vec![]);
    // One or two cannot be made of the members that there are then.
    let said = operations(&events);
    assert!(said.len() >= 7 && said.iter().all(|outcome| *outcome == OperationOutcome::Done));
    let membership = report.counts.membership;
    assert!(membership.joint_entered >= 3, "{membership:?}");
    assert_eq!(membership.joint_entered, membership.joint_left);
}

#[test]
fn of_two_changes_that_are_asked_for_at_once_one_is_refused() {
    let faults = vec![planned(0, 2000..2500, change(Change::AddVoter, Beside::AnotherOne))];
    let (_, events) = run_with(2, faults, MS * 4000, vec![]);
    let mut said = operations(&events);
    said.sort_by_key(|outcome| *outcome == OperationOutcome::Done);
    assert_eq!(said, [OperationOutcome::Refused, OperationOutcome::Done]);
}

#[test]
fn a_change_whose_leader_is_killed_is_completed_by_the_next_one_or_never_was() {
    let mut by_another = 0;
    for micros in (0..20_000).step_by(500) {
        let beside = Beside::Kill(Duration::from_micros(micros));
        let faults = vec![planned(0, 2000..4000, change(Change::Any, beside))];
        let (report, _) = run_with(2, faults, MS * 5000, vec![]);
        by_another += report.counts.membership.joint_left_by_another;
    }
    assert!(by_another > 0);
}

#[test]
fn a_node_that_loses_its_disk_becomes_again_what_it_was_as_another_incarnation() {
    let faults = vec![planned(0, 2000..3000, Fault::WipedDisk { node: Target::Node(TWO) })];
    let look: Look = (6000, |cluster| {
        let incarnation = cluster.status(TWO).unwrap().incarnation;
        let leader = cluster.leader().and_then(|leader| cluster.status(leader)).unwrap();
        assert!(leader.configuration.is_voter_as(TWO, incarnation));
        assert_eq!(leader.configuration.voters().len(), 3);
    });
    let (report, events) = run(faults, MS * 7000, vec![look]);
    // A learner first, and then a voter.
    assert_eq!(operations(&events), [OperationOutcome::Done; 2]);
    let membership = report.counts.membership;
    assert_eq!((membership.wiped, membership.joint_entered), (1, 2));
}

#[test]
fn no_disk_is_lost_while_that_cannot_be_survived() {
    let wiped = |id| Fault::WipedDisk { node: Target::Node(id) };
    let crash =
        Fault::Crash { node: Target::Node(NodeId(3)), crash: Crash::Killed, moment: Moment::Now };
    let faults = vec![planned(0, 1000..4000, crash), planned(1, 2000..3500, wiped(TWO))];
    let (report, _) = run(faults, MS * 5000, vec![]);
    assert_eq!(report.counts.membership.wiped, 0, "who is down may hold what nobody else does");
    let faults = vec![planned(0, 2000..4000, wiped(ONE)), planned(1, 2500..2600, wiped(TWO))];
    let (report, _) = run(faults, MS * 5000, vec![]);
    assert_eq!(report.counts.membership.wiped, 1, "one after the other");
}

#[test]
fn no_change_is_asked_for_while_a_node_waits_to_become_what_it_was() {
    let wiped = Fault::WipedDisk { node: Target::Node(TWO) };
    let during = change(Change::Any, Beside::Nothing);
    let faults = vec![planned(0, 2000..4000, wiped), planned(1, 2500..2600, during)];
    let (_, events) = run_with(2, faults, MS * 5000, vec![]);
    assert_eq!(kinds(&events), ["wiped disk"]);
}

#[test]
fn the_lead_is_handed_over_to_whom_it_is_said() {
    for to in [Some(ONE), Some(TWO), Some(NodeId(3)), None] {
        let faults = vec![planned(0, 2000..2500, Fault::Transfer { to })];
        let (report, events) = run(faults, MS * 3000, vec![]);
        let said = operations(&events);
        let leads_already = said == [OperationOutcome::Refused];
        assert!(leads_already || said == [OperationOutcome::Done], "{to:?}: {said:?}");
        assert_eq!(report.counts.transfers.by_sick_disks, 0);
    }
}

#[test]
fn who_was_shut_down_as_no_member_is_started_once_it_is_one() {
    let simulation = Simulation::new(3).nodes(4).machine(Registers::default);
    let report = simulation.scenario(
        |setup| {
            setup.is_spare = setup.options.core.id == NodeId(4);
            setup.options.core.pre_vote = false;
        },
        |cluster| async move {
            let listener = Arc::new(Events::default()) as Arc<dyn Listener>;
            let nemesis = Named::new(cluster.clone(), listener, Conditions::reliable());
            cluster.sleep(MS * 2000).await;
            nemesis.heal();
            nemesis.shut_down_others(MS * 100).await;
            assert!(!cluster.running().contains(&NodeId(4)), "it might campaign for ever");
            // Asked for before all faults had ended, it may come to pass at any time.
            nemesis.change(Change::AddLearner, 0, Beside::Nothing, MS * 2000).await;
            nemesis.recover(MS * 20_000).await;
            cluster.sleep(MS * 100).await;
            assert!(nemesis.committed().unwrap().contains(NodeId(4)));
            assert!(cluster.running().contains(&NodeId(4)));
        },
    );
    report.unwrap();
}
