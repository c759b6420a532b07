//! What happens to keys, as it happens, as server-sent events: `/v1/watch`.
//!
//! The id of an event is a place: `revision.skip`, all of the earlier moments and the first `skip` events of this one, of the
//! keys that are watched. So whoever goes on from the last id that it saw, at whichever node, misses nothing and sees
//! nothing twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event as Sse, Sse as Stream};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::condition::only;
use super::error::HttpError;
use super::room::Room;
use super::routes::Parameters;
use super::{Node, WRITE_TIMEOUT};
use crate::connect::Consistency;
use crate::output::entry_json;
use crate::store::{Answer, Change, Changes, Cursor, Event, Query, Revision};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where nothing happens, a comment says after this that the node is there, and no node that was left behind.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// One event at a time is text, which takes so many times the memory of its key and value: a value as base64 and once more as
/// text, in which every other character may be escaped.
const TEXT_FACTOR: usize = 4;

/// What an event takes beside its key and value, in bytes.
const EVENT_OVERHEAD_BYTES: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchParameters {
    #[serde(default)]
    prefix: String,
    from: Option<String>,
}

/// The events of the keys that begin with a prefix, from a place on, or from now on.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    Parameters(WatchParameters { prefix, from }): Parameters<WatchParameters>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let from = match only(&headers, &LAST_EVENT_ID)? {
        Some(id) => Some(place(str::from_utf8(id).unwrap_or_default(), "Last-Event-ID")?),
        None => from.map(|from| place(&from, "from")).transpose()?,
    };
    let Ok(permit) = Arc::clone(&node.watches).try_acquire_owned() else {
        return Err(HttpError::unavailable("busy", "too many watches are under way"));
    };
    let from = match from {
        Some(from) => from,
        None => Cursor::from(node.revision().await?.next()),
    };
    let mut watch = Watch::new(node, prefix, from, permit);
    // The first answer decides whether there is a stream at all.
    let first = match watch.ask(Duration::ZERO).await? {
        Changes::Events { events, next } => watch.told(events, next),
        Changes::Compacted { oldest } => {
            let message = format!(
                "the history before revision {oldest} is forgotten; read the keys, and watch from there on"
            );
            let error = HttpError::new(StatusCode::GONE, "compacted", message);
            return Err(error.with("oldest", oldest.0));
        }
    };
    let rest = stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.ask(KEEP_ALIVE).await {
            Ok(Changes::Events { events, next }) => {
                let told = watch.told(events, next);
                Some((told, Some(watch)))
            }
            Ok(Changes::Compacted { oldest }) => Some((vec![Told::Compacted(oldest)], None)),
            // The node is cut off, stops, or has no memory for it: another one goes on.
            Err(_) => None,
        }
    });
    let told = stream::iter([first]).chain(rest).flat_map(stream::iter);
    // Text is made of an event only when the client has taken what was before it.
    Ok(Stream::new(told.map(|told| Ok::<_, Infallible>(told.into_sse()))).into_response())
}

/// What a client is told.
enum Told {
    /// An event, and the place after it.
    Event(Event, Cursor),
    /// That nothing has happened, up to this place if it can be said.
    Nothing(Option<Cursor>),
    /// That nobody knows what happened before.
    Compacted(Revision),
}

impl Told {
    fn into_sse(self) -> Sse {
        match self {
            Told::Event(event, place) => event_sse(&event, place),
            Told::Nothing(None) => Sse::default().comment(""),
            Told::Nothing(Some(place)) => Sse::default().comment("").id(id(place)),
            Told::Compacted(oldest) => sse("compacted", &json!({ "oldest": oldest.0 })),
        }
    }
}

/// A watch under way.
struct Watch {
    node: Arc<Node>,
    prefix: String,
    /// From where the store is asked.
    next: Cursor,
    /// The moment of the last event that was told, or of which some are not wanted, and how many were told.
    told: Cursor,
    /// So many events of the moment `told` are not wanted.
    unwanted: u32,
    /// For what was told last, as long as it is not all read.
    room: Option<Room>,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    fn new(node: Arc<Node>, prefix: String, from: Cursor, permit: OwnedSemaphorePermit) -> Watch {
        // The store counts the events of all keys, so it is asked for the whole moment.
        let (next, told) = (Cursor::from(from.revision), Cursor::from(from.revision));
        Watch { node, prefix, next, told, unwanted: from.skip, room: None, _permit: permit }
    }

