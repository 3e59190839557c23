//! One node of a cluster, and what it waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_raft::{
    Configuration, Entry, Index, LogReadError, MemberKind, Node, ReadLog, SendSnapshot, SnapshotMeta, Status,
    Write,
};

use super::disk::Disk;

pub(super) type FoundEntries = Result<Vec<Entry>, LogReadError>;

/// When a disk reads the entries that it is asked for, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogRead {
    /// When it was asked: entries may have been replaced since.
    Early,
    /// When it answers.
    Late,
    /// It says that they are gone.
    Gone,
}

/// One node and what it waits for.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) node: Option<Node>,
    /// What survives a crash.
    pub(crate) durable: Disk,
    /// The same once all writes are done.
    pub(crate) written: Disk,
    pub(super) writes: VecDeque<Write>,
    pub(super) applying: VecDeque<Entry>,
    pub(super) applied: Index,
    pub(super) handed: Index,
    pub(super) restore: Option<SnapshotMeta>,
    /// Reads of the log, with what the disk held when they were asked for.
    pub(super) log_reads: VecDeque<(ReadLog, FoundEntries)>,
    pub(super) snapshots: VecDeque<SendSnapshot>,
    pub(super) lives: u64,
    pub(super) kind: MemberKind,
    /// The members as it said when it was last looked at.
    pub(crate) configuration: Arc<Configuration>,
}

impl Member {
    pub(super) fn new(configuration: Configuration, kind: MemberKind) -> Self {
        Self {
            node: None,
            durable: Disk::new(configuration.clone()),
            configuration: Arc::new(configuration.clone()),
            kind,
            written: Disk::new(configuration),
            writes: VecDeque::new(),
            applying: VecDeque::new(),
            applied: Index::ZERO,
            handed: Index::ZERO,
            restore: None,
            log_reads: VecDeque::new(),
            snapshots: VecDeque::new(),
            lives: 0,
        }
    }

    /// None while it is down.
    pub(crate) fn status(&self) -> Option<Status> {
        self.node.as_ref().map(Node::status)
    }

    /// Forgets what is not durable, and starts from what is.
    pub(super) fn forget(&mut self) {
        self.written = self.durable.clone();
        self.writes.clear();
        self.applying.clear();
        self.applied = self.durable.snapshot.id.index;
        self.handed = self.applied;
        self.restore = None;
        self.log_reads.clear();
        self.snapshots.clear();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.writes.is_empty()
            && self.applying.is_empty()
            && self.restore.is_none()
            && self.log_reads.is_empty()
            && self.snapshots.is_empty()
    }
}

pub(super) fn describe(write: &Write) -> String {
    let mut line = format!("writes {}", write.seq);
    if let Some(meta) = &write.reset {
        line += &format!(" snapshot {}", meta.id);
    }
    if let Some(hard_state) = write.hard_state {
        let vote = hard_state
            .vote
            .map_or("nobody".to_string(), |vote| vote.to_string());
        line += &format!(" term={} vote={vote}", hard_state.term);
    }
    if !write.entries.is_empty() {
        let entries: Vec<String> = write.entries.iter().map(ToString::to_string).collect();
        line += &format!(" [{}]", entries.join(", "));
    }
    line
}
