//! The paper's Figure 8: leaders that fail before their entries are committed. Once step by step, then a thousand times.

use std::time::Duration;

use raft_rsm::raft_core::{EntryId, NodeId};
use raft_sim::NodeSetup;
use raft_sim::event::Site;

use super::ledger::{Ledger, raft, raft_with, unreliable};
use super::stand::{MS, SECOND, Stand};

/// Shorter than any way through the network.
const MOMENT: Duration = Duration::from_micros(50);

const ROUNDS: usize = 1000;

/// Proposes at all connected nodes, waits a little, and returns who took it last.
async fn round(stand: &Stand<Ledger>) -> Option<NodeId> {
    let number = stand.fresh();
    let mut leader = None;
    for id in stand.ids() {
        if stand.is_running(id)
            && !stand.is_cut(id)
            && stand.accepted(id, (number, Vec::new())).await.is_some()
        {
            leader = Some(id);
        }
    }
    let pause = stand.draw(|random| match random.chance(0.1) {
        true => random.duration(&(Duration::ZERO..MS * 500)),
        false => random.duration(&(Duration::ZERO..MS * 13)),
    });
    stand.sleep(pause).await;
    leader
}

#[test]
fn figure8_crashes_the_leader_in_each_of_a_thousand_rounds() {
    raft(5, 0..6, |stand| async move {
        stand.commit(5).await;
        for _ in 0..ROUNDS {
            if let Some(leader) = round(&stand).await {
                stand.crash(leader);
            }
            if stand.cluster.running().len() < 3 {
                stand.start(stand.draw_node());
            }
        }
        stand.ids().into_iter().for_each(|id| stand.start(id));
        stand.commit(5).await;
    });
}

#[test]
fn figure8_unreliable_cuts_off_the_leader_and_reorders_what_comes_back() {
    raft(5, 0..6, |stand| async move {
        stand.set_conditions(unreliable());
        stand.commit(1).await;
        for number in 0..ROUNDS {
            if number == 200 {
                stand.set_conditions(unreliable().with_long_reordering());
            }
            if let Some(leader) = round(&stand).await
                && stand.draw(|random| random.chance(0.5))
            {
                stand.cut(leader);
            }
            if stand.connected().len() < 3 {
                stand.connect(stand.draw_node());
            }
        }
        stand.connect_all();
        // Within 10 s, on the same network.
        stand.commit(5).await;
    });
}

/// Otherwise a new leader's first entry travels with those of earlier terms, and these never stand alone.
fn one_by_one(_: u64, setup: &mut NodeSetup) {
    let limits = &mut setup.options.core.limits;
    (limits.message_entries_max, limits.inflight_messages_max) = (1, 1);
}

async fn until(stand: &Stand<Ledger>, what: &str, is_so: impl Fn() -> bool) {
    let end = stand.now() + 10 * SECOND;
    while !is_so() {
        assert!(stand.now() < end, "not within 10 s: {what}");
        stand.sleep(MOMENT).await;
    }
}

fn last(stand: &Stand<Ledger>, id: NodeId) -> EntryId {
    stand.cluster.status(id).unwrap().last
}

#[test]
fn figure8_commits_no_entry_of_an_earlier_term_by_counting_its_copies() {
    raft_with(5, 0..10, one_by_one, |stand| async move {
        stand.commit(5).await;
        // (a) S1 leads, and only S2 has its entry.
        let s1 = stand.one_leader().await;
        let s2 = stand.after(s1, 1);
        let others = stand.others(&[s1, s2]);
        stand.cut_all(&others);
        let before = last(&stand, s1);
        let (number, proposal) = stand.propose_new(s1);
        until(&stand, "S1 has the entry", || last(&stand, s1) != before).await;
        let entry = last(&stand, s1);
        until(&stand, "S2 has the entry", || last(&stand, s2) == entry).await;
        // (b) S5 is elected by the others, has an entry of its own at the same place, and crashes.
        stand.cut_all(&[s1, s2]);
        others.iter().for_each(|id| stand.connect(*id));
        until(&stand, "S5 leads", || !stand.leaders().is_empty()).await;
        let (term, s5) = stand.leaders()[0];
        stand.cut(s5);
        until(&stand, "its entry is durable", || {
            stand.cluster.status(s5).unwrap().durable == entry.index
        })
        .await;
        assert_eq!(last(&stand, s5), EntryId::new(term, entry.index));
        stand.crash(s5);
        // (c) S1, or S2 with the same log, leads again and brings its entry to S3: that makes three copies.
        let [s3, s4] = stand.others(&[s1, s2, s5])[..] else { panic!("there are five") };
        stand.cut(s4);
        [s1, s2].into_iter().for_each(|id| stand.connect(id));
        until(&stand, "S3 has the entry", || last(&stand, s3) == entry).await;
        let (_, again) = stand.leaders()[0];
        stand.cluster.network().cut(Site::Node(again), Site::Node(s3));
        stand.sleep(MS * 100).await;
        assert!(stand.cluster.status(s3).unwrap().durable >= entry.index, "three copies");
        assert_eq!(stand.copies(number), 0, "an earlier term's entry is committed by counting");
        // (d) S5 is elected by S3 and S4, and replaces it everywhere.
        stand.crash_all(&[s1, s2]);
        stand.start(s5);
        [s4, s5].into_iter().for_each(|id| stand.connect(id));
        assert_eq!(stand.one_leader().await, s5);
        stand.commit(3).await;
        stand.cluster.network().mend(Site::Node(again), Site::Node(s3));
        [s1, s2].into_iter().for_each(|id| stand.start(id));
        stand.commit(5).await;
        assert_eq!(stand.copies(number), 0);
        assert!(!proposal.is_done());
    });
}
