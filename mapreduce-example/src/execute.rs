//! Carries out attempts at tasks, here and now.
//!
//! | file | what is in it |
//! |---|---|
//! | `execute/map.rs` | a split in, sorted runs out |
//! | `execute/reduce.rs` | a partition of all runs in, a file of results out |
//! | `execute/told.rs` | what goes wrong is told with its place; a panic goes wrong, too |

mod map;
mod reduce;
mod told;

use std::cmp::Ordering;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use self::told::called;
use crate::data::{Layout, Location, Stores, publish};
use crate::job::{Job, Registry};
use crate::sequential;
use crate::task::{Counts, Executor, Stop, TaskError, TaskId, Work};

/// How much memory an attempt may take, in bytes, and what follows from it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What a map task holds before it writes a run. By the estimate of each value that the job gives; half as much may come
    /// on top while a run is sorted.
    pub table_bytes_max: usize,
    /// How much of an input, or of a run, is read at once.
    pub read_bytes: u64,
    /// How many runs are merged at once, each with a buffer of `read_bytes`. At least 2.
    pub fan_in_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { table_bytes_max: 64 << 20, read_bytes: 512 << 10, fan_in_max: 64 }
    }
}

/// Carries out attempts with the jobs of a registry, on data in stores.
///
/// All of it happens on the thread that polls the future, which is blocked meanwhile: a worker has a thread for each attempt
/// that it carries out at once, and blocks on the future there. Outside a tokio runtime, a local folder is read and written on
/// that thread, too. The stores of the `cloud` feature need one: enter the handle of a runtime with threads of its own on that
/// thread, and never poll on the runtime's.
#[derive(Clone, Debug)]
pub struct DataExecutor {
    registry: Registry,
    stores: Stores,
    limits: Limits,
}

impl DataExecutor {
    /// An executor. `stores` should be what the rest of the program uses: each store is opened once.
    #[must_use]
    pub fn new(registry: Registry, stores: Stores, limits: Limits) -> DataExecutor {
        let Limits { table_bytes_max, read_bytes, fan_in_max } = limits;
        let limits = Limits {
            table_bytes_max,
            read_bytes: read_bytes.max(1),
            fan_in_max: fan_in_max.max(2),
        };
        DataExecutor { registry, stores, limits }
    }

    fn carry_out(&self, work: &Work, stop: &Arc<dyn Stop>) -> Result<Counts, TaskError> {
        let Work { id, spec, inputs } = work;
        let job = self
            .registry
            .job(&spec.job, &spec.arguments)
            .map_err(|error| TaskError::Failed(error.to_string()))?;
        let stores = self.stores.heard_by(Arc::clone(stop));
        let layout = Layout::new(&stores, spec)?;
        if !matches!(id.task, TaskId::Publish) {
            layout.claim()?;
        }
        let task = Task { work, stores: &stores, layout, limits: self.limits, stop: &**stop };
        match id.task {
            TaskId::Map(number) => job.map_task(&task, number),
            TaskId::Reduce(number) => job.reduce_task(&task, number),
            TaskId::Publish => {
                publish(&task.layout, inputs, || task.check_stop()).map(|()| Counts::default())
            }
        }
    }
}

#[async_trait]
impl Executor for DataExecutor {
    async fn execute(&self, work: Work, stop: Arc<dyn Stop>) -> Result<Counts, TaskError> {
        let carried_out = called(|| self.carry_out(&work, &stop))
            .unwrap_or_else(|panic| Err(TaskError::Failed(panic)));
        told::at(|| format!("{} ({})", work.id, work.spec.job), carried_out)
    }
}

/// An attempt at a task, and all that it needs.
pub(crate) struct Task<'a> {
    work: &'a Work,
    stores: &'a Stores,
    layout: Layout,
    limits: Limits,
    stop: &'a dyn Stop,
}

impl Task<'_> {
    fn check_stop(&self) -> Result<(), TaskError> {
        if self.stop.is_stopped() { Err(TaskError::Stopped) } else { Ok(()) }
    }
}

/// What an attempt has written on the way. It is deleted when this is dropped: where it is of no use afterwards, or the attempt has
/// failed, and somebody else needs the room.
#[derive(Default)]
struct Leftovers(Vec<Location>);

impl Drop for Leftovers {
    fn drop(&mut self) {
        // What stays goes when the job's results are published. A store that does not answer is not waited for more than once.
        let _ = self.0.iter().try_for_each(Location::delete);
    }
}

/// A job, whatever its types.
pub(crate) trait AnyJob: Send + Sync {
    /// Maps a split, counted from 0.
    fn map_task(&self, task: &Task<'_>, number: u32) -> Result<Counts, TaskError>;

    /// Reduces a partition, counted from 0.
    fn reduce_task(&self, task: &Task<'_>, number: u32) -> Result<Counts, TaskError>;

    /// How two lines of the results compare, each without its end.
    fn compare_lines(&self, one: &[u8], other: &[u8]) -> Ordering;

    /// All of it at once, in memory.
    fn run_sequentially(&self, inputs: &[(String, Vec<u8>)]) -> Result<Vec<u8>, TaskError>;
}

impl<J: Job> AnyJob for J {
    fn map_task(&self, task: &Task<'_>, number: u32) -> Result<Counts, TaskError> {
        map::map(self, task, number)
    }

    fn reduce_task(&self, task: &Task<'_>, number: u32) -> Result<Counts, TaskError> {
        reduce::reduce(self, task, number)
    }

    fn compare_lines(&self, one: &[u8], other: &[u8]) -> Ordering {
        Job::compare_lines(self, one, other)
    }

    fn run_sequentially(&self, inputs: &[(String, Vec<u8>)]) -> Result<Vec<u8>, TaskError> {
        sequential::run_job(self, inputs)
    }
}

/// What the job's own `write` has to say, as far as it is not what the store said.
pub(crate) fn write_failed(error: &io::Error) -> TaskError {
    TaskError::Failed(format!("the results cannot be written: {error}"))
}
