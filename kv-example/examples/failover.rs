//! How long clients wait when the leader dies, and when it hands the lead over.
//!
//! ```sh
//! cargo run --release -p kv-example --example failover            # 20 of each
//! cargo run --release -p kv-example --example failover -- 100
//! ```
//!
//! Three nodes run in processes of their own, at default settings, on the loopback interface and a temporary
//! directory. A client writes without a pause. The outage is the longest time between two acknowledgements while
//! the leader is killed by `kill -9`, or the lead is transferred: what it takes at rest is in it.

use std::error::Error;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv_example::clerk::{Clerk, PutError};
use kv_example::connect::{connect, within};
use kv_example::store::{Store, Version};
use raft_rsm::raft_core::{NodeId, Role};
use raft_rsm::{Client, Status};

const NODES: u64 = 3;
const ROUNDS: usize = 20;
/// Nothing takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to look before and after each event.
const AROUND: Duration = Duration::from_millis(300);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // The nodes are this program, too, so that there is nothing to look for.
    if arguments.get(1).is_some_and(|first| first == "node") {
        return kv_example::cli::run(arguments).await;
    }
    match measure(&arguments[1..]).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::from(2)
        }
    }
}

async fn measure(arguments: &[OsString]) -> Outcome<()> {
    let rounds = match arguments {
        [] => ROUNDS,
        [rounds] => rounds.to_string_lossy().parse()?,
        _ => return Err("usage: failover [ROUNDS]".into()),
    };
    let mut cluster = Cluster::start()?;
    let client = connect(&cluster.members.parse()?, within(PATIENCE))?;
    let acknowledged = Acknowledged::default();
    tokio::spawn(write(client.clone(), acknowledged.clone()));

    let mut kills = Vec::new();
    for _ in 0..rounds {
        let leader = settled(&client).await?;
        let begin = Instant::now();
        tokio::time::sleep(AROUND).await;
        cluster.kill(leader)?;
        kills.push(acknowledged.longest_pause(begin).await?);
        cluster.run(leader, false)?;
    }
    print("kill -9 of the leader", kills);

    let mut transfers = Vec::new();
    for _ in 0..rounds {
        settled(&client).await?;
        let begin = Instant::now();
        tokio::time::sleep(AROUND).await;
        client.transfer_leadership(None).await?;
        transfers.push(acknowledged.longest_pause(begin).await?);
    }
    print("transfer of the lead", transfers);
    Ok(())
}

/// Writes one value after the other until one fails: then there are no more acknowledgements, which is noticed.
async fn write(client: Client<Store>, acknowledged: Acknowledged) {
    let (clerk, mut version) = (Clerk::new(client), Version::ABSENT);
    loop {
        match clerk.put("key", Bytes::from_static(b"value"), version).await {
            Ok(written) => version = written,
            Err(PutError::Maybe) => version = Version(version.0 + 1),
            Err(error) => {
                eprintln!("failover: a write failed: {error}");
                return;
            }
        }
        acknowledged.times().push(Instant::now());
    }
}

/// When writes were acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Vec<Instant>>>);

impl Acknowledged {
    fn times(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest time between two acknowledgements since `begin`, once they have come for a while again.
    async fn longest_pause(&self, begin: Instant) -> Outcome<Duration> {
        let event = Instant::now();
        loop {
            tokio::time::sleep(AROUND).await;
            let mut times = self.times();
            times.retain(|at| *at >= begin);
            let is_back = times.last().is_some_and(|last| *last > event + AROUND / 2);
            if is_back {
                let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
                return pauses.max().ok_or_else(|| "nothing was acknowledged".into());
            }
            if event.elapsed() > PATIENCE {
                return Err("writes do not go on".into());
            }
        }
    }
}

/// Waits until all nodes have what the leader has, and returns the leader.
async fn settled(client: &Client<Store>) -> Outcome<NodeId> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let mut statuses: Vec<Status> = Vec::new();
        for id in 1..=NODES {
            statuses.extend(client.status(NodeId(id)).await);
        }
        let leader = statuses.iter().find(|status| status.role == Role::Leader);
        if let Some(leader) = leader {
            let near =
                |s: &Status| s.leader == Some(leader.id) && s.applied.0 + 64 >= leader.applied.0;
            if statuses.len() as u64 == NODES && statuses.iter().all(near) {
                return Ok(leader.id);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("the cluster does not come to rest".into())
}

struct Cluster {
    members: String,
    dir: tempfile::TempDir,
    nodes: Vec<(NodeId, Child)>,
}

impl Cluster {
    fn start() -> Outcome<Cluster> {
        let listeners: Vec<_> =
            (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let addresses: Vec<_> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let members = (1..).zip(addresses).map(|(id, address): (u64, _)| format!("{id}={address}"));
        let members = members.collect::<Vec<_>>().join(",");
        drop(listeners);
        let mut cluster = Cluster { members, dir: tempfile::tempdir()?, nodes: Vec::new() };
        for id in 1..=NODES {
            cluster.run(NodeId(id), true)?;
        }
        Ok(cluster)
    }

    fn run(&mut self, id: NodeId, init: bool) -> Outcome<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--id", &id.to_string(), "--cluster", &self.members, "--data"]);
        command.arg(Path::new(self.dir.path()).join(id.to_string()));
        if init {
            command.arg("--init");
        }
        command.env("RUST_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null());
        self.nodes.push((id, command.spawn()?));
        Ok(())
    }

    fn kill(&mut self, id: NodeId) -> Outcome<()> {
        for (_, node) in self.nodes.iter_mut().filter(|(node, _)| *node == id) {
            node.kill()?;
            node.wait()?;
        }
        self.nodes.retain(|(node, _)| *node != id);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, node) in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn print(event: &str, mut pauses: Vec<Duration>) {
    pauses.sort_unstable();
    let rank = |percent: usize| pauses.get((pauses.len() * percent).div_ceil(100).max(1) - 1);
    let millis = |pause: Option<&Duration>| pause.map_or(0.0, |pause| pause.as_secs_f64() * 1e3);
    println!(
        "{event}: {} times; the longest pause in ms: min {:.1}, median {:.1}, p90 {:.1}, p99 {:.1}, max {:.1}",
        pauses.len(),
        millis(pauses.first()),
        millis(rank(50)),
        millis(rank(90)),
        millis(rank(99)),
        millis(pauses.last()),
    );
}
