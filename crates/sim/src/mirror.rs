//! What a node's log must be, by the writes it was told to make.
//!
//! Kept as runs of equal term, so that a log of any length costs a few words per leader.

use quorate_raft::{EntryId, HardState, Index, SnapshotMeta, Stored, Term, Write};

/// The identities of a log's entries.
///
/// Always true: runs start after `base`, indexes and terms grow along them, none starts after `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    /// The entry before the first. What is at or before it was committed.
    base: EntryId,
    /// The first entry of each run.
    runs: Vec<EntryId>,
    last: EntryId,
    hard_state: HardState,
}

/// One step of a write, none of which can be half done: a crash leaves a prefix of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Reset(EntryId),
    HardState(HardState),
    Append(EntryId),
}

/// The steps of `write`, in the order in which they reach the disk.
pub(crate) fn changes(write: &Write) -> impl Iterator<Item = Change> + '_ {
    let reset = write
        .reset
        .iter()
        .map(|meta: &SnapshotMeta| Change::Reset(meta.id));
    let hard_state = write.hard_state.iter().map(|state| Change::HardState(*state));
    let entries = write.entries.iter().map(|entry| Change::Append(entry.id));
    reset.chain(hard_state).chain(entries)
}

impl Mirror {
    /// An empty log.
    pub(crate) fn new() -> Self {
        Self {
            base: EntryId::ZERO,
            runs: Vec::new(),
            last: EntryId::ZERO,
            hard_state: HardState::default(),
        }
    }

    /// What a recovery found.
    pub(crate) fn recovered(stored: &Stored) -> Self {
        Self {
            base: stored.base,
            runs: stored.terms.clone(),
            last: stored.last,
            hard_state: stored.hard_state,
        }
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// The entry before the first.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The index of the first entry of `term` or a later one; the one after the last if there is none.
    pub(crate) fn first_of(&self, term: Term) -> Index {
        let first = self.runs.iter().find(|first| first.term >= term);
        first.map_or(self.last.index.next(), |first| first.index)
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The term of the entry at `index`; none if the log does not hold it.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let after = self.runs.partition_point(|first| first.index <= index);
        Some(self.runs[after.checked_sub(1)?].term)
    }

    /// Whether the log holds a committed entry, or stands on a snapshot that has its effect.
    pub(crate) fn holds(&self, committed: EntryId) -> bool {
        committed.index <= self.base.index || self.term_at(committed.index) == Some(committed.term)
    }

    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Reset(id) => self.reset(id),
            Change::HardState(state) => self.hard_state = state,
            Change::Append(id) => self.append(id),
        }
    }

    /// Puts the log behind a snapshot that it does not reach or contradicts, as a recovery does.
    pub(crate) fn settle_on(&mut self, snapshot: EntryId) {
        let reaches = self.term_at(snapshot.index) == Some(snapshot.term);
        if snapshot.index > self.base.index && !reaches {
            self.reset(snapshot);
        }
        if self.hard_state.term < snapshot.term {
            self.hard_state = HardState {
                term: snapshot.term,
                vote: None,
            };
        }
    }

    /// Whether both logs say the same of every index after both bases, and of term and vote.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let from = self.base.index.max(other.base.index);
        self.hard_state == other.hard_state
            && self.last == other.last
            && self.term_at(from) == other.term_at(from)
            && self.runs_after(from).eq(other.runs_after(from))
    }

    /// The changes of term after the entry at `from`.
    fn runs_after(&self, from: Index) -> impl Iterator<Item = &EntryId> {
        let term = self.term_at(from).unwrap_or_default();
        self.runs
            .iter()
            .filter(move |first| first.index > from && first.term > term)
    }

    fn reset(&mut self, id: EntryId) {
        self.base = id;
        self.last = id;
        self.runs.clear();
    }

    fn append(&mut self, id: EntryId) {
        self.runs.retain(|first| first.index < id.index);
        let before = if id.index.prev() <= self.base.index {
            None
        } else {
            self.runs.last().map(|first| first.term)
        };
        if before != Some(id.term) {
            self.runs.push(id);
        }
        self.last = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn mirror(ids: &[EntryId]) -> Mirror {
        let mut mirror = Mirror::new();
        ids.iter().for_each(|id| mirror.change(Change::Append(*id)));
        mirror
    }

    #[test]
    fn terms_are_found_and_an_append_replaces_what_follows() {
        let mut log = mirror(&[id(1, 1), id(2, 1), id(3, 2), id(4, 2)]);
        assert_eq!(log.term_at(Index(2)), Some(Term(1)));
        assert_eq!(log.term_at(Index(4)), Some(Term(2)));
        assert_eq!(log.term_at(Index(5)), None);
        log.change(Change::Append(id(3, 3)));
        assert_eq!(log.last(), id(3, 3));
        assert!(!log.holds(id(3, 2)) && log.holds(id(3, 3)) && log.holds(id(2, 1)));
        assert_eq!(log.term_at(Index(4)), None);
    }

    #[test]
    fn a_log_without_compaction_agrees_with_the_compacted_one() {
        let whole = mirror(&[id(1, 1), id(2, 1), id(3, 2), id(4, 2)]);
        let mut compacted = mirror(&[]);
        compacted.change(Change::Reset(id(2, 1)));
        compacted.change(Change::Append(id(3, 2)));
        assert!(!whole.agrees_with(&compacted));
        compacted.change(Change::Append(id(4, 2)));
        assert!(whole.agrees_with(&compacted) && compacted.agrees_with(&whole));
        compacted.change(Change::HardState(HardState {
            term: Term(9),
            vote: None,
        }));
        assert!(!whole.agrees_with(&compacted));
    }

    #[test]
    fn a_base_within_a_run_makes_no_difference() {
        let whole = mirror(&[id(1, 1), id(2, 1), id(3, 1), id(4, 2)]);
        let mut compacted = mirror(&[]);
        compacted.change(Change::Reset(id(2, 1)));
        compacted.change(Change::Append(id(3, 1)));
        compacted.change(Change::Append(id(4, 2)));
        assert!(whole.agrees_with(&compacted) && compacted.agrees_with(&whole));
        compacted.change(Change::Append(id(4, 3)));
        assert!(!whole.agrees_with(&compacted) && !compacted.agrees_with(&whole));
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_reach_replaces_it() {
        let mut log = mirror(&[id(1, 1), id(2, 1)]);
        log.settle_on(id(2, 1));
        assert_eq!(log.last(), id(2, 1));
        assert_eq!(log.term_at(Index(1)), Some(Term(1)));
        log.settle_on(id(7, 3));
        assert_eq!((log.last(), log.term_at(Index(1))), (id(7, 3), None));
        assert!(log.holds(id(5, 2)));
    }
}
