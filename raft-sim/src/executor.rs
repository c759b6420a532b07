//! One thread, virtual time, and a seed that says which ready task goes next.
//!
//! Time stands still while anything can run, and then jumps to the next thing that is due. Tasks belong to
//! processes, which can be killed between any two steps, paused and resumed. Blocking work is done in one step, after
//! the time that it takes has passed.

mod sleep;
mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

pub use self::sleep::Sleep;
use self::tasks::{Ready, TaskId, Tasks};
use crate::random::Random;

/// Steps within one moment: more than this, and something goes round in a circle without waiting for anything.
const STEPS_A_MOMENT_MAX: u64 = 2_000_000;

/// Names a process: one life of a node, or whatever else can be killed on its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(usize);

/// What is never killed: the clients, the network, the faults.
pub const WORLD: ProcessId = ProcessId(0);

/// What one step did.
#[derive(Debug)]
pub enum Step {
    /// A task of this process was polled, or blocking work of it was done.
    Ran {
        /// Whose it was.
        process: ProcessId,
        /// What the task or the work is called.
        name: Arc<str>,
    },
    /// A task or blocking work panicked, and was dropped.
    Panicked {
        /// Whose it was.
        process: ProcessId,
        /// What the task or the work is called.
        name: Arc<str>,
        /// What it said.
        message: String,
    },
    /// Time went on to the next thing that was due, and it was done.
    Time,
    /// Nothing can run, and nothing will ever be due.
    Idle,
    /// So much happened within one moment that it will never end.
    Livelock,
}

/// The executor of one run. Clones are the same.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    ready: Arc<Ready>,
}

struct State {
    now: Duration,
    random: Random,
    due: BTreeMap<(Duration, u64), Due>,
    last_sequence: u64,
    processes: Vec<Process>,
    tasks: Tasks,
    steps: u64,
    steps_this_moment: u64,
}

/// What is to be done at some time.
enum Due {
    Wake(Waker),
    Call(Box<dyn FnOnce() + Send>),
    Work(Work),
}

struct Work {
    process: ProcessId,
    name: Arc<str>,
    work: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Process {
    is_dead: bool,
    is_paused: bool,
    /// What has to wait until it is resumed.
    parked: Vec<TaskId>,
    parked_work: Vec<((Duration, u64), Work)>,
}

impl Executor {
    /// An executor at time zero, with nothing to do.
    #[must_use]
    pub fn new(random: Random) -> Executor {
        let state = State {
            now: Duration::ZERO,
            random,
            due: BTreeMap::new(),
            last_sequence: 0,
            processes: vec![Process::default()],
            tasks: Tasks::default(),
            steps: 0,
            steps_this_moment: 0,
        };
        Executor { shared: Arc::new(Shared { state: Mutex::new(state), ready: Arc::default() }) }
    }

    /// The true virtual time, whatever a process takes it for.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.lock().now
    }

