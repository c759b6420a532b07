//! `lease`: keys that go when nobody keeps them.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::clients::clerk;
use super::{ClusterArgs, seconds};
use crate::clerk::LeaseError;
use crate::failure::Failure;
use crate::output::print_line;
use crate::store::{LeaseId, LeaseInfo};

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  LEASE=$(kv-example lease grant --cluster $CLUSTER --ttl 30)
  kv-example put --cluster $CLUSTER --lease $LEASE workers/7 alive
  kv-example lease keep-alive --cluster $CLUSTER $LEASE     # within 30 seconds, again and again

A lease ends when it is not kept alive for its time, and takes the keys with it that are tied to it. The time that counts is \
the cluster's own, which stands still while no node leads: a lease may last longer, and never ends early. The exit \
code is 1 if there is no such lease, or no longer; but to revoke one that has ended is done already.")]
pub(super) struct LeaseArgs {
    #[command(subcommand)]
    action: LeaseAction,
}

#[derive(Debug, Subcommand)]
enum LeaseAction {
    /// Grant a lease, and print its number
    Grant(GrantArgs),
    /// Let a lease live for its whole time from now on, and print that time in seconds
    KeepAlive(OneArgs),
    /// End a lease: its keys are deleted
    Revoke(OneArgs),
    /// Print a lease's time, what is left of it, and its keys
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct GrantArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How long it lives without being kept alive
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    ttl: Duration,
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The lease
    lease: u64,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Print an object
    #[arg(long)]
    json: bool,
}

pub(super) async fn lease(args: LeaseArgs) -> Result<(), Failure> {
    match args.action {
        LeaseAction::Grant(GrantArgs { cluster, ttl }) => match clerk(&cluster)?.grant(ttl).await {
            Ok(lease) => print_line(&lease.to_string()),
            Err(error) => Err(failure("the lease was not granted", error)),
        },
        LeaseAction::KeepAlive(OneArgs { cluster, lease }) => {
            match clerk(&cluster)?.keep_alive(LeaseId(lease)).await {
                Ok(ttl) => print_line(&ttl.as_secs_f64().to_string()),
                Err(error) => Err(failure(&name(lease), error)),
            }
        }
        LeaseAction::Revoke(OneArgs { cluster, lease }) => {
            let revoked = clerk(&cluster)?.revoke(LeaseId(lease)).await;
            revoked.map_err(|error| failure(&name(lease), LeaseError::Client(error)))
        }
        LeaseAction::Show(ShowArgs { one: OneArgs { cluster, lease }, json }) => {
            match clerk(&cluster)?.lease(LeaseId(lease)).await {
                Ok(Some(info)) => show(lease, &info, json),
                Ok(None) => Err(failure(&name(lease), LeaseError::NoLease)),
                Err(error) => Err(failure(&name(lease), LeaseError::Client(error))),
            }
        }
    }
}

fn show(lease: u64, info: &LeaseInfo, json: bool) -> Result<(), Failure> {
    let LeaseInfo { ttl, left, keys } = info;
    let (ttl, left) = (ttl.as_secs_f64(), left.as_secs_f64());
    if json {
        let object =
            json!({ "lease": lease, "ttl_seconds": ttl, "left_seconds": left, "keys": keys });
        return print_line(&object.to_string());
    }
    print_line(&format!("ttl   {ttl} s"))?;
    print_line(&format!("left  {left:.1} s"))?;
    keys.iter().try_for_each(|key| {
        print_line(&format!("key   {}", crate::output::escaped(key.as_bytes())))
    })
}

fn name(lease: u64) -> String {
    format!("lease {lease}")
}

fn failure(place: &str, error: LeaseError) -> Failure {
    let message = format!("{place}: {error}");
    match error {
        LeaseError::NoLease | LeaseError::TooMany => Failure::refused(message),
        LeaseError::Client(raft_rsm::ClientError::NotAdmitted { .. }) => Failure::refused(message),
        LeaseError::Client(_) => Failure::environment(message),
    }
}
