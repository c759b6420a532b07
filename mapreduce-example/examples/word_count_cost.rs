//! What a word count costs here, beside a plain program that does the same in memory.
//!
//! ```sh
//! cargo run --release -p mapreduce-example --example word_count_cost              # 1 GiB of generated text
//! cargo run --release -p mapreduce-example --example word_count_cost -- --bytes 100000000 --rounds 1 --hasher std
//! ```
//!
//! Each run is a process of two threads, which says at its end how much time it has had of the processors, and how much memory
//! at most. The two programs take turns (A B B A), so that what else the machine does meets both. `ours` carries out the map
//! tasks, the reduce tasks and the publication as a worker does, without a coordinator; `plain` has a hash table for each
//! thread, with the hasher of the standard library or that of `hashbrown`, which is faster, and the default here.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use futures::executor::block_on;
use mapreduce_example::data::{SPLIT_BYTES_MAX, Stores, splits};
use mapreduce_example::execute::{DataExecutor, Limits};
use mapreduce_example::generate::generate;
use mapreduce_example::job::{Arguments, Registry};
use mapreduce_example::jobs::words;
use mapreduce_example::task::{
    Attempt, AttemptId, Executor, JobId, JobSpec, Stop, TaskError, TaskId, Work,
};
use rustix::time::{ClockId, clock_gettime};

const THREADS: usize = 2;
const FILES: u32 = 16;
const REDUCERS: u32 = 10;
const SEED: u64 = 1;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures what a word count costs here, beside a plain program.
#[derive(Parser)]
struct Options {
    /// How much text there is.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// How often each program runs, at least: they take turns A B B A.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// The hasher of the plain program.
    #[arg(long, default_value = "fast")]
    hasher: Hasher,
    /// The largest split.
    #[arg(long, default_value_t = SPLIT_BYTES_MAX)]
    split_bytes: u64,
    /// Where the text is generated; else in a folder that is removed at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    program: Option<Program>,
}

#[derive(Copy, Clone, ValueEnum)]
enum Hasher {
    /// That of the standard library.
    Std,
    /// That of `hashbrown`.
    Fast,
}

#[derive(Subcommand)]
enum Program {
    /// Counts by this crate.
    Ours { text: PathBuf, output: PathBuf },
    /// Counts in memory.
    Plain { text: PathBuf, output: PathBuf },
}

/// What a process has taken.
#[derive(Copy, Clone, Default)]
struct Cost {
    cpu: Duration,
    resident_bytes: u64,
}

