//! What maps have written is lost, or somebody says so.

use super::*;

/// Two maps are done; Ann reduces the first partition, and Bob the second one.
fn reducing() -> (Table, JobId, Vec<AttemptId>, Vec<AttemptId>) {
    let mut table = Table::default();
    let job = table.submit(spec(2, 3, 2));
    let maps = table.begin(ANN, &[], 2);
    table.finish(ANN, &maps);
    let (first, second) = (table.begin(ANN, &[], 1), table.begin(BOB, &[], 1));
    (table, job, first, second)
}

fn lost_map(attempt: AttemptId, map: u32, lost: u32) -> Vec<Report> {
    vec![Report::LostMap { attempt, map, lost: Attempt(lost) }]
}

/// Ann says so, and the one who has the third of the reduce tasks.
fn lose(table: &mut Table, first: AttemptId, map: u32, lost: u32) {
    let third = table.begin(CARL, &[], 1);
    table.work(ANN, &[], lost_map(first, map, lost), 0);
    table.work(CARL, &[], lost_map(third[0], map, lost), 0);
}

#[test]
fn a_map_whose_output_is_lost_is_done_again_before_more_is_reduced() {
    let (mut table, job, first, second) = reducing();
    let orders = table.work(ANN, &[], lost_map(first[0], 1, 1), 2);
    assert_eq!(tasks(&orders.begin), [TaskId::Reduce(2)], "maybe Ann just cannot read it");
    let tried = table.begin(BOB, &second, 1);
    assert_eq!(tried, [id(job, TaskId::Reduce(0), 2)]);
    let again = table.work(BOB, &second, lost_map(tried[0], 1, 1), 2).begin;
    assert_eq!(again, [id(job, TaskId::Map(1), 2)]);
    // What is being reduced goes on, and may finish.
    assert_eq!(table.work(ANN, &orders.begin, vec![], 1), Orders { begin: vec![], ..orders });
    table.finish(ANN, &orders.begin);
    assert_eq!(table.inputs(again[0]), Some(vec![]));
    table.work(BOB, &second, vec![Report::Finished(again[0], Counts::default())], 0);
    let reduces = table.begin(BOB, &second, 3);
    assert_eq!(tasks(&reduces), [TaskId::Reduce(0)]);
    assert_eq!(table.inputs(reduces[0]), Some(vec![Attempt(1), Attempt(2)]));
}

/// What Ann says when she cannot read what map 0 has written last.
fn cannot_read(table: &Table, given: &[AttemptId]) -> Vec<Report> {
    let reduces = given.iter().filter(|id| matches!(id.task, TaskId::Reduce(_)));
    let lost = |id: &AttemptId| table.inputs(*id).map(|inputs| lost_map(*id, 0, inputs[0].0));
    reduces.filter_map(lost).flatten().collect()
}

#[test]
fn a_worker_that_cannot_read_takes_nothing_back_while_others_can() {
    let mut table = Table::default();
    let job = table.submit(spec(2, 40, 2));
    let maps = table.begin(ANN, &[], 2);
    table.finish(ANN, &maps);
    let (mut anns, mut bobs) = (table.begin(ANN, &[], 1), table.begin(BOB, &[], 1));
    for second in 1_u32.. {
        table.wait(SECOND);
        let reports = cannot_read(&table, &anns);
        anns = table.work(ANN, &[], reports, 1).begin;
        assert!(anns.iter().all(|id| matches!(id.task, TaskId::Reduce(_))), "{anns:?}");
        if table.view(job).summary.phase == Phase::Publish {
            break;
        }
        bobs = match second % 10 {
            0 => {
                let reports = vec![Report::Finished(bobs[0], Counts::default())];
                table.work(BOB, &[], reports, 1).begin
            }
            _ => {
                table.work(BOB, &bobs, vec![], 0);
                bobs
            }
        };
    }
    assert!(table.time > 300 * SECOND, "Ann has had her turns");
}

/// Ann was right about what was there before.
#[test]
fn what_one_worker_has_said_makes_another_one_s_word_sure_once() {
    let (mut table, job, first, _second) = reducing();
    table.work(ANN, &[], lost_map(first[0], 0, 1), 1);
    let carls = table.begin(CARL, &[], 1);
    let again = table.work(CARL, &[], lost_map(carls[0], 0, 1), 1).begin;
    assert_eq!(again, [id(job, TaskId::Map(0), 2)]);
    let reports = vec![Report::Finished(again[0], Counts::default())];
    let carls = table.work(CARL, &[], reports, 1).begin;
    assert_eq!(carls, [id(job, TaskId::Reduce(0), 3)]);
    assert_eq!(table.work(CARL, &[], lost_map(carls[0], 0, 2), 1).begin, []);
    assert_eq!(table.view(job).summary.maps.done, 2);
}

