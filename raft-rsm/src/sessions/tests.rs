use quickcheck::{Arbitrary, Gen};

use super::*;

const LIMITS: TableLimits =
    TableLimits { age_max_nanos: 60 * SECOND, count_max: 3, bytes_max: 1000 };

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn request(session: SessionId, sequence: u64, answered_below: u64) -> SessionRequest {
    SessionRequest { session, sequence, answered_below }
}

fn opened(sessions: &mut Sessions, index: u64, at: u64) -> SessionId {
    sessions.open(LogIndex(index), seconds(at), LIMITS).unwrap()
}

/// The command is carried out if it comes for the first time, and answered with `answer`.
fn carry_out(sessions: &mut Sessions, request: SessionRequest, at: u64, answer: &[u8]) -> Turn {
    let turn = sessions.request(request, seconds(at));
    if turn == Turn::First {
        let place = Place::Session(request.session, request.sequence);
        sessions.answered(place, Some(answer));
    }
    turn
}

fn again(answer: &[u8]) -> Turn {
    Turn::Again(Arc::from(answer))
}

/// diss. §6.3: a command that was carried out before is answered as it was then.
#[test]
fn a_command_that_comes_again_has_the_answer_that_it_had() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 7, 0);
    assert_eq!(id, SessionId(7));
    assert_eq!(carry_out(&mut sessions, request(id, 0, 0), 1, b"one"), Turn::First);
    assert_eq!(carry_out(&mut sessions, request(id, 1, 0), 2, b"two"), Turn::First);
    assert_eq!(carry_out(&mut sessions, request(id, 0, 0), 3, b"other"), again(b"one"));
    assert_eq!(carry_out(&mut sessions, request(id, 1, 0), 3, b"other"), again(b"two"));
}

#[test]
fn what_the_client_does_not_wait_for_is_forgotten_and_late_copies_of_it_are_refused() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 1, 0);
    carry_out(&mut sessions, request(id, 0, 0), 1, b"zero");
    assert_eq!(carry_out(&mut sessions, request(id, 2, 2), 1, b"two"), Turn::First);
    let forgotten = || Turn::Refused(SessionRefusal::Forgotten);
    assert_eq!(carry_out(&mut sessions, request(id, 0, 0), 1, b"x"), forgotten());
    // Given up before its first transmission arrived.
    assert_eq!(carry_out(&mut sessions, request(id, 1, 0), 1, b"x"), forgotten());
    assert_eq!(sessions.session_bytes, cost(Some(b"two")));
}

#[test]
fn a_session_has_a_bounded_number_of_commands_under_way() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 1, 0);
    let too_many = || Turn::Refused(SessionRefusal::TooMany);
    for beyond in [IN_FLIGHT_MAX, u64::MAX] {
        assert_eq!(sessions.request(request(id, beyond, 0), seconds(0)), too_many());
    }
    assert_eq!(sessions.request(request(id, IN_FLIGHT_MAX - 1, 0), seconds(0)), Turn::First);
    assert_eq!(sessions.request(request(id, IN_FLIGHT_MAX, 1), seconds(0)), Turn::First);
}

#[test]
fn a_session_ends_when_nothing_was_asked_in_it_for_long_and_what_comes_then_is_not_carried_out() {
    let mut sessions = Sessions::default();
    let (idle, busy) = (opened(&mut sessions, 1, 0), opened(&mut sessions, 2, 0));
    carry_out(&mut sessions, request(busy, 0, 0), 30, b"x");
    sessions.expire(seconds(59));
    assert_eq!(sessions.open.len(), 2);
    sessions.expire(seconds(60));
    let expired = Turn::Refused(SessionRefusal::Expired);
    assert_eq!(carry_out(&mut sessions, request(idle, 0, 0), 60, b"x"), expired);
    // Asking for what was answered keeps it alive, too.
    assert_eq!(carry_out(&mut sessions, request(busy, 0, 0), 60, b"y"), again(b"x"));
    sessions.expire(seconds(119));
    assert_eq!(sessions.open.len(), 1);
    sessions.expire(seconds(120));
    assert_eq!(sessions.fill(), Fill::default());
}

