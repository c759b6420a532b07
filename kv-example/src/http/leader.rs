//! Who leads, and where it serves HTTP.

use std::time::{Duration, Instant};

use raft_rsm::raft_core::{NodeId, Term};
use raft_rsm::{Client, Status};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::Node;
use super::error::HttpError;
use crate::store::{Answer, Query, Store};

/// A leader that did not say where it serves HTTP is asked again after this.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// Remembers what a leader has said of itself.
pub(super) struct Leader {
    client: Client<Store>,
    own: NodeId,
    own_http: Option<String>,
    known: Mutex<Option<Known>>,
}

struct Known {
    leader: NodeId,
    term: Term,
    http: Option<String>,
    asked_at: Instant,
}

impl Leader {
    /// At the node `own`, which serves HTTP at `own_http`; `client` asks the others.
    pub(super) fn new(client: Client<Store>, own: NodeId, own_http: Option<String>) -> Leader {
        Leader { client, own, own_http, known: Mutex::new(None) }
    }

    /// Where the leader serves HTTP, if it says so within the client's time for a call.
    async fn http(&self, leader: NodeId, status: &Status, address: Option<&str>) -> Option<String> {
        if leader == self.own {
            return self.own_http.clone();
        }
        // One asks for all.
        let mut known = self.known.lock().await;
        if let Some(known) = &*known
            && (known.leader, known.term) == (leader, status.term)
            && (known.http.is_some() || known.asked_at.elapsed() < ASKED_AGAIN)
        {
            return known.http.clone();
        }
        if let Some(address) = address {
            self.client.connector().learn(&[(leader, address.to_owned())]);
        }
        let http = match self.client.query_at(leader, &Query::About).await {
            Ok(Answer::About(about)) => about.http,
            // One of another version of the program does not know the question.
            Ok(Answer::Value(_) | Answer::Page(_) | Answer::Changes(_) | Answer::Lease(_))
            | Err(_) => None,
        };
        let (term, asked_at) = (status.term, Instant::now());
        *known = Some(Known { leader, term, http: http.clone(), asked_at });
        http
    }
}

impl Node {
    /// Another node leads, or none that is known.
    pub(super) async fn not_leader(&self, leader: Option<NodeId>) -> HttpError {
        let Some(id) = leader else {
            let message = "no leader is known; ask again";
            return HttpError::unavailable("no-leader", message).with("leader", Value::Null);
        };
        let status = self.raft.status();
        let address = status.configuration.member(id).map(|member| &*member.address);
        let http = self.leader.http(id, &status, address).await;
        let message = format!("node {id} leads");
        let leader = json!({ "id": id.0, "address": address, "http": http });
        HttpError::unavailable("not-leader", message).with("leader", leader)
    }
}
