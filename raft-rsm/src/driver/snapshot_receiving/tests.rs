//! Whole transfers, from a sender to a receiver, on a network and a clock of the test's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read as _;
use std::task::Context;

use async_trait::async_trait;
use futures::task::noop_waker;
use raft_core::{Configuration, EntryId, LogIndex, Member, Term};

use super::super::snapshot_sending::{Answers, Pace, Sending, Sent};
use super::*;
use crate::nothing::Nothing;
use crate::options::Options;
use crate::storage::MemoryStorage;
use crate::transport::{Inbox, Service};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const CHUNK_BYTES: u64 = 1000;
const CHUNKS: u64 = 100;
/// How long a packet takes, where nothing else is said.
const DELAY: Duration = Duration::from_millis(10);
const SENDER: NodeId = NodeId(1);
const RECEIVER: NodeId = NodeId(2);

/// What the network does with a packet: the copies that arrive, and when.
type Fate = Vec<(Duration, Packet)>;
type Network = Box<dyn FnMut(&Packet) -> Fate + Send>;

/// Clock and network. Its time passes when nobody can go on without.
struct World {
    now: Arc<Mutex<Duration>>,
    timers: Mutex<BTreeSet<Duration>>,
    drawn: AtomicU64,
    network: Mutex<Network>,
    on_their_way: Mutex<BTreeMap<(Duration, u64), Packet>>,
    /// All that was sent, and when.
    sent: Mutex<Vec<(Duration, Packet)>>,
}

