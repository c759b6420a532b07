//! Runs the program: commands that end, and nodes that are killed at the latest when they are dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Nothing here takes nearly as long; it only ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Ports that were free a moment ago may be taken: then others are tried, so often.
const STARTS_MAX: usize = 5;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_kv-example");

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Ran {
    Ran::of(Command::new(PROGRAM).args(args))
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Ran {
        Ran::within(command, PATIENCE)
    }

    pub(crate) fn within(command: &mut Command, patience: Duration) -> Ran {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let id = child.id();
        let (sender, receiver) = mpsc::channel();
        // A reader of its own, so that a command that says much does not wait for us.
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        match receiver.recv_timeout(patience) {
            Ok(output) => Ran::from(output.expect("the output can be read")),
            Err(_) => {
                let _ = signal("KILL", id);
                panic!("{command:?} does not end");
            }
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8")
    }

    /// It succeeded, and said so.
    #[track_caller]
    pub(crate) fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It failed with this code and one line on stderr, which contains all of `parts`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Sends a signal to a process, by the shell's own `kill`: there need not be another one.
pub(crate) fn signal(name: &str, process: u32) -> std::io::Result<()> {
    Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().map(drop)
}

/// Waits until `condition` returns something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(POLL);
    }
}

/// Nodes in processes of their own, with disks in a temporary directory.
pub(crate) struct Cluster {
    pub(crate) members: String,
    dir: tempfile::TempDir,
    options: Vec<String>,
    nodes: BTreeMap<usize, NodeProcess>,
    /// Where nodes listen that do not listen where `members` says.
    moved: BTreeMap<usize, String>,
}

impl Cluster {
    /// Starts nodes 1 to `count` for the first time; `options` are added to their command lines.
    pub(crate) fn start(count: usize, options: &[&str]) -> Cluster {
        for _ in 0..STARTS_MAX {
            let mut cluster = Cluster {
                members: free_members(count),
                dir: tempfile::tempdir().expect("a temporary directory"),
                options: options.iter().map(|option| (*option).to_owned()).collect(),
                nodes: BTreeMap::new(),
                moved: BTreeMap::new(),
            };
            let all = (1..=count).all(|id| {
                let node = NodeProcess::start(&cluster.command(id, true), &cluster.log(id));
                node.map(|node| cluster.nodes.insert(id, node)).is_ok()
            });
            if all {
                return cluster;
            }
        }
        panic!("no cluster could be started in {STARTS_MAX} tries");
    }

