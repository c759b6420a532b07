use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use raft_core::{Configuration, EntryId, LogIndex, Member, Term};

use super::window::{SILENCE_MAX, STALL_MAX};
use super::*;
use crate::storage::MemoryStorage;
use crate::transport::{Inbox, Service};

const IMAGE_BYTES: u64 = 100_000;
const CHUNK_BYTES: u64 = 1000;

/// Its time passes when somebody waits, and only then.
#[derive(Debug, Default)]
struct Clock {
    nanos: Arc<AtomicU64>,
}

impl Runtime for Clock {
    fn spawn(&self, name: &str, _task: BoxFuture<'static, ()>) {
        unreachable!("a transfer spawns {name}");
    }

    fn spawn_blocking(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (nanos, passes) = (Arc::clone(&self.nanos), duration.as_nanos());
        futures::future::lazy(move |_| {
            nanos.fetch_add(u64::try_from(passes).unwrap(), Ordering::SeqCst);
        })
        .boxed()
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn random(&self) -> u64 {
        0
    }
}

/// Says what the receiver of a chunk answers, at once.
type Answer = Box<dyn FnMut(&SnapshotChunk) -> Option<SnapshotStatus> + Send>;

struct Receiver {
    answers: Arc<Answers>,
    answer: Mutex<Answer>,
    chunks: AtomicU64,
}

#[async_trait]
impl Transport for Receiver {
    fn start(&self, _inbox: Arc<dyn Inbox>, _service: Arc<dyn Service>) {}

    fn set_peers(&self, _peers: &[Member]) {}

    fn send(&self, packet: Packet) {
        let Packet::SnapshotChunk(chunk) = packet else { panic!("{packet:?}") };
        let sent = self.chunks.fetch_add(1, Ordering::SeqCst);
        assert!(sent < 100_000, "it goes on for ever");
        if let Some(status) = lock(&self.answer)(&chunk) {
            self.answers.put(status);
        }
    }

