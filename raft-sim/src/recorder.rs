//! Takes down all that happens in a run: for the checkers, the digest, the counts and the trace.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::checkers::linearizability::Applications;
use crate::checkers::{Checker, View};
use crate::event::{Digest, Event, Fnv, Listener};
use crate::report::{Counting, Counts};
use crate::trace;

/// What must not have happened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which checker saw it.
    pub checker: String,
    /// What is wrong.
    pub problem: String,
    /// When, in true time.
    pub at: Duration,
}

/// Where the lines of a trace go.
pub type TraceTo = Arc<dyn Fn(&str) + Send + Sync>;

/// Hears everything and keeps what is needed of it.
pub struct Recorder {
    inner: Mutex<Inner>,
}

struct Inner {
    digest: Fnv,
    events: u64,
    counts: Counts,
    counting: Counting,
    checkers: Vec<Box<dyn Checker>>,
    /// What the checkers know of the cluster.
    view: View,
    applications: Applications,
    trace: Option<TraceTo>,
    violation: Option<Violation>,
    is_closed: bool,
}

impl Recorder {
    /// A recorder that asks these checkers, and writes a line an event to `trace`.
    #[must_use]
    pub fn new(checkers: Vec<Box<dyn Checker>>, trace: Option<TraceTo>) -> Recorder {
        let inner = Inner {
            digest: Fnv::default(),
            events: 0,
            counts: Counts::default(),
            counting: Counting::default(),
            checkers,
            view: View::default(),
            applications: Applications::default(),
            trace,
            violation: None,
            is_closed: false,
        };
        Recorder { inner: Mutex::new(inner) }
    }

    /// The first violation, if there was one.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.lock().violation.clone()
    }

    /// Whether there was a violation.
    #[must_use]
    pub fn is_violated(&self) -> bool {
        self.lock().violation.is_some()
    }

    /// Notes a violation that no checker saw; the first one counts.
    pub fn violate(&self, now: Duration, checker: &str, problem: String) {
        self.lock().violate(now, checker, problem);
    }

    /// Asks the checkers whether something is missing, now that the run is over.
    pub fn finish(&self, now: Duration) {
        let mut inner = self.lock();
        let mut checkers = std::mem::take(&mut inner.checkers);
        for checker in &mut checkers {
            if let Err(problem) = checker.finish(now, &inner.view) {
                inner.violate(now, checker.name(), problem);
            }
        }
        inner.checkers = checkers;
    }

    /// Hears nothing more: what is left of the run is being put away.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// The digest of all events so far: the same for the same run.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.lock().digest.digest()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// What happened, counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The commands in the order in which they were applied.
    #[must_use]
    pub fn applications(&self) -> Applications {
        self.lock().applications.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn violate(&mut self, at: Duration, checker: &str, problem: String) {
        if let Some(trace) = &self.trace {
            trace(&format!("{} VIOLATION of {checker}: {problem}", trace::time(at)));
        }
        if self.violation.is_none() {
            self.violation = Some(Violation { checker: checker.to_owned(), problem, at });
        }
    }
}

impl Listener for Recorder {
    fn event(&self, now: Duration, event: Event) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.is_closed || inner.violation.is_some() {
            return;
        }
        inner.events += 1;
        inner.digest.write_u64(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        event.write_to(&mut inner.digest);
        inner.counts.count(&event);
        inner.counting.count(&mut inner.counts, &inner.view, &event);
        if let Some(trace) = &inner.trace {
            trace(&format!("{} {}", trace::time(now), trace::line(&event)));
        }
        let mut checkers = std::mem::take(&mut inner.checkers);
        for checker in &mut checkers {
            if let Err(problem) = checker.observe(now, &inner.view, &event) {
                inner.violate(now, checker.name(), problem);
            }
        }
        inner.checkers = checkers;
        inner.view.apply(&event);
        inner.applications.observe(&event);
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.lock();
        f.debug_struct("Recorder").field("events", &inner.events).finish_non_exhaustive()
    }
}
