//! The command line: what can be said, and what is done about it.

mod bench;
mod clients;
mod lease;
mod members;
mod recover;
mod status;
mod transact;
mod view;
mod watch;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use raft_rsm::raft_core::NodeId;
use raft_rsm::{Begin, Cluster, check_address};

use crate::connect::Consistency;
use crate::failure::{Failure, one_line};
use crate::limits::Limits;
use crate::node::is_every_address;
use crate::{demo, http, node};

const ABOUT: &str = "A replicated, versioned key/value store: nodes, a client, and a demonstration";

const AFTER_HELP: &str = "\
Try it:
  kv-example demo

A cluster of three on one machine (each node in a terminal of its own):
  CLUSTER=1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103
  kv-example node --id 1 --cluster $CLUSTER --data node1 --init
  kv-example node --id 2 --cluster $CLUSTER --data node2 --init
  kv-example node --id 3 --cluster $CLUSTER --data node3 --init
  kv-example put --cluster $CLUSTER greeting hello
  kv-example get --cluster $CLUSTER greeting

Exit codes:
  0  it was done
  1  the cluster said no: a key is absent, a version is wrong
  2  the command was used wrongly, or a file, a port or a majority of the nodes is missing";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "kv-example", version, about = ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Import a text into three nodes, kill the leader half-way, and compare all that is left
    Demo(DemoArgs),
    /// Run one node of a cluster until it is told to stop
    Node(NodeArgs),
    /// Write a value, and print the key's new version
    Put(PutArgs),
    /// Print the value of a key
    Get(GetArgs),
    /// Delete a key, and print the version that it had
    Delete(DeleteArgs),
    /// Print the keys that begin with a prefix, and their values
    Scan(ScanArgs),
    /// Write several keys at one moment, if their versions are as expected
    Txn(transact::TransactArgs),
    /// Grant a lease, keep it alive, end it, or show it: keys that are tied to it end with it
    Lease(lease::LeaseArgs),
    /// Print what happens to the keys that begin with a prefix, as it happens
    Watch(watch::WatchArgs),
    /// Write a text file into the store, a key a line
    Import(ImportArgs),
    /// Print the text that was imported, byte for byte
    Export(ExportArgs),
    /// Put a load on the cluster, and say how many requests it answered, how soon, and how not
    Bench(bench::BenchArgs),
    /// Print how each node of the cluster is doing
    Status(StatusArgs),
    /// Print who the members are, and how far each has got
    Members(members::MembersArgs),
    /// Let a node in, make a learner a voter, or write a new address down
    Add(members::AddArgs),
    /// Let a member go
    Remove(members::RemoveArgs),
    /// Hand the lead over to another node
    Transfer(members::TransferArgs),
    /// Have nodes take a snapshot, and cut their logs
    Snapshot(members::SnapshotArgs),
    /// Begin a new cluster with what the last survivor has
    Recover(recover::RecoverArgs),
}