#[test]
fn a_worker_that_cannot_read_fails_no_job_while_others_have_no_time_to_try() {
    let (mut table, job, first, second) = reducing();
    let (mut anns, mut again) = (first, 0);
    for _ in 0..200 {
        table.wait(SECOND);
        table.work(BOB, &second, vec![], 0);
        let maps = anns.iter().filter(|id| matches!(id.task, TaskId::Map(_)));
        let maps: Vec<_> = maps.map(|id| Report::Finished(*id, Counts::default())).collect();
        again += maps.len();
        let reports = maps.into_iter().chain(cannot_read(&table, &anns)).collect();
        anns = table.work(ANN, &[], reports, 1).begin;
    }
    assert!((2..20).contains(&again), "map 0 was done again {again} times");
    assert_eq!(table.state(job), JobState::Unfinished);
    table.apply(Command::Leave { worker: ANN, reports: vec![] });
    table.finish(BOB, &second);
    while table.state(job) == JobState::Unfinished {
        let next = table.begin(BOB, &[], 1);
        assert!(!next.is_empty());
        table.finish(BOB, &next);
    }
    assert_eq!(table.state(job), JobState::Succeeded);
}

#[test]
fn a_loss_of_what_does_not_count_any_more_takes_nothing_back() {
    let (mut table, job, first, second) = reducing();
    lose(&mut table, first[0], 1, 1);
    let again = table.begin(ANN, &[], 1);
    table.finish(ANN, &again);
    // Bob has tried to read what was lost before.
    let orders = table.work(BOB, &[], lost_map(second[0], 1, 1), 1);
    assert_eq!(tasks(&orders.begin), [TaskId::Reduce(0)]);
    assert_eq!(table.view(job).summary.maps.done, 2);
}

#[test]
fn what_was_lost_does_not_come_back_by_a_report_that_is_late() {
    let (mut table, job, first, _) = reducing();
    lose(&mut table, first[0], 1, 1);
    table.finish(ANN, &[id(job, TaskId::Map(1), 1)]);
    assert_eq!(table.view(job).summary.maps.done, 1);
}

#[test]
fn once_all_is_reduced_no_map_is_done_again() {
    let (mut table, job, first, second) = reducing();
    let third = table.begin(CARL, &[], 1);
    table.work(ANN, &[], lost_map(first[0], 1, 1), 0);
    let tried = table.begin(WorkerId(4), &[], 1);
    table.work(WorkerId(4), &[], lost_map(tried[0], 1, 1), 0);
    let again = table.begin(ANN, &[], 1);
    assert_eq!(tasks(&again), [TaskId::Map(1)]);
    for (worker, one) in [(BOB, &second), (CARL, &third)] {
        table.finish(worker, one);
    }
    // The attempt that was given back finishes all the same.
    table.work(ANN, &again, vec![Report::Finished(first[0], Counts::default())], 0);
    assert_eq!(table.view(job).summary.phase, Phase::Publish);
    assert_eq!(table.work(ANN, &again, vec![], 0).stop, again);
    assert_eq!(tasks(&table.begin(ANN, &[], 2)), [TaskId::Publish]);
}

#[test]
fn a_map_whose_output_is_lost_again_and_again_fails_its_job() {
    let (mut table, job, first, second) = reducing();
    // Ann is alone then.
    table.work(BOB, &[], vec![Report::GaveBack(second[0])], 0);
    let mut reduce = first[0];
    for attempt in 1..=6 {
        assert_eq!(table.state(job), JobState::Unfinished);
        table.work(ANN, &[], lost_map(reduce, 0, attempt), 0);
        let again = table.begin(ANN, &[], 1);
        table.finish(ANN, &again);
        reduce = table.begin(ANN, &[], 1).first().copied().unwrap_or(reduce);
    }
    let why = "map task 0 (word-count: memory:///in, bytes 0 to 10) was lost 6 times, the last time with what it had written".to_owned();
    assert_eq!(table.state(job), JobState::Failed(why));
}

#[test]
fn a_task_that_claims_a_loss_that_makes_no_sense_has_failed() {
    let (mut table, job, first, _) = reducing();
    table.work(ANN, &[], lost_map(first[0], 99, 1), 0);
    assert!(table.view(job).failures[0].text.contains("map task 99"));
}
