//! What nodes say to each other: a variant per RPC, requests and responses alike.
//!
//! Messages may be lost, repeated, delayed and reordered without harm to safety. The term of the
//! sender travels in the [`Envelope`], since the rule about terms (paper §5.1) is the same for all.

use std::fmt;

use bytes::Bytes;

use crate::entry::{LogSlice, Payload};
use crate::io::Rejection;
use crate::membership::{Precondition, Target};
use crate::snapshot::SnapshotMeta;
use crate::types::{EntryId, GroupId, Index, NodeId, Round, Session, Term};

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The log that it is about.
    pub group: GroupId,
    /// Who sends it.
    pub from: NodeId,
    /// Who is to have it.
    pub to: NodeId,
    /// The sender's term when it was sent.
    pub term: Term,
    /// What it says.
    pub message: Message,
}

/// One RPC's request or response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Would you vote for me?" (thesis §9.6). Changes nothing at either end.
    RequestPreVote(RequestPreVote),
    /// The answer to a [`RequestPreVote`].
    PreVoteResponse(PreVoteResponse),
    /// "What follows this entry in your log?" From a pre-candidate that is denied for its log alone. Changes
    /// nothing at the receiver.
    FetchLog(EntryId),
    /// The answer to a [`Message::FetchLog`].
    LogSuffix(LogSuffix),
    /// "Vote for me" (paper §5.2).
    RequestVote(RequestVote),
    /// The answer to a [`RequestVote`].
    VoteResponse(Verdict),
    /// Entries to append, after a check that the logs agree before them (paper §5.3).
    AppendEntries(AppendEntries),
    /// The answer to [`AppendEntries`], and to an installed snapshot.
    AppendEntriesResponse(AppendEntriesResponse),
    /// "I still lead", with nothing to compare and nothing to write.
    Heartbeat(Heartbeat),
    /// The answer to a [`Heartbeat`].
    HeartbeatResponse(HeartbeatResponse),
    /// News of the commit index, within what the receiver is known to hold. Not answered.
    Commit(Index),
    /// A snapshot whose data has arrived beside the messages, whole and durable (paper §7).
    InstallSnapshot(SnapshotMeta),
    /// "Campaign at once": the leader hands over (thesis §3.10).
    TimeoutNow,
    /// "Your term has passed; mine is in the envelope." Ends the leadership of one that was cut off.
    StaleTerm,
    /// Commands proposed at a follower, for the leader to append.
    Forward(Forward),
    /// The answer to a [`Forward`].
    ForwardResponse(ForwardResponse),
    /// "Up to where must I have applied to read what is current?" (thesis §6.4).
    ReadIndex(ReadId),
    /// The answer to a [`Message::ReadIndex`].
    ReadIndexResponse(ReadIndexResponse),
    /// A change of members asked for at a follower, for the leader to begin.
    Reconfigure(Box<Reconfigure>),
    /// The answer to a [`Reconfigure`].
    ReconfigureResponse(ReconfigureResponse),
}

/// Asks whether an election could be won (thesis §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPreVote {
    /// The term that the sender would campaign in: one more than its own.
    pub term: Term,
    /// The last entry of the sender's log.
    pub last: EntryId,
}

/// Answers a [`RequestPreVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreVoteResponse {
    /// The term that was asked about.
    pub term: Term,
    /// Whether the sender would vote so.
    pub verdict: PreVerdict,
}

/// Whether a node would vote for who asks, and why it would not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreVerdict {
    /// It would.
    Granted,
    /// It has heard of a leader so recently that no other should be elected (thesis §4.2.3).
    HasLeader,
    /// Its own log, which ends so, is more up to date (paper §5.4.1).
    MoreUpToDate(EntryId),
    /// Its term is no lower than that of the election.
    TermPassed,
}

/// Answers a [`Message::FetchLog`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSuffix {
    /// What follows the entry, as much as fits into a message; nothing if that is the last one.
    Entries(LogSlice),
    /// The entry is not in the sender's log.
    Unknown {
        /// The entry.
        prev: EntryId,
        /// The sender's last entry whose term and index do not exceed it: where to try next.
        hint: EntryId,
    },
}

/// Asks for a vote in the envelope's term (paper §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestVote {
    /// The last entry of the candidate's log.
    pub last: EntryId,
    /// What made it campaign.
    pub cause: Campaign,
}

/// What made a candidate campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Campaign {
    /// It heard of no leader for an election timeout.
    Timeout,
    /// The leader asked it to (thesis §3.10), so voters need not protect that leader.
    Transfer,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// No.
    Denied,
}

/// Replicates entries (paper §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntries {
    /// The entries, and the one that must be before them.
    pub slice: LogSlice,
    /// The leader's commit index when it sent this.
    pub commit: Index,
}

/// Answers [`AppendEntries`] and [`Message::InstallSnapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendEntriesResponse {
    /// The follower's log equals the leader's up to here, durably.
    Accepted {
        /// The highest index known to be equal.
        match_index: Index,
    },
    /// The follower has no entry with the id that must come before.
    Rejected {
        /// The `prev` that was refused.
        prev: EntryId,
        /// The follower's last entry whose term and index do not exceed `prev`'s: where to try next.
        hint: EntryId,
    },
}

