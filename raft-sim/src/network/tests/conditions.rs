use super::*;

const COUNT: u64 = 10_000;

/// Asserts that `count` of [`COUNT`] is about `probability`: within 4 standard deviations.
#[track_caller]
fn assert_share(count: usize, probability: f64) {
    let total = COUNT as f64;
    let expected = total * probability;
    let difference = (count as f64 - expected).abs();
    let deviation = (expected * (1.0 - probability)).sqrt();
    assert!(difference <= 4.0 * deviation, "{count} of {COUNT} instead of {expected}");
}

/// How long each of many packets took that were sent one a second, in order of their arrival.
fn times(stand: &Stand, send: impl Fn(u64)) -> Vec<Duration> {
    for number in 0..COUNT {
        send(number);
        stand.run_for(SECOND);
    }
    stand.run();
    let sent_at = |packet| SECOND * u32::try_from(number(packet)).unwrap();
    stand.notes(TWO).packets.iter().map(|(at, packet)| *at - sent_at(packet)).collect()
}

fn shorter(times: &[Duration], than: Duration) -> usize {
    times.iter().filter(|time| **time < than).count()
}

fn passing(passage: Passage) -> Conditions {
    Conditions { requests: passage, ..Conditions::reliable() }
}

#[test]
fn a_reliable_network_delivers_all_in_order_after_a_small_delay() {
    let stand = Stand::new(1);
    for number in 0..COUNT {
        stand.send(ONE, TWO, number);
        stand.run_for(Duration::from_micros(10));
    }
    stand.run();
    assert!(stand.numbers(TWO).into_iter().eq(0..COUNT));
    let stand = Stand::new(2);
    let times = times(&stand, |number| stand.send(ONE, TWO, number));
    assert!(times.iter().all(|time| (MS / 10..MS).contains(time)));
    assert_share(shorter(&times, MS * 55 / 100), 0.5);
}

#[test]
fn an_unreliable_network_loses_a_tenth_and_lets_requests_wait() {
    let stand = Stand::with(1, Conditions::unreliable());
    let requests = times(&stand, |number| stand.send(ONE, TWO, number));
    assert_share(requests.len(), 0.9);
    assert!(requests.iter().all(|time| *time < MS * 27));
    assert_share(shorter(&requests, MS * 9), 0.3);
    assert_eq!(stand.network.counters(ONE).lost, COUNT - requests.len() as u64);

    let stand = Stand::with(2, Conditions::unreliable());
    let responses = times(&stand, |number| stand.respond(ONE, TWO, number));
    assert_share(responses.len(), 0.9);
    assert!(responses.iter().all(|time| *time < MS));
}

#[test]
fn requests_overtake_each_other_where_the_order_is_not_kept() {
    for in_order in [false, true] {
        let stand = Stand::with(1, Conditions { in_order, ..Conditions::unreliable() });
        (0..100).for_each(|number| stand.send(ONE, TWO, number));
        stand.run();
        assert_eq!(stand.numbers(TWO).is_sorted(), in_order);
        assert_eq!(stand.network.counters(TWO).reordered > 50, !in_order);
    }
}

#[test]
fn long_reordering_holds_two_thirds_of_the_responses_back() {
    let stand = Stand::with(1, Conditions::reliable().with_long_reordering());
    let responses = times(&stand, |number| stand.respond(ONE, TWO, number));
    assert_eq!(responses.len() as u64, COUNT);
    assert_share(shorter(&responses, MS), 1.0 / 3.0);
    assert_eq!(shorter(&responses, MS * 200), shorter(&responses, MS));
    assert_eq!(shorter(&responses, MS * 2201), responses.len());
    // U[0, U[0, 2 s)) is below half a second with probability 1/4 (1 + ln 4).
    assert_share(shorter(&responses, MS * 700), 1.0 / 3.0 + 2.0 / 3.0 * 0.5966);
    assert!(stand.network.counters(TWO).reordered > 0);
}

#[test]
fn what_is_held_back_is_overtaken_by_what_keeps_its_order() {
    let hold_time = Delay::Uniform(MS * 100..MS * 200);
    let passage = Passage { hold: 0.2, hold_time, ..Conditions::reliable().requests };
    let stand = Stand::with(1, passing(passage));
    (0..COUNT).for_each(|number| stand.send(ONE, TWO, number));
    stand.run();
    let numbers = stand.numbers(TWO);
    let in_time = stand.notes(TWO).packets.iter().filter(|(at, _)| *at < MS).count();
    assert_share(in_time, 0.8);
    assert!(numbers[..in_time].is_sorted() && !numbers.is_sorted());
}

