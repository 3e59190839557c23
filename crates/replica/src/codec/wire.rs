//! The protobuf forms of what travels between peers and into files, and the ways there and back.
//!
//! Fields may be added with new tags; none changes its meaning or type. Unknown fields are skipped.
//! What comes out of [`prost::Message::decode`] is checked here once, on its way to the core's types.

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::message::{
    AppendEntries, AppendEntriesResponse, Campaign, Forward, ForwardResponse, Forwarded, Heartbeat,
    HeartbeatResponse, LogSuffix, PreVerdict, PreVoteResponse, ReadId, ReadIndexResponse, ReadOutcome,
    RequestPreVote, RequestVote, Verdict,
};
use quorate_raft::{
    Entry, EntryId, Envelope, GroupId, Index, LogSlice, Message, NodeId, Payload, Round, Session,
    SnapshotMeta, Term,
};

use super::DecodeError;
use super::members::{WireConfiguration, WireReconfigure, WireReconfigureResponse};

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct WireId {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireSnapshotMeta {
    #[prost(message, optional, tag = "1")]
    id: Option<WireId>,
    #[prost(message, optional, tag = "2")]
    configuration: Option<WireConfiguration>,
}

/// An entry within a slice: its index follows from its place.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireEntry {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(oneof = "WirePayload", tags = "2, 3, 4, 5")]
    payload: Option<WirePayload>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WirePayload {
    #[prost(bytes = "bytes", tag = "2")]
    Command(Bytes),
    #[prost(message, tag = "3")]
    Configuration(WireConfiguration),
    #[prost(message, tag = "4")]
    Noop(Nothing),
    #[prost(message, tag = "5")]
    Stripped(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireEnvelope {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(uint64, tag = "2")]
    from: u64,
    #[prost(uint64, tag = "3")]
    to: u64,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(
        oneof = "WireMessage",
        tags = "5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24"
    )]
    message: Option<WireMessage>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireMessage {
    #[prost(message, tag = "5")]
    AppendEntries(WireAppend),
    #[prost(message, tag = "6")]
    AppendEntriesResponse(WireAppendResponse),
    #[prost(message, tag = "7")]
    Heartbeat(WireHeartbeat),
    #[prost(message, tag = "8")]
    HeartbeatResponse(WireHeartbeatResponse),
    #[prost(message, tag = "9")]
    Forward(WireForward),
    #[prost(message, tag = "10")]
    ForwardResponse(WireForwardResponse),
    #[prost(message, tag = "11")]
    ReadIndex(WireReadId),
    #[prost(message, tag = "12")]
    ReadIndexResponse(WireReadIndexResponse),
    #[prost(message, tag = "13")]
    RequestPreVote(WireRequestPreVote),
    #[prost(message, tag = "14")]
    PreVoteResponse(WirePreVoteResponse),
    #[prost(message, tag = "15")]
    RequestVote(WireRequestVote),
    #[prost(bool, tag = "16")]
    VoteResponse(bool),
    #[prost(message, tag = "17")]
    InstallSnapshot(WireSnapshotMeta),
    #[prost(message, tag = "18")]
    TimeoutNow(Nothing),
    #[prost(message, tag = "19")]
    StaleTerm(Nothing),
    #[prost(uint64, tag = "20")]
    Commit(u64),
    #[prost(message, tag = "21")]
    Reconfigure(WireReconfigure),
    #[prost(message, tag = "22")]
    ReconfigureResponse(WireReconfigureResponse),
    #[prost(message, tag = "23")]
    FetchLog(WireId),
    #[prost(message, tag = "24")]
    LogSuffix(WireLogSuffix),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAppend {
    #[prost(message, optional, tag = "1")]
    prev: Option<WireId>,
    #[prost(uint64, tag = "2")]
    commit: u64,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<WireEntry>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireAppendResponse {
    #[prost(oneof = "WireAppendOutcome", tags = "1, 2")]
    outcome: Option<WireAppendOutcome>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireAppendOutcome {
    #[prost(uint64, tag = "1")]
    AcceptedMatch(u64),
    #[prost(message, tag = "2")]
    Rejected(WireAppendRejected),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireAppendRejected {
    #[prost(message, optional, tag = "1")]
    prev: Option<WireId>,
    #[prost(message, optional, tag = "2")]
    hint: Option<WireId>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireHeartbeat {
    #[prost(uint64, tag = "1")]
    commit: u64,
    #[prost(uint64, tag = "2")]
    round: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireHeartbeatResponse {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    verified: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireForward {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    commands: Vec<Bytes>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireForwardResponse {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(oneof = "WireForwarded", tags = "3, 4, 5")]
    outcome: Option<WireForwarded>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireForwarded {
    #[prost(uint64, tag = "3")]
    AppendedFirst(u64),
    #[prost(message, tag = "4")]
    Refused(Nothing),
    #[prost(message, tag = "5")]
    Overloaded(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireReadId {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireReadIndexResponse {
    #[prost(message, optional, tag = "1")]
    id: Option<WireReadId>,
    #[prost(oneof = "WireReadOutcome", tags = "2, 3")]
    outcome: Option<WireReadOutcome>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireReadOutcome {
    #[prost(uint64, tag = "2")]
    Ready(u64),
    #[prost(message, tag = "3")]
    Refused(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireRequestPreVote {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(message, optional, tag = "2")]
    last: Option<WireId>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WirePreVoteResponse {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(bool, tag = "2")]
    granted: bool,
    #[prost(oneof = "WireDenial", tags = "3, 4, 5")]
    denial: Option<WireDenial>,
}

/// Why a pre-vote is denied. A sender that does not say may have a leader: nothing else is safe to suppose.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireDenial {
    #[prost(message, tag = "3")]
    HasLeader(Nothing),
    #[prost(message, tag = "4")]
    MoreUpToDate(WireId),
    #[prost(message, tag = "5")]
    TermPassed(Nothing),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireLogSuffix {
    #[prost(oneof = "WireSuffix", tags = "1, 2")]
    suffix: Option<WireSuffix>,
}

/// A slice travels as in an append.
#[derive(Clone, PartialEq, prost::Oneof)]
enum WireSuffix {
    #[prost(message, tag = "1")]
    Entries(WireAppend),
    #[prost(message, tag = "2")]
    Unknown(WireAppendRejected),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireRequestVote {
    #[prost(message, optional, tag = "1")]
    last: Option<WireId>,
    #[prost(bool, tag = "2")]
    transfer: bool,
}

impl From<EntryId> for WireId {
    fn from(id: EntryId) -> Self {
        Self {
            index: id.index.0,
            term: id.term.0,
        }
    }
}

impl From<WireId> for EntryId {
    fn from(id: WireId) -> Self {
        Self::new(Index(id.index), Term(id.term))
    }
}

impl From<&SnapshotMeta> for WireSnapshotMeta {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            id: Some(meta.id.into()),
            configuration: Some(meta.configuration.as_ref().into()),
        }
    }
}

impl TryFrom<WireSnapshotMeta> for SnapshotMeta {
    type Error = DecodeError;

    fn try_from(wire: WireSnapshotMeta) -> Result<Self, DecodeError> {
        let configuration = needed(wire.configuration, "snapshot configuration")?;
        Ok(Self {
            id: id(wire.id)?,
            configuration: Arc::new(configuration.try_into()?),
        })
    }
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            Payload::Noop => WirePayload::Noop(Nothing {}),
            Payload::Stripped => WirePayload::Stripped(Nothing {}),
            Payload::Command(command) => WirePayload::Command(command.clone()),
            Payload::Configuration(configuration) => {
                WirePayload::Configuration(configuration.as_ref().into())
            }
        };
        Self {
            term: entry.id.term.0,
            payload: Some(payload),
        }
    }
}

impl WireEntry {
    fn at(self, index: Index) -> Result<Entry, DecodeError> {
        let payload = match needed(self.payload, "entry payload")? {
            WirePayload::Noop(Nothing {}) => Payload::Noop,
            WirePayload::Stripped(Nothing {}) => Payload::Stripped,
            WirePayload::Command(command) => Payload::Command(command),
            WirePayload::Configuration(wire) => Payload::Configuration(Arc::new(wire.try_into()?)),
        };
        Ok(Entry {
            id: EntryId::new(index, Term(self.term)),
            payload,
        })
    }
}

impl From<&Envelope> for WireEnvelope {
    fn from(envelope: &Envelope) -> Self {
        Self {
            group: envelope.group.0,
            from: envelope.from.0,
            to: envelope.to.0,
            term: envelope.term.0,
            message: Some((&envelope.message).into()),
        }
    }
}

impl TryFrom<WireEnvelope> for Envelope {
    type Error = DecodeError;

    fn try_from(wire: WireEnvelope) -> Result<Self, DecodeError> {
        Ok(Self {
            group: GroupId(wire.group),
            from: NodeId(wire.from),
            to: NodeId(wire.to),
            term: Term(wire.term),
            message: needed(wire.message, "message")?.try_into()?,
        })
    }
}

impl From<&Message> for WireMessage {
    fn from(message: &Message) -> Self {
        match message {
            Message::RequestPreVote(ask) => Self::RequestPreVote(WireRequestPreVote {
                term: ask.term.0,
                last: Some(ask.last.into()),
            }),
            Message::PreVoteResponse(answer) => Self::PreVoteResponse((*answer).into()),
            Message::FetchLog(prev) => Self::FetchLog((*prev).into()),
            Message::LogSuffix(suffix) => Self::LogSuffix(suffix.into()),
            Message::RequestVote(ask) => Self::RequestVote(WireRequestVote {
                last: Some(ask.last.into()),
                transfer: ask.cause == Campaign::Transfer,
            }),
            Message::VoteResponse(verdict) => Self::VoteResponse(is_granted(*verdict)),
            Message::AppendEntries(append) => Self::AppendEntries(append.into()),
            Message::AppendEntriesResponse(answer) => Self::AppendEntriesResponse((*answer).into()),
            Message::Heartbeat(heartbeat) => Self::Heartbeat(WireHeartbeat {
                commit: heartbeat.commit.0,
                round: heartbeat.round.0,
            }),
            Message::HeartbeatResponse(answer) => Self::HeartbeatResponse(WireHeartbeatResponse {
                round: answer.round.0,
                verified: answer.verified.0,
            }),
            Message::Commit(index) => Self::Commit(index.0),
            Message::InstallSnapshot(meta) => Self::InstallSnapshot(meta.into()),
            Message::TimeoutNow => Self::TimeoutNow(Nothing {}),
            Message::StaleTerm => Self::StaleTerm(Nothing {}),
            Message::Forward(forward) => Self::Forward(WireForward {
                session: forward.session.0,
                seq: forward.seq,
                commands: forward.commands.clone(),
            }),
            Message::ForwardResponse(answer) => Self::ForwardResponse((*answer).into()),
            Message::ReadIndex(id) => Self::ReadIndex((*id).into()),
            Message::ReadIndexResponse(answer) => Self::ReadIndexResponse((*answer).into()),
            Message::Reconfigure(ask) => Self::Reconfigure(ask.as_ref().into()),
            Message::ReconfigureResponse(answer) => Self::ReconfigureResponse((*answer).into()),
        }
    }
}

impl TryFrom<WireMessage> for Message {
    type Error = DecodeError;

    fn try_from(wire: WireMessage) -> Result<Self, DecodeError> {
        Ok(match wire {
            WireMessage::AppendEntries(append) => Self::AppendEntries(append.try_into()?),
            WireMessage::AppendEntriesResponse(answer) => Self::AppendEntriesResponse(answer.try_into()?),
            WireMessage::Heartbeat(heartbeat) => Self::Heartbeat(Heartbeat {
                commit: Index(heartbeat.commit),
                round: Round(heartbeat.round),
            }),
            WireMessage::HeartbeatResponse(answer) => Self::HeartbeatResponse(HeartbeatResponse {
                round: Round(answer.round),
                verified: Index(answer.verified),
            }),
            WireMessage::Forward(forward) => Self::Forward(Forward {
                session: Session(forward.session),
                seq: forward.seq,
                commands: forward.commands,
            }),
            WireMessage::ForwardResponse(answer) => Self::ForwardResponse(answer.try_into()?),
            WireMessage::ReadIndex(id) => Self::ReadIndex(id.into()),
            WireMessage::ReadIndexResponse(answer) => Self::ReadIndexResponse(answer.try_into()?),
            WireMessage::RequestPreVote(ask) => Self::RequestPreVote(RequestPreVote {
                term: Term(ask.term),
                last: id(ask.last)?,
            }),
            WireMessage::PreVoteResponse(answer) => Self::PreVoteResponse(answer.into()),
            WireMessage::FetchLog(prev) => Self::FetchLog(prev.into()),
            WireMessage::LogSuffix(suffix) => Self::LogSuffix(suffix.try_into()?),
            WireMessage::RequestVote(ask) => Self::RequestVote(RequestVote {
                last: id(ask.last)?,
                cause: match ask.transfer {
                    true => Campaign::Transfer,
                    false => Campaign::Timeout,
                },
            }),
            WireMessage::VoteResponse(granted) => Self::VoteResponse(verdict(granted)),
            WireMessage::Commit(index) => Self::Commit(Index(index)),
            WireMessage::InstallSnapshot(meta) => Self::InstallSnapshot(meta.try_into()?),
            WireMessage::TimeoutNow(Nothing {}) => Self::TimeoutNow,
            WireMessage::StaleTerm(Nothing {}) => Self::StaleTerm,
            WireMessage::Reconfigure(ask) => Self::Reconfigure(Box::new(ask.try_into()?)),
            WireMessage::ReconfigureResponse(answer) => Self::ReconfigureResponse(answer.try_into()?),
        })
    }
}

impl From<&AppendEntries> for WireAppend {
    fn from(append: &AppendEntries) -> Self {
        wire_slice(&append.slice, append.commit)
    }
}

fn wire_slice(slice: &LogSlice, commit: Index) -> WireAppend {
    WireAppend {
        prev: Some(slice.prev().into()),
        commit: commit.0,
        entries: slice.entries().iter().map(WireEntry::from).collect(),
    }
}

impl TryFrom<WireAppend> for AppendEntries {
    type Error = DecodeError;

    fn try_from(wire: WireAppend) -> Result<Self, DecodeError> {
        let prev = id(wire.prev)?;
        let mut entries = Vec::with_capacity(wire.entries.len());
        let mut index = prev.index;
        for entry in wire.entries {
            index = Index(index.0.checked_add(1).ok_or(DecodeError::IndexOverflow)?);
            entries.push(entry.at(index)?);
        }
        Ok(Self {
            slice: LogSlice::new(prev, entries)?,
            commit: Index(wire.commit),
        })
    }
}

impl From<PreVoteResponse> for WirePreVoteResponse {
    fn from(answer: PreVoteResponse) -> Self {
        Self {
            term: answer.term.0,
            granted: answer.verdict == PreVerdict::Granted,
            denial: match answer.verdict {
                PreVerdict::Granted => None,
                PreVerdict::HasLeader => Some(WireDenial::HasLeader(Nothing {})),
                PreVerdict::MoreUpToDate(last) => Some(WireDenial::MoreUpToDate(last.into())),
                PreVerdict::TermPassed => Some(WireDenial::TermPassed(Nothing {})),
            },
        }
    }
}

impl From<WirePreVoteResponse> for PreVoteResponse {
    fn from(wire: WirePreVoteResponse) -> Self {
        let verdict = match wire.denial {
            _ if wire.granted => PreVerdict::Granted,
            Some(WireDenial::HasLeader(Nothing {})) | None => PreVerdict::HasLeader,
            Some(WireDenial::MoreUpToDate(last)) => PreVerdict::MoreUpToDate(last.into()),
            Some(WireDenial::TermPassed(Nothing {})) => PreVerdict::TermPassed,
        };
        let term = Term(wire.term);
        Self { term, verdict }
    }
}

impl From<&LogSuffix> for WireLogSuffix {
    fn from(suffix: &LogSuffix) -> Self {
        let suffix = match suffix {
            LogSuffix::Entries(slice) => WireSuffix::Entries(wire_slice(slice, Index::ZERO)),
            LogSuffix::Unknown { prev, hint } => WireSuffix::Unknown(WireAppendRejected {
                prev: Some((*prev).into()),
                hint: Some((*hint).into()),
            }),
        };
        let suffix = Some(suffix);
        Self { suffix }
    }
}

impl TryFrom<WireLogSuffix> for LogSuffix {
    type Error = DecodeError;

    fn try_from(wire: WireLogSuffix) -> Result<Self, DecodeError> {
        Ok(match needed(wire.suffix, "log suffix")? {
            WireSuffix::Entries(append) => Self::Entries(AppendEntries::try_from(append)?.slice),
            WireSuffix::Unknown(unknown) => Self::Unknown {
                prev: id(unknown.prev)?,
                hint: id(unknown.hint)?,
            },
        })
    }
}

impl From<AppendEntriesResponse> for WireAppendResponse {
    fn from(answer: AppendEntriesResponse) -> Self {
        let outcome = match answer {
            AppendEntriesResponse::Accepted { match_index } => {
                WireAppendOutcome::AcceptedMatch(match_index.0)
            }
            AppendEntriesResponse::Rejected { prev, hint } => {
                WireAppendOutcome::Rejected(WireAppendRejected {
                    prev: Some(prev.into()),
                    hint: Some(hint.into()),
                })
            }
        };
        Self {
            outcome: Some(outcome),
        }
    }
}

impl TryFrom<WireAppendResponse> for AppendEntriesResponse {
    type Error = DecodeError;

    fn try_from(wire: WireAppendResponse) -> Result<Self, DecodeError> {
        Ok(match needed(wire.outcome, "append outcome")? {
            WireAppendOutcome::AcceptedMatch(index) => Self::Accepted {
                match_index: Index(index),
            },
            WireAppendOutcome::Rejected(rejected) => Self::Rejected {
                prev: id(rejected.prev)?,
                hint: id(rejected.hint)?,
            },
        })
    }
}

impl From<ForwardResponse> for WireForwardResponse {
    fn from(answer: ForwardResponse) -> Self {
        Self {
            session: answer.session.0,
            seq: answer.seq,
            outcome: Some(match answer.outcome {
                Forwarded::Appended { first } => WireForwarded::AppendedFirst(first.0),
                Forwarded::Refused => WireForwarded::Refused(Nothing {}),
                Forwarded::Overloaded => WireForwarded::Overloaded(Nothing {}),
            }),
        }
    }
}

impl TryFrom<WireForwardResponse> for ForwardResponse {
    type Error = DecodeError;

    fn try_from(wire: WireForwardResponse) -> Result<Self, DecodeError> {
        Ok(Self {
            session: Session(wire.session),
            seq: wire.seq,
            outcome: match needed(wire.outcome, "forward outcome")? {
                WireForwarded::AppendedFirst(first) => Forwarded::Appended { first: Index(first) },
                WireForwarded::Refused(Nothing {}) => Forwarded::Refused,
                WireForwarded::Overloaded(Nothing {}) => Forwarded::Overloaded,
            },
        })
    }
}

impl From<ReadId> for WireReadId {
    fn from(id: ReadId) -> Self {
        Self {
            session: id.session.0,
            seq: id.seq,
        }
    }
}

impl From<WireReadId> for ReadId {
    fn from(wire: WireReadId) -> Self {
        Self {
            session: Session(wire.session),
            seq: wire.seq,
        }
    }
}

impl From<ReadIndexResponse> for WireReadIndexResponse {
    fn from(answer: ReadIndexResponse) -> Self {
        Self {
            id: Some(answer.id.into()),
            outcome: Some(match answer.outcome {
                ReadOutcome::Ready(index) => WireReadOutcome::Ready(index.0),
                ReadOutcome::Refused => WireReadOutcome::Refused(Nothing {}),
            }),
        }
    }
}

impl TryFrom<WireReadIndexResponse> for ReadIndexResponse {
    type Error = DecodeError;

    fn try_from(wire: WireReadIndexResponse) -> Result<Self, DecodeError> {
        Ok(Self {
            id: needed(wire.id, "read id")?.into(),
            outcome: match needed(wire.outcome, "read outcome")? {
                WireReadOutcome::Ready(index) => ReadOutcome::Ready(Index(index)),
                WireReadOutcome::Refused(Nothing {}) => ReadOutcome::Refused,
            },
        })
    }
}

fn is_granted(verdict: Verdict) -> bool {
    verdict == Verdict::Granted
}

fn verdict(granted: bool) -> Verdict {
    match granted {
        true => Verdict::Granted,
        false => Verdict::Denied,
    }
}

fn id(wire: Option<WireId>) -> Result<EntryId, DecodeError> {
    Ok(needed(wire, "entry id")?.into())
}

pub(super) fn needed<T>(field: Option<T>, what: &'static str) -> Result<T, DecodeError> {
    field.ok_or(DecodeError::Missing(what))
}
