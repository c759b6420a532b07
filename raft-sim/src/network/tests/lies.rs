use super::*;
use crate::event::CallId;

#[test]
fn a_network_that_answers_for_another_repeats_responses_in_a_third_nodes_name() {
    let stand = Stand::new(1);
    stand.network.lie(Some(Lie::AnswersForAnother));
    for number in 0..1000 {
        stand.send(ONE, TWO, number);
        stand.respond(ONE, TWO, number);
    }
    stand.run();
    let packets = std::mem::take(&mut stand.notes(TWO).packets);
    let (honest, forged): (Vec<_>, Vec<_>) =
        packets.into_iter().partition(|(_, packet)| packet.from() == ONE);
    assert_eq!(honest.len(), 2000);
    assert!((150..250).contains(&forged.len()), "{}", forged.len());
    for (_, packet) in &forged {
        assert_eq!(*packet, response(THREE, TWO, number(packet)));
    }
    assert_eq!(stand.network.in_flight(), 0);
}

#[test]
fn a_network_that_repeats_requests_lets_some_reach_the_node_twice() {
    let stand = Stand::new(1);
    stand.network.lie(Some(Lie::RepeatsRequests));
    let ends: Vec<_> = (0..1000).map(|_| stand.call(ONE, "x", SECOND)).collect();
    stand.run();
    let arrived = stand.notes(ONE).requests.len();
    assert!((1150..1250).contains(&arrived), "{arrived}");
    assert!(ends.iter().all(|end| ended(end).1 == Ok(answer_of(ONE, b"x"))));
    let told = stand.events(|event| {
        if let Event::RequestArrived { call, .. } = event { Some(*call) } else { None }
    });
    assert_eq!(told.len(), arrived);
    assert!(told.contains(&CallId(1)));
    assert_eq!(stand.network.in_flight(), 0);
}

#[test]
fn a_client_whose_request_is_repeated_gets_the_answer_to_the_second_one() {
    let stand = Stand::new(1);
    stand.network.lie(Some(Lie::RepeatsRequests));
    stand.notes(ONE).answering = Answering::Hold;
    let call = loop {
        stand.notes(ONE).held.clear();
        let call = stand.call(ONE, "x", SECOND);
        stand.run_for(MS * 2);
        if stand.notes(ONE).held.len() == 2 {
            break call;
        }
    };
    let held = std::mem::take(&mut stand.notes(ONE).held);
    for (number, reply) in held.into_iter().enumerate() {
        reply.send(Bytes::from(format!("answer {number}")));
        stand.run_for(MS * 2);
    }
    assert_eq!(ended(&call).1, Ok(Bytes::from("answer 1")));
}

#[test]
fn a_network_that_mixes_answers_up_gives_some_clients_the_one_before() {
    let stand = Stand::new(1);
    stand.network.lie(Some(Lie::AnswersOfAnotherCall));
    let mut wrong = 0;
    for n in 0..1000 {
        let body = n.to_string();
        let answer = stand.called(ONE, &body).1.unwrap();
        if answer != answer_of(ONE, body.as_bytes()) {
            assert_eq!(answer, answer_of(ONE, (n - 1).to_string().as_bytes()));
            wrong += 1;
        }
    }
    assert!((150..250).contains(&wrong), "{wrong}");
}

#[test]
fn a_network_that_lies_no_more_is_honest() {
    let stand = Stand::new(1);
    for lie in [Lie::AnswersForAnother, Lie::RepeatsRequests, Lie::AnswersOfAnotherCall] {
        stand.network.lie(Some(lie));
    }
    stand.network.lie(None);
    for number in 0..100 {
        stand.respond(ONE, TWO, number);
        let body = number.to_string();
        assert_eq!(stand.called(ONE, &body).1, Ok(answer_of(ONE, body.as_bytes())));
    }
    assert!(stand.numbers(TWO).into_iter().eq(0..100));
    assert_eq!(stand.notes(ONE).requests.len(), 100);
}
