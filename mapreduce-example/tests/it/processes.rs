//! The program as its users meet it: processes, signals, exit codes.

mod bad_input;
mod cluster;
mod crashes;
mod full_disk;
mod hangs;
mod runs;
mod staged;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mapreduce_example::data::Stores;
use mapreduce_example::job::Registry;
use mapreduce_example::sequential;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mapreduce-example");

/// One with jobs of its own: see `tests/it/program`.
const OWN_JOBS: &str = env!("CARGO_BIN_EXE_mapreduce-own-jobs");

/// Nothing takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The text that is in the repository.
fn book() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kv-example/text/histories.txt");
    std::fs::read_to_string(path).unwrap()
}

/// Inputs in a folder of their own, and a place for results.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    /// The book, line by line into so many files, so many times over.
    fn of_the_book(files: usize, times: usize) -> Folder {
        let folder = Folder { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(folder.dir.path().join("in")).unwrap();
        let book = book();
        let lines: Vec<&str> = book.split_inclusive('\n').collect();
        let each = lines.len().div_ceil(files);
        for (number, lines) in lines.chunks(each).enumerate() {
            std::fs::write(folder.input(number), lines.concat().repeat(times)).unwrap();
        }
        folder
    }

    fn input(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("in/{number}.txt"))
    }

    fn pattern(&self) -> String {
        self.dir.path().join("in/*.txt").display().to_string()
    }

    fn output(&self) -> String {
        self.dir.path().join("out").display().to_string()
    }

    /// What the job says of the inputs when it is done here and at once, its lines sorted.
    fn expected(&self, job: &str, arguments: &[(&str, &str)]) -> Vec<String> {
        let mut lines = self.in_order(job, arguments);
        lines.sort();
        lines
    }

    /// The same in the order of the job.
    fn in_order(&self, job: &str, arguments: &[(&str, &str)]) -> Vec<String> {
        let mut inputs: Vec<_> = std::fs::read_dir(self.dir.path().join("in"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        let stores = Stores::new();
        let inputs: Vec<_> = inputs
            .into_iter()
            .map(|path| {
                let name = stores.locate(path.to_str().unwrap()).unwrap().name();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        let arguments: BTreeMap<_, _> =
            arguments.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let found = sequential::run(&Registry::shipped(), job, &arguments, &inputs).unwrap();
        String::from_utf8(found).unwrap().lines().map(str::to_owned).collect()
    }

    /// The lines of all results, sorted.
    fn results(&self) -> Vec<String> {
        let mut text = Vec::new();
        for entry in std::fs::read_dir(self.output()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
                text.extend(std::fs::read(path).unwrap());
            }
        }
        sorted(&text)
    }

    /// The names of what is in the output folder, if there is one.
    fn left(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.output()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// All results are there, and nothing else.
    #[track_caller]
    fn assert_is_done(&self, job: &str, arguments: &[(&str, &str)]) {
        assert!(self.results() == self.expected(job, arguments), "the results of {job} differ");
        self.assert_nothing_is_left();
    }

    /// It says that all results are there, and nothing is left of what was between.
    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let path = |name: &str| Path::new(&self.output()).join(name);
        assert!(path("_SUCCESS").exists() && !path("_mapreduce").exists());
    }
}

fn sorted(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What a command came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    #[track_caller]
    fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It has failed with one line on stderr that contains all of these.
    #[track_caller]
    fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{self:?}");
        for part in parts {
            assert!(last.contains(part), "no {part:?} in {self:?}");
        }
    }
}

fn run(args: &[&str]) -> Ran {
    Running::start(args).end()
}

/// A process of the program; killed when it is dropped.
struct Running {
    child: Child,
    stderr: Arc<Heard>,
}

/// What a process has said so far.
#[derive(Default)]
struct Heard {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        Running::start_program(PROGRAM, args)
    }

    fn start_program(program: &str, args: &[&str]) -> Running {
        Running::start_command(Command::new(program).args(args))
    }

    fn start_command(command: &mut Command) -> Running {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (heard, pipe) = (Arc::new(Heard::default()), child.stderr.take().unwrap());
        let stderr = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                heard.lines.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                heard.more.notify_all();
            }
            heard.lines.lock().unwrap().1 = true;
            heard.more.notify_all();
        });
        Running { child, stderr }
    }

    /// Waits until it has said a line on stderr that `is_it` makes something of.
    #[track_caller]
    fn hears<T>(&self, mut is_it: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let (mut lines, mut read) = (self.stderr.lines.lock().unwrap(), 0);
        loop {
            while let Some(line) = lines.0.get(read) {
                if let Some(found) = is_it(line) {
                    return found;
                }
                read += 1;
            }
            assert!(!lines.1 && Instant::now() < deadline, "it never said so: {:?}", lines.0);
            lines = self.stderr.more.wait_timeout(lines, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// The process that it says `who` is; the one after that of `before`, if there was one before.
    #[track_caller]
    fn process(&self, who: &str, before: Option<u32>) -> u32 {
        let mut is_later = before.is_none();
        self.hears(|line| {
            let process = line.strip_prefix(who)?.strip_prefix(" is process ")?.parse().ok()?;
            let found = is_later.then_some(process);
            is_later |= before == Some(process);
            found
        })
    }

    /// The first line on stdout of one that goes on.
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    fn end(mut self) -> Ran {
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).unwrap();
        }
        let code = self.child.wait().unwrap().code();
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.stderr.lines.lock().unwrap();
        while !lines.1 && Instant::now() < deadline {
            lines = self.stderr.more.wait_timeout(lines, Duration::from_secs(1)).unwrap().0;
        }
        Ran { code, stdout, stderr: lines.0.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process, or to a group by its negative number, by the shell's own `kill`.
fn signal(name: &str, process: impl Display) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(status.is_ok());
}
