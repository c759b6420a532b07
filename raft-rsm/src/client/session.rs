//! Exactly once, as the client sees it (diss. §6.3).

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::oneshot;

use super::memory::Asked;
use super::{AfterMaybe, Client, ClientError, decode, encode, encode_bare};
use crate::StateMachine;
use crate::protocol::{self, Kind};
use crate::sessions::{IN_FLIGHT_MAX, SessionId, SessionRequest};
use crate::watch::lock;

/// A session of a [`Client`]: every command in it is carried out exactly once, or, where that cannot be known, its error
/// says "maybe". Cheap to clone, and all clones are the same session; any number of commands may be under way, of which
/// [`IN_FLIGHT_MAX`] are sent at once.
///
/// It is opened by its first command, and again when it has ended by itself because nothing was asked for long. End it
/// with [`Session::close`], so that the nodes need not remember it until then.
pub struct Session<M: StateMachine> {
    client: Client<M>,
    state: Arc<Mutex<State>>,
    /// Held by whoever opens the session, so that it is opened once.
    opening: Arc<futures::lock::Mutex<()>>,
}

#[derive(Default)]
struct State {
    id: Option<SessionId>,
    /// The number of the next command.
    next: u64,
    in_flight: BTreeSet<u64>,
    /// Those who wait until fewer are under way, in their order.
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl State {
    fn answered_below(&self) -> u64 {
        self.in_flight.first().copied().unwrap_or(self.next)
    }

    fn has_room(&self) -> bool {
        self.next - self.answered_below() < IN_FLIGHT_MAX
    }

    /// There is no such session any more: nothing is under way in it, and whoever waits for a turn in it looks again.
    fn end(&mut self) {
        *self = State::default();
    }

    fn wake(&mut self) {
        let mut room = IN_FLIGHT_MAX.saturating_sub(self.next - self.answered_below());
        // Who has gone does not take the place of the next.
        while room > 0
            && let Some(next) = self.waiting.pop_front()
        {
            room -= u64::from(next.send(()).is_ok());
        }
    }
}

/// A command under way. Once it is dropped, nobody waits for it any more, and copies that are still on their way will be
/// refused.
struct InFlight<'s, M: StateMachine> {
    session: &'s Session<M>,
    id: SessionId,
    sequence: u64,
}

impl<M: StateMachine> Drop for InFlight<'_, M> {
    fn drop(&mut self) {
        let mut state = lock(&self.session.state);
        if state.id == Some(self.id) {
            state.in_flight.remove(&self.sequence);
        }
        state.wake();
    }
}

/// Somebody who waits until fewer are under way.
struct Waiting<'s> {
    state: &'s Mutex<State>,
    turn: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    /// Whoever gives up once the turn has come passes it on: nobody else would.
    fn drop(&mut self) {
        self.turn.close();
        if let Ok(Some(())) = self.turn.try_recv() {
            lock(self.state).wake();
        }
    }
}

impl<M: StateMachine> Clone for Session<M> {
    fn clone(&self) -> Session<M> {
        Session {
            client: self.client.clone(),
            state: Arc::clone(&self.state),
            opening: Arc::clone(&self.opening),
        }
    }
}

impl<M: StateMachine> std::fmt::Debug for Session<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = lock(&self.state).id;
        f.debug_struct("Session").field("id", &id).finish_non_exhaustive()
    }
}

impl<M: StateMachine> Session<M> {
    pub(super) fn new(client: Client<M>) -> Session<M> {
        Session { client, state: Arc::default(), opening: Arc::default() }
    }

    /// The client whose session it is.
    #[must_use]
    pub fn client(&self) -> &Client<M> {
        &self.client
    }

