//! The results get their names: once, however often it is tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mapreduce_example::data::{Stores, clear, is_empty};
use mapreduce_example::execute::Limits;
use mapreduce_example::task::{JobId, Stop, TaskError, TaskId};
use tempfile::{TempDir, tempdir};

use super::hand::{Asked, Hand, histories, sorted};

/// A job whose two reduce tasks are done, the second one at its second attempt.
fn reduced(output: Option<&str>) -> (TempDir, Hand) {
    let dir = tempdir().unwrap();
    let input = dir.path().join("input");
    fs::write(&input, histories(5000)).unwrap();
    let local = dir.path().join("out").display().to_string();
    let asked = Asked {
        job: "word-count",
        arguments: &[],
        inputs: &[input.to_str().unwrap()],
        output: output.unwrap_or(&local),
        reducers: 2,
        split_bytes_max: 10_000,
    };
    let hand = Hand::new(&Stores::new(), &asked, Limits::default());
    hand.map(0, 1).unwrap();
    hand.reduce(0, 1, &[1]).unwrap();
    hand.reduce(1, 2, &[1]).unwrap();
    (dir, hand)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const PUBLISHED: [&str; 3] = ["_SUCCESS", "part-00000", "part-00001"];

#[test]
fn a_publication_leaves_the_results_and_nothing_else_and_may_be_repeated() {
    let (dir, hand) = reduced(None);
    for _ in 0..3 {
        hand.publish(&[1, 2]).unwrap();
        assert_eq!(names(&dir.path().join("out")), PUBLISHED);
        assert_eq!(sorted(&hand.parts()), sorted(&hand.expected()));
    }
}

#[test]
fn a_publication_that_ended_half_way_is_taken_up() {
    let (dir, hand) = reduced(None);
    let output = dir.path().join("out");
    // One result has its name already, as the same file under two names.
    fs::hard_link(
        output.join("_mapreduce/00000000000000000000000000000007/reduce-00000-1"),
        output.join("part-00000"),
    )
    .unwrap();
    hand.publish(&[1, 2]).unwrap();
    assert_eq!(names(&output), PUBLISHED);

    // All is published, and a part of what was between is still there.
    fs::create_dir_all(output.join("_mapreduce/00000000000000000000000000000007")).unwrap();
    fs::write(output.join("_mapreduce/00000000000000000000000000000007/map-00000-1"), "old")
        .unwrap();
    hand.publish(&[1, 2]).unwrap();
    assert_eq!(names(&output), PUBLISHED);
    assert_eq!(sorted(&hand.parts()), sorted(&hand.expected()));
}

#[test]
fn publications_at_the_same_time_do_not_meet() {
    for _ in 0..20 {
        let (dir, hand) = reduced(None);
        std::thread::scope(|scope| {
            let publish = || scope.spawn(|| hand.publish(&[1, 2]));
            let all = [publish(), publish(), publish()];
            for one in all {
                one.join().unwrap().unwrap();
            }
        });
        assert_eq!(names(&dir.path().join("out")), PUBLISHED);
        assert_eq!(sorted(&hand.parts()), sorted(&hand.expected()));
    }
}

#[test]
fn a_result_that_is_gone_or_whose_name_is_taken_fails_the_publication_without_success() {
    let (dir, hand) = reduced(None);
    let output = dir.path().join("out");
    let failed = |hand: &Hand| match hand.publish(&[1, 2]) {
        Err(TaskError::Failed(text)) => text,
        other => panic!("it should have failed: {other:?}"),
    };
    fs::write(output.join("part-00001"), "somebody else's").unwrap();
    assert!(failed(&hand).contains("part-00001: it is there already"), "{}", failed(&hand));
    fs::remove_file(output.join("part-00001")).unwrap();
    fs::remove_file(output.join("_mapreduce/00000000000000000000000000000007/reduce-00001-2"))
        .unwrap();
    let text = failed(&hand);
    assert!(text.contains("job 7, publication, attempt 1 (word-count)"), "{text}");
    assert!(text.contains("reduce-00001-2: there is no such file"), "{text}");
    assert!(!output.join("_SUCCESS").exists());
}

#[test]
fn another_job_that_is_under_way_with_the_same_output_keeps_what_it_has() {
    let (dir, hand) = reduced(None);
    let theirs = dir.path().join("out/_mapreduce/8/map-00000-1");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "theirs").unwrap();
    hand.publish(&[1, 2]).unwrap();
    assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
}

/// Says so once there is such a file.
struct Once(PathBuf);

impl Stop for Once {
    fn is_stopped(&self) -> bool {
        self.0.exists()
    }
}