impl World {
    fn new(network: impl FnMut(&Packet) -> Fate + Send + 'static) -> Arc<World> {
        Arc::new(World {
            now: Arc::new(Mutex::new(SECOND)),
            timers: Mutex::default(),
            drawn: AtomicU64::new(0),
            network: Mutex::new(Box::new(network)),
            on_their_way: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// The next packet that is due now. Without one, time goes on to when there is something to do.
    fn next_packet(&self) -> Option<Packet> {
        let mut on_their_way = lock(&self.on_their_way);
        let mut now = lock(&self.now);
        if let Some(first) = on_their_way.first_entry()
            && first.key().0 <= *now
        {
            return Some(first.remove());
        }
        let arrival = on_their_way.keys().next().map(|(at, _)| *at);
        let mut timers = lock(&self.timers);
        timers.retain(|at| *at > *now);
        *now = arrival.into_iter().chain(timers.first().copied()).min().expect("nobody waits");
        None
    }

    /// The chunks that were sent, without those that only ask.
    fn chunks(&self) -> Vec<(Duration, SnapshotChunk)> {
        let sent = lock(&self.sent);
        let chunks = sent.iter().filter_map(|(at, packet)| match packet {
            Packet::SnapshotChunk(chunk) if !chunk.data.is_empty() => Some((*at, chunk.clone())),
            Packet::Raft(_)
            | Packet::SnapshotChunk(_)
            | Packet::SnapshotResponse(_)
            | Packet::Checksum(_) => None,
        });
        chunks.collect()
    }

    fn answers(&self) -> Vec<SnapshotStatus> {
        let sent = lock(&self.sent);
        let answers = sent.iter().filter_map(|(_, packet)| match packet {
            Packet::SnapshotResponse(response) => Some(response.status.clone()),
            Packet::Raft(_) | Packet::SnapshotChunk(_) | Packet::Checksum(_) => None,
        });
        answers.collect()
    }
}

impl Runtime for World {
    fn spawn(&self, name: &str, _task: BoxFuture<'static, ()>) {
        unreachable!("a transfer spawns {name}");
    }

    fn spawn_blocking(&self, _name: &str, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let at = self.now() + duration;
        lock(&self.timers).insert(at);
        let now = Arc::clone(&self.now);
        poll_fn(move |_| if *lock(&now) >= at { Poll::Ready(()) } else { Poll::Pending }).boxed()
    }

    fn now(&self) -> Duration {
        *lock(&self.now)
    }

    fn random(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::SeqCst)
    }
}

#[async_trait]
impl Transport for World {
    fn start(&self, _inbox: Arc<dyn Inbox>, _service: Arc<dyn Service>) {}

    fn set_peers(&self, _: &[Member]) {}

    fn send(&self, packet: Packet) {
        let (now, mut sent) = (self.now(), lock(&self.sent));
        assert!(sent.len() < 100_000, "it goes on for ever");
        let mut on_their_way = lock(&self.on_their_way);
        for (copy, (delay, packet)) in (0..).zip(lock(&self.network)(&packet)) {
            on_their_way.insert((now + delay, sent.len() as u64 * 10 + copy), packet);
        }
        sent.push((now, packet));
    }

    async fn shutdown(&self) {}
}

/// The receiver of a node.
struct Receiver {
    chunks: Arc<Chunks>,
    storage: Arc<MemoryStorage>,
    task: BoxFuture<'static, ()>,
}

impl Receiver {
    fn new(world: &Arc<World>) -> Receiver {
        let (chunks, storage) = (Arc::new(Chunks::default()), Arc::new(storage()));
        let receiving = Receiving::<Nothing> {
            id: RECEIVER,
            image_bytes_max: 1 << 30,
            chunks: Arc::clone(&chunks),
            intake: Arc::new(Intake::new(&Options::new(RECEIVER))),
            storage: Arc::clone(&storage) as _,
            transport: Arc::clone(world) as _,
            runtime: Arc::clone(world) as _,
        };
        Receiver { chunks, storage, task: receiving.run().boxed() }
    }

    fn poll(&mut self) {
        let waker = noop_waker();
        assert!(self.task.poll_unpin(&mut Context::from_waker(&waker)).is_pending(), "it ended");
    }

    /// Has it take a chunk, and returns what it answers.
    fn take(&mut self, world: &World, chunk: SnapshotChunk) -> Option<SnapshotStatus> {
        let before = world.answers().len();
        self.chunks.push(chunk);
        self.poll();
        world.answers().split_off(before).pop()
    }

    fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        let mut reader = self.storage.open_snapshot().unwrap().expect("there is a snapshot");
        reader.read_to_end(&mut image).unwrap();
        image
    }
}

fn storage() -> MemoryStorage {
    MemoryStorage::new(meta().configuration)
}

fn meta() -> SnapshotMeta {
    let configuration = Configuration::new([SENDER, RECEIVER], []);
    SnapshotMeta::new(EntryId::new(Term(1), LogIndex(7)), configuration)
}

fn image(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|n| (n / CHUNK_BYTES + n).to_le_bytes()[0]).collect()
}

/// How a transfer went.
struct Went {
    outcome: Sent,
    took: Duration,
    world: Arc<World>,
    receiver: Receiver,
}

impl Went {
    /// How many chunks left.
    fn sent(&self) -> u64 {
        self.world.chunks().len() as u64
    }

    fn assert_whole(&self, bytes: u64) {
        assert_eq!(self.outcome, Sent::Delivered(meta().last));
        assert!(self.receiver.image() == image(bytes), "another image");
    }
}

/// Sends an image of so many bytes through a network.
fn transfer(bytes: u64, pace: Pace, network: impl FnMut(&Packet) -> Fate + Send + 'static) -> Went {
    let world = World::new(network);
    let begin = world.now();
    let storage = storage();
    let mut writer = storage.create_snapshot(meta()).unwrap();
    writer.write_all(&image(bytes)).unwrap();
    writer.finish().unwrap();
    let answers = Arc::new(Answers::default());
    let sending = Sending {
        from: SENDER,
        to: RECEIVER,
        transfer: 1,
        chunk_bytes: usize::try_from(CHUNK_BYTES).unwrap(),
        answers: Arc::clone(&answers),
        pace: Arc::new(pace),
        storage: Arc::new(storage),
        transport: Arc::clone(&world) as _,
        runtime: Arc::clone(&world) as _,
    };
    let mut receiver = Receiver::new(&world);
    let mut sender = sending.run().boxed();
    let waker = noop_waker();
    loop {
        if let Poll::Ready(outcome) = sender.poll_unpin(&mut Context::from_waker(&waker)) {
            let outcome = outcome.expect("the disk is sound");
            return Went { outcome, took: world.now() - begin, world, receiver };
        }
        receiver.poll();
        match world.next_packet() {
            Some(Packet::SnapshotChunk(chunk)) => receiver.chunks.push(chunk),
            Some(Packet::SnapshotResponse(response)) => answers.put(response.status),
            Some(Packet::Raft(_) | Packet::Checksum(_)) | None => {}
        }
        receiver.poll();
    }
}

