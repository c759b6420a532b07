//! What a link does to what is sent over it.

use std::ops::Range;
use std::time::Duration;

use crate::random::Random;

const MILLI: Duration = Duration::from_millis(1);

/// The latency of a network without faults.
const SMALL: Delay = Delay::Uniform(Duration::from_micros(100)..Duration::from_micros(1_000));

/// From how many zero bits of a draw on a delay is in the long tail: one in 16.
const TAIL_BITS: u32 = 4;

/// How a link treats what is sent over it. Probabilities are between 0 and 1.
///
/// Votes granted or not, acknowledgements and the like, and the answers to clients, are responses; all else are requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// What happens to requests.
    pub requests: Passage,
    /// What happens to responses.
    pub responses: Passage,
    /// The probability that a packet between nodes arrives twice. What clients send and get never does.
    pub duplicate: f64,
    /// A link carries one after the other, so many bytes a second. `None`: any number at once.
    pub bandwidth_bytes_per_second: Option<u64>,
    /// What was sent first arrives first, except for what is held back.
    pub in_order: bool,
    /// After how long a client notices that it cannot reach a node, if it does: in half of the calls. The others last
    /// until their deadline.
    pub unreachable_delay: Range<Duration>,
}

/// What happens on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// How long it takes.
    pub latency: Delay,
    /// The probability that one is lost.
    pub loss: f64,
    /// The probability that one is held back, so that later ones overtake it ...
    pub hold: f64,
    /// ... by this.
    pub hold_time: Delay,
}

/// How a delay is distributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Evenly over a range.
    Uniform(Range<Duration>),
    /// Evenly from half of `usual` to one and a half times that; but one in 16 takes twice as long or longer, one in 32
    /// four times, and so on.
    LongTail {
        /// What it mostly is about.
        usual: Duration,
        /// It never takes longer than this.
        longest: Duration,
    },
    /// `least` and a time below a time below `spread`, both drawn evenly.
    Skewed {
        /// It never takes less.
        least: Duration,
        /// What is added is less than this, and mostly much less.
        spread: Duration,
    },
}

/// What happens to one parcel.
#[derive(Copy, Clone, Debug)]
pub(super) struct Fate {
    pub(super) is_lost: bool,
    pub(super) is_held: bool,
    pub(super) after: Duration,
    /// Once more, after this time.
    pub(super) again: Option<Duration>,
}

/// Which way something goes between two that ask and answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions::reliable()
    }
}

impl Conditions {
    /// Everything arrives once, in order, after 0.1 to 1 ms.
    #[must_use]
    pub fn reliable() -> Conditions {
        Conditions {
            requests: Passage::through(SMALL),
            responses: Passage::through(SMALL),
            duplicate: 0.0,
            bandwidth_bytes_per_second: None,
            in_order: true,
            unreachable_delay: Duration::ZERO..MILLI * 100,
        }
    }

    /// Every request waits up to 27 ms and overtakes others; one request in ten and one response in ten is lost.
    #[must_use]
    pub fn unreliable() -> Conditions {
        let request_delay = Delay::Uniform(Duration::ZERO..MILLI * 27);
        Conditions {
            requests: Passage { loss: 0.1, ..Passage::through(request_delay) },
            responses: Passage { loss: 0.1, ..Passage::through(SMALL) },
            in_order: false,
            ..Conditions::reliable()
        }
    }

    /// And two thirds of the responses are held back, for 200 ms to 2.2 s.
    #[must_use]
    pub fn with_long_reordering(mut self) -> Conditions {
        self.responses.hold = 2.0 / 3.0;
        self.responses.hold_time = Delay::Skewed { least: MILLI * 200, spread: MILLI * 2_000 };
        self
    }

    /// And a client takes up to 7 s to notice that it cannot reach a node.
    #[must_use]
    pub fn with_long_delays(mut self) -> Conditions {
        self.unreachable_delay = Duration::ZERO..MILLI * 7_000;
        self
    }

    /// Draws the same number of times whatever happens, so that one fault's probability does not shift the others.
    pub(super) fn draw(&self, direction: Direction, random: &mut Random) -> Fate {
        let passage = match direction {
            Direction::Request => &self.requests,
            Direction::Response => &self.responses,
        };
        let is_lost = random.chance(passage.loss);
        let is_held = random.chance(passage.hold);
        let is_doubled = random.chance(self.duplicate);
        let latency = passage.latency.draw(random);
        let hold_time = passage.hold_time.draw(random);
        let second = passage.latency.draw(random);
        let hold_time = if is_held { hold_time } else { Duration::ZERO };
        let after = latency.saturating_add(hold_time);
        Fate { is_lost, is_held, after, again: is_doubled.then_some(second) }
    }

    /// How long it takes to send so many bytes.
    pub(super) fn transmission_time(&self, bytes: usize) -> Duration {
        const NANOS_A_SECOND: u128 = 1_000_000_000;
        match self.bandwidth_bytes_per_second {
            None => Duration::ZERO,
            Some(bandwidth) => {
                let nanos = bytes as u128 * NANOS_A_SECOND / u128::from(bandwidth.max(1));
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

impl Passage {
    /// Nothing happens on the way; it takes its time.
    #[must_use]
    pub fn through(latency: Delay) -> Passage {
        Passage { latency, loss: 0.0, hold: 0.0, hold_time: Delay::none() }
    }
}

impl Delay {
    /// None.
    #[must_use]
    pub fn none() -> Delay {
        Delay::Uniform(Duration::ZERO..Duration::ZERO)
    }

    /// Always draws twice.
    pub(super) fn draw(&self, random: &mut Random) -> Duration {
        match self {
            Delay::Uniform(range) => {
                let delay = random.duration(range);
                random.next();
                delay
            }
            Delay::LongTail { usual, longest } => {
                let body = *usual / 2 + random.duration(&(Duration::ZERO..*usual));
                // Whole numbers alone: what a logarithm is in its last bit depends on the machine.
                let zeros = random.next().leading_zeros();
                let doublings = (zeros + 1).saturating_sub(TAIL_BITS).min(u32::BITS - 1);
                body.saturating_mul(1 << doublings).min(*longest)
            }
            Delay::Skewed { least, spread } => {
                let below = random.duration(&(Duration::ZERO..*spread));
                least.saturating_add(random.duration(&(Duration::ZERO..below)))
            }
        }
    }
}
