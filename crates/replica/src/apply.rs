//! The apply side: owns the state machine, and nothing else touches it.
//!
//! - Entries are applied in the order of the log, each once, without a gap.
//! - Whoever proposed a command is answered here, with what applying it gave back.
//! - A query is answered once its index is applied (thesis §6.4), and never before.
//! - A snapshot is a view of the state fixed at one index. It is read chunk by chunk between batches:
//!   making one holds up the commands for as long as the machine needs for a chunk. That is the whole
//!   state for [`Typed`](crate::Typed), which encodes all of it at once.
//!
//! Left out: threads, and the writing of snapshots (the owner does both).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{Configuration, Entry, EntryId, Event, Index, MemberKind, Payload, SnapshotMeta};

use crate::machine::{ApplyError, Machine, RestoreError, SnapshotError};
use crate::mutant::mutant;
use crate::storage::{Snapshots, StorageError};

/// What the apply side is to do, in the order of the fields.
#[derive(Debug)]
pub struct ApplyTask<P, R> {
    /// What happened in the core that a machine may want to know.
    pub events: Vec<Event>,
    /// A received snapshot to restore the machine from: before the entries that follow it.
    pub restore: Option<SnapshotMeta>,
    /// Entries to apply.
    pub entries: Vec<Entry>,
    /// Who proposed which of the entries.
    pub proposers: Vec<(EntryId, P)>,
    /// Queries, each with the index that must be applied first.
    pub reads: Vec<(Index, R)>,
}

impl<P, R> ApplyTask<P, R> {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.restore.is_none()
            && self.entries.is_empty()
            && self.proposers.is_empty()
            && self.reads.is_empty()
    }
}

impl<P, R> Default for ApplyTask<P, R> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            restore: None,
            entries: Vec::new(),
            proposers: Vec::new(),
            reads: Vec::new(),
        }
    }
}

/// Takes the answer to one request.
pub trait Respond<T> {
    /// Answers.
    fn respond(self, value: T);
}

/// A query and where its answer goes.
#[derive(Debug)]
pub struct Reading<Q, A> {
    /// What is asked.
    pub query: Q,
    /// Takes the answer.
    pub responder: A,
}

/// When to make a snapshot: when either bound is reached, but not before what was applied weighs half
/// of the last snapshot.
///
/// So a large state is not written again for every few entries: over time, snapshots write no more
/// than three times what the log does.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// After this many entries.
    pub every_entries: u64,
    /// After entries of this many bytes.
    pub every_bytes: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            every_entries: 10_000,
            every_bytes: 64 << 20,
        }
    }
}

/// What a task came to; the owner tells the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The machine was restored from this snapshot.
    pub restored: Option<EntryId>,
    /// The last entry applied.
    pub applied: Index,
}

/// Why the apply side cannot go on. The node stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyFailure {
    /// A committed command means nothing to this process.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// A snapshot's file cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A snapshot cannot be made the state.
    #[error("snapshot {id}: {error}")]
    Restore {
        /// Which.
        id: EntryId,
        /// Why.
        error: RestoreError,
    },
}

/// Owns a machine and knows how far the log has been applied to it.
#[derive(Debug)]
pub struct Applier<M: Machine, A> {
    machine: M,
    kind: MemberKind,
    snapshots: Snapshots,
    policy: SnapshotPolicy,
    applied: EntryId,
    configuration: Arc<Configuration>,
    /// Queries whose index is not applied yet.
    waiting: BTreeMap<Index, Vec<Reading<M::Query, A>>>,
    view: View<M>,
    /// Applied since the last snapshot was begun.
    since: Since,
    /// What the last snapshot weighs, as far as it was read.
    snapshot_bytes: u64,
}

/// The snapshot being made.
enum View<M: Machine> {
    None,
    /// It has no chunks, being a witness's.
    Empty,
    /// Its chunks are being read.
    Open(M::Snapshot),
    /// There is no more to read; what was read is being written, or thrown away.
    Read,
}

#[derive(Debug, Default)]
struct Since {
    entries: u64,
    bytes: u64,
}

impl<M: Machine, A: Respond<M::Answer>> Applier<M, A> {
    /// Restores `machine` from the snapshot that the node starts from.
    ///
    /// # Errors
    /// When the snapshot cannot be read, or is no state of this machine.
    pub fn new(
        machine: M,
        snapshots: Snapshots,
        start: &SnapshotMeta,
        policy: SnapshotPolicy,
    ) -> Result<Self, ApplyFailure> {
        Self::of_kind(MemberKind::Full, machine, snapshots, start, policy)
    }

