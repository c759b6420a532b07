//! The commands that speak to a cluster about its keys.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_rsm::ClientError;

use super::{ClusterArgs, DeleteArgs, ExportArgs, GetArgs, ImportArgs, PutArgs, ScanArgs};
use crate::clerk::{Clerk, DeleteError, PutError, TransactError};
use crate::connect::{connect, within};
use crate::failure::Failure;
use crate::output::{self, print, print_line, progress_bar, stdout_outcome};
use crate::store::{self, Condition, LeaseId, Transaction, Version, Versioned};
use crate::text::{self, ExportError, Import, ImportError, Imported, Survey};

/// Keys a page of a scan.
const PAGE_KEYS: u32 = 1000;

/// A session is closed within this, or ends by itself.
const CLOSING: Duration = Duration::from_secs(2);

pub(super) fn clerk(args: &ClusterArgs) -> Result<Clerk, Failure> {
    connect(&args.cluster, within(args.timeout)).map(Clerk::new)
}

pub(super) async fn put(args: PutArgs) -> Result<(), Failure> {
    let PutArgs { cluster, key, value, version, lease } = args;
    let clerk = clerk(&cluster)?;
    let value = Bytes::from(value.into_encoded_bytes());
    let expected = match version {
        Some(version) => Version(version),
        None => {
            let current = clerk.get(&key).await.map_err(|error| client_failure(&key, error))?;
            current.map_or(Version::ABSENT, |current| current.version)
        }
    };
    let put = match lease {
        Some(lease) => put_tied(&clerk, &key, value, expected, LeaseId(lease)).await,
        None => clerk.put(&key, value, expected).await.map_err(Some),
    };
    match put {
        Ok(new) => print_line(&new.to_string()),
        Err(Some(error)) => Err(put_failure(&key, version.is_some(), expected, error)),
        Err(None) => Err(Failure::refused(format!(
            "there is no lease {}, or no longer, or it has too many keys; nothing was written",
            lease.unwrap_or_default()
        ))),
    }
}

/// A put that ties the key to a lease, with the same answers; `None`: it cannot be tied to it.
async fn put_tied(
    clerk: &Clerk,
    key: &str,
    value: Bytes,
    expected: Version,
    lease: LeaseId,
) -> Result<Version, Option<PutError>> {
    let condition = Condition { key: key.to_owned(), version: expected };
    let write = store::Write::Put { key: key.to_owned(), value, lease: Some(lease) };
    let transaction = Transaction { conditions: vec![condition], writes: vec![write] };
    match clerk.transact(transaction).await {
        Ok(_) => Ok(expected.next()),
        Err(TransactError::NoLease | TransactError::TooMany) => Err(None),
        Err(TransactError::ConditionFailed { current: Version::ABSENT, .. }) => {
            Err(Some(PutError::NoKey))
        }
        Err(TransactError::ConditionFailed { current, .. }) => {
            Err(Some(PutError::VersionMismatch { current }))
        }
        Err(TransactError::Maybe) => Err(Some(PutError::Maybe)),
        Err(TransactError::Client(error)) => Err(Some(PutError::Client(error))),
    }
}

fn put_failure(key: &str, version_given: bool, expected: Version, error: PutError) -> Failure {
    let name = output::quoted(key);
    match error {
        PutError::Client(error) => client_failure(key, error),
        PutError::VersionMismatch { current } if version_given => Failure::refused(format!(
            "key {name} has version {current}, not {expected}; nothing was written"
        )),
        PutError::VersionMismatch { current } => Failure::refused(format!(
            "lost a race: key {name} had version {expected} when it was read and has {current} now; nothing was written"
        )),
        PutError::NoKey if version_given => Failure::refused(format!(
            "there is no key {name}, so it has no version {expected}; --version 0 creates it; nothing was written"
        )),
        PutError::NoKey => Failure::refused(format!(
            "lost a race: key {name} had version {expected} when it was read and was deleted since; nothing was written"
        )),
        PutError::Maybe => Failure::refused(format!(
            "key {name} no longer has version {expected}, and an earlier try of this same request may be why: it may have been written; read it to see"
        )),
    }
}

pub(super) async fn get(args: GetArgs) -> Result<(), Failure> {
    let GetArgs { cluster, key, consistency, json } = args;
    let found = clerk(&cluster)?
        .get_with(&key, consistency.into())
        .await
        .map_err(|error| client_failure(&key, error))?;
    let Some(versioned) = found else {
        return Err(no_key(&key));
    };
    if json {
        return print_line(&output::entry_json(&key, &versioned).to_string());
    }
    let mut line = versioned.value.to_vec();
    line.push(b'\n');
    print(&line)
}

pub(super) async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let DeleteArgs { cluster, key, version } = args;
    let clerk = match version {
        Some(_) => clerk(&cluster)?,
        // No version refuses what comes twice.
        None => Clerk::in_session(connect(&cluster.cluster, within(cluster.timeout))?),
    };
    let deleted = delete_with(&clerk, &key, version).await;
    close(&clerk).await;
    deleted
}

/// Ends the session of a clerk, if it has one. The nodes need not remember it; if they do not hear of that soon, they forget it
/// by themselves.
pub(super) async fn close(clerk: &Clerk) {
    let _ = tokio::time::timeout(CLOSING, clerk.close()).await;
}

