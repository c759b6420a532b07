//! Reads a text out of the store, byte for byte.

use std::io::{self, Write};

use raft_rsm::ClientError;

use super::{MANIFEST_KEY, Manifest, line_key, line_number};
use crate::clerk::Clerk;
use crate::store::{Store, Version, Versioned};

/// Keys a page: pages are bounded in bytes anyway, so this only bounds the work of a node for one answer.
const PAGE_KEYS: u32 = 4096;

/// Why a text could not be read, or not to its end. Of a text that fails half-way, a part was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// No text was ever imported.
    #[error("there is no text in the store: import one first")]
    NoText,
    /// The key that tells of the import holds something that no import wrote.
    #[error("the key {MANIFEST_KEY} holds something that no import wrote")]
    Foreign,
    /// An import has begun and not ended.
    #[error("an import of {lines} lines is under way or broke off: let it end, or run it again")]
    Incomplete {
        /// How many lines it will have.
        lines: u64,
    },
    /// The key of a line is gone.
    #[error("line {line} of {lines} is missing: its key {} was deleted", line_key(*line))]
    Missing {
        /// Which line.
        line: u64,
        /// How many lines there should be.
        lines: u64,
    },
    /// Another import began in the meantime: what was written may be a mixture.
    #[error("another import began while this text was read: export again when it has ended")]
    Changed,
    /// The text could not be written to where it should go.
    #[error("cannot write the text: {0}")]
    Io(#[from] io::Error),
    /// The cluster did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Writes the text in the store to `out`, and returns the number of its lines.
///
/// # Errors
/// [`ExportError`].
pub async fn export(clerk: &Clerk, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let (manifest, version) = manifest(clerk).await?;
    if !manifest.complete {
        return Err(ExportError::Incomplete { lines: manifest.lines });
    }
    let mut joiner = Joiner { manifest, line: 0, out };
    let mut after = line_key(0);
    while joiner.line < manifest.lines {
        let page = clerk.scan("", Some(&after), PAGE_KEYS).await?;
        for (key, versioned) in &page.entries {
            joiner.take(key, versioned)?;
        }
        match page.entries.into_iter().next_back() {
            Some((key, _)) if page.more => after = key,
            Some(_) | None => break,
        }
    }
    joiner.finish()?;
    // An import that began after the manifest was read has changed it before it wrote its first line.
    let (_, version_now) = self::manifest(clerk).await?;
    if version_now != version {
        return Err(ExportError::Changed);
    }
    Ok(manifest.lines)
}

/// Writes the text in one replica's own state to `out`, and returns the number of its lines.
///
/// # Errors
/// [`ExportError`], but never [`ExportError::Client`].
pub fn export_replica(store: &Store, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let manifest = store.get(MANIFEST_KEY).ok_or(ExportError::NoText)?;
    let manifest = Manifest::from_bytes(&manifest.value).ok_or(ExportError::Foreign)?;
    if !manifest.complete {
        return Err(ExportError::Incomplete { lines: manifest.lines });
    }
    let mut joiner = Joiner { manifest, line: 0, out };
    for (key, versioned) in store.iter() {
        joiner.take(key, versioned)?;
    }
    joiner.finish()?;
    Ok(manifest.lines)
}

async fn manifest(clerk: &Clerk) -> Result<(Manifest, Version), ExportError> {
    let current = clerk.get(MANIFEST_KEY).await?.ok_or(ExportError::NoText)?;
    let manifest = Manifest::from_bytes(&current.value).ok_or(ExportError::Foreign)?;
    Ok((manifest, current.version))
}

/// Puts lines together again as they come.
struct Joiner<'a> {
    manifest: Manifest,
    /// The last line that was written.
    line: u64,
    out: &'a mut (dyn Write + Send),
}

impl Joiner<'_> {
    /// Writes the line that a key holds; other keys, and those after the text's end, are none of its business.
    fn take(&mut self, key: &str, versioned: &Versioned) -> Result<(), ExportError> {
        let Manifest { lines, final_line_feed, .. } = self.manifest;
        let number = match line_number(key) {
            Some(number) if number > self.line && self.line < lines => number,
            Some(_) | None => return Ok(()),
        };
        if number != self.line + 1 {
            return Err(ExportError::Missing { line: self.line + 1, lines });
        }
        self.line = number;
        self.out.write_all(&versioned.value)?;
        if number < lines || final_line_feed {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), ExportError> {
        let lines = self.manifest.lines;
        if self.line < lines {
            return Err(ExportError::Missing { line: self.line + 1, lines });
        }
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn joined(lines: u64, final_line_feed: bool, keys: &[&str]) -> Result<String, ExportError> {
        let manifest = Manifest { lines, final_line_feed, complete: true, lines_max: lines };
        let mut out = Vec::new();
        let mut joiner = Joiner { manifest, line: 0, out: &mut out };
        for key in keys {
            let value = Bytes::from(key.trim_start_matches('0').to_owned());
            joiner.take(key, &Versioned::first(Version(1), value))?;
        }
        joiner.finish()?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn lines_are_joined_and_the_last_one_ends_as_it_did() {
        assert_eq!(joined(2, true, &["0000000001", "0000000002"]).unwrap(), "1\n2\n");
        assert_eq!(joined(2, false, &["0000000001", "0000000002"]).unwrap(), "1\n2");
        assert_eq!(joined(0, false, &[]).unwrap(), "");
    }

    #[test]
    fn keys_that_are_no_lines_and_lines_after_the_end_are_left_out() {
        let keys = ["0000000001", "0000000001x", "0000000002", "0000000003", "import"];
        assert_eq!(joined(2, true, &keys).unwrap(), "1\n2\n");
    }

    #[test]
    fn a_missing_line_is_named() {
        for keys in [&["0000000001", "0000000003"][..], &["0000000001"]] {
            let error = joined(3, true, keys).unwrap_err().to_string();
            assert!(error.starts_with("line 2 of 3 is missing"), "{error}");
        }
    }
}
