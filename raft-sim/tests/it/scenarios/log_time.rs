//! The log's own time: it goes on although nobody writes, it is the same for all, and it stands still while nobody leads.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use raft_rsm::raft_core::{LogIndex, NodeId};
use raft_rsm::{Context, SnapshotView, StateMachine};
use raft_sim::NodeSetup;
use raft_sim::runtime::Clock;

use super::stand::{MS, SECOND, Stand, run};

/// Alarms, each of which goes off at a time of the log.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Alarms {
    set: BTreeMap<(Duration, u64), ()>,
    /// Those that went off, each with when it was to, and where and when it did.
    gone_off: Vec<(u64, Duration, LogIndex, Duration)>,
}

impl StateMachine for Alarms {
    /// A number, and after how long it goes off.
    type Command = (u64, Duration);
    type Response = ();
    type Query = ();
    type Answer = ();

    fn apply(&mut self, context: &Context, (number, after): (u64, Duration)) {
        self.set.insert((context.time + after, number), ());
    }

    fn advance(&mut self, context: &Context) {
        while let Some(((at, number), ())) = self.set.first_key_value()
            && *at <= context.time
        {
            self.gone_off.push((*number, *at, context.index, context.time));
            self.set.pop_first();
        }
    }

    fn due(&self) -> Option<Duration> {
        self.set.first_key_value().map(|((at, _), ())| *at)
    }

    fn query(&self, (): ()) {}

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let image = postcard::to_allocvec(self).unwrap();
        Box::new(move |to: &mut dyn io::Write| to.write_all(&image))
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes)?;
        *self = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        Ok(())
    }
}

/// Clocks that differ by up to a tenth, and a snapshot now and then.
fn set_up(seed: u64, setup: &mut NodeSetup) {
    let drifts_ppm = [0, 50_000, -50_000, 500, -500];
    let id = setup.options.core.id.0;
    let drift_ppm = drifts_ppm[usize::try_from((seed + id) % 5).unwrap()];
    setup.clock = Clock { origin: SECOND * u32::try_from(id * 1000).unwrap(), drift_ppm };
    setup.options.snapshot_log_bytes = 2000;
    setup.options.core.limits.kept_bytes_max = 500;
}

async fn set(stand: &Stand<Alarms>, number: u64, after: Duration) {
    loop {
        let leader = stand.one_leader().await;
        let proposal = stand.propose(leader, (number, after));
        stand.sleep(MS * 300).await;
        if proposal.is_done() {
            return;
        }
        // Whoever leads next is asked; one that is set twice goes off twice, everywhere alike.
    }
}

fn gone_off(stand: &Stand<Alarms>, id: NodeId) -> Vec<(u64, Duration, LogIndex, Duration)> {
    stand.cluster.inspect(id, |alarms: &Alarms| alarms.gone_off.clone()).unwrap_or_default()
}

#[test]
fn a_leader_tells_the_log_the_time_when_something_is_due_and_is_silent_otherwise() {
    run(3, 0..5, Alarms::default, set_up, |stand| async move {
        set(&stand, 1, 2 * SECOND).await;
        set(&stand, 2, 20 * SECOND).await;
        stand.sleep(40 * SECOND).await;
        for id in stand.ids() {
            let gone_off = gone_off(&stand, id);
            assert_eq!(gone_off.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2]);
            // They went off when they were due, or soon after.
            for (_, at, _, time) in gone_off {
                assert!(time >= at && time - at < 200 * MS, "due at {at:?}, gone off at {time:?}");
            }
        }
        let told = stand.cluster.told();
        let marks = told.iter().filter(|told| told.command.is_none()).count();
        // One each when it is due, and before that one for each quarter of the wait that has passed, or each second: 20
        // seconds are down to 4 after six of them.
        assert!((10..=14).contains(&marks), "{marks} marks");
        stand.sleep(1000 * SECOND).await;
        assert_eq!(stand.cluster.told().len(), told.len(), "nothing is due, so nothing is told");
    });
}

#[test]
fn what_is_due_ends_at_the_same_entry_on_all_replicas_whoever_leads_on_whatever_clock() {
    run(5, 0..10, Alarms::default, set_up, |stand| async move {
        for round in 0..15 {
            let after = stand.draw(|random| random.duration(&(MS * 100..SECOND * 5)));
            set(&stand, round, after).await;
            let leader = stand.one_leader().await;
            stand.crash(leader);
            let pause = stand.draw(|random| random.duration(&(MS * 10..SECOND)));
            stand.sleep(pause).await;
            stand.start(leader);
        }
        stand.sleep(20 * SECOND).await;
        let first = gone_off(&stand, NodeId(1));
        assert!(first.len() >= 15, "{first:?}");
        for id in stand.ids() {
            assert_eq!(gone_off(&stand, id), first, "node {id}");
        }
        assert_eq!(stand.cluster.told_differently(), None);
    });
}

#[test]
fn nothing_ends_while_nobody_leads_and_what_was_left_is_left_afterwards() {
    run(3, 0..10, Alarms::default, set_up, |stand| async move {
        set(&stand, 1, 4 * SECOND).await;
        let set_at = stand.now();
        // Nobody can lead.
        stand.cut_all(&stand.ids());
        stand.sleep(60 * SECOND).await;
        for id in stand.ids() {
            assert_eq!(gone_off(&stand, id), [], "node {id}");
        }
        let led_for = MS * 500 + SECOND;
        stand.connect_all();
        let connected_at = stand.now();
        while gone_off(&stand, stand.ids()[0]).is_empty() {
            stand.sleep(10 * MS).await;
            assert!(stand.now() - connected_at < 10 * SECOND, "it goes off at last");
        }
        // The old leader's last entry told little of the time before.
        let waited = stand.now() - connected_at;
        assert!(waited + led_for > 3 * SECOND, "set at {set_at:?}, gone off {waited:?} after");
    });
}
