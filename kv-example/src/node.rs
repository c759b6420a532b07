//! One node of the store: a disk, a port, and the replica between them.

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use raft_rsm::raft_core::{Lease, NodeId};
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::storage::fs::StdFileSystem;
use raft_rsm::storage::{FileStorage, FileStorageOptions, StorageError};
use raft_rsm::transport::{BindError, TcpLimits, TcpOptions, TokioConnector, TokioTransport};
use raft_rsm::{Begin, Cluster, Raft, Runtime, ServeError, StateMachine, StopReason};
use tracing_subscriber::EnvFilter;

use crate::connect::{connect, within};
use crate::failure::Failure;
use crate::http;
use crate::limits::Limits;
use crate::store::{About, Store};

/// A snapshot is taken each time that the log has grown by so many bytes, unless the options say otherwise.
pub const SNAPSHOT_LOG_BYTES: u64 = 16 * MIB;

/// Files of the log are as long as what is between two snapshots, within these limits: compaction removes
/// whole files.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = MIB..=64 * MIB;

/// How long a node that starts waits for its former life to let go. The kernel needs some milliseconds to end a killed
/// process, more where it has much memory.
const LETTING_GO: Duration = Duration::from_secs(1);

/// A client that is sent to the leader waits this long until the leader has said where it serves HTTP.
const LEADER_ASKED_FOR: Duration = Duration::from_millis(500);

const MIB: u64 = 1024 * 1024;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its id in the cluster.
    pub id: NodeId,
    /// The members, and where they listen: for the first start all of them, for every other one those that may be found
    /// there.
    pub cluster: Cluster,
    /// Where it listens, if not where `cluster` says, `HOST:PORT`.
    pub listen: Option<String>,
    /// Where the others reach it, if not where it listens, `HOST:PORT`.
    pub advertise: Option<String>,
    /// Its data directory.
    pub data: PathBuf,
    /// Whether it has ever run, and where it belongs if not.
    pub begin: Begin,
    /// A snapshot is taken each time that the log has grown by so many bytes.
    pub snapshot_log_bytes: u64,
    /// How far the clock of any node may be off, in millionths: reads by lease rely on it. `None`: there are none.
    pub lease_drift_ppm: Option<u32>,
    /// How large a key and a value may be.
    pub limits: Limits,
    /// HTTP beside the binary protocol, if any.
    pub http: Option<http::Options>,
}

impl Options {
    /// The defaults for a node that runs with the directory `data`.
    #[must_use]
    pub fn new(id: NodeId, cluster: Cluster, data: PathBuf) -> Options {
        Options {
            id,
            cluster,
            listen: None,
            advertise: None,
            data,
            begin: Begin::Again,
            snapshot_log_bytes: SNAPSHOT_LOG_BYTES,
            lease_drift_ppm: None,
            limits: Limits::default(),
            http: None,
        }
    }

    /// Where the others reach it.
    fn reached(&self) -> Result<&str, Failure> {
        let reached = match self.advertise.as_deref() {
            Some(address) => address,
            None => self.address()?,
        };
        match is_every_address(reached) {
            true => Err(Failure::environment(format!(
                "nobody can reach a node at {reached}, which is every address of whichever machine; --advertise says where the others reach it"
            ))),
            false => Ok(reached),
        }
    }

    /// Where it listens.
    fn address(&self) -> Result<&str, Failure> {
        let Options { id, cluster, listen, .. } = self;
        if let Some(address) = listen.as_deref().or(cluster.address(*id)) {
            return Ok(address);
        }
        let members: Vec<_> = cluster.addresses().map(|(id, _)| id.to_string()).collect();
        let members = members.join(", ");
        Err(Failure::environment(format!(
            "node {id} is not in the cluster {cluster}, which has the nodes {members}; --listen says where a node listens that is not in it"
        )))
    }
}

/// Whether an address stands for every one of whichever machine, as `0.0.0.0:7101` does: one can listen there, and nobody
/// can be found there.
pub(crate) fn is_every_address(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "0" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_unspecified())
}

/// Runs a node until it is told to stop by SIGTERM or SIGINT, or stops by itself.
///
/// # Errors
/// It cannot start, or has stopped by itself.
pub async fn run(options: Options) -> Result<(), Failure> {
    log_to_stderr();
    // Whoever waits for the ready line may send a signal at once.
    let mut told_to_stop = Signals::new()
        .map_err(|error| Failure::environment(format!("cannot listen for signals: {error}")))?;
    let listening = match &options.http {
        Some(http) => Some(listen_for_http(http).await?),
        None => None,
    };
    let http = listening.as_ref().and_then(http::Listening::advertised);
    let about = About { http, ..About::default() };
    let raft = start(&options, Store::new(options.limits).on_node(about)).await?;
    let (id, address) = (options.id, options.address()?);
    let mut ready = format!("ready: node {id} listens on {address}");
    let mut serving = None;
    if let Some(listening) = listening {
        ready.push_str(&format!(", serves HTTP on {}", listening.address()));
        let others = connect(&options.cluster, within(LEADER_ASKED_FOR))?;
        serving = Some(listening.serve(raft.clone(), options.limits, others));
    }
    crate::output::say(&ready);
    if options.begin == Begin::Join {
        crate::output::say(&waits_to_be_added(&options, &raft)?);
    }
    let reason = tokio::select! {
        biased;
        reason = raft.stopped() => reason,
        signal = told_to_stop.next() => {
            tracing::info!(signal, "stopping");
            raft.shutdown().await;
            raft.stopped().await
        }
    };
    // Whoever waited for the replica has an answer now, which may be on its way.
    if let Some(serving) = serving {
        serving.stop().await;
    }
    if reason == StopReason::Shutdown {
        tracing::info!("stopped");
        return Ok(());
    }
    Err(Failure::environment(format!(
        "node {} with data directory {} has stopped: {reason}",
        options.id,
        options.data.display()
    )))
}

