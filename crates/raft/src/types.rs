//! The numbers of the protocol, each with a type of its own.
//!
//! - A [`Term`] and an [`Index`] are never mixed up, and never with a node's id.
//! - No arithmetic overflows, whatever number a peer sends.
//! - [`EntryId`] orders like the paper's "more up to date": first by term, then by index.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// Names one node of a cluster, for ever: an id is never given to another node.
    NodeId, "n"
);
number!(
    /// Names one replicated log among those that share a process, a disk and a connection.
    GroupId, "g"
);
number!(
    /// A term of the paper's §5.1: the logical clock of elections. Term 0 is before the first election.
    Term, ""
);
number!(
    /// The place of an entry in the log. The first entry has index 1; index 0 is "before the log".
    Index, ""
);
number!(
    /// Numbers the writes that a node hands to its disk, in order, from 1.
    WriteSeq, "w"
);
number!(
    /// Numbers a leader's rounds of heartbeats within its term (thesis §6.4), from 1.
    Round, "r"
);
number!(
    /// What a node's own clock shows: microseconds since some moment of that clock's.
    Moment, "us"
);
number!(
    /// The caller's name for one of its requests. Never reused within the life of a process.
    Ticket, "t"
);
number!(
    /// Drawn at random by each start of a node: tells its requests from those of its earlier lives.
    Session, "s"
);

impl Term {
    /// The term before the first election.
    pub const ZERO: Self = Self(0);

    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Index {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The place before this one; before 0 there is only 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Moment {
    /// What the clock shows `micros` microseconds later.
    #[must_use]
    pub fn after(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl WriteSeq {
    /// The write after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Round {
    /// The round after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Identifies an entry in all logs: entries of equal id are equal, and so is all before them (paper §5.3).
///
/// Field order makes the derived order the paper's "at least as up to date" of §5.4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl EntryId {
    /// The id of "before the log".
    pub const ZERO: Self = Self {
        term: Term::ZERO,
        index: Index::ZERO,
    };

    /// The id of the entry at `index` that a leader of `term` made.
    #[must_use]
    pub fn new(index: Index, term: Term) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}
