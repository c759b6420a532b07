//! Every call and answer of a run, as JSON lines: see `docs/history.md`.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The file, while it is written. Lines stand in the order in which things happened: a call before all that it brings about,
/// an answer after it.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    begin: Instant,
    file: Mutex<State>,
}

#[derive(Debug)]
struct State {
    writer: BufWriter<File>,
    failed: Option<io::Error>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'l> {
    /// Since the run began, in microseconds; never less than on the line before.
    pub time_us: u64,
    /// Which client.
    pub client: u32,
    /// Which of its operations, from 0 on.
    pub op: u64,
    /// What happened.
    #[serde(flatten, borrow)]
    pub event: Event<'l>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'l> {
    /// A client asks for something.
    #[serde(borrow)]
    Call(Call<'l>),
    /// It has been told what became of it.
    Answer(Outcome),
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Call<'l> {
    /// A linearizable read.
    Get {
        /// The key.
        key: &'l str,
    },
    /// A write, if the key has this version (0: if it does not exist).
    Put {
        /// The key.
        key: &'l str,
        /// The version that it must have.
        version: u64,
        /// The new value: the name at its front, without what fills it up.
        value: &'l str,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It was done. Of a read: what is there (version 0 and no value: nothing). Of a write: the version that the key has now.
    Ok {
        /// The key's version.
        version: u64,
        /// The name of the value, of a read.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        value: Option<String>,
    },
    /// Definitely not, and never: the key has another version (0: it does not exist).
    Conflict {
        /// The version that it has.
        version: u64,
    },
    /// Definitely not, and never.
    No {
        /// Why not.
        reason: String,
    },
    /// Nobody knows: it was done, or will be later, or never.
    Maybe {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// The name of what it was told.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Ok { .. } => "ok",
            Outcome::Conflict { .. } => "conflict",
            Outcome::No { .. } => "no",
            Outcome::Maybe { .. } => "maybe",
        }
    }
}

impl History {
    /// A new file; one that is there is replaced.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path) -> Result<History, Failure> {
        let file = File::create(path).map_err(|error| cannot_write(path, &error))?;
        let state = State { writer: BufWriter::new(file), failed: None };
        Ok(History { path: path.to_owned(), begin: Instant::now(), file: Mutex::new(state) })
    }

    /// A client calls. To be written before anything of the call leaves the client.
    pub(super) fn call(&self, name: (u32, u64), call: &Call<'_>) -> Result<(), WriteFailed> {
        self.write(name, Event::Call(call.clone()))
    }

    /// A client was answered.
    pub(super) fn answer(&self, name: (u32, u64), outcome: &Outcome) -> Result<(), WriteFailed> {
        self.write(name, Event::Answer(outcome.clone()))
    }

    fn write(&self, (client, op): (u32, u64), event: Event<'_>) -> Result<(), WriteFailed> {
        let mut state = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let State { writer, failed } = &mut *state;
        if failed.is_some() {
            return Err(WriteFailed);
        }
        // Under the lock, so that the order of lines is that of times.
        let time_us = super::micros(self.begin.elapsed());
        let line = Line { time_us, client, op, event };
        let written = serde_json::to_writer(&mut *writer, &line).map_err(io::Error::from);
        written.and_then(|()| writer.write_all(b"\n")).map_err(|error| {
            *failed = Some(error);
            WriteFailed
        })
    }

    /// All lines are in the file.
    ///
    /// # Errors
    /// They are not, or not all of them.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let mut state = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = match state.failed.take() {
            Some(error) => Err(error),
            None => state.writer.flush(),
        };
        finished.map_err(|error| cannot_write(&self.path, &error))
    }
}

/// [`History::finish`] says why.
#[derive(Debug)]
pub(super) struct WriteFailed;

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::environment(format!("cannot write the history {}: {error}", path.display()))
}

/// A value of so many bytes that no other operation of the run writes; longer where its name needs it.
pub(super) fn value((client, op): (u32, u64), bytes: usize) -> Vec<u8> {
    let mut value = format!("{client}-{op}").into_bytes();
    if value.len() < bytes {
        value.push(b' ');
    }
    value.resize(value.len().max(bytes), b'.');
    value
}

/// The name at the front of a value.
pub(super) fn name_of(value: &[u8]) -> String {
    let name = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    let name: Cow<'_, str> = String::from_utf8_lossy(name);
    name.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_length_and_its_name() {
        for (bytes, len) in [(0, 4), (4, 4), (5, 5), (6, 6), (100, 100)] {
            let value = value((1, 23), bytes);
            assert_eq!((value.len(), name_of(&value).as_str()), (len, "1-23"), "{value:?}");
        }
        assert_eq!(name_of(b"\xff x"), "\u{fffd}");
    }

    #[test]
    fn lines_are_as_they_are_documented() {
        let document = include_str!("../../docs/history.md");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let history = History::create(&path).unwrap();
        let put = Call::Put { key: "bench/1/7", version: 4, value: "3-17" };
        history.call((3, 17), &put).unwrap();
        history.answer((3, 17), &Outcome::Ok { version: 5, value: None }).unwrap();
        history.call((0, 2), &Call::Get { key: "bench/1/7" }).unwrap();
        history
            .answer((0, 2), &Outcome::Ok { version: 5, value: Some("3-17".to_owned()) })
            .unwrap();
        history.answer((1, 0), &Outcome::Ok { version: 0, value: None }).unwrap();
        history.answer((1, 1), &Outcome::Conflict { version: 5 }).unwrap();
        history.answer((1, 2), &Outcome::No { reason: "why".to_owned() }).unwrap();
        history.answer((1, 3), &Outcome::Maybe { reason: "why".to_owned() }).unwrap();
        history.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut time = 0;
        for line in text.lines() {
            let parsed: Line<'_> = serde_json::from_str(line).unwrap();
            assert!(parsed.time_us >= time);
            time = parsed.time_us;
            let rest = line.split_once(',').unwrap().1;
            assert!(document.contains(rest), "{rest}");
        }
        assert_eq!(text.lines().count(), 8);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told() {
        let Ok(full) = History::create(Path::new("/dev/full")) else { return };
        for op in 0..10_000 {
            let _ = full.call((0, op), &Call::Get { key: "k" });
        }
        let failure = full.finish().unwrap_err().to_string();
        assert!(failure.contains("/dev/full"), "{failure}");
    }
}
