//! A job whose calls leave a mark each, and wait as long as they are held.
//!
//! ```text
//! STAGE/calls/map-3.4711.0      process 4711 has begun to map input 3; then .1 if it does so again
//! STAGE/calls/reduce-5.4711.0   … to reduce key 5
//! STAGE/held/map-3              while it is there, calls that map input 3 do not go on
//! STAGE/held/reduce-5
//! STAGE/calls/merge-0.4711.0    … to compare two lines of the results, and STAGE/held/merge-0
//! ```
//!
//! So two calls that were held at the same time have run at the same time, whatever the clock says.
//!
//! With `crashes=SEED` each call ends its process with a chance of a third, and hangs for a while with another third: by the
//! seed, by what is called, and by how often it was called before.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use mapreduce_example::job::{Argument, Combine, Emitter, Job, Kind, Piece};
use mapreduce_example::jobs::words;

/// How often words of each length occur, up to the tenth and beyond it from the start: a partition for each key, if there are
/// so many. The inputs are called `0.txt`, `1.txt` and so on.
struct Staged {
    stage: PathBuf,
    crashes: Option<String>,
}

const KEYS: usize = 10;

/// A call that is held for longer was forgotten.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EACH: Duration = Duration::from_millis(10);
/// A call that hangs does so for at most as long.
const HANG_MILLISECONDS_MAX: u64 = 3_000;

pub(super) fn kind() -> Kind {
    let about = "how often words of each length occur, modulo 10";
    let stage = Argument { name: "stage", about: "the folder of marks", required: true };
    let crashes = Argument { name: "crashes", about: "calls crash and hang", required: false };
    Kind::new("staged", about, |arguments| {
        let stage = arguments.get("stage").map(PathBuf::from).unwrap_or_default();
        Ok(Staged { stage, crashes: arguments.get("crashes").cloned() })
    })
    .with_argument(stage)
    .with_argument(crashes)
}

impl Job for Staged {
    type Key = u32;
    type Value = u64;
    type Output = u64;

    fn map(&self, piece: Piece<'_>, emit: &mut Emitter<'_, Self>) -> Result<(), String> {
        if piece.offset == 0 {
            let input = Path::new(piece.name).file_stem().unwrap_or_default();
            self.risk(&format!("map-{}", input.display()))?;
        }
        words(piece.contents, |word| {
            let key = u32::try_from(word.chars().count() % KEYS).unwrap_or_default();
            emit.emit_owned(key, 1);
        });
        Ok(())
    }

    fn combiner(&self) -> Option<Combine<u64>> {
        Some(|held, value| *held += value)
    }

    fn reduce(&self, key: &u32, counts: &mut dyn Iterator<Item = u64>) -> Result<u64, String> {
        self.risk(&format!("reduce-{key}"))?;
        Ok(counts.sum())
    }

    fn partition(&self, key: &u32, reducers: u32) -> u32 {
        key % reducers
    }

    fn line(&self, key: &u32, count: &u64, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{key} {count}")
    }

    fn compare_lines(&self, one: &[u8], other: &[u8]) -> Ordering {
        // Who merges has no use for an error.
        let _ = self.call("merge-0");
        one.cmp(other)
    }
}

impl Staged {
    /// Leaves a mark, and waits while the call is held.
    fn call(&self, what: &str) -> Result<(), String> {
        self.mark(what).map_err(|error| format!("{}: {error}", self.stage.display()))?;
        let (held, begun) = (self.stage.join("held").join(what), Instant::now());
        while fs::exists(&held).unwrap_or(true) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{what} is held for ever"));
            }
            thread::sleep(LOOK_EACH);
        }
        Ok(())
    }

    /// A call that may crash or hang.
    fn risk(&self, what: &str) -> Result<(), String> {
        self.call(what)?;
        self.crash_or_hang(what).map_err(|error| format!("{}: {error}", self.stage.display()))
    }

    fn crash_or_hang(&self, what: &str) -> io::Result<()> {
        let Some(seed) = &self.crashes else { return Ok(()) };
        let begins = format!("{what}.");
        let mut calls = 0;
        for entry in fs::read_dir(self.stage.join("calls"))? {
            calls += u32::from(entry?.file_name().to_string_lossy().starts_with(&begins));
        }
        // Without a seed of its own: the same in each process.
        let chance = BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, what, calls));
        match chance % 3 {
            0 => process::exit(1),
            1 => thread::sleep(Duration::from_millis(chance / 3 % HANG_MILLISECONDS_MAX)),
            _ => {}
        }
        Ok(())
    }

    fn mark(&self, what: &str) -> io::Result<()> {
        let mut number = 0;
        loop {
            let name = format!("{what}.{}.{number}", process::id());
            match File::create_new(self.stage.join("calls").join(name)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                other => return other.map(drop),
            }
        }
    }
}