fn arrives(packet: &Packet) -> Fate {
    vec![(DELAY, packet.clone())]
}

/// A network on which what makes `is_lost` true, of those packets that carry a part of the image, is lost.
fn losing(
    mut is_lost: impl FnMut(&SnapshotChunk) -> bool + Send + 'static,
) -> impl FnMut(&Packet) -> Fate + Send + 'static {
    move |packet| match packet {
        Packet::SnapshotChunk(chunk) if !chunk.data.is_empty() && is_lost(chunk) => Vec::new(),
        Packet::Raft(_)
        | Packet::SnapshotChunk(_)
        | Packet::SnapshotResponse(_)
        | Packet::Checksum(_) => arrives(packet),
    }
}

fn chunk(transfer: u64, number: u64) -> SnapshotChunk {
    let (from, to) = (number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES);
    let all = image(CHUNKS * CHUNK_BYTES);
    let part = &all[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()];
    let chunk = SnapshotChunk {
        from: SENDER,
        to: RECEIVER,
        transfer,
        meta: meta(),
        image_bytes: CHUNKS * CHUNK_BYTES,
        offset: from,
        checksum: 0,
        data: Bytes::copy_from_slice(part),
    };
    chunk.sealed()
}

fn where_it_stands(answer: Option<SnapshotStatus>) -> (u64, Vec<u64>) {
    match answer {
        Some(SnapshotStatus::Continue { offset, held, .. }) => (offset, held),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_of_any_length_arrives_whole() {
    for bytes in [0, 1, 999, 1000, 1001, 8000, 8001, 50_500] {
        let went = transfer(bytes, Pace::new(None), arrives);
        went.assert_whole(bytes);
        assert_eq!(went.sent(), bytes.div_ceil(CHUNK_BYTES));
    }
}

/// Known from many an implementation: everything after a lost chunk is sent again.
#[test]
fn a_lost_chunk_costs_that_chunk_alone() {
    for each in 2..=30 {
        let (mut sent, lost) = (0_u64, Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&lost);
        let network = losing(move |_| {
            sent += 1;
            let is_lost = sent.is_multiple_of(each);
            count.fetch_add(u64::from(is_lost), Ordering::SeqCst);
            is_lost
        });
        let went = transfer(CHUNKS * CHUNK_BYTES, Pace::new(None), network);
        went.assert_whole(CHUNKS * CHUNK_BYTES);
        let lost = lost.load(Ordering::SeqCst);
        assert!(lost >= CHUNKS / each);
        assert_eq!(went.sent(), CHUNKS + lost, "one in {each} is lost");
    }
}

#[test]
fn a_lost_answer_costs_no_chunk() {
    for each in 2..=10 {
        let mut answers = 0_u64;
        let went = transfer(CHUNKS * CHUNK_BYTES, Pace::new(None), move |packet| {
            answers += u64::from(matches!(packet, Packet::SnapshotResponse(_)));
            match packet {
                Packet::SnapshotResponse(_) if answers.is_multiple_of(each) => Vec::new(),
                Packet::Raft(_)
                | Packet::SnapshotChunk(_)
                | Packet::SnapshotResponse(_)
                | Packet::Checksum(_) => arrives(packet),
            }
        });
        went.assert_whole(CHUNKS * CHUNK_BYTES);
        assert_eq!(went.sent(), CHUNKS, "one answer in {each} is lost");
    }
}

/// The chunks after it tell.
#[test]
fn a_lost_chunk_is_sent_again_before_it_times_out() {
    for number in 0..12 {
        let mut is_new = true;
        let network = losing(move |chunk| {
            chunk.offset == number * CHUNK_BYTES && std::mem::replace(&mut is_new, false)
        });
        let went = transfer(20 * CHUNK_BYTES, Pace::new(None), network);
        went.assert_whole(20 * CHUNK_BYTES);
        assert_eq!(went.sent(), 21);
        assert!(went.took < 10 * DELAY, "chunk {number} holds it up for {:?}", went.took);
    }
}

#[test]
fn a_damaged_chunk_is_counted_and_costs_that_chunk_alone() {
    let mut sent = 0_u64;
    let went = transfer(CHUNKS * CHUNK_BYTES, Pace::new(None), move |packet| {
        let mut packet = packet.clone();
        if let Packet::SnapshotChunk(chunk) = &mut packet
            && !chunk.data.is_empty()
        {
            sent += 1;
            match sent {
                7 => chunk.data = vec![0; chunk.data.len()].into(),
                14 => chunk.data.truncate(500),
                21 => chunk.offset += CHUNK_BYTES,
                28 => chunk.image_bytes -= 1,
                35 => chunk.meta.last.index.0 += 1,
                42 => chunk.meta.last.term.0 += 1,
                49 => chunk.transfer += 1,
                56 => chunk.checksum ^= 1,
                _ => {}
            }
        }
        vec![(DELAY, packet)]
    });
    went.assert_whole(CHUNKS * CHUNK_BYTES);
    assert_eq!((went.receiver.chunks.damaged(), went.sent()), (8, CHUNKS + 8));
}

/// Loss, repetition, damage, and delays that let one overtake the other, both ways.
#[test]
fn an_image_arrives_whole_through_a_bad_network() {
    for seed in 1..=100_u64 {
        let mut state = seed;
        let mut below = move |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        let went = transfer(CHUNKS * CHUNK_BYTES, Pace::new(None), move |packet| {
            let copies = [0, 1, 1, 1, 1, 1, 1, 2][usize::try_from(below(8)).unwrap()];
            let copy = |_| {
                let mut packet = packet.clone();
                if let Packet::SnapshotChunk(chunk) = &mut packet
                    && below(10) == 0
                {
                    chunk.offset += CHUNK_BYTES;
                }
                (u32::try_from(below(30)).unwrap() * MS, packet)
            };
            (0..copies).map(copy).collect()
        });
        went.assert_whole(CHUNKS * CHUNK_BYTES);
        assert!(went.sent() < 4 * CHUNKS, "seed {seed}: {} chunks", went.sent());
    }
}

#[test]
fn no_more_bytes_leave_in_a_second_than_are_allowed() {
    let bytes_per_second = 8000;
    let mut sent = 0_u64;
    let network = losing(move |_| {
        sent += 1;
        sent.is_multiple_of(5)
    });
    let went = transfer(CHUNKS * CHUNK_BYTES, Pace::new(Some(bytes_per_second)), network);
    went.assert_whole(CHUNKS * CHUNK_BYTES);
    let chunks = went.world.chunks();
    let mut within: VecDeque<Duration> = VecDeque::new();
    for (at, _) in chunks {
        within.push_back(at);
        while within.front().is_some_and(|first| *first + SECOND <= at) {
            within.pop_front();
        }
        assert!(within.len() as u64 * CHUNK_BYTES <= bytes_per_second, "{within:?}");
    }
    let least = Duration::from_secs(went.sent() * CHUNK_BYTES / bytes_per_second);
    assert!(went.took < least + SECOND, "{:?} for {} chunks", went.took, went.sent());
}

#[test]
fn a_sender_that_waits_for_its_turn_is_not_taken_for_dead() {
    // A chunk each 20 seconds.
    let went = transfer(6 * CHUNK_BYTES, Pace::new(Some(CHUNK_BYTES / 20)), arrives);
    went.assert_whole(6 * CHUNK_BYTES);
    assert!(went.took >= 100 * SECOND && went.sent() == 6);
}

#[test]
fn chunks_behind_a_missing_one_are_held_and_written_once_it_is_there() {
    let world = World::new(arrives);
    let mut receiver = Receiver::new(&world);
    // The first chunk of a transfer need not be the first one to arrive.
    assert_eq!(where_it_stands(receiver.take(&world, chunk(1, 2))), (0, vec![2000]));
    assert_eq!(where_it_stands(receiver.take(&world, chunk(1, 1))), (0, vec![1000, 2000]));
    assert_eq!(where_it_stands(receiver.take(&world, chunk(1, 0))), (3000, vec![]));
    assert_eq!(where_it_stands(receiver.take(&world, chunk(1, 1))), (3000, vec![]));
}

#[test]
fn no_more_chunks_are_held_than_a_window_has() {
    let world = World::new(arrives);
    let mut receiver = Receiver::new(&world);
    for number in (1..CHUNKS).rev() {
        let (offset, held) = where_it_stands(receiver.take(&world, chunk(1, number)));
        assert!(offset == 0 && held.len() <= CHUNKS_MAX, "{offset} {held:?}");
    }
    assert_eq!(where_it_stands(receiver.take(&world, chunk(1, 0))), (9000, vec![]));
}

#[test]
fn a_late_chunk_of_a_transfer_that_was_given_up_begins_nothing() {
    let world = World::new(arrives);
    let mut receiver = Receiver::new(&world);
    receiver.take(&world, chunk(1, 0));
    assert_eq!(where_it_stands(receiver.take(&world, chunk(2, 0))), (1000, vec![]));
    assert_eq!(receiver.take(&world, chunk(1, 1)), Some(SnapshotStatus::Refused));
    assert_eq!(where_it_stands(receiver.take(&world, chunk(2, 1))), (2000, vec![]));
}

/// Its sender learns from it that what was there is lost.
#[test]
fn each_reception_has_a_name_of_its_own() {
    let world = World::new(arrives);
    let name = |receiver: &mut Receiver| match receiver.take(&world, chunk(1, 0)) {
        Some(SnapshotStatus::Continue { reception, .. }) => reception,
        other => panic!("{other:?}"),
    };
    let mut receiver = Receiver::new(&world);
    let first = name(&mut receiver);
    assert_eq!(name(&mut receiver), first);
    assert_ne!(name(&mut Receiver::new(&world)), first);
}

/// The sender waits before it offers the image again, so it has to know why it was refused.
#[test]
fn an_image_that_is_too_long_is_refused_with_the_limit_and_its_transfer_counted_once() {
    let world = World::new(arrives);
    let mut receiver = Receiver::new(&world);
    let too_long = |transfer, number| {
        SnapshotChunk { image_bytes: (1 << 30) + 1, ..chunk(transfer, number) }.sealed()
    };
    let limit = Some(SnapshotStatus::TooLong { image_bytes_max: 1 << 30 });
    for number in 0..3 {
        assert_eq!(receiver.take(&world, too_long(1, number)), limit);
    }
    assert_eq!(receiver.chunks.too_long(), 1);
    assert_eq!(receiver.take(&world, too_long(2, 0)), limit);
    assert_eq!(receiver.chunks.too_long(), 2);
    // It disturbs no other transfer.
    assert_eq!(where_it_stands(receiver.take(&world, chunk(3, 0))).0, CHUNK_BYTES);
    assert_eq!(receiver.take(&world, too_long(1, 1)), limit);
    assert_eq!(where_it_stands(receiver.take(&world, chunk(3, 1))).0, 2 * CHUNK_BYTES);
}
