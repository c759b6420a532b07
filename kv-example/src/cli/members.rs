//! The commands of whoever runs a cluster: who is a member, who leads, when the logs are cut.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use futures::future;
use indicatif::ProgressBar;
use raft_rsm::raft_core::{Configuration, Member, NodeId};
use raft_rsm::{
    Client, ClientError, Cluster, Identity, JoinError, MembershipChange, MembershipError,
    TransferError, cluster_to_join,
};
use serde_json::{Value, json};

use super::view::{Reachable, View, in_words, log_end_cell};
use super::{ClusterArgs, reachable, seconds};
use crate::connect::{connect, within};
use crate::failure::Failure;
use crate::output::{self, print_line};
use crate::store::Store;

/// A node that is asked who it is answers within this, or it is not there.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// So often is looked how far a node has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
#[command(after_help = "\
The members are those of the configuration in force, as the leader tells it. `last` is the last entry of a member's \
log: of two logs the one with the higher term there is the newer one, whatever the indexes. `durable` is how far a log \
is on the member's disk, `lag` how many entries it lacks that the leader has. `outgoing` is a voter of the old configuration, while a joint \
one is in force. A member that is reachable as `another incarnation` has lost its disk: nothing that it says \
counts until it is added again. The exit code is 2 if no node can be reached.")]
pub(super) struct MembersArgs {
    /// The nodes and where they listen, or some of them: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// Give a node up after this many seconds without an answer
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    timeout: Duration,
    /// Print an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv-example node --id 4 --cluster $CLUSTER --data node4 --listen 10.0.0.4:7101 --join    # on the new machine
  kv-example add --cluster $CLUSTER --id 4 --address 10.0.0.4:7101

The node at the address is asked who it is. It first receives the log as a learner, and becomes a voter when it has \
caught up; if it takes too long, it stays a learner, and the same command goes on later. A node that has lost its \
disk and was started with --rejoin is added by the same command under its old id. So is a member that listens \
elsewhere now: its new address is written down. --learner makes a member of either kind one without a vote.

The exit code is 1 if the cluster said no or not yet.")]
pub(super) struct AddArgs {
    /// The nodes and where they listen, or some of them: ID=HOST:PORT,ID=HOST:PORT,...
    #[arg(long, value_name = "CLUSTER")]
    cluster: Cluster,
    /// The node's id
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Where the others reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = reachable)]
    address: String,
    /// Give it no vote
    #[arg(long)]
    learner: bool,
    /// Give up after this many seconds; what was begun may still be done
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    timeout: Duration,
    /// Print the members that are in force then, as an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The node may be dead. A leader that is removed hands the lead over. What was removed does not stop by itself: stop it a \
moment later, since clients that know nobody else learn from it who the others are, and never start it again with the data that it has. The exit code is 1 if it is no member, or if the cluster said no.")]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The node's id
    #[arg(long, value_name = "ID")]
    id: u64,
    /// Print the members that are in force then, as an object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes wait for the few milliseconds that it takes. A node that is stopped by SIGTERM hands the lead over by itself. The \
exit code is 1 if the leader could not hand it over, and leads on.")]
pub(super) struct TransferArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Who is to lead [default: the voter that is best prepared]
    #[arg(long, value_name = "ID")]
    to: Option<u64>,
    /// Print an object with the id of the new leader
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Nodes do so by themselves as their logs grow (--snapshot-log-bytes of `node`). The exit code is 1 if a node has nothing \
to keep yet, and 2 if one could not do it.")]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only this node [default: every one that can be reached]
    #[arg(long, value_name = "ID")]
    id: Option<u64>,
    /// Print an array of objects with the id of a node and the last entry that its snapshot contains
    #[arg(long)]
    json: bool,
}

pub(super) async fn members(args: MembersArgs) -> Result<(), Failure> {
    let MembersArgs { cluster, timeout, json } = args;
    let view = View::of(&patient(&cluster, timeout)?).await?;
    if json {
        return print_line(&view.json().to_string());
    }
    let heading = ["node", "address", "role", "incarnation", "reachable", "last", "durable", "lag"];
    let none = || "-".to_owned();
    let number = |number: Option<u64>| number.map_or_else(none, |number| number.to_string());
    let rows = view.rows();
    let cells = rows.iter().map(|row| {
        let reachable = match row.reachable {
            Reachable::Yes => "yes",
            Reachable::No => "no",
            Reachable::OtherIncarnation => "as another incarnation",
        };
        let is_leader = view.leader == Some(row.member.id);
        [
            row.member.id.to_string(),
            row.member.address.clone(),
            format!("{}{}", row.role, if is_leader { ", leads" } else { "" }),
            row.member.incarnation.map_or_else(none, |incarnation| incarnation.to_string()),
            reachable.to_owned(),
            row.last.map_or_else(none, log_end_cell),
            number(row.durable),
            number(row.lag),
        ]
    });
    print_line(output::table(heading, &cells.collect::<Vec<_>>()).trim_end())?;
    if view.configuration.is_joint() {
        let members = in_words(&view.configuration);
        print_line(&format!("a joint configuration is in force: {members}"))?;
    }
    if view.leader.is_none() {
        eprintln!("warning: no leader answered, so the members may be others by now");
    }
    Ok(())
}