    /// As [`Self::new`], for a witness: `machine` stays as it is for ever, and snapshots carry no state.
    ///
    /// # Errors
    /// None: there is nothing to read.
    pub fn new_witness(
        machine: M,
        snapshots: Snapshots,
        start: &SnapshotMeta,
        policy: SnapshotPolicy,
    ) -> Result<Self, ApplyFailure> {
        Self::of_kind(MemberKind::Witness, machine, snapshots, start, policy)
    }

    fn of_kind(
        kind: MemberKind,
        machine: M,
        snapshots: Snapshots,
        start: &SnapshotMeta,
        policy: SnapshotPolicy,
    ) -> Result<Self, ApplyFailure> {
        let mut applier = Self {
            machine,
            kind,
            snapshots,
            policy,
            applied: EntryId::ZERO,
            configuration: Arc::clone(&start.configuration),
            waiting: BTreeMap::new(),
            view: View::None,
            since: Since::default(),
            snapshot_bytes: 0,
        };
        if start.id.index > Index::ZERO {
            applier.restore(start)?;
        }
        Ok(applier)
    }

    /// Carries out a task: answers those who proposed its entries, and every query that may be.
    ///
    /// # Errors
    /// When the machine can go on no further. Whoever was not answered must be told that the node stopped.
    pub fn process<P: Respond<M::Response>>(
        &mut self,
        task: ApplyTask<P, Reading<M::Query, A>>,
    ) -> Result<Progress, ApplyFailure> {
        for event in &task.events {
            self.machine.observe(event);
        }
        let mut proposers = Proposers::new(task.proposers);
        let mut answers = Vec::new();
        let mut entries = task.entries.into_iter().peekable();
        let restored = task.restore.as_ref().map(|meta| meta.id);
        if let Some(meta) = &task.restore {
            // What was committed before the snapshot came is applied for the sake of who proposed it.
            while let Some(entry) = entries.next_if(|entry| entry.id.index <= meta.id.index) {
                answers.extend(self.apply(entry, &mut proposers)?);
            }
            self.restore(meta)?;
        }
        for entry in entries {
            answers.extend(self.apply(entry, &mut proposers)?);
        }
        proposers.assert_all_answered();
        self.machine.batch_applied();
        // Whoever is told that a command is done finds everything published that it did.
        for (proposer, response) in answers {
            proposer.respond(response);
        }
        for (index, reading) in task.reads {
            self.waiting.entry(index).or_default().push(reading);
        }
        self.answer_queries();
        Ok(Progress {
            restored,
            applied: self.applied.index,
        })
    }

