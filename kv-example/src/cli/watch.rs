//! `watch`: what happens to keys, as it happens.

use std::io::{self, Write};

use clap::Args;
use raft_rsm::ClientError;
use serde_json::json;

use super::ClusterArgs;
use super::clients::clerk;
use crate::clerk::WatchError;
use crate::failure::Failure;
use crate::output::{self, stdout_outcome};
use crate::store::{Change, Event, Revision};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kv-example watch --cluster $CLUSTER --prefix jobs/              # from now on
  kv-example watch --cluster $CLUSTER --prefix jobs/ --from 1     # all that the nodes remember

Each line has the revision, `put` or `delete`, the key, its version (of a deleted key, the last one) and the value, with tabs \
between; what is not printable is escaped as in \\n or \\xff. Nothing is missed and nothing comes twice, whichever nodes \
fail. To go on later, give --from the last revision plus one. It ends when it is told to, or after --count events; \
where no node answers for longer than --timeout, it says so on stderr and goes on asking. The exit code is 1 if the nodes \
have forgotten what happened at --from: then read the keys, and watch from now on.")]
pub(super) struct WatchArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only keys that begin with this [default: all]
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// From this revision on [default: from now on]
    #[arg(long, value_name = "REVISION")]
    from: Option<u64>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print an object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let WatchArgs { cluster, prefix, from, count, json } = args;
    let clerk = clerk(&cluster)?;
    let cannot = |error| Failure::environment(format!("cannot watch: {error}"));
    let mut watch = clerk.watch(&prefix, from.map(Revision)).await.map_err(cannot)?;
    let mut left = count.unwrap_or(u64::MAX);
    let mut says_that_it_waits = true;
    while left > 0 {
        let event = match watch.next().await {
            Ok(event) => event,
            // Nothing is lost by that, and who watches waits for what may be far away.
            Err(WatchError::Client(error @ ClientError::Unavailable { .. })) => {
                if says_that_it_waits {
                    eprintln!("note: {error}; asking on");
                }
                says_that_it_waits = false;
                continue;
            }
            Err(WatchError::Client(error)) => return Err(cannot(error)),
            Err(error @ WatchError::Compacted { .. }) => return Err(Failure::refused(error)),
        };
        says_that_it_waits = true;
        left -= 1;
        let line = if json { object(&event).to_string() } else { line(&event) };
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            // Whoever does not read any more does not want to wait for the next one either.
            return stdout_outcome(error);
        }
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let Event { revision, key, change } = event;
    let key = output::escaped(key.as_bytes());
    match change {
        Change::Put(versioned) => {
            let value = output::escaped(&versioned.value);
            format!("{revision}\tput\t{key}\t{}\t{value}", versioned.version)
        }
        Change::Deleted { version } => format!("{revision}\tdelete\t{key}\t{version}"),
    }
}

fn object(event: &Event) -> serde_json::Value {
    let Event { revision, key, change } = event;
    let mut object = match change {
        Change::Put(versioned) => output::entry_json(key, versioned),
        Change::Deleted { version } => json!({ "key": &**key, "version": version.0 }),
    };
    object["revision"] = json!(revision.0);
    object["deleted"] = json!(matches!(change, Change::Deleted { .. }));
    object
}
