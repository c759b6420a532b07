//! The tasks of a run, and which of them are ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use futures::future::BoxFuture;

use super::ProcessId;
use crate::random::Random;

/// Names a task; a name is never used again.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(u64);

/// All tasks that have not ended.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    last: u64,
    /// Few different ones, said often.
    names: BTreeMap<String, Arc<str>>,
}

struct Task {
    process: ProcessId,
    name: Arc<str>,
    /// Absent while it is polled.
    future: Option<BoxFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

/// The tasks that were woken and not polled since.
#[derive(Default)]
pub(super) struct Ready {
    ids: Mutex<Vec<TaskId>>,
}

struct TaskWaker {
    id: TaskId,
    ready: Arc<Ready>,
    is_queued: AtomicBool,
}

impl Tasks {
    pub(super) fn add(
        &mut self,
        process: ProcessId,
        name: &str,
        future: BoxFuture<'static, ()>,
        ready: &Arc<Ready>,
    ) -> TaskId {
        self.last += 1;
        let id = TaskId(self.last);
        let is_queued = AtomicBool::new(true);
        let waker = Arc::new(TaskWaker { id, ready: Arc::clone(ready), is_queued });
        let name = self.name(name);
        self.tasks.insert(id, Task { process, name, future: Some(future), waker });
        id
    }

    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(name);
        self.names.insert(name.to_owned(), Arc::clone(&new));
        new
    }

    pub(super) fn process(&self, id: TaskId) -> Option<ProcessId> {
        self.tasks.get(&id).map(|task| task.process)
    }

    /// Takes a task out to be polled.
    pub(super) fn take(&mut self, id: TaskId) -> Option<(BoxFuture<'static, ()>, Arc<str>, Waker)> {
        let task = self.tasks.get_mut(&id)?;
        task.waker.is_queued.store(false, Ordering::Relaxed);
        let future = task.future.take()?;
        Some((future, Arc::clone(&task.name), Waker::from(Arc::clone(&task.waker))))
    }

    /// Puts a task back; returns it if it was removed meanwhile.
    pub(super) fn put_back(
        &mut self,
        id: TaskId,
        future: BoxFuture<'static, ()>,
    ) -> Option<BoxFuture<'static, ()>> {
        match self.tasks.get_mut(&id) {
            Some(task) => {
                task.future = Some(future);
                None
            }
            None => Some(future),
        }
    }

    pub(super) fn remove(&mut self, id: TaskId) {
        self.tasks.remove(&id);
    }

    /// Takes all tasks of a process away.
    pub(super) fn remove_all(&mut self, process: ProcessId) -> Vec<BoxFuture<'static, ()>> {
        let ids: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.process == process)
            .map(|(id, _)| *id)
            .collect();
        ids.iter().filter_map(|id| self.tasks.remove(id)?.future).collect()
    }
}

impl Ready {
    pub(super) fn push(&self, id: TaskId) {
        self.lock().push(id);
    }

    /// One of them, by chance.
    pub(super) fn take(&self, random: &mut Random) -> Option<TaskId> {
        let mut ids = self.lock();
        match ids.len() {
            0 => None,
            1 => ids.pop(),
            len => Some(ids.swap_remove(random.index(len))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<TaskId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.ready.push(self.id);
        }
    }
}
