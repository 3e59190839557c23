//! What goes into the log and what comes out of it when it is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;

/// One thing to remember. Replaying the records of a group in order gives the group's log.
///
/// [`crate::Wal::append`] takes records in the order in which they happened. What a crash leaves is a
/// prefix of them, so a record goes after whatever it depends on: a new term before entries of that term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An entry. It replaces everything at and after `index`: truncation is implied.
    Entry {
        /// The group whose log it is.
        group: u64,
        /// At most one past the group's last index, and past its base.
        index: u64,
        /// The entry's term.
        term: u64,
        /// The entry.
        body: Bytes,
    },
    /// Something of which the latest wins and lives until it is replaced (Raft's term and vote).
    State {
        /// The group it belongs to.
        group: u64,
        /// The state.
        body: Bytes,
    },
    /// The log goes on after `(index, term)`: every entry, before and after, is gone.
    Reset {
        /// The group whose log it is.
        group: u64,
        /// The new base's index.
        index: u64,
        /// The new base's term.
        term: u64,
    },
    /// Entries up to `index` are no longer needed: `(index, term)` is the new base. Below the present
    /// base it means nothing; past the last entry it means the same as `Reset`.
    Compact {
        /// The group whose log it is.
        group: u64,
        /// The new base's index.
        index: u64,
        /// The new base's term.
        term: u64,
    },
}

/// The identity of an entry: its place and the term that put it there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The entry's index. Before the first entry of a fresh log stands index 0, term 0.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

impl LogId {
    /// The identity of the entry at `index` in `term`.
    pub const fn new(index: u64, term: u64) -> LogId {
        LogId { index, term }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What [`crate::Wal::open`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every group that has a record.
    pub groups: BTreeMap<u64, RecoveredGroup>,
    /// The unfinished tail that was cut off, if there was one. It had never been synced.
    pub cut: Option<Cut>,
}

/// One group's log as it was recovered. Bodies are read through [`crate::Reader`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The body of the latest [`Record::State`].
    pub state: Option<Bytes>,
    /// What the first entry follows.
    pub base: LogId,
    /// The last entry, or the base if there is none.
    pub last: LogId,
    /// The first entry of each run of equal terms after the base, in order.
    pub terms: Vec<LogId>,
}

/// An unfinished tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file that held it.
    pub file: PathBuf,
    /// Where it began.
    pub offset: u64,
    /// From there to the end of what is known to have been written, in bytes.
    pub bytes: u64,
}
