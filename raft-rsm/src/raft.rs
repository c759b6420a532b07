//! The handle of a replica.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use raft_core::{Configuration, EntryId, LogIndex, Node, NodeId, Role, SnapshotMeta};

use crate::consistency::Consistency;
use crate::driver::intake::{Completion, Intake, Request};
use crate::driver::waiters::Proposer;
use crate::driver::{Driver, Parts};
use crate::error::{
    MembershipError, ProposeError, QueryError, SnapshotError, StartError, StopReason,
    TransferError, Uncertain,
};
use crate::membership::MembershipChange;
use crate::options::Options;
use crate::payload::{self, Draft, Known};
use crate::server::{Responder, Server, check_name};
use crate::sessions::{SessionId, SessionRequest, TableLimits};
use crate::status::{Refused, Remembered, Status, StatusChanges};
use crate::watch::{Watch, Watcher};
use crate::{Admission, Runtime, StateMachine, Storage, Transport};

/// One replica of a state machine: a handle to share and to clone.
///
/// The replica runs until [`Raft::shutdown`], or until it stops by itself ([`Raft::stopped`]); dropping the
/// handles does not stop it.
pub struct Raft<M: StateMachine> {
    intake: Arc<Intake<M>>,
    status: Arc<Watch<Status>>,
    stopped: Arc<Watch<Option<StopReason>>>,
    admission: Admission<M::Command>,
    session_limits: TableLimits,
    name_limits: TableLimits,
}

impl<M: StateMachine> Clone for Raft<M> {
    fn clone(&self) -> Raft<M> {
        Raft {
            intake: Arc::clone(&self.intake),
            status: Arc::clone(&self.status),
            stopped: Arc::clone(&self.stopped),
            admission: Arc::clone(&self.admission),
            session_limits: self.session_limits,
            name_limits: self.name_limits,
        }
    }
}

impl<M: StateMachine> std::fmt::Debug for Raft<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status.read(|status| f.debug_tuple("Raft").field(status).finish())
    }
}