/// Opens the disk and the port of a node and starts it, on the tokio runtime of the caller. It serves clients when
/// this returns.
///
/// # Errors
/// It is not known where the node listens, or where one that joins is reached, the data directory is not what the options say, the port cannot be had.
/// Nothing runs then; where the data directory was to be created, it may have been.
pub async fn start<M: StateMachine>(options: &Options, machine: M) -> Result<Raft<M>, Failure> {
    let Options { id, cluster, advertise, data, snapshot_log_bytes, limits, begin, .. } = options;
    let address = options.address()?;
    if *begin == Begin::Join {
        // What it advertises is what the operator is told to write into the configuration.
        options.reached()?;
    }
    if *begin == Begin::Again && is_absent_or_empty(data) {
        return Err(Failure::environment(format!(
            "{}: there is no data of a node here; --init starts a node of a new cluster for the first time, --join one that is to be added to a cluster that runs, and --rejoin one that has lost its data",
            data.display()
        )));
    }
    let runtime = Arc::new(TokioRuntime::current().map_err(Failure::environment)?);
    if *begin != Begin::Again {
        check_port(address)?;
    }
    let give_up = tokio::time::Instant::now() + LETTING_GO;
    let storage = loop {
        match open(options, &runtime).await {
            Err(ServeError::Storage(StorageError::InUse { .. })) if wait_until(give_up).await => {}
            Err(error @ ServeError::RanBefore { .. }) => {
                return Err(Failure::environment(format!(
                    "{error}; --rejoin starts a node that has lost its disk"
                )));
            }
            opened => break opened.map_err(Failure::environment)?,
        }
    };
    let tcp = TcpOptions {
        identity: storage.identity(),
        listen: address.to_owned(),
        advertise: advertise.clone(),
        peers: cluster.clone(),
        limits: TcpLimits::default(),
    };
    let transport = loop {
        match TokioTransport::bind(tcp.clone(), Arc::clone(&runtime)) {
            Err(error) if is_in_use(&error) && wait_until(give_up).await => {}
            bound => break bound.map_err(Failure::environment)?,
        }
    };

    let mut raft_options = raft_rsm::Options::new(*id);
    raft_options.snapshot_log_bytes = *snapshot_log_bytes;
    raft_options.core.lease =
        options.lease_drift_ppm.map(|clock_drift_ppm| Lease { clock_drift_ppm });
    // A second line, for commands of whatever kind; the limits themselves are the machine's to check.
    raft_options.core.limits.command_bytes_max = limits.command_bytes_max();
    Raft::start(raft_options, machine, Arc::new(storage), transport, runtime)
        .await
        .map_err(|error| Failure::environment(format!("{}: {error}", data.display())))
}

/// What the operator of a node that joins has to do next.
fn waits_to_be_added<M: StateMachine>(
    options: &Options,
    raft: &Raft<M>,
) -> Result<String, Failure> {
    let reached = options.reached()?;
    let Options { id, cluster, .. } = options;
    let incarnation = raft.status().incarnation;
    Ok(format!(
        "node {id} (incarnation {incarnation}) waits to be added: kv-example add --cluster {cluster} --id {id} --address {reached}"
    ))
}

/// Whether the port can be had, before a data directory is created that the next try would find in its way.
fn check_port(address: &str) -> Result<(), Failure> {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(source) => Err(Failure::environment(BindError { address: address.to_owned(), source })),
    }
}

async fn listen_for_http(options: &http::Options) -> Result<http::Listening, Failure> {
    let give_up = tokio::time::Instant::now() + LETTING_GO;
    loop {
        match http::Listening::bind(options).await {
            Ok(listening) => return Ok(listening),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && wait_until(give_up).await => {
            }
            Err(source) => {
                let address = options.listen.clone();
                return Err(Failure::environment(BindError { address, source }));
            }
        }
    }
}

fn is_in_use(error: &BindError) -> bool {
    error.source.kind() == io::ErrorKind::AddrInUse
}

/// Waits a little for another process to let go. `false`: it is `give_up` already.
async fn wait_until(give_up: tokio::time::Instant) -> bool {
    let is_early = tokio::time::Instant::now() < give_up;
    if is_early {
        tokio::time::sleep(LETTING_GO / 40).await;
    }
    is_early
}

async fn open(options: &Options, runtime: &Arc<TokioRuntime>) -> Result<FileStorage, ServeError> {
    let Options { id, cluster, data, begin, snapshot_log_bytes, .. } = options;
    // Members and addresses change: who starts again is of the cluster that its directory says.
    let mut file_options = FileStorageOptions::new(data, None, *id);
    file_options.segment_bytes =
        (*snapshot_log_bytes).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
    let limits = TcpLimits::default();
    let others = TokioConnector::new(cluster.clone(), None, limits, Arc::clone(runtime));
    let (fs, runtime) = (Arc::new(StdFileSystem), Arc::clone(runtime) as Arc<dyn Runtime>);
    begin.storage(cluster, file_options, &*others, fs, runtime).await
}

fn is_absent_or_empty(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// What a node does is told on stderr; `RUST_LOG` says how much of it.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call finds that there is a log already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// The signals that tell a process to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on unix")]
    fn new() -> io::Result<Signals> {
        Ok(Signals {})
    }

    async fn next(&mut self) -> &'static str {
        // Without a console there is nobody who could tell.
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => std::future::pending().await,
        }
    }
}