pub(super) async fn add(args: AddArgs) -> Result<(), Failure> {
    let AddArgs { cluster, id, address, learner, timeout, json } = args;
    let (id, client) = (NodeId(id), connect(&cluster, within(timeout))?);
    let identity = who_listens(&client, &cluster, id, &address, timeout.min(ASKED_FOR)).await?;
    let member = Member::of_incarnation(id, identity.incarnation, &*address);
    client.connector().learn(&[(id, address.clone())]);
    let change = match learner {
        true => MembershipChange::AddLearner(member),
        false => MembershipChange::AddVoter(member),
    };
    let mut changing = std::pin::pin!(client.change_membership(&change, timeout));
    let bar = progress_bar(id);
    let changed = loop {
        tokio::select! {
            biased;
            changed = &mut changing => break changed,
            () = show_progress(&client, id, &bar) => {}
        }
    };
    bar.finish_and_clear();
    let configuration = changed.map_err(|error| change_failure(&cluster, &error))?;
    let kind = if learner { "learner" } else { "voter" };
    let done = format!("node {id} at {address} is a {kind}");
    tell(&done, &configuration, json)
}

/// Asks the node at an address who it is, and whether it is what the operator takes it for.
async fn who_listens(
    client: &Client<Store>,
    cluster: &Cluster,
    id: NodeId,
    address: &str,
    patience: Duration,
) -> Result<Identity, Failure> {
    let connector = client.connector();
    let identity = connector.identify(address, patience).await.map_err(|error| {
        Failure::environment(format!(
            "{error}; start the node first, with --join, or with --rejoin if it has lost its disk"
        ))
    })?;
    if identity.node != id {
        return Err(Failure::environment(format!(
            "node {} listens at {address}, not node {id}",
            identity.node
        )));
    }
    // The others know best. Where there are none, the node itself says it where it used to listen, if it still does.
    let joined = match cluster_to_join(connector.as_ref(), cluster, id, patience).await {
        Err(JoinError::NobodyToAsk { .. }) => {
            let nobody = NodeId(0);
            match cluster_to_join(connector.as_ref(), cluster, nobody, patience).await {
                Err(JoinError::NoAnswer { .. }) => return Ok(identity),
                joined => joined,
            }
        }
        joined => joined,
    };
    match joined {
        Ok(joined) if joined != identity.cluster => Err(Failure::environment(format!(
            "node {id} at {address} belongs to cluster {}, not to {joined}; start it with an empty directory and --join",
            identity.cluster
        ))),
        Ok(_) => Ok(identity),
        Err(error) => Err(Failure::environment(error)),
    }
}

/// How far a node has caught up, once.
async fn show_progress(client: &Client<Store>, id: NodeId, bar: &ProgressBar) {
    tokio::time::sleep(LOOK_EVERY).await;
    if bar.is_hidden() {
        return future::pending().await;
    }
    let statuses = client.nodes().into_iter().map(|node| client.status(node));
    let statuses = future::join_all(statuses).await;
    let known = || statuses.iter().filter_map(|status| status.as_ref().ok());
    let goal = known().map(|status| status.commit.0).max().unwrap_or(0);
    let durable = known().find(|status| status.id == id).map_or(0, |status| status.durable.0);
    bar.set_length(goal);
    bar.set_position(durable.min(goal));
}

fn progress_bar(id: NodeId) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let template =
        format!("node {id} catches up: {{wide_bar}} {{human_pos}}/{{human_len}} entries");
    if let Ok(style) = indicatif::ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

