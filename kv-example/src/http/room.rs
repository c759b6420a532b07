//! Memory that bodies and responses may take, each from a budget of its own: who reads slowly must not keep others from
//! writing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::HttpError;

/// So many bytes for all of a kind together.
pub(super) struct Budget {
    left: Arc<Semaphore>,
    bytes_max: u32,
}

/// Bytes that are taken, until this is dropped.
pub(super) struct Room(OwnedSemaphorePermit);

impl Budget {
    pub(super) fn new(bytes_max: u32) -> Budget {
        // A semaphore has room for that on every machine that has memory for it.
        let permits = usize::try_from(bytes_max).unwrap_or(Semaphore::MAX_PERMITS);
        Budget { left: Arc::new(Semaphore::new(permits)), bytes_max }
    }

    /// Room for so many bytes, if it is there now.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn take(&self, bytes: usize) -> Result<Room, HttpError> {
        let room = Arc::clone(&self.left).try_acquire_many_owned(self.permits(bytes));
        room.map(Room).map_err(|_| HttpError::no_memory())
    }

    /// Room for so many bytes, as soon as it is there.
    ///
    /// # Errors
    /// There never is any.
    pub(super) async fn wait_for(&self, bytes: usize) -> Result<Room, HttpError> {
        let room = Arc::clone(&self.left).acquire_many_owned(self.permits(bytes)).await;
        room.map(Room).map_err(|_| HttpError::no_memory())
    }

    /// What is larger than the budget takes all of it.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

impl Room {
    pub(super) fn bytes(&self) -> usize {
        self.0.num_permits()
    }

    /// `more` from the same budget.
    pub(super) fn grow(&mut self, more: Room) {
        self.0.merge(more.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_there_again_when_it_is_dropped() {
        let budget = Budget::new(10);
        let mut room = budget.take(4).unwrap_or_else(|_| panic!());
        room.grow(budget.take(5).unwrap_or_else(|_| panic!()));
        assert_eq!((room.bytes(), budget.take(2).is_err()), (9, true));
        drop(room);
        // More than there is at all is as much as there is.
        assert_eq!(budget.take(usize::MAX).map(|room| room.bytes()).ok(), Some(10));
    }
}
