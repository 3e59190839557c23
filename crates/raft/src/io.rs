//! The contract with the caller: what a node is told, and what it wants done.
//!
//! - Whatever decides anything arrives as an [`Input`]; whatever is to happen leaves in a [`Ready`].
//! - The parts of a `Ready` may be carried out in parallel and in any order, except that writes are
//!   carried out in the order of their numbers, and entries are applied in the order of the log.
//! - Nothing that must wait for a disk is in a `Ready` before [`Input::Persisted`] allows it: the
//!   caller sends everything it is given, at once.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::configuration::Configuration;
use crate::entry::Entry;
use crate::event::Event;
use crate::lease::{Consistency, Leases};
use crate::membership::{MemberKind, Precondition, Target};
use crate::message::Envelope;
use crate::snapshot::SnapshotMeta;
use crate::types::{EntryId, GroupId, Index, Moment, NodeId, Session, Term, Ticket, WriteSeq};

/// Something that happened to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A tick of the caller's clock has passed. [`Config`] counts its timeouts in ticks.
    Tick,
    /// The caller read its clock, and it showed this. Told after everything that had arrived by then was
    /// received, and before any of it is acted upon. Only leases need it ([`Config::leases`]), and count on a clock that never
    /// goes back, never jumps, and goes on while the machine is suspended.
    Now(Moment),
    /// The caller's clock may have stood still for a while: a leader gives up its lease. A promise is kept
    /// the longer for it, which harms nothing.
    ClockInDoubt,
    /// A message came from a peer.
    Receive(Envelope),
    /// Clients want these commands replicated. Each ticket resolves exactly once.
    Propose(Vec<Proposal>),
    /// Clients want to read what is current. Each ticket is answered by [`ReadReady`] or [`Resolved`].
    Read {
        /// The callers' names for them.
        tickets: Vec<Ticket>,
        /// How current.
        consistency: Consistency,
    },
    /// An operator wants another node to lead, and asks the leader.
    TransferLeadership {
        /// Resolves when the leadership has gone over, or cannot.
        ticket: Ticket,
        /// Who is to lead.
        to: Transferee,
    },
    /// An operator wants other members.
    Reconfigure {
        /// Resolves when the whole change is committed, however many leaders it takes, or cannot be.
        ticket: Ticket,
        /// Who is to vote and to learn.
        target: Target,
        /// What the members must be for it to begin.
        precondition: Precondition,
    },
    /// All writes up to this one are durable.
    Persisted(WriteSeq),
    /// All entries up to this one have been applied to the state machine.
    Applied(Index),
    /// The answer to a [`ReadLog`].
    LogRead {
        /// The request.
        request: ReadLog,
        /// Entries from `request.from` on, at least one; or why there are none.
        entries: Result<Vec<Entry>, LogReadError>,
    },
    /// A snapshot of this node's own state machine is durable: the log before it may go.
    ///
    /// It names the members. A node that was not told of any, as one that joins at first, saves none.
    SnapshotSaved(SnapshotMeta),
    /// A [`SendSnapshot`] has ended.
    SnapshotSent(SnapshotSent),
    /// The state machine now is what the snapshot of [`Ready::restore`] says.
    Restored(EntryId),
    /// A peer's process is gone: its host refuses connections. May be said again and again, and be wrong:
    /// a follower of that peer then asks for pre-votes without waiting, which others deny while they hear it.
    PeerGone(NodeId),
}

/// How a [`SendSnapshot`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSent {
    /// Who was to have it.
    pub to: NodeId,
    /// The snapshot.
    pub id: EntryId,
    /// The term of the announcement: a leader of another term did not ask for it.
    pub term: Term,
    /// How it ended.
    pub outcome: Delivery,
}

/// A command to replicate.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The caller's name for it.
    pub ticket: Ticket,
    /// The state machine's bytes.
    pub command: Bytes,
}

/// Who is to lead after a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferee {
    /// This node.
    Node(NodeId),
    /// Whoever can soonest: for a leader that is to be shut down.
    Best,
}

/// How a transfer of a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The peer has all of it, durably.
    Delivered,
    /// It has not; the core decides when to try again.
    Failed,
}

/// Why entries could not be read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogReadError {
    /// They were compacted, or replaced by others: ask no more.
    Gone,
}

/// Everything that a node wants done, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// What happened, for people: traces, logs, metrics.
    pub events: Vec<Event>,
    /// Messages for peers. They may be lost.
    pub send: Vec<Envelope>,
    /// A write to the log, answered by [`Input::Persisted`].
    pub write: Option<Write>,
    /// Committed entries for the state machine, in order, without a gap, each once; answered by [`Input::Applied`].
    pub apply: Vec<Entry>,
    /// Reads that may be served once the state machine has applied the index.
    pub reads: Vec<ReadReady>,
    /// Tickets whose outcome is known. A committed one's entry is in `apply` of this very `Ready`.
    pub resolved: Vec<Resolved>,
    /// Reads of the log, answered by [`Input::LogRead`].
    pub read_log: Vec<ReadLog>,
    /// Snapshots to bring to peers, answered by [`Input::SnapshotSent`].
    pub send_snapshots: Vec<SendSnapshot>,
    /// A snapshot received to restore the state machine from, answered by [`Input::Restored`].
    pub restore: Option<SnapshotMeta>,
    /// The log up to this entry is needed no more.
    pub compact: Option<EntryId>,
    /// The members, at the start and whenever they are others than before.
    pub configuration: Option<Arc<Configuration>>,
}

