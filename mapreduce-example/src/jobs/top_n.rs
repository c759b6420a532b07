//! The words that occur most often.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use super::word_count::WordCount;
use super::words;
use crate::job::{Argument, Combine, Emitter, Job, Kind, Piece};

/// The words that occur most often, the most frequent first, among equals by the word: a line `word count` each.
///
/// Each reduce task has its own most frequent ones, so there must be only one.
#[derive(Copy, Clone, Debug)]
pub struct TopN {
    n: usize,
}

/// More is no top any more; they are held in memory.
const N_MAX: usize = 1_000_000;

impl TopN {
    /// The `n` most frequent ones; none if it is 0 or more than a million.
    #[must_use]
    pub fn new(n: usize) -> Option<TopN> {
        (1..=N_MAX).contains(&n).then_some(TopN { n })
    }
}

pub(super) fn kind() -> Kind {
    let about = "the words that occur most often: lines `word count`, the most frequent first";
    let n = Argument { name: "n", about: "how many words", required: true };
    Kind::new("top-n", about, |arguments| {
        let text = arguments.get("n").map_or("", String::as_str);
        let n = text.parse().ok().and_then(TopN::new);
        n.ok_or_else(|| format!("n is a number from 1 to {N_MAX}, not {text:?}"))
    })
    .with_argument(n)
    .with_reducers_max(1)
}

impl Job for TopN {
    type Key = String;
    type Value = u64;
    type Output = u64;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        words(piece.contents, |word| emit.emit(word, 1));
        Ok(())
    }

    fn combiner(&self) -> Option<Combine<u64>> {
        WordCount.combiner()
    }

    fn reduce(&self, word: &String, counts: &mut dyn Iterator<Item = u64>) -> Result<u64, String> {
        WordCount.reduce(word, counts)
    }

    fn line(&self, word: &String, count: &u64, out: &mut dyn Write) -> io::Result<()> {
        WordCount.line(word, count, out)
    }

    fn write(
        &self,
        results: &mut dyn Iterator<Item = (String, u64)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        // The least of those held is on top: the first to go.
        let mut top = BinaryHeap::new();
        for (word, count) in results {
            top.push((Reverse(count), word));
            if top.len() > self.n {
                top.pop();
            }
        }
        for (Reverse(count), word) in top.into_sorted_vec() {
            self.line(&word, &count, out)?;
        }
        Ok(())
    }
}
