//! Nodes that have forgotten, that lag behind, and that cannot be asked, on a clock that only moves when somebody waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::executor::block_on;
use futures::future::BoxFuture;
use raft_rsm::raft_core::{LogIndex, Term};
use raft_rsm::transport::{CallError, Connector};
use raft_rsm::wire::{Request, read_consistency, read_request};
use raft_rsm::{ClientOptions, Consistency, Context, Runtime, StateMachine};

use super::*;
use crate::store::{Command, Version};

/// Every call takes so long.
const CALL: Duration = Duration::from_millis(1);

/// So many events have happened, one at each revision from 1 on.
const EVENTS: u64 = 5;

/// The nodes of a cluster, and the clock.
#[derive(Default)]
struct Stage(Mutex<State>);

#[derive(Default)]
struct State {
    now: Duration,
    nodes: BTreeMap<NodeId, Node>,
    questions: u32,
    answers_to_lose: u32,
}

struct Node {
    store: Store,
    /// It has all that was committed, so it may answer whoever wants to know that.
    is_up_to_date: bool,
    /// It can be called from then on.
    up_from: Duration,
}

impl Stage {
    fn with(self, node: u64, store: Store, is_up_to_date: bool) -> Stage {
        let node_at = Node { store, is_up_to_date, up_from: Duration::ZERO };
        self.state().nodes.insert(NodeId(node), node_at);
        self
    }

    fn up_from(self, node: u64, up_from: Duration) -> Stage {
        self.state().nodes.get_mut(&NodeId(node)).unwrap().up_from = up_from;
        self
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn watch(self: &Arc<Stage>, from: u64) -> Watch {
        let mut options = ClientOptions::default();
        options.call_timeout = Duration::from_millis(100);
        let client = Client::new(Arc::clone(self) as _, Arc::clone(self) as _, options);
        Watch::new(client, "", Cursor::from(Revision(from)))
    }
}

#[async_trait]
impl Connector for Stage {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let State { now, nodes, questions, answers_to_lose } = &mut *self.state();
        (*now, *questions) = (*now + CALL, *questions + 1);
        let node = nodes.get(&to).filter(|node| node.up_from <= *now);
        let is_stale = read_consistency(&request) == Some(Consistency::Stale);
        let Some(node) = node.filter(|node| is_stale || node.is_up_to_date) else {
            return Err(CallError::NotSent { to, reason: "it is down".to_owned() });
        };
        let Some(Request::Query(query)) = read_request(&request) else { panic!() };
        let query: Query = postcard::from_bytes(query).unwrap();
        if !is_stale && !node.store.is_ready(&query, LogIndex(0)) {
            // The time to wait stands before the query.
            *now += postcard::take_from_bytes::<Duration>(&request[2..]).unwrap().0;
        }
        if *answers_to_lose > 0 {
            *answers_to_lose -= 1;
            *now += deadline;
            return Err(CallError::MaybeSent { to, reason: "it was lost".to_owned() });
        }
        let mut answer = vec![1, 1];
        answer.extend(postcard::to_stdvec(&node.store.query(query)).unwrap());
        Ok(answer.into())
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.state().nodes.keys().copied().collect()
    }

    fn wants_to_learn(&self) -> bool {
        false
    }
}

impl Runtime for Stage {
    fn spawn(&self, name: &str, _: BoxFuture<'static, ()>) {
        panic!("nothing runs beside: {name}");
    }

    fn spawn_blocking(&self, name: &str, _: Box<dyn FnOnce() + Send>) {
        panic!("nothing runs beside: {name}");
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.state().now += duration;
        Box::pin(std::future::ready(()))
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn random(&self) -> u64 {
        7
    }
}

/// A store in which the first so many events have happened.
fn remembering(events: u64) -> Store {
    let mut store = Store::default();
    (1..=events).for_each(|revision| happen(&mut store, revision));
    store
}

fn happen(store: &mut Store, revision: u64) {
    let context = Context { index: LogIndex(revision), term: Term(1), time: Duration::ZERO };
    let version = Version(revision - 1);
    store.advance(&context);
    store.apply(&context, Command::Put { key: "k".to_owned(), value: Bytes::new(), version });
}

/// The same store, restored from a snapshot.
fn forgetful() -> Store {
    let (mut image, mut store) = (Vec::new(), Store::default());
    remembering(EVENTS).snapshot().write_to(&mut image).unwrap();
    store.restore(&mut &image[..]).unwrap();
    store
}

fn revisions(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.revision.0).collect()
}

