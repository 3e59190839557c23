//! Rare things that must happen sometimes: a simulator that never gets there proves nothing about them.
//!
//! Most are read off the core's events; the rest is what the world sees nodes do. A mark is no fault
//! and no failure. Many seeds together must reach every one.

use std::fmt;

use quorate::driver::Failure;
use quorate::sessions::Refusal;
use quorate_raft::{Event, Rejection, StepDown};

/// Something that must happen in some runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A leader was replaced by one of a higher term.
    LeaderReplaced,
    /// A leader heard of no quorum and stepped down.
    QuorumLost,
    /// A pre-candidate gave up without campaigning.
    PreVoteLost,
    /// A candidate gave up.
    ElectionLost,
    /// Entries that conflicted with a leader's were replaced.
    LogTruncated,
    /// A follower was so far behind that it needed a snapshot.
    SnapshotNeeded,
    /// A received snapshot replaced a log.
    SnapshotInstalled,
    /// A node refused to receive a snapshot that it was just writing or receiving.
    SnapshotBusy,
    /// A transfer of a snapshot broke off.
    SnapshotBroken,
    /// A chunk of a snapshot came a second time, after it was written.
    ChunkAgain,
    /// Entries were compacted while a follower still lacked them: the log could not be read.
    LogGone,
    /// Entries that were no longer in memory were read from the log.
    LogRead,
    /// A leader handed over as asked.
    TransferDone,
    /// A handing over was given up.
    TransferAborted,
    /// A proposal came while a leader handed over.
    ProposedInTransfer,
    /// A proposal was refused since too much was waiting.
    ProposalOverloaded,
    /// A request was refused because no leader was known.
    NoLeader,
    /// A request was passed on to a node that did not lead.
    NotLeader,
    /// Leadership was lost while a proposal was under way.
    OutcomeUnknown,
    /// A node that followed answered a read.
    ReadAtFollower,
    /// A node that followed answered a write.
    WriteAtFollower,
    /// A start found an unfinished tail of the log, and cut it off.
    TornTail,
    /// A start found a snapshot.
    StartedFromSnapshot,
    /// A disk failed, and its node stopped.
    DiskFailed,
    /// A disk failed while its node started.
    StartFailed,
    /// Altered bytes were refused, and their connection was closed.
    FrameRefused,
    /// The members of a log changed.
    MembersChanged,
    /// A node decided by two majorities.
    JointEntered,
    /// A node that was to vote had caught up.
    LearnerCaughtUp,
    /// A leader brought about members without itself, and stepped down.
    LeaderRemoved,
    /// A node learned that it is no member any more.
    NodeRemoved,
    /// A change of members was done as asked.
    ChangeDone,
    /// A change of members was refused since another was under way.
    ChangeInProgress,
    /// A change of members was refused because they were not those it was meant for.
    PreconditionFailed,
    /// A change of members was replaced by another.
    ChangeSuperseded,
    /// A directory was lost.
    DirectoryLost,
    /// A driver found that a peer refused connections.
    PeerGone,
    /// A command of a session that may have been applied was repeated, and answered.
    CommandRepeated,
    /// A session had ended before its client did.
    SessionEnded,
    /// A session was not opened, since there were too many.
    SessionRefused,
    /// A command was repeated, and the first response had not been kept.
    ResponseNotKept,
    /// A received snapshot brought sessions.
    SessionsRestored,
    /// A witness granted a vote.
    WitnessVoted,
    /// A log could not grow because its disk was full.
    LogFull,
    /// A snapshot could not be written because its disk was full.
    SnapshotFull,
    /// A node could not start because its disk was full.
    StartFull,
    /// A node that stopped because its disk was full started again.
    ResumedWithRoom,
    /// So much was lost that the rest had to halt.
    LossTooGreat,
    /// A leader could serve reads by a lease.
    LeaseHeld,
    /// A pre-candidate took over a log that it lacked (ADR 0008).
    LogFetched,
    /// A leader whose disk was stalled handed over.
    LeaderStalled,
    /// A node heard that its leader's process was gone (ADR 0009).
    LeaderGone,
}

/// How often each mark was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks([u64; Mark::ALL.len()]);