impl Ready {
    /// Empties it; its vectors keep their room.
    pub fn clear(&mut self) {
        let Self {
            events,
            configuration,
            send,
            write,
            apply,
            reads,
            resolved,
            read_log,
            send_snapshots,
            restore,
            compact,
        } = self;
        (*configuration, *write, *restore, *compact) = (None, None, None, None);
        events.clear();
        send.clear();
        apply.clear();
        reads.clear();
        resolved.clear();
        read_log.clear();
        send_snapshots.clear();
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.send.is_empty()
            && self.write.is_none()
            && self.apply.is_empty()
            && self.reads.is_empty()
            && self.resolved.is_empty()
            && self.read_log.is_empty()
            && self.send_snapshots.is_empty()
            && self.restore.is_none()
            && self.compact.is_none()
            && self.configuration.is_none()
    }
}

/// A write to the log: parts that are there are written in the order of the fields.
///
/// Term, vote and entries go one way, in one order, so that none can overtake another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its number.
    pub seq: WriteSeq,
    /// The log is replaced by this snapshot: no entry before or after it remains.
    pub reset: Option<SnapshotMeta>,
    /// The term and the vote.
    pub hard_state: Option<HardState>,
    /// Entries to append. They replace everything in the log from the index of the first on.
    pub entries: Vec<Entry>,
}

/// What a node must never forget about its elections (paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term seen.
    pub term: Term,
    /// Who got this node's vote in that term.
    pub vote: Option<NodeId>,
}

/// A read that may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// The caller's name for it.
    pub ticket: Ticket,
    /// The state machine must have applied this far first. It is committed here: it will be applied.
    pub index: Index,
}

/// A ticket whose outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The caller's name for the request.
    pub ticket: Ticket,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed as this entry.
    Committed(EntryId),
    /// A transfer of leadership was completed.
    Transferred,
    /// It did not happen and never will: it may be tried again.
    Rejected(Rejection),
    /// This node will not learn what became of it: it may or may not happen.
    Unknown,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No leader is known.
    NoLeader,
    /// Another node leads, and did not take it.
    NotLeader {
        /// Who led, when this was decided.
        leader: Option<NodeId>,
    },
    /// More is uncommitted or waiting than [`Limits`] allow.
    Overloaded,
    /// The command alone is larger than [`Limits::max_command_bytes`], or the members are with what is said of them.
    TooLarge,
    /// Leadership is being handed over.
    Transferring,
    /// The node that is to lead is not a voter, or does not catch up; or nobody else can lead.
    BadTransferee,
    /// A change of members is under way, or the leader has not committed anything in its term yet.
    ChangeInProgress,
    /// The members are not those that the change was meant for.
    PreconditionFailed,
    /// Another change of members took this one's place.
    Superseded,
    /// This node's data cannot be given up or taken on under the same id: remove it, and add it under a new one.
    KindChange(NodeId),
    /// This node is a witness and keeps no data.
    Witness,
    /// This node is no member any more.
    Removed,
}

/// Asks for entries that the core does not hold in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLog {
    /// What they are for.
    pub purpose: Purpose,
    /// The first one.
    pub from: Index,
    /// The last one wanted.
    pub to: Index,
    /// Stop before this many bytes are exceeded, but bring at least one entry.
    pub max_bytes: u64,
}

/// What entries are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To send them to a peer that is behind.
    Replicate(NodeId),
    /// To give them to a pre-candidate that lacks them.
    Supply(NodeId),
    /// To apply them.
    Apply,
}

/// Asks that this node's newest snapshot be brought to a peer, beside the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSnapshot {
    /// Whether the peer is to have the state too, or is a witness and keeps none.
    pub kind: MemberKind,
    /// Delivered to the peer's core when the peer has all of the data, durably.
    pub announcement: Envelope,
    /// The snapshot.
    pub meta: SnapshotMeta,
}

impl SendSnapshot {
    /// The report that it has ended so.
    #[must_use]
    pub fn ended(&self, outcome: Delivery) -> SnapshotSent {
        SnapshotSent {
            to: self.announcement.to,
            id: self.meta.id,
            term: self.announcement.term,
            outcome,
        }
    }
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// The log it replicates.
    pub group: GroupId,
    /// Whether it keeps data. The configuration says the same of it.
    pub kind: MemberKind,
    /// Drawn at random by each start of the node.
    pub session: Session,
    /// The seed of its randomness (election timeouts).
    pub seed: u64,
    /// Ticks without a leader after which a follower campaigns; drawn anew between this and 1.5 times this.
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// Whether leaders hold leases, and how. All members must say the same. A node that is set up so and is
    /// never told [`Input::Now`] helps nobody be elected.
    pub leases: Option<Leases>,
    /// What bounds its memory.
    pub limits: Limits,
}

