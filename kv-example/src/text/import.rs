//! Writes a text into the store, a key a line.

use std::fmt;
use std::io::BufRead;
use std::num::NonZeroUsize;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use raft_rsm::ClientError;

use super::{Lines, LinesError, MANIFEST_KEY, Manifest, Survey, line_key};
use crate::clerk::{Clerk, DeleteError, PutError};
use crate::store::{Version, Versioned};

/// How often one key is read and written again before an import gives up: each time somebody else must have written
/// in between.
const TRIES_MAX: usize = 8;

/// An import: what is to be written, and how.
pub struct Import<'a> {
    /// Through whom.
    pub clerk: &'a Clerk,
    /// What the text is made of.
    pub survey: Survey,
    /// How many requests are in flight at once.
    pub window: NonZeroUsize,
    /// Called after each line with the number of lines that are safely in the store.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What an import did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines that were written.
    pub written: u64,
    /// Lines that were there already, from an earlier import or an earlier try.
    pub present: u64,
    /// Lines of an earlier, longer text that were deleted.
    pub deleted: u64,
}

/// Why a text is not, or not wholly, in the store. What was written stays; the same import may be run again and
/// goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The text could not be read.
    #[error(transparent)]
    Lines(#[from] LinesError),
    /// It is no longer the text that was surveyed.
    #[error("it changed while it was read: it had {expected} lines and has {found} now")]
    Changed {
        /// How many lines it had.
        expected: u64,
        /// How many were found, or one more than expected.
        found: u64,
    },
    /// A key that the import needs holds something that no import wrote.
    #[error("the key {key} holds something that no import wrote: delete it first")]
    Foreign {
        /// Which key.
        key: String,
    },
    /// Somebody else writes the same keys at the same time.
    #[error("somebody else writes the key {key} at the same time: run one import at a time")]
    Contended {
        /// Which key.
        key: String,
    },
    /// The cluster refused or did not answer.
    #[error("{place}: {error}")]
    Client {
        /// What was about to be written or read.
        place: Place,
        /// Why it was not.
        error: ClientError,
    },
}

/// Where an import stood when it failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a line, by number.
    Line(u64),
    /// At the key that tells of the import as a whole.
    Manifest,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(number) => write!(f, "line {number}"),
            Place::Manifest => write!(f, "the key {MANIFEST_KEY}"),
        }
    }
}

enum LineOutcome {
    Written,
    Present,
}

