//! What a node that starts makes of its log and its newest snapshot.
//!
//! With the snapshot at K, and a log whose entries follow its base B and end at L:
//!
//! | snapshot and log | what is done |
//! |---|---|
//! | no snapshot, B = 0 | the log is used |
//! | no snapshot, B > 0 | refused: what was compacted is in no snapshot |
//! | a snapshot and no log at all | refused: the node's vote is gone with its log |
//! | K < B | refused: entries between the two are nowhere |
//! | K = B, terms equal | the log is used |
//! | K = B, terms differ | refused: both are committed, and they contradict each other |
//! | B < K <= L, the log's entry at K is of the snapshot's term | the log is used |
//! | B < K <= L, it is of another term | the log is reset: it was never committed (paper, figure 13, rule 7) |
//! | L < K | the log is reset to K: the snapshot was received, and the crash came before the reset |

use quorate_raft::{EntryId, Index, Term};
use quorate_wal::{LogId, RecoveredGroup};

/// What to do with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its entries are used.
    Keep,
    /// It restarts after the snapshot.
    Reset,
}

/// Why a log and a snapshot cannot both be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// Entries were compacted that no snapshot covers.
    #[error(
        "the log begins after {base} and there is no snapshot; restore the directory's snapshots from a copy taken after the node last stopped, or replace the member by a new one"
    )]
    NoSnapshot {
        /// The entry before the log's first.
        base: EntryId,
    },
    /// There is a snapshot, and nothing in the log.
    #[error(
        "there is a snapshot at {snapshot} and no log, so the node has forgotten its vote; restore the directory's log from a copy taken after the node last stopped, or replace the member by a new one"
    )]
    NoLog {
        /// The snapshot.
        snapshot: EntryId,
    },
    /// Entries are missing between the snapshot and the log.
    #[error(
        "the newest snapshot is at {snapshot} but the log begins after {base}; restore the missing snapshot from a copy taken after the node last stopped, or replace the member by a new one"
    )]
    Gap {
        /// The snapshot.
        snapshot: EntryId,
        /// The entry before the log's first.
        base: EntryId,
    },
    /// Two committed entries at one index.
    #[error(
        "the snapshot is at {snapshot} but the log begins after {base}: one of them is not of this group"
    )]
    Terms {
        /// The snapshot.
        snapshot: EntryId,
        /// The entry before the log's first.
        base: EntryId,
    },
}

/// The table above, row by row.
pub(super) fn reconcile(log: Option<&RecoveredGroup>, snapshot: EntryId) -> Result<Verdict, Contradiction> {
    let Some(log) = log else {
        return match snapshot.index {
            Index::ZERO => Ok(Verdict::Keep),
            _ => Err(Contradiction::NoLog { snapshot }),
        };
    };
    let base = entry_id(log.base);
    if snapshot.index < base.index {
        return Err(match snapshot.index {
            Index::ZERO => Contradiction::NoSnapshot { base },
            _ => Contradiction::Gap { snapshot, base },
        });
    }
    if snapshot.index == base.index && snapshot.term != base.term {
        return Err(Contradiction::Terms { snapshot, base });
    }
    match term_at(log, snapshot.index) {
        Some(term) if term == snapshot.term => Ok(Verdict::Keep),
        Some(_) | None => Ok(Verdict::Reset),
    }
}

/// The term of the log's entry at `index`; none beyond its end.
fn term_at(log: &RecoveredGroup, index: Index) -> Option<Term> {
    if index.0 > log.last.index {
        return None;
    }
    let run = log.terms.iter().rev().find(|run| run.index <= index.0);
    Some(Term(run.unwrap_or(&log.base).term))
}

pub(super) fn entry_id(id: LogId) -> EntryId {
    EntryId::new(Index(id.index), Term(id.term))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64, term: u64) -> LogId {
        LogId { index, term }
    }

    /// Entries 11..=20 after base 10@2: terms 2 to 15, then 4.
    fn log() -> RecoveredGroup {
        RecoveredGroup {
            state: None,
            base: id(10, 2),
            last: id(20, 4),
            terms: vec![id(11, 2), id(16, 4)],
        }
    }

    fn snapshot(index: u64, term: u64) -> EntryId {
        entry_id(id(index, term))
    }

    #[test]
    fn the_table_row_by_row() {
        let new = RecoveredGroup {
            base: id(0, 0),
            last: id(2, 1),
            terms: vec![id(1, 1)],
            state: None,
        };
        let keep = Ok(Verdict::Keep);
        let reset = Ok(Verdict::Reset);
        assert_eq!(reconcile(None, EntryId::ZERO), keep);
        assert_eq!(reconcile(Some(&new), EntryId::ZERO), keep);
        let refused = reconcile(Some(&log()), EntryId::ZERO);
        assert!(matches!(refused, Err(Contradiction::NoSnapshot { .. })));
        let refused = reconcile(None, snapshot(5, 1));
        assert!(matches!(refused, Err(Contradiction::NoLog { .. })));
        let refused = reconcile(Some(&log()), snapshot(9, 2));
        assert!(matches!(refused, Err(Contradiction::Gap { .. })));
        assert_eq!(reconcile(Some(&log()), snapshot(10, 2)), keep);
        let refused = reconcile(Some(&log()), snapshot(10, 1));
        assert!(matches!(refused, Err(Contradiction::Terms { .. })));
        assert_eq!(reconcile(Some(&log()), snapshot(15, 2)), keep);
        assert_eq!(reconcile(Some(&log()), snapshot(16, 4)), keep);
        assert_eq!(reconcile(Some(&log()), snapshot(20, 4)), keep);
        assert_eq!(reconcile(Some(&log()), snapshot(15, 3)), reset);
        assert_eq!(reconcile(Some(&log()), snapshot(20, 5)), reset);
        assert_eq!(reconcile(Some(&log()), snapshot(21, 4)), reset);
    }
}