/// Evicting the oldest would let a command of a client that lives be carried out twice.
#[test]
fn a_full_table_refuses_new_sessions_and_keeps_those_that_live() {
    let mut sessions = Sessions::default();
    let live: Vec<_> = (1..=3).map(|index| opened(&mut sessions, index, 0)).collect();
    assert_eq!(sessions.open(LogIndex(4), seconds(1), LIMITS), Err(SessionRefusal::Full));
    for id in &live {
        assert_eq!(carry_out(&mut sessions, request(*id, 0, 0), 2, b"x"), Turn::First);
    }
    sessions.close(live[0]);
    assert_eq!(opened(&mut sessions, 9, 3), SessionId(9));
    let expired = Turn::Refused(SessionRefusal::Expired);
    assert_eq!(carry_out(&mut sessions, request(live[0], 0, 0), 3, b"x"), expired);
}

#[test]
fn without_room_for_an_answer_it_is_kept_that_the_command_was_carried_out() {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 1, 0);
    let long = vec![0; 1000];
    assert_eq!(carry_out(&mut sessions, request(id, 0, 0), 1, &long), Turn::First);
    let forgotten = Turn::Refused(SessionRefusal::Forgotten);
    assert_eq!(carry_out(&mut sessions, request(id, 0, 0), 1, b"x"), forgotten);
    // Without room for that either, nothing is carried out.
    let full = Turn::Refused(SessionRefusal::Full);
    let last = (1..IN_FLIGHT_MAX)
        .find(|sequence| carry_out(&mut sessions, request(id, *sequence, 0), 1, b"x") == full);
    assert!(last.is_some() && sessions.session_bytes <= LIMITS.bytes_max);
    // Once the client has its answers, there is room again.
    let next = request(id, last.unwrap(), last.unwrap());
    assert_eq!(carry_out(&mut sessions, next, 1, b"x"), Turn::First);
}

/// Where commits are slow, a client opens a session with each try, and uses one of them.
#[test]
fn a_session_without_commands_ends_after_a_minute_and_those_with_commands_do_not() {
    let hour = TableLimits { age_max_nanos: 3600 * SECOND, ..LIMITS };
    let mut sessions = Sessions::default();
    let [unused, used, late] =
        [1, 2, 3].map(|index| sessions.open(LogIndex(index), seconds(10), hour).unwrap());
    assert_eq!(carry_out(&mut sessions, request(used, 0, 0), 11, b"zero"), Turn::First);
    sessions.expire(seconds(69));
    assert_eq!(carry_out(&mut sessions, request(late, 0, 0), 69, b"zero"), Turn::First);
    assert_eq!(sessions.open(LogIndex(4), seconds(69), hour), Err(SessionRefusal::Full));
    sessions.expire(seconds(70));
    let expired = Turn::Refused(SessionRefusal::Expired);
    assert_eq!(carry_out(&mut sessions, request(unused, 0, 0), 70, b"zero"), expired);
    // Also once what was kept is forgotten.
    assert_eq!(carry_out(&mut sessions, request(late, 1, 1), 71, b"one"), Turn::First);
    assert_eq!(carry_out(&mut sessions, request(late, 2, 2), 72, b"two"), Turn::First);
    sessions.expire(seconds(3610));
    assert_eq!(sessions.fill().sessions, 2);
    sessions.expire(seconds(3611));
    assert_eq!(sessions.fill().sessions, 1);
}

/// A hundred thousand sessions must not each keep room for all that was under way in them once.
#[test]
fn a_session_that_had_many_commands_under_way_is_small_again_when_it_has_their_answers() {
    let mut sessions = Sessions::default();
    let roomy = TableLimits { bytes_max: 1 << 20, ..LIMITS };
    let id = sessions.open(LogIndex(1), seconds(0), roomy).unwrap();
    for sequence in 0..IN_FLIGHT_MAX {
        assert_eq!(carry_out(&mut sessions, request(id, sequence, 0), 1, b"x"), Turn::First);
    }
    let next = request(id, IN_FLIGHT_MAX, IN_FLIGHT_MAX);
    assert_eq!(carry_out(&mut sessions, next, 1, b"x"), Turn::First);
    let room = sessions.open.get(&id).unwrap().kept.capacity();
    assert!(room <= 4, "room for {room} answers");
}

