//! The paper's Figure 8, a thousand times: leaders that fail before their entries are committed.

use raft_rsm::raft_core::NodeId;
use raft_sim::NodeSetup;

use super::ledger::{Ledger, raft, raft_with, unreliable};
use super::stand::{MS, Stand};

const ROUNDS: usize = 1000;

/// Every other seed sends one entry at a time. Otherwise a new leader's first entry travels with those of earlier terms,
/// and nobody could ever count these alone (§5.4.2).
fn one_by_one(seed: u64, setup: &mut NodeSetup) {
    if seed % 2 == 1 {
        let limits = &mut setup.options.core.limits;
        (limits.message_entries_max, limits.inflight_messages_max) = (1, 1);
    }
}

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
        true => random.duration(&(MS * 0..MS * 500)),
        false => random.duration(&(MS * 0..MS * 13)),
    });
    stand.sleep(pause).await;
    leader
}

#[test]
fn figure8_crashes_the_leader_in_each_of_a_thousand_rounds() {
    let reports = raft_with(5, 0..6, one_by_one, |stand| async move {
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
    for report in reports {
        println!("MEASURE {:?} {:?}", report.virtual_time, report.counts);
    }
}

#[test]
fn figure8_unreliable_cuts_off_the_leader_and_reorders_what_comes_back() {
    let reports = raft(5, 0..6, |stand| async move {
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
        let from = stand.now();
        stand.commit(5).await;
        println!("MEASURE commit after {:?}", stand.now() - from);
    });
    for report in reports {
        println!("MEASURE {:?} {:?}", report.virtual_time, report.counts);
    }
}
