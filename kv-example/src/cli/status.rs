//! How each node of a cluster is doing.

use raft_rsm::raft_core::NodeId;
use raft_rsm::{ClientError, Cluster, Status};
use serde_json::{Value, json};

use super::StatusArgs;
use super::members::patient;
use super::view::{Statuses, ask_all, freshest, log_end_cell};
use crate::failure::Failure;
use crate::output::{self, print_line};
use crate::report::{refused, role, status_json};

struct Row<'a> {
    id: NodeId,
    address: &'a str,
    status: &'a Result<Status, ClientError>,
}

pub(super) async fn status(args: StatusArgs) -> Result<(), Failure> {
    let StatusArgs { cluster, timeout, json } = args;
    let statuses = ask_all(&patient(&cluster, timeout)?).await;
    let rows = rows(&cluster, &statuses);
    if json {
        print_line(&Value::from_iter(rows.iter().map(row_json)).to_string())?;
    } else {
        let heading = [
            "node",
            "address",
            "reachable",
            "role",
            "term",
            "leader",
            "commit",
            "applied",
            "last",
            "log",
            "snapshot",
            "refused",
        ];
        let cells: Vec<_> = rows.iter().map(row_cells).collect();
        print_line(output::table(heading, &cells).trim_end())?;
    }
    if rows.iter().any(|row| row.status.is_ok()) {
        return Ok(());
    }
    let problem = rows.iter().find_map(|row| row.status.as_ref().err());
    let problem = problem.map_or_else(String::new, |problem| format!(": {}", reason(problem)));
    Err(Failure::environment(format!("no node of {cluster} can be reached{problem}")))
}

/// The nodes that the text names, and the members that it does not name.
fn rows<'a>(cluster: &'a Cluster, statuses: &'a Statuses) -> Vec<Row<'a>> {
    let members = freshest(statuses).map(|status| &status.configuration);
    let address = |id| {
        let member = || Some(&*members?.member(id)?.address);
        cluster.address(id).or_else(member).unwrap_or("-")
    };
    let rows = statuses.iter().map(|(id, status)| Row { id: *id, address: address(*id), status });
    rows.collect()
}

/// One node was asked and no other one could have answered: what is said of leaders does not matter.
fn reason(error: &ClientError) -> String {
    if let ClientError::Unavailable { reason } = error {
        return reason.clone();
    }
    error.to_string()
}

fn row_json(row: &Row<'_>) -> Value {
    let Row { id, address, status } = row;
    match status {
        Ok(status) => status_json(address, status),
        Err(error) => json!({
            "id": id.0,
            "address": address,
            "reachable": false,
            "error": reason(error),
        }),
    }
}

fn row_cells(row: &Row<'_>) -> [String; 12] {
    let none = || "-".to_owned();
    let (id, address) = (row.id.to_string(), row.address.to_owned());
    let Ok(status) = row.status else {
        let mut cells = std::array::from_fn(|_| none());
        [cells[0], cells[1], cells[2]] = [id, address, "no".to_owned()];
        return cells;
    };
    [
        id,
        address,
        "yes".to_owned(),
        role(status).to_owned(),
        status.term.to_string(),
        status.leader.map_or_else(none, |leader| leader.to_string()),
        status.commit.to_string(),
        status.applied.to_string(),
        log_end_cell(status.last),
        output::size(status.log_bytes),
        status.snapshot.map_or_else(none, |last| {
            format!("up to {}, {}", last.index, output::size(status.snapshot_bytes))
        }),
        refused(status).iter().map(|(_, count)| count).sum::<u64>().to_string(),
    ]
}
