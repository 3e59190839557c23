//! What happened inside a node, for people: golden traces, logs, metrics and pictures print these.

use std::fmt;

use crate::types::{EntryId, Index, NodeId, Term};

/// Something that happened inside a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It follows, with or without a leader.
    BecameFollower {
        /// Its term.
        term: Term,
        /// Whom it follows.
        leader: Option<NodeId>,
    },
    /// It asks whether an election could be won.
    BecamePreCandidate {
        /// Its term, unchanged.
        term: Term,
    },
    /// It campaigns.
    BecameCandidate {
        /// The term it campaigns in.
        term: Term,
    },
    /// It leads.
    BecameLeader {
        /// The term it leads.
        term: Term,
    },
    /// Its leader's process was reported gone: it looks for another at once.
    LeaderGone {
        /// The leader.
        leader: NodeId,
    },
    /// It stopped leading.
    SteppedDown {
        /// The term it led.
        term: Term,
        /// Why.
        reason: StepDown,
    },
    /// It gave its vote.
    VoteGranted {
        /// The term.
        term: Term,
        /// To whom.
        to: NodeId,
    },
    /// Entries that conflicted with the leader's were replaced (paper §5.3).
    LogTruncated {
        /// The first one.
        from: Index,
    },
    /// A pre-candidate took entries that it lacked from one that denied it.
    LogFetched {
        /// From whom.
        from: NodeId,
        /// The last of them.
        last: EntryId,
    },
    /// The commit index grew.
    Committed {
        /// To here.
        index: Index,
    },
    /// Other members decide from here on.
    ConfigurationChanged {
        /// The entry or snapshot that says so.
        index: Index,
    },
    /// This node is no member any more, and that is committed.
    Removed {
        /// The entry that says so.
        index: Index,
    },
    /// A node that is to vote has caught up with the log.
    CaughtUp {
        /// Which.
        node: NodeId,
    },
    /// A leader starts handing over (thesis §3.10).
    TransferStarted {
        /// To whom.
        to: NodeId,
    },
    /// A handing over was given up.
    TransferAborted {
        /// To whom.
        to: NodeId,
    },
    /// A peer is so far behind that it needs a snapshot.
    SnapshotNeeded {
        /// Which.
        by: NodeId,
    },
    /// The log was replaced by a leader's snapshot.
    SnapshotInstalled {
        /// What it stands for.
        id: EntryId,
    },
    /// Another node leads in the term that this node leads: one of them has forgotten its vote.
    SecondLeader {
        /// The term.
        term: Term,
        /// The other.
        other: NodeId,
    },
    /// A message was not taken; usually its sender is late, removed or broken.
    Ignored {
        /// Who sent it.
        from: NodeId,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Why a leader stopped leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// A higher term was seen.
    HigherTerm,
    /// No quorum was heard of for an election timeout (thesis §6.2).
    LostQuorum,
    /// It is no voter of the members it brought about (thesis §4.2.2).
    Removed,
    /// Its log has not answered for an election timeout, and another can lead.
    StalledDisk,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BecameFollower {
                term,
                leader: Some(leader),
            } => write!(f, "follows {leader} in term {term}"),
            Self::BecameFollower { term, leader: None } => write!(f, "follows nobody in term {term}"),
            Self::BecamePreCandidate { term } => write!(f, "is pre-candidate in term {term}"),
            Self::BecameCandidate { term } => write!(f, "is candidate in term {term}"),
            Self::LeaderGone { leader } => write!(f, "hears that {leader} is gone"),
            Self::BecameLeader { term } => write!(f, "leads term {term}"),
            Self::SteppedDown { term, reason } => write!(f, "steps down from term {term}: {reason}"),
            Self::VoteGranted { term, to } => write!(f, "votes for {to} in term {term}"),
            Self::LogTruncated { from } => write!(f, "truncates its log from {from}"),
            Self::LogFetched { from, last } => write!(f, "takes the log up to {last} from {from}"),
            Self::Committed { index } => write!(f, "commit={index}"),
            Self::ConfigurationChanged { index } => write!(f, "uses the configuration of {index}"),
            Self::Removed { index } => write!(f, "was removed by {index}"),
            Self::CaughtUp { node } => write!(f, "{node} has caught up"),
            Self::TransferStarted { to } => write!(f, "hands over to {to}"),
            Self::TransferAborted { to } => write!(f, "gives up handing over to {to}"),
            Self::SnapshotNeeded { by } => write!(f, "{by} needs a snapshot"),
            Self::SnapshotInstalled { id } => write!(f, "installs snapshot {id}"),
            Self::SecondLeader { term, other } => write!(f, "sees {other} lead term {term} too"),
            Self::Ignored { from, what } => write!(f, "ignores {from}: {what}"),
        }
    }
}

impl fmt::Display for StepDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HigherTerm => "higher term",
            Self::LostQuorum => "lost quorum",
            Self::Removed => "removed",
            Self::StalledDisk => "stalled disk",
        })
    }
}