/// Says that the sender leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leader's commit index, bounded by what the receiver is known to hold.
    pub commit: Index,
    /// Counts the leader's rounds: a read waits for a round that began after it (thesis §6.4).
    pub round: Round,
}

/// Answers a [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// The round answered.
    pub round: Round,
    /// How far the sender has compared its log with this leader's; less than the leader knows after a restart.
    pub verified: Index,
}

/// Commands that a follower hands to the leader, appended at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The sender's life: numbers of another life are not compared.
    pub session: Session,
    /// Grows by one with each forward of a session.
    pub seq: u64,
    /// The commands, in the order to append them.
    pub commands: Vec<Bytes>,
}

/// Answers a [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardResponse {
    /// The session of the forward.
    pub session: Session,
    /// The number of the forward.
    pub seq: u64,
    /// What became of it.
    pub outcome: Forwarded,
}

/// What became of a [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Its commands are entries of the leader's term, the first at this index.
    Appended {
        /// The first command's index.
        first: Index,
    },
    /// None of its commands was or will be appended.
    Refused,
    /// The leader's bounds are reached: none of its commands was or will be appended.
    Overloaded,
}

/// Names a read of one node's one life. Never used twice, a retry has a new one (etcd #20418).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadId {
    /// The reader's life.
    pub session: Session,
    /// Grows by one with each request of a session.
    pub seq: u64,
}

/// Answers a [`Message::ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexResponse {
    /// The read answered.
    pub id: ReadId,
    /// What the leader said.
    pub outcome: ReadOutcome,
}

/// What a leader says to a [`Message::ReadIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Apply up to here, then read.
    Ready(Index),
    /// The sender does not lead, or cannot take more.
    Refused,
}

/// A change of members that a follower hands to the leader, begun at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfigure {
    /// The sender's life.
    pub session: Session,
    /// Grows by one with each request of a session; shares its numbers with [`Forward`].
    pub seq: u64,
    /// Who is to vote and to learn.
    pub target: Target,
    /// What the members must be.
    pub precondition: Precondition,
}

/// Answers a [`Reconfigure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconfigureResponse {
    /// The session of the request.
    pub session: Session,
    /// The number of the request.
    pub seq: u64,
    /// The entry that begins the change; or why it does not begin.
    pub outcome: Result<EntryId, Rejection>,
}

impl Envelope {
    /// What makes it one that no correct peer sends, whoever it is for.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let (term, last) = match &self.message {
            Message::AppendEntries(append) => (append.slice.last_term(), append.slice.last().index),
            Message::InstallSnapshot(meta) => (meta.id.term, meta.id.index),
            Message::LogSuffix(LogSuffix::Entries(slice)) => (slice.last_term(), slice.last().index),
            Message::LogSuffix(LogSuffix::Unknown { .. })
            | Message::FetchLog(_)
            | Message::RequestPreVote(_)
            | Message::PreVoteResponse(_)
            | Message::RequestVote(_)
            | Message::VoteResponse(_)
            | Message::AppendEntriesResponse(_)
            | Message::Heartbeat(_)
            | Message::HeartbeatResponse(_)
            | Message::Commit(_)
            | Message::TimeoutNow
            | Message::StaleTerm
            | Message::Forward(_)
            | Message::ForwardResponse(_)
            | Message::ReadIndex(_)
            | Message::ReadIndexResponse(_)
            | Message::Reconfigure(_)
            | Message::ReconfigureResponse(_) => (self.term, Index::ZERO),
        };
        if self.names_no_voter() {
            Some("its configuration has no voter")
        } else if term > self.term {
            Some("its entries are of a later term than itself")
        } else if self.term.0 > LARGEST_NUMBER || last.0 > LARGEST_NUMBER {
            Some("its numbers are larger than any that is ever reached")
        } else {
            None
        }
    }

    /// Whether it would leave the receiver without members.
    fn names_no_voter(&self) -> bool {
        let unknown = |payload: &Payload| matches!(payload, Payload::Configuration(c) if c.is_unknown());
        let names_none = |slice: &LogSlice| slice.entries().iter().any(|entry| unknown(&entry.payload));
        if let Message::AppendEntries(append) = &self.message {
            return names_none(&append.slice);
        }
        if let Message::LogSuffix(LogSuffix::Entries(slice)) = &self.message {
            return names_none(slice);
        }
        matches!(&self.message, Message::InstallSnapshot(meta) if meta.configuration.is_unknown())
    }
}

impl Message {
    /// Whether this asks for a vote without the leader's wish.
    pub(crate) fn is_uncalled_campaign(&self) -> bool {
        matches!(
            self,
            Self::RequestVote(RequestVote {
                cause: Campaign::Timeout,
                ..
            })
        )
    }