impl Import<'_> {
    /// Writes the lines of `text`, which must be the text that was surveyed.
    ///
    /// Each line creates its key; a key that exists is read, and left or replaced. So an import may be run
    /// again, after an error or with another text.
    ///
    /// # Errors
    /// [`ImportError`]. An export is refused until an import has succeeded.
    pub async fn run(&self, text: impl BufRead) -> Result<Imported, ImportError> {
        let Survey { lines, final_line_feed, bytes: _ } = self.survey;
        let (before, version) = self.manifest().await?;
        let lines_max = before.map_or(0, |before| before.lines_max);
        let incomplete =
            Manifest { lines, final_line_feed, complete: false, lines_max: lines_max.max(lines) };
        let version = self.put_manifest(incomplete, version).await?;
        let mut imported = self.write_lines(text, lines_max).await?;
        imported.deleted = self.delete_lines(lines, lines_max).await?;
        let complete = Manifest { complete: true, lines_max: lines, ..incomplete };
        self.put_manifest(complete, version).await?;
        Ok(imported)
    }

    async fn manifest(&self) -> Result<(Option<Manifest>, Version), ImportError> {
        let Some(current) = self.get(MANIFEST_KEY, Place::Manifest).await? else {
            return Ok((None, Version::ABSENT));
        };
        let manifest = Manifest::from_bytes(&current.value)
            .ok_or_else(|| ImportError::Foreign { key: MANIFEST_KEY.to_owned() })?;
        Ok((Some(manifest), current.version))
    }

    async fn put_manifest(
        &self,
        manifest: Manifest,
        version: Version,
    ) -> Result<Version, ImportError> {
        let contended = || ImportError::Contended { key: MANIFEST_KEY.to_owned() };
        match self.clerk.put(MANIFEST_KEY, manifest.to_bytes(), version).await {
            Ok(version) => Ok(version),
            Err(PutError::VersionMismatch { .. } | PutError::NoKey) => Err(contended()),
            Err(PutError::Maybe) => {
                // If it is ours, an earlier try wrote it.
                let current = self.get(MANIFEST_KEY, Place::Manifest).await?;
                current
                    .filter(|current| {
                        current.version == version.next() && current.value == manifest.to_bytes()
                    })
                    .map(|current| current.version)
                    .ok_or_else(contended)
            }
            Err(PutError::Client(error)) => {
                Err(ImportError::Client { place: Place::Manifest, error })
            }
        }
    }

    async fn write_lines(
        &self,
        text: impl BufRead,
        replaceable_max: u64,
    ) -> Result<Imported, ImportError> {
        let expected = self.survey.lines;
        let mut imported = Imported::default();
        let mut outcomes = stream::iter(Lines::new(text))
            .map(|line| async {
                let (number, line) = line?;
                if number > expected {
                    return Err(ImportError::Changed { expected, found: number });
                }
                self.write_line(number, line, number <= replaceable_max).await
            })
            .buffer_unordered(self.window.get());
        while let Some(outcome) = outcomes.next().await {
            match outcome? {
                LineOutcome::Written => imported.written += 1,
                LineOutcome::Present => imported.present += 1,
            }
            (self.progress)(imported.written + imported.present);
        }
        let found = imported.written + imported.present;
        if found != expected {
            return Err(ImportError::Changed { expected, found });
        }
        Ok(imported)
    }

    /// Brings one key to hold `line`. A key that holds something else is replaced only where an earlier import wrote
    /// it.
    async fn write_line(
        &self,
        number: u64,
        line: Bytes,
        replaceable: bool,
    ) -> Result<LineOutcome, ImportError> {
        let key = line_key(number);
        let mut version = Version::ABSENT;
        for _ in 0..TRIES_MAX {
            match self.clerk.put(&key, line.clone(), version).await {
                Ok(_) => return Ok(LineOutcome::Written),
                Err(PutError::Client(error)) => {
                    return Err(ImportError::Client { place: Place::Line(number), error });
                }
                Err(PutError::VersionMismatch { .. } | PutError::NoKey | PutError::Maybe) => {}
            }
            version = match self.get(&key, Place::Line(number)).await? {
                Some(current) if current.value == line => return Ok(LineOutcome::Present),
                Some(_) if !replaceable => return Err(ImportError::Foreign { key }),
                Some(current) => current.version,
                None => Version::ABSENT,
            };
        }
        Err(ImportError::Contended { key })
    }

    /// Deletes the lines after `lines` up to `lines_max`, which an earlier import wrote; returns how many there
    /// were.
    async fn delete_lines(&self, lines: u64, lines_max: u64) -> Result<u64, ImportError> {
        let mut outcomes = stream::iter(lines + 1..=lines_max)
            .map(|number| self.delete_line(number))
            .buffer_unordered(self.window.get());
        let mut deleted = 0;
        while let Some(outcome) = outcomes.next().await {
            deleted += outcome?;
        }
        Ok(deleted)
    }

    /// Returns 1 if it was there. The lines are ours, so a deletion does no harm the second time.
    async fn delete_line(&self, number: u64) -> Result<u64, ImportError> {
        let (key, mut tries) = (line_key(number), 1);
        loop {
            match self.clerk.delete(&key, None).await {
                Ok(_) | Err(DeleteError::Maybe) => return Ok(1),
                Err(DeleteError::NoKey | DeleteError::VersionMismatch { .. }) => {
                    return Ok(u64::from(tries > 1));
                }
                Err(DeleteError::Client(error)) if error.may_take_effect() && tries < TRIES_MAX => {
                    tries += 1;
                }
                Err(DeleteError::Client(error)) => {
                    return Err(ImportError::Client { place: Place::Line(number), error });
                }
            }
        }
    }

    async fn get(&self, key: &str, place: Place) -> Result<Option<Versioned>, ImportError> {
        self.clerk.get(key).await.map_err(|error| ImportError::Client { place, error })
    }
}
