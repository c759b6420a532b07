//! The term of every index of the log, in a few bytes a term.

use alloc::vec::Vec;

use crate::{EntryId, LogIndex, Term};

/// The term of every entry since the compaction point, as runs: terms never decrease along a log, so
/// one (first index, term) a term says it all. The consistency check (§5.3) needs no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TermRuns {
    start: EntryId,
    /// Ascending in both fields; the first one begins after `start`.
    runs: Vec<Run>,
    last: LogIndex,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    first: LogIndex,
    term: Term,
}

impl TermRuns {
    /// Those of an empty log that starts after `start`.
    #[must_use]
    pub fn new(start: EntryId) -> TermRuns {
        TermRuns { start, runs: Vec::new(), last: start.index }
    }

    /// The entry before the first one: the compaction point.
    #[must_use]
    pub fn start(&self) -> EntryId {
        self.start
    }

    /// The last entry, which is [`TermRuns::start`] when the log is empty.
    #[must_use]
    pub fn last(&self) -> EntryId {
        let term = self.runs.last().map_or(self.start.term, |run| run.term);
        EntryId::new(term, self.last)
    }

    /// The term of the entry at `index`; of the compaction point, too. `None` outside the log.
    #[must_use]
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if index < self.start.index || index > self.last {
            return None;
        }
        // Steady state asks for the last run.
        match self.runs.last() {
            Some(run) if index >= run.first => Some(run.term),
            _ => {
                let after = self.runs.partition_point(|run| run.first <= index);
                Some(after.checked_sub(1).map_or(self.start.term, |i| self.runs[i].term))
            }
        }
    }

    /// Whether the log holds this entry, or starts after it.
    #[must_use]
    pub fn contains(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    /// Adds the next entry, of `term`. Returns `false`, and does nothing, when the term would decrease.
    pub fn push(&mut self, term: Term) -> bool {
        self.extend(term, 1)
    }

    /// Adds the next `count` entries, all of `term`. Returns `false`, and does nothing, when the term would decrease.
    pub fn extend(&mut self, term: Term, count: u64) -> bool {
        let last = self.last();
        if term < last.term {
            return false;
        }
        if count > 0 && (term > last.term || self.runs.is_empty()) {
            self.runs.push(Run { first: self.last.next(), term });
        }
        self.last.0 = self.last.0.saturating_add(count);
        true
    }

    /// The runs, ascending: the last entry of each stretch of entries of one term.
    pub fn runs(&self) -> impl Iterator<Item = EntryId> + '_ {
        let ends = self.runs.iter().skip(1).map(|run| run.first.previous());
        self.runs
            .iter()
            .zip(ends.chain([self.last]))
            .map(|(run, last)| EntryId::new(run.term, last))
    }

    /// Drops the entry at `first` and all after it. What is compacted stays.
    pub fn truncate(&mut self, first: LogIndex) {
        if first > self.last {
            return;
        }
        self.last = first.previous().max(self.start.index);
        let last = self.last;
        while self.runs.last().is_some_and(|run| run.first > last) {
            self.runs.pop();
        }
    }

    /// Moves the compaction point to `index`. Does nothing when that lies outside the log.
    pub fn compact(&mut self, index: LogIndex) {
        let Some(term) = self.term(index) else { return };
        self.start = EntryId::new(term, index);
        let gone = self.runs.partition_point(|run| run.first <= index);
        // The run that `index` lies in goes on after it.
        let keep_from = gone.saturating_sub(1);
        self.runs.drain(..keep_from);
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(index.next());
            if run.first > self.last
                || self.runs.get(1).is_some_and(|next| next.first <= index.next())
            {
                self.runs.remove(0);
            }
        }
    }

    /// The last entry at or before `index` whose term is at most `term`; the compaction point when there
    /// is none. Every later entry up to `index` conflicts with a log that has `term` at `index` (§5.3).
    #[must_use]
    pub fn last_at_most(&self, index: LogIndex, term: Term) -> EntryId {
        let mut end = index.min(self.last);
        for run in self.runs.iter().rev() {
            if run.first > end {
                continue;
            }
            if run.term <= term {
                return EntryId::new(run.term, end);
            }
            end = run.first.previous();
        }
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that starts after `start` and whose entries have these terms.
    fn runs(start: (u64, u64), terms: &[u64]) -> TermRuns {
        let mut runs = TermRuns::new(EntryId::new(Term(start.0), LogIndex(start.1)));
        for term in terms {
            assert!(runs.push(Term(*term)));
        }
        runs
    }

    /// The same log by the plainest means.
    fn model(start: (u64, u64), terms: &[u64]) -> Vec<(u64, u64)> {
        let mut all = alloc::vec![(start.1, start.0)];
        all.extend(terms.iter().enumerate().map(|(i, term)| (start.1 + 1 + i as u64, *term)));
        all
    }

    fn agrees(runs: &TermRuns, model: &[(u64, u64)]) {
        assert_eq!((runs.start().index.0, runs.start().term.0), model[0]);
        let last = model[model.len() - 1];
        assert_eq!((runs.last().index.0, runs.last().term.0), last);
        for (index, term) in model {
            assert_eq!(runs.term(LogIndex(*index)), Some(Term(*term)), "at {index} of {model:?}");
        }
        assert_eq!(runs.term(LogIndex(last.0 + 1)), None);
        if model[0].0 > 0 {
            assert_eq!(runs.term(LogIndex(model[0].0 - 1)), None);
        }
    }

    const TERMS: [u64; 8] = [2, 2, 3, 5, 5, 5, 8, 8];

    #[test]
    fn every_index_since_the_compaction_point_has_its_term() {
        agrees(&runs((1, 10), &TERMS), &model((1, 10), &TERMS));
        agrees(&runs((2, 10), &TERMS), &model((2, 10), &TERMS));
        agrees(&runs((0, 0), &[]), &model((0, 0), &[]));
    }

    #[test]
    fn a_truncation_leaves_what_is_before_it() {
        for keep in 0..=TERMS.len() {
            let mut log = runs((1, 10), &TERMS);
            log.truncate(LogIndex(11 + keep as u64));
            agrees(&log, &model((1, 10), &TERMS[..keep]));
            assert!(log.push(Term(9)));
            agrees(&log, &model((1, 10), &[&TERMS[..keep], &[9]].concat()));
        }
    }

    #[test]
    fn a_compaction_leaves_what_is_after_it() {
        for gone in 1..=TERMS.len() {
            let mut log = runs((1, 10), &TERMS);
            let start = (TERMS[gone - 1], 10 + gone as u64);
            log.compact(LogIndex(start.1));
            agrees(&log, &model(start, &TERMS[gone..]));
            assert_eq!(log, runs(start, &TERMS[gone..]), "the same runs, too");
            assert!(log.push(Term(8)));
            agrees(&log, &model(start, &[&TERMS[gone..], &[8]].concat()));
        }
    }

    #[test]
    fn a_term_never_decreases_along_the_log() {
        let mut log = runs((4, 10), &[]);
        assert!(!log.push(Term(3)));
        assert_eq!(log.last(), log.start());
    }

    #[test]
    fn runs_taken_out_and_added_again_are_the_same_log() {
        for terms in [&TERMS[..], &TERMS[..1], &[]] {
            for start in [(1, 10), (2, 10)] {
                let log = runs(start, terms);
                let mut again = TermRuns::new(log.start());
                for last in log.runs() {
                    assert!(again.extend(last.term, last.index.0 - again.last().index.0));
                }
                agrees(&again, &model(start, terms));
            }
        }
    }

    #[test]
    fn many_entries_of_one_term_are_added_as_one_by_one() {
        let mut log = runs((1, 10), &TERMS);
        assert!(log.extend(Term(8), 2) && log.extend(Term(9), 3));
        let all = [&TERMS[..], &[8, 8, 9, 9, 9]].concat();
        agrees(&log, &model((1, 10), &all));
        assert_eq!(log, runs((1, 10), &all));
        assert!(log.extend(Term(10), 0), "none is allowed");
        assert!(!log.extend(Term(8), 1), "a term that decreases");
        assert_eq!(log, runs((1, 10), &all), "nothing was added");
    }

    #[test]
    fn the_hint_skips_every_entry_of_a_greater_term() {
        let log = runs((1, 10), &TERMS);
        let hint = |index, term| {
            let id = log.last_at_most(LogIndex(index), Term(term));
            (id.index.0, id.term.0)
        };
        assert_eq!(hint(17, 8), (17, 8));
        assert_eq!(hint(99, 9), (18, 8));
        assert_eq!(hint(17, 7), (16, 5));
        assert_eq!(hint(15, 5), (15, 5));
        assert_eq!(hint(16, 4), (13, 3));
        assert_eq!(hint(16, 1), (10, 1));
    }
}
