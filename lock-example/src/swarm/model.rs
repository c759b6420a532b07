//! What clients of the locks may be told.

use raft_sim::model::Model;

/// Who acquires the versioned lock: a client, and the number of its acquisition.
pub type Holder = (u64, u64);

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Acquires a lock.
    Acquire {
        /// Which one.
        lock: String,
        /// For the versioned lock: who.
        holder: Option<Holder>,
    },
    /// Writes to the resource that a fenced lock protects.
    Write {
        /// Which lock.
        lock: String,
        /// The token of the writer.
        token: u64,
    },
    /// Releases the versioned lock.
    Release {
        /// Which one.
        lock: String,
        /// Who.
        holder: Holder,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It holds the lock; with this token, if there are tokens.
    Granted(Option<u64>),
    /// Others hold it or wait for it, and it does not wait with them.
    NotNow,
    /// The write has reached the fence.
    Written {
        /// Whether it was let through.
        accepted: bool,
        /// Whether the writer counted itself as the holder at that moment.
        held: bool,
    },
    /// It does not hold the lock.
    Released,
}

/// One lock and its resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// The last token that was granted.
    granted: u64,
    /// The greatest token that the fence has let through.
    written: u64,
    /// Who holds the versioned lock.
    holder: Option<Holder>,
}

/// The specification of the locks.
///
/// - A token is granted once, and is greater than those before: so it is one holder's alone.
/// - That others have the lock may be said at any time: those in line are not all in the history.
/// - A write is let through if, and only if, no greater token was. A holder that counts itself as such is never refused: so
///   no two of them are right at one moment.
/// - The versioned lock is acquired only while nobody holds it, and a release changes nothing for anybody else.
#[derive(Copy, Clone, Debug, Default)]
pub struct Locks;

impl Model for Locks {
    type Input = Request;
    type Output = Answer;
    type State = State;
    type Key = String;

    fn key(&self, input: &Request) -> Option<String> {
        match input {
            Request::Acquire { lock, .. }
            | Request::Write { lock, .. }
            | Request::Release { lock, .. } => Some(lock.clone()),
        }
    }

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, input: &Request, output: Option<&Answer>) -> Option<State> {
        let mut after = state.clone();
        match (input, output) {
            (Request::Acquire { holder: None, .. }, Some(Answer::Granted(Some(token)))) => {
                after.granted = *token;
                (*token > state.granted).then_some(after)
            }
            (Request::Acquire { holder: Some(holder), .. }, Some(Answer::Granted(None))) => {
                after.holder = Some(*holder);
                state.holder.is_none().then_some(after)
            }
            // Nobody knows: where the lock is free, it may be taken now.
            (Request::Acquire { holder: Some(holder), .. }, None) => {
                after.holder = state.holder.or(Some(*holder));
                Some(after)
            }
            (Request::Write { token, .. }, Some(Answer::Written { accepted, held })) => {
                let is_latest = *token >= state.written;
                after.written = state.written.max(*token);
                let is_right = *accepted == is_latest && (is_latest || !held);
                (is_right && *token <= state.granted).then_some(after)
            }
            (Request::Release { holder, .. }, Some(Answer::Released) | None) => {
                after.holder = state.holder.filter(|other| other != holder);
                Some(after)
            }
            (Request::Acquire { holder: None, .. }, Some(Answer::NotNow) | None)
            | (Request::Write { .. }, None) => Some(after),
            (
                Request::Acquire { .. } | Request::Write { .. } | Request::Release { .. },
                Some(
                    Answer::Granted(_) | Answer::NotNow | Answer::Written { .. } | Answer::Released,
                ),
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use raft_sim::checkers::linearizability::check;
    use raft_sim::history::{Ended, History};

    use super::*;

    /// One after the other.
    fn is_right(story: &[(Request, Answer)]) -> bool {
        let mut history = History::new();
        for (at, (request, answer)) in story.iter().enumerate() {
            let at = Duration::from_secs(at as u64);
            let id = history.begin(0, request.clone(), at);
            history.end(id, Ended::Answered(answer.clone()), at);
        }
        check(&Locks, &history).is_linearizable()
    }

    fn granted(token: u64) -> (Request, Answer) {
        let request = Request::Acquire { lock: "l".to_owned(), holder: None };
        (request, Answer::Granted(Some(token)))
    }

    fn written(token: u64, accepted: bool, held: bool) -> (Request, Answer) {
        (Request::Write { lock: "l".to_owned(), token }, Answer::Written { accepted, held })
    }

    fn acquired(holder: Holder) -> (Request, Answer) {
        let request = Request::Acquire { lock: "l".to_owned(), holder: Some(holder) };
        (request, Answer::Granted(None))
    }

    fn released(holder: Holder) -> (Request, Answer) {
        (Request::Release { lock: "l".to_owned(), holder }, Answer::Released)
    }

    #[test]
    fn a_token_that_does_not_grow_is_found_out() {
        assert!(is_right(&[granted(3), granted(5)]));
        assert!(!is_right(&[granted(3), granted(3)]));
        assert!(!is_right(&[granted(5), granted(3)]));
    }

    #[test]
    fn who_is_not_granted_the_lock_now_holds_nothing() {
        let request = Request::Acquire { lock: "l".to_owned(), holder: None };
        assert!(is_right(&[granted(3), (request, Answer::NotNow), granted(5)]));
        let request = Request::Acquire { lock: "l".to_owned(), holder: Some((1, 1)) };
        assert!(!is_right(&[(request, Answer::NotNow)]));
    }

    #[test]
    fn an_old_token_that_is_let_through_is_found_out() {
        let before = [granted(3), granted(5), written(5, true, true)];
        assert!(is_right(&[&before[..], &[written(3, false, false)]].concat()));
        assert!(!is_right(&[&before[..], &[written(3, true, false)]].concat()));
    }

    #[test]
    fn two_who_both_count_themselves_as_the_holder_are_found_out() {
        let before = [granted(3), granted(5), written(5, true, true)];
        assert!(!is_right(&[&before[..], &[written(3, false, true)]].concat()));
    }

    #[test]
    fn a_versioned_lock_that_is_held_twice_is_found_out() {
        assert!(is_right(&[acquired((1, 1)), released((1, 1)), acquired((2, 1))]));
        assert!(!is_right(&[acquired((1, 1)), acquired((2, 1))]));
    }

    #[test]
    fn a_release_that_frees_anothers_lock_is_found_out() {
        let story = [
            acquired((1, 1)),
            released((1, 1)),
            acquired((2, 1)),
            released((1, 1)),
            acquired((3, 1)),
        ];
        assert!(!is_right(&story));
    }
}