    /// Answers a query by the state as it is, however far behind it may be.
    pub fn read_local(&mut self, reading: Reading<M::Query, A>) {
        let answer = self.machine.query(reading.query);
        reading.responder.respond(answer);
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// The machine, to look at.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Whether so much was applied since the last snapshot that one should be begun.
    ///
    /// Stays true until it is begun, so that a wish that comes while one is being made is not lost.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        let SnapshotPolicy {
            every_entries,
            every_bytes,
        } = self.policy;
        let reached = self.since.entries >= every_entries || self.since.bytes >= every_bytes;
        reached && self.since.bytes >= self.snapshot_bytes / 2
    }

    /// Fixes a view of the state; none while one is being made, or when there is nothing to keep, or
    /// nobody has told who the members are, which every snapshot says.
    pub fn begin_snapshot(&mut self) -> Option<SnapshotMeta> {
        let is_idle = matches!(self.view, View::None) && self.since.entries > 0;
        if !is_idle || self.configuration.is_unknown() {
            return None;
        }
        self.view = match self.kind {
            MemberKind::Full => View::Open(self.machine.begin_snapshot()),
            MemberKind::Witness => View::Empty,
        };
        self.since = Since::default();
        self.snapshot_bytes = 0;
        Some(SnapshotMeta {
            id: self.applied,
            configuration: Arc::clone(&self.configuration),
        })
    }

    /// The next chunk of the view, of about `max_bytes` bytes at most; none at its end.
    ///
    /// # Errors
    /// When the machine cannot write its state down, or was restored from another's snapshot since
    /// the view was fixed. This snapshot will have no further chunk.
    pub fn snapshot_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>, SnapshotError> {
        if matches!(self.view, View::Empty) {
            self.view = View::Read;
            return Ok(None);
        }
        let View::Open(view) = &mut self.view else {
            return Err(SnapshotError("a received snapshot took its place".to_owned()));
        };
        if mutant!(M33) && self.snapshot_bytes == 0 {
            *view = self.machine.begin_snapshot();
        }
        let chunk = self.machine.snapshot_chunk(view, max_bytes);
        if let Ok(Some(chunk)) = &chunk {
            self.snapshot_bytes += chunk.len() as u64;
        }
        if !matches!(chunk, Ok(Some(_))) {
            self.close_view(View::Read);
        }
        chunk
    }

    /// The snapshot begun last is durable, or was given up: another may be begun.
    pub fn snapshot_ended(&mut self) {
        self.close_view(View::None);
    }

    /// Applies an entry; gives back who waits for its response, and the response.
    fn apply<P: Respond<M::Response>>(
        &mut self,
        entry: Entry,
        proposers: &mut Proposers<P>,
    ) -> Result<Option<(P, M::Response)>, ApplyFailure> {
        let id = entry.id;
        assert!(
            id.index == self.applied.index.next() && id.term >= self.applied.term,
            "entry {id} came to be applied after {}: the core must hand over each entry once and in order",
            self.applied
        );
        self.since.entries += 1;
        self.since.bytes += entry.weight();
        let mut answer = None;
        match entry.payload {
            // A witness keeps no state: that there was a command is all it knows.
            Payload::Command(_) if self.kind == MemberKind::Witness => {}
            Payload::Command(command) => {
                let response = self.machine.apply(id, command)?;
                answer = proposers.next_for(id).map(|proposer| (proposer, response));
            }
            Payload::Configuration(configuration) => self.configuration = configuration,
            Payload::Noop | Payload::Stripped => {}
        }
        self.applied = id;
        Ok(answer)
    }

    fn restore(&mut self, meta: &SnapshotMeta) -> Result<(), ApplyFailure> {
        let id = meta.id;
        assert!(
            id.index >= self.applied.index,
            "snapshot {id} is older than the state at {}: the core must not go back",
            self.applied
        );
        if !matches!(self.view, View::None) {
            self.close_view(View::Read);
        }
        if self.kind == MemberKind::Full {
            self.restore_machine(id)?;
        }
        self.applied = id;
        self.configuration = Arc::clone(&meta.configuration);
        self.since = Since::default();
        Ok(())
    }

    fn restore_machine(&mut self, id: EntryId) -> Result<(), ApplyFailure> {
        let mut bytes = 0;
        let count = |chunk: &io::Result<Bytes>| bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let restored = self.machine.restore(&mut self.snapshots.read(id)?.inspect(count));
        self.snapshot_bytes = bytes;
        restored.map_err(|error| ApplyFailure::Restore { id, error })
    }

    fn close_view(&mut self, next: View<M>) {
        if let View::Open(view) = std::mem::replace(&mut self.view, next) {
            self.machine.end_snapshot(view);
        }
    }

    fn answer_queries(&mut self) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.applied.index {
                return;
            }
            for reading in first.remove() {
                self.read_local(reading);
            }
        }
    }
}

/// Who proposed the entries of a task, in the order of the log.
struct Proposers<P> {
    rest: std::iter::Peekable<std::vec::IntoIter<(EntryId, P)>>,
}

impl<P> Proposers<P> {
    fn new(mut proposers: Vec<(EntryId, P)>) -> Self {
        proposers.sort_by_key(|(id, _)| id.index);
        Self {
            rest: proposers.into_iter().peekable(),
        }
    }

    fn next_for(&mut self, id: EntryId) -> Option<P> {
        self.rest
            .next_if(|(proposed, _)| *proposed == id)
            .map(|(_, proposer)| proposer)
    }

    fn assert_all_answered(&mut self) {
        let left = self.rest.peek().map(|(id, _)| *id);
        assert!(
            left.is_none(),
            "{left:?} was called committed, but is no command of this batch: the core must hand over both at once"
        );
    }
}

impl<M: Machine> std::fmt::Debug for View<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Empty => "Empty",
            Self::Open(_) => "Open",
            Self::Read => "Read",
        })
    }
}
