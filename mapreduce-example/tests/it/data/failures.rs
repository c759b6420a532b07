//! What a task says that comes to nothing.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mapreduce_example::data::Stores;
use mapreduce_example::execute::Limits;
use mapreduce_example::job::{Emitter, Job, Kind, Piece, Registry};
use mapreduce_example::task::{Stop, TaskError, TaskId};
use tempfile::tempdir;

use super::hand::{Asked, Hand, TINY, histories};

/// Does what the first line of the input says.
struct Clumsy;

impl Job for Clumsy {
    type Key = String;
    type Value = u32;
    type Output = u32;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        match piece.contents {
            b"panic\n" => panic!("on purpose"),
            b"err\n" => Err("it would not".to_owned()),
            b"long key\n" => {
                emit.emit_owned("k".repeat(5 << 20), 1);
                Ok(())
            }
            other => {
                emit.emit(std::str::from_utf8(other).unwrap().trim_end(), 1);
                Ok(())
            }
        }
    }

    fn reduce(&self, key: &String, values: &mut dyn Iterator<Item = u32>) -> Result<u32, String> {
        match key.as_str() {
            "panic in reduce" => panic!("{key}"),
            "err in reduce" => Err("it would not".to_owned()),
            _ => Ok(values.sum()),
        }
    }

    fn partition(&self, key: &String, reducers: u32) -> u32 {
        if key == "elsewhere" { reducers } else { 0 }
    }

    fn line(&self, key: &String, value: &u32, out: &mut dyn Write) -> io::Result<()> {
        if key == "err in line" {
            return Err(io::Error::other("it would not"));
        }
        writeln!(out, "{key} {value}")
    }
}

fn clumsy(dir: &Path, line: &str) -> Hand {
    let mut registry = Registry::empty();
    registry.add(Kind::new("clumsy", "fails", |_| Ok(Clumsy)));
    let input = dir.join("input");
    fs::write(&input, format!("{line}\n")).unwrap();
    let output = dir.join("out");
    let asked = Asked {
        job: "clumsy",
        arguments: &[],
        inputs: &[input.to_str().unwrap()],
        output: output.to_str().unwrap(),
        reducers: 1,
        split_bytes_max: 1000,
    };
    Hand::with_registry(registry, &Stores::new(), &asked, Limits::default())
}

fn assert_failed<T: std::fmt::Debug>(outcome: Result<T, TaskError>, words: &[&str]) {
    match outcome {
        Err(TaskError::Failed(text)) => {
            for word in words {
                assert!(text.contains(word), "{word:?} is missing: {text}");
            }
        }
        other => panic!("it should have failed: {other:?}"),
    }
}

#[test]
fn a_job_that_panics_or_errs_in_map_fails_its_task_and_says_where() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("input").display().to_string();
    for (line, words) in [
        ("panic", &[&*input, "bytes 0 to 6, from byte 0 on: it panicked: on purpose"][..]),
        ("err", &[&*input, "byte 0 on: it would not"]),
        ("long key", &[&*input, "bytes 0 to 9: a key of", "the limit is 4194304"]),
        ("elsewhere", &[&*input, "the key \"elsewhere\"", "partition 1", "there are 1"]),
    ] {
        let outcome = clumsy(dir.path(), line).map(0, 3);
        assert_failed(outcome.clone(), &["job 7, map task 0, attempt 3 (clumsy)"]);
        assert_failed(outcome, words);
    }
    assert!(
        !dir.path().join("out/_mapreduce/00000000000000000000000000000007/map-00000-3").exists(),
        "nothing is committed"
    );
}

