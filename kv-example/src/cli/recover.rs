//! A new cluster with what the last survivor of an old one has.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use raft_rsm::Cluster;
use raft_rsm::runtime::TokioRuntime;
use raft_rsm::storage::Recovery;
use raft_rsm::storage::fs::StdFileSystem;

use super::view::in_words;
use crate::failure::Failure;
use crate::output::print_line;

#[derive(Debug, Args)]
#[command(after_help = "\
Only for when most voters are lost for ever, so that nobody can decide anything any more. As long as their disks are to be \
had, start them instead, on other machines if need be.

Take the survivor whose log goes furthest (`kv-example members` shows it while they run), and stop all of them. What \
the lost ones had and it has not is lost. It becomes the only voter of a new cluster, so the others, should they come \
back, are strangers to it. Then start it, start new nodes with empty directories and --join, and add them:

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
    eprintln!(
        "{} is the directory of node {node} of cluster {}: in force are {}.\n\
         Its log ends with entry {}, and it knows of those up to {} that they are committed.\n\
         From now on it is the only voter of a new cluster. What the others had after entry {} is lost, though clients \
         may have been told that it was done; the others must not be started again.",
        data.display(),
        recovery.identity().cluster,
        in_words(recovery.configuration()),
        recovery.last().index,
        recovery.commit(),
        recovery.last().index,
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
            "last": recovered.last.index.0,
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
