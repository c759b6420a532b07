//! What a word count costs here, beside a plain program that does the same in memory.
//!
//! ```sh
//! cargo run --release -p mapreduce-example --example word_count_cost              # 1 GiB of generated text
//! cargo run --release -p mapreduce-example --example word_count_cost -- --bytes 100000000 --rounds 1 --hasher std
//! ```
//!
//! The two programs take turns (A B B A), so that what else the machine does meets both. `ours` is `mapreduce-example run` with
//! two workers of one slot each: all of its processes say at their end how much time they have had of the processors, and how
//! much memory at most. `plain` is a process of two threads with a hash table each, with the hasher of the standard library or
//! that of `hashbrown`, which is faster, and the default here. Exit code 1 says that a goal was missed, and which.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use mapreduce_example::data::SPLIT_BYTES_MAX;
use mapreduce_example::generate::generate;
use mapreduce_example::job::Registry;
use mapreduce_example::jobs::words;
use rustix::time::{ClockId, clock_gettime};

const THREADS: usize = 2;
const FILES: u32 = 16;
const REDUCERS: u32 = 10;
const SEED: u64 = 1;

/// The goals: so many times the CPU of the plain program at most, so much memory of a worker at most, and less than such a share
/// of the CPU for the coordinator.
const RATIO_MAX: f64 = 1.5;
const RESIDENT_BYTES_MAX: u64 = 512 << 20;
const COORDINATOR_PERCENT_LIMIT: f64 = 2.0;

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
    /// Counts in memory.
    Plain { text: PathBuf, output: PathBuf },
}

/// What a run has taken.
#[derive(Copy, Clone, Default)]
struct Cost {
    cpu_seconds: f64,
    /// Of that, the coordinator.
    coordinator_seconds: f64,
    /// Of the process that had most.
    resident_bytes: u64,
}

fn main() -> ExitCode {
    // The processes of a run are this program, too, so that there is nothing to look for.
    if let Some("run" | "coordinator" | "worker") = std::env::args().nth(1).as_deref() {
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("word_count_cost: {error}");
                return ExitCode::from(2);
            }
        };
        return runtime
            .block_on(mapreduce_example::cli::run(Registry::shipped(), std::env::args_os()));
    }
    let arguments = Options::parse();
    let outcome = match &arguments.program {
        None => measure(&arguments),
        Some(program) => run(program, &arguments).and_then(|()| say_cost()).map(|()| Vec::new()),
    };
    match outcome {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("word_count_cost: missed: {}", missed.join("; "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("word_count_cost: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(program: &Program, arguments: &Options) -> Outcome<()> {
    match program {
        Program::Plain { text, output } => match arguments.hasher {
            Hasher::Std => plain(text, output, std::hash::RandomState::new()),
            Hasher::Fast => plain(text, output, hashbrown::DefaultHashBuilder::default()),
        },
    }
}

/// Measures, and returns which goals are missed.
fn measure(arguments: &Options) -> Outcome<Vec<String>> {
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
        let cost = match is_ours {
            true => ours(arguments, &text, &output)?,
            false => plain_cost(arguments, &text, &output)?,
        };
        let name = if is_ours { "ours " } else { "plain" };
        let megabytes = cost.resident_bytes / 1_000_000;
        print!("{name}  {:6.2} s of CPU, {megabytes:4} MB resident", cost.cpu_seconds);
        match is_ours {
            true => println!(" a worker; coordinator {:.2} %", cost.coordinator_percent()),
            false => println!(),
        }
        let all = if is_ours { &mut all_ours } else { &mut all_plain };
        all.push(cost);
        keep_or_compare(is_ours, &output, &dir.join("expected"))?;
    }
    let cpu = |all: &[Cost]| -> f64 {
        all.iter().map(|cost| cost.cpu_seconds).sum::<f64>() / all.len() as f64
    };
    let ratio = cpu(&all_ours) / cpu(&all_plain);
    println!("ratio  {ratio:.2}");
    remove(&dir.join("output"))?;
    remove(&dir.join("expected"))?;
    Ok(missed(ratio, &all_ours))
}

fn missed(ratio: f64, ours: &[Cost]) -> Vec<String> {
    let mut missed = Vec::new();
    if ratio > RATIO_MAX {
        missed.push(format!("{ratio:.2} times the CPU of the plain program, at most {RATIO_MAX}"));
    }
    let resident_bytes = ours.iter().map(|cost| cost.resident_bytes).max().unwrap_or(0);
    if resident_bytes > RESIDENT_BYTES_MAX {
        missed.push(format!(
            "{} MiB resident a worker, at most {}",
            resident_bytes.div_ceil(1 << 20),
            RESIDENT_BYTES_MAX >> 20
        ));
    }
    let percent = ours.iter().map(Cost::coordinator_percent).fold(0.0, f64::max);
    if percent >= COORDINATOR_PERCENT_LIMIT {
        missed.push(format!(
            "{percent:.2} % of the CPU for the coordinator, less than {COORDINATOR_PERCENT_LIMIT}"
        ));
    }
    missed
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

impl Cost {
    fn coordinator_percent(&self) -> f64 {
        100.0 * self.coordinator_seconds / self.cpu_seconds
    }
}

fn ours(arguments: &Options, text: &Path, output: &Path) -> Outcome<Cost> {
    let child = Command::new(std::env::current_exe()?)
        .args(["run", "--job", "word-count", "--input", &format!("{}/*.txt", text.display())])
        .args(["--workers", &THREADS.to_string(), "--slots", "1", "--json"])
        .args(["--reducers", &REDUCERS.to_string()])
        .args(["--split-bytes", &arguments.split_bytes.to_string()])
        .arg("--output")
        .arg(output)
        .output()?;
    if !child.status.success() {
        return Err(String::from_utf8_lossy(&child.stderr).into());
    }
    let report: serde_json::Value = serde_json::from_slice(&child.stdout)?;
    let seconds = |name: &str| report[name].as_f64().ok_or("the report lacks a figure");
    let coordinator_seconds = seconds("coordinators_cpu_seconds")?;
    let cpu_seconds =
        coordinator_seconds + seconds("workers_cpu_seconds")? + seconds("own_cpu_seconds")?;
    let resident_bytes = report["worker_peak_bytes"].as_u64().ok_or("no memory of a worker")?;
    Ok(Cost { cpu_seconds, coordinator_seconds, resident_bytes })
}

fn plain_cost(arguments: &Options, text: &Path, output: &Path) -> Outcome<Cost> {
    let hasher = match arguments.hasher {
        Hasher::Std => "std",
        Hasher::Fast => "fast",
    };
    let child = Command::new(std::env::current_exe()?)
        .args(["--hasher", hasher, "plain"])
        .args([text, output])
        .output()?;
    let said = String::from_utf8_lossy(&child.stdout);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [cpu, resident_bytes] if child.status.success() => {
            let cpu_seconds = Duration::from_nanos(cpu).as_secs_f64();
            Ok(Cost { cpu_seconds, coordinator_seconds: 0.0, resident_bytes })
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
