//! The machine that most of these tests replicate, and machines that are not fit to be replicated.

use std::collections::BTreeMap;
use std::io;

use raft_rsm::{Context, SnapshotView, StateMachine};
use raft_sim::model::machine::Decoded;
use raft_sim::{Operation, Random, Requests};
use serde::{Deserialize, Serialize};

/// Accounts with their balances. To carry out a command twice is not the same as once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    balances: BTreeMap<u8, u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Answered with the new balance.
    Deposit { account: u8, amount: u64 },
    /// Answered with the last balance.
    Close { account: u8 },
}

impl StateMachine for Accounts {
    type Command = Command;
    type Response = u64;
    /// Which account.
    type Query = u8;
    type Answer = Option<u64>;

    fn apply(&mut self, _: &Context, command: Command) -> u64 {
        match command {
            Command::Deposit { account, amount } => {
                let balance = self.balances.entry(account).or_default();
                *balance += amount;
                *balance
            }
            Command::Close { account } => self.balances.remove(&account).unwrap_or(0),
        }
    }

    fn query(&self, account: u8) -> Option<u64> {
        self.balances.get(&account).copied()
    }

    fn snapshot(&self) -> Box<dyn SnapshotView> {
        let balances = self.balances.clone();
        Box::new(move |image: &mut dyn io::Write| {
            image.write_all(&postcard::to_allocvec(&balances).unwrap())
        })
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        self.balances = read(image)?;
        Ok(())
    }
}

fn read(image: &mut dyn io::Read) -> io::Result<BTreeMap<u8, u64>> {
    let mut bytes = Vec::new();
    image.read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Has a machine beside its own, and differs from it in some way.
macro_rules! as_accounts {
    () => {
        type Command = Command;
        type Response = u64;
        type Query = u8;
        type Answer = Option<u64>;

        fn query(&self, account: u8) -> Option<u64> {
            self.accounts.query(account)
        }

        fn snapshot(&self) -> Box<dyn SnapshotView> {
            self.accounts.snapshot()
        }
    };
}

/// Pays a bonus with every tenth deposit since the process was started: what others have applied before, or what a
/// snapshot held, it does not know.
#[derive(Clone, Debug, Default)]
pub(crate) struct PaysABonus {
    accounts: Accounts,
    deposits: u64,
}

impl StateMachine for PaysABonus {
    as_accounts!();

    fn apply(&mut self, context: &Context, mut command: Command) -> u64 {
        if let Command::Deposit { amount, .. } = &mut command {
            self.deposits += 1;
            *amount += u64::from(self.deposits.is_multiple_of(10));
        }
        self.accounts.apply(context, command)
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        self.accounts.restore(image)
    }
}

/// Keeps what it has when a snapshot is put in its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merges {
    accounts: Accounts,
}

impl StateMachine for Merges {
    as_accounts!();

    fn apply(&mut self, context: &Context, command: Command) -> u64 {
        self.accounts.apply(context, command)
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        self.accounts.balances.extend(read(image)?);
        Ok(())
    }
}

/// Cannot stand a certain sort of command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panics {
    accounts: Accounts,
}

impl StateMachine for Panics {
    as_accounts!();

    fn apply(&mut self, context: &Context, command: Command) -> u64 {
        if let Command::Deposit { amount, .. } = &command {
            assert!(amount % 50 != 7, "an amount that nobody has thought of");
        }
        self.accounts.apply(context, command)
    }

    fn restore(&mut self, image: &mut dyn io::Read) -> io::Result<()> {
        self.accounts.restore(image)
    }
}

pub(crate) fn draw(random: &mut Random) -> Command {
    let account = u8::try_from(random.index(4)).unwrap();
    match random.index(8) {
        0 => Command::Close { account },
        _ => Command::Deposit { account, amount: random.within(1..1_000_000_000) },
    }
}

fn account(command: &Command) -> u8 {
    match command {
        Command::Deposit { account, .. } | Command::Close { account } => *account,
    }
}

/// Deposits, and at times a look at an account, or the end of one.
pub(crate) fn requests<M>() -> Requests<M>
where
    M: StateMachine<Command = Command, Response = u64, Query = u8, Answer = Option<u64>>,
{
    let requests = Requests::new(|random| match random.chance(0.3) {
        true => Operation::Query(u8::try_from(random.index(4)).unwrap()),
        false => Operation::Command(draw(random)),
    });
    requests.model(|model| {
        model.by_key(|request: &Decoded<M>| {
            Some(match request {
                Decoded::Command(command) => account(command).to_string(),
                Decoded::Query(account) => account.to_string(),
            })
        })
    })
}
