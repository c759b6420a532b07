//! What is wrong with a disk at the moment, or soon will be.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::time::Duration;

use super::State;
use crate::event::Crash;

/// What can be done with a disk, and can fail.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A file is created.
    Create,
    /// A file is opened.
    Open,
    /// A file gets another name.
    Rename,
    /// A file is removed.
    Remove,
    /// A directory is listed.
    List,
    /// A directory is created.
    CreateDirectory,
    /// The names in a directory are made durable.
    SyncDirectory,
    /// A lock is taken.
    Lock,
    /// A file is read, or its length is asked for.
    Read,
    /// A file is written to.
    Write,
    /// A file is made durable.
    Sync,
    /// A file is cut or extended.
    SetLength,
}

impl Operation {
    /// Whether it changes what is on the disk, or makes it durable.
    #[must_use]
    pub fn is_change(self) -> bool {
        match self {
            Operation::Create
            | Operation::Rename
            | Operation::Remove
            | Operation::CreateDirectory
            | Operation::SyncDirectory
            | Operation::Write
            | Operation::Sync
            | Operation::SetLength => true,
            Operation::Open | Operation::List | Operation::Lock | Operation::Read => false,
        }
    }
}

/// How long the disk takes for a piece of work: some latency of the range, times the factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speed {
    /// How long it takes at its normal pace.
    pub latency: Range<Duration>,
    /// How many times slower it is than that.
    pub factor: u32,
}

impl Default for Speed {
    /// A solid-state disk that has little else to do.
    fn default() -> Speed {
        Speed { latency: Duration::from_micros(50)..Duration::from_millis(2), factor: 1 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    /// How often each operation still fails, and how.
    failing: BTreeMap<Operation, (u32, io::ErrorKind)>,
    /// The life is cut off after so many further changes.
    pub(super) cut_after: Option<(u32, Crash)>,
    /// How it was cut off.
    pub(super) cut: Option<Crash>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) speed: Speed,
    pub(super) stuck_until: Option<Duration>,
}

/// What becomes of an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Nothing is in its way.
    Free,
    /// It fails by order.
    Fails(io::ErrorKind),
    /// The process is killed, or the power fails, while it is done.
    IsCut(Crash),
}

impl Faults {
    pub(super) fn fail_next(&mut self, what: Operation, times: u32, kind: io::ErrorKind) {
        if times == 0 {
            self.failing.remove(&what);
        } else {
            self.failing.insert(what, (times, kind));
        }
    }

    pub(super) fn heal(&mut self) {
        self.failing.clear();
        self.cut_after = None;
        self.capacity_bytes = None;
        self.speed.factor = 1;
        self.stuck_until = None;
    }

    fn take_failure(&mut self, operation: Operation) -> Option<io::ErrorKind> {
        let (times, kind) = self.failing.get_mut(&operation)?;
        let kind = *kind;
        *times -= 1;
        if *times == 0 {
            self.failing.remove(&operation);
        }
        Some(kind)
    }
}

impl State {
    /// Begins an operation of a life.
    ///
    /// # Errors
    /// The life is over, or was cut off.
    pub(super) fn begin(&mut self, life: u64, operation: Operation) -> io::Result<Course> {
        if life != self.life {
            return Err(io::Error::other("the process was killed"));
        }
        if self.faults.cut.is_some() {
            return Err(cut_off());
        }
        if operation.is_change()
            && let Some((left, crash)) = &mut self.faults.cut_after
        {
            if *left == 0 {
                let crash = *crash;
                self.faults.cut = Some(crash);
                return Ok(Course::IsCut(crash));
            }
            *left -= 1;
        }
        let Some(kind) = self.faults.take_failure(operation) else { return Ok(Course::Free) };
        match operation {
            Operation::Write => self.counters.failed_writes += 1,
            Operation::Sync | Operation::SyncDirectory => self.counters.failed_syncs += 1,
            Operation::Create
            | Operation::Open
            | Operation::Rename
            | Operation::Remove
            | Operation::List
            | Operation::CreateDirectory
            | Operation::Lock
            | Operation::Read
            | Operation::SetLength => self.counters.failed_others += 1,
        }
        Ok(Course::Fails(kind))
    }

    /// The error of something that does not fit.
    pub(super) fn full(&mut self) -> io::Error {
        self.counters.full += 1;
        io::ErrorKind::StorageFull.into()
    }
}

pub(super) fn cut_off() -> io::Error {
    io::Error::other("the process was cut off in its work")
}
