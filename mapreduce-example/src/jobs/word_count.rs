//! How often each word occurs.

use std::io::{self, Write};

use super::words;
use crate::job::{Combine, Emitter, Job, Kind, Piece};

/// How often each word occurs: a line `word count` each.
#[derive(Copy, Clone, Debug, Default)]
pub struct WordCount;

pub(super) fn kind() -> Kind {
    Kind::new("word-count", "how often each word occurs: lines `word count`", |_| Ok(WordCount))
}

impl Job for WordCount {
    type Key = String;
    type Value = u64;
    type Output = u64;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        words(piece.contents, |word| emit.emit(word, 1));
        Ok(())
    }

    fn combiner(&self) -> Option<Combine<u64>> {
        Some(|held, value| *held += value)
    }

    fn reduce(&self, _word: &String, counts: &mut dyn Iterator<Item = u64>) -> Result<u64, String> {
        Ok(counts.sum())
    }

    fn line(&self, word: &String, count: &u64, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{word} {count}")
    }
}
