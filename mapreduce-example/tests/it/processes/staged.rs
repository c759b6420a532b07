//! Scenarios in which each call goes on when the test says so: who works at the same time, and how often, is not left to the
//! clock. The job is that of `tests/it/program/staged.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mapreduce_example::jobs::words;
use serde_json::Value;

use super::cluster::{Cluster, eventually, eventually_gone, job_of};
use super::{Folder, OWN_JOBS, Running, sorted};

const INPUTS: usize = 8;
const REDUCERS: usize = 10;

/// The calls of a phase that were begun, by the number of their task, each with its processes.
type Calls = BTreeMap<usize, Vec<u32>>;

/// Inputs, results, and the marks between the test and the calls.
struct Stage {
    folder: Folder,
    dir: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        // Of 400 kB each.
        let folder = Folder::of_the_book(INPUTS, 3);
        let dir = folder.dir.path().join("stage");
        for name in ["calls", "held"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        Stage { folder, dir }
    }

    /// What the job is told.
    fn args(&self) -> Vec<String> {
        let (stage, reducers) = (format!("stage={}", self.dir.display()), REDUCERS.to_string());
        let (input, output) = (self.folder.pattern(), self.folder.output());
        let args = ["--job", "staged", "--arg", &stage, "--input", &input, "--output", &output];
        let args = [&args[..], &["--reducers", &reducers, "--json"]].concat();
        args.into_iter().map(str::to_owned).collect()
    }

    fn run(&self, workers: &str) -> Running {
        self.run_with(workers, &[])
    }

    fn run_with(&self, workers: &str, options: &[&str]) -> Running {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let run = ["run", "--workers", workers, "--slots", "1"];
        Running::start_program(OWN_JOBS, &[&run, options, &args].concat())
    }

    fn hold(&self, phase: &str, tasks: Range<usize>) {
        for task in tasks {
            std::fs::write(self.dir.join(format!("held/{phase}-{task}")), "").unwrap();
        }
    }

    fn release(&self, phase: &str, tasks: impl IntoIterator<Item = usize>) {
        for task in tasks {
            std::fs::remove_file(self.dir.join(format!("held/{phase}-{task}"))).unwrap();
        }
    }

    fn calls(&self, phase: &str) -> Calls {
        let mut calls = Calls::new();
        for entry in std::fs::read_dir(self.dir.join("calls")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let mut parts = name.split('.');
            let Some((of, task)) = parts.next().unwrap().split_once('-') else { continue };
            if of == phase {
                let process = parts.next().unwrap().parse().unwrap();
                calls.entry(task.parse().unwrap()).or_default().push(process);
            }
        }
        calls
    }

    /// Waits until calls have begun in so many processes. Those that are held run at the same time.
    #[track_caller]
    fn calls_of(&self, phase: &str, processes: usize) -> Calls {
        eventually("so many processes at once", || {
            let calls = self.calls(phase);
            let distinct: BTreeSet<u32> = calls.values().flatten().copied().collect();
            (distinct.len() >= processes).then_some(calls)
        })
    }

    /// Waits until calls for all of these have begun.
    #[track_caller]
    fn have_begun(&self, phase: &str, tasks: Range<usize>) {
        eventually("the beginning of these calls", || {
            let calls = self.calls(phase);
            tasks.clone().all(|task| calls.contains_key(&task)).then_some(())
        });
    }

    /// The results are there, and what they should be.
    #[track_caller]
    fn assert_is_done(&self) {
        let mut counts = [0; REDUCERS];
        for input in 0..INPUTS {
            let text = std::fs::read(self.folder.input(input)).unwrap();
            words(&text, |word| counts[word.chars().count() % REDUCERS] += 1);
        }
        let expected: String =
            counts.iter().enumerate().map(|(key, count)| format!("{key} {count}\n")).collect();
        assert_eq!(self.folder.results(), sorted(expected.as_bytes()));
        self.folder.assert_nothing_is_left();
    }
}

/// Ends, and no process of it died meanwhile: each worker was one process.
#[track_caller]
fn ends_well(running: Running) {
    ends_after_deaths(running, 0);
}

