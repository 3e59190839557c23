//! The small values everything else is made of: numbers with a meaning, key-values, events.

use std::fmt;

use bytes::Bytes;

/// A state of the keyspace: each write that changes something makes the next one.
///
/// An empty keyspace is at [`Revision::FIRST`]. Arithmetic saturates, so that no number from a client can
/// overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a keyspace nobody has written to.
    pub const FIRST: Self = Self(1);

    /// The compacted revision of a keyspace that was never compacted: below every revision.
    pub const NOTHING_COMPACTED: Self = Self(-1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The revision before this one.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names a lease. Chosen by the client or the server, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// Reads the wire's number, in which 0 stands for "no lease".
    #[must_use]
    pub fn from_wire(id: i64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Names one period between two renewals of a lease.
///
/// Every grant and every renewal in a keyspace takes the next number, so an epoch is never seen twice, not
/// even when a lease's id is granted again after its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseEpoch(pub u64);

/// Names a member of the cluster, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What clients may know of a member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member.
    pub id: MemberId,
    /// The name its operator gave it.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where its clients reach it.
    pub client_urls: Vec<String>,
}

/// A condition that stops writes until an operator or the cluster lifts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// A member has used up its quota: puts and grants are refused, reads, deletes and compaction are not.
    NoSpace,
    /// The members' data differ: every write is refused.
    Corrupt,
}

/// An alarm and the member that raised it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// The member it concerns.
    pub member: MemberId,
    /// What is wrong there.
    pub kind: AlarmKind,
}

/// A key as it was at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, never empty.
    pub key: Bytes,
    /// Its value; empty too when only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key, since it last did not exist.
    pub create_revision: Revision,
    /// The revision that wrote this value.
    pub mod_revision: Revision,
    /// How many times it was put since its creation, this time included: from 1.
    pub version: i64,
    /// The lease it ends with.
    pub lease: Option<LeaseId>,
}

/// One change of one key, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was created or overwritten.
    Put {
        /// The key as the change left it.
        kv: KeyValue,
        /// The key as it was before; none when this created it, or when that is compacted.
        prev: Option<KeyValue>,
    },
    /// The key was deleted.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision that deleted it.
        revision: Revision,
        /// The key as it was before; none when that is compacted.
        prev: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision that changed it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// The key as it was before.
    #[must_use]
    pub fn prev(&self) -> Option<&KeyValue> {
        match self {
            Self::Put { prev, .. } | Self::Delete { prev, .. } => prev.as_ref(),
        }
    }
}
