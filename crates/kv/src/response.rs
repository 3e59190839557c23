//! What a command did, for the client that sent it, for watchers, and for the lease clock.

use crate::{Alarm, Error, Event, KeyValue, LeaseEpoch, LeaseId, Revision, SessionEvent, record::Record};

/// All that came of applying one command.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The keyspace's revision after the command: the header of the answer.
    pub revision: Revision,
    /// The answer. An error means that nothing was changed.
    pub result: Result<Response, Error>,
    /// What was changed, in order; all of one revision. For [`crate::WatchHub::publish`].
    pub changes: Vec<Change>,
    /// What happened to leases. For [`crate::LeaseClock::observe`].
    pub leases: Vec<LeaseEvent>,
    /// What happened to tokens. For [`crate::Sessions::observe`].
    pub sessions: Vec<SessionEvent>,
}

/// The answer to a command that succeeded: one variant for each variant of [`crate::Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A key was put.
    Put(PutResponse),
    /// Keys were deleted.
    DeleteRange(DeleteRangeResponse),
    /// A transaction ran.
    Txn(TxnResponse),
    /// History was compacted; removing it from memory goes on in the background.
    Compact,
    /// A lease was granted.
    LeaseGrant {
        /// The lease.
        id: LeaseId,
        /// Its time to live, in seconds.
        ttl_secs: i64,
    },
    /// A lease and its keys are gone.
    LeaseRevoke,
    /// Leases were renewed: one answer for each id of the command, in its order.
    LeaseRenew(Vec<Renewal>),
    /// A member's attributes are known.
    PublishMember,
    /// The alarm the command raised or lifted; none if there was none to lift.
    Alarm(Vec<Alarm>),
    /// Users, roles or permissions are changed, or a token is known.
    Auth,
}

/// The answer to a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResponse {
    /// The revision of the put.
    pub revision: Revision,
    /// The key as it was before, if asked for.
    pub prev: Option<KeyValue>,
}

/// The answer to a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// The revision of the deletion; the current one if nothing was there to delete.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: usize,
    /// The keys as they were before, in key order, if asked for.
    pub prev: Vec<KeyValue>,
}

/// The answer to a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    /// The newest revision when it was read.
    pub revision: Revision,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// How many keys are in the range, whatever the limit and the filter.
    pub count: usize,
}

/// The answer to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// The revision after the transaction. Of a nested one: the revision when it ended, which etcd leaves
    /// out of its header.
    pub revision: Revision,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// An answer for each operation of the chosen list.
    pub responses: Vec<OpResponse>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a nested transaction.
    Txn(TxnResponse),
}

/// What became of one lease of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The lease.
    pub id: LeaseId,
    /// Its time to live in seconds, which begins anew; none if there is no such lease.
    pub ttl_secs: Option<i64>,
}

/// Something that happened to a lease. For [`crate::LeaseClock::observe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Its time begins, by a grant or a renewal.
    Started {
        /// The lease.
        id: LeaseId,
        /// How long it lives from here, in seconds.
        ttl_secs: i64,
        /// The name of this period.
        epoch: LeaseEpoch,
    },
    /// It was revoked.
    Ended {
        /// The lease.
        id: LeaseId,
    },
}

/// One change of one key, as the store keeps it: cheap to clone, without a copy of key or value.
#[derive(Clone, Debug)]
pub struct Change {
    pub(crate) record: Record,
    pub(crate) previous: Option<Record>,
}

impl Change {
    /// The revision of the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.record.revision()
    }

    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.record.key()
    }

    /// The change as a watcher sees it.
    #[must_use]
    pub fn to_event(&self) -> Event {
        let prev = self.previous.as_ref().map(Record::to_key_value);
        match self.record.kind() {
            crate::record::Kind::Put => Event::Put {
                kv: self.record.to_key_value(),
                // A key that a transaction deletes and puts again is created, and so has nothing before it.
                prev: prev.filter(|_| self.record.create() < self.record.revision()),
            },
            crate::record::Kind::Tombstone => Event::Delete {
                key: self.record.to_key_value().key,
                revision: self.revision(),
                prev,
            },
        }
    }

    /// How many bytes its event takes in memory and, nearly, on the wire.
    pub(crate) fn size(&self) -> usize {
        self.record.size() + self.previous.as_ref().map_or(0, Record::size)
    }
}
