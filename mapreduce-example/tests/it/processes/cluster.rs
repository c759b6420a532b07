//! A coordinator and workers that are started one by one, and jobs that are submitted to them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use mapreduce_example::ground::worker_client;
use raft_rsm::raft_core::{NodeId, Role};

use super::{Folder, PATIENCE, PROGRAM, Running};

/// Waits until `look` finds it.
#[track_caller]
pub(super) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: it never is there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until there is no such process.
#[track_caller]
pub(super) fn eventually_gone(process: u32) {
    // A process whose parent has not asked for its end yet is a zombie.
    let is_there = || {
        let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        state.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
    };
    eventually("its end", || (!is_there()).then_some(()));
}

/// A coordinator of one node or several. It is killed when it is dropped.
pub(super) struct Cluster {
    program: &'static str,
    text: String,
    nodes: BTreeMap<u64, Running>,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub(super) fn start() -> Cluster {
        Cluster::of(PROGRAM, 1)
    }

    /// So many nodes of this program.
    pub(super) fn of(program: &'static str, nodes: u64) -> Cluster {
        for _ in 0..5 {
            // All at once, so that they differ.
            let listeners: Vec<_> =
                (1..=nodes).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
            let members = (1..).zip(&listeners);
            let members = members.map(|(id, at)| format!("{id}={}", at.local_addr().unwrap()));
            let text = members.collect::<Vec<_>>().join(",");
            drop(listeners);
            let dir = tempfile::tempdir().unwrap();
            let mut cluster = Cluster { program, text, nodes: BTreeMap::new(), dir };
            if (1..=nodes).all(|id| cluster.start_node(id, &["--init"])) {
                return cluster;
            }
        }
        panic!("no free port");
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn start_node(&mut self, id: u64, more: &[&str]) -> bool {
        let data = self.dir.path().join(format!("node{id}")).display().to_string();
        let args = ["coordinator", "--id", &id.to_string(), "--cluster", &self.text];
        let args = [&args[..], &["--data", &data], more].concat();
        let mut node = Running::start_program(self.program, &args);
        let is_ready = node.first_line().starts_with("ready: ");
        self.nodes.insert(id, node);
        is_ready
    }

    /// `kill -9` of the node that leads. Returns which one it was.
    pub(super) fn kill_leader(&mut self) -> u64 {
        let leader = self.leader();
        drop(self.nodes.remove(&leader));
        leader
    }

    /// Starts one again that was killed.
    pub(super) fn start_again(&mut self, id: u64) {
        assert!(self.start_node(id, &[]), "node {id} does not start again");
    }

    /// The node that leads.
    fn leader(&self) -> u64 {
        let (_runtime, client) = worker_client(&self.text.parse().unwrap());
        eventually("a node that leads", || {
            self.nodes.keys().copied().find(|id| {
                let status = block_on(client.status(NodeId(*id)));
                status.is_ok_and(|status| status.role == Role::Leader)
            })
        })
    }

    pub(super) fn worker(&self, slots: &str) -> Running {
        self.worker_with(&["--slots", slots])
    }

    pub(super) fn worker_with(&self, options: &[&str]) -> Running {
        self.worker_by(&[], options)
    }

    /// A worker that `starter` starts: a command whose last arguments are the worker's.
    pub(super) fn worker_by(&self, starter: &[&str], options: &[&str]) -> Running {
        let worker = [self.program, "worker", "--cluster", &self.text];
        let command = [starter, &worker, options].concat();
        let mut worker = Running::start_program(command[0], &command[1..]);
        assert!(worker.first_line().starts_with("ready: "));
        worker
    }

    pub(super) fn run(&self, command: &str, args: &[&str]) -> super::Ran {
        let args = [&[command, "--cluster", &self.text], args].concat();
        Running::start_program(self.program, &args).end()
    }

    pub(super) fn submit(&self, folder: &Folder, more: &[&str]) -> super::Ran {
        let (pattern, output) = (folder.pattern(), folder.output());
        let args = ["--job", "word-count", "--input", &pattern, "--output", &output];
        self.run("submit", &[&args[..], more].concat())
    }

    pub(super) fn status(&self, job: &str) -> serde_json::Value {
        serde_json::from_str(&self.run("status", &[job, "--json"]).ok().stdout).unwrap()
    }

    /// Waits until the job has ended. Returns how it stands then.
    #[track_caller]
    pub(super) fn end_of(&self, job: &str) -> serde_json::Value {
        eventually("the end of the job", || {
            let status = self.status(job);
            (status["state"] != "unfinished").then_some(status)
        })
    }
}

pub(super) fn job_of(submitted: &super::Ran) -> String {
    let submitted: serde_json::Value = serde_json::from_str(&submitted.stdout).unwrap();
    submitted["job"].to_string()
}

#[test]
fn jobs_are_submitted_followed_listed_and_cancelled() {
    let cluster = Cluster::start();
    let waiting = Folder::of_the_book(2, 1);
    let job = job_of(&cluster.submit(&waiting, &["--json"]).ok());
    assert_eq!(cluster.status(&job)["maps"]["pending"], 2, "there is no worker");
    cluster.run("cancel", &[&job]).ok();
    assert_eq!(cluster.status(&job)["state"], "cancelled");
    cluster.run("status", &["77"]).fails(1, &["77"]);
    cluster.run("cancel", &["77"]).fails(1, &["77"]);

    let _worker = cluster.worker("2");
    let folders = [Folder::of_the_book(3, 1), Folder::of_the_book(4, 1)];
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(|| cluster.submit(folder, &["--wait"]).ok());
        }
    });
    folders.iter().for_each(|folder| folder.assert_is_done("word-count", &[]));
    let jobs = cluster.run("jobs", &["--json"]).ok();
    let jobs: serde_json::Value = serde_json::from_str(&jobs.stdout).unwrap();
    let states: Vec<_> = jobs.as_array().unwrap().iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "succeeded", "succeeded"]);
    let text = cluster.run("jobs", &[]).ok();
    assert_eq!(text.stdout.lines().count(), 4, "{text:?}");
}

