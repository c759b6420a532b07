use raft_rsm::transport::CallError::{MaybeSent, NotSent};

use super::*;
use crate::event::{CallId, Digest, RequestKind};

/// Longer than a request and its answer take on a reliable network.
const ROUND_TRIP: Duration = Duration::from_millis(2);

fn lossy(requests: f64, responses: f64) -> Conditions {
    let mut conditions = Conditions::reliable();
    conditions.requests.loss = requests;
    conditions.responses.loss = responses;
    conditions
}

#[track_caller]
fn assert_maybe(answer: &Result<Bytes, CallError>, why: &str) {
    let Err(MaybeSent { reason, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(reason, why);
}

#[test]
fn a_request_is_answered_by_the_node_that_was_asked() {
    let stand = Stand::new(1);
    for node in [ONE, TWO, THREE, ONE] {
        let begun = stand.executor.now();
        let (at, answer) = stand.called(node, "hello");
        assert_eq!(answer, Ok(answer_of(node, b"hello")));
        assert!(at - begun < ROUND_TRIP);
        assert_eq!(stand.notes(node).requests[0], propose("hello"));
    }
    let counters = stand.network.counters(ONE);
    assert_eq!((counters.requests_asked, counters.requests, counters.answers), (2, 2, 2));
    assert_eq!(stand.network.totals().answers, 4);
}

#[test]
fn a_call_is_told_as_asked_arrived_and_ended() {
    let stand = Stand::new(1);
    assert!(stand.called(TWO, "hello").1.is_ok());
    let (call, kind) = (CallId(1), RequestKind::Propose(Digest::of(b"hello")));
    let expected = [
        Event::Asked { call, client: 0, to: TWO, kind, bytes: propose("hello").len() },
        Event::RequestArrived { call, at: TWO },
        Event::CallEnded { call, outcome: CallOutcome::Answered },
    ];
    let told = stand.events(|event| Some(format!("{event:?}")));
    assert_eq!(told, expected.map(|event| format!("{event:?}")));
}

#[test]
fn the_outcome_that_is_told_is_what_the_answer_says() {
    let outcome = |answer: &[u8]| {
        let stand = Stand::new(1);
        stand.notes(TWO).answering = Answering::Hold;
        let end = stand.call(TWO, "x", SECOND);
        stand.run_for(ROUND_TRIP);
        let reply = stand.notes(TWO).held.pop().unwrap();
        reply.send(Bytes::copy_from_slice(answer));
        stand.run();
        assert_eq!(ended(&end).1.unwrap(), answer);
        let [outcome] = stand.outcomes()[..] else { panic!("one call has one end") };
        outcome
    };
    assert_eq!(outcome(&[1, 1, 7]), CallOutcome::Answered);
    // A failure: not the leader, none known.
    assert_eq!(outcome(&[1, 2, 0, 0]), CallOutcome::Refused);
    // A failure: out of time.
    assert_eq!(outcome(&[1, 2, 6]), CallOutcome::Maybe);
    // Nothing that can be read.
    assert_eq!(outcome(&[9]), CallOutcome::Maybe);
}

#[test]
fn requests_in_flight_are_answered_in_any_order() {
    let stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Hold;
    let ends: Vec<_> = (0..100).map(|n| stand.call(ONE, &n.to_string(), SECOND)).collect();
    stand.run_for(ROUND_TRIP);
    let held = std::mem::take(&mut stand.notes(ONE).held);
    let requests = std::mem::take(&mut stand.notes(ONE).requests);
    for (reply, request) in held.into_iter().zip(requests).rev() {
        reply.send(answer_of(ONE, &request[2..]));
    }
    stand.run();
    for (n, end) in ends.iter().enumerate() {
        assert_eq!(ended(end).1, Ok(answer_of(ONE, n.to_string().as_bytes())));
    }
}

#[test]
fn a_request_without_an_answer_fails_at_once_and_may_have_taken_effect() {
    let stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Drop;
    let (at, answer) = stand.called(ONE, "x");
    assert_maybe(&answer, "it gave no answer");
    assert!(at < ROUND_TRIP);
}

#[test]
fn a_request_fails_at_its_deadline_and_may_have_taken_effect() {
    let stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Hold;
    let (at, answer) = stand.called(ONE, "x");
    assert_maybe(&answer, "the deadline has passed");
    assert_eq!(at, SECOND);
    // An answer that comes too late changes nothing.
    let held = std::mem::take(&mut stand.notes(ONE).held);
    held.into_iter().for_each(|reply| reply.send(Bytes::from_static(&[1, 1])));
    stand.run();
    assert_eq!(stand.network.counters(ONE).answers, 0);
    assert_eq!(stand.network.in_flight(), 0);
}

#[test]
fn a_lost_request_and_a_lost_answer_look_the_same_to_the_client() {
    for (conditions, arrived) in [(lossy(1.0, 0.0), 0), (lossy(0.0, 1.0), 1)] {
        let stand = Stand::with(1, conditions);
        let (at, answer) = stand.called(ONE, "x");
        assert_maybe(&answer, "the deadline has passed");
        assert_eq!((at, stand.notes(ONE).requests.len()), (SECOND, arrived));
        assert_eq!(stand.losses(), ["by chance"]);
        assert_eq!(stand.network.counters(ONE).requests_lost, 1);
    }
}

#[test]
fn requests_and_answers_are_lost_as_often_as_the_conditions_say() {
    let stand = Stand::with(1, Conditions::unreliable());
    let ends: Vec<_> = (0..10_000).map(|_| stand.call(ONE, "x", SECOND)).collect();
    stand.run();
    let answered = ends.iter().filter(|end| ended(end).1.is_ok()).count();
    let arrived = stand.notes(ONE).requests.len();
    assert!((8_880..9_120).contains(&arrived), "{arrived}");
    assert!((7_940..8_260).contains(&answered), "{answered}");
}

#[test]
fn calls_under_way_end_when_the_node_is_killed_and_may_have_taken_effect() {
    let stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Hold;
    let arrived = stand.call(ONE, "there", SECOND);
    stand.run_for(ROUND_TRIP);
    let on_its_way = stand.call(ONE, "on its way", SECOND);
    let elsewhere = stand.call(TWO, "elsewhere", SECOND);
    stand.run_for(Duration::from_micros(50));
    stand.network.end_life(ONE, Crash::Killed);
    // What the dying tasks drop gets nowhere.
    stand.notes(ONE).held.clear();
    stand.run();
    for end in [arrived, on_its_way] {
        let (at, answer) = ended(&end);
        assert_maybe(&answer, "the connection was closed");
        assert!(at < ROUND_TRIP * 2);
    }
    assert!(ended(&elsewhere).1.is_ok());
    assert_eq!(stand.notes(ONE).requests.len(), 1);
}

#[test]
fn calls_under_way_to_a_node_that_loses_power_last_until_their_deadline() {
    let mut stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Hold;
    let call = stand.call(ONE, "x", SECOND);
    stand.run_for(ROUND_TRIP);
    stand.network.end_life(ONE, Crash::PowerLost);
    stand.notes(ONE).held.clear();
    stand.start(ONE);
    stand.run();
    let (at, answer) = ended(&call);
    assert_maybe(&answer, "the deadline has passed");
    assert_eq!(at, SECOND);
}

#[test]
fn calls_under_way_end_at_a_shutdown_and_when_their_connection_is_closed() {
    let stand = Stand::new(1);
    for node in [ONE, TWO] {
        stand.notes(node).answering = Answering::Hold;
    }
    let calls = [stand.call(ONE, "x", SECOND), stand.call(TWO, "x", SECOND)];
    stand.run_for(ROUND_TRIP);
    stand.lives[&ONE].transport.shutdown().now_or_never().expect("it is done at once");
    stand.network.close_connection(CLIENT, B);
    stand.run();
    for end in calls {
        let (at, answer) = ended(&end);
        assert_maybe(&answer, "the connection was closed");
        assert!(at < ROUND_TRIP * 2);
    }
}

#[test]
fn a_caller_beyond_a_cut_is_not_told_of_a_kill() {
    let stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Hold;
    let call = stand.call(ONE, "x", SECOND);
    stand.run_for(ROUND_TRIP);
    stand.network.cut(A, CLIENT);
    stand.network.end_life(ONE, Crash::Killed);
    stand.run();
    let (at, answer) = ended(&call);
    assert_maybe(&answer, "the deadline has passed");
    assert_eq!(at, SECOND);
}

#[test]
fn an_answer_that_was_sent_before_a_kill_arrives() {
    let stand = Stand::new(1);
    let call = stand.call(ONE, "x", SECOND);
    while stand.notes(ONE).requests.is_empty() {
        stand.executor.step();
    }
    stand.network.end_life(ONE, Crash::Killed);
    stand.run();
    assert_eq!(ended(&call).1, Ok(answer_of(ONE, b"x")));
}

#[test]
fn a_request_that_was_on_its_way_does_not_reach_the_next_life() {
    let mut stand = Stand::new(1);
    let call = stand.call(ONE, "x", SECOND);
    stand.run_for(Duration::from_micros(50));
    stand.start(ONE);
    stand.run();
    assert!(stand.notes(ONE).requests.is_empty());
    assert_maybe(&ended(&call).1, "the connection was closed");
    assert!(stand.called(ONE, "again").1.is_ok());
}

#[test]
fn a_call_to_a_node_that_is_killed_or_unknown_is_refused_soon_and_was_not_sent() {
    let stand = Stand::new(1);
    stand.network.end_life(ONE, Crash::Killed);
    stand.run();
    for node in [ONE, NodeId(9)] {
        let begun = stand.executor.now();
        let (at, answer) = stand.called(node, "x");
        assert!(matches!(answer, Err(NotSent { to, .. }) if to == node), "{answer:?}");
        assert!(at - begun < ROUND_TRIP);
    }
    assert_eq!(stand.outcomes(), [CallOutcome::Refused; 2]);
}

#[test]
fn a_call_to_who_cannot_be_reached_ends_by_its_deadline_and_no_request_arrives() {
    let cut = |stand: &Stand| stand.network.isolate(A);
    let cut_one_way = |stand: &Stand| stand.network.cut(CLIENT, A);
    let no_power = |stand: &Stand| stand.network.end_life(ONE, Crash::PowerLost);
    for make_unreachable in [&cut as &dyn Fn(&Stand), &cut_one_way, &no_power] {
        let stand = Stand::new(1);
        make_unreachable(&stand);
        let ends: Vec<_> = (0..1000).map(|_| stand.call(ONE, "x", SECOND)).collect();
        stand.run();
        let (mut noticed, mut latest) = (0, Duration::ZERO);
        for end in &ends {
            match ended(end) {
                (at, Err(NotSent { .. })) => {
                    noticed += 1;
                    latest = latest.max(at);
                }
                (at, Err(MaybeSent { .. })) => assert_eq!(at, SECOND),
                (_, answer) => panic!("{answer:?}"),
            }
        }
        assert!((400..600).contains(&noticed), "{noticed}");
        assert!(latest > MS * 95 && latest < MS * 100, "{latest:?}");
        assert!(stand.notes(ONE).requests.is_empty());
        assert_eq!(stand.losses().len(), 1000);
    }
}

#[test]
fn long_delays_let_a_client_wait_for_long_but_never_past_its_deadline() {
    let stand = Stand::with(1, Conditions::reliable().with_long_delays());
    stand.network.isolate(A);
    let ends: Vec<_> = (0..1000).map(|_| stand.call(ONE, "x", SECOND * 5)).collect();
    stand.run();
    let times: Vec<Duration> = ends.iter().map(|end| ended(end).0).collect();
    assert!(times.iter().all(|time| *time <= SECOND * 5));
    assert!(times.iter().any(|time| *time > SECOND * 4 && *time < SECOND * 5));
}

#[test]
fn an_answer_over_a_way_that_was_cut_meanwhile_is_lost() {
    let stand = Stand::new(1);
    stand.notes(ONE).answering = Answering::Hold;
    let call = stand.call(ONE, "x", SECOND);
    stand.run_for(ROUND_TRIP);
    stand.network.cut(A, CLIENT);
    let reply = stand.notes(ONE).held.pop().unwrap();
    reply.send(Bytes::from_static(&[1, 1]));
    stand.run();
    assert_maybe(&ended(&call).1, "the deadline has passed");
    assert_eq!(stand.losses(), ["the way is cut"]);
}

#[test]
fn a_request_arrives_although_its_caller_has_gone_away() {
    let stand = Stand::new(1);
    let connector = stand.network.connector(0);
    let mut call = connector.call(ONE, propose("left alone"), SECOND);
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    stand.run();
    assert_eq!(stand.notes(ONE).requests, [propose("left alone")]);
    assert_eq!(stand.outcomes(), [CallOutcome::Maybe]);
    assert_eq!(stand.network.in_flight(), 0);
}

#[test]
fn a_client_knows_the_nodes() {
    let stand = Stand::new(1);
    assert_eq!(stand.network.connector(5).nodes(), [ONE, TWO, THREE]);
    stand.network.end_life(TWO, Crash::PowerLost);
    assert_eq!(stand.network.connector(5).nodes(), [ONE, TWO, THREE]);
    let connector = stand.network.connector_to(5, &[THREE, ONE, ONE]);
    assert_eq!(connector.nodes(), [ONE, THREE]);
    connector.learn(&[(TWO, String::new()), (ONE, "anywhere:1".to_owned())]);
    assert_eq!(connector.nodes(), [ONE, TWO, THREE]);
}

#[test]
fn a_paused_node_answers_once_it_goes_on() {
    let stand = Stand::new(1);
    let process = stand.lives[&ONE].process;
    stand.executor.pause(process);
    let call = stand.call(ONE, "x", SECOND);
    stand.run_for(MS * 500);
    assert!(stand.notes(ONE).requests.is_empty() && call.lock().unwrap().is_none());
    stand.executor.resume(process);
    stand.run();
    let (at, answer) = ended(&call);
    assert_eq!(answer, Ok(answer_of(ONE, b"x")));
    assert!(at > MS * 500);
}

/// A service that cannot take a request.
struct Panicking;

impl Service for Panicking {
    fn call(&self, _request: Bytes, _reply: Reply) {
        panic!("no admission");
    }
}

#[test]
fn a_service_that_panics_is_a_panic_of_its_process() {
    let stand = Stand::new(1);
    let living = &stand.lives[&ONE];
    living.transport.start(Arc::clone(&living.notes) as _, Arc::new(Panicking));
    let call = stand.call(ONE, "x", SECOND);
    let panicked = loop {
        match stand.executor.step() {
            Step::Panicked { process, message, .. } => break (process, message),
            Step::Idle => panic!("nobody panics"),
            Step::Ran { .. } | Step::Time | Step::Livelock => {}
        }
    };
    assert_eq!(panicked, (living.process, "no admission".to_owned()));
    stand.run();
    assert_maybe(&ended(&call).1, "it gave no answer");
}
