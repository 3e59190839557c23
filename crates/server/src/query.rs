//! What is asked of the keyspace, and how it answers.

use bytes::Bytes;
use quorate_kv::{
    Alarm, Backup, BackupBatch, BackupLimits, Caller, Error, HashKv, KeyRange, LeaseId, Member, Page,
    PageRequest, Range, RangeResponse, ReadTxn, Revision, TxnResponse,
};

use crate::auth::{AuthAnswer, AuthQuestion};
use crate::machine::BackupView;

/// What is asked of the keyspace.
pub(crate) enum Query {
    /// Nothing: that it is answered is the answer.
    Nothing,
    /// Keys, for somebody.
    Range(Caller, Range),
    /// A transaction that only reads, for somebody.
    Txn(Caller, ReadTxn),
    /// A hash of the keyspace at a revision; none: the current one.
    HashKv(Option<Revision>),
    /// All leases, the next to expire first.
    Leases,
    /// One lease. Its keys are not for everybody.
    Lease(LeaseId),
    /// One lease, for somebody who wants to know its keys.
    LeaseWithKeys(Caller, LeaseId),
    /// Users, roles and rights.
    Auth(AuthQuestion),
    /// The members that have published themselves.
    Members,
    /// The alarms that are on.
    Alarms,
    /// Sizes and counts.
    Figures,
    /// A piece of a range, for somebody who may read all of these keys.
    Page(Caller, KeyRange, PageRequest),
    /// The state, to be written to a backup.
    BeginBackup,
    /// The next versions of such a state.
    BackupBatch(Backup, BackupLimits),
    /// A step of what can be done between commands.
    Chores,
}

/// The answer to the query of the same name; some with the revision they are of.
pub(crate) enum Answer {
    Nothing,
    Range(Result<RangeResponse, Error>),
    Txn(Result<TxnResponse, Error>),
    HashKv(Result<(Revision, HashKv), Error>),
    Leases((Revision, Vec<LeaseId>)),
    Lease(Result<(Revision, Option<LeaseView>), Error>),
    Auth(AuthAnswer),
    Members(Vec<Member>),
    Alarms(Vec<Alarm>),
    Figures(Figures),
    Page(Result<Page, Error>),
    Backup(BackupView),
    /// None if the keyspace has been replaced since the backup was begun.
    BackupBatch((Backup, Option<BackupBatch>)),
    Chores(Chores),
}

/// A lease as clients see it.
pub(crate) struct LeaseView {
    /// What it was granted for, in seconds.
    pub(crate) granted_secs: i64,
    /// What is left of it, in whole seconds.
    pub(crate) left_secs: i64,
    /// The keys that end with it.
    pub(crate) keys: Vec<Bytes>,
}

/// Sizes and counts of the keyspace.
pub(crate) struct Figures {
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) keys: i64,
    pub(crate) total_bytes: i64,
    pub(crate) in_use_bytes: i64,
    pub(crate) alarms: Vec<Alarm>,
}

/// Whether there is more to do between commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chores {
    Left,
    Done,
}
