use std::io;

use async_trait::async_trait;
use futures::FutureExt;
use raft_core::{LogIndex, NodeId};

use super::*;
use crate::error::ProposeError;
use crate::protocol::Failure;
use crate::runtime::ThreadRuntime;
use crate::sessions::{Place, Sessions, TableLimits, Turn};
use crate::transport::{CallError, Connector};
use crate::{ClientOptions, Context, SnapshotView};

/// A machine that is never run: the node of these tests answers a command with how many it has carried out.
struct Counter;

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = ();

    fn apply(&mut self, _: &Context, _: u64) -> u64 {
        0
    }

    fn query(&self, (): ()) {}

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        Box::new(|_: &mut dyn io::Write| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn io::Read) -> io::Result<()> {
        Ok(())
    }
}

/// What happens to a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It is carried out, but nobody hears of it.
    AnswerLost,
    /// It does not arrive.
    RequestLost,
    /// All sessions have ended before it arrives, and it is not carried out.
    AllExpired,
    /// It is carried out, all sessions end, and nobody hears of it.
    AnswerLostAllExpired,
}

/// One node, with a table of sessions as every replica has it.
#[derive(Default)]
struct Node(Mutex<Replica>);

#[derive(Default)]
struct Replica {
    sessions: Sessions,
    index: u64,
    fates: VecDeque<Fate>,
    carried_out: Vec<u64>,
    opened: u64,
}

const LIMITS: TableLimits = TableLimits { age_max_nanos: 1000, count_max: 10, bytes_max: 1 << 20 };

impl Replica {
    fn carry_out(&mut self, request: &[u8]) -> Bytes {
        self.index += 1;
        let (kind, body) = protocol::decode_request(request).expect("a request");
        if kind == Kind::OpenSession {
            self.opened += 1;
            let opened = self.sessions.open(LogIndex(self.index), Duration::ZERO, LIMITS);
            return protocol::encode_response(Ok(&opened.expect("there is room")));
        }
        if kind == Kind::CloseSession {
            let id: SessionId = protocol::read(body).expect("an id");
            self.sessions.close(id);
            return protocol::encode_response(Ok(&id));
        }
        assert_eq!(kind, Kind::ProposeInSession);
        let (request, command) = protocol::read_first::<SessionRequest>(body).expect("a request");
        match self.sessions.request(request, Duration::ZERO) {
            Turn::First => {
                self.carried_out.push(protocol::read(command).expect("a command"));
                let answer = self.carried_out.len() as u64;
                let encoded = postcard::to_allocvec(&answer).expect("a number");
                let place = Place::Session(request.session, request.sequence);
                self.sessions.answered(place, Some(&encoded));
                protocol::encode_response(Ok(&answer))
            }
            Turn::Again(answer) => {
                let answer: u64 = protocol::read(&answer).expect("a number");
                protocol::encode_response(Ok(&answer))
            }
            Turn::Refused(why) => {
                protocol::encode_response::<()>(Err(Failure::from(ProposeError::from(why))))
            }
        }
    }
}

#[async_trait]
impl Connector for Node {
    async fn call(&self, to: NodeId, request: Bytes, _: Duration) -> Result<Bytes, CallError> {
        let (kind, _) = protocol::decode_request(&request).expect("a request");
        if kind == Kind::Status {
            // Who the members are, it is asked beside.
            return Err(CallError::NotSent { to, reason: "it says nothing of itself".to_owned() });
        }
        let mut replica = lock(&self.0);
        let fate = replica.fates.pop_front().unwrap_or(Fate::Answered);
        if fate == Fate::AllExpired {
            replica.sessions.expire(Duration::from_secs(1));
        }
        let answer = match fate {
            Fate::RequestLost => None,
            Fate::Answered | Fate::AllExpired | Fate::AnswerLost | Fate::AnswerLostAllExpired => {
                Some(replica.carry_out(&request))
            }
        };
        if fate == Fate::AnswerLostAllExpired {
            replica.sessions.expire(Duration::from_secs(1));
        }
        let is_heard = matches!(fate, Fate::Answered | Fate::AllExpired);
        let lost = || CallError::MaybeSent { to, reason: "lost".to_owned() };
        answer.filter(|_| is_heard).ok_or_else(lost)
    }

    fn nodes(&self) -> Vec<NodeId> {
        vec![NodeId(1)]
    }
}

/// A session, and the node that it is with.
fn session() -> (Session<Counter>, Arc<Node>) {
    let node = Arc::new(Node::default());
    let options = ClientOptions {
        deadline: Duration::from_secs(60),
        backoff_min: Duration::from_micros(1),
        backoff_max: Duration::from_micros(1),
        ..ClientOptions::default()
    };
    let client = Client::new(Arc::clone(&node) as _, Arc::new(ThreadRuntime::new()), options);
    (client.session(), node)
}

fn fates(node: &Node, fates: &[Fate]) {
    lock(&node.0).fates = fates.iter().copied().collect();
}

fn propose(session: &Session<Counter>, command: u64) -> Result<u64, ClientError> {
    crate::block_on(session.propose(&command))
}

#[test]
fn however_many_requests_and_answers_are_lost_a_command_is_carried_out_once() {
    let (session, node) = session();
    assert_eq!(propose(&session, 10), Ok(1));
    fates(&node, &[Fate::RequestLost, Fate::AnswerLost, Fate::AnswerLost, Fate::RequestLost]);
    assert_eq!(propose(&session, 20), Ok(2));
    assert_eq!(propose(&session, 30), Ok(3));
    let replica = lock(&node.0);
    assert_eq!((replica.carried_out.as_slice(), replica.opened), ([10, 20, 30].as_slice(), 1));
}

