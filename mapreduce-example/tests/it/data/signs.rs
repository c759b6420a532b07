//! Whoever watches an attempt hears from it, however slow its data and its job are.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mapreduce_example::data::Stores;
use mapreduce_example::execute::Limits;
use mapreduce_example::job::{Combine, Emitter, Job, Kind, Piece, Registry};
use mapreduce_example::task::{Stop, TaskId};

use super::hand::{Asked, Hand};

#[derive(Default)]
struct Signs(AtomicUsize);

impl Stop for Signs {
    fn is_stopped(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// How the keys of [`Bytes`] are emitted.
#[derive(Copy, Clone)]
enum How {
    Borrowed,
    Owned,
    Combined,
}

/// Emits its value for each byte.
struct Bytes(How);

impl Job for Bytes {
    type Key = u8;
    type Value = u64;
    type Output = u64;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        piece.contents.iter().for_each(|byte| match self.0 {
            How::Borrowed | How::Combined => emit.emit(byte, 1),
            How::Owned => emit.emit_owned(*byte, 1),
        });
        Ok(())
    }

    fn combiner(&self) -> Option<Combine<u64>> {
        match self.0 {
            How::Combined => Some(|held, value| *held += value),
            How::Borrowed | How::Owned => None,
        }
    }

    fn reduce(&self, _: &u8, counts: &mut dyn Iterator<Item = u64>) -> Result<u64, String> {
        Ok(counts.sum())
    }

    fn line(&self, byte: &u8, count: &u64, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{byte} {count}")
    }
}

/// How many signs each attempt gives: at the map task, at each reduce task, and at the publication.
fn signs(how: How) -> (usize, Vec<usize>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("in"), "a line of text\n".repeat(1_000)).unwrap();
    let mut registry = Registry::empty();
    registry.add(Kind::new("bytes", "counts bytes", move |_| Ok(Bytes(how))));
    let asked = Asked {
        job: "bytes",
        arguments: &[],
        inputs: &[&path("in")],
        output: &path("out"),
        reducers: 40,
        split_bytes_max: 1 << 20,
    };
    let hand = Hand::with_registry(registry, &Stores::new(), &asked, Limits::default());
    let signs = |task, inputs: &[u32]| {
        let signs = Arc::new(Signs::default());
        hand.execute_until(task, 1, inputs, signs.clone()).unwrap();
        signs.0.load(Ordering::Relaxed)
    };
    let map = signs(TaskId::Map(0), &[]);
    let reduces = (0..40).map(|one| signs(TaskId::Reduce(one), &[1])).collect();
    (map, reduces, signs(TaskId::Publish, &[1; 40]))
}

/// All of the text is one piece, one call of `map`, and 15 000 pairs.
#[test]
fn each_phase_gives_signs_of_life_between_and_within_calls() {
    for how in [How::Borrowed, How::Owned, How::Combined] {
        let (map, reduces, publication) = signs(how);
        assert!(map > 15_000);
        if !matches!(how, How::Combined) {
            // One for each value.
            assert!(reduces.iter().sum::<usize>() > 15_000, "{reduces:?}");
        }
        // Two for each part that is copied.
        assert!(publication > 80);
    }
}