fn change_failure(cluster: &Cluster, error: &ClientError) -> Failure {
    let ClientError::Membership(membership) = error else {
        return Failure::environment(error);
    };
    match membership {
        MembershipError::NotCaughtUp { id, configuration } => Failure::refused(format!(
            "{error}: in force are {}; `kv-example members --cluster {cluster}` shows how far it is: then run this command again, or `kv-example remove --cluster {cluster} --id {id}`",
            in_words(configuration)
        )),
        MembershipError::NotHeard { configuration, .. } => Failure::refused(format!(
            "{error}: in force are {}; start it, and run this command again",
            in_words(configuration)
        )),
        MembershipError::InProgress { configuration } => Failure::refused(format!(
            "{error}, one at a time: in force are {}; try again when `kv-example members --cluster {cluster}` shows that it is done",
            in_words(configuration)
        )),
        MembershipError::Invalid { .. } => Failure::refused(error),
        MembershipError::Maybe(_) => Failure::environment(format!(
            "{error}; `kv-example members --cluster {cluster}` shows who is a member"
        )),
        // What a client passes on is none of these; were it, nothing was done.
        MembershipError::NotLeader { .. }
        | MembershipError::Busy
        | MembershipError::Stopped
        | _ => Failure::environment(error),
    }
}

pub(super) async fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let RemoveArgs { cluster: ClusterArgs { cluster, timeout }, id, json } = args;
    let (id, client) = (NodeId(id), connect(&cluster, within(timeout))?);
    let view = View::of(&client).await?;
    if !view.configuration.contains(id) {
        return Err(Failure::refused(format!(
            "node {id} is no member: in force are {}",
            in_words(&view.configuration)
        )));
    }
    let changed = client.change_membership(&MembershipChange::Remove(id), timeout).await;
    let configuration = changed.map_err(|error| change_failure(&cluster, &error))?;
    tell(&format!("node {id} is no member any more"), &configuration, json)
}

/// Says what was done, and who is a member now.
fn tell(done: &str, configuration: &Configuration, json: bool) -> Result<(), Failure> {
    if !json {
        return print_line(&format!("{done}: in force are {}", in_words(configuration)));
    }
    let set = |members: &[Member]| {
        Value::from_iter(members.iter().map(|member| {
            json!({
                "id": member.id.0,
                "address": member.address,
                "incarnation": member.incarnation.map(|incarnation| incarnation.to_string()),
            })
        }))
    };
    let object =
        json!({ "voters": set(configuration.voters()), "learners": set(configuration.learners()) });
    print_line(&object.to_string())
}

pub(super) async fn transfer(args: TransferArgs) -> Result<(), Failure> {
    let TransferArgs { cluster: ClusterArgs { cluster, timeout }, to, json } = args;
    let client = connect(&cluster, within(timeout))?;
    let leader = match (client.transfer_leadership(to.map(NodeId)).await, to) {
        (Ok(leader), _) => leader,
        // What was asked for is so.
        (Err(ClientError::Transfer(TransferError::LeadsAlready)), Some(to)) => NodeId(to),
        (Err(error @ ClientError::Transfer(_)), _) => return Err(Failure::refused(error)),
        (Err(error), _) => return Err(Failure::environment(error)),
    };
    match json {
        true => print_line(&json!({ "leader": leader.0 }).to_string()),
        false => print_line(&format!("node {leader} leads")),
    }
}

pub(super) async fn snapshot(args: SnapshotArgs) -> Result<(), Failure> {
    let SnapshotArgs { cluster: ClusterArgs { cluster, timeout }, id, json } = args;
    let client = connect(&cluster, within(timeout))?;
    let nodes = match id {
        Some(id) => vec![NodeId(id)],
        None => {
            let view = View::of(&client).await?;
            let members = view.configuration.members();
            let members = members.into_iter().map(|member| member.id);
            members.filter(|id| view.status(*id).is_some()).collect()
        }
    };
    let taken = nodes.iter().map(|id| client.snapshot(*id, timeout));
    let taken: Vec<_> = nodes.iter().zip(future::join_all(taken).await).collect();
    if json {
        let rows = taken.iter().map(|(id, taken)| match taken {
            Ok(last) => json!({ "id": id.0, "index": last.index.0, "term": last.term.0 }),
            Err(error) => json!({ "id": id.0, "error": error.to_string() }),
        });
        print_line(&Value::from_iter(rows).to_string())?;
    } else {
        for (id, taken) in &taken {
            if let Ok(last) = taken {
                print_line(&format!("node {id} has a snapshot up to entry {}", last.index))?;
            }
        }
    }
    for (id, taken) in taken {
        match taken {
            Ok(_) => {}
            Err(error @ ClientError::Snapshot(_)) => {
                return Err(Failure::refused(format!("node {id}: {error}")));
            }
            Err(ClientError::Unavailable { reason }) => return Err(Failure::environment(reason)),
            Err(error) => return Err(Failure::environment(format!("node {id}: {error}"))),
        }
    }
    Ok(())
}

/// A client that gives each node so long to answer.
pub(super) fn patient(cluster: &Cluster, timeout: Duration) -> Result<Client<Store>, Failure> {
    let mut options = within(timeout);
    options.call_timeout = timeout;
    connect(cluster, options)
}
