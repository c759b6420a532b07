//! What can happen to a packet.

use std::ops::Range;
use std::time::Duration;

/// What the network does to packets, requests and answers. Probabilities are between 0 and 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// The probability that one is lost. A request or answer that is lost ends at the caller's deadline.
    pub loss: f64,
    /// The probability that a packet arrives twice.
    pub duplicate: f64,
    /// How long each is on its way, drawn evenly. What one sent to another stays in order.
    pub delay: Range<Duration>,
    /// The probability that one is held back by a time drawn from `reorder_delay`, so that later ones
    /// overtake it.
    pub reorder: f64,
    /// See `reorder`.
    pub reorder_delay: Range<Duration>,
}

impl Faults {
    /// None: all arrives at once and in order.
    #[must_use]
    pub fn none() -> Faults {
        Faults {
            loss: 0.0,
            duplicate: 0.0,
            delay: Duration::ZERO..Duration::ZERO,
            reorder: 0.0,
            reorder_delay: Duration::ZERO..Duration::ZERO,
        }
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}

/// What happens to one packet.
pub(super) enum Fate {
    Lost,
    Arrives {
        after: Duration,
        /// Not before what was sent earlier.
        in_order: bool,
        /// Once more, after this time.
        again: Option<Duration>,
    },
}

/// Draws fates.
pub(super) struct Dice {
    pub(super) faults: Faults,
    state: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice { faults: Faults::none(), state: seed }
    }

    /// Draws the same number of times whatever happens, so that one fault's probability does not shift the others.
    pub(super) fn throw(&mut self) -> Fate {
        let (lost, twice, late) = (self.unit(), self.unit(), self.unit());
        let (delay, second, hold) = (self.unit(), self.unit(), self.unit());
        let faults = &self.faults;
        if lost < faults.loss {
            return Fate::Lost;
        }
        let is_late = late < faults.reorder;
        let held = if is_late { between(&faults.reorder_delay, hold) } else { Duration::ZERO };
        Fate::Arrives {
            after: between(&faults.delay, delay).saturating_add(held),
            in_order: !is_late,
            again: (twice < faults.duplicate).then(|| between(&faults.delay, second)),
        }
    }

    /// A number from 0 up to 1.
    fn unit(&mut self) -> f64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The 53 bits that a float holds exactly.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn between(range: &Range<Duration>, unit: f64) -> Duration {
    range.start + range.end.saturating_sub(range.start).mul_f64(unit)
}
