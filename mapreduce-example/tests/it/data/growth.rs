//! Values that grow as they are combined: those of a key may be more than the longest one all together.

use std::fs;
use std::io::{self, Write};

use mapreduce_example::data::Stores;
use mapreduce_example::execute::Limits;
use mapreduce_example::job::{Combine, Emitter, Job, Kind, Piece, Registry};
use tempfile::tempdir;

use super::hand::{Asked, Hand};

const VALUE_BYTES: usize = 10_000;

/// How long all values are together that have the only key: a long one for each line.
struct Growing;

impl Job for Growing {
    type Key = String;
    type Value = String;
    type Output = usize;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        piece.lines().for_each(|_| emit.emit("all", "x".repeat(VALUE_BYTES)));
        Ok(())
    }

    fn combiner(&self) -> Option<Combine<String>> {
        Some(|held, more| held.push_str(&more))
    }

    fn heap_bytes(&self, value: &String) -> usize {
        value.capacity()
    }

    fn reduce(
        &self,
        _key: &String,
        values: &mut dyn Iterator<Item = String>,
    ) -> Result<usize, String> {
        let lens: Vec<usize> = values.map(|value| value.len()).collect();
        assert!(lens.iter().all(|len| *len <= 64 << 10), "{lens:?}");
        assert!(lens.iter().any(|len| *len > VALUE_BYTES), "some are combined: {lens:?}");
        Ok(lens.iter().sum())
    }

    fn line(&self, key: &String, len: &usize, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{key} {len}")
    }
}

fn run(lines: usize, limits: Limits) {
    let mut registry = Registry::empty();
    registry.add(Kind::new("growing", "grows", |_| Ok(Growing)));
    let dir = tempdir().unwrap();
    let input = dir.path().join("input");
    fs::write(&input, "\n".repeat(lines)).unwrap();
    let asked = Asked {
        job: "growing",
        arguments: &[],
        inputs: &[input.to_str().unwrap()],
        output: "memory:///out",
        reducers: 1,
        split_bytes_max: 1 << 20,
    };
    let hand = Hand::with_registry(registry, &Stores::new(), &asked, limits);
    assert_eq!(hand.maps(), 1);
    hand.run();
    assert_eq!(hand.parts(), format!("all {}\n", lines * VALUE_BYTES).as_bytes());
}

#[test]
fn what_a_map_task_combines_may_be_more_than_the_longest_value() {
    run(600, Limits::default());
}

#[test]
fn what_is_combined_as_runs_are_merged_may_be_more_than_the_longest_value() {
    run(1200, Limits { table_bytes_max: 1 << 20, fan_in_max: 2, ..Limits::default() });
}