/// No process ends before the output is final, and then each does.
#[test]
fn early_exit() {
    let mut cluster = Cluster::start();
    let folder = Folder::of_the_book(8, 2);
    let workers = [cluster.worker("1"), cluster.worker("1"), cluster.worker("1")];
    cluster.submit(&folder, &[]).ok();
    cluster.run("close", &[]).ok();
    for worker in workers {
        let ended = worker.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(Path::new(&folder.output()).join("_SUCCESS").exists(), "a worker has ended before");
        folder.assert_is_done("word-count", &[]);
    }
    let another = Folder::of_the_book(1, 1);
    let old = Path::new(&another.output()).join("old");
    std::fs::create_dir(another.output()).unwrap();
    std::fs::write(&old, "results").unwrap();
    cluster.submit(&another, &["--force"]).fails(1, &["no more jobs", "open"]);
    assert!(old.exists(), "it was deleted for a job that nobody takes");
    std::fs::remove_file(&old).unwrap();
    cluster.submit(&another, &[]).fails(1, &["no more jobs", "open"]);
    cluster.run("open", &[]).ok();
    let worker = cluster.worker("1");
    cluster.submit(&another, &["--wait"]).ok();
    another.assert_is_done("word-count", &[]);
    worker.signal("TERM");
    assert_eq!(worker.end().code, Some(0));
    for node in std::mem::take(&mut cluster.nodes).into_values() {
        node.signal("TERM");
        assert_eq!(node.end().code, Some(0));
    }
}

#[test]
fn who_waits_for_a_job_and_hears_no_more_of_it_is_told_which_one() {
    let mut cluster = Cluster::start();
    let folder = Folder::of_the_book(1, 1);
    let (pattern, output) = (folder.pattern(), folder.output());
    let args = ["submit", "--cluster", &cluster.text, "--job", "word-count", "--input", &pattern];
    let more = ["--output", &output, "--wait", "--timeout", "5"];
    let mut waiting = Running::start(&[&args[..], &more].concat());
    let line = waiting.first_line();
    let job = line.split_once(':').unwrap().0;
    cluster.kill_leader();
    waiting.end().fails(2, &[job, "was submitted", "`status "]);
}

#[test]
fn a_worker_that_finds_no_coordinator_says_so_and_goes_on() {
    let mut worker = Running::start(&["worker", "--cluster", "1=127.0.0.1:1"]);
    worker.hears(|line| line.contains("the coordinator does not answer").then_some(()));
    assert!(worker.child.try_wait().unwrap().is_none());
}

#[test]
fn an_input_that_vanishes_fails_the_job_with_its_name() {
    let cluster = Cluster::start();
    let folder = Folder::of_the_book(2, 1);
    let job = job_of(&cluster.submit(&folder, &["--json", "--failures", "2"]).ok());
    std::fs::remove_file(folder.input(1)).unwrap();
    let _worker = cluster.worker("1");
    let status = cluster.end_of(&job);
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("1.txt") && error.contains("map task 1"), "{status}");
    assert!(!Path::new(&folder.output()).join("part-00000").exists());
    assert_eq!(folder.left(), ["_mapreduce"], "nobody has waited for it");
    // Others go on.
    let another = Folder::of_the_book(2, 1);
    cluster.submit(&another, &["--wait"]).ok();
    another.assert_is_done("word-count", &[]);
}
