//! What must never be otherwise, by name.

use std::fmt;

/// Something that must never be otherwise. Figures and sections are those of the Raft paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: at most one leader is elected in a term (figure 3).
    ElectionSafety,
    /// I2: a leader never overwrites or deletes entries of its log (figure 3).
    LeaderAppendOnly,
    /// I3: entries of equal index and term are equal, and so is all before them (figure 3).
    LogMatching,
    /// I4: what was committed in a term is in the logs of the leaders of all higher terms (figure 3).
    LeaderCompleteness,
    /// I5: no two nodes apply different entries at an index (figure 3).
    StateMachineSafety,
    /// I6: term, commit and applied index never go back in one life; a vote never changes within a term.
    Monotone,
    /// I7: what is committed is durable on the disks of a quorum.
    DurableOnQuorum,
    /// I8: a leader commits by counting only entries of its own term (§5.4.2).
    OwnTermCommit,
    /// I9: a leader has at most one uncommitted change of the voters in its log.
    OneChange,
    /// I9: any quorum of a configuration meets any quorum of the one before it.
    QuorumsIntersect,
    /// I9: a leader is elected by a quorum of voters; learners and removed nodes are not counted.
    VotersOnly,
    /// I9: who begins to vote has all that was committed when its change began, or when its leader was
    /// elected if that was later (thesis §4.2.1).
    CaughtUp,
    /// I10: nodes that applied the same entries are in the same state.
    EqualState,
    /// I12: a node promises nothing that its disk has not: neither a vote nor an entry.
    DurablePromise,
    /// I12: what a leader counts as replicated is on the follower's disk.
    MatchIsDurable,
    /// I13: while a leader may serve reads by a lease, no other commits what that one has not.
    LeaseExcludes,
    /// I13: who holds a lease has been promised by so many that the others are no quorum.
    LeaseIsPromised,
    /// I13: whoever has promised to stand by a leader helps nobody else be elected meanwhile.
    PromiseKept,
    /// I14: what a node holds in memory is bounded by its limits.
    Bounded,
    /// I15: the members a node goes by are those that its log names.
    ConfigurationOfLog,
    /// I15: what a leader counts as replicated never shrinks.
    MonotonicMatch,
    /// I15: a log grows, loses an uncommitted end, or is replaced by a newer snapshot; nothing else.
    PermittedLogChanges,
    /// I15: roles follow each other as in the paper's figure 4.
    StateTransitions,
    /// I15: a term begins with a candidate, and in no other way (§5.1).
    TermsByCampaign,
    /// I15: what a client was told is committed, and on the disks of a quorum.
    QuorumLog,
    /// D1: what a node finds when it starts is what it wrote: all that was synced, and a prefix of the rest.
    Recovery,
    /// C1: every request is answered exactly once.
    AnsweredOnce,
    /// H1: what clients were told has an order (linearizability).
    Linearizable,
    /// H2: revisions of the keyspace follow the order of the writes in real time.
    RevisionOrder,
    /// H4: what a client asked for once is done at most once, and exactly once if it was told so.
    OnceOnly,
    /// H5: a local read finds a state that was, and no earlier one than the read before it.
    PastState,
    /// L1: once faults end there is a leader, every request is answered, and all nodes are equal.
    Progress,
    /// L3: where too much is lost to elect a leader, nothing is decided or answered any more.
    FalseProgress,
    /// L2: a leader that is heard of is left alone, and nobody campaigns unasked (thesis §4.2.3, §9.6).
    LeaderSheltered,
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
            Self::OneChange => "I9 one change of voters at a time",
            Self::QuorumsIntersect => "I9 successive quorums intersect",
            Self::VotersOnly => "I9 only voters are counted",
            Self::CaughtUp => "I9 who begins to vote has caught up",
            Self::EqualState => "I10 equal state",
            Self::DurablePromise => "I12 promises are durable",
            Self::MatchIsDurable => "I12 what is counted is durable",
            Self::LeaseIsPromised => "I13 leases are no longer than promises",
            Self::PromiseKept => "I13 promises are kept",
            Self::LeaseExcludes => "I13 nobody else commits during a lease",
            Self::Bounded => "I14 bounded memory",
            Self::ConfigurationOfLog => "I15 the members are those of the log",
            Self::MonotonicMatch => "I15 what is counted never shrinks",
            Self::PermittedLogChanges => "I15 permitted changes of the log",
            Self::StateTransitions => "I15 permitted changes of the role",
            Self::TermsByCampaign => "I15 terms begin with a candidate",
            Self::QuorumLog => "I15 acknowledged is on a quorum",
            Self::Recovery => "D1 recovery finds what was written",
            Self::AnsweredOnce => "C1 answered exactly once",
            Self::Linearizable => "H1 linearizability",
            Self::RevisionOrder => "H2 revisions follow real time",
            Self::OnceOnly => "H4 done once",
            Self::PastState => "H5 local reads go forward",
            Self::Progress => "L1 progress after healing",
            Self::FalseProgress => "L3 no false progress",
            Self::LeaderSheltered => "L2 a leader that is heard of is left alone",
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
