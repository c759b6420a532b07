//! What makes a lock safe to rely on: a resource that refuses whoever comes with an old token.
//!
//! No lock over a network can promise that its holder is still the holder when what it does arrives. A process is paused
//! between its last look at the clock and its write; its lease goes to another one; then it wakes up and writes. Only the
//! resource can tell, and a number is enough: each holder's token is greater than those before, so the resource keeps the
//! greatest that it has seen, and refuses smaller ones.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kv_example::store::Revision;

/// A fencing token: greater than that of every holder before.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub Revision);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Token, String> {
        let number = text.parse().map_err(|_| "a token is a number".to_owned())?;
        Ok(Token(Revision(number)))
    }
}

/// The token is not the latest: somebody else has held the lock since.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token {token} is old: token {latest} was here")]
pub struct StaleToken {
    /// What was shown.
    pub token: Token,
    /// What was shown before.
    pub latest: Token,
}

/// The check, and all that it has to remember. A resource keeps it where it keeps its data, and changes both together.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    latest: Option<Token>,
}

impl Fence {
    /// A fence that has seen `latest`.
    #[must_use]
    pub fn new(latest: Option<Token>) -> Fence {
        Fence { latest }
    }

    /// The greatest token that was let through.
    #[must_use]
    pub fn latest(&self) -> Option<Token> {
        self.latest
    }

    /// Lets a token through, or not.
    ///
    /// # Errors
    /// A greater one was let through before: nothing may be done for whoever shows this one.
    pub fn admit(&mut self, token: Token) -> Result<(), StaleToken> {
        match self.latest {
            Some(latest) if token < latest => Err(StaleToken { token, latest }),
            Some(_) | None => {
                self.latest = Some(token);
                Ok(())
            }
        }
    }
}

/// The worked example of a resource: a file to which lines are added, each with the token of who added it, so that the last
/// line is also what the fence remembers. Any number of processes may add to it.
#[derive(Clone, Debug)]
pub struct FencedFile {
    path: PathBuf,
}

/// The longest line of a [`FencedFile`], in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Why a line was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// *Definitely not*.
    #[error(transparent)]
    Stale(#[from] StaleToken),
    /// *Definitely not*: it is no such file.
    #[error("{path}: its last line does not begin with a token")]
    NoToken {
        /// Which file.
        path: PathBuf,
    },
    /// *Definitely not*.
    #[error("a line of {bytes} bytes: the limit is {LINE_BYTES_MAX}")]
    TooLong {
        /// Its length, in bytes.
        bytes: usize,
    },
    /// *Maybe*: the file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

impl FencedFile {
    /// A file that need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> FencedFile {
        FencedFile { path: path.to_owned() }
    }

    /// Adds a line, and returns when it is on the disk, and the file's name as well. The text should be one line; if it is not, its line feeds become
    /// spaces.
    ///
    /// # Errors
    /// [`AppendError`]; each variant says whether the line may have been added.
    pub fn append(&self, token: Token, text: &str) -> Result<(), AppendError> {
        self.append_with(token, text, sync_directory_of)
    }

    fn append_with(
        &self,
        token: Token,
        text: &str,
        sync_directory_of: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), AppendError> {
        let cannot = |error| AppendError::File { path: self.path.clone(), error };
        let line = format!("{token}\t{}\n", text.replace(['\n', '\r'], " "));
        if line.len() > LINE_BYTES_MAX {
            return Err(AppendError::TooLong { bytes: line.len() });
        }
        let mut file = self.open().map_err(cannot)?;
        // What the fence knows and what is written must change together: one at a time.
        file.lock().map_err(cannot)?;
        let mut fence = self.fence(&mut file)?;
        // Before the first line, whoever has created the file: one that has a line has a name that lasts.
        if fence.latest().is_none() {
            sync_directory_of(&self.path).map_err(cannot)?;
        }
        fence.admit(token)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).map_err(cannot)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)
    }

    /// What the last line says; the file is then where the next one goes. A line without its end was never acknowledged:
    /// it is overwritten.
    fn fence(&self, file: &mut File) -> Result<Fence, AppendError> {
        let cannot = |error| AppendError::File { path: self.path.clone(), error };
        let no_token = || AppendError::NoToken { path: self.path.clone() };
        // Two lines at most: the last one, and one that was cut short.
        let len = file.seek(SeekFrom::End(0)).map_err(cannot)?;
        let from = len.saturating_sub(2 * LINE_BYTES_MAX as u64);
        let mut lines = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.read_to_end(&mut lines))
            .map_err(cannot)?;
        let (whole, cut) =
            lines.split_at(lines.iter().rposition(is_line_feed).map_or(0, |at| at + 1));
        if !cut.iter().take_while(|byte| **byte != b'\t').all(u8::is_ascii_digit) {
            return Err(no_token());
        }
        let fence = match whole.strip_suffix(b"\n") {
            None => Fence::default(),
            Some(whole) => {
                let begin = whole.iter().rposition(is_line_feed).map_or(0, |at| at + 1);
                let token = whole[begin..].split(|byte| *byte == b'\t').next();
                let token = token.and_then(|token| std::str::from_utf8(token).ok()?.parse().ok());
                Fence::new(Some(token.ok_or_else(no_token)?))
            }
        };
        let end = from + whole.len() as u64;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(cannot)?;
        Ok(fence)
    }
}

