//! Looks for a smaller run that fails in the same way.

use std::time::Duration;

use crate::plan::{Bounds, Plan, PlanError};
use crate::simulation::{Failure, Violated};
use crate::swarm::Subject;
use crate::workload::Workload;

/// Runs that are tried at most.
const TRIES_MAX: usize = 300;

/// A smaller run that fails.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What leads to it, together with the seed.
    pub bounds: Bounds,
    /// The plan.
    pub plan: Plan,
    /// What happens in it.
    pub violated: Violated,
    /// Runs that were tried.
    pub tries: usize,
}

struct Search<'s, W: Workload> {
    subject: &'s Subject<W>,
    seed: u64,
    /// The checker that has to see a violation again.
    checker: String,
    best: (Bounds, Violated),
    tries: usize,
    progress: &'s dyn Fn(usize, &Bounds),
}

/// Looks for a run with fewer faults, nodes, clients and operations that violates the same as `violated`, which `seed`
/// and `bounds` lead to. `progress` hears of each try.
///
/// # Errors
/// The bounds cannot be run.
pub fn shrink<W: Workload>(
    subject: &Subject<W>,
    seed: u64,
    bounds: &Bounds,
    violated: Violated,
    progress: &dyn Fn(usize, &Bounds),
) -> Result<Shrunk, PlanError> {
    let plan = Plan::draw(seed, bounds)?;
    let mut exact = bounds.clone();
    exact.nodes = Some(plan.members());
    exact.clients = Some(plan.clients);
    exact.operations = Some(plan.operations);
    // Those that are left are to be called when they were.
    exact.pause = Some(plan.pause);
    exact.keep = Some(plan.faults.iter().map(|planned| planned.number).collect());
    let checker = violated.violation.checker.clone();
    let mut search = Search { subject, seed, checker, best: (exact, violated), tries: 0, progress };
    loop {
        let before = search.size();
        search.shorten();
        search.fewer_faults();
        search.fewer_nodes();
        search.fewer_clients();
        search.fewer_operations();
        if search.size() == before || search.tries >= TRIES_MAX {
            break;
        }
    }
    let Search { best: (mut bounds, violated), tries, .. } = search;
    let plan = Plan::draw(seed, &bounds)?;
    // Those that would begin after the end are not drawn at all.
    bounds.keep = Some(plan.faults.iter().map(|planned| planned.number).collect());
    Ok(Shrunk { bounds, plan, violated, tries })
}

impl<W: Workload> Search<'_, W> {
    fn size(&self) -> (usize, usize, usize, usize, Duration) {
        let bounds = &self.best.0;
        (
            bounds.keep.as_ref().map_or(0, Vec::len),
            bounds.nodes.unwrap_or(0),
            bounds.clients.unwrap_or(0),
            bounds.operations.unwrap_or(0),
            bounds.duration,
        )
    }

    /// Takes `bounds` if they fail in the same way.
    fn attempt(&mut self, change: impl FnOnce(&mut Bounds)) -> bool {
        if self.tries >= TRIES_MAX {
            return false;
        }
        let mut bounds = self.best.0.clone();
        change(&mut bounds);
        if bounds == self.best.0 {
            return false;
        }
        self.tries += 1;
        (self.progress)(self.tries, &self.best.0);
        match self.subject.run(self.seed, &bounds, None) {
            Err(Failure::Violated(violated)) if violated.violation.checker == self.checker => {
                self.best = (bounds, violated);
                true
            }
            Ok(_) | Err(Failure::Violated(_) | Failure::Plan(_)) => false,
        }
    }

    /// What comes after the violation is not needed.
    fn shorten(&mut self) {
        let at = self.best.1.violation.at;
        self.attempt(|bounds| {
            let end = at + Duration::from_millis(100);
            bounds.duration = bounds
                .duration
                .min(Duration::from_millis(u64::try_from(end.as_millis()).unwrap_or(u64::MAX)));
        });
    }

    /// Leaves out halves, quarters, and so on, down to single ones.
    fn fewer_faults(&mut self) {
        let mut chunk = self.best.0.keep.as_ref().map_or(0, Vec::len);
        while chunk > 0 {
            let mut at = 0;
            while at < self.best.0.keep.as_ref().map_or(0, Vec::len) {
                let is_smaller = self.attempt(|bounds| {
                    if let Some(keep) = &mut bounds.keep {
                        keep.drain(at..(at + chunk).min(keep.len()));
                    }
                });
                if !is_smaller {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
    }

    /// Tries the smallest cluster first: one that is smaller by one node may be spared by chance.
    fn fewer_nodes(&mut self) {
        let nodes = self.best.0.nodes.unwrap_or(0);
        for fewer in 1..nodes {
            if self.attempt(|bounds| bounds.nodes = Some(fewer)) {
                return;
            }
        }
    }

    fn fewer_clients(&mut self) {
        self.fewer(|bounds| &mut bounds.clients);
    }

    fn fewer_operations(&mut self) {
        self.fewer(|bounds| &mut bounds.operations);
    }

    /// Takes away a half, a quarter, and so on, down to one.
    fn fewer(&mut self, number: fn(&mut Bounds) -> &mut Option<usize>) {
        let mut less = number(&mut self.best.0).unwrap_or(0) / 2;
        while less > 0 {
            let is_smaller = self.attempt(|bounds| {
                let number = number(bounds);
                *number = number.map(|number| number.saturating_sub(less).max(1));
            });
            if !is_smaller {
                less /= 2;
            }
        }
    }
}