fn is_compacted(told: &Result<Vec<Event>, WatchError>) -> bool {
    matches!(told, Err(WatchError::Compacted { oldest }) if *oldest == Revision(EVENTS + 1))
}

#[test]
fn a_node_that_lags_does_not_hide_one_that_remembers() {
    let stage = Stage::default().with(1, forgetful(), true).with(2, remembering(2), false);
    let stage = Arc::new(stage.with(3, remembering(EVENTS), false));
    let mut watch = stage.watch(1);
    let told = block_on(async { [watch.next_batch().await, watch.next_batch().await] });
    let [first, second] = told.map(|told| revisions(&told.unwrap()));
    // The one that lags tells what it knows, and has no say in what it does not.
    assert_eq!((first, second), (vec![1, 2], vec![3, 4, 5]));
    assert!(stage.now() < Duration::from_secs(1), "{:?}", stage.now());
}

#[test]
fn what_nobody_remembers_is_said_to_be_forgotten_at_once_where_all_say_so() {
    let stage = Stage::default().with(1, forgetful(), true).with(2, forgetful(), false);
    let stage = Arc::new(stage);
    let told = block_on(stage.watch(1).next_batch());
    assert!(is_compacted(&told), "{told:?}");
    assert!(stage.now() < Duration::from_secs(1), "{:?}", stage.now());
}

#[test]
fn a_node_that_lags_or_is_dead_for_good_is_waited_for_for_some_seconds_and_a_few_questions() {
    let lags = Stage::default().with(1, forgetful(), true).with(2, Store::default(), false);
    let dead = Stage::default().with(1, forgetful(), true).with(2, Store::default(), false);
    for stage in [lags, dead.up_from(2, Duration::MAX)] {
        let stage = Arc::new(stage);
        let told = block_on(stage.watch(1).next_batch());
        assert!(is_compacted(&told), "{told:?}");
        let seconds = Duration::from_secs(3)..Duration::from_secs(10);
        assert!(seconds.contains(&stage.now()), "{:?}", stage.now());
        assert!(stage.state().questions < 40, "{}", stage.state().questions);
    }
}

#[test]
fn a_node_that_remembers_and_comes_back_within_these_seconds_is_heard() {
    let stage = Stage::default().with(1, forgetful(), true).with(2, remembering(EVENTS), false);
    let stage = Arc::new(stage.up_from(2, Duration::from_secs(3)));
    let told = block_on(stage.watch(1).next_batch());
    assert_eq!(revisions(&told.unwrap()), [1, 2, 3, 4, 5]);
}

#[test]
fn rounds_count_in_a_row_only() {
    let stage = Stage::default().with(1, forgetful(), true).with(2, remembering(EVENTS), false);
    let stage = Arc::new(stage.with(3, Store::default(), false));
    let mut watch = stage.watch(1);
    watch.unheard = UNHEARD_MAX;
    block_on(watch.next_batch()).unwrap();
    assert_eq!(watch.unheard, 0);
}

#[test]
fn who_asks_while_nobody_can_be_asked_is_told_so_and_goes_on_later() {
    let stage = Stage::default().with(1, remembering(EVENTS), true);
    let stage = Arc::new(stage.up_from(1, Duration::from_secs(20)));
    let mut watch = stage.watch(1);
    let (first, second) = block_on(async { (watch.next_batch().await, watch.next_batch().await) });
    assert!(matches!(first, Err(WatchError::Client(_))), "{first:?}");
    assert_eq!(revisions(&second.unwrap()), [1, 2, 3, 4, 5]);
}

#[test]
fn an_answer_that_is_lost_after_others_is_missed_for_a_short_time_and_idle_watchers_ask_seldom() {
    let stage = Arc::new(Stage::default().with(1, remembering(EVENTS), true));
    let mut watch = stage.watch(1);
    block_on(watch.next_batch()).unwrap();
    let begun = stage.now();
    stage.state().answers_to_lose = 1;
    happen(&mut stage.state().nodes.get_mut(&NodeId(1)).unwrap().store, EVENTS + 1);
    assert_eq!(revisions(&block_on(watch.next_batch()).unwrap()), [EVENTS + 1]);
    let lost = stage.now() - begun;
    assert!(lost < Duration::from_secs(2), "{lost:?}");

    let (begun, before) = (stage.now(), stage.state().questions);
    while stage.now() - begun < Duration::from_secs(60) {
        assert!(block_on(watch.next_batch()).unwrap().is_empty());
    }
    let asked = stage.state().questions - before;
    assert!(asked <= 15, "{asked}");
}
