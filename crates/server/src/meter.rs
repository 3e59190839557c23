//! Measures what the keyspace does, and tells of what took long.
//!
//! No value that a client has written gets into the log, and no key: only what was done, how much of it, and how
//! long it took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_kv::{AuthCommand, Change, Command, Error, Response};

use crate::machine::Answer;
use crate::metrics::{Metrics, RemovalStep};
use crate::seldom::Seldom;

/// Measures what the keyspace does, for the thread that drives it.
pub(crate) struct Meter {
    metrics: Arc<Metrics>,
    /// What takes longer is told of.
    warn_after: Duration,
    warned: Seldom,
    /// When the batch began that is being applied.
    batch: Option<Instant>,
    /// When the removal of compacted history began that is under way.
    removal: Option<Instant>,
}

/// A command that is being applied.
pub(crate) struct Work {
    op: &'static str,
    bytes: usize,
    begun: Instant,
}

impl Work {
    /// What this command, of so many bytes, begins at this moment.
    pub(crate) fn begin(command: &Command, bytes: usize) -> Work {
        Work {
            op: op(command),
            bytes,
            begun: Instant::now(),
        }
    }
}

impl Meter {
    /// A meter that tells of what takes longer than `warn_after`.
    pub(crate) fn new(metrics: &Arc<Metrics>, warn_after: Duration) -> Meter {
        Meter {
            metrics: Arc::clone(metrics),
            warn_after,
            warned: Seldom::new(),
            batch: None,
            removal: None,
        }
    }

    /// A command was applied.
    pub(crate) fn applied(&mut self, work: &Work, result: &Result<Response, Error>, changes: &[Change]) {
        self.batch.get_or_insert(work.begun);
        let (took, applied) = (work.begun.elapsed(), &self.metrics.applied);
        applied.count_command(work.op, took, result.as_ref().ok());
        applied.count_changes(changes);
        self.warn_if_slow(work.op, took, Some(work.bytes));
    }

    /// All commands of a batch are applied, and what they have done is published.
    pub(crate) fn batch_applied(&mut self) {
        if let Some(begun) = self.batch.take() {
            self.metrics.applied.time_batch(begun.elapsed());
        }
    }

    /// A query that came at this moment was answered.
    pub(crate) fn answered(&self, begun: Instant, answer: &Answer) {
        let (took, applied) = (begun.elapsed(), &self.metrics.applied);
        let op = match answer {
            Answer::Range(range) => {
                applied.count_range(took, range.is_ok());
                "read-only range"
            }
            Answer::Page(page) => {
                applied.count_range(took, page.is_ok());
                "read-only range"
            }
            Answer::Txn(txn) => {
                applied.count_read_txn(took, txn.as_ref().ok());
                "read-only txn"
            }
            Answer::HashKv(_) => return applied.time_hash(took),
            Answer::Nothing | Answer::Leases(_) | Answer::Lease(_) | Answer::Auth(_) => return,
            Answer::Members(_) | Answer::Alarms(_) | Answer::Figures(_) | Answer::Chores(_) => return,
            Answer::Backup(_) | Answer::BackupBatch(_) => return,
        };
        self.warn_if_slow(op, took, None);
    }

    /// A step of removing compacted history was made.
    pub(crate) fn removed(&mut self, step: &RemovalStep) {
        let begun = *self.removal.get_or_insert(step.begun);
        self.metrics.applied.count_removal(step);
        if !step.is_more_left {
            self.removal = None;
            self.metrics.applied.time_removal(begun.elapsed());
        }
    }

    /// A snapshot is being taken over, until what is given back is dropped.
    pub(crate) fn restoring(&self) -> Restoring {
        self.metrics.applied.restoring.set(1);
        Restoring(Arc::clone(&self.metrics))
    }

    fn warn_if_slow(&self, op: &'static str, took: Duration, request_bytes: Option<usize>) {
        if took <= self.warn_after {
            return;
        }
        self.metrics.applied.count_slow();
        if self.warned.is_due(Instant::now()) {
            let expected = self.warn_after;
            tracing::warn!(op, ?took, ?expected, request_bytes, "apply request took too long");
        }
    }
}

/// A snapshot that is being taken over.
pub(crate) struct Restoring(Arc<Metrics>);

impl Drop for Restoring {
    fn drop(&mut self) {
        self.0.applied.restoring.set(0);
    }
}

/// What etcd calls a command where it measures applying it; those that it does not have are called in its manner.
fn op(command: &Command) -> &'static str {
    match command {
        Command::Put(_) => "Put",
        Command::DeleteRange(_) => "DeleteRange",
        Command::Txn(_) => "Txn",
        Command::Compact { .. } => "Compaction",
        Command::LeaseGrant { .. } => "LeaseGrant",
        Command::LeaseRevoke { .. } => "LeaseRevoke",
        Command::LeaseRenew { .. } => "LeaseRenew",
        Command::PublishMember(_) => "ClusterMemberAttrSet",
        Command::Alarm { .. } => "Alarm",
        Command::Auth(command) => auth_op(command),
    }
}

fn auth_op(command: &AuthCommand) -> &'static str {
    match command {
        AuthCommand::Enable => "AuthEnable",
        AuthCommand::Disable => "AuthDisable",
        AuthCommand::Login(_) => "Authenticate",
        AuthCommand::UserAdd { .. } => "AuthUserAdd",
        AuthCommand::UserDelete { .. } => "AuthUserDelete",
        AuthCommand::UserChangePassword { .. } => "AuthUserChangePassword",
        AuthCommand::UserGrantRole { .. } => "AuthUserGrantRole",
        AuthCommand::UserRevokeRole { .. } => "AuthUserRevokeRole",
        AuthCommand::RoleAdd { .. } => "AuthRoleAdd",
        AuthCommand::RoleDelete { .. } => "AuthRoleDelete",
        AuthCommand::RoleGrantPermission { .. } => "AuthRoleGrantPermission",
        AuthCommand::RoleRevokePermission { .. } => "AuthRoleRevokePermission",
    }
}
