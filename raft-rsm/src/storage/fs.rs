//! The seam between storage and the file system: everything that storage does to a disk goes through it.
//!
//! It is as narrow as storage needs, so that a simulator can stand in and lose, tear and rot what was written.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system as a crash shows it: what was not synced may be there afterwards in any part, or not at all.
/// All methods block.
pub trait FileSystem: fmt::Debug + Send + Sync + 'static {
    /// Creates an empty file, and opens it for reading and writing. It is not durable before
    /// [`FileSystem::sync_dir`] of its directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], and what the system says.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and what the system says.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in the same directory, in place of the file that has it. After a
    /// crash the name is the old file's or the new one's; the new one's for certain only after
    /// [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// What the system says; nothing has changed then.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, for certain only after [`FileSystem::sync_dir`]. It stays readable for those
    /// who have it open.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and what the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of all that is in a directory, sorted.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], [`io::ErrorKind::NotADirectory`], and what the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Creates a directory in one that exists. It is not durable before [`FileSystem::sync_dir`] of that one.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], and what the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable: files and directories that were created, renamed, removed.
    ///
    /// # Errors
    /// Nobody knows then what is durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock that goes by this file's name, and creates the file if need be. `None`: someone
    /// has it, in this process or in another one. It is given back when the [`Lock`] is dropped or the
    /// process ends, however it ends.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// An open file. Any number of threads may use it at once.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Reads up to `data.len()` bytes that start at `offset`, and returns how many; 0 only at the end
    /// of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data` at `offset`. What lies between the end of the file and `offset` becomes zero.
    ///
    /// # Errors
    /// What the system says; any part of `data` may have been written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// Nobody knows then what is durable, and a later sync does not tell, even if it succeeds.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file, or extends it by zeroes.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The length, in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len_bytes(&self) -> io::Result<u64>;
}

/// A lock that is held as long as this lives.
pub trait Lock: fmt::Debug + Send + Sync + 'static {}

/// The file system of the operating system.
#[derive(Copy, Clone, Debug, Default)]
pub struct StdFileSystem;

impl FileSystem for StdFileSystem {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(StdFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(StdFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is no text is none of storage's: it need not be told from another such one.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Other systems do not open directories; there a rename is durable by itself.
        if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(StdLock { _file: file }))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct StdFile(fs::File);

impl File for StdFile {
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match read_at(&self.0, data, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, mut data: &[u8], mut offset: u64) -> io::Result<()> {
        while !data.is_empty() {
            match write_at(&self.0, data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    data = &data[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

#[cfg(unix)]
fn read_at(file: &fs::File, data: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(data, offset)
}

#[cfg(unix)]
fn write_at(file: &fs::File, data: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(data, offset)
}

#[cfg(windows)]
fn read_at(file: &fs::File, data: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(data, offset)
}

#[cfg(windows)]
fn write_at(file: &fs::File, data: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(data, offset)
}

/// The system gives the lock back when the file is closed.
#[derive(Debug)]
struct StdLock {
    _file: fs::File,
}

impl Lock for StdLock {}