#[test]
fn a_publication_that_is_told_to_stop_does_so_between_its_steps_and_says_no_success() {
    let (dir, hand) = reduced(None);
    let output = dir.path().join("out");
    let publish = |stop| hand.execute_until(TaskId::Publish, 1, &[1, 2], Arc::new(Once(stop)));
    assert_eq!(publish(dir.path().join("input")), Err(TaskError::Stopped));
    assert_eq!(names(&output), ["_mapreduce"]);
    assert_eq!(publish(output.join("part-00000")), Err(TaskError::Stopped));
    assert_eq!(names(&output), ["_mapreduce", "part-00000"]);
    // The last step is the one that counts.
    let (dir, hand) = reduced(None);
    let output = dir.path().join("out");
    let last = Arc::new(Once(output.join("part-00001")));
    assert_eq!(hand.execute_until(TaskId::Publish, 1, &[1, 2], last), Err(TaskError::Stopped));
    assert_eq!(names(&output), ["_mapreduce", "part-00000", "part-00001"]);
}

/// Gives the folder to another job once there is such a file.
struct Taken(PathBuf);

impl Stop for Taken {
    fn is_stopped(&self) -> bool {
        if self.0.exists() {
            fs::write(self.0.with_file_name("_mapreduce").join("owner"), "another").unwrap();
        }
        false
    }
}

#[test]
fn a_publication_whose_folder_is_not_its_jobs_any_more_says_no_success() {
    for part in ["part-00000", "part-00001"] {
        let (dir, hand) = reduced(None);
        let output = dir.path().join("out");
        let stop = Arc::new(Taken(output.join(part)));
        match hand.execute_until(TaskId::Publish, 1, &[1, 2], stop) {
            Err(TaskError::Failed(text)) => assert!(text.contains("is not this job's"), "{text}"),
            other => panic!("it should have failed: {other:?}"),
        }
        assert!(!output.join("_SUCCESS").exists());
        assert_eq!(fs::read(output.join("_mapreduce/owner")).unwrap(), b"another");
    }
}

#[test]
fn a_job_leaves_the_results_of_one_before_it_alone() {
    for output in [None, Some("memory:///before/out")] {
        let (_dir, hand) = reduced(output);
        hand.publish(&[1, 2]).unwrap();
        let mut second = (*hand.spec).clone();
        second.token = 8;
        let second = Hand { spec: Arc::new(second), ..hand };
        let before = second.parts();
        for outcome in [second.map(0, 1), second.reduce(0, 1, &[1])] {
            match outcome {
                Err(TaskError::Failed(text)) => {
                    assert!(text.contains("results of another job are in"), "{text}");
                }
                other => panic!("it should have failed: {other:?}"),
            }
        }
        second.publish(&[1, 2]).unwrap_err();
        assert_eq!(second.parts(), before);
        let success = second.stores.locate(&second.spec.output).unwrap().join("_SUCCESS");
        let first = format!("job {:032x}, attempts 1 2\n", 7);
        assert_eq!(&success.read().unwrap()[..], first.as_bytes());
    }
}

#[test]
fn another_store_than_a_folder_ends_up_the_same() {
    let (_dir, hand) = reduced(Some("memory:///some/out"));
    hand.publish(&[1, 2]).unwrap();
    hand.publish(&[1, 2]).unwrap();
    assert_eq!(sorted(&hand.parts()), sorted(&hand.expected()));
    let output = hand.stores.locate("memory:///some/out").unwrap();
    assert!(
        output.join("_mapreduce").join(&format!("{:032x}", 7)).join("map-00000-1").read().is_err()
    );
    assert_eq!(
        &output.join("_SUCCESS").read().unwrap()[..],
        format!("job {:032x}, attempts 1 2\n", 7).as_bytes()
    );
    assert_eq!(hand.job, JobId(7));
    clear(&hand.stores, "memory:///some/out").unwrap();
    assert!(is_empty(&hand.stores, "memory:///some/out").unwrap());
}

#[test]
fn a_folder_is_empty_if_there_is_nothing_in_it_not_even_what_a_store_would_not_list() {
    let dir = tempdir().unwrap();
    let stores = Stores::new();
    let output: PathBuf = dir.path().join("out");
    let url = output.to_str().unwrap();
    assert!(is_empty(&stores, url).unwrap(), "there is no such folder");
    clear(&stores, url).unwrap();
    fs::create_dir(&output).unwrap();
    assert!(is_empty(&stores, url).unwrap());
    for name in ["file", ".hidden", "half-written#1"] {
        fs::write(output.join(name), "x").unwrap();
        assert!(!is_empty(&stores, url).unwrap(), "{name}");
        clear(&stores, url).unwrap();
        assert!(is_empty(&stores, url).unwrap(), "{name}");
    }
    fs::create_dir_all(output.join("folder/in/folder")).unwrap();
    assert!(!is_empty(&stores, url).unwrap());
    clear(&stores, url).unwrap();
    assert!(is_empty(&stores, url).unwrap());
    fs::remove_dir(&output).unwrap();
    fs::write(&output, "a file").unwrap();
    assert!(is_empty(&stores, url).unwrap_err().to_string().contains(url));
}