    pub(crate) fn data(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("node{id}"))
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("node{id}.log"))
    }

    /// The command line of a node.
    pub(crate) fn command(&self, id: usize, init: bool) -> Vec<String> {
        let data = self.data(id).display().to_string();
        let id = id.to_string();
        let mut args: Vec<String> =
            ["node", "--id", &id, "--cluster", &self.members, "--data", &data]
                .map(str::to_owned)
                .into();
        if init {
            args.push("--init".to_owned());
        }
        if let Some(address) = self.moved.get(&id.parse().expect("a number")) {
            args.extend(["--listen".to_owned(), address.clone()]);
        }
        args.extend(self.options.iter().cloned());
        args
    }

    /// Starts a node again.
    #[track_caller]
    pub(crate) fn restart(&mut self, id: usize) {
        self.restart_with(id, &[]);
    }

    /// Starts a node again, with these options besides.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, id: usize, options: &[&str]) {
        let mut command = self.command(id, false);
        command.extend(options.iter().map(|option| (*option).to_owned()));
        let node = NodeProcess::start(&command, &self.log(id));
        self.nodes.insert(id, node.unwrap_or_else(|error| panic!("node {id}: {error}")));
    }

    /// Starts a node with an empty directory on a free port, to be added; returns where it listens.
    #[track_caller]
    pub(crate) fn join(&mut self, id: usize, flag: &str) -> String {
        let address = self.moves(id);
        self.restart_with(id, &[flag]);
        address
    }

    /// The node listens on another port, from its next start on.
    pub(crate) fn moves(&mut self, id: usize) -> String {
        let address = free_address();
        self.moved.insert(id, address.clone());
        address
    }

    /// Starts a node that this cluster does not have, with the data that it has from another one.
    #[track_caller]
    pub(crate) fn start_with_old_data(&mut self, id: usize, members: &str) -> NodeProcess {
        let now = std::mem::replace(&mut self.members, members.to_owned());
        let command = self.command(id, false);
        self.members = now;
        NodeProcess::start(&command, &self.log(id)).expect("its directory is sound")
    }

    /// Where these nodes listen that were started by [`Cluster::join`], as a text of the cluster.
    pub(crate) fn addresses(&self, ids: &[usize]) -> String {
        let texts = ids.iter().map(|id| format!("{id}={}", self.moved[id]));
        texts.collect::<Vec<_>>().join(",")
    }

    /// `kill -9`, and the loss of its disk.
    pub(crate) fn lose(&mut self, id: usize) {
        self.kill(id);
        std::fs::remove_dir_all(self.data(id)).expect("there is a directory");
    }

    /// Has a node added by the program.
    #[track_caller]
    pub(crate) fn add(&self, id: usize, address: &str) {
        self.run(&["add", "--id", &id.to_string(), "--address", address]).ok();
    }

    /// What `members --json` says.
    #[track_caller]
    pub(crate) fn members(&self) -> serde_json::Value {
        let ran = self.run(&["members", "--json"]).ok();
        serde_json::from_slice(&ran.stdout).expect("JSON")
    }

    /// What it says of one member.
    #[track_caller]
    pub(crate) fn member(&self, id: usize) -> serde_json::Value {
        let members = self.members();
        let mut members = members["members"].as_array().expect("an array").iter();
        members.find(|member| member["id"] == id).cloned().unwrap_or_default()
    }

    /// The ids of the voters, when a leader says who they are.
    #[track_caller]
    pub(crate) fn voters(&self) -> Vec<u64> {
        let members = eventually("a leader answers", || {
            let members = self.members();
            (!members["leader"].is_null()).then_some(members)
        });
        let members = members["members"].as_array().expect("an array").clone();
        let voters = members.into_iter().filter(|member| member["role"] == "voter");
        voters.filter_map(|member| member["id"].as_u64()).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, id: usize) {
        self.nodes.remove(&id);
    }

    pub(crate) fn node(&mut self, id: usize) -> &mut NodeProcess {
        self.nodes.get_mut(&id).expect("the node runs")
    }

    /// Where a node serves HTTP, unless it is down.
    pub(crate) fn http_if_it_runs(&self, id: usize) -> Option<String> {
        self.nodes.get(&id)?.http.clone()
    }

    /// Where a node serves HTTP.
    #[track_caller]
    pub(crate) fn http(&self, id: usize) -> &str {
        self.nodes[&id].http.as_deref().expect("it serves HTTP")
    }

    /// Runs a client's command; `args` begin with its name.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        // What is done about a lease is a command of its own.
        let (command, rest) = args.split_at(if args[0] == "lease" { 2 } else { 1 });
        let mut all = command.to_vec();
        all.extend(["--cluster", &self.members]);
        all.extend(rest);
        run(&all)
    }

    /// What `status --json` says of each node.
    pub(crate) fn status(&self) -> Vec<serde_json::Value> {
        let ran = self.run(&["status", "--json"]);
        serde_json::from_slice(&ran.stdout).unwrap_or_default()
    }

    /// Waits until a node leads, and returns its id.
    #[track_caller]
    pub(crate) fn leader(&self) -> usize {
        eventually("a node leads", || {
            let leader = self.status().into_iter().find(|status| status["role"] == "leader")?;
            leader["id"].as_u64().and_then(|id| usize::try_from(id).ok())
        })
    }
}

/// A node in a process of its own; killed when it is dropped.
pub(crate) struct NodeProcess {
    child: Child,
    log: PathBuf,
    /// Where it serves HTTP, if it does.
    http: Option<String>,
}

impl NodeProcess {
    /// Starts a node, and returns when it listens, or with what it said when it ended instead.
    pub(crate) fn start(args: &[String], log: &Path) -> Result<NodeProcess, String> {
        let child = Command::new(PROGRAM)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log).expect("a log file"))
            .spawn()
            .expect("the program starts");
        let mut node = NodeProcess { child, log: log.to_owned(), http: None };
        let stdout = node.child.stdout.take().expect("it is piped");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            sender.send(line)
        });
        match receiver.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("ready: ") => {
                let http = line.trim_end().split_once(", serves HTTP on ");
                node.http = http.map(|(_, address)| address.to_owned());
                Ok(node)
            }
            _ => Err(node.logged()),
        }
    }

    /// What it has said on stderr.
    pub(crate) fn logged(&self) -> String {
        let mut text = String::new();
        let file = File::open(&self.log);
        let _ = file.and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(name, self.child.id()).expect("a shell");
    }

    /// Waits until it has ended, and returns its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        eventually("the node ends", || self.child.try_wait().expect("it is our child")).code()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that is free now.
pub(crate) fn free_address() -> String {
    free_members(1).replacen("1=", "", 1)
}

/// Members `1` to `count` on ports that are free now.
pub(crate) fn free_members(count: usize) -> String {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
        .collect();
    let members = (1..).zip(&listeners).map(|(id, listener): (usize, _)| {
        format!("{id}={}", listener.local_addr().expect("it is bound"))
    });
    members.collect::<Vec<_>>().join(",")
}
