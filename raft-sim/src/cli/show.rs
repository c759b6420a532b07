//! What is shown of runs.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::plan::Bounds;
use crate::report::{Counts, Report};
use crate::shrink::Shrunk;
use crate::simulation::Violated;
use crate::swarm::Summary;

/// For whom a search took too long.
const ADVICE: &str = "  advice: part the operations by a key (MachineModel::by_key), or say which commands change nothing \
                      (changes_nothing_if); fewer operations also help";

/// A line on stdout. Whoever has closed it does not want to hear more.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

pub(super) fn report(report: &Report, json: bool) {
    if json {
        return as_json(report);
    }
    line(&format!(
        "seed {}: {} nodes, {:.1} s of virtual time, {} steps, {} events, digest {}",
        report.seed,
        report.nodes,
        report.virtual_time.as_secs_f64(),
        report.steps,
        report.events,
        report.digest
    ));
    counts(&report.counts);
    let Some(undecided) = &report.undecided else { return line("no violation") };
    line(&format!("no violation found, but {undecided}"));
    line(ADVICE);
}

pub(super) fn violated(violated: &Violated, bounds: &Bounds, command: &str, json: bool) {
    let replay = replay(command, violated.report.seed, bounds);
    if json {
        #[derive(Serialize)]
        struct Shown<'v> {
            violation: &'v crate::recorder::Violation,
            replay: String,
            report: &'v Report,
        }
        let Violated { violation, report } = violated;
        return as_json(&Shown { violation, replay, report });
    }
    line(&violated.to_string());
    line(&format!("replay: {replay} --trace"));
}

pub(super) fn shrunk(shrunk: &Shrunk, command: &str) {
    let Shrunk { bounds, plan, violated, tries } = shrunk;
    line(&format!("\nafter {tries} runs, the smallest that fails in the same way:"));
    line(plan.to_string().trim_end());
    line(&violated.to_string());
    line(&format!("replay: {} --trace", replay(command, plan.seed, bounds)));
}

pub(super) fn summary(
    summary: &Summary,
    took: Duration,
    bounds: &Bounds,
    command: &str,
    json: bool,
) {
    if json {
        return as_json(summary);
    }
    let seconds = took.as_secs_f64();
    line(&format!(
        "{} seeds in {seconds:.1} s ({:.1} a second), {:.0} s of virtual time, {} steps, {} events",
        summary.seeds,
        summary.seeds as f64 / seconds.max(f64::MIN_POSITIVE),
        summary.virtual_seconds,
        summary.steps,
        summary.events
    ));
    let sizes: Vec<String> =
        summary.cluster_sizes.iter().map(|(size, count)| format!("{count} of {size}")).collect();
    line(&format!("  clusters        {}", sizes.join(", ")));
    counts(&summary.counts);
    line(&format!("  digest          {}", summary.digest));
    if !summary.undecided.is_empty() {
        let seeds: Vec<String> = summary.undecided.iter().map(u64::to_string).collect();
        line(&format!("{} seeds undecided: {}", seeds.len(), seeds.join(", ")));
        line(
            "  whether one copy of the machine could have given these answers took too long to find out",
        );
        line(ADVICE);
    }
    if summary.violations.is_empty() {
        return line("no violation");
    }
    line(&format!("{} violations:", summary.violations.len()));
    for bad in &summary.violations {
        let (seed, violation) = (bad.seed, &bad.violation);
        line(&format!("  seed {seed}: {}: {}", violation.checker, violation.problem));
        line(&format!("    replay: {} --trace", replay(command, seed, bounds)));
    }
}

fn counts(counts: &Counts) {
    let Counts {
        elections_won,
        candidacies,
        starts,
        kills,
        power_losses,
        stops,
        shutdowns,
        pauses,
        writes,
        writes_failed,
        applied,
        snapshots_stored,
        snapshots_installed,
        restores,
        operations,
        calls_answered,
        calls_refused,
        calls_maybe,
        reads,
        membership,
        transfers,
        faults,
        workload,
        network,
        disks,
    } = counts;
    line(&format!("  elections       {elections_won} won, {candidacies} candidacies"));
    line(&format!(
        "  nodes           {starts} starts, {kills} kills, {power_losses} power losses, \
         {stops} stopped by their disk, {shutdowns} shut down, {pauses} pauses"
    ));
    line(&format!(
        "  network         {} packets, {} bytes; {} packets lost, {} repeated, {} overtaken; {} requests \
         and answers lost",
        network.packets_out,
        network.bytes_out,
        network.lost,
        network.duplicated,
        network.reordered,
        network.requests_lost
    ));
    line(&format!(
        "  disks           {writes} writes to logs, {writes_failed} failed; at power losses {} unsynced \
         changes lost, {} torn, {} kept, {} renames undone; {} times full",
        disks.unsynced_lost,
        disks.unsynced_torn,
        disks.unsynced_kept,
        disks.renames_undone,
        disks.full
    ));
    line(&format!(
        "  snapshots       {snapshots_stored} stored, {snapshots_installed} installed from a \
         leader, {restores} restores"
    ));
    line(&format!("  commands        {applied} applied, on all nodes together"));
    line(&format!(
        "  clients         {operations} operations; transmissions: {calls_answered} answered, \
         {calls_refused} refused, {calls_maybe} maybe"
    ));
    let reads: Vec<String> = reads.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    line(&format!("  reads           {}", reads.join(", ")));
    if !workload.is_empty() {
        let workload: Vec<String> =
            workload.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        line(&format!("  workload        {}", workload.join(", ")));
    }
    line(&format!(
        "  membership      {} changes, {} refused, {} failed; {} joint configurations entered, {} left, {} of them \
         by another leader; {} disks wiped, {} nodes readmitted",
        membership.done,
        membership.refused,
        membership.failed,
        membership.joint_entered,
        membership.joint_left,
        membership.joint_left_by_another,
        membership.wiped,
        membership.readmitted
    ));
    line(&format!(
        "  transfers       {} done, {} refused, {} failed; {} begun by sick disks",
        transfers.done, transfers.refused, transfers.failed, transfers.by_sick_disks
    ));
    let faults: Vec<String> =
        faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    line(&format!("  faults          {}", faults.join(", ")));
}

/// The command that runs a seed again within the same bounds; `command` is what a user types before the options.
#[must_use]
pub fn replay(command: &str, seed: u64, bounds: &Bounds) -> String {
    let mut replay = format!("{command} --seed {seed}");
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            replay.push_str(&format!(" --{name} {value}"));
        }
    };
    let default = Bounds::default();
    add("nodes", bounds.nodes.map(|nodes| nodes.to_string()));
    add("clients", bounds.clients.map(|clients| clients.to_string()));
    add("operations", bounds.operations.map(|operations| operations.to_string()));
    add("pause", bounds.pause.map(|pause| pause.as_secs_f64().to_string()));
    let seconds = bounds.duration.as_secs_f64();
    add("seconds", (bounds.duration != default.duration).then(|| seconds.to_string()));
    add("faults", (bounds.faults != default.faults).then(|| bounds.faults.names().join(",")));
    let list = |keep: &Vec<usize>| {
        let numbers: Vec<String> = keep.iter().map(ToString::to_string).collect();
        if numbers.is_empty() { "\"\"".to_owned() } else { numbers.join(",") }
    };
    add("keep", bounds.keep.as_ref().map(list));
    if !bounds.draws_settings {
        replay.push_str(" --default-settings");
    }
    replay
}

fn as_json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: cannot be written as JSON: {error}");
        }
    }
}
