//! A cluster as its nodes tell it: the configuration in force, and how far each member has got.

use std::collections::BTreeMap;

use futures::future;
use raft_rsm::raft_core::{Configuration, EntryId, Member, NodeId, Role};
use raft_rsm::{Client, ClientError, Status};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::report::log_end_json;
use crate::store::Store;

/// What each node that was asked says of itself.
pub(super) type Statuses = BTreeMap<NodeId, Result<Status, ClientError>>;

/// What was found out about a cluster.
pub(super) struct View {
    /// As the leader says, or else the node that knows most.
    pub(super) configuration: Configuration,
    /// The leader of the newest term, if one answered.
    pub(super) leader: Option<NodeId>,
    statuses: Statuses,
}

/// One member of it.
pub(super) struct MemberRow<'v> {
    pub(super) member: &'v Member,
    pub(super) role: &'static str,
    pub(super) reachable: Reachable,
    /// The last entry of its log.
    pub(super) last: Option<EntryId>,
    /// Up to where its log is durable, and how many entries it lacks that the leader has.
    pub(super) durable: Option<u64>,
    pub(super) lag: Option<u64>,
}

/// Who answers where a member should be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Reachable {
    Yes,
    No,
    /// A node of another incarnation than the one in the configuration: its disk was lost, and nothing that it says counts.
    OtherIncarnation,
}

impl View {
    /// Asks who can be asked.
    pub(super) async fn of(client: &Client<Store>) -> Result<View, Failure> {
        let statuses = ask_all(client).await;
        let Some(freshest) = freshest(&statuses) else {
            let problem = statuses.into_values().find_map(Result::err);
            let problem = problem.map_or_else(String::new, |error| format!(": {error}"));
            return Err(Failure::environment(format!("no node can be reached{problem}")));
        };
        let configuration = freshest.configuration.clone();
        let leader = (freshest.role == Role::Leader).then_some(freshest.id);
        Ok(View { configuration, leader, statuses })
    }

    pub(super) fn status(&self, id: NodeId) -> Option<&Status> {
        self.statuses.get(&id)?.as_ref().ok()
    }

    pub(super) fn rows(&self) -> Vec<MemberRow<'_>> {
        self.configuration.members().into_iter().map(|member| self.row(member)).collect()
    }

    fn row<'v>(&'v self, member: &'v Member) -> MemberRow<'v> {
        let status = self.status(member.id);
        let reachable = match status {
            None => Reachable::No,
            Some(status) if member.is(member.id, status.incarnation) => Reachable::Yes,
            Some(_) => Reachable::OtherIncarnation,
        };
        let led = self.leader.and_then(|leader| self.status(leader)).map(|s| s.last.index.0);
        let (last, durable) = (status.map(|s| s.last), status.map(|s| s.durable.0));
        let lag = durable.zip(led).map(|(durable, led)| led.saturating_sub(durable));
        let role = role(&self.configuration, member.id);
        MemberRow { member, role, reachable, last, durable, lag }
    }

    /// As JSON: the leader, whether a joint configuration is in force, and the members.
    pub(super) fn json(&self) -> Value {
        let rows = self.rows();
        let members = rows.iter().map(|row| {
            json!({
                "id": row.member.id.0,
                "address": row.member.address,
                "role": row.role,
                "incarnation": row.member.incarnation.map(|incarnation| incarnation.to_string()),
                "reachable": row.reachable != Reachable::No,
                "other_incarnation": row.reachable == Reachable::OtherIncarnation,
                "last": row.last.map(log_end_json),
                "durable": row.durable,
                "lag": row.lag,
            })
        });
        json!({
            "leader": self.leader.map(|leader| leader.0),
            "joint": self.configuration.is_joint(),
            "members": Value::from_iter(members),
        })
    }
}

/// The last entry of a log for a table, in the order in which logs are compared.
pub(super) fn log_end_cell(id: EntryId) -> String {
    format!("term {}, index {}", id.term, id.index)
}

/// A configuration in one line: `voters 1, 2, 3, learner 4`.
pub(super) fn in_words(configuration: &Configuration) -> String {
    let list = |name: &str, members: &[Member]| {
        let ids: Vec<_> = members.iter().map(|member| member.id.to_string()).collect();
        let plural = if ids.len() == 1 { "" } else { "s" };
        (!ids.is_empty()).then(|| format!("{name}{plural} {}", ids.join(", ")))
    };
    let sets = [
        list("voter", configuration.voters()),
        list("outgoing voter", configuration.outgoing()),
        list("learner", configuration.learners()),
    ];
    sets.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Asks all nodes that the client knows, then the members that they name, and those that these name.
pub(super) async fn ask_all(client: &Client<Store>) -> Statuses {
    const ROUNDS_MAX: usize = 3;
    let (mut statuses, mut learned) = (BTreeMap::new(), Vec::new());
    for _ in 0..ROUNDS_MAX {
        let nodes = client.nodes();
        let is_unknown = |id: &NodeId| !matches!(statuses.get(id), Some(Ok(_)));
        let unknown: Vec<_> = nodes.into_iter().filter(is_unknown).collect();
        statuses.extend(ask(client, &unknown).await);
        let Some(freshest) = freshest(&statuses) else { break };
        let members = freshest.configuration.members();
        let is_known = |id| matches!(statuses.get(&id), Some(Ok(_)));
        let addresses: Vec<_> = members.iter().map(|m| (m.id, m.address.clone())).collect();
        if members.iter().all(|member| is_known(member.id)) || learned == addresses {
            break;
        }
        client.connector().learn(&addresses);
        learned = addresses;
    }
    statuses
}

/// The leader of the newest term, or else whoever knows most.
pub(super) fn freshest(statuses: &Statuses) -> Option<&Status> {
    let known = statuses.values().filter_map(|status| status.as_ref().ok());
    known.max_by_key(|status| (status.term, status.role == Role::Leader, status.last))
}

async fn ask(client: &Client<Store>, nodes: &[NodeId]) -> Statuses {
    let asked = nodes.iter().map(|id| async move { (*id, client.status(*id).await) });
    future::join_all(asked).await.into_iter().collect()
}

fn role(configuration: &Configuration, id: NodeId) -> &'static str {
    let is_in = |set: &[Member]| set.iter().any(|member| member.id == id);
    if is_in(configuration.voters()) {
        "voter"
    } else if is_in(configuration.outgoing()) {
        "outgoing"
    } else {
        "learner"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_configuration_is_told_in_words() {
        let plain = Configuration::new(ids(&[1, 2, 3]), ids(&[4]));
        assert_eq!(in_words(&plain), "voters 1, 2, 3; learner 4");
        let joint = Configuration::joint(ids(&[2]), ids(&[1, 2]), []);
        assert_eq!(in_words(&joint), "voter 2; outgoing voters 1, 2");
    }

    #[test]
    fn whoever_is_in_the_new_set_of_voters_is_a_voter() {
        let joint = Configuration::joint(ids(&[2, 3]), ids(&[1, 2]), ids(&[4]));
        let roles = [1, 2, 3, 4].map(|id| role(&joint, NodeId(id)));
        assert_eq!(roles, ["outgoing", "voter", "voter", "learner"]);
    }
}