/// Which cluster, and how long to try.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// The nodes and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Give up after this many seconds without an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Three nodes start in this process, on ports of the loopback interface and disks of their own. A text of \
1 MB that is part of the program is imported. Half-way the leader is stopped without ceremony; the other \
two elect a new one and the import goes on. The stopped node starts again and catches up. Then each \
node's own state is compared with the text. The exit code is 0 only if every byte is there.")]
struct DemoArgs {
    /// Keep the nodes' disks in this directory, which must not exist yet [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Lines in flight at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = window)]
    window: NonZeroUsize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  CLUSTER=1=10.0.0.1:7101,2=10.0.0.2:7101,3=10.0.0.3:7101
  kv-example node --id 1 --cluster $CLUSTER --data /var/lib/kv --init    # the first start
  kv-example node --id 1 --cluster $CLUSTER --data /var/lib/kv           # every other one
  kv-example node --id 4 --cluster $CLUSTER --data /var/lib/kv --listen 10.0.0.4:7101 --join
                                                    # a node more; then `kv-example add` lets it in

The first start of a node needs --init, --join or --rejoin, and no other start may have one of them: an empty directory \
is either a new node or a lost disk, and only you know which. --init is for the nodes that begin a cluster together. \
A node that joins asks the others which cluster it is, and takes part in nothing until it is added. A node that has lost \
its disk has forgotten what it promised, so it must not come back as if nothing had happened: --rejoin starts it \
with an empty directory, and it is added again.

The first start of the first nodes has to give all of them the same cluster. Later on a node knows from its disk where it \
belongs, and its cluster may be another one: it says where this node listens, unless --listen does, and where others \
may be found.

The line `ready: ...` on stdout says that the node listens. What it does is logged to stderr; RUST_LOG \
chooses how much (error, warn, info, debug, trace). SIGTERM and SIGINT stop it in good order.")]
struct NodeArgs {
    /// This node's id in the cluster
    #[arg(long, value_name = "ID")]
    id: u64,
    /// The nodes and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Listen here [default: where the cluster says]
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen: Option<String>,
    /// Tell the others to reach this node here [default: where it listens]
    #[arg(long, value_name = "HOST:PORT", value_parser = reachable)]
    advertise: Option<String>,
    /// The directory with this node's log and snapshots
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// This is the first start, of a node that begins the cluster together with others: create the directory
    #[arg(long, conflicts_with_all = ["join", "rejoin"])]
    init: bool,
    /// This is the first start, of a node that is to be added to a cluster that runs: create the directory
    #[arg(long, conflicts_with = "rejoin")]
    join: bool,
    /// The node has lost its disk and is to be added again: create the directory
    #[arg(long)]
    rejoin: bool,
    /// Take a snapshot, and cut the log, each time that the log has grown by so many bytes
    #[arg(long, value_name = "BYTES", default_value_t = node::SNAPSHOT_LOG_BYTES,
        value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_log_bytes: u64,
    /// Let the leader answer `--consistency lease` by itself, and rely on clocks that gain or lose no more than N millionths:
    /// the same for all nodes, and nobody may ask by lease while some run without [default: no leases]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..500_000))]
    lease_drift_ppm: Option<u32>,
    /// Serve HTTP here, too: see kv-example/docs/http.md [default: nowhere]
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    http: Option<String>,
    /// Tell the clients of other nodes to reach HTTP here [default: where it is served]
    #[arg(long, value_name = "HOST:PORT", value_parser = reachable, requires = "http")]
    http_advertise: Option<String>,
    /// Let in so many HTTP connections at once; beyond it, the one that has been quiet for longest is closed
    #[arg(long, value_name = "N", default_value_t = http::CONNECTIONS_MAX, requires = "http",
        value_parser = connections)]
    http_connections_max: usize,
    /// Refuse keys of more bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().key_bytes_max)]
    key_bytes_max: usize,
    /// Refuse values of more bytes
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().value_bytes_max)]
    value_bytes_max: usize,
    /// Remember so many bytes of what has happened lately, for those who watch: a watch that comes later than that is told so
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().history_bytes_max)]
    history_bytes: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv-example put --cluster $CLUSTER greeting hello                # whatever the key holds now
  kv-example put --cluster $CLUSTER greeting hello --version 0    # only if there is no such key
  kv-example put --cluster $CLUSTER greeting 'good day' --version 1
  kv-example put --cluster $CLUSTER -- balance -5                 # a value that begins with a dash
  kv-example put --cluster $CLUSTER --lease $LEASE worker alive   # gone when the lease ends

Without --version, the current version is read first: if somebody else writes in between, nothing is \
written, and the exit code is 1.")]
struct PutArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The key
    key: String,
    /// The value
    value: OsString,
    /// Write only if the key has this version; 0: only if it does not exist
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Tie the key to this lease (see `lease`) [default: to none]
    #[arg(long, value_name = "LEASE")]
    lease: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The value is printed as it is, followed by a line feed. The exit code is 1 if there is no such key.

Consistency:
  linearizable  everything that was written before, whoever wrote it; needs a majority
  lease         the same, sooner, as long as the nodes' clocks are as good as --lease-drift-ppm of `node` says
  stale         whatever the first node that answers has; needs only that node")]
struct GetArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The key
    key: String,
    /// How fresh the answer has to be
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    consistency: Consistency,
    /// Print an object with key, version, the revisions `created` and `modified`, the lease if there is one, value_base64, and
    /// value where that is text: the same as over HTTP
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "The exit code is 1 if there is no such key, or if it has another version.")]
struct DeleteArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The key
    key: String,
    /// Delete only if the key has this version
    #[arg(long, value_name = "N")]
    version: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each line has key, version and value, with tabs between; what is not printable is escaped as in \\n or \\xff. \
