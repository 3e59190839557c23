//! The table of sessions: who is known, and which of their requests were applied (thesis §6.3).
//!
//! - A function of the commands alone: time is what [`Table::advance`] was told, limits what
//!   [`Table::configure`] was told. Tables that were told the same are equal.
//! - A request that was applied is known as applied until its client has acknowledged it; below that
//!   everything is refused. So none is applied twice while its session lives, and none afterwards.
//! - What is held is bounded: sessions by their number, each one's requests by a window, responses by
//!   bytes for each session and for all. A response beyond that is not kept, but its request is still
//!   known as applied.
//!
//! Left out: the machine, which [`super::Sessions`] has beside the table.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::command::{Moment, Seq, SessionId, millis};
use crate::mutant::mutant;

/// What bounds the memory and the life of sessions.
///
/// They are part of the replicated state: what a node is given matters while it leads. A response that
/// no bound has room for is not kept, and whoever repeats its request learns that it was applied, but
/// not what it gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many sessions there may be; more are refused.
    pub max_sessions: u64,
    /// How far a session's requests may be ahead of the first that is not acknowledged.
    pub max_unacknowledged: u64,
    /// How many bytes of responses are kept for one session.
    pub max_session_bytes: u64,
    /// How many bytes of responses are kept for all sessions.
    pub max_bytes: u64,
    /// How long a session may live without a sign of life.
    pub max_ttl: TimeToLive,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_sessions: 4096,
            max_unacknowledged: 256,
            max_session_bytes: 1 << 20,
            max_bytes: 64 << 20,
            max_ttl: TimeToLive::from_millis(3_600_000),
        }
    }
}

impl SessionLimits {
    pub(crate) fn to_fields(self) -> [u64; LIMIT_FIELDS] {
        [
            self.max_sessions,
            self.max_unacknowledged,
            self.max_session_bytes,
            self.max_bytes,
            self.max_ttl.as_millis(),
        ]
    }

    pub(crate) fn from_fields(fields: [u64; LIMIT_FIELDS]) -> Self {
        let [
            max_sessions,
            max_unacknowledged,
            max_session_bytes,
            max_bytes,
            max_ttl,
        ] = fields;
        Self {
            max_sessions,
            max_unacknowledged,
            max_session_bytes,
            max_bytes,
            max_ttl: TimeToLive::from_millis(max_ttl),
        }
    }
}

/// How long a session lives without a sign of life: whole milliseconds, at least [`MIN_TTL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeToLive(u64);

impl TimeToLive {
    /// The shortest: [`MIN_TTL`].
    pub const MIN: Self = Self(MIN_TTL_MILLIS);

    /// As near to `duration` as can be.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self::from_millis(millis(duration))
    }

    pub(crate) const fn from_millis(millis: u64) -> Self {
        match millis < MIN_TTL_MILLIS {
            true => Self(MIN_TTL_MILLIS),
            false => Self(millis),
        }
    }

    pub(crate) fn as_millis(self) -> u64 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// Why an entry did nothing for a session. Decided by the log, so each replica says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There are as many sessions as may be.
    #[error("there are {max} sessions already; close some, or wait until they expire")]
    TooManySessions {
        /// How many there may be.
        max: u64,
    },
    /// There is a session of this name already. Only a snapshot that is not of this log leads to it.
    #[error("{0} is there already, which a snapshot of another log must have brought")]
    NameTaken(SessionId),
    /// The session is not there: it expired, was closed, or never was.
    #[error("{0} expired, was closed or never was")]
    UnknownSession(SessionId),
    /// The client has said that it would not repeat this request.
    #[error("request {} was acknowledged: all below {} are", seq.0, acknowledged_below.0)]
    Acknowledged {
        /// Which request.
        seq: Seq,
        /// All below this are acknowledged.
        acknowledged_below: Seq,
    },
    /// The request is too far ahead of the first that is not acknowledged. It may be repeated later.
    #[error("request {} is too far ahead: all below {} may be taken", seq.0, end.0)]
    BeyondWindow {
        /// Which request.
        seq: Seq,
        /// The first that is too far ahead.
        end: Seq,
    },
    /// The request was applied earlier, once, but there was no room to keep its response.
    #[error("the request was applied, but its response was not kept")]
    ResponseNotKept,
}

