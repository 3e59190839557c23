//! The driver's ports in a running node: queues with a thread at their other end.

use std::sync::Arc;
use std::time::Duration;

use quorate_raft::{Configuration, EntryId, Envelope, Event, ReadLog, SendSnapshot, SnapshotMeta, Write};
use tokio::sync::oneshot;

use super::inbox::Fate;
use super::requests::{Operator, Proposer, Reader, Request, refuse};
use crate::apply::ApplyTask;
use crate::config::Observer;
use crate::driver::{DriverInput, Failure, Ports};
use crate::local::{LocalOutbox, MemoryLog};
use crate::machine::Machine;
use crate::queue::Queue;
use crate::transport::Outbox;

/// Work for the log thread.
pub(crate) enum LogWork {
    Write(Write),
    Compact(EntryId),
}

/// Work for the apply thread.
pub(crate) enum ApplyWork<M: Machine> {
    Task(ApplyTask<Proposer<M>, Reader<M>>),
    /// Answer by the state as it is.
    Local(Reader<M>),
    /// Begin a snapshot, and say where.
    BeginSnapshot(oneshot::Sender<Option<EntryId>>),
    /// This node leads, and so much time has passed.
    Upkeep(Duration),
    /// The snapshot writer is ready for the next chunk.
    NextChunk,
    /// The snapshot is durable, or was given up.
    SnapshotEnded,
}

/// Work for the snapshot writer.
pub(crate) enum SnapshotWork {
    Begin(SnapshotMeta),
    Chunk(bytes::Bytes),
    Finish,
    GiveUp,
}

/// How messages leave.
pub(super) enum Post {
    /// Over TCP.
    Sockets(Outbox),
    /// Within the process.
    Local(LocalOutbox),
}

/// Where the log is.
pub(super) enum Log {
    /// On a disk, each end of which has a thread.
    Disk {
        writes: Arc<Queue<LogWork>>,
        reads: Arc<Queue<ReadLog>>,
    },
    /// In memory.
    Memory(MemoryLog),
}

/// What the loop pushes to.
pub(crate) struct ThreadPorts<M: Machine> {
    pub(super) post: Post,
    pub(super) log: Log,
    /// What a log in memory has done already.
    pub(super) done: Vec<Request<M>>,
    pub(super) apply: Arc<Queue<ApplyWork<M>>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) fate: Arc<Fate<M>>,
    /// Whether something happened since the status was published that its watchers wait for.
    pub(super) role_changed: bool,
}

// A queue is closed only when the node ends: what cannot be pushed then has nobody to serve.
impl<M: Machine> Ports for ThreadPorts<M> {
    type Proposer = Proposer<M>;
    type Reader = Reader<M>;
    type Operator = Operator;

    fn send(&mut self, envelope: Envelope) {
        match &self.post {
            Post::Sockets(outbox) => outbox.send(envelope),
            Post::Local(outbox) => outbox.send(envelope),
        }
    }

    fn write(&mut self, write: Write) {
        match &mut self.log {
            Log::Disk { writes, .. } => drop(writes.push(LogWork::Write(write))),
            Log::Memory(log) => self.done.push(DriverInput::Persisted(log.write(write))),
        }
    }

    fn apply(&mut self, task: ApplyTask<Proposer<M>, Reader<M>>) {
        let _ = self.apply.push(ApplyWork::Task(task));
    }

    fn read_log(&mut self, request: ReadLog) {
        match &self.log {
            Log::Disk { reads, .. } => drop(reads.push(request)),
            Log::Memory(log) => {
                let entries = log.read(&request);
                self.done.push(DriverInput::LogRead { request, entries });
            }
        }
    }

    fn send_snapshot(&mut self, request: SendSnapshot) {
        match &self.post {
            Post::Sockets(outbox) => outbox.send_snapshot(request),
            Post::Local(outbox) => outbox.send_snapshot(request),
        }
    }

    fn compact(&mut self, upto: EntryId) {
        match &mut self.log {
            Log::Disk { writes, .. } => drop(writes.push(LogWork::Compact(upto))),
            Log::Memory(log) => log.compact(upto),
        }
    }

    fn configure(&mut self, members: Arc<Configuration>) {
        match &self.post {
            Post::Sockets(outbox) => outbox.configure(members),
            // Whoever is in the process is reached.
            Post::Local(_) => {}
        }
        self.role_changed = true;
    }

    fn observe(&mut self, event: &Event) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
        if matches!(event, Event::Committed { .. }) {
            return;
        }
        if let Event::SecondLeader { .. } = event {
            // Paper §5.2 rules it out, so a member forgot its vote: nothing either leader says is safe.
            self.fate.fail(&format!(
                "it {event}: some member lost its data. Stop that member before starting this one again: the others go on without it, and it can be replaced by a new one"
            ));
        }
        match (&self.observer, event) {
            (Some(_), _) => tracing::debug!("{event}"),
            (None, Event::Ignored { .. }) => tracing::warn!("{event}"),
            (None, _) => tracing::info!("{event}"),
        }
        self.role_changed = true;
    }

    fn proposal_failed(&mut self, proposer: Proposer<M>, failure: Failure) {
        proposer.fail(failure);
    }

    fn read_failed(&mut self, reader: Reader<M>, failure: Failure) {
        refuse(reader, failure);
    }

    fn operation_ended(&mut self, operator: Operator, result: Result<(), Failure>) {
        operator.end(result);
    }
}