impl<M: StateMachine> Raft<M> {
    /// Starts a replica from what `storage` holds: the newest snapshot and the log after it are brought into
    /// `machine`, which must be in the state in which every replica begins. Clients that the transport lets in
    /// are served.
    ///
    /// # Errors
    /// The disk cannot be read or contradicts itself, or the options do, or the transport cannot carry what they allow.
    /// Nothing of the replica runs.
    pub async fn start(
        options: Options,
        machine: M,
        storage: Arc<dyn Storage>,
        transport: Arc<dyn Transport>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Raft<M>, StartError> {
        options.check(transport.packet_bytes_max()).map_err(StartError::Options)?;
        let restored = storage.load().await?;
        let snapshot = restored.snapshot.clone();
        let mut core = options.core.clone();
        // Replicas that were started alike draw different election timeouts.
        core.seed ^= runtime.random();
        let node = Node::new(core, restored)?;

        let intake = Arc::new(Intake::new(&options));
        let status = Arc::new(Watch::new(first_status(
            &node,
            snapshot.as_ref(),
            storage.log_bytes(),
            &options,
        )));
        let stopped = Arc::new(Watch::new(None));
        let admission = machine.admission();
        let (session_limits, name_limits) = (options.session_limits(), options.name_limits());
        let server = Server::new(
            Arc::clone(&intake),
            Arc::clone(&status),
            Arc::clone(&admission),
            session_limits,
            name_limits,
        );
        transport.start(Arc::clone(&intake) as _, Arc::new(server));
        let raft = Raft {
            intake: Arc::clone(&intake),
            status: Arc::clone(&status),
            stopped: Arc::clone(&stopped),
            admission,
            session_limits,
            name_limits,
        };
        let parts =
            Parts { intake, status, stopped, storage, transport, runtime: Arc::clone(&runtime) };
        let driver = Driver::new(node, options, machine, snapshot, parts);
        runtime.spawn("raft", Box::pin(driver.run()));
        Ok(raft)
    }

    /// Has `command` replicated, and returns the machine's response once it is committed and applied here.
    /// It waits no longer than [`Options::request_timeout`]. Dropping the future ends the wait, not the command.
    ///
    /// # Errors
    /// [`ProposeError::may_take_effect`] says which ones leave open whether the command takes effect.
    pub async fn propose(&self, command: M::Command) -> Result<M::Response, ProposeError> {
        self.propose_known(Known::Not, command).await
    }

    /// As [`Raft::propose`], exactly once for as long as the session lives: whichever transmission of a command comes
    /// first is carried out, and all that come later have the same response (diss. §6.3).
    ///
    /// # Errors
    /// [`ProposeError::may_take_effect`] says which ones leave open whether this transmission takes effect;
    /// [`ProposeError::SessionExpired`] leaves open what came of earlier ones.
    pub async fn propose_in_session(
        &self,
        request: SessionRequest,
        command: M::Command,
    ) -> Result<M::Response, ProposeError> {
        self.propose_known(Known::InSession(request), command).await
    }

    /// As [`Raft::propose`], exactly once for as long as `name` is remembered ([`Options::name_age_max`]): whoever
    /// proposes the same command under the same name again has the same response. Afterwards, it is another command.
    /// For clients that know no sessions; a name has 1 to 255 bytes, and should contain a random part.
    ///
    /// # Errors
    /// [`ProposeError::may_take_effect`] says which ones leave open whether the command takes effect.
    pub async fn propose_once(
        &self,
        name: &[u8],
        command: M::Command,
    ) -> Result<M::Response, ProposeError> {
        check_name(name).map_err(|problem| ProposeError::NotAdmitted { problem })?;
        self.propose_known(Known::ByName(name, self.name_limits), command).await
    }

    /// Opens a session, for [`Raft::propose_in_session`]. It ends by itself when nothing is asked in it for
    /// [`Options::session_idle_max`].
    ///
    /// # Errors
    /// There is none; or, where a command might have taken effect, there may be one that nobody uses.
    pub async fn open_session(&self) -> Result<SessionId, ProposeError> {
        self.propose_session(Draft::open(self.session_limits)).await
    }

    /// Ends a session. Nothing that is asked in it from now on is carried out.
    ///
    /// # Errors
    /// It may have ended all the same, and will.
    pub async fn close_session(&self, session: SessionId) -> Result<(), ProposeError> {
        self.propose_session(Draft::close(session)).await.map(|_| ())
    }

    async fn propose_session(&self, draft: Draft) -> Result<SessionId, ProposeError> {
        let (sender, receiver) = oneshot::channel();
        let respond = Proposer::Session(Responder::Local(sender));
        self.intake.request(Request::Propose { draft, respond });
        receiver.await.unwrap_or(Err(ProposeError::Maybe(Uncertain::Stopped)))
    }

    async fn propose_known(
        &self,
        known: Known<'_>,
        command: M::Command,
    ) -> Result<M::Response, ProposeError> {
        (self.admission)(&command).map_err(|problem| ProposeError::NotAdmitted { problem })?;
        let draft = Draft::command(known, &command)
            .map_err(|error| ProposeError::Serialize { problem: error.to_string() })?;
        drop(command);
        // What does not decode would stop every node once it is committed, and again after each restart.
        drop(payload::decode_body::<M::Command>(draft.encoded()).map_err(|error| {
            ProposeError::Serialize { problem: format!("it does not come back: {error}") }
        })?);
        let (sender, receiver) = oneshot::channel();
        let respond = Proposer::Command(Responder::Local(sender));
        self.intake.request(Request::Propose { draft, respond });
        receiver.await.unwrap_or(Err(ProposeError::Maybe(Uncertain::Stopped)))
    }

    /// Answers from a state that contains every command that had its response when `query` was called, wherever that
    /// was ([`Consistency::Linearizable`]); at followers, too. It waits no longer than [`Options::request_timeout`].
    ///
    /// # Errors
    /// There is no answer here, or not now. A query has no effect: it may always be asked again.
    pub async fn query(&self, query: M::Query) -> Result<M::Answer, QueryError> {
        self.query_with(query, Consistency::Linearizable).await
    }

    /// As [`Raft::query`], with the consistency that is asked for.
    ///
    /// # Errors
    /// There is no answer here, or not now. A query has no effect: it may always be asked again.
    pub async fn query_with(
        &self,
        query: M::Query,
        consistency: Consistency,
    ) -> Result<M::Answer, QueryError> {
        self.ask(query, consistency, Duration::ZERO).await
    }

    /// As [`Raft::query`], but for a query that the machine may have nothing to say to yet ([`StateMachine::is_ready`]) it
    /// waits until there is something, or for `wait` ([`Options::request_timeout`] at most): then it is answered all the
    /// same.
    ///
    /// # Errors
    /// There is no answer here, or not now. A query has no effect: it may always be asked again.
    pub async fn query_when_ready(
        &self,
        query: M::Query,
        wait: Duration,
    ) -> Result<M::Answer, QueryError> {
        self.ask(query, Consistency::Linearizable, wait).await
    }

    async fn ask(
        &self,
        query: M::Query,
        consistency: Consistency,
        wait: Duration,
    ) -> Result<M::Answer, QueryError> {
        let (sender, receiver) = oneshot::channel();
        let (len_bytes, respond) = (size_of::<M::Query>(), Responder::Local(sender));
        self.intake.request(Request::Query { query, consistency, wait, len_bytes, respond });
        receiver.await.unwrap_or(Err(QueryError::Stopped))
    }

    /// Changes the members, at the leader: through a joint configuration (§6), after voters that join have caught up
    /// as learners. Returns the configuration that is then in force and committed. It waits for at most
    /// [`Options::request_timeout`] and [`raft_core::Options::catch_up_max`] together. A leader that is no voter any
    /// more hands the lead over when the change is complete.
    ///
    /// # Errors
    /// Each says whether the change may still take effect.
    pub async fn change_membership(
        &self,
        change: MembershipChange,
    ) -> Result<Configuration, MembershipError> {
        let (sender, receiver) = oneshot::channel();
        self.intake.request(Request::Change { change, respond: Responder::Local(sender) });
        receiver.await.unwrap_or(Err(MembershipError::Maybe(Uncertain::Stopped)))
    }

    /// Hands the lead over to `to`, or to the voter that is best prepared; returns who leads then (diss. §3.10).
    /// Proposals are refused meanwhile, for an election timeout at most.
    ///
    /// # Errors
    /// This node leads on, or did not lead.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        let (sender, receiver) = oneshot::channel();
        self.intake.request(Request::Transfer { to, respond: Responder::Local(sender) });
        receiver.await.unwrap_or(Err(TransferError::Stopped))
    }

