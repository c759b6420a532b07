//! A state machine of one's own in the simulator, with two bugs to be had for the asking:
//!
//! ```text
//! cargo run --release -p raft-sim --example inventory -- --seeds 0..200
//! INVENTORY_BUG=merge cargo run --release -p raft-sim --example inventory -- --seeds 0..200
//! INVENTORY_BUG=chance cargo run --release -p raft-sim --example inventory -- --seeds 0..200
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::process::ExitCode;

use raft_rsm::{Context, SnapshotView, StateMachine};
use raft_sim::{Operation, Requests};
use serde::{Deserialize, Serialize};

/// More items than this and one has to go.
const ITEMS_MAX: usize = 6;

/// How many there are of each item.
#[derive(Default)]
struct Inventory {
    items: BTreeMap<String, u64>,
    bug: Option<Bug>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Bug {
    /// A restore that merges: what was removed comes back.
    Merge,
    /// An `apply` that is not deterministic: the order of a hash map decides.
    Chance,
}

#[derive(Debug, Serialize, Deserialize)]
enum Command {
    Set { item: String, count: u64 },
    Remove { item: String },
}

impl StateMachine for Inventory {
    type Command = Command;
    /// How many there were before.
    type Response = Option<u64>;
    /// Which item.
    type Query = String;
    type Answer = Option<u64>;

    fn apply(&mut self, _: &Context, command: Command) -> Option<u64> {
        match command {
            Command::Remove { item } => self.items.remove(&item),
            Command::Set { item, count } => {
                let before = self.items.insert(item, count);
                if self.items.len() > ITEMS_MAX {
                    let first = match self.bug {
                        Some(Bug::Chance) => self.any_item(),
                        Some(Bug::Merge) | None => self.items.keys().next().cloned(),
                    };
                    first.map(|first| self.items.remove(&first));
                }
                before
            }
        }
    }

    fn query(&self, item: String) -> Option<u64> {
        self.items.get(&item).copied()
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let items = self.items.clone();
        Box::new(move |image: &mut dyn io::Write| {
            let bytes = postcard::to_allocvec(&items).map_err(io::Error::other)?;
            image.write_all(&bytes)
        })
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes)?;
        let items: BTreeMap<String, u64> =
            postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        if self.bug != Some(Bug::Merge) {
            self.items.clear();
        }
        self.items.extend(items);
        Ok(())
    }
}

impl Inventory {
    /// Whichever comes first in a hash map: another one on each node.
    fn any_item(&self) -> Option<String> {
        let items: HashMap<&String, &u64> = self.items.iter().collect();
        items.into_keys().next().cloned()
    }
}

fn main() -> ExitCode {
    let bug = match std::env::var("INVENTORY_BUG").as_deref() {
        Ok("merge") => Some(Bug::Merge),
        Ok("chance") => Some(Bug::Chance),
        Ok(_) | Err(_) => None,
    };
    let mut command = "cargo run --release -p raft-sim --example inventory --".to_owned();
    if let Some(bug) = bug {
        command = format!("INVENTORY_BUG={} {command}", format!("{bug:?}").to_lowercase());
    }
    let machine = move || Inventory { bug, ..Inventory::default() };
    raft_sim::cli::run(&command, machine, || {
        Requests::new(|random| {
            let item = format!("item {}", random.within(0..10));
            match random.index(4) {
                0 => Operation::Query(item),
                1 => Operation::Command(Command::Remove { item }),
                _ => Operation::Command(Command::Set { item, count: random.within(1..1000) }),
            }
        })
    })
}