Keys come in the order of their bytes. The exit code is 0 even if there are none.")]
struct ScanArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only keys that begin with this [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How fresh each page has to be, as for `get`
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    consistency: Consistency,
    /// Print an object a line, as `get --json` does
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kv-example import --cluster $CLUSTER book.txt --window 128
  kv-example export --cluster $CLUSTER | cmp - book.txt

Line 1 becomes the key 0000000001, and so on; the key `import` tells how many there are and how the text \
ends. An import that broke off may be run again: it goes on where lines are missing. An earlier text is replaced.")]
struct ImportArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The text: any bytes, cut at line feeds
    file: PathBuf,
    /// Lines in flight at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = window)]
    window: NonZeroUsize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is 1 if there is no text in the store, or only a part of one.")]
struct ExportArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each node speaks for itself: one that was cut off may still take itself, or a dead one, for the leader, in an older \
term. `last` is the last entry of its log: of two logs the one with the higher term there is the newer one, whatever the \
indexes. `log` is how many bytes it takes on disk, `refused` how much the node had to refuse since it was started: \
--json says what. Members are shown also where --cluster does not name them. The exit code is 2 if no node can be reached.")]
struct StatusArgs {
    /// The nodes and where they listen: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Give a node up after this many seconds without an answer
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    timeout: Duration,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// Reads the command line, does what it says, and returns the exit code. What goes wrong is told on stderr.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match act(cli.action).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

async fn act(action: Action) -> Result<(), Failure> {
    match action {
        Action::Demo(args) => {
            demo::run(demo::Options { data: args.data, window: args.window }).await
        }
        Action::Node(args) => node::run(node_options(args)?).await,
        Action::Put(args) => clients::put(args).await,
        Action::Get(args) => clients::get(args).await,
        Action::Delete(args) => clients::delete(args).await,
        Action::Scan(args) => clients::scan(args).await,
        Action::Txn(args) => transact::transact(args).await,
        Action::Lease(args) => lease::lease(args).await,
        Action::Watch(args) => watch::watch(args).await,
        Action::Import(args) => clients::import(args).await,
        Action::Export(args) => clients::export(args).await,
        Action::Bench(args) => bench::bench(args).await,
        Action::Status(args) => status::status(args).await,
        Action::Members(args) => members::members(args).await,
        Action::Add(args) => members::add(args).await,
        Action::Remove(args) => members::remove(args).await,
        Action::Transfer(args) => members::transfer(args).await,
        Action::Snapshot(args) => members::snapshot(args).await,
        Action::Recover(args) => recover::recover(args).await,
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if error.kind() == ErrorKind::ValueValidation {
        // The rest is advice that a wrong value does not need: this says what is wrong and what is expected, in one
        // line whatever the value.
        eprintln!("{}", one_line(text.split("\n\n").next().unwrap_or_default()));
    } else {
        // A closed stdout is no reason for another exit code.
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn node_options(args: NodeArgs) -> Result<node::Options, Failure> {
    let NodeArgs {
        id,
        cluster,
        listen,
        advertise,
        data,
        init,
        join,
        rejoin,
        snapshot_log_bytes,
        lease_drift_ppm,
        http,
        http_advertise,
        http_connections_max,
        key_bytes_max,
        value_bytes_max,
        history_bytes,
    } = args;
    let limits = Limits { key_bytes_max, value_bytes_max, history_bytes_max: history_bytes };
    limits.check_possible().map_err(Failure::environment)?;
    let begin = match (init, join || rejoin) {
        (true, _) => Begin::Anew,
        (false, true) => Begin::Join,
        (false, false) => Begin::Again,
    };
    let http = http.map(|listen| http::Options {
        listen,
        advertise: http_advertise,
        connections_max: http_connections_max,
    });
    Ok(node::Options {
        http,
        listen,
        advertise,
        begin,
        snapshot_log_bytes,
        lease_drift_ppm,
        limits,
        ..node::Options::new(NodeId(id), cluster, data)
    })
}

/// Each line in flight is held in memory.
fn window(text: &str) -> Result<NonZeroUsize, String> {
    const WINDOW_MAX: usize = 4096;
    match text.parse::<NonZeroUsize>() {
        Ok(window) if window.get() <= WINDOW_MAX => Ok(window),
        Ok(_) | Err(_) => Err(format!("expected a number from 1 to {WINDOW_MAX}")),
    }
}

/// Each has its buffers and a file descriptor.
fn connections(text: &str) -> Result<usize, String> {
    const CONNECTIONS_POSSIBLE: usize = 65_536;
    match text.parse::<usize>() {
        Ok(connections) if (1..=CONNECTIONS_POSSIBLE).contains(&connections) => Ok(connections),
        Ok(_) | Err(_) => Err(format!("expected a number from 1 to {CONNECTIONS_POSSIBLE}")),
    }
}

/// Checked here, so that a mistake is told before a data directory is created.
fn address(text: &str) -> Result<String, String> {
    check_address(text)
        .map(|()| text.to_owned())
        .map_err(|problem| format!("{problem}; expected HOST:PORT"))
}

/// An address that others are to be told.
fn reachable(text: &str) -> Result<String, String> {
    let address = address(text)?;
    match is_every_address(&address) {
        true => Err("that is every address of whichever machine, so nobody finds the node there; \
                     expected HOST:PORT of its own"
            .to_owned()),
        false => Ok(address),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(_) | Err(_) => Err(format!("expected a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_may_begin_with_a_dash_after_two_of_them_and_a_version_may_stand_anywhere() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "kv-example put --cluster 1=a:1 k v --version 3",
            "kv-example put --version 3 --cluster 1=a:1 k v",
            "kv-example put k v --cluster 1=a:1 --version 3",
            "kv-example put --version=3 --cluster 1=a:1 -- k -v",
        ] {
            let Action::Put(args) = parse(line).unwrap().action else { panic!("{line}") };
            assert_eq!((args.key.as_str(), args.version), ("k", Some(3)), "{line}");
        }
        assert!(parse("kv-example put --cluster 1=a:1 k v --version -1").is_err());
        assert!(parse("kv-example import --cluster 1=a:1 f --window 0").is_err());
    }
}