impl Mark {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 52] = [
        Self::LeaderReplaced,
        Self::QuorumLost,
        Self::PreVoteLost,
        Self::ElectionLost,
        Self::LogTruncated,
        Self::SnapshotNeeded,
        Self::SnapshotInstalled,
        Self::SnapshotBusy,
        Self::SnapshotBroken,
        Self::ChunkAgain,
        Self::LogGone,
        Self::LogRead,
        Self::TransferDone,
        Self::TransferAborted,
        Self::ProposedInTransfer,
        Self::ProposalOverloaded,
        Self::NoLeader,
        Self::NotLeader,
        Self::OutcomeUnknown,
        Self::ReadAtFollower,
        Self::WriteAtFollower,
        Self::TornTail,
        Self::StartedFromSnapshot,
        Self::DiskFailed,
        Self::StartFailed,
        Self::FrameRefused,
        Self::MembersChanged,
        Self::JointEntered,
        Self::LearnerCaughtUp,
        Self::LeaderRemoved,
        Self::NodeRemoved,
        Self::ChangeDone,
        Self::ChangeInProgress,
        Self::PreconditionFailed,
        Self::ChangeSuperseded,
        Self::DirectoryLost,
        Self::PeerGone,
        Self::CommandRepeated,
        Self::SessionEnded,
        Self::SessionRefused,
        Self::ResponseNotKept,
        Self::SessionsRestored,
        Self::WitnessVoted,
        Self::LogFull,
        Self::SnapshotFull,
        Self::StartFull,
        Self::ResumedWithRoom,
        Self::LossTooGreat,
        Self::LeaseHeld,
        Self::LogFetched,
        Self::LeaderStalled,
        Self::LeaderGone,
    ];

    /// What a core's event reaches.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most events are common, and there will be more"
    )]
    pub(crate) fn of_event(event: &Event) -> Option<Self> {
        match event {
            Event::SteppedDown {
                reason: StepDown::HigherTerm,
                ..
            } => Some(Self::LeaderReplaced),
            Event::SteppedDown {
                reason: StepDown::LostQuorum,
                ..
            } => Some(Self::QuorumLost),
            Event::SteppedDown {
                reason: StepDown::Removed,
                ..
            } => Some(Self::LeaderRemoved),
            Event::SteppedDown {
                reason: StepDown::StalledDisk,
                ..
            } => Some(Self::LeaderStalled),
            Event::LogFetched { .. } => Some(Self::LogFetched),
            Event::LeaderGone { .. } => Some(Self::LeaderGone),
            Event::ConfigurationChanged { .. } => Some(Self::MembersChanged),
            Event::CaughtUp { .. } => Some(Self::LearnerCaughtUp),
            Event::Removed { .. } => Some(Self::NodeRemoved),
            Event::LogTruncated { .. } => Some(Self::LogTruncated),
            Event::SnapshotNeeded { .. } => Some(Self::SnapshotNeeded),
            Event::SnapshotInstalled { .. } => Some(Self::SnapshotInstalled),
            Event::TransferAborted { .. } => Some(Self::TransferAborted),
            _ => None,
        }
    }

    /// What a session's refusal reaches.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum may grow, and other refusals are failures"
    )]
    pub(crate) fn of_refusal(refusal: Refusal) -> Option<Self> {
        match refusal {
            Refusal::UnknownSession(_) => Some(Self::SessionEnded),
            Refusal::TooManySessions { .. } => Some(Self::SessionRefused),
            Refusal::ResponseNotKept => Some(Self::ResponseNotKept),
            _ => None,
        }
    }

    /// What a request that was not served reaches.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum may grow, and what has no mark is common"
    )]
    pub(crate) fn of_failure(failure: Failure) -> Option<Self> {
        match failure {
            Failure::Unknown => Some(Self::OutcomeUnknown),
            Failure::Rejected(Rejection::Transferring) => Some(Self::ProposedInTransfer),
            Failure::Rejected(Rejection::Overloaded) => Some(Self::ProposalOverloaded),
            Failure::Rejected(Rejection::NoLeader) => Some(Self::NoLeader),
            Failure::Rejected(Rejection::NotLeader { .. }) => Some(Self::NotLeader),
            Failure::Rejected(Rejection::ChangeInProgress) => Some(Self::ChangeInProgress),
            Failure::Rejected(Rejection::PreconditionFailed) => Some(Self::PreconditionFailed),
            Failure::Rejected(Rejection::Superseded) => Some(Self::ChangeSuperseded),
            _ => None,
        }
    }
}

impl Marks {
    /// None reached.
    #[must_use]
    pub fn new() -> Self {
        Self([0; Mark::ALL.len()])
    }

    /// A mark is reached once more.
    pub(crate) fn reach(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// Adds what another run reached.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Each mark, and how often it was reached.
    pub fn iter(&self) -> impl Iterator<Item = (Mark, u64)> + '_ {
        Mark::ALL.into_iter().zip(self.0)
    }

    /// The marks that were never reached.
    pub fn missing(&self) -> impl Iterator<Item = Mark> + '_ {
        self.iter().filter(|(_, count)| *count == 0).map(|(mark, _)| mark)
    }

    /// Whether what `seeds` seeds reached, of which all kinds of run took turns, is all there is. Few
    /// seeds need not reach anything.
    ///
    /// # Errors
    /// When the seeds are 2,000 or more, and a mark was never reached.
    pub fn check(&self, seeds: u64) -> Result<(), NeverReached> {
        let missing: Vec<String> = self.missing().map(|mark| mark.to_string()).collect();
        if missing.is_empty() || seeds < SEEDS_FOR_ALL_MARKS {
            return Ok(());
        }
        Err(NeverReached {
            seeds,
            missing: missing.join(", "),
        })
    }
}