#[test]
fn a_name_stands_for_one_command_until_it_is_forgotten() {
    let mut sessions = Sessions::default();
    let named = |sessions: &mut Sessions, name: &[u8], command: &[u8], at| {
        let turn = sessions.named(name, command, seconds(at), LIMITS);
        if turn == Turn::First {
            sessions.answered(Place::Name(name), Some(command));
        }
        turn
    };
    assert_eq!(named(&mut sessions, b"a", b"one", 0), Turn::First);
    assert_eq!(named(&mut sessions, b"a", b"one", 1), again(b"one"));
    let taken = Turn::Refused(SessionRefusal::NameTaken);
    assert_eq!(named(&mut sessions, b"a", b"two", 2), taken);
    assert_eq!(named(&mut sessions, b"b", b"two", 30), Turn::First);
    // Names are not kept longer because they are asked for.
    sessions.expire(seconds(60));
    assert_eq!((sessions.named.len(), sessions.by_age.len()), (1, 1));
    assert_eq!(named(&mut sessions, b"a", b"two", 61), Turn::First);
    sessions.expire(seconds(1000));
    assert_eq!((sessions.fill(), sessions.by_age.len()), (Fill::default(), 0));
}

/// A service with many named commands must not shut out those with sessions, nor the other way round.
#[test]
fn sessions_and_names_take_no_room_of_each_other_and_are_forgotten_at_their_own_ages() {
    let mut sessions = Sessions::default();
    let name_limits = TableLimits { age_max_nanos: 10_000_000_000, count_max: 2, bytes_max: 522 };
    let named = |sessions: &mut Sessions, name: &[u8], at| {
        let turn = sessions.named(name, b"command", seconds(at), name_limits);
        if turn == Turn::First {
            sessions.answered(Place::Name(name), Some(b"done"));
        }
        turn
    };
    let full = || Turn::Refused(SessionRefusal::Full);
    assert_eq!(named(&mut sessions, b"a", 0), Turn::First);
    assert_eq!(named(&mut sessions, b"b", 0), Turn::First);
    assert_eq!(named(&mut sessions, b"c", 0), full());
    let ids: Vec<_> = (1..=3).map(|index| opened(&mut sessions, index, 1)).collect();
    assert_eq!(sessions.open(LogIndex(4), seconds(1), LIMITS), Err(SessionRefusal::Full));
    // Their bytes are counted apart, too: together, there would be no room for the last answer.
    let (mut keeps, answer) = (ids.iter().cycle(), [7; 100]);
    for sequence in 0..2 {
        for id in keeps.by_ref().take(3) {
            assert_eq!(
                carry_out(&mut sessions, request(*id, sequence, 0), 1, &answer),
                Turn::First
            );
        }
    }
    let Fill { names, name_bytes, sessions: count, session_bytes, .. } = sessions.fill();
    let name = NAME_OVERHEAD_BYTES + 1 + cost(Some(b"done"));
    assert_eq!((names, name_bytes, count), (2, 2 * name, 3));
    assert_eq!(session_bytes, 6 * cost(Some(&answer)));
    assert!(session_bytes + name_bytes > LIMITS.bytes_max);
    // Names are forgotten after 10 seconds, sessions after 60.
    assert_eq!(named(&mut sessions, b"c", 9), full());
    assert_eq!(named(&mut sessions, b"c", 10), Turn::First);
    assert_eq!((sessions.fill().names, sessions.fill().sessions), (1, 3));
    sessions.expire(seconds(61));
    assert_eq!(sessions.fill(), Fill::default());
}

#[test]
fn whether_a_session_would_be_refused_is_known_before_the_log_says_so() {
    // Sessions end sooner than those without commands would, or later.
    for limits in [20, 200].map(|seconds| TableLimits { age_max_nanos: seconds * SECOND, ..LIMITS })
    {
        let mut sessions = Sessions::default();
        for step in 0..500 {
            let (at, index) = (step * 7, step + 1);
            let mut would = Sessions::read_from(&mut image(&sessions).as_slice()).unwrap();
            let refused = would.open(LogIndex(index), seconds(at), limits).is_err();
            let fill = sessions.fill();
            assert_eq!(fill.has_no_room_for_a_session(&limits, seconds(at)), refused, "{fill:?}");
            if step % 3 > 0
                && let Ok(id) = sessions.open(LogIndex(index), seconds(at), limits)
                && step % 5 > 1
            {
                carry_out(&mut sessions, request(id, 0, 0), at, b"zero");
            }
        }
    }
    let none = TableLimits { count_max: 0, ..LIMITS };
    assert!(Fill::default().has_no_room_for_a_session(&none, seconds(1000)));
}

fn image(sessions: &Sessions) -> Vec<u8> {
    let mut image = Vec::new();
    sessions.freeze().write_to(&mut image).expect("it is written to memory");
    image
}

