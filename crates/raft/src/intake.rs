//! What a leader takes in: how much, and each forward of a follower at most once.

use std::collections::VecDeque;

use crate::mutant::mutant;
use crate::types::{Index, Session};

/// What was appended and not yet committed, for the bound on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uncommitted {
    batches: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Uncommitted {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, index: Index, bytes: u64) {
        self.batches.push_back((index, bytes));
        self.bytes += bytes;
    }

    pub(crate) fn free_to(&mut self, index: Index) {
        while let Some((last, bytes)) = self.batches.front().copied()
            && last <= index
        {
            self.batches.pop_front();
            self.bytes -= bytes;
        }
    }

    pub(crate) fn check(&self) {
        let bytes: u64 = self.batches.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(bytes, self.bytes, "leader: uncommitted bytes");
    }
}

/// Which forwards of a follower were taken, so that none is taken twice.
#[derive(Clone, Debug)]
pub(crate) struct ForwardsIn {
    session: Session,
    last_seq: u64,
    /// The follower's lives that have ended, the last [`REMEMBERED_LIVES`] of this leadership.
    retired: VecDeque<Session>,
}

impl ForwardsIn {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            last_seq: 0,
            retired: VecDeque::new(),
        }
    }

    /// Whether the forward is new. One of a life that has ended is not, nor one older than the latest.
    pub(crate) fn take(&mut self, session: Session, seq: u64) -> bool {
        if session != self.session {
            if self.retired.contains(&session) {
                return false;
            }
            self.retired
                .push_back(std::mem::replace(&mut self.session, session));
            if self.retired.len() > REMEMBERED_LIVES {
                self.retired.pop_front();
            }
            self.last_seq = 0;
        }
        let new = seq > self.last_seq;
        self.last_seq = self.last_seq.max(seq);
        new || mutant!(M62)
    }
}

/// No message is under way for longer than this many restarts of its sender take.
const REMEMBERED_LIVES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_taken_once_whatever_life_it_is_of() {
        let mut forwards = ForwardsIn::new(Session(1));
        assert!(forwards.take(Session(1), 1));
        assert!(!forwards.take(Session(1), 1), "a repeated one");
        assert!(forwards.take(Session(2), 1), "the next life counts anew");
        assert!(!forwards.take(Session(1), 2), "one of a life that has ended");
        assert!(!forwards.take(Session(2), 1));
        assert!(forwards.take(Session(2), 5));
    }

    #[test]
    fn a_peer_that_is_ever_new_costs_bounded_memory() {
        let mut forwards = ForwardsIn::new(Session(0));
        for session in 1..1000 {
            assert!(forwards.take(Session(session), 1));
        }
        assert_eq!(forwards.retired.len(), REMEMBERED_LIVES);
    }
}
