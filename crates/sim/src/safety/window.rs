//! What a core may keep of its log in memory beyond the bound that it was given (I14).
//!
//! - A core lets go of entries when it gives something out, and only of what its disk has. So what it may keep is
//!   what was not durable at the last look before that.

use std::collections::BTreeMap;

use quorate_raft::{Entry, Index, Write};

/// The entries of one life of a node that it may be unable to let go of.
#[derive(Debug, Default)]
pub(super) struct Unevictable {
    weights: BTreeMap<Index, u64>,
    /// What the core knew to be durable when it was looked at last, of the log as it is now.
    durable: Index,
    /// Whether it has given out anything since.
    gave_out: bool,
}

impl Unevictable {
    /// The core wants this written.
    pub(super) fn wrote(&mut self, write: &Write) {
        if write.reset.is_some() {
            self.weights.clear();
        }
        if let Some(first) = write.entries.first() {
            self.weights.split_off(&first.id.index);
            self.durable = self.durable.min(first.id.index.prev());
        }
        let weigh = |entry: &Entry| (entry.id.index, entry.weight());
        self.weights.extend(write.entries.iter().map(weigh));
    }

    /// The core has given out something.
    pub(super) fn gave_out(&mut self) {
        self.gave_out = true;
    }

    /// A look at the core, which takes its log for durable up to `durable`: the bytes that it may not have been able
    /// to let go of.
    pub(super) fn looked(&mut self, durable: Index) -> u64 {
        if std::mem::take(&mut self.gave_out) {
            self.weights = self.weights.split_off(&self.durable.next());
        }
        self.durable = durable;
        self.weights.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{EntryId, Payload, Term, WriteSeq};

    use super::*;

    fn write(first: u64, entries: u64) -> Write {
        let entry = |index| Entry {
            id: EntryId::new(Index(index), Term(1)),
            payload: Payload::Command(vec![0; 84].into()),
        };
        Write {
            seq: WriteSeq(1),
            reset: None,
            hard_state: None,
            entries: (first..first + entries).map(entry).collect(),
        }
    }

    #[test]
    fn what_was_durable_before_something_was_given_out_is_let_go_of() {
        let mut log = Unevictable::default();
        log.wrote(&write(1, 5));
        assert_eq!(log.looked(Index(0)), 500);
        assert_eq!(log.looked(Index(3)), 500, "it has given out nothing since");
        assert_eq!(log.looked(Index(3)), 500);
        log.gave_out();
        assert_eq!(log.looked(Index(5)), 200);
        log.gave_out();
        assert_eq!(log.looked(Index(5)), 0);
    }

    #[test]
    fn what_replaces_durable_entries_is_not_durable() {
        let mut log = Unevictable::default();
        log.wrote(&write(1, 5));
        assert_eq!(log.looked(Index(5)), 500);
        log.wrote(&write(2, 3));
        log.gave_out();
        assert_eq!(log.looked(Index(1)), 300);
    }
}
