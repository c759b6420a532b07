//! What a job is: what its author writes, and nothing of where it runs.
//!
//! | file | what is in it |
//! |---|---|
//! | `job/emitter.rs` | where `map` puts what it finds: a table that is bounded in bytes |
//! | `job/registry.rs` | the jobs by name, and what has to be known before one is submitted |

mod emitter;
mod registry;

use std::cmp::Ordering;
use std::hash::Hash;
use std::io::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use emitter::Emitter;
pub(crate) use emitter::Pair;
pub use registry::{
    Argument, Arguments, JobError, Kind, PrepareError, REDUCERS_MAX, Registry, Sample,
};

use crate::data::{shown, stable_hash};
use crate::execute::called;

/// Adds a value to the one that is held.
pub type Combine<V> = fn(&mut V, V);

/// A job, by the two functions of the paper and what goes with them.
///
/// Each worker has a value of it, built by the [`Registry`] from the arguments of the job; all of its methods must give the
/// same for the same, on all machines.
pub trait Job: Sized + Send + Sync + 'static {
    /// What is looked up, grouped by, and ordered by. Its form on the disk is serde's; a value that is read back must be equal
    /// to the one that was written.
    type Key: Serialize + DeserializeOwned + Ord + Hash + Clone + Send + 'static;
    /// What is known of a key.
    type Value: Serialize + DeserializeOwned + Send + 'static;
    /// What becomes of all the values of a key.
    type Output;

    /// Finds the keys and values of a piece of the input.
    ///
    /// # Errors
    /// A sentence; the task has failed, and so has its job once that happened too often. So does a panic.
    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String>;

    /// How a value is added to one that is held for the same key, if that can be done before all of them are known. It must
    /// be associative and commutative. With it a map task holds one value a key, not all of them.
    ///
    /// A value grows no further than some 64 KiB, by [`heap_bytes`](Job::heap_bytes) and as it is on the disk: then the next one
    /// of that key begins, and `reduce` is given both.
    fn combiner(&self) -> Option<Combine<Self::Value>> {
        None
    }

    /// How many bytes a value holds beyond itself, on the heap: what a map task holds in memory is bounded.
    fn heap_bytes(&self, value: &Self::Value) -> usize {
        let _ = value;
        0
    }

    /// Makes one of all values of a key. They stream by: there may be more of them than fit into memory, in no certain order.
    ///
    /// # Errors
    /// As [`map`](Job::map).
    fn reduce(
        &self,
        key: &Self::Key,
        values: &mut dyn Iterator<Item = Self::Value>,
    ) -> Result<Self::Output, String>;

    /// Which of the `reducers` partitions a key belongs to, counted from 0.
    fn partition(&self, key: &Self::Key, reducers: u32) -> u32 {
        stable_hash(key) % reducers
    }

    /// Writes a line of the results, with its end.
    ///
    /// # Errors
    /// Those of `out`, and what the job wants to say by [`io::Error::other`].
    fn line(&self, key: &Self::Key, output: &Self::Output, out: &mut dyn Write) -> io::Result<()>;

    /// How two lines of the results compare, each without its end: the lines of each partition come in this order, and what
    /// merges all partitions into one goes by it. Unless a job has its own, by their bytes.
    fn compare_lines(&self, one: &[u8], other: &[u8]) -> Ordering {
        one.cmp(other)
    }

    /// Writes all results of a partition, which come in the order of their keys. Unless a job has its own, each has its
    /// [`line`](Job::line), and what goes wrong with one is told with its key.
    ///
    /// If the results end early because something went wrong, that is told elsewhere, and what was written is thrown away.
    ///
    /// # Errors
    /// As [`line`](Job::line).
    fn write(
        &self,
        results: &mut dyn Iterator<Item = (Self::Key, Self::Output)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for (key, output) in results {
            let written = called(|| self.line(&key, &output, out));
            written.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(|error| {
                io::Error::new(error.kind(), format!("key {}: {error}", shown(&key)))
            })?;
        }
        Ok(())
    }
}

/// A piece of an input: whole lines, at least one. Where an input is divided is not the job's to know: the results must be the
/// same wherever that is.
#[derive(Copy, Clone, Debug)]
pub struct Piece<'a> {
    /// Which input: the path of a local file, or else a URL.
    pub name: &'a str,
    /// At which byte of it the piece begins.
    pub offset: u64,
    /// The lines, each with its end, which the last one of an input may lack.
    pub contents: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The lines, each with its offset in the input, and without its line feed.
    pub fn lines(self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let mut offset = self.offset;
        self.contents.split_inclusive(|byte| *byte == b'\n').map(move |line| {
            let begin = offset;
            offset += line.len() as u64;
            (begin, line.strip_suffix(b"\n").unwrap_or(line))
        })
    }
}
