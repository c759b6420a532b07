//! What the program stands on: clients, and work beside tokio.

use std::sync::Arc;
use std::time::Duration;

use raft_rsm::runtime::{ThreadRuntime, TokioRuntime};
use raft_rsm::transport::{TcpConnector, TcpLimits, TokioConnector};
use raft_rsm::{Client, ClientOptions, Cluster, Runtime};

use crate::coordinator::{Clerk, Coordinator};
use crate::data::{self, Stores};
use crate::failure::Failure;
use crate::task::JobSpec;

/// What a job has left is removed within this, or stays.
const REMOVING: Duration = Duration::from_secs(10);

/// Who submits jobs and asks for them, on the tokio runtime of the caller; a request ends after `deadline`.
///
/// # Errors
/// The caller is on no tokio runtime.
pub fn clerk(cluster: &Cluster, deadline: Duration) -> Result<Clerk, Failure> {
    let runtime = Arc::new(TokioRuntime::current().map_err(Failure::environment)?);
    let (nodes, limits) = (cluster.clone(), TcpLimits::default());
    let connector = TokioConnector::new(nodes, None, limits, Arc::clone(&runtime));
    let mut options = ClientOptions::default();
    options.deadline = deadline;
    options.call_timeout = options.call_timeout.min(deadline);
    Ok(Clerk::new(Client::new(connector, runtime, options)))
}

/// A client on threads of its own, and these: what a worker computes blocks nobody.
#[must_use]
pub fn worker_client(cluster: &Cluster) -> (Arc<dyn Runtime>, Client<Coordinator>) {
    let runtime: Arc<dyn Runtime> = Arc::new(ThreadRuntime::new());
    let (nodes, limits) = (cluster.clone(), TcpLimits::default());
    let connector = TcpConnector::new(nodes, None, limits, Arc::clone(&runtime));
    let client = Client::new(connector, Arc::clone(&runtime), ClientOptions::default());
    (runtime, client)
}

/// What `work` returns, which reads or writes data: on a thread of its own, since it blocks.
///
/// # Errors
/// It panicked: a defect.
pub async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let entered = cloud_context();
    std::thread::spawn(move || {
        let _entered = entered.as_ref().map(tokio::runtime::Handle::enter);
        // Whoever asked may have gone away.
        let _ = sender.send(work());
    });
    receiver.await.map_err(|_| Failure::environment("the work on the data ended without a word"))
}

/// Deletes what is in a folder of results.
///
/// # Errors
/// A part of it may still be there.
pub(crate) async fn clear(output: String) -> Result<(), Failure> {
    beside(move || data::clear(&Stores::new(), &output)).await?.map_err(Failure::environment)
}

/// Removes what a job has left that has not succeeded, as far as that goes. It ends within [`REMOVING`].
pub(crate) async fn abandon(spec: JobSpec) {
    let removed = beside(move || data::abandon(&Stores::new(), &spec));
    if tokio::time::timeout(REMOVING, removed).await.is_err() {
        tracing::warn!("what was between map and reduce is not removed: that takes too long");
    }
}

/// The stores in clouds need a tokio runtime; a local folder does better without one.
#[must_use]
pub fn cloud_context() -> Option<tokio::runtime::Handle> {
    if cfg!(feature = "cloud") { tokio::runtime::Handle::try_current().ok() } else { None }
}

/// A random number that nobody else draws.
#[must_use]
pub fn token() -> u128 {
    let runtime = ThreadRuntime::new();
    (u128::from(runtime.random()) << 64) | u128::from(runtime.random())
}
