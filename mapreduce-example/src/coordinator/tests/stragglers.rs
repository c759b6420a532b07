//! What takes long has a second attempt elsewhere.

use super::*;

/// Four maps, of which three are finished after a second each; the last one is with Ann.
pub(super) fn straggling() -> (Table, Vec<AttemptId>) {
    let mut table = Table::default();
    table.submit(spec(4, 1, 2));
    let maps = table.begin(ANN, &[], 4);
    table.wait(SECOND);
    let reports = maps[..3].iter().map(|id| Report::Finished(*id, Counts::default())).collect();
    table.work(ANN, &maps[3..], reports, 0);
    (table, maps)
}

#[test]
fn a_straggler_near_the_end_of_a_phase_has_a_second_attempt_at_another_worker() {
    let (mut table, maps) = straggling();
    assert_eq!(table.coordinator.due(), Some(2 * SECOND));
    assert!(!table.is_ready_for(BOB, &[]));
    table.wait(SECOND);
    assert!(table.is_ready_for(BOB, &[]) && !table.is_ready_for(ANN, &maps[3..]));
    assert_eq!(table.begin(ANN, &maps[3..], 1), []);
    let second = table.begin(BOB, &[], 3);
    assert_eq!(second, [AttemptId { attempt: Attempt(2), ..maps[3] }]);
    assert_eq!(table.begin(CARL, &[], 1), [], "never more than two at once");
    // The first to finish wins, the other one is stopped.
    table.finish(BOB, &second);
    assert!(table.is_ready_for(ANN, &maps[3..]));
    assert_eq!(table.work(ANN, &maps[3..], vec![], 0).stop, maps[3..]);
}

#[test]
fn nothing_is_a_straggler_while_less_than_half_of_the_tasks_are_done() {
    let mut table = Table::default();
    table.submit(spec(4, 1, 1));
    let maps = table.begin(ANN, &[], 4);
    table.wait(SECOND);
    table.work(ANN, &maps[1..], vec![Report::Finished(maps[0], Counts::default())], 0);
    table.wait(3 * SECOND);
    assert!(!table.is_ready_for(BOB, &[]));
    table.work(ANN, &maps[2..], vec![Report::Finished(maps[1], Counts::default())], 0);
    // Half of them are done, and the middle one of those took a second: it is time for a second attempt.
    assert!(table.is_ready_for(BOB, &[]));
}

/// Keeps an attempt going for so long.
fn keep(table: &mut Table, worker: WorkerId, running: &[AttemptId], seconds: u32) {
    for _ in 0..seconds {
        table.wait(SECOND);
        assert_eq!(table.work(worker, running, vec![], 0).stop, []);
    }
}

#[test]
fn what_has_taken_a_minute_has_a_second_attempt_however_few_others_there_were() {
    let mut table = Table::default();
    table.submit(spec(1, 2, 2));
    for phase in 0..3 {
        let begun = table.begin(ANN, &[], 2);
        keep(&mut table, ANN, &begun, 59);
        assert!(!table.is_ready_for(BOB, &[]), "phase {phase}");
        assert_eq!(table.coordinator.due(), Some(table.time + SECOND));
        keep(&mut table, ANN, &begun, 1);
        assert!(table.is_ready_for(BOB, &[]), "phase {phase}");
        let second = table.begin(BOB, &[], 9);
        assert_eq!(tasks(&second), tasks(&begun));
        table.finish(BOB, &second);
        assert_eq!(table.work(ANN, &begun, vec![], 0).stop, begun);
    }
}

#[test]
fn what_has_taken_a_minute_has_no_second_attempt_while_something_waits() {
    let mut table = Table::default();
    table.submit(spec(2, 1, 2));
    let first = table.begin(ANN, &[], 1);
    keep(&mut table, ANN, &first, 100);
    assert_eq!(tasks(&table.begin(BOB, &[], 1)), [TaskId::Map(1)]);
}

#[test]
fn a_second_attempt_that_is_lost_leaves_the_first_one_alone() {
    let (mut table, maps) = straggling();
    table.wait(SECOND);
    table.begin(BOB, &[], 1);
    assert_eq!(table.apply(Command::Leave { worker: BOB, reports: vec![] }), Response::Left);
    assert_eq!(table.work(ANN, &maps[3..], vec![], 0).stop, []);
    assert_eq!(table.begin(BOB, &[], 1), [AttemptId { attempt: Attempt(3), ..maps[3] }]);
}