/// Bounds of what a node holds in memory. Bytes, unless said.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest command. What the log says of the members is not larger either, but may always be 2 KiB.
    pub max_command_bytes: u64,
    /// The entries of one message.
    pub max_message_bytes: u64,
    /// Entries sent to one follower and not yet acknowledged.
    pub max_inflight_bytes: u64,
    /// Entries appended by a leader and not yet committed and on its own disk.
    pub max_uncommitted_bytes: u64,
    /// Entries handed out to be applied and not yet reported.
    pub max_applying_bytes: u64,
    /// Entries kept in memory after they are durable and applied, for followers a little behind.
    pub window_bytes: u64,
    /// How many reads may wait for a quorum.
    pub max_pending_reads: usize,
    /// How many entries before a snapshot the log keeps for followers a little behind.
    pub retained_entries: u64,
}

impl Limits {
    /// The largest configuration that may be appended.
    pub(crate) fn max_change_bytes(&self) -> u64 {
        self.max_command_bytes.max(LEAST_CHANGE_BYTES)
    }
}

/// However small commands must be, members must come and go. The smallest file of a log has room for so much.
const LEAST_CHANGE_BYTES: u64 = 2048;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_command_bytes: 2 << 20,
            max_message_bytes: 1 << 20,
            max_inflight_bytes: 8 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_applying_bytes: 16 << 20,
            window_bytes: 8 << 20,
            max_pending_reads: 65_536,
            retained_entries: 5_000,
        }
    }
}

/// What a node finds on its disk when it starts.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its term and vote.
    pub hard_state: HardState,
    /// Its newest snapshot, from which the state machine was restored. At index 0 for a new group.
    pub snapshot: SnapshotMeta,
    /// The entry before the first of the log; at or before the snapshot's.
    pub base: EntryId,
    /// The first entry of each term in the log, in order.
    pub terms: Vec<EntryId>,
    /// The last entry of the log; `base` when it is empty.
    pub last: EntryId,
    /// The configurations among the log's entries after the snapshot, in order.
    pub configurations: Vec<(Index, Arc<Configuration>)>,
}

impl Stored {
    /// What a member of a new group starts from.
    #[must_use]
    pub fn new(configuration: Configuration) -> Self {
        Self {
            hard_state: HardState::default(),
            snapshot: SnapshotMeta {
                id: EntryId::ZERO,
                configuration: Arc::new(configuration),
            },
            base: EntryId::ZERO,
            terms: Vec::new(),
            last: EntryId::ZERO,
            configurations: Vec::new(),
        }
    }
}

/// Why a node cannot be set up so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Followers would campaign between two heartbeats.
    #[error(
        "an election timeout of {election} ticks needs more than 2 heartbeats of {heartbeat} ticks (at least 1)"
    )]
    ElectionTooShort {
        /// [`Config::election_ticks`].
        election: u32,
        /// [`Config::heartbeat_ticks`].
        heartbeat: u32,
    },
    /// Counting ticks up to multiples of it would overflow.
    #[error("an election timeout of {election} ticks is more than the longest, {most}: use longer ticks")]
    ElectionTooLong {
        /// [`Config::election_ticks`].
        election: u32,
        /// The longest.
        most: u32,
    },
    /// Nothing could ever be replicated or applied.
    #[error("limits.{limit} is 0, within which nothing moves: use 1 at least")]
    NoRoom {
        /// Which of [`Limits`].
        limit: &'static str,
    },
    /// The parts of [`Stored`] contradict each other.
    #[error("the stored log is inconsistent: {0}")]
    Inconsistent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(id) => write!(f, "committed {id}"),
            Self::Transferred => write!(f, "transferred"),
            Self::Rejected(rejection) => write!(f, "rejected: {rejection}"),
            Self::Unknown => write!(f, "unknown"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, "no leader is known"),
            Self::NotLeader { leader: Some(leader) } => write!(f, "{leader} leads, not this node"),
            Self::NotLeader { leader: None } => write!(f, "it was not taken by whoever led"),
            Self::Overloaded => write!(f, "too much is waiting"),
            Self::TooLarge => write!(f, "it is too large"),
            Self::Transferring => write!(f, "leadership is being handed over"),
            Self::BadTransferee => write!(f, "that node cannot lead"),
            Self::ChangeInProgress => write!(f, "another change of members is under way"),
            Self::PreconditionFailed => write!(f, "the members are not those that the change was meant for"),
            Self::Superseded => write!(f, "another change of members took its place"),
            Self::KindChange(node) => write!(
                f,
                "{node} cannot begin or cease to be a witness: remove it and add it under a new id"
            ),
            Self::Witness => write!(f, "this node is a witness and keeps no data"),
            Self::Removed => write!(f, "this node is no member any more"),
        }
    }
}
