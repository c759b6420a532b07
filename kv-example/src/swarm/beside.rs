//! Leases and watches: what is judged by the log.

use std::sync::MutexGuard;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use raft_sim::history::Ended;
use raft_sim::workload::{Session, command_failed};

use super::judge::{Kept, Promise, Watched};
use super::model::{Reply, Request};
use super::{Clerks, Member, StoreWorkload};
use crate::clerk::{LeaseError, TransactError, Watch, WatchError};
use crate::store::{Answer, Cursor, Event, LeaseId, Query, Revision, Transaction, Write};

const MS: Duration = Duration::from_millis(1);

/// How long leases live that nobody keeps alive.
const TTLS: [Duration; 4] = [
    MS.saturating_mul(200),
    MS.saturating_mul(1000),
    MS.saturating_mul(3000),
    MS.saturating_mul(10_000),
];

/// The log's time may run so much faster than the true one: a little more than any clock does.
const DRIFT: f64 = 0.1;

/// What can be watched.
const PREFIXES: [&str; 6] = ["", "kept/", "deleted/", "together/", "lease/", "kept/1"];

/// A watcher without an answer asks so often again.
const ASKED_MAX: usize = 4;

/// When all faults have ended, a watcher that has asked so often without coming to the end never will.
const LAST_ASKED_MAX: usize = 10;

/// A page that holds all keys of a run.
const PAGE_KEYS: u32 = 10_000;

impl<M> Clerks<M> {
    fn count(&self, what: &'static str) {
        self.kept().count(what);
    }

    /// Grants a lease, keeps it alive, ties keys to it, ends it, or leaves it to its end.
    pub(super) async fn lease<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &mut Member,
    ) {
        let draw = session.random().index(10);
        let ttl = *session.random().choose(&TTLS);
        let key = format!("lease/{}/{}", session.number(), session.random().index(3));
        let call = async {
            match (member.lease, draw) {
                (None, _) => self.grant(member, ttl, key, draw < 3).await,
                (Some(lease), 0..6) => self.keep_alive(member, lease).await,
                (Some(lease), 6) => tie(member, key, lease).await,
                (Some(_), 7) => {
                    self.look(member, "lease/").await.map_or_else(|ended| ended, |_| DONE)
                }
                (Some(lease), 8) => {
                    member.lease = None;
                    done(member.brief.revoke(lease).await.map_err(LeaseError::Client))
                }
                (Some(_), _) => {
                    member.lease = None;
                    DONE
                }
            }
        };
        session.record(Request::Beside("lease"), call).await;
    }

    async fn grant(
        &self,
        member: &mut Member,
        ttl: Duration,
        key: String,
        in_session: bool,
    ) -> Ended<Reply> {
        let from = member.runtime.now();
        let clerk = if in_session { &member.in_session } else { &member.brief };
        let lease = match clerk.grant(ttl).await {
            Ok(lease) => lease,
            // There may be no room for a session.
            Err(_) if in_session => return DONE,
            Err(error) => return done(Err(error)),
        };
        self.count("leases granted");
        self.promised(lease, from, ttl);
        member.lease = Some(lease);
        tie(member, key, lease).await
    }

    async fn keep_alive(&self, member: &mut Member, lease: LeaseId) -> Ended<Reply> {
        let from = member.runtime.now();
        let kept = member.brief.keep_alive(lease).await;
        match &kept {
            Ok(ttl) => {
                self.count("leases kept alive");
                self.promised(lease, from, *ttl);
            }
            Err(LeaseError::NoLease) => {
                self.count("leases found ended");
                member.lease = None;
            }
            Err(LeaseError::TooMany | LeaseError::Client(_)) => {}
        }
        done(kept.map(|_| ()))
    }

    fn promised(&self, lease: LeaseId, from: Duration, ttl: Duration) {
        let until = from + ttl.mul_f64(1.0 - DRIFT);
        self.kept().promises.push(Promise { lease, until });
    }

    /// Reads all keys with a prefix, at one moment.
    async fn look(&self, member: &Member, prefix: &str) -> Result<Revision, Ended<Reply>> {
        match member.brief.scan(prefix, None, PAGE_KEYS).await {
            Ok(page) => {
                let revision = page.revision;
                self.count("pages");
                self.kept().pages.push((prefix.to_owned(), page));
                Ok(revision)
            }
            Err(_) => Err(Ended::Failed),
        }
    }

    /// Watches a prefix for a while, from where it was, or from a page on.
    pub(super) async fn watch<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &mut Member,
    ) {
        let prefix = *session.random().choose(&PREFIXES);
        let patience = session.random().duration(&(Duration::ZERO..1500 * MS));
        let (moves_on, from_the_start) =
            (session.random().chance(0.1), session.random().chance(0.3));
        let call = async {
            let (at, mut watch) = match member.watching.take() {
                Some((at, watch)) if moves_on => {
                    let prefix = self.kept().watches[at].prefix.clone();
                    (at, member.brief.watch_from(&prefix, watch.cursor()))
                }
                Some(watching) => watching,
                None => {
                    let revision = match self.look(member, prefix).await {
                        Ok(_) if from_the_start => Revision(0),
                        Ok(revision) => revision.next(),
                        Err(ended) => return ended,
                    };
                    let from = Cursor::from(revision);
                    let mut kept = self.kept();
                    let prefix = prefix.to_owned();
                    kept.watches.push(Watched { prefix, from, to: from, events: Vec::new() });
                    (kept.watches.len() - 1, member.brief.watch_from(prefix_of(&kept), from))
                }
            };
            let told = {
                let batch = batch(&mut watch);
                futures::pin_mut!(batch);
                match select(batch, member.runtime.sleep(patience)).await {
                    Either::Left((told, _)) => Some(told),
                    Either::Right(_) => None,
                }
            };
            let ended = match told {
                Some(Ok(events)) => {
                    self.kept().watches[at].saw(events, watch.cursor());
                    DONE
                }
                None => DONE,
                Some(Err(WatchError::Compacted { oldest })) => {
                    self.came_too_late(member, &watch, oldest).await;
                    return DONE;
                }
                Some(Err(WatchError::Client(_))) => Ended::Failed,
            };
            member.watching = Some((at, watch));
            ended
        };
        session.record(Request::Beside("watch"), call).await;
    }

    /// All faults have ended: a watch that is under way comes to the end of the log.
    pub(super) async fn come_to_the_end<W: StoreWorkload>(
        &self,
        session: &mut Session<W>,
        member: &mut Member,
    ) {
        let Some((at, mut watch)) = member.watching.take() else { return };
        let call = async {
            let revision = match self.look(member, "lease/").await {
                Ok(revision) => revision,
                Err(ended) => return ended,
            };
            for _ in 0..LAST_ASKED_MAX {
                match watch.next_batch().await {
                    Ok(events) => self.kept().watches[at].saw(events, watch.cursor()),
                    Err(WatchError::Client(_)) => {}
                    Err(WatchError::Compacted { oldest }) => {
                        self.came_too_late(member, &watch, oldest).await;
                        return DONE;
                    }
                }
                if watch.cursor().revision > revision {
                    self.count("watches that came to the end");
                    return DONE;
                }
            }
            let (prefix, at) = (self.kept().watches[at].prefix.clone(), watch.cursor());
            self.wrong(format!(
                "revision {revision} is there, and whoever watched {prefix:?} stands still at {at:?}"
            ));
            DONE
        };
        session.record(Request::Beside("the end of a watch"), call).await;
    }

    /// A watch was told that what it asked for is forgotten. Then no node may remember it that has said so.
    async fn came_too_late(&self, member: &Member, watch: &Watch, oldest: Revision) {
        self.count("watches that came too late");
        let from = watch.cursor();
        if from.revision >= oldest {
            self.wrong(format!("{from:?} was said to be forgotten, and {oldest} to be remembered"));
        }
        // All that has happened when they said so has happened by now. One that has not come so far has been started anew,
        // and goes through what it has forgotten once more.
        let Ok(now) = member.brief.revision().await else { return };
        for node in watch.forgot() {
            let about = member.brief.client().query_at(*node, &Query::About).await;
            let Ok(Answer::About(about)) = about else { continue };
            let (begin, end) = (about.holds.history_from, about.holds.history_to);
            if end < now {
                continue;
            }
            self.count("nodes that have forgotten");
            if begin <= from.revision {
                self.wrong(format!(
                    "{from:?} was said to be forgotten, and node {node} remembers {begin} to {end}"
                ));
            }
        }
    }

    /// A client knows it.
    fn wrong(&self, problem: String) {
        self.kept().problem.get_or_insert(problem);
    }
}

