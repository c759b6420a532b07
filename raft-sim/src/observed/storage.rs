//! A storage that tells what is read from it and written to it.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use raft_rsm::Storage;
use raft_rsm::raft_core::{Entry, LogIndex, Payload, Restored, SnapshotMeta, Write};
use raft_rsm::storage::{SnapshotReader, SnapshotWriter, StorageError};

use super::Observer;
use crate::event::{Digest, EntrySummary, Event};

/// The node's own storage that tells an [`Observer`] what it does.
pub struct ObservedStorage {
    inner: Arc<dyn Storage>,
    observer: Observer,
}

struct ObservedWriter {
    inner: Box<dyn SnapshotWriter>,
    meta: SnapshotMeta,
    observer: Observer,
}

impl ObservedStorage {
    /// `inner`, observed.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, observer: Observer) -> ObservedStorage {
        ObservedStorage { inner, observer }
    }

    fn began(&self, write: &Write) -> Event {
        let Write { id, reset, compact, entries, hard_state } = write;
        Event::WriteBegan {
            node: self.observer.node,
            id: *id,
            reset: reset.as_ref().map(|meta| meta.last),
            compact: compact.as_ref().map(|meta| meta.last),
            entries: entries.iter().map(summary).collect(),
            hard_state: *hard_state,
        }
    }
}

fn summary(entry: &Entry) -> EntrySummary {
    let payload = match &entry.payload {
        Payload::Empty => Digest(0),
        Payload::Command(bytes) => Digest::of(bytes),
        // Its own words: they name every member.
        Payload::Configuration(configuration) => {
            Digest::of(format!("{configuration:?}").as_bytes())
        }
    };
    EntrySummary { id: entry.id, payload }
}

#[async_trait]
impl Storage for ObservedStorage {
    async fn load(&self) -> Result<Restored, StorageError> {
        let restored = self.inner.load().await?;
        let last = restored.terms.last();
        self.observer.tell(Event::Started {
            node: self.observer.node,
            hard_state: restored.hard_state,
            start: restored.start.last,
            last,
            runs: restored.terms.runs().collect(),
        });
        Ok(restored)
    }

    async fn write(&self, write: Write) -> Result<(), StorageError> {
        let id = write.id;
        (self.observer.look)();
        self.observer.tell(self.began(&write));
        let result = self.inner.write(write).await;
        let error = result.as_ref().err().map(ToString::to_string);
        self.observer.tell(Event::WriteEnded { node: self.observer.node, id, error });
        result
    }

    async fn read(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        self.inner.read(first, last, bytes_max).await
    }

    fn log_bytes(&self) -> u64 {
        self.inner.log_bytes()
    }

    fn create_snapshot(&self, meta: SnapshotMeta) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let inner = self.inner.create_snapshot(meta.clone())?;
        Ok(Box::new(ObservedWriter { inner, meta, observer: self.observer.clone() }))
    }

    fn open_snapshot(&self) -> Result<Option<Box<dyn SnapshotReader>>, StorageError> {
        let reader = self.inner.open_snapshot()?;
        if let Some(reader) = &reader {
            *self.observer.opened() = reader.meta().last;
        }
        Ok(reader)
    }
}

impl io::Write for ObservedWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.inner.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl SnapshotWriter for ObservedWriter {
    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        let ObservedWriter { inner, meta, observer } = *self;
        inner.finish()?;
        observer.tell(Event::SnapshotStored { node: observer.node, last: meta.last });
        Ok(())
    }
}

impl std::fmt::Debug for ObservedStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedStorage").field("observer", &self.observer).finish_non_exhaustive()
    }
}