    /// Whether only one that hears the receiver lead says this. A request for pre-votes shows the contrary.
    pub(crate) fn is_from_follower(&self) -> bool {
        matches!(
            self,
            Self::AppendEntriesResponse(_)
                | Self::HeartbeatResponse(_)
                | Self::Forward(_)
                | Self::ReadIndex(_)
                | Self::Reconfigure(_)
        )
    }

    /// Whether only the leader of the envelope's term says this.
    pub(crate) fn is_from_leader(&self) -> bool {
        matches!(
            self,
            Self::AppendEntries(_)
                | Self::Heartbeat(_)
                | Self::Commit(_)
                | Self::InstallSnapshot(_)
                | Self::TimeoutNow
        )
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} -> {} {}", self.from, self.term, self.to, self.message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestPreVote(ask) => write!(f, "RequestPreVote term={} last={}", ask.term, ask.last),
            Self::PreVoteResponse(answer) => match answer.verdict {
                PreVerdict::Granted => write!(f, "PreVoteGranted term={}", answer.term),
                denial @ (PreVerdict::HasLeader | PreVerdict::MoreUpToDate(_) | PreVerdict::TermPassed) => {
                    write!(f, "PreVoteDenied term={} {denial}", answer.term)
                }
            },
            Self::FetchLog(prev) => write!(f, "FetchLog prev={prev}"),
            Self::LogSuffix(LogSuffix::Entries(slice)) => write!(f, "LogSuffix {slice}"),
            Self::LogSuffix(LogSuffix::Unknown { prev, hint }) => {
                write!(f, "LogUnknown prev={prev} hint={hint}")
            }
            Self::RequestVote(RequestVote {
                last,
                cause: Campaign::Timeout,
            }) => write!(f, "RequestVote last={last}"),
            Self::RequestVote(RequestVote {
                last,
                cause: Campaign::Transfer,
            }) => {
                write!(f, "RequestVote last={last} transfer")
            }
            Self::VoteResponse(verdict) => write!(f, "Vote{verdict}"),
            Self::AppendEntries(append) => {
                write!(f, "AppendEntries {} commit={}", append.slice, append.commit)
            }
            Self::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) => {
                write!(f, "Accepted match={match_index}")
            }
            Self::AppendEntriesResponse(AppendEntriesResponse::Rejected { prev, hint }) => {
                write!(f, "Rejected prev={prev} hint={hint}")
            }
            Self::Heartbeat(heartbeat) => write!(
                f,
                "Heartbeat commit={} round={}",
                heartbeat.commit, heartbeat.round
            ),
            Self::HeartbeatResponse(answer) => {
                write!(
                    f,
                    "HeartbeatResponse round={} verified={}",
                    answer.round, answer.verified
                )
            }
            Self::Commit(index) => write!(f, "Commit {index}"),
            Self::InstallSnapshot(meta) => write!(f, "InstallSnapshot {meta}"),
            Self::TimeoutNow => write!(f, "TimeoutNow"),
            Self::StaleTerm => write!(f, "StaleTerm"),
            Self::Forward(forward) => {
                write!(
                    f,
                    "Forward {}/{} commands={}",
                    forward.session,
                    forward.seq,
                    forward.commands.len()
                )
            }
            Self::ForwardResponse(answer) => answer.fmt(f),
            Self::ReadIndex(id) => write!(f, "ReadIndex {}/{}", id.session, id.seq),
            Self::ReadIndexResponse(answer) => answer.fmt(f),
            Self::Reconfigure(ask) => write!(f, "Reconfigure {}/{} {}", ask.session, ask.seq, ask.target),
            Self::ReconfigureResponse(answer) => answer.fmt(f),
        }
    }
}

impl fmt::Display for ReconfigureResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (session, seq) = (self.session, self.seq);
        match self.outcome {
            Ok(id) => write!(f, "ReconfigureBegun {session}/{seq} {id}"),
            Err(rejection) => write!(f, "ReconfigureRefused {session}/{seq} {rejection}"),
        }
    }
}

impl fmt::Display for ForwardResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (session, seq) = (self.session, self.seq);
        match self.outcome {
            Forwarded::Appended { first } => write!(f, "ForwardAppended {session}/{seq} first={first}"),
            Forwarded::Refused => write!(f, "ForwardRefused {session}/{seq}"),
            Forwarded::Overloaded => write!(f, "ForwardOverloaded {session}/{seq}"),
        }
    }
}

impl fmt::Display for ReadIndexResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReadId { session, seq } = self.id;
        match self.outcome {
            ReadOutcome::Ready(index) => write!(f, "ReadIndexReady {session}/{seq} index={index}"),
            ReadOutcome::Refused => write!(f, "ReadIndexRefused {session}/{seq}"),
        }
    }
}

impl fmt::Display for PreVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => write!(f, "granted"),
            Self::HasLeader => write!(f, "has a leader"),
            Self::MoreUpToDate(last) => write!(f, "log ends at {last}"),
            Self::TermPassed => write!(f, "term has passed"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Granted => "Granted",
            Self::Denied => "Denied",
        })
    }
}

/// A term or index above this is no count of anything: a million a second would need 146,000 years.
const LARGEST_NUMBER: u64 = 1 << 62;