#[test]
fn a_job_that_panics_or_errs_in_reduce_fails_its_task_and_commits_nothing() {
    let dir = tempdir().unwrap();
    for (line, word) in [
        ("panic in reduce", "key \"panic in reduce\": it panicked: panic in reduce"),
        ("err in reduce", "key \"err in reduce\": it would not"),
        ("err in line", "the results cannot be written: key \"err in line\": it would not"),
    ] {
        let hand = clumsy(dir.path(), line);
        hand.map(0, 1).unwrap();
        let outcome = hand.reduce(0, 1, &[1]);
        assert_failed(outcome, &["job 7, reduce task 0, attempt 1 (clumsy)", word]);
        assert!(
            !dir.path()
                .join("out/_mapreduce/00000000000000000000000000000007/reduce-00000-1")
                .exists()
        );
    }
}

#[test]
fn an_input_that_vanished_or_shrank_fails_its_task_by_name() {
    let dir = tempdir().unwrap();
    let hand = clumsy(dir.path(), "a line");
    let input = dir.path().join("input");
    fs::write(&input, "short").unwrap();
    let name = input.display().to_string();
    assert_failed(hand.map(0, 1), &[&name, "has become shorter: 5 bytes"]);
    fs::remove_file(&input).unwrap();
    assert_failed(hand.map(0, 1), &[&name, "there is no such file"]);
}

#[test]
fn an_output_that_cannot_be_written_fails_its_task_by_name() {
    let dir = tempdir().unwrap();
    let hand = clumsy(dir.path(), "a line");
    // A file where the folder should be: nobody can write there, whatever their rights.
    let output = dir.path().join("out");
    fs::write(&output, "in the way").unwrap();
    assert_failed(hand.map(0, 1), &["job 7, map task 0", &output.display().to_string()]);
}

#[test]
fn a_split_a_partition_and_a_job_that_do_not_exist_fail_their_tasks() {
    let dir = tempdir().unwrap();
    let hand = clumsy(dir.path(), "a line");
    assert_failed(hand.map(1, 1), &["there is no such split"]);
    hand.map(0, 1).unwrap();
    // The run has no such partition: it is another run than this job's.
    assert_eq!(hand.reduce(5, 1, &[1]), Err(TaskError::LostMap(0)));
    let mut unknown = (*hand.spec).clone();
    unknown.job = "nonsense".to_owned();
    let hand = Hand { spec: Arc::new(unknown), ..hand };
    assert_failed(hand.map(0, 1), &["there is no job \"nonsense\": the jobs are clumsy"]);
}

/// Says so after it was asked so often.
struct After(AtomicU32);

impl Stop for After {
    fn is_stopped(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_err()
    }
}

#[test]
fn a_task_that_is_told_to_stop_does_so_at_any_point_and_commits_nothing() {
    let dir = tempdir().unwrap();
    let input = dir.path().join("input");
    fs::write(&input, histories(3000)).unwrap();
    let asked = Asked {
        job: "sort",
        arguments: &[],
        inputs: &[input.to_str().unwrap()],
        output: "memory:///out",
        reducers: 1,
        split_bytes_max: 10_000,
    };
    let hand = Hand::new(&Stores::new(), &asked, TINY);
    let between =
        hand.stores.locate("memory:///out/_mapreduce/00000000000000000000000000000007").unwrap();
    let left = || between.list().unwrap().objects.len();
    for (task, inputs, name) in
        [(TaskId::Map(0), &[][..], "map-00000-1"), (TaskId::Reduce(0), &[1], "reduce-00000-1")]
    {
        let (mut stopped, before) = (0, left());
        for looks in 0.. {
            let stop = Arc::new(After(AtomicU32::new(looks)));
            match hand.execute_until(task, 1, inputs, stop) {
                Err(error) => assert_eq!(error, TaskError::Stopped),
                Ok(_) => break,
            }
            stopped += 1;
            assert!(between.join(name).read().is_err(), "after {looks} looks");
            assert_eq!(left(), before, "what {task} has spilled after {looks} looks is in the way");
        }
        assert!(stopped > 10, "{task} looked only {stopped} times");
        if task == TaskId::Map(0) {
            assert!(left() > 1, "it has spilled nothing");
        }
    }
}
