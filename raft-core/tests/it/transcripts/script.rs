//! Carries a script out.

use std::collections::BTreeSet;

use raft_core::{Configuration, LogIndex, NodeId, Options, Role, Term};

use crate::harness::*;
use crate::transcripts::print::Printer;

/// The script with what the nodes do now below each command.
pub(super) fn tell(script: &str) -> String {
    let mut story = Story::default();
    let mut told = String::new();
    let mut below_a_command = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            told += &format!("{line}\n");
            story.command(command);
            for line in story.printer.lines(story.cluster.as_mut().expect("`nodes` comes first")) {
                told += &format!("  {line}\n");
            }
            below_a_command = true;
        } else if !(below_a_command && line.starts_with("  ")) {
            told += &format!("{line}\n");
            below_a_command = false;
        }
    }
    told
}

#[derive(Default)]
struct Story {
    options: Vec<(String, u64)>,
    cluster: Option<Cluster>,
    printer: Printer,
}

impl Story {
    fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("`nodes` comes first")
    }

    fn command(&mut self, command: &str) {
        let mut words = command.split_whitespace();
        let name = words.next().expect("a command");
        let words: Vec<&str> = words.collect();
        match name {
            "nodes" => self.nodes(&words),
            "disk" => self.disk(&words),
            "timeout" => {
                for id in self.some(&words) {
                    self.cluster().at(id).time_out();
                }
            }
            "tick" => {
                let milliseconds = number(words[0]);
                for id in self.some(&words[1..]) {
                    self.cluster().at(id).tick(milliseconds);
                }
            }
            "deliver" | "drop" => self.deliver(name == "deliver", words.first().copied()),
            "cut" => self.cut(&words),
            "heal" => self.cluster().heal(),
            "persist" => {
                for id in self.some(&words) {
                    self.cluster().at(id).persist();
                }
            }
            "read" => {
                for id in self.some(&words) {
                    self.cluster().at(id).read_all();
                }
            }
            "propose" => {
                let id = number(words[0]);
                let text = words[1..].join(" ");
                let result = self.cluster().at(id).node.propose(text.into());
                if let Err(error) = result {
                    self.printer.note(format!("{id} refuses: {error}"));
                }
                self.cluster().at(id).drain();
            }
            "change" => {
                let id = number(words[0]);
                let result = self.cluster().at(id).change(&words[1..].join(" "));
                if let Err(error) = result {
                    self.printer.note(format!("{id} refuses: {error}"));
                }
            }
            "snapshot" => self.cluster().at(number(words[0])).take_snapshot(number(words[1])),
            "transfer" => {
                let through = self.cluster().send_snapshots(number(words[0]));
                assert!(through, "no snapshot is wanted");
            }
            "crash" => {
                for id in self.some(&words) {
                    self.cluster().kill(id);
                }
            }
            "restart" => {
                for id in words.iter().map(|word| number(word)) {
                    self.cluster().restart(id);
                    self.printer.restarted(id);
                }
            }
            "settle" => self.run(0),
            "run" => self.run(number(words[0])),
            _ => panic!("no such command: {command}"),
        }
    }

    /// The nodes named, else all that live.
    fn some(&mut self, words: &[&str]) -> Vec<u64> {
        let cluster = self.cluster();
        match words {
            [] => cluster.replicas.keys().copied().filter(|id| cluster.is_alive(*id)).collect(),
            _ => words.iter().map(|word| number(word)).collect(),
        }
    }

    fn nodes(&mut self, words: &[&str]) {
        let count = number(words[0]);
        let (spares, options): (Vec<&str>, Vec<&str>) =
            words[1..].iter().partition(|word| word.starts_with("spares="));
        let spares = spares.first().map_or(0, |word| option(word).1);
        self.options = options.into_iter().map(option).collect();
        let start = |id| {
            let known = if id <= count { voters(count) } else { Configuration::default() };
            Replica::start(self.options(id), Disk::empty(known))
        };
        self.cluster = Some(Cluster::new((1..=count + spares).map(start)));
    }

    fn options(&self, id: u64) -> Options {
        let mut options = Options::new(NodeId(id));
        for (name, value) in &self.options {
            let size = usize::try_from(*value).expect("a small number");
            let limits = &mut options.limits;
            match name.as_str() {
                "pre_vote" => options.pre_vote = *value > 0,
                "check_quorum" => options.check_quorum = *value > 0,
                "kept" => limits.kept_entries_max = size,
                "message_entries" => limits.message_entries_max = size,
                "window" => limits.inflight_messages_max = size,
                _ => panic!("no such option: {name}"),
            }
        }
        options
    }

    fn disk(&mut self, words: &[&str]) {
        let id = number(words[0]);
        let count = self.cluster().replicas.len() as u64;
        let mut disk = Disk::empty(voters(count));
        for word in &words[1..] {
            let (name, value) = word.split_once('=').expect("name=value");
            match name {
                "log" => disk.entries = entries(0, &terms(value)),
                "term" => disk.hard_state.term = Term(number(value)),
                "vote" => disk.hard_state.vote = Some(voted(number(value))),
                "commit" => disk.hard_state.commit = LogIndex(number(value)),
                _ => panic!("no such part of a disk: {name}"),
            }
        }
        let replica = Replica::start(self.options(id), disk);
        self.cluster().replicas.insert(id, replica);
        self.printer.restarted(id);
    }

    fn deliver(&mut self, arrives: bool, way: Option<&str>) {
        let way = way.map(|way| {
            let (from, to) = way.split_once("->").expect("from->to");
            (number(from), number(to))
        });
        let cluster = self.cluster();
        let wire = core::mem::take(&mut cluster.wire);
        let (now, later) = wire
            .into_iter()
            .partition(|envelope| way.is_none_or(|way| way == (envelope.from.0, envelope.to.0)));
        cluster.wire = now;
        let mut lost = Vec::new();
        let is_lost = |cluster: &Cluster, from: u64, to: u64| {
            !arrives || cluster.cut.contains(&(from, to)) || !cluster.is_alive(to)
        };
        for envelope in &cluster.wire {
            if is_lost(cluster, envelope.from.0, envelope.to.0) {
                lost.push(envelope.clone());
            }
        }
        if arrives {
            let envelopes = core::mem::take(&mut cluster.wire);
            for envelope in envelopes {
                let (from, to) = (envelope.from.0, envelope.to.0);
                if !is_lost(cluster, from, to) {
                    cluster.at(to).step(raft_core::Input::Receive(envelope));
                }
            }
        }
        cluster.wire = later;
        for envelope in lost {
            self.printer.lost(&envelope);
        }
    }

    fn cut(&mut self, words: &[&str]) {
        let at = words.iter().position(|word| *word == "from").expect("cut .. from ..");
        for a in words[..at].iter().map(|word| number(word)) {
            for b in words[at + 1..].iter().map(|word| number(word)) {
                self.cluster().cut.extend([(a, b), (b, a)]);
            }
        }
    }

    /// Prints what comes of it, and not each message.
    fn run(&mut self, milliseconds: u64) {
        let cluster = self.cluster.as_mut().expect("`nodes` comes first");
        cluster.settle();
        cluster.run(milliseconds);
        let leaders: BTreeSet<u64> = cluster.leaders().into_iter().collect();
        for id in &leaders {
            assert_eq!(cluster.at(*id).node.role(), Role::Leader);
        }
        self.printer.skip_messages(cluster);
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("a number, not {word}"))
}

fn option(word: &str) -> (String, u64) {
    let (name, value) = word.split_once('=').expect("name=value");
    let value = match value {
        "on" => 1,
        "off" => 0,
        other => number(other),
    };
    (name.to_owned(), value)
}

/// `1*3,4` is three entries of term 1 and one of term 4.
fn terms(text: &str) -> Vec<u64> {
    let runs = text.split(',').filter(|run| !run.is_empty());
    let runs = runs.flat_map(|run| {
        let (term, count) = run.split_once('*').unwrap_or((run, "1"));
        vec![number(term); usize::try_from(number(count)).expect("a small number")]
    });
    runs.collect()
}