/// Asks again where somebody could not be asked who might remember what the others have forgotten: for a while, that is no
/// answer.
async fn batch(watch: &mut Watch) -> Result<Vec<Event>, WatchError> {
    for _ in 0..ASKED_MAX {
        match watch.next_batch().await {
            Err(WatchError::Client(_)) => {}
            told @ (Ok(_) | Err(WatchError::Compacted { .. })) => return told,
        }
    }
    watch.next_batch().await
}

/// Of the watch that was begun last.
fn prefix_of<'k>(kept: &'k MutexGuard<'_, Kept>) -> &'k str {
    kept.watches.last().map_or("", |watched| &watched.prefix)
}

const DONE: Ended<Reply> = Ended::Answered(Reply::Done);

fn done(result: Result<(), LeaseError>) -> Ended<Reply> {
    match result {
        Ok(()) | Err(LeaseError::NoLease | LeaseError::TooMany) => DONE,
        Err(LeaseError::Client(error)) => command_failed(&error),
    }
}

async fn tie(member: &Member, key: String, lease: LeaseId) -> Ended<Reply> {
    let value = Bytes::copy_from_slice(&lease.0.to_le_bytes());
    let writes = vec![Write::Put { key, value, lease: Some(lease) }];
    match member.brief.transact(Transaction { conditions: Vec::new(), writes }).await {
        Err(TransactError::Client(error)) => command_failed(&error),
        Ok(_)
        | Err(
            TransactError::ConditionFailed { .. }
            | TransactError::NoLease
            | TransactError::TooMany
            | TransactError::Maybe,
        ) => DONE,
    }
}
