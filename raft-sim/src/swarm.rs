//! Many seeds, on several threads: what they came to together.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::event::Fnv;
use crate::plan::{Bounds, Plan, PlanError};
use crate::recorder::{TraceTo, Violation};
use crate::report::{Counts, Report};
use crate::simulation::{Failure, Simulation, Violated};
use crate::workload::{Factory, Workload};

/// What is simulated, over and over.
pub struct Subject<W: Workload> {
    /// Makes the machine of each replica.
    pub machine: Factory<W::Machine>,
    /// Makes the clients of a run.
    pub workload: Arc<dyn Fn() -> W + Send + Sync>,
}

/// What many seeds came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// How long the runs were together, in seconds of virtual time.
    pub virtual_seconds: f64,
    /// Steps of all executors.
    pub steps: u64,
    /// Events.
    pub events: u64,
    /// What happened.
    pub counts: Counts,
    /// Clusters, by their size.
    pub cluster_sizes: BTreeMap<usize, u64>,
    /// The digest of all runs in the order of their seeds.
    pub digest: String,
    /// What must not have happened.
    pub violations: Vec<SeedViolation>,
    /// The seeds whose answers were neither explained nor found to be wrong: see [`Report::undecided`].
    pub undecided: Vec<u64>,
}

/// What must not have happened, and with which seed it happens.
#[derive(Clone, Debug, Serialize)]
pub struct SeedViolation {
    /// The seed.
    pub seed: u64,
    /// What.
    pub violation: Violation,
}

impl<W: Workload> Clone for Subject<W> {
    fn clone(&self) -> Subject<W> {
        Subject { machine: Arc::clone(&self.machine), workload: Arc::clone(&self.workload) }
    }
}

impl<W: Workload> Subject<W> {
    /// Runs one seed.
    ///
    /// # Errors
    /// It cannot be run, or something happened that must not happen.
    pub fn run(
        &self,
        seed: u64,
        bounds: &Bounds,
        trace: Option<TraceTo>,
    ) -> Result<Report, Failure> {
        let plan = Plan::draw(seed, bounds)?;
        let mut simulation = Simulation::new(seed).bounds(bounds.clone());
        if let Some(trace) = trace {
            simulation = simulation.trace(trace);
        }
        let machine = Arc::clone(&self.machine);
        let simulation = simulation.machine(move || machine()).workload((self.workload)());
        // What panics outside a node is the workload's own.
        let run = catch_unwind(AssertUnwindSafe(|| simulation.run_plan(&plan)));
        run.unwrap_or_else(|panic| Err(panicked(&plan, &*panic).into()))
    }

    /// Runs all seeds of a range on `jobs` threads, until `violations_max` of them have shown a violation. `progress`
    /// hears how many are done and how many have shown one.
    ///
    /// # Errors
    /// No such run is possible.
    pub fn run_all(
        &self,
        seeds: Range<u64>,
        bounds: &Bounds,
        jobs: usize,
        violations_max: usize,
        progress: &(dyn Fn(u64, usize) + Sync),
    ) -> Result<Summary, PlanError> {
        // The bounds fit every seed or none.
        Plan::draw(seeds.start, bounds)?;
        let next = AtomicU64::new(seeds.start);
        let is_enough = AtomicBool::new(false);
        let collected = Mutex::new(Collected::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while !is_enough.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let outcome = self.run(seed, bounds, None);
                        let mut collected =
                            collected.lock().unwrap_or_else(PoisonError::into_inner);
                        collected.add(seed, outcome);
                        let (done, bad) =
                            (collected.summary.seeds, collected.summary.violations.len());
                        is_enough.fetch_or(bad >= violations_max, Ordering::Relaxed);
                        progress(done, bad);
                    }
                });
            }
        });
        Ok(collected.into_inner().unwrap_or_else(PoisonError::into_inner).summary())
    }
}

#[derive(Default)]
struct Collected {
    summary: Summary,
    virtual_time: Duration,
    digests: BTreeMap<u64, String>,
}

impl Collected {
    fn add(&mut self, seed: u64, outcome: Result<Report, Failure>) {
        let report = match outcome {
            Ok(report) => report,
            Err(Failure::Violated(Violated { violation, report })) => {
                self.summary.violations.push(SeedViolation { seed, violation });
                *report
            }
            // Looked at before.
            Err(Failure::Plan(_)) => return,
        };
        if report.undecided.is_some() {
            self.summary.undecided.push(seed);
        }
        self.summary.seeds += 1;
        self.virtual_time += report.virtual_time;
        self.summary.steps += report.steps;
        self.summary.events += report.events;
        self.summary.counts.add(&report.counts);
        *self.summary.cluster_sizes.entry(report.nodes).or_default() += 1;
        self.digests.insert(seed, report.digest);
    }

    fn summary(self) -> Summary {
        let mut digest = Fnv::default();
        self.digests.values().for_each(|one| digest.write(one.as_bytes()));
        let mut summary = self.summary;
        summary.violations.sort_by_key(|violation| violation.seed);
        summary.undecided.sort_unstable();
        let virtual_seconds = self.virtual_time.as_secs_f64();
        Summary { digest: digest.digest().to_string(), virtual_seconds, ..summary }
    }
}

fn panicked(plan: &Plan, panic: &(dyn std::any::Any + Send)) -> Violated {
    let violation = Violation {
        checker: "no panics".to_owned(),
        problem: crate::executor::panic_message(panic),
        at: Duration::ZERO,
    };
    let report = Report::empty(plan.seed, plan.members());
    Violated { violation, report: Box::new(report) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::linearizability::Undecided;

    #[test]
    fn a_seed_that_is_undecided_is_counted_and_is_no_violation() {
        let undecided =
            Undecided { key: None, operations: 9, explained: 3, steps: 1, is_order_refuted: true };
        let mut collected = Collected::default();
        for seed in [9, 7] {
            let report = Report { undecided: Some(undecided.clone()), ..Report::empty(seed, 3) };
            collected.add(seed, Ok(report));
        }
        collected.add(8, Ok(Report::empty(8, 3)));
        let summary = collected.summary();
        assert_eq!((summary.seeds, summary.undecided), (3, vec![7, 9]));
        assert!(summary.violations.is_empty());
    }
}