    /// Steps done so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// A new process.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        let mut state = self.lock();
        state.processes.push(Process::default());
        ProcessId(state.processes.len() - 1)
    }

    /// Runs `task` as part of `process`; drops it if that is dead.
    pub fn spawn(&self, process: ProcessId, name: &str, task: BoxFuture<'static, ()>) {
        let mut state = self.lock();
        if state.processes[process.0].is_dead {
            drop(state);
            return drop(task);
        }
        let id = state.tasks.add(process, name, task, &self.shared.ready);
        drop(state);
        self.shared.ready.push(id);
    }

    /// Does `work` as part of `process` after `delay`, in one step; drops it if the process is dead by then.
    pub fn work_after(
        &self,
        process: ProcessId,
        name: &str,
        delay: Duration,
        work: Box<dyn FnOnce() + Send>,
    ) {
        let mut state = self.lock();
        if state.processes[process.0].is_dead {
            drop(state);
            return drop(work);
        }
        let name = state.tasks.name(name);
        let at = state.now.saturating_add(delay);
        state.add_due(at, Due::Work(Work { process, name, work }));
    }

    /// Does `call` at a time, or in the next moment if that has passed. It belongs to no process.
    pub fn call_at(&self, at: Duration, call: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        let at = at.max(state.now);
        state.add_due(at, Due::Call(Box::new(call)));
    }

    /// Completes once `duration` of true time has passed.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.clone(), self.now().saturating_add(duration))
    }

    /// Ends a process: nothing of it runs any more, and all that it has is dropped.
    pub fn kill(&self, process: ProcessId) {
        let mut state = self.lock();
        let dying = &mut state.processes[process.0];
        dying.is_dead = true;
        dying.parked.clear();
        let parked = std::mem::take(&mut dying.parked_work);
        let tasks = state.tasks.remove_all(process);
        drop(state);
        // What they drop may wake others, or spawn.
        drop(parked);
        drop(tasks);
    }

    /// Whether a process was killed.
    #[must_use]
    pub fn is_dead(&self, process: ProcessId) -> bool {
        self.lock().processes[process.0].is_dead
    }

    /// Stops a process for a while: its clock goes on, and it does not. False if it was paused already.
    pub fn pause(&self, process: ProcessId) -> bool {
        !std::mem::replace(&mut self.lock().processes[process.0].is_paused, true)
    }

    /// Lets a paused process go on, with the work that waits in the order in which it was due. False if it was not
    /// paused.
    pub fn resume(&self, process: ProcessId) -> bool {
        let mut state = self.lock();
        let resumed = &mut state.processes[process.0];
        let was_paused = std::mem::take(&mut resumed.is_paused);
        let tasks = std::mem::take(&mut resumed.parked);
        let work = std::mem::take(&mut resumed.parked_work);
        // Before all that has become due since.
        state.due.extend(work.into_iter().map(|(key, work)| (key, Due::Work(work))));
        drop(state);
        tasks.into_iter().for_each(|id| self.shared.ready.push(id));
        was_paused
    }

    /// Does one step: polls a task that is ready, chosen by the seed, or lets time go on.
    pub fn step(&self) -> Step {
        let mut state = self.lock();
        state.steps += 1;
        state.steps_this_moment += 1;
        if state.steps_this_moment > STEPS_A_MOMENT_MAX {
            return Step::Livelock;
        }
        while let Some(id) = self.shared.ready.take(&mut state.random) {
            let Some(process) = state.tasks.process(id) else { continue };
            if state.processes[process.0].is_paused {
                state.processes[process.0].parked.push(id);
                continue;
            }
            let Some((task, name, waker)) = state.tasks.take(id) else { continue };
            drop(state);
            return self.poll(id, process, name, task, &waker);
        }
        let Some((key, due)) = state.due.pop_first() else { return Step::Idle };
        let at = key.0;
        if at > state.now {
            state.now = at;
            state.steps_this_moment = 0;
        }
        match due {
            Due::Wake(waker) => {
                drop(state);
                waker.wake();
            }
            Due::Call(call) => {
                drop(state);
                call();
            }
            Due::Work(work) => {
                let process = &mut state.processes[work.process.0];
                if process.is_paused && !process.is_dead {
                    process.parked_work.push((key, work));
                    return Step::Time;
                }
                let is_dead = process.is_dead;
                drop(state);
                return if is_dead { Step::Time } else { self.work(work) };
            }
        }
        Step::Time
    }

    fn poll(
        &self,
        id: TaskId,
        process: ProcessId,
        name: Arc<str>,
        mut task: BoxFuture<'static, ()>,
        waker: &Waker,
    ) -> Step {
        let mut context = Context::from_waker(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {
                let left = self.lock().tasks.put_back(id, task);
                // Killed while it ran.
                drop(left);
            }
            Ok(Poll::Ready(())) => {
                self.lock().tasks.remove(id);
                drop(task);
            }
            Err(panic) => {
                self.lock().tasks.remove(id);
                let message = panic_message(&*panic);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
                return Step::Panicked { process, name, message };
            }
        }
        Step::Ran { process, name }
    }

    fn work(&self, work: Work) -> Step {
        let Work { process, name, work } = work;
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => Step::Ran { process, name },
            Err(panic) => Step::Panicked { process, name, message: panic_message(&*panic) },
        }
    }

    /// Drops all that is left, so that nothing keeps this executor alive by itself.
    pub fn clear(&self) {
        loop {
            let mut state = self.lock();
            let due = std::mem::take(&mut state.due);
            let tasks: Vec<_> = (0..state.processes.len())
                .flat_map(|id| state.tasks.remove_all(ProcessId(id)))
                .collect();
            for process in &mut state.processes {
                process.is_dead = true;
            }
            drop(state);
            if due.is_empty() && tasks.is_empty() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so the state is whole even after a panic.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add_due(&mut self, at: Duration, due: Due) -> (Duration, u64) {
        self.last_sequence += 1;
        let key = (at, self.last_sequence);
        self.due.insert(key, due);
        key
    }
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "it panicked".to_owned()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