/// Makes the name of a file that exists durable.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    // Other systems do not open directories.
    if !cfg!(unix) {
        return Ok(());
    }
    // A link's own directory is not that of the file.
    let path = path.canonicalize()?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn is_line_feed(byte: &u8) -> bool {
    *byte == b'\n'
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn token(number: u64) -> Token {
        Token(Revision(number))
    }

    #[test]
    fn a_smaller_token_is_refused_and_the_same_one_is_not() {
        let mut fence = Fence::default();
        assert_eq!(fence.admit(token(5)), Ok(()));
        assert_eq!(fence.admit(token(5)), Ok(()));
        assert_eq!(fence.admit(token(9)), Ok(()));
        let stale = StaleToken { token: token(5), latest: token(9) };
        assert_eq!(fence.admit(token(5)), Err(stale));
        assert_eq!(fence.latest(), Some(token(9)));
    }

    #[test]
    fn a_file_remembers_the_token_of_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        FencedFile::new(&path).append(token(7), "seven").unwrap();
        // Another process, say.
        let other = FencedFile::new(&path);
        assert!(matches!(other.append(token(6), "six"), Err(AppendError::Stale(_))));
        other.append(token(10), "ten\nand more").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "7\tseven\n10\tten and more\n");
    }

    #[test]
    fn the_name_of_a_file_is_durable_before_its_first_line_whoever_has_created_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = FencedFile::new(&path);
        let failed = file.append_with(token(7), "seven", |_| Err(ErrorKind::Other.into()));
        assert!(matches!(failed, Err(AppendError::File { .. })), "{failed:?}");
        // It is there, but not one line of it.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        let mut synced = Vec::new();
        for number in [7, 8] {
            let sync = |path: &Path| {
                synced.push((number, std::fs::read_to_string(path)?));
                sync_directory_of(path)
            };
            file.append_with(token(number), "a line", sync).unwrap();
        }
        assert_eq!(synced, [(7, String::new())]);
    }

    #[test]
    fn the_directory_of_a_file_is_found_by_whatever_name_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        sync_directory_of(&path).unwrap();
        // A name without a directory: the tests run in the directory of the package.
        sync_directory_of(Path::new("Cargo.toml")).unwrap();
        sync_directory_of(&dir.path().join("none")).unwrap_err();
    }

    #[test]
    fn a_line_without_its_end_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "7\tseven\n9\tni").unwrap();
        FencedFile::new(&path).append(token(8), "eight").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "7\tseven\n8\teight\n");
    }

    #[test]
    fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for text in ["dear diary\n", "dear diary", "7\tseven\ndear diary", "7\tseven\ndiary\n"] {
            std::fs::write(&path, text).unwrap();
            let outcome = FencedFile::new(&path).append(token(8), "eight");
            assert!(matches!(outcome, Err(AppendError::NoToken { .. })), "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn of_a_long_file_only_the_end_is_read_and_a_long_line_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = FencedFile::new(&path);
        let long = "x".repeat(LINE_BYTES_MAX - 10);
        for number in 1..=5 {
            file.append(token(number), &long).unwrap();
        }
        assert!(matches!(file.append(token(4), "four"), Err(AppendError::Stale(_))));
        let too_long = "x".repeat(LINE_BYTES_MAX);
        assert!(matches!(file.append(token(6), &too_long), Err(AppendError::TooLong { .. })));
    }
}