/// What a table says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was never applied: apply it, and call [`Table::keep`].
    New,
    /// It was applied, with this response.
    Repeated(Kept),
    /// It must not be applied.
    Refused(Refusal),
}

/// What is known of a request that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Its response.
    Response(Bytes),
    /// That it was applied, and no more.
    Applied,
}

/// What a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many sessions.
    pub sessions: u64,
    /// How many requests that were applied and not acknowledged.
    pub requests: u64,
    /// How many bytes of responses.
    pub bytes: u64,
}

/// All sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub(super) now: Moment,
    pub(super) limits: SessionLimits,
    /// Shared with the views of snapshots, which cost no more than a pointer for each session.
    pub(super) sessions: BTreeMap<SessionId, Arc<Entry>>,
    /// Bytes of responses kept for all sessions.
    pub(super) bytes: u64,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ttl: TimeToLive,
    pub(super) deadline: Moment,
    pub(super) acknowledged_below: Seq,
    /// All at or above `acknowledged_below`, and within the window.
    pub(super) kept: BTreeMap<Seq, Kept>,
    /// Bytes of responses in `kept`.
    pub(super) bytes: u64,
}

impl Table {
    /// No sessions, at the beginning of time, with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            now: Moment::default(),
            limits: SessionLimits::default(),
            sessions: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Opens session `id`.
    ///
    /// # Errors
    /// When there are too many, or there is one of this name: no entry opens two, so a table that was
    /// restored says what is not so.
    pub fn open(&mut self, id: SessionId, ttl: TimeToLive) -> Result<(), Refusal> {
        let max = self.limits.max_sessions;
        if self.sessions.len() as u64 >= max {
            return Err(Refusal::TooManySessions { max });
        }
        if self.contains(id) {
            return Err(Refusal::NameTaken(id));
        }
        let ttl = ttl.min(self.limits.max_ttl);
        let entry = Entry {
            ttl,
            deadline: deadline(self.now, ttl),
            acknowledged_below: Seq(0),
            kept: BTreeMap::new(),
            bytes: 0,
        };
        self.sessions.insert(id, Arc::new(entry));
        Ok(())
    }

    /// Whether a request may be applied; also a sign of life.
    pub fn admit(&mut self, id: SessionId, seq: Seq, acknowledged_below: Seq) -> Admission {
        if let Err(refusal) = self.keep_alive(id, acknowledged_below) {
            return Admission::Refused(refusal);
        }
        let Some(entry) = self.sessions.get(&id) else {
            return Admission::Refused(Refusal::UnknownSession(id));
        };
        let acknowledged_below = entry.acknowledged_below;
        let end = Seq(acknowledged_below
            .0
            .saturating_add(self.limits.max_unacknowledged));
        // Thesis §6.3: what was acknowledged is forgotten, so it is never taken for new.
        if seq < acknowledged_below {
            Admission::Refused(Refusal::Acknowledged {
                seq,
                acknowledged_below,
            })
        } else if let Some(kept) = entry.kept.get(&seq).filter(|_| !mutant!(M62)) {
            Admission::Repeated(kept.clone())
        } else if seq >= end {
            Admission::Refused(Refusal::BeyondWindow { seq, end })
        } else {
            Admission::New
        }
    }