    async fn shutdown(&self) {}
}

/// Sends an image to a receiver that answers so. How it ended, how long it took, and how many chunks left.
fn transfer(
    answer: impl FnMut(&SnapshotChunk) -> Option<SnapshotStatus> + Send + 'static,
) -> (Sent, Duration, u64) {
    let configuration = Configuration::new([NodeId(1), NodeId(2)], []);
    let storage = Arc::new(MemoryStorage::new(configuration.clone()));
    let last = EntryId::new(Term(1), LogIndex(7));
    let mut image = storage.create_snapshot(SnapshotMeta { last, configuration }).unwrap();
    image.write_all(&vec![7; usize::try_from(IMAGE_BYTES).unwrap()]).unwrap();
    image.finish().unwrap();
    let (clock, answers) = (Arc::new(Clock::default()), Arc::new(Answers::default()));
    let receiver = Arc::new(Receiver {
        answers: Arc::clone(&answers),
        answer: Mutex::new(Box::new(answer)),
        chunks: AtomicU64::new(0),
    });
    let sending = Sending {
        from: NodeId(1),
        to: NodeId(2),
        transfer: 1,
        chunk_bytes: usize::try_from(CHUNK_BYTES).unwrap(),
        answers,
        pace: Arc::new(Pace::new(None)),
        storage,
        transport: Arc::clone(&receiver) as _,
        runtime: Arc::clone(&clock) as _,
    };
    let outcome = block_on(sending.run()).expect("the disk is sound");
    (outcome, clock.now(), receiver.chunks.load(Ordering::SeqCst))
}

fn continue_at(offset: u64) -> SnapshotStatus {
    SnapshotStatus::Continue { reception: 1, offset, held: Vec::new() }
}

/// Known from many an implementation: a chunk that times out is sent again for ever.
#[test]
fn a_receiver_that_never_answers_is_given_up() {
    let (outcome, took, chunks) = transfer(|_| None);
    assert_eq!(outcome, Sent::Failed);
    assert!(took >= SILENCE_MAX && took < SILENCE_MAX * 2, "after {took:?}");
    assert!(chunks <= 100, "{chunks} chunks for nobody");
}

/// The same, where answers come and tell of no progress.
#[test]
fn a_receiver_that_gets_no_further_is_given_up() {
    let (outcome, took, chunks) = transfer(|chunk| {
        // Past its third chunk it takes nothing in, and says so whenever it is asked from the start of the window.
        let offset = (chunk.offset + CHUNK_BYTES).min(3 * CHUNK_BYTES);
        (chunk.offset <= 3 * CHUNK_BYTES).then(|| continue_at(offset))
    });
    assert_eq!(outcome, Sent::Failed);
    assert!(took >= STALL_MAX && took < STALL_MAX * 2, "after {took:?}");
    assert!(chunks <= 2000, "{chunks} chunks for nothing");
}

/// The same, the other way round: slow is not stuck.
#[test]
fn a_receiver_that_loses_most_chunks_gets_all_of_the_image() {
    let (mut written, mut held, mut arrived) = (0, BTreeSet::new(), 0_u64);
    let (outcome, took, _) = transfer(move |chunk| {
        arrived += 1;
        if !arrived.is_multiple_of(7) {
            return None;
        }
        if !chunk.data.is_empty() {
            held.insert(chunk.offset);
        }
        while held.remove(&written) {
            written += CHUNK_BYTES;
        }
        held.retain(|offset| *offset > written);
        Some(match written == IMAGE_BYTES {
            true => SnapshotStatus::Done,
            false => SnapshotStatus::Continue {
                reception: 1,
                offset: written,
                held: held.iter().copied().collect(),
            },
        })
    });
    let last = EntryId::new(Term(1), LogIndex(7));
    assert_eq!(outcome, Sent::Delivered(last));
    assert!(took > SILENCE_MAX, "it took {took:?}");
}

/// What it says of the chunks before belongs to a receiver that is no more.
#[test]
fn a_receiver_that_has_lost_what_it_had_ends_the_transfer() {
    let (outcome, _, chunks) = transfer(|chunk| {
        let offset = chunk.offset + CHUNK_BYTES;
        Some(match offset {
            50_000.. => SnapshotStatus::Continue { reception: 2, offset: 0, held: vec![] },
            _ => continue_at(offset),
        })
    });
    assert_eq!(outcome, Sent::Failed);
    assert!(chunks <= 60, "{chunks} chunks");
}

/// It may have had no room for it.
#[test]
fn a_chunk_that_a_receiver_has_let_go_of_is_sent_again() {
    let mut written = 0;
    let (outcome, _, chunks) = transfer(move |chunk| {
        let is_next = chunk.offset == written;
        if is_next {
            written += chunk.data.len() as u64;
        }
        Some(match written == IMAGE_BYTES {
            true => SnapshotStatus::Done,
            // Whatever comes too early is claimed once, and nothing of it is there.
            false => SnapshotStatus::Continue {
                reception: 1,
                offset: written,
                held: if is_next { vec![] } else { vec![chunk.offset] },
            },
        })
    });
    let last = EntryId::new(Term(1), LogIndex(7));
    assert_eq!(outcome, Sent::Delivered(last));
    assert!(chunks < 1000, "{chunks} chunks");
}

#[test]
fn answers_that_make_no_sense_do_no_harm() {
    for offset in [1, 999, 1001, IMAGE_BYTES, IMAGE_BYTES + 1, u64::MAX] {
        let held = vec![0, 1, 999, u64::MAX, offset];
        let (outcome, took, _) = transfer(move |_| {
            Some(SnapshotStatus::Continue { reception: 1, offset, held: held.clone() })
        });
        assert_eq!(outcome, Sent::Failed);
        assert!(took < STALL_MAX * 2, "after {took:?}");
    }
}

#[test]
fn a_receiver_that_takes_no_image_of_that_length_says_so() {
    let (outcome, took, _) = transfer(|_| Some(SnapshotStatus::TooLong { image_bytes_max: 9 }));
    let last = EntryId::new(Term(1), LogIndex(7));
    assert_eq!(outcome, Sent::TooLong { last, image_bytes: IMAGE_BYTES, image_bytes_max: 9 });
    assert_eq!(took, Duration::ZERO);
}