/// Ends, and so many processes of it died meanwhile.
#[track_caller]
fn ends_after_deaths(running: Running, deaths: u32) {
    let ran = running.end().ok();
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["processes_started_again"], deaths, "{report}");
}

/// Two workers really work at the same time.
#[track_caller]
fn is_parallel(phase: &str, tasks: usize) {
    let stage = Stage::new();
    stage.hold(phase, 0..tasks);
    let running = stage.run("2");
    stage.calls_of(phase, 2);
    stage.release(phase, 0..tasks);
    ends_well(running);
    stage.assert_is_done();
}

#[test]
fn map_parallel() {
    is_parallel("map", INPUTS);
}

#[test]
fn reduce_parallel() {
    is_parallel("reduce", REDUCERS);
}

/// Four workers, slow maps: each map task runs exactly once while nobody fails.
#[test]
fn job_count() {
    let stage = Stage::new();
    stage.hold("map", 0..INPUTS);
    let running = stage.run("4");
    let first = stage.calls_of("map", 4);
    // Those that come later take less time than this: nobody takes one of them for a straggler.
    std::thread::sleep(Duration::from_secs(2));
    stage.release("map", first.keys().copied());
    stage.have_begun("map", 0..INPUTS);
    stage.release("map", (0..INPUTS).filter(|task| !first.contains_key(task)));
    ends_well(running);
    let calls = stage.calls("map");
    assert!(calls.len() == INPUTS && calls.values().all(|calls| calls.len() == 1), "{calls:?}");
    let all: BTreeSet<u32> = calls.into_values().flatten().collect();
    assert_eq!(all.len(), 4, "each worker has its share");
    stage.assert_is_done();
}

/// Each call crashes its worker with a chance of a third, or hangs with another; workers are started again.
#[test]
fn crash() {
    let stage = Stage::new();
    // One by which calls of both phases crash.
    let running = stage.run_with("3", &["--arg", "crashes=1"]);
    let ran = running.end().ok();
    for phase in ["map", "reduce"] {
        let calls = stage.calls(phase);
        assert!(calls.values().any(|calls| calls.len() > 1), "no call of {phase} has crashed");
    }
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["processes_started_again"].as_u64() > Some(1), "{report}");
    stage.assert_is_done();
}

/// `kill -9` of two workers in the middle of a call, in each phase. Of what was done before nothing is done again.
#[test]
fn workers_that_are_killed_in_the_middle_of_a_call() {
    let stage = Stage::new();
    stage.hold("map", INPUTS - 2..INPUTS);
    stage.hold("reduce", REDUCERS - 2..REDUCERS);
    let running = stage.run("2");
    for (phase, tasks) in [("map", INPUTS), ("reduce", REDUCERS)] {
        // The last two are begun when all others are done.
        let last = tasks - 2..tasks;
        let calls = eventually("the last two calls", || {
            let calls = stage.calls(phase);
            last.clone().all(|task| calls.contains_key(&task)).then_some(calls)
        });
        let done: Calls =
            calls.clone().into_iter().filter(|(task, _)| *task < last.start).collect();
        for task in last.clone() {
            super::signal("KILL", calls[&task][0]);
        }
        eventually("the same calls again", || {
            let calls = stage.calls(phase);
            last.clone().all(|task| calls[&task].len() > 1).then_some(())
        });
        stage.release(phase, last.clone());
        let mut calls = stage.calls(phase);
        calls.retain(|task, _| *task < last.start);
        assert_eq!(calls, done, "{phase}: a call that was done was begun again");
    }
    ends_after_deaths(running, 4);
    stage.assert_is_done();
}

/// ^C comes to all that is in the foreground of a terminal. It is the run's, which stops the others in good order.
#[test]
fn a_signal_to_the_group_of_a_run_is_not_its_children_s() {
    let stage = Stage::new();
    stage.hold("map", 0..INPUTS);
    stage.hold("reduce", 0..REDUCERS);
    let args = stage.args();
    let mut command = Command::new(OWN_JOBS);
    command.args(["run", "--workers", "2", "--slots", "1"]).args(&args).process_group(0);
    let running = Running::start_command(&mut command);
    stage.calls_of("map", 2);
    // So that it does nothing about what comes meanwhile.
    running.signal("STOP");
    super::signal("INT", format_args!("-{}", running.child.id()));
    stage.release("map", 0..INPUTS);
    stage.calls_of("reduce", 2);
    running.signal("CONT");
    running.end().fails(2, &["SIGINT"]);
    assert_eq!(stage.folder.left(), [""; 0]);
}

