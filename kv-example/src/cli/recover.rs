//! A new cluster with what the last survivor of an old one has.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use raft_rsm::Cluster;
use raft_rsm::raft_core::EntryId;
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::storage::Recovery;
use raft_rsm::storage::fs::StdFileSystem;

use super::view::in_words;
use crate::failure::Failure;
use crate::output::print_line;
use crate::report::log_end_json;

#[derive(Debug, Args)]
#[command(after_help = "\
Only for when most voters are lost for ever, so that nobody can decide anything any more. As long as their disks are to be \
had, start them instead, on other machines if need be.

Stop all survivors, and take the one whose last entry is of the highest term; of those with the same term, the one \
with the highest index. A longer log whose last entry is of an older term may lack what was committed since. Without \
--yes this command shows the last entry of a directory and asks; `kv-example status` shows it while a node runs. What \
the lost ones had and the survivor has not is lost. It becomes the only voter of a new cluster, so the others, should \
they come back, are strangers to it. Revisions, fencing tokens and the numbers of sessions go on from the survivor's last entry, so those that the lost ones had given out after it are given out again: restart clients, watch anew, and have whatever looks at fencing tokens forget those that it has seen. Then start it, start new nodes with empty directories and --join, and add them:

  kv-example recover --data node3 --members 3=10.0.0.3:7101
  kv-example node --id 3 --cluster 3=10.0.0.3:7101 --data node3
  kv-example node --id 4 --cluster 3=10.0.0.3:7101 --data node4 --listen 10.0.0.4:7101 --join
  kv-example add --cluster 3=10.0.0.3:7101 --id 4 --address 10.0.0.4:7101

If it is interrupted, run it again.")]
pub(super) struct RecoverArgs {
    /// The survivor's data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The survivor and where it listens, ID=HOST:PORT; others become learners, to be started with --join and added
    #[arg(long, value_name = "CLUSTER")]
    members: Cluster,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print an object with the id of the new cluster, the last entry, and the last one known to be committed
    #[arg(long)]
    json: bool,
}

pub(super) async fn recover(args: RecoverArgs) -> Result<(), Failure> {
    let RecoverArgs { data, members, yes, json } = args;
    let runtime = Arc::new(TokioRuntime::current().map_err(Failure::environment)?);
    let recovery = Recovery::open(&data, Arc::new(StdFileSystem), runtime).await;
    let recovery = recovery.map_err(Failure::environment)?;
    let node = recovery.identity().node;
    if members.address(node).is_none() {
        return Err(Failure::environment(format!(
            "{} is the directory of node {node}, which is not among --members {members}",
            data.display()
        )));
    }
    let (EntryId { index, term }, commit) = (recovery.last(), recovery.commit());
    eprintln!(
        "{} is the directory of node {node} of cluster {}: in force are {}.\n\
         Its last entry is of term {term} and has index {index}. Choose the survivor with the highest term, and among \
         those with the same term the highest index.\n\
         It knows of the entries up to {commit} that they are committed. Of everything after {commit}, what others \
         acknowledged may be lost, or replaced by what this log holds up to entry {index}.\n\
         From now on it is the only voter of a new cluster; the others must not be started again.",
        data.display(),
        recovery.identity().cluster,
        in_words(recovery.configuration()),
    );
    if !yes {
        confirm()?;
    }
    let recovered = recovery.begin_cluster(&members).await.map_err(Failure::environment)?;
    if json {
        let object = serde_json::json!({
            "cluster": recovered.identity.cluster.to_string(),
            "node": node.0,
            "incarnation": recovered.identity.incarnation.to_string(),
            "last": log_end_json(recovered.last),
            "commit": recovered.commit.0,
        });
        return print_line(&object.to_string());
    }
    print_line(&recovered.to_string())
}

/// Asks whoever sits at the terminal.
fn confirm() -> Result<(), Failure> {
    let not_confirmed = |problem| Failure::environment(format!("nothing was changed: {problem}"));
    if !io::stdin().is_terminal() {
        return Err(not_confirmed("there is no terminal to ask at; --yes says that you mean it"));
    }
    eprint!("Type `yes` to go on: ");
    let mut answer = String::new();
    match io::stdin().lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        Ok(_) | Err(_) => Err(not_confirmed("you did not say yes")),
    }
}