/// A table with a session and a name, and an answer of each.
fn table() -> Sessions {
    let mut sessions = Sessions::default();
    let id = opened(&mut sessions, 1, 0);
    carry_out(&mut sessions, request(id, 0, 0), 0, b"zero");
    carry_out(&mut sessions, request(id, 1, 0), 0, &[1; 2000]);
    assert_eq!(sessions.named(b"a", b"one", seconds(0), LIMITS), Turn::First);
    sessions.answered(Place::Name(b"a"), Some(b"done"));
    sessions
}

#[test]
fn what_is_no_image_of_a_table_is_an_error() {
    let sessions = table();
    let image = image(&sessions);
    let mut rest = &[&image[..], &[99]].concat()[..];
    assert_eq!(Sessions::read_from(&mut rest).unwrap(), sessions);
    assert_eq!(rest, [99], "it knows where it ends");
    for len in 0..image.len() {
        assert!(Sessions::read_from(&mut &image[..len]).is_err());
    }
    // Whatever is there instead, it is no panic, and no memory for what a length claims.
    for place in 0..image.len() {
        for byte in [0, 1, 2, 65, 255] {
            let mut damaged = image.clone();
            damaged[place] = byte;
            let _ = Sessions::read_from(&mut damaged.as_slice());
        }
    }
}

/// The image is written elsewhere while commands go on.
#[test]
fn a_frozen_table_shows_nothing_of_what_comes_later() {
    let mut sessions = table();
    let (before, frozen) = (image(&sessions), sessions.freeze());
    carry_out(&mut sessions, request(SessionId(1), 2, 2), 9, b"two");
    opened(&mut sessions, 2, 9);
    let _ = sessions.named(b"b", b"two", seconds(9), LIMITS);
    sessions.expire(seconds(1000));
    let mut after = Vec::new();
    frozen.write_to(&mut after).unwrap();
    assert_eq!(after, before);
}

/// What happens to a table.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Close(u8),
    Request(u8, u8, u8, u8),
    Named(u8, u8),
    Wait(u8),
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Step {
        let byte = |g: &mut Gen| u8::arbitrary(g) % 6;
        match u8::arbitrary(g) % 8 {
            0 | 1 => Step::Open,
            2 => Step::Close(byte(g)),
            3..=5 => Step::Request(byte(g), byte(g), byte(g), byte(g)),
            6 => Step::Named(byte(g), byte(g) % 2),
            _ => Step::Wait(u8::arbitrary(g) % 50),
        }
    }
}

/// Traps: a dedup table, or its eviction, that is not in the snapshot and not deterministic. And nothing is ever carried
/// out twice.
#[test]
fn a_table_that_was_in_a_snapshot_goes_on_as_the_others_do() {
    fn property(steps: Vec<Step>) -> bool {
        let mut replicas = [Sessions::default(), Sessions::default()];
        let (mut ids, mut now, mut carried_out) = (Vec::new(), 0, BTreeSet::new());
        for (index, step) in (1..).zip(steps) {
            let id = |which: u8| ids.get(usize::from(which)).copied().unwrap_or(SessionId(0));
            let answers = replicas.each_mut().map(|sessions| match step {
                Step::Open => format!("{:?}", sessions.open(LogIndex(index), seconds(now), LIMITS)),
                Step::Close(which) => format!("{:?}", sessions.close(id(which))),
                Step::Request(which, sequence, below, len) => {
                    let request = request(id(which), sequence.into(), below.into());
                    let answer = vec![sequence; usize::from(len) * 60];
                    format!("{:?}", carry_out(sessions, request, now, &answer))
                }
                Step::Named(name, command) => {
                    format!("{:?}", sessions.named(&[name], &[command], seconds(now), LIMITS))
                }
                Step::Wait(some) => {
                    sessions.expire(seconds(now + u64::from(some)));
                    String::new()
                }
            });
            if let Step::Request(which, sequence, ..) = step
                && answers[0] == "First"
                && !carried_out.insert((id(which), sequence))
            {
                return false;
            }
            match step {
                Step::Open => ids.push(SessionId(index)),
                Step::Wait(some) => now += u64::from(some),
                Step::Close(_) | Step::Request(..) | Step::Named(..) => {}
            }
            let image = image(&replicas[0]);
            let restored = Sessions::read_from(&mut image.as_slice()).unwrap();
            if answers[0] != answers[1] || restored != replicas[0] {
                return false;
            }
            replicas[1] = restored;
        }
        true
    }
    quickcheck::quickcheck(property as fn(Vec<Step>) -> bool);
}
