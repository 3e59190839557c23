//! What must never be otherwise, by name.

use std::fmt;

/// Something that must never be otherwise. Figures and sections are those of the Raft paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one leader is elected in a term (figure 3).
    ElectionSafety,
    /// A leader never overwrites or deletes entries of its log (figure 3).
    LeaderAppendOnly,
    /// Entries of equal index and term are equal, and so is all before them (figure 3).
    LogMatching,
    /// What was committed in a term is in the logs of the leaders of all higher terms (figure 3).
    LeaderCompleteness,
    /// No two nodes apply different entries at an index (figure 3).
    StateMachineSafety,
    /// Term, commit and applied index never go back in one life; a vote never changes within a term.
    Monotone,
    /// What is committed is durable on the disks of a quorum.
    DurableOnQuorum,
    /// A leader commits by counting only entries of its own term (§5.4.2).
    OwnTermCommit,
    /// Nodes that applied the same entries are in the same state.
    EqualState,
    /// A node promises nothing that its disk has not: neither a vote nor an entry.
    DurablePromise,
    /// What a node finds when it starts is what it wrote: all that was synced, and a prefix of the rest.
    Recovery,
    /// Every request is answered exactly once.
    AnsweredOnce,
    /// What clients were told has an order (linearizability).
    Linearizable,
    /// Revisions of the keyspace follow the order of the writes in real time.
    RevisionOrder,
    /// Once faults end there is a leader, every request is answered, and all nodes are equal.
    Progress,
    /// An assertion of the code under test failed.
    Assertion,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ElectionSafety => "I1 election safety",
            Self::LeaderAppendOnly => "I2 leader append-only",
            Self::LogMatching => "I3 log matching",
            Self::LeaderCompleteness => "I4 leader completeness",
            Self::StateMachineSafety => "I5 state machine safety",
            Self::Monotone => "I6 monotone terms, votes and indexes",
            Self::DurableOnQuorum => "I7 committed is durable on a quorum",
            Self::OwnTermCommit => "I8 commit by counting in the own term",
            Self::EqualState => "I10 equal state",
            Self::DurablePromise => "I12 promises are durable",
            Self::Recovery => "D1 recovery finds what was written",
            Self::AnsweredOnce => "C1 answered exactly once",
            Self::Linearizable => "H1 linearizability",
            Self::RevisionOrder => "H2 revisions follow real time",
            Self::Progress => "L1 progress after healing",
            Self::Assertion => "an assertion of the code",
        })
    }
}

/// An invariant that does not hold, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) detail: String,
}

/// Fails with `detail` unless `holds`.
pub(crate) fn require(
    holds: bool,
    invariant: Invariant,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        return Ok(());
    }
    Err(Violation {
        invariant,
        detail: detail(),
    })
}