    /// Has `command` carried out exactly once. It is sent until there is an answer.
    ///
    /// # Errors
    /// [`ClientError::may_take_effect`] says which ones leave open whether the command takes effect. "Maybe" is said where
    /// there was no answer before the deadline, or the session had ended by the time that a repetition arrived: what
    /// came of the first transmission is forgotten then.
    pub fn propose<'s>(
        &'s self,
        command: &M::Command,
    ) -> impl Future<Output = Result<M::Response, ClientError>> + Send + use<'s, M> {
        // It is encoded at once, so that the future can move between threads whatever the command is.
        let command = postcard::to_allocvec(command)
            .map_err(|error| ClientError::Refused { reason: error.to_string() });
        async move { self.propose_encoded(&command?).await }
    }

    async fn propose_encoded(&self, command: &[u8]) -> Result<M::Response, ClientError> {
        let ends_at = self.client.runtime.now().saturating_add(self.client.options.deadline);
        loop {
            let id = self.open(ends_at).await?;
            let Some((in_flight, request)) = self.begin(id, ends_at).await? else { continue };
            let request =
                protocol::encode_request_before(Kind::ProposeInSession, &request, command)
                    .map_err(|error| ClientError::Refused { reason: error.to_string() })?;
            let answer = self.execute(request, ends_at).await;
            drop(in_flight);
            match answer {
                Ok(answer) => return decode(&answer),
                // No transmission of it was carried out, so it may go into another session.
                Err(ClientError::SessionExpired) => self.ended(id),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the session at the nodes. A command that is sent in it afterwards opens another one.
    ///
    /// # Errors
    /// The nodes may remember it until it ends by itself.
    pub async fn close(&self) -> Result<(), ClientError> {
        let id = {
            let mut state = lock(&self.state);
            let Some(id) = state.id else { return Ok(()) };
            state.end();
            id
        };
        let request = encode(Kind::CloseSession, &id)?;
        let ends_at = self.client.runtime.now().saturating_add(self.client.options.deadline);
        self.execute(request, ends_at).await.map(|_| ())
    }

    /// The session, opened if there is none.
    async fn open(&self, ends_at: Duration) -> Result<SessionId, ClientError> {
        if let Some(id) = lock(&self.state).id {
            return Ok(id);
        }
        let opening = self.opening.lock();
        let _opening = self.within(ends_at, opening, "the session is not open yet").await?;
        if let Some(id) = lock(&self.state).id {
            return Ok(id);
        }
        let request = encode_bare(Kind::OpenSession)?;
        // One that is opened twice is remembered in vain until it ends by itself.
        let answer = match self.execute(request, ends_at).await {
            Err(ClientError::Maybe { reason }) => return Err(ClientError::Unavailable { reason }),
            answer => answer?,
        };
        let id = decode(&answer)?;
        *lock(&self.state) = State { id: Some(id), ..State::default() };
        Ok(id)
    }

    /// A number for a command, as soon as few enough are under way. `None`: the session has been replaced meanwhile.
    async fn begin(
        &self,
        id: SessionId,
        ends_at: Duration,
    ) -> Result<Option<(InFlight<'_, M>, SessionRequest)>, ClientError> {
        loop {
            let mut waiting = {
                let mut state = lock(&self.state);
                if state.id != Some(id) {
                    return Ok(None);
                }
                if state.has_room() {
                    let sequence = state.next;
                    state.next += 1;
                    state.in_flight.insert(sequence);
                    let answered_below = state.answered_below();
                    let request = SessionRequest { session: id, sequence, answered_below };
                    return Ok(Some((InFlight { session: self, id, sequence }, request)));
                }
                let (sender, turn) = oneshot::channel();
                state.waiting.push_back(sender);
                Waiting { state: &self.state, turn }
            };
            // Whoever is sent away without a turn looks again.
            let too_many = "too many commands of the session are under way";
            let _ = self.within(ends_at, &mut waiting.turn, too_many).await?;
        }
    }

    /// The session is known to have ended.
    fn ended(&self, id: SessionId) {
        let mut state = lock(&self.state);
        if state.id == Some(id) {
            state.end();
        }
    }

    async fn execute(&self, request: Bytes, ends_at: Duration) -> Result<Bytes, ClientError> {
        let client = &self.client;
        let left = ends_at.saturating_sub(client.runtime.now());
        let call_timeout = client.options.call_timeout;
        let (answer, _) = client
            .execute_within(request, Asked::Leader, AfterMaybe::SendAgain, left, call_timeout)
            .await?;
        Ok(answer)
    }

    /// # Errors
    /// It was not done in time, because `why_not`.
    async fn within<F: Future>(
        &self,
        ends_at: Duration,
        done: F,
        why_not: &str,
    ) -> Result<F::Output, ClientError> {
        let runtime = &self.client.runtime;
        let late = runtime.sleep(ends_at.saturating_sub(runtime.now()));
        futures::pin_mut!(done);
        match futures::future::select(done, late).await {
            futures::future::Either::Left((output, _)) => Ok(output),
            futures::future::Either::Right(_) => {
                Err(ClientError::Unavailable { reason: why_not.to_owned() })
            }
        }
    }
}

#[cfg(test)]
mod tests;