fn main() -> ExitCode {
    let arguments = Options::parse();
    let outcome = match &arguments.program {
        None => measure(&arguments),
        Some(program) => run(program, &arguments).and_then(|()| say_cost()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("word_count_cost: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(program: &Program, arguments: &Options) -> Outcome<()> {
    match program {
        Program::Ours { text, output } => ours(text, output, arguments.split_bytes),
        Program::Plain { text, output } => match arguments.hasher {
            Hasher::Std => plain(text, output, std::hash::RandomState::new()),
            Hasher::Fast => plain(text, output, hashbrown::DefaultHashBuilder::default()),
        },
    }
}

fn measure(arguments: &Options) -> Outcome<()> {
    let temporary = tempfile::tempdir()?;
    let dir = arguments.dir.as_deref().unwrap_or(temporary.path());
    let text = dir.join("text");
    generate(&text, FILES, arguments.bytes / u64::from(FILES), SEED)?;
    let (mut all_ours, mut all_plain) = (Vec::new(), Vec::new());
    for turn in 0..arguments.rounds.max(1) * 2 {
        // A B B A
        let is_ours = matches!(turn % 4, 0 | 3);
        let output = dir.join("output");
        remove(&output)?;
        let cost = cost_of(is_ours, arguments, &text, &output)?;
        let name = if is_ours { "ours " } else { "plain" };
        println!(
            "{name}  {:6.2} s of CPU, {:4} MB resident",
            cost.cpu.as_secs_f64(),
            cost.resident_bytes / 1_000_000
        );
        let all = if is_ours { &mut all_ours } else { &mut all_plain };
        all.push(cost);
        keep_or_compare(is_ours, &output, &dir.join("expected"))?;
    }
    let cpu = |all: &[Cost]| -> f64 {
        all.iter().map(|cost| cost.cpu.as_secs_f64()).sum::<f64>() / all.len() as f64
    };
    println!("ratio  {:.2}", cpu(&all_ours) / cpu(&all_plain));
    remove(&dir.join("output"))?;
    remove(&dir.join("expected"))
}

/// Both programs must have found the same.
fn keep_or_compare(is_ours: bool, output: &Path, expected: &Path) -> Outcome<()> {
    let mut lines = Vec::new();
    if is_ours {
        for reduce in 0..REDUCERS {
            let part = fs::read_to_string(output.join(format!("part-{reduce:05}")))?;
            lines.extend(part.lines().map(str::to_owned));
        }
    } else {
        lines.extend(fs::read_to_string(output)?.lines().map(str::to_owned));
    }
    lines.sort();
    let found = lines.join("\n");
    if expected.exists() {
        if fs::read_to_string(expected)? != found {
            return Err("the two programs have found different counts".into());
        }
        return Ok(());
    }
    Ok(fs::write(expected, found)?)
}

fn remove(path: &Path) -> Outcome<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn cost_of(is_ours: bool, arguments: &Options, text: &Path, output: &Path) -> Outcome<Cost> {
    let hasher = match arguments.hasher {
        Hasher::Std => "std",
        Hasher::Fast => "fast",
    };
    let child = Command::new(std::env::current_exe()?)
        .args(["--hasher", hasher, "--split-bytes", &arguments.split_bytes.to_string()])
        .arg(if is_ours { "ours" } else { "plain" })
        .args([text, output])
        .output()?;
    let said = String::from_utf8_lossy(&child.stdout);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [cpu, resident_bytes] if child.status.success() => {
            Ok(Cost { cpu: Duration::from_nanos(cpu), resident_bytes })
        }
        _ => Err(String::from_utf8_lossy(&child.stderr).into()),
    }
}

/// What this process has taken: its time in nanoseconds, its memory in bytes.
fn say_cost() -> Outcome<()> {
    let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak.unwrap_or_default().trim().trim_end_matches(" kB").parse()?;
    println!("{} {}", cpu.as_nanos(), kib * 1024);
    Ok(())
}

struct Never;

impl Stop for Never {
    fn is_stopped(&self) -> bool {
        false
    }
}

fn ours(text: &Path, output: &Path, split_bytes: u64) -> Outcome<()> {
    let stores = Stores::new();
    let pattern = format!("{}/*.txt", text.display());
    let spec = Arc::new(JobSpec {
        job: "word-count".to_owned(),
        arguments: Arguments::new(),
        inputs: splits(&stores, &[pattern], split_bytes)?,
        output: output.display().to_string(),
        reducers: REDUCERS,
        failures_max: 1,
    });
    let executor = DataExecutor::new(Registry::shipped(), stores, Limits::default());
    let maps = spec.inputs.len();
    let phase = |count: usize, task: fn(u32) -> TaskId, inputs: usize| {
        let next = AtomicUsize::new(0);
        let inputs: Arc<[Attempt]> = vec![Attempt(1); inputs].into();
        in_threads(|_| -> Result<(), TaskError> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                let task = task(u32::try_from(number).unwrap_or(u32::MAX));
                let id = AttemptId { job: JobId(1), task, attempt: Attempt(1) };
                let work = Work { id, spec: spec.clone(), inputs: inputs.clone() };
                block_on(executor.execute(work, Arc::new(Never)))?;
            }
        })
        .into_iter()
        .collect::<Result<Vec<()>, TaskError>>()
    };
    phase(maps, TaskId::Map, 0)?;
    phase(REDUCERS as usize, TaskId::Reduce, maps)?;
    phase(1, |_| TaskId::Publish, REDUCERS as usize)?;
    Ok(())
}

fn plain(
    text: &Path,
    output: &Path,
    hasher: impl BuildHasher + Clone + Send + Sync,
) -> Outcome<()> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(text)?.map(|entry| Ok(entry?.path())).collect::<Outcome<_>>()?;
    paths.sort();
    let tables = in_threads(|thread| -> Outcome<HashMap<String, u64, _>> {
        let mut table = HashMap::with_hasher(hasher.clone());
        for path in paths.iter().skip(thread).step_by(THREADS) {
            words(&fs::read(path)?, |word| match table.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(table.insert(word.to_owned(), 1)),
            });
        }
        Ok(table)
    });
    let mut all = HashMap::with_hasher(hasher.clone());
    for table in tables {
        for (word, count) in table? {
            *all.entry(word).or_insert(0) += count;
        }
    }
    let mut all: Vec<(String, u64)> = all.into_iter().collect();
    all.sort_unstable();
    let mut out = BufWriter::new(File::create(output)?);
    for (word, count) in all {
        writeln!(out, "{word} {count}")?;
    }
    out.flush()?;
    Ok(())
}

fn in_threads<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