    /// Notes that an admitted request was applied, with its response if there is room.
    pub fn keep(&mut self, id: SessionId, seq: Seq, response: Option<Bytes>) {
        let limits = self.limits;
        let Some(entry) = self.sessions.get_mut(&id).map(Arc::make_mut) else {
            panic!(
                "{id} is gone between the admission of its request {} and its end",
                seq.0
            );
        };
        let room = limits
            .max_session_bytes
            .saturating_sub(entry.bytes)
            .min(limits.max_bytes.saturating_sub(self.bytes));
        let kept = match response {
            Some(response) if response.len() as u64 <= room => Kept::Response(response),
            Some(_) | None => Kept::Applied,
        };
        entry.bytes += kept.bytes();
        self.bytes += kept.bytes();
        let before = entry.kept.insert(seq, kept);
        assert!(
            before.is_none() || mutant!(M62),
            "request {} of {id} was admitted and applied twice",
            seq.0
        );
    }

    /// Renews a session, and forgets what its client acknowledges.
    ///
    /// # Errors
    /// When it is not there.
    pub fn keep_alive(&mut self, id: SessionId, acknowledged_below: Seq) -> Result<(), Refusal> {
        let Some(entry) = self.sessions.get_mut(&id).map(Arc::make_mut) else {
            return Err(Refusal::UnknownSession(id));
        };
        entry.deadline = deadline(self.now, entry.ttl);
        let freed = entry.acknowledge(acknowledged_below);
        self.bytes -= freed;
        Ok(())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When it is not there.
    pub fn close(&mut self, id: SessionId) -> Result<(), Refusal> {
        let entry = self.sessions.remove(&id).ok_or(Refusal::UnknownSession(id))?;
        self.bytes -= entry.bytes;
        Ok(())
    }

    /// Lets time pass and ends the sessions whose time is over, if time is `from`.
    ///
    /// Two leaders that measured the same time, one after the other or at once, thus do not add it up.
    pub fn advance(&mut self, from: Moment, by: Duration) {
        if from != self.now {
            return;
        }
        self.now = self.now.after(by.min(MAX_STEP));
        let now = self.now;
        let mut freed = 0;
        self.sessions.retain(|_, entry| {
            let lives = entry.deadline > now;
            freed += if lives { 0 } else { entry.bytes };
            lives
        });
        self.bytes -= freed;
    }

    /// Sets the limits. What is held already stays.
    pub fn configure(&mut self, limits: SessionLimits) {
        self.limits = limits;
    }

    /// The sessions' time.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Whether a session is there.
    #[must_use]
    pub fn contains(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Whether there are no sessions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What is held.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            sessions: self.sessions.len() as u64,
            requests: self.sessions.values().map(|entry| entry.kept.len() as u64).sum(),
            bytes: self.bytes,
        }
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    /// Forgets all below `below`; says how many bytes that frees. A late word of less does nothing.
    fn acknowledge(&mut self, below: Seq) -> u64 {
        if below <= self.acknowledged_below {
            return 0;
        }
        self.acknowledged_below = below;
        let rest = self.kept.split_off(&below);
        let forgotten = std::mem::replace(&mut self.kept, rest);
        let freed = forgotten.values().map(Kept::bytes).sum();
        self.bytes -= freed;
        freed
    }
}

impl Kept {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Response(response) => response.len() as u64,
            Self::Applied => 0,
        }
    }
}

/// Time passes in steps, and up to two of them began before a sign of life and are counted after it:
/// the one under way in the log, and the one that the leader is measuring.
fn deadline(now: Moment, ttl: TimeToLive) -> Moment {
    now.after(ttl.duration()).after(MAX_STEP * 2)
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sessions,
            requests,
            bytes,
        } = self;
        write!(f, "{sessions} sessions, {requests} requests, {bytes} bytes")
    }
}

/// How much time may pass at once. What a leader measured beyond that is not counted.
pub const MAX_STEP: Duration = Duration::from_secs(1);
/// The shortest time to live.
pub const MIN_TTL: Duration = Duration::from_millis(MIN_TTL_MILLIS);
const MIN_TTL_MILLIS: u64 = 100;
pub(crate) const LIMIT_FIELDS: usize = 5;