    /// What the store tells, once there is memory for it: where others take it, the answer is dropped, and asked for again.
    async fn ask(&mut self, wait: Duration) -> Result<Changes, HttpError> {
        self.room = None;
        loop {
            let changes = self.ask_the_store(wait).await?;
            let bytes = bytes_of(&changes);
            if self.room.as_ref().is_some_and(|room| room.bytes() >= bytes) {
                return Ok(changes);
            }
            // Room that is too small must not keep others from having enough.
            self.room = None;
            if let Ok(room) = self.node.responses.take(bytes) {
                self.room = Some(room);
                return Ok(changes);
            }
            drop(changes);
            // Who does not read is given up within this time.
            let room = tokio::time::timeout(WRITE_TIMEOUT, self.node.responses.wait_for(bytes));
            self.room = Some(room.await.map_err(|_| HttpError::no_memory())??);
        }
    }

    async fn ask_the_store(&self, wait: Duration) -> Result<Changes, HttpError> {
        let query = Query::Changes { prefix: self.prefix.clone(), from: self.next };
        match self.node.raft.query_when_ready(query, wait).await {
            Ok(Answer::Changes(changes)) => Ok(changes),
            Ok(Answer::Value(_) | Answer::Page(_) | Answer::Lease(_) | Answer::About(_)) => {
                Err(HttpError::wrong_kind())
            }
            Err(error) => Err(HttpError::of_read(error, &self.node).await),
        }
    }

    /// What the client is told of these events, and from where it may go on.
    fn told(&mut self, events: Vec<Event>, next: Cursor) -> Vec<Told> {
        self.next = next;
        let mut told = Vec::with_capacity(events.len() + 1);
        for event in events {
            if event.revision != self.told.revision {
                (self.told, self.unwanted) = (Cursor::from(event.revision), 0);
            }
            self.told.skip = self.told.skip.saturating_add(1);
            if self.told.skip > self.unwanted {
                told.push(Told::Event(event, self.told));
            }
        }
        if told.is_empty() {
            // All moments before `next` are told, if it is the begin of one.
            told.push(Told::Nothing(Some(next).filter(|next| next.skip == 0)));
        }
        told
    }
}

/// The memory that is taken by what is told: all of it as it is, and its largest part as text.
fn bytes_of(changes: &Changes) -> usize {
    let Changes::Events { events, .. } = changes else { return 0 };
    let (mut all, mut largest) = (0, 0);
    for Event { key, change, .. } in events {
        let value = match change {
            Change::Put(versioned) => versioned.value.len(),
            Change::Deleted { .. } => 0,
        };
        let bytes = EVENT_OVERHEAD_BYTES + key.len() + value;
        (all, largest) = (all + bytes, bytes.max(largest));
    }
    all + TEXT_FACTOR * largest
}

impl Node {
    async fn revision(&self) -> Result<Revision, HttpError> {
        let query = Query::Scan { prefix: String::new(), after: None, limit: 0 };
        match self.ask(query, Consistency::Linearizable).await? {
            Answer::Page(page) => Ok(page.revision),
            Answer::Value(_) | Answer::Changes(_) | Answer::Lease(_) | Answer::About(_) => {
                Err(HttpError::wrong_kind())
            }
        }
    }
}

fn event_sse(event: &Event, place: Cursor) -> Sse {
    let Event { revision, key, change } = event;
    let (name, data) = match change {
        Change::Put(versioned) => ("put", entry_json(key, versioned)),
        Change::Deleted { version } => {
            ("delete", json!({ "key": &**key, "version": version.0, "revision": revision.0 }))
        }
    };
    sse(name, &data).id(id(place))
}

fn sse(name: &str, data: &Value) -> Sse {
    Sse::default().event(name).data(data.to_string())
}

fn id(place: Cursor) -> String {
    format!("{}.{}", place.revision, place.skip)
}

/// `revision` or `revision.skip`.
fn place(text: &str, name: &str) -> Result<Cursor, HttpError> {
    let (revision, skip) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parsed = (is_number(revision) && is_number(skip))
        .then(|| revision.parse().ok().zip(skip.parse().ok()))
        .flatten();
    match parsed {
        Some((revision, skip)) => Ok(Cursor { revision: Revision(revision), skip }),
        None => {
            let message = format!("{name} is a revision, or revision.skip as the id of an event");
            Err(HttpError::bad("bad-query", message))
        }
    }
}
