//! What a clerk says when the answer to a write is lost on the way.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_example::clerk::{Clerk, DeleteError, PutError};
use kv_example::connect::within;
use kv_example::store::Version;
use raft_rsm::Client;
use raft_rsm::raft_core::NodeId;
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::transport::{CallError, Connector, TcpLimits, TokioConnector};
use raft_rsm::wire::{Request, read_request};

use crate::process::{Cluster, PATIENCE};

/// Loses the answers to the next calls, which the node has carried out.
struct Lossy {
    inner: Arc<TokioConnector>,
    answers_to_lose: AtomicUsize,
    /// So many calls were made.
    calls: AtomicUsize,
}

#[async_trait]
impl Connector for Lossy {
    async fn call(
        &self,
        to: NodeId,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        // Who the members are, a client asks beside.
        let is_of_the_test = read_request(&request) != Some(Request::Status);
        let answer = self.inner.call(to, request, deadline).await?;
        if !is_of_the_test {
            return Ok(answer);
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let lose = self
            .answers_to_lose
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match lose {
            Ok(_) => Err(CallError::MaybeSent { to, reason: "it was lost".to_owned() }),
            Err(_) => Ok(answer),
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.inner.nodes()
    }
}

fn with_lossy_clerk<F: Future<Output = ()>>(test: impl FnOnce(Clerk, Arc<Lossy>) -> F) {
    let cluster = Cluster::start(1, &[]);
    // A leader first: what is lost must be the answer to a write.
    cluster.leader();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let runtime = Arc::new(TokioRuntime::current().unwrap());
        let members = cluster.members.parse().unwrap();
        let inner = TokioConnector::new(members, None, TcpLimits::default(), Arc::clone(&runtime));
        let (answers_to_lose, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let lossy = Arc::new(Lossy { inner, answers_to_lose, calls });
        let client = Client::new(Arc::clone(&lossy) as _, runtime, within(PATIENCE));
        test(Clerk::new(client), lossy).await;
    });
}

const VALUE: Bytes = Bytes::from_static(b"v");

#[test]
fn a_write_whose_answer_is_lost_is_a_maybe_and_has_happened_once() {
    with_lossy_clerk(|clerk, lossy| async move {
        lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let outcome = clerk.put("k", VALUE, Version::ABSENT).await;
        assert!(matches!(outcome, Err(PutError::Maybe)), "{outcome:?}");
        let found = clerk.get("k").await.unwrap().map(|found| (found.version, found.value));
        assert_eq!(found, Some((Version(1), VALUE)));

        lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let outcome = clerk.delete("k", Some(Version(1))).await;
        assert!(matches!(outcome, Err(DeleteError::Maybe)), "{outcome:?}");
        assert_eq!(clerk.get("k").await.unwrap(), None);
    });
}

#[test]
fn a_conflict_is_a_maybe_where_its_answer_was_lost_and_definite_where_it_was_not() {
    with_lossy_clerk(|clerk, lossy| async move {
        clerk.put("k", VALUE, Version::ABSENT).await.unwrap();
        let outcome = clerk.put("k", VALUE, Version(7)).await;
        let current = Version(1);
        assert!(
            matches!(outcome, Err(PutError::VersionMismatch { current: c }) if c == current),
            "{outcome:?}"
        );
        // The clerk cannot know that the lost answer was a no.
        lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let outcome = clerk.put("k", VALUE, Version(7)).await;
        assert!(matches!(outcome, Err(PutError::Maybe)), "{outcome:?}");
        assert_eq!(clerk.get("k").await.unwrap().unwrap().version, current);
    });
}

/// Sent again, it would delete what somebody has created since.
#[test]
fn a_deletion_without_a_version_is_sent_once_and_in_a_session_it_is_made_once() {
    with_lossy_clerk(|clerk, lossy| async move {
        clerk.put("k", VALUE, Version::ABSENT).await.unwrap();
        let before = lossy.calls.load(Ordering::SeqCst);
        lossy.answers_to_lose.store(1, Ordering::SeqCst);
        let outcome = clerk.delete("k", None).await;
        let Err(DeleteError::Client(error)) = outcome else { panic!("{outcome:?}") };
        assert!(error.may_take_effect(), "{error}");
        assert_eq!(lossy.calls.load(Ordering::SeqCst), before + 1);
        assert_eq!(clerk.get("k").await.unwrap(), None);

        let in_session = Clerk::in_session(clerk.client().clone());
        in_session.put("k", VALUE, Version::ABSENT).await.unwrap();
        lossy.answers_to_lose.store(1, Ordering::SeqCst);
        assert_eq!(in_session.delete("k", None).await.unwrap(), Version(1));
        in_session.close().await.unwrap();
    });
}

#[test]
fn a_read_is_asked_again_and_says_what_is() {
    with_lossy_clerk(|clerk, lossy| async move {
        clerk.put("k", VALUE, Version::ABSENT).await.unwrap();
        lossy.answers_to_lose.store(2, Ordering::SeqCst);
        assert_eq!(clerk.get("k").await.unwrap().unwrap().version, Version(1));
    });
}