    /// Takes a snapshot of everything that was applied here when it was called, unless there is one, and compacts the
    /// log. Returns the last entry that it contains, once it is durable, within [`Options::snapshot_timeout`]. It
    /// happens by itself, too: [`Options::snapshot_log_bytes`].
    ///
    /// # Errors
    /// There is no new snapshot; for [`SnapshotError::Stopped`] and [`SnapshotError::TimedOut`], perhaps there is, or
    /// will be.
    pub async fn snapshot(&self) -> Result<EntryId, SnapshotError> {
        let (sender, receiver) = oneshot::channel();
        self.intake.request(Request::Snapshot(Responder::Local(sender)));
        receiver.await.unwrap_or(Err(SnapshotError::Stopped))
    }

    /// How the replica sees itself and its cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.read(Status::clone)
    }

    /// The status now, and then at each change of role, leader or term, and when a
    /// divergence is found or over. Only the latest is kept for whoever is
    /// slow. It ends when the replica lets nobody in any more; [`Raft::stopped`] tells when nothing of it runs.
    #[must_use]
    pub fn status_changes(&self) -> StatusChanges {
        StatusChanges::new(Arc::clone(&self.status))
    }

    /// Stops the replica: a leader hands the lead over first, for an election timeout at most; then everybody who still
    /// waits is answered at once, and what is under way is ended. Returns when nothing of it runs, or after [`Options::shutdown_timeout`].
    pub async fn shutdown(&self) {
        self.intake.complete(Completion::Stop(StopReason::Shutdown));
        self.stopped().await;
    }

    /// Completes when the replica has stopped, and says why.
    pub async fn stopped(&self) -> StopReason {
        let mut watcher = Watcher::new(Arc::clone(&self.stopped));
        loop {
            match poll_fn(|cx| watcher.poll_next(cx)).await {
                Some(Some(reason)) => return reason,
                Some(None) => {}
                None => return StopReason::Dropped,
            }
        }
    }
}

pub(crate) fn first_status(
    node: &Node,
    snapshot: Option<&SnapshotMeta>,
    log_bytes: u64,
    options: &Options,
) -> Status {
    Status {
        id: node.id(),
        running: true,
        role: Role::Follower,
        term: node.term(),
        leader: None,
        commit: node.commit(),
        applied: LogIndex::ZERO,
        last: node.last(),
        durable: node.durable(),
        log_bytes,
        tail_bytes: node.tail_bytes() as u64,
        snapshot: snapshot.map(|meta| meta.last),
        snapshot_bytes: 0,
        remembered: Remembered::new(options),
        configuration: node.configuration().clone(),
        incarnation: node.incarnation(),
        transferring: None,
        diverged: None,
        refused: Refused::default(),
        counters: *node.counters(),
    }
}
