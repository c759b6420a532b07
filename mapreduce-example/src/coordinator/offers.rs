//! What can be handed out, in its order, and to whom: what a worker has failed at is for others.

use imbl::{OrdMap, OrdSet};

use super::command::WorkerId;

/// To whom something may be given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// To any worker.
    Any,
    /// To any but this one, which has failed at it, as long as others are there; and only for so long.
    RatherNot(WorkerId),
    /// To any but this one, which has just failed at it.
    Not(WorkerId),
}

/// What can be handed out. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offers<T: Ord + Copy> {
    len: usize,
    /// What is for any worker.
    any: OrdSet<T>,
    /// What is not for a worker.
    barred: OrdMap<WorkerId, Barred<T>>,
    /// The first one of each of those.
    firsts: OrdSet<(T, WorkerId)>,
}

/// What is not for one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Barred<T: Ord + Copy> {
    all: OrdSet<T>,
    /// What it may be given all the same where no others are there.
    rested: OrdSet<T>,
}

impl<T: Ord + Copy> Offers<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first one that this worker may be given; `is_alone`: no others are there.
    pub(super) fn first_for(&self, worker: WorkerId, is_alone: bool) -> Option<T> {
        let any = self.any.get_min().copied();
        // There is one for each worker, so this looks at two of them at most.
        let of_others = self.firsts.iter().find(|(_, of)| *of != worker).map(|(first, _)| *first);
        let own = self.barred.get(&worker).filter(|_| is_alone);
        let own = own.and_then(|barred| barred.rested.get_min().copied());
        any.into_iter().chain(of_others).chain(own).min()
    }

    /// The first one that any worker may be given.
    pub(super) fn first_for_any(&self) -> Option<T> {
        self.any.get_min().copied()
    }

    /// Who may be given something of all this.
    pub(super) fn whom(&self) -> Option<Whom> {
        if !self.any.is_empty() || self.firsts.len() > 1 {
            return Some(Whom::Any);
        }
        let (worker, barred) = self.barred.get_min()?;
        Some(match barred.rested.is_empty() {
            true => Whom::Not(*worker),
            false => Whom::RatherNot(*worker),
        })
    }

    pub(super) fn insert(&mut self, one: T, whom: Whom) {
        self.len += 1;
        match whom {
            Whom::Any => {
                self.any.insert(one);
            }
            Whom::RatherNot(worker) => self.change(worker, |barred| {
                barred.all.insert(one);
                barred.rested.insert(one);
            }),
            Whom::Not(worker) => self.change(worker, |barred| {
                barred.all.insert(one);
            }),
        }
    }

    /// Takes out what was inserted so.
    pub(super) fn remove(&mut self, one: T, whom: Whom) {
        self.len -= 1;
        match whom {
            Whom::Any => {
                self.any.remove(&one);
            }
            Whom::RatherNot(worker) | Whom::Not(worker) => self.change(worker, |barred| {
                barred.all.remove(&one);
                barred.rested.remove(&one);
            }),
        }
    }

    fn change(&mut self, worker: WorkerId, change: impl FnOnce(&mut Barred<T>)) {
        let mut barred = self.barred.remove(&worker).unwrap_or_default();
        if let Some(first) = barred.all.get_min() {
            self.firsts.remove(&(*first, worker));
        }
        change(&mut barred);
        if let Some(first) = barred.all.get_min() {
            self.firsts.insert((*first, worker));
            self.barred.insert(worker, barred);
        }
    }
}

impl<T: Ord + Copy> Default for Offers<T> {
    fn default() -> Offers<T> {
        let (any, barred, firsts) = (OrdSet::new(), OrdMap::new(), OrdSet::new());
        Offers { len: 0, any, barred, firsts }
    }
}

impl<T: Ord + Copy> Default for Barred<T> {
    fn default() -> Barred<T> {
        Barred { all: OrdSet::new(), rested: OrdSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn whom(draw: u8) -> Whom {
        let worker = WorkerId(u64::from(draw / 3 % 3));
        [Whom::Any, Whom::RatherNot(worker), Whom::Not(worker)][usize::from(draw % 3)]
    }

    fn is_for(whom: Whom, worker: WorkerId, is_alone: bool) -> bool {
        match whom {
            Whom::Any => true,
            Whom::RatherNot(of) => is_alone || of != worker,
            Whom::Not(of) => of != worker,
        }
    }

    quickcheck! {
        fn each_worker_finds_the_first_one_that_is_for_it(changes: Vec<(u8, u8)>) -> bool {
            let (mut offers, mut plain) = (Offers::default(), std::collections::BTreeMap::new());
            changes.into_iter().all(|(one, draw)| {
                let one = one % 8;
                match plain.remove(&one) {
                    Some(whom) => offers.remove(one, whom),
                    None => {
                        plain.insert(one, whom(draw));
                        offers.insert(one, whom(draw));
                    }
                }
                (0..3).map(WorkerId).all(|worker| [true, false].into_iter().all(|is_alone| {
                    let mut its = plain.iter().filter(|(_, whom)| is_for(**whom, worker, is_alone));
                    let first = its.next().map(|(one, _)| *one);
                    let as_one = offers.whom().is_some_and(|whom| is_for(whom, worker, is_alone));
                    offers.first_for(worker, is_alone) == first && as_one == first.is_some()
                })) && offers.len() == plain.len()
            })
        }
    }
}