async fn delete_with(clerk: &Clerk, key: &str, version: Option<u64>) -> Result<(), Failure> {
    match clerk.delete(key, version.map(Version)).await {
        Ok(version) => print_line(&version.to_string()),
        Err(DeleteError::NoKey) => Err(no_key(key)),
        Err(DeleteError::VersionMismatch { current }) => Err(Failure::refused(format!(
            "key {} has version {current}; nothing was deleted",
            output::quoted(key)
        ))),
        Err(DeleteError::Maybe) => Err(Failure::refused(format!(
            "key {} is not there to be deleted, and an earlier try of this same request may be why: it may have been deleted; read it to see",
            output::quoted(key)
        ))),
        Err(DeleteError::Client(error)) => Err(client_failure(key, error)),
    }
}

pub(super) async fn scan(args: ScanArgs) -> Result<(), Failure> {
    let ScanArgs { cluster, prefix, limit, consistency, json } = args;
    let clerk = clerk(&cluster)?;
    let mut left = limit.unwrap_or(u64::MAX);
    let mut after: Option<String> = None;
    let mut stdout = BufWriter::new(io::stdout());
    while left > 0 {
        let count = u32::try_from(left).map_or(PAGE_KEYS, |left| left.min(PAGE_KEYS));
        let page = clerk
            .scan_with(&prefix, after.as_deref(), count, consistency.into())
            .await
            .map_err(|error| Failure::environment(format!("cannot scan: {error}")))?;
        for (key, versioned) in &page.entries {
            let written = stdout.write_all(scan_line(key, versioned, json).as_bytes());
            if let Err(error) = written {
                return stdout_outcome(error);
            }
        }
        left = left.saturating_sub(page.entries.len() as u64);
        match page.entries.into_iter().next_back() {
            Some((key, _)) if page.more => after = Some(key),
            Some(_) | None => break,
        }
    }
    stdout.flush().or_else(stdout_outcome)
}

fn scan_line(key: &str, versioned: &Versioned, json: bool) -> String {
    if json {
        return format!("{}\n", output::entry_json(key, versioned));
    }
    let key = output::escaped(key.as_bytes());
    format!("{key}\t{}\t{}\n", versioned.version, output::escaped(&versioned.value))
}

pub(super) async fn import(args: ImportArgs) -> Result<(), Failure> {
    let ImportArgs { cluster, file, window } = args;
    let clerk = clerk(&cluster)?;
    let in_file = |error: ImportError| import_failure(&file, error);
    let mut text = BufReader::new(open_text(&file)?);
    let survey = text::survey(&mut text).map_err(|error| in_file(error.into()))?;
    text.rewind().map_err(|error| Failure::environment(format!("{}: {error}", file.display())))?;

    let bar = progress_bar(survey.lines);
    let progress = |lines| bar.set_position(lines);
    let begin = Instant::now();
    let imported = Import { clerk: &clerk, survey, window, progress: &progress }.run(text).await;
    bar.finish_and_clear();
    print_line(&summary(&imported.map_err(in_file)?, &survey, begin.elapsed()))
}

/// Opens a text that can be read twice: what is no regular file (a pipe, say) is copied to a temporary one.
fn open_text(path: &Path) -> Result<File, Failure> {
    let cannot =
        |error: io::Error| Failure::environment(format!("cannot read {}: {error}", path.display()));
    let mut source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let file = File::open(path).map_err(cannot)?;
        if file.metadata().map_err(cannot)?.is_file() {
            return Ok(file);
        }
        Box::new(file)
    };
    let mut copy = tempfile::tempfile().map_err(|error| {
        Failure::environment(format!("cannot create a temporary file: {error}"))
    })?;
    io::copy(&mut source, &mut copy).and_then(|_| copy.rewind()).map_err(cannot)?;
    Ok(copy)
}

fn summary(imported: &Imported, survey: &Survey, elapsed: Duration) -> String {
    let Imported { written, present, deleted } = imported;
    let mut text = format!(
        "{} lines ({}) in {:.1} s: {written} written",
        survey.lines,
        output::size(survey.bytes),
        elapsed.as_secs_f64()
    );
    if *present > 0 {
        text.push_str(&format!(", {present} were there already"));
    }
    if *deleted > 0 {
        text.push_str(&format!(", {deleted} of a longer text deleted"));
    }
    text
}

fn import_failure(file: &Path, error: ImportError) -> Failure {
    let message = format!("{}: {error}", file.display());
    match error {
        ImportError::Foreign { .. } | ImportError::Contended { .. } => Failure::refused(message),
        ImportError::Lines(_) | ImportError::Changed { .. } => Failure::environment(message),
        ImportError::Client { place, error } => {
            client_failure_at(&format!("{}: {place}", file.display()), error)
        }
    }
}

pub(super) async fn export(args: ExportArgs) -> Result<(), Failure> {
    let clerk = clerk(&args.cluster)?;
    let mut stdout = BufWriter::new(io::stdout());
    match text::export(&clerk, &mut stdout).await {
        Ok(_) => Ok(()),
        Err(ExportError::Io(error)) => stdout_outcome(error),
        Err(ExportError::Client(error)) => {
            Err(Failure::environment(format!("the export stopped: {error}")))
        }
        Err(
            error @ (ExportError::NoText
            | ExportError::Foreign
            | ExportError::Incomplete { .. }
            | ExportError::Missing { .. }
            | ExportError::Changed),
        ) => Err(Failure::refused(error)),
    }
}

fn no_key(key: &str) -> Failure {
    Failure::refused(format!("there is no key {}", output::quoted(key)))
}

fn client_failure(key: &str, error: ClientError) -> Failure {
    client_failure_at(&format!("key {}", output::quoted(key)), error)
}

pub(super) fn client_failure_at(place: &str, error: ClientError) -> Failure {
    let message = format!("{place}: {error}");
    if matches!(error, ClientError::NotAdmitted { .. } | ClientError::TooLarge { .. }) {
        return Failure::refused(message);
    }
    Failure::environment(message)
}