/// Whatever a worker ends with, it is needed until all is done.
#[test]
fn a_worker_of_a_run_that_is_told_to_stop_is_started_again() {
    let stage = Stage::new();
    stage.hold("map", 0..INPUTS);
    let running = stage.run("1");
    stage.have_begun("map", 0..1);
    let first = running.process("worker 1", None);
    super::signal("TERM", first);
    running.process("worker 1", Some(first));
    stage.release("map", 0..INPUTS);
    ends_after_deaths(running, 1);
    stage.assert_is_done();
}

/// It leaves no process behind, and nothing of what its maps have written.
#[test]
fn a_run_that_is_told_to_stop_stops_its_processes() {
    let stage = Stage::new();
    stage.hold("map", 1..INPUTS);
    let running = stage.run("2");
    let processes =
        ["node 1 of the coordinator", "worker 1", "worker 2"].map(|who| running.process(who, None));
    running.hears(|line| line.contains(": map 1/").then_some(()));
    assert_eq!(stage.folder.left(), ["_mapreduce"], "the first map is done");
    running.signal("TERM");
    running.end().fails(2, &["SIGTERM"]);
    for process in processes {
        eventually_gone(process);
    }
    assert_eq!(stage.folder.left(), [""; 0]);
}

/// SIGTERM gives tasks back: another worker has them at once, and not when a lease has run out.
#[test]
fn a_worker_that_is_told_to_stop_gives_back_what_it_works_on() {
    let stage = Stage::new();
    stage.hold("map", 0..INPUTS);
    let cluster = Cluster::of(OWN_JOBS, 1);
    let args = stage.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let job = job_of(&cluster.run("submit", &args).ok());
    let first = cluster.worker("4");
    stage.have_begun("map", 0..4);
    assert_eq!(cluster.status(&job)["attempts"].as_array().map(Vec::len), Some(4));
    first.signal("TERM");
    // Whether it hears of it before these go on or not, it has something to give back; and when they have ended it ends at
    // once, long before a lease runs out.
    stage.release("map", 0..4);
    let ended = first.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let status = cluster.status(&job);
    assert_eq!(status["attempts"], Value::Array(vec![]), "{status}");
    stage.release("map", 4..INPUTS);
    let _second = cluster.worker("2");
    let status = cluster.end_of(&job);
    stage.assert_is_done();
    assert_eq!(status["failures"], Value::Array(vec![]));
}

#[test]
fn a_call_that_hangs_ends_a_run_as_one_that_fails_does() {
    let stage = Stage::new();
    stage.hold("reduce", 0..REDUCERS);
    let running = stage.run_with("1", &["--hang-seconds", "10", "--failures", "1"]);
    running.end().fails(1, &["reduce task 0", "staged", "hung", "10 seconds"]);
}

/// The results are there, and it says where; only what merges them ends, at once and without a trace.
#[test]
fn a_run_that_is_told_to_stop_while_it_merges() {
    for signal in ["TERM", "INT"] {
        let stage = Stage::new();
        stage.hold("merge", 0..1);
        let mut running = stage.run("1");
        stage.have_begun("merge", 0..1);
        running.signal(signal);
        // Who merges is still held.
        eventually("its end", || running.child.try_wait().unwrap());
        let output = stage.folder.output();
        let why = format!("stopped by SIG{signal} before the results were merged");
        running.end().fails(2, &[&why, &output]);
        stage.assert_is_done();
        let is_result = |name: &String| name == "_SUCCESS" || name.starts_with("part-");
        assert!(stage.folder.left().iter().all(is_result));
    }
}