/// Many runs never got to something that must happen sometimes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{seeds} seeds never reached: {missing}; a simulator that does not get there proves nothing about it"
)]
pub struct NeverReached {
    seeds: u64,
    missing: String,
}

/// So many seeds, all kinds taking turns, must reach every mark.
const SEEDS_FOR_ALL_MARKS: u64 = 2_000;

impl Default for Marks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeaderReplaced => "leader-replaced",
            Self::QuorumLost => "quorum-lost",
            Self::PreVoteLost => "pre-vote-lost",
            Self::ElectionLost => "election-lost",
            Self::LogTruncated => "log-truncated",
            Self::SnapshotNeeded => "snapshot-needed",
            Self::SnapshotInstalled => "snapshot-installed",
            Self::SnapshotBusy => "snapshot-busy",
            Self::SnapshotBroken => "snapshot-broken",
            Self::ChunkAgain => "chunk-again",
            Self::LogGone => "log-gone",
            Self::LogRead => "log-read",
            Self::TransferDone => "transfer-done",
            Self::TransferAborted => "transfer-aborted",
            Self::ProposedInTransfer => "proposed-in-transfer",
            Self::ProposalOverloaded => "proposal-overloaded",
            Self::NoLeader => "no-leader",
            Self::NotLeader => "not-leader",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::ReadAtFollower => "read-at-follower",
            Self::WriteAtFollower => "write-at-follower",
            Self::TornTail => "torn-tail",
            Self::StartedFromSnapshot => "started-from-snapshot",
            Self::DiskFailed => "disk-failed",
            Self::StartFailed => "start-failed",
            Self::FrameRefused => "frame-refused",
            Self::MembersChanged => "members-changed",
            Self::JointEntered => "joint-entered",
            Self::LearnerCaughtUp => "learner-caught-up",
            Self::LeaderRemoved => "leader-removed",
            Self::NodeRemoved => "node-removed",
            Self::ChangeDone => "change-done",
            Self::ChangeInProgress => "change-in-progress",
            Self::PreconditionFailed => "precondition-failed",
            Self::ChangeSuperseded => "change-superseded",
            Self::DirectoryLost => "directory-lost",
            Self::PeerGone => "peer-gone",
            Self::CommandRepeated => "command-repeated",
            Self::SessionEnded => "session-ended",
            Self::SessionRefused => "session-refused",
            Self::ResponseNotKept => "response-not-kept",
            Self::SessionsRestored => "sessions-restored",
            Self::WitnessVoted => "witness-voted",
            Self::LogFull => "log-full",
            Self::SnapshotFull => "snapshot-full",
            Self::StartFull => "start-full",
            Self::ResumedWithRoom => "resumed-with-room",
            Self::LossTooGreat => "loss-too-great",
            Self::LeaseHeld => "lease-held",
            Self::LogFetched => "log-fetched",
            Self::LeaderStalled => "leader-stalled",
            Self::LeaderGone => "leader-gone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Term;

    #[test]
    fn every_mark_counts_at_its_own_place() {
        for (place, mark) in Mark::ALL.into_iter().enumerate() {
            assert_eq!(mark as usize, place, "{mark}");
        }
        let mut marks = Marks::new();
        marks.reach(Mark::LogGone);
        marks.reach(Mark::LogGone);
        let mut sum = marks.clone();
        sum.add(&marks);
        assert!(
            sum.iter()
                .all(|(mark, count)| count == if mark == Mark::LogGone { 4 } else { 0 })
        );
        assert_eq!(sum.missing().count(), Mark::ALL.len() - 1);
    }

    #[test]
    fn many_seeds_must_reach_every_mark_and_few_need_not() {
        let mut marks = Marks::new();
        for mark in Mark::ALL.into_iter().filter(|mark| *mark != Mark::LogGone) {
            marks.reach(mark);
        }
        assert_eq!(marks.check(SEEDS_FOR_ALL_MARKS - 1), Ok(()));
        let never = marks.check(SEEDS_FOR_ALL_MARKS).unwrap_err().to_string();
        assert!(
            never.starts_with("2000 seeds never reached: log-gone;"),
            "{never}"
        );
        marks.reach(Mark::LogGone);
        assert_eq!(marks.check(SEEDS_FOR_ALL_MARKS), Ok(()));
    }

    #[test]
    fn events_reach_their_marks() {
        let event = |reason| Event::SteppedDown {
            term: Term(1),
            reason,
        };
        assert_eq!(
            Mark::of_event(&event(StepDown::LostQuorum)),
            Some(Mark::QuorumLost)
        );
        assert_eq!(Mark::of_event(&Event::BecameLeader { term: Term(1) }), None);
    }
}
