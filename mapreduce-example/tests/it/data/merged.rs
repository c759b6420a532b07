//! The results of all reduce tasks in one file, in the order that the job says.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use mapreduce_example::data::Stores;
use mapreduce_example::execute::Limits;
use mapreduce_example::job::Registry;
use mapreduce_example::run::merge_results;
use mapreduce_example::task::{JobSpec, Stop, TaskError};
use tempfile::tempdir;

use super::hand::{Asked, Hand, histories};

/// Names that are prefixes of each other, and what comes before and after the signs that end them in a line.
const NAMES: [&str; 10] = ["a", "a b", "a-b", "a.txt", "a0", "ab", "A", "a:b", "a,b", "\u{e4}"];

/// Lines of all lengths, so that they begin at numbers of one digit and of several; some are prefixes of others, with what
/// comes before the end of a line behind them.
const ODD: &str = "\n\na\na b\na\tb\na\u{1}\nab\nab c\nA\n\u{e4}\n\u{e4} \n\ra\n1\n10\n9\n";

/// What all of it at once finds is in the order of the keys.
#[track_caller]
fn is_in_order(job: &str, arguments: &[(&str, &str)], reducers: u32) {
    let dir = tempdir().unwrap();
    for (number, name) in NAMES.into_iter().enumerate() {
        let text = [ODD.as_bytes(), histories(100 + 400 * number), b"\n", ODD.as_bytes()].concat();
        fs::write(dir.path().join(name), text).unwrap();
    }
    let input = format!("{}/*", dir.path().display());
    let output = format!("memory:///{job}");
    let asked = Asked {
        job,
        arguments,
        inputs: &[&input],
        output: &output,
        reducers,
        split_bytes_max: 1_000,
    };
    let hand = Hand::new(&Stores::new(), &asked, Limits::default());
    hand.run();
    let (merged, expected) = (hand.merged(), hand.expected());
    assert!(!expected.is_empty());
    assert_eq!(String::from_utf8_lossy(&merged), String::from_utf8_lossy(&expected), "{job}");
}

#[test]
fn words_and_their_counts_come_by_the_word() {
    is_in_order("word-count", &[], 7);
}

#[test]
fn an_index_comes_by_the_word() {
    is_in_order("inverted-index", &[], 7);
}

#[test]
fn lines_that_match_come_by_input_then_by_where_they_begin() {
    is_in_order("grep", &[("pattern", "a|^$")], 7);
}

#[test]
fn the_most_frequent_words_come_by_their_count() {
    is_in_order("top-n", &[("n", "20")], 1);
}

#[test]
fn sorted_lines_come_by_their_bytes() {
    is_in_order("sort", &[], 7);
    // Each boundary before a line that another one begins with.
    is_in_order("sort", &[("boundaries", "6101,6109,61ff")], 4);
}

/// Says so once there is something beside the file of results.
struct HalfWritten {
    output: PathBuf,
    was_seen: AtomicBool,
}

impl Stop for HalfWritten {
    fn is_stopped(&self) -> bool {
        let is_seen = fs::read_dir(&self.output).unwrap().count() > 1;
        self.was_seen.fetch_or(is_seen, Ordering::Relaxed) || is_seen
    }
}

#[test]
fn a_merge_that_is_told_to_stop_half_way_leaves_nothing() {
    let dir = tempdir().unwrap();
    // More than is held in memory, and not twice as much.
    let part = format!("{}\n", "x".repeat(1023)).repeat(12 << 10);
    fs::write(dir.path().join("part-00000"), part).unwrap();
    let spec = JobSpec {
        job: "word-count".to_owned(),
        arguments: Default::default(),
        inputs: Vec::new(),
        output: dir.path().display().to_string(),
        reducers: 1,
        failures_max: 1,
        token: 1,
    };
    let stop = HalfWritten { output: dir.path().to_owned(), was_seen: AtomicBool::new(false) };
    let merged = merge_results(&Registry::shipped(), &spec, &Stores::new(), &stop);
    assert_eq!(merged, Err(TaskError::Stopped));
    assert!(stop.was_seen.into_inner(), "it was not half-written");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