#[test]
fn a_session_that_has_ended_unnoticed_is_opened_again_for_a_command_that_was_sent_once() {
    let (session, node) = session();
    assert_eq!(propose(&session, 10), Ok(1));
    fates(&node, &[Fate::AllExpired]);
    assert_eq!(propose(&session, 20), Ok(2));
    assert_eq!(lock(&node.0).opened, 2);
}

/// Nobody knows whether the first transmission was carried out, and it must not be carried out again.
#[test]
fn a_command_that_is_sent_again_after_its_session_has_ended_is_a_maybe() {
    let (session, node) = session();
    assert_eq!(propose(&session, 10), Ok(1));
    for lost in [Fate::AnswerLostAllExpired, Fate::RequestLost] {
        fates(&node, &[lost, Fate::AllExpired]);
        let error = propose(&session, 20).unwrap_err();
        assert!(matches!(error, ClientError::Maybe { .. }), "{error}");
        // The next command is fine.
        propose(&session, 30).unwrap();
    }
    assert_eq!(lock(&node.0).carried_out, [10, 20, 30, 30]);
}

#[test]
fn a_session_that_was_closed_is_forgotten_and_opens_again() {
    let (session, node) = session();
    assert_eq!(propose(&session, 10), Ok(1));
    crate::block_on(session.close()).unwrap();
    assert_eq!(lock(&node.0).sessions.fill().sessions, 0);
    crate::block_on(session.close()).unwrap();
    assert_eq!(propose(&session, 20), Ok(2));
    assert_eq!(lock(&node.0).sessions.fill().sessions, 1);
}

#[test]
fn any_number_of_commands_at_once_open_one_session_and_are_all_carried_out() {
    let (session, node) = session();
    let proposals = (0..500).map(|command| session.propose(&command));
    for answer in crate::block_on(futures::future::join_all(proposals)) {
        answer.unwrap();
    }
    let replica = lock(&node.0);
    assert_eq!((replica.carried_out.len(), replica.opened), (500, 1));
}

#[test]
fn no_more_commands_are_under_way_than_the_nodes_keep_answers_for_and_who_gives_up_makes_room() {
    let (session, _node) = session();
    assert_eq!(propose(&session, 0), Ok(1));
    let id = lock(&session.state).id.unwrap();
    let begin = || {
        let ends_at = session.client.runtime.now() + Duration::from_secs(60);
        let mut begun = Box::pin(session.begin(id, ends_at));
        ((&mut begun).now_or_never().map(|begun| begun.unwrap().unwrap()), begun)
    };
    let mut under_way: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| begin().0.expect("room")).collect();
    let (none, waiting) = begin();
    assert!(none.is_none());
    // The oldest one counts, not how many.
    under_way.pop();
    let (still_none, gives_up) = begin();
    assert!(still_none.is_none());
    drop(gives_up);
    drop(under_way.remove(0));
    let (_in_flight, request) = crate::block_on(waiting).unwrap().unwrap();
    assert_eq!((request.sequence, request.answered_below), (IN_FLIGHT_MAX + 1, 2));
}

/// A session with as many commands under way as it may have, what these are, and who begins another one.
fn full(session: &Session<Counter>) -> (SessionId, Vec<InFlight<'_, Counter>>) {
    propose(session, 0).expect("carried out");
    let id = lock(&session.state).id.expect("it is open");
    let under_way = (0..IN_FLIGHT_MAX).map(|_| {
        let begun = begin(session, id).now_or_never().expect("there is room");
        begun.expect("in time").expect("it is open").0
    });
    (id, under_way.collect())
}

type Began<'s> = Result<Option<(InFlight<'s, Counter>, SessionRequest)>, ClientError>;

fn begin(session: &Session<Counter>, id: SessionId) -> futures::future::BoxFuture<'_, Began<'_>> {
    let ends_at = session.client.runtime.now() + Duration::from_secs(60);
    session.begin(id, ends_at).boxed()
}

/// Those under way belong to the old session: their end makes no room in any other.
#[test]
fn whoever_waits_for_room_in_a_session_that_is_closed_or_ends_goes_on_in_another() {
    for is_closed in [true, false] {
        let (session, _node) = session();
        let (id, under_way) = full(&session);
        let mut waiting = [begin(&session, id), begin(&session, id)];
        assert!(waiting.iter_mut().all(|waits| waits.now_or_never().is_none()));
        if is_closed {
            crate::block_on(session.close()).unwrap();
        } else {
            session.ended(id);
        }
        for waits in waiting {
            let began = waits.now_or_never().expect("it waits no longer");
            assert!(began.unwrap().is_none(), "there is another session");
        }
        assert_eq!(propose(&session, 10), Ok(2));
        let (next, _under_way) = full(&session);
        drop(under_way);
        assert!(begin(&session, next).now_or_never().is_none(), "the new one is as full as before");
    }
}

#[test]
fn whoever_gives_up_once_there_is_room_passes_it_on() {
    let (session, _node) = session();
    let (id, mut under_way) = full(&session);
    let (mut first, mut second) = (begin(&session, id), begin(&session, id));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop(under_way.remove(0));
    drop(first);
    let (_in_flight, request) = second.now_or_never().expect("its turn").unwrap().unwrap();
    assert_eq!(request.sequence, IN_FLIGHT_MAX + 1);
}

#[test]
fn whoever_waits_for_a_session_to_be_opened_is_told_that_it_is_not_open() {
    let (session, _node) = session();
    let _opening = session.opening.try_lock().expect("nobody opens it");
    let error = crate::block_on(session.open(session.client.runtime.now())).unwrap_err();
    let reason = "the session is not open yet".to_owned();
    assert_eq!(error, ClientError::Unavailable { reason });
}