#[test]
fn a_long_tail_is_short_mostly_and_sometimes_very_long() {
    let latency = Delay::LongTail { usual: MS, longest: MS * 100 };
    let stand = Stand::with(1, passing(Passage::through(latency)));
    let times = times(&stand, |number| stand.send(ONE, TWO, number));
    let longest = times.iter().max().unwrap();
    assert!(*longest > MS * 20 && *longest <= MS * 100, "{longest:?}");
    assert!(times.iter().all(|time| *time >= MS / 2));
    assert_share(shorter(&times, MS), 15.0 / 16.0 / 2.0);
    // One in 32 takes twice as long, from 1 to 3 ms; a quarter of them is no longer than the others.
    assert_share(shorter(&times, MS * 3 / 2), 15.0 / 16.0 + 1.0 / 32.0 / 4.0);
    // One in 64 takes at least 8 times as long, and so from 4 ms on; and half of one in 64 four times, from 4 ms on.
    assert_share(shorter(&times, MS * 4), 1.0 - 1.0 / 64.0 - 1.0 / 128.0);
}

#[test]
fn a_network_that_duplicates_does_so_as_often_as_it_says() {
    let stand = Stand::with(1, Conditions { duplicate: 0.25, ..Conditions::reliable() });
    let times = times(&stand, |number| stand.send(ONE, TWO, number));
    let doubled = stand.network.counters(ONE).duplicated;
    assert_share(usize::try_from(doubled).unwrap(), 0.25);
    assert_eq!(times.len() as u64, COUNT + doubled);
}

#[test]
fn requests_of_clients_are_never_duplicated() {
    let stand = Stand::with(1, Conditions { duplicate: 1.0, ..Conditions::reliable() });
    assert!(stand.called(TWO, "x").1.is_ok());
    assert_eq!(stand.notes(TWO).requests.len(), 1);
    assert_eq!(stand.network.in_flight(), 0);
}

#[test]
fn bandwidth_lets_packets_leave_one_after_the_other() {
    let conditions = Conditions {
        bandwidth_bytes_per_second: Some(100_000),
        ..passing(Passage::through(Delay::Uniform(MS..MS)))
    };
    let stand = Stand::with(1, conditions);
    (0..10).for_each(|number| stand.send(ONE, TWO, number));
    stand.send(ONE, THREE, 0);
    let bytes = u32::try_from(stand.network.counters(ONE).bytes_out / 11).unwrap();
    let each = MS * bytes / 100;
    stand.run();
    let arrived: Vec<Duration> = stand.notes(TWO).packets.iter().map(|(at, _)| *at).collect();
    let expected: Vec<Duration> = (1..=10).map(|nth| MS + each * nth).collect();
    assert_eq!(arrived, expected);
    assert_eq!(stand.notes(THREE).packets[0].0, MS + each, "another link has its own");
}

#[test]
fn one_fault_does_not_shift_the_luck_of_the_others() {
    let arrived = |duplicate, hold| {
        let mut conditions = Conditions { duplicate, ..Conditions::unreliable() };
        conditions.requests.hold = hold;
        let stand = Stand::with(1, conditions);
        (0..1000).for_each(|number| stand.send(ONE, TWO, number));
        stand.run();
        let mut numbers = stand.numbers(TWO);
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    assert_eq!(arrived(0.0, 0.0), arrived(0.5, 0.3));
}

#[test]
fn a_link_can_have_conditions_of_its_own() {
    let stand = Stand::new(1);
    let lossy = passing(Passage { loss: 1.0, ..Passage::through(Delay::none()) });
    stand.network.set_link_conditions(A, B, Some(lossy));
    stand.send(ONE, TWO, 1);
    stand.send(TWO, ONE, 2);
    stand.run();
    assert_eq!((stand.numbers(ONE), stand.numbers(TWO)), (vec![2], vec![]));
    assert_eq!(stand.losses(), ["by chance"]);
    stand.network.set_link_conditions(A, B, None);
    stand.send(ONE, TWO, 3);
    stand.run();
    assert_eq!(stand.numbers(TWO), [3]);
}

#[test]
fn a_backlog_ends_with_the_bandwidth_that_made_it() {
    let slow = || Conditions { bandwidth_bytes_per_second: Some(10), ..Conditions::unreliable() };
    let heals: [fn(&Stand); 2] = [
        |stand| stand.network.set_conditions(Conditions::reliable()),
        |stand| stand.network.set_link_conditions(A, B, Some(Conditions::reliable())),
    ];
    for heal in heals {
        let stand = Stand::with(1, slow());
        (0..20).for_each(|number| stand.send(ONE, TWO, number));
        heal(&stand);
        stand.send(ONE, TWO, 99);
        stand.run_for(MS * 2);
        assert_eq!(stand.numbers(TWO), [99]);
    }
}
