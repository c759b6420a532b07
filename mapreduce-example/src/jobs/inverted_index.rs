//! Which inputs each word occurs in.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::words;
use crate::job::{Combine, Emitter, Job, Kind, Piece};

/// Which inputs each word occurs in: a line `word number name,name,…` each, with how many they are, and their names in order.
#[derive(Copy, Clone, Debug, Default)]
pub struct InvertedIndex;

/// What a name in a set takes beyond its own bytes: an estimate.
const NAME_OVERHEAD_BYTES: usize = 48;

pub(super) fn kind() -> Kind {
    let about = "which inputs each word occurs in: lines `word number name,name,…`";
    Kind::new("inverted-index", about, |_| Ok(InvertedIndex))
}

impl Job for InvertedIndex {
    type Key = String;
    type Value = BTreeSet<String>;
    type Output = BTreeSet<String>;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        // The words of a piece first: the name goes with each of them only once.
        let mut found = hashbrown::HashSet::new();
        words(piece.contents, |word| {
            found.get_or_insert_with(word, str::to_owned);
        });
        for word in found {
            emit.emit_owned(word, BTreeSet::from([piece.name.to_owned()]));
        }
        Ok(())
    }

    fn combiner(&self) -> Option<Combine<BTreeSet<String>>> {
        Some(|held, names| held.extend(names))
    }

    fn heap_bytes(&self, names: &BTreeSet<String>) -> usize {
        names.iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum()
    }

    fn reduce(
        &self,
        _word: &String,
        values: &mut dyn Iterator<Item = BTreeSet<String>>,
    ) -> Result<BTreeSet<String>, String> {
        let mut all = BTreeSet::new();
        for names in values {
            all.extend(names);
        }
        Ok(all)
    }

    fn line(&self, word: &String, names: &BTreeSet<String>, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{word} {} ", names.len())?;
        for (at, name) in names.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(out, "{comma}{name}")?;
        }
        writeln!(out)
    }
}