/// Whoever waits for it removes what it has left.
#[test]
fn a_job_that_is_cancelled_leaves_nothing_between() {
    let stage = Stage::new();
    stage.hold("map", 1..INPUTS);
    let cluster = Cluster::of(OWN_JOBS, 1);
    let _worker = cluster.worker("1");
    let args = stage.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let submit = [&["submit", "--cluster", cluster.text(), "--wait"], &args[..]].concat();
    let waiting = Running::start_program(OWN_JOBS, &submit);
    stage.have_begun("map", 0..2);
    assert_eq!(stage.folder.left(), ["_mapreduce"], "the first map is done");
    let jobs = cluster.run("jobs", &["--json"]).ok();
    let jobs: Value = serde_json::from_str(&jobs.stdout).unwrap();
    cluster.run("cancel", &[&jobs[0]["job"].to_string()]).ok();
    waiting.end().fails(1, &["(staged) was cancelled"]);
    assert_eq!(stage.folder.left(), [""; 0]);
}

/// It is done again. The job does not hear of the file; who looks after the disk does.
#[test]
fn a_damaged_file_between_map_and_reduce_is_named_in_the_log() {
    let stage = Stage::new();
    stage.hold("map", INPUTS - 1..INPUTS);
    let running = stage.run("1");
    stage.have_begun("map", INPUTS - 1..INPUTS);
    let between = PathBuf::from(stage.folder.output()).join("_mapreduce");
    let folders = std::fs::read_dir(between).unwrap().map(|entry| entry.unwrap().path());
    let damaged = folders.map(|path| path.join("map-00000-1")).find(|path| path.exists()).unwrap();
    let mut bytes = std::fs::read(&damaged).unwrap();
    // In the first block: behind the magic, and before all else.
    bytes[20] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    stage.release("map", INPUTS - 1..INPUTS);
    let path = damaged.display().to_string();
    running.hears(|line| (line.contains(&path) && line.contains("damaged")).then_some(()));
    ends_well(running);
    assert_eq!(stage.calls("map")[&0].len(), 2);
    stage.assert_is_done();
}

/// The leader of three coordinators is killed while some maps are done, some under way and some waiting, and then so in the
/// reduce phase: no finished task is lost or run again.
#[test]
fn coordinator_crash() {
    let stage = Stage::new();
    stage.hold("map", 2..INPUTS);
    stage.hold("reduce", 4..REDUCERS);
    let mut cluster = Cluster::of(OWN_JOBS, 3);
    let _workers = [(); 3].map(|()| cluster.worker("1"));
    let args = stage.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let job = job_of(&cluster.run("submit", &args).ok());
    let done = |cluster: &Cluster| {
        let status = cluster.status(&job);
        [&status["maps"]["done"], &status["reduces"]["done"]].map(|done| done.as_u64().unwrap())
    };
    let until = |cluster: &Cluster, both: [u64; 2]| {
        eventually("so many tasks done", || (done(cluster) == both).then_some(()));
    };

    until(&cluster, [2, 0]);
    stage.have_begun("map", 2..5);
    let leader = cluster.kill_leader();
    assert_eq!(done(&cluster), [2, 0]);
    cluster.start_again(leader);
    // Each worker has the next one before the last waiting one is given away, so none is idle beside calls that were held
    // for long: no backups.
    stage.release("map", 2..5);
    stage.have_begun("map", 5..INPUTS);
    stage.release("map", 5..INPUTS);

    until(&cluster, [8, 4]);
    stage.have_begun("reduce", 4..7);
    let maps = stage.calls("map");
    let leader = cluster.kill_leader();
    assert_eq!(done(&cluster), [8, 4]);
    cluster.start_again(leader);
    stage.release("reduce", 4..REDUCERS);

    let status = cluster.end_of(&job);
    assert_eq!(
        (&status["state"], &status["failures"]),
        (&"succeeded".into(), &Value::Array(vec![]))
    );
    assert_eq!(stage.calls("map"), maps, "a map was run again that was done");
    let is_once = |phase: &str, tasks: Range<usize>| {
        let calls = stage.calls(phase);
        assert!(tasks.clone().all(|task| calls[&task].len() == 1), "{phase}: {calls:?}");
    };
    is_once("map", 0..2);
    is_once("reduce", 0..4);
    stage.assert_is_done();
}
