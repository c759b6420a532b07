//! The demonstration: three nodes, one of which dies while a text goes in.

mod cluster;
mod timeline;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use raft_rsm::raft_core::NodeId;

use self::cluster::DemoCluster;
use self::timeline::Timeline;
use crate::clerk::Clerk;
use crate::connect::{connect, within};
use crate::failure::Failure;
use crate::output::{progress_bar, say, size};
use crate::text::{self, Import, Imported};

/// Eight plays in the spelling of 1623: see `text/README.md`.
const TEXT: &[u8] = include_bytes!("../text/histories.txt");

/// Longer than any election or catching up takes; it only ends a demonstration that has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the demonstration is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the nodes' disks are kept; `None`: in a temporary directory, removed at the end.
    pub data: Option<PathBuf>,
    /// Lines in flight at once.
    pub window: std::num::NonZeroUsize,
}

/// Runs the demonstration, and tells about it on stdout.
///
/// # Errors
/// Not every byte is there on every node, or it did not get as far as that.
pub async fn run(options: Options) -> Result<(), Failure> {
    let disks = Disks::new(options.data.as_deref())?;
    let outcome = tokio::select! {
        biased;
        outcome = show(&options, disks.path()) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::environment("interrupted")),
    };
    if let Disks::Kept(path) = &disks {
        say(&format!("the nodes' disks are in {}", path.display()));
    }
    outcome
}

async fn show(options: &Options, disks: &Path) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut cluster = DemoCluster::start(disks).await?;
    let leader = cluster.leader(PATIENCE).await?;
    say(&format!(
        "started nodes {}; node {leader} leads after {}",
        cluster.cluster(),
        seconds(begin.elapsed())
    ));

    let killed = import_and_kill(options, &mut cluster).await?;

    let begin = Instant::now();
    cluster.restart(killed, PATIENCE).await?;
    let entries = cluster.catch_up(PATIENCE).await?;
    say(&format!(
        "started node {killed} again: it has caught up with all {entries} entries after {}",
        seconds(begin.elapsed())
    ));
    compare(&cluster)?;
    cluster.shutdown().await;
    Ok(())
}

/// Imports the text; half-way the leader is stopped, and stays so. Returns who that was.
async fn import_and_kill(options: &Options, cluster: &mut DemoCluster) -> Result<NodeId, Failure> {
    let survey = text::survey(&mut { TEXT }).map_err(Failure::environment)?;
    let lines = survey.lines;
    say(&format!("importing {lines} lines ({}), {} in flight", size(survey.bytes), options.window));
    let clerk = Clerk::new(connect(cluster.cluster(), within(PATIENCE))?);
    let bar = progress_bar(lines);
    let timeline = Timeline::new(lines / 2);
    let progress = |done| {
        timeline.acknowledged(done);
        bar.set_position(done);
    };
    let import = Import { clerk: &clerk, survey, window: options.window, progress: &progress };
    let begin = Instant::now();
    let mut importing = pin!(import.run(TEXT));

    let (killed, at) = tokio::select! {
        biased;
        outcome = &mut importing => {
            outcome.map_err(|error| Failure::environment(format!("import: {error}")))?;
            return Err(Failure::environment("the import ended before a leader could be stopped"));
        }
        killed = async {
            timeline.half_way().await;
            let leader = cluster.leader(PATIENCE).await?;
            let at = timeline.interrupt();
            cluster.kill(leader);
            Ok::<_, Failure>((leader, at))
        } => killed?,
    };
    bar.suspend(|| say(&format!("killed node {killed}, the leader, after {at} lines")));
    let imported: Imported =
        importing.await.map_err(|error| Failure::environment(format!("import: {error}")))?;
    let elapsed = begin.elapsed();
    bar.finish_and_clear();
    let new_leader = cluster.leader(PATIENCE).await?;
    say(&format!(
        "node {new_leader} leads now; the client waited {} for an answer at worst",
        seconds(timeline.outage())
    ));
    let lines_per_second = lines as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    say(&format!(
        "imported {} lines in {}, {lines_per_second:.0} a second",
        imported.written + imported.present,
        seconds(elapsed)
    ));
    Ok(killed)
}

/// Compares each node's own state with the text.
fn compare(cluster: &DemoCluster) -> Result<(), Failure> {
    let mut different = Vec::new();
    for (id, store) in cluster.stores() {
        let mut found = Vec::with_capacity(TEXT.len());
        let outcome = text::export_replica(&store, &mut found);
        let problem = match outcome {
            Err(error) => Some(error.to_string()),
            Ok(_) => difference(&found),
        };
        match problem {
            None => say(&format!("node {id}: {} bytes, every one as in the text", found.len())),
            Some(problem) => {
                say(&format!("node {id}: {problem}"));
                different.push(id.to_string());
            }
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    let nodes = different.join(" and ");
    Err(Failure::refused(format!("the text is not what it was on node {nodes}")))
}

fn difference(found: &[u8]) -> Option<String> {
    let at = found.iter().zip(TEXT).position(|(found, expected)| found != expected);
    match at {
        Some(at) => Some(format!("differs from the text at byte {at}")),
        None if found.len() != TEXT.len() => {
            Some(format!("{} bytes instead of {}", found.len(), TEXT.len()))
        }
        None => None,
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Where the nodes' disks are.
enum Disks {
    /// Removed when it is dropped.
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Disks {
    fn new(data: Option<&Path>) -> Result<Disks, Failure> {
        match data {
            Some(path) => {
                std::fs::create_dir(path).map_err(|error| {
                    Failure::environment(format!("cannot create {}: {error}", path.display()))
                })?;
                Ok(Disks::Kept(path.to_owned()))
            }
            None => {
                let dir = tempfile::Builder::new().prefix("kv-example-").tempdir();
                dir.map(Disks::Temporary).map_err(|error| {
                    Failure::environment(format!("cannot create a temporary directory: {error}"))
                })
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Disks::Temporary(dir) => dir.path(),
            Disks::Kept(path) => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        assert_eq!(difference(TEXT), None);
        assert!(difference(&TEXT[1..]).unwrap().contains("byte 0"));
        assert!(difference(&TEXT[..TEXT.len() - 1]).unwrap().contains("instead of"));
        let mut longer = TEXT.to_vec();
        longer.push(b'x');
        assert!(difference(&longer).unwrap().contains("instead of"));
    }

    #[test]
    fn the_text_is_text_of_about_a_megabyte() {
        assert!(std::str::from_utf8(TEXT).is_ok());
        let survey = text::survey(&mut { TEXT }).unwrap();
        assert!(survey.bytes > 1_000_000 && survey.lines > 30_000 && survey.final_line_feed);
    }
}
