//! The etcd keyspace as a deterministic state machine.
//!
//! [`Keyspace`] is the replicated state: it applies [`Command`]s that the log has agreed on and answers
//! reads. [`WatchHub`] brings its changes to watchers, [`LeaseClock`] tells when leases end. All three can
//! be driven without a clock, a thread or a socket: time is an argument.
//!
//! - Two keyspaces that applied the same commands are equal: no clock, no randomness, no hash order.
//! - A command that fails changes nothing. No command, whoever made it, can cause a panic.
//! - A revision is never seen in part: not by a read, not by a watcher, not in a snapshot.
//! - What is readable depends on commands alone. When compaction frees memory is nobody's business.
//!
//! It knows nothing of Raft, of the wire messages of etcd, or of disks: `quorate-server` translates between
//! etcd's protobuf messages and the types here. How passwords are hashed and tokens made is left out.
//!
//! To read it: [`Command`] and [`Response`], then `keyspace.rs` and `txn.rs`; below them `store.rs` with
//! `index.rs` and `log.rs`; beside them `watch/`, `lease_clock.rs` and `auth/`.

#![forbid(unsafe_code)]

mod auth;
mod backup;
mod check;
mod command;
mod error;
mod hash;
mod import;
mod index;
mod key_range;
mod keyspace;
mod lease;
mod lease_clock;
mod log;
mod pages;
mod proposal;
mod range;
mod record;
mod request;
mod response;
mod restore;
mod snapshot;
mod snapshot_auth;
mod store;
mod sweep;
mod txn;
mod types;
mod watch;
mod wire;

pub use auth::{
    Access, AuthCommand, AuthRevision, AuthStatus, AuthStore, AuthSwitch, Caller, Credentials, Login, Moment,
    PasswordHash, Permission, Right, RoleName, SessionEvent, Sessions, TokenDigest, UnixSeconds, UserName,
};
pub use backup::{Backup, BackupBatch, BackupHead, BackupLimits, BackupUser, Version, VersionContent};
pub use check::{MAX_TTL_SECS, MAX_TXN_DEPTH};
pub use command::{AlarmAction, Command, Limits, RevokeCause};
pub use error::{Compacted, DecodeError, Error, RestoreError};
pub use hash::HashKv;
pub use import::{Bump, Import, ImportError, Imported};
pub use key_range::{KeyRange, KeyRanges};
pub use keyspace::Keyspace;
pub use lease::Lease;
pub use lease_clock::LeaseClock;
pub use pages::{Page, PageRequest};
pub use proposal::Proposal;
pub use request::{
    Assign, Compare, DeleteRange, Op, Operand, Projection, Put, PutParts, Range, ReadTxn, Relation,
    RevisionFilter, SortOrder, SortTarget, Txn,
};
pub use response::{
    Applied, Change, DeleteRangeResponse, LeaseEvent, OpResponse, PutResponse, RangeResponse, Renewal,
    Response, TxnResponse,
};
pub use snapshot::Snapshot;
pub use store::{HistoryBatch, HistoryLimits, StoreSize};
pub use types::{Alarm, AlarmKind, Event, KeyValue, LeaseEpoch, LeaseId, Member, MemberId, Revision};
pub use watch::{
    CancelCause, CatchUp, StreamId, Waker, WatchConfig, WatchHub, WatchId, WatchOutput, WatchRefusal,
    WatchSpec, WatchStart, WatchStats,
};
