//! What a reduce task makes of runs that are not as they were written.

use std::fs;
use std::path::PathBuf;

use mapreduce_example::data::Stores;
use mapreduce_example::execute::Limits;
use mapreduce_example::task::TaskError;
use tempfile::{TempDir, tempdir};

use super::hand::{Asked, Hand, TINY, histories, sorted};

/// A job whose three map tasks are done.
struct Mapped {
    dir: TempDir,
    hand: Hand,
}

fn mapped(limits: Limits) -> Mapped {
    let dir = tempdir().unwrap();
    let input = dir.path().join("input");
    fs::write(&input, histories(9000)).unwrap();
    let output = dir.path().join("out");
    let asked = Asked {
        job: "word-count",
        arguments: &[],
        inputs: &[input.to_str().unwrap()],
        output: output.to_str().unwrap(),
        reducers: 2,
        split_bytes_max: 3000,
    };
    let hand = Hand::new(&Stores::new(), &asked, limits);
    assert_eq!(hand.maps(), 3);
    for number in 0..3 {
        hand.map(number, 1).unwrap();
    }
    Mapped { dir, hand }
}

impl Mapped {
    /// All that map task 1 has written: the last run and, with tiny limits, the spilled ones.
    fn runs(&self) -> Vec<PathBuf> {
        let between = self.dir.path().join("out/_mapreduce/00000000000000000000000000000007");
        let all = fs::read_dir(between).unwrap().map(|entry| entry.unwrap().path());
        let is_of_map_1 =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("map-00001-1");
        let mut runs: Vec<PathBuf> = all.filter(is_of_map_1).collect();
        runs.sort();
        runs
    }

    fn reduce_all(&self) -> Result<(), TaskError> {
        for number in 0..2 {
            self.hand.reduce(number, 1, &[1, 1, 1])?;
        }
        Ok(())
    }

    fn finish_and_compare(&self) {
        self.reduce_all().unwrap();
        self.hand.publish(&[1, 1]).unwrap();
        assert_eq!(sorted(&self.hand.parts()), sorted(&self.hand.expected()));
    }
}

#[test]
fn a_run_with_a_rotten_byte_is_lost_wherever_the_byte_is_and_can_be_written_again() {
    let mapped = mapped(Limits::default());
    let run = &mapped.runs()[0];
    let sound = fs::read(run).unwrap();
    // The magic of the beginning is nobody's to read.
    for at in (8..sound.len()).step_by(61).chain(sound.len() - 16..sound.len()) {
        let mut rotten = sound.clone();
        rotten[at] ^= 0x10;
        fs::write(run, rotten).unwrap();
        assert_eq!(mapped.reduce_all(), Err(TaskError::LostMap(1)), "byte {at}");
    }
    mapped.hand.map(1, 1).unwrap();
    mapped.finish_and_compare();
}

/// Where the blocks of a run end and its catalogue begins, which nobody reads of a spilled run.
fn blocks_end(run: &[u8]) -> usize {
    let trailer = run.len() - 16;
    let len = u32::from_le_bytes(run[trailer..trailer + 4].try_into().unwrap());
    trailer - len as usize
}

#[test]
fn a_run_that_ends_early_is_lost() {
    for limits in [Limits::default(), TINY] {
        let mapped = mapped(limits);
        for run in &mapped.runs() {
            let sound = fs::read(run).unwrap();
            let is_last = run.file_name().unwrap() == "map-00001-1";
            let end = if is_last { sound.len() } else { blocks_end(&sound) };
            for len in (0..end).step_by(97).chain([end - 1]) {
                fs::write(run, &sound[..len]).unwrap();
                assert_eq!(mapped.reduce_all(), Err(TaskError::LostMap(1)), "{run:?}, {len} bytes");
            }
            fs::write(run, sound).unwrap();
        }
        mapped.finish_and_compare();
    }
}

#[test]
fn each_run_that_is_missing_is_told_to_be_lost_also_the_spilled_ones() {
    let mapped = mapped(TINY);
    let runs = mapped.runs();
    assert!(runs.len() > 2, "there are spilled ones: {runs:?}");
    for run in &runs {
        let sound = fs::read(run).unwrap();
        fs::remove_file(run).unwrap();
        assert_eq!(mapped.reduce_all(), Err(TaskError::LostMap(1)), "{run:?}");
        fs::write(run, sound).unwrap();
    }
    mapped.finish_and_compare();
}

#[test]
fn a_map_task_that_is_carried_out_again_under_the_same_attempt_harms_nothing() {
    let mapped = mapped(TINY);
    mapped.hand.map(1, 1).unwrap();
    mapped.hand.map(0, 2).unwrap();
    mapped.finish_and_compare();
}
