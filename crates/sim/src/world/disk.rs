//! The log's side of a node: what production has a log thread and a log reader for.
//!
//! What waits is appended together and made durable by one sync, which takes its time: a crash in
//! between leaves any part of it.

use std::time::Duration;

use quorate::driver::DriverInput;
use quorate::storage::StorageError;
use quorate_raft::{NodeId, ReadLog, Write, WriteSeq};

use super::{Happening, SLOW, Wiring, World};
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::mirror::changes;
use crate::ports::LogJob;
use crate::server::{Covered, DiskFailure, Life, LogSide};

impl World {
    /// Appends what waits, if the disk is free, and begins its sync.
    pub(super) fn begin_sync(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        if process.log.syncing.is_some() || process.log.jobs.is_empty() {
            return Ok(());
        }
        match process.log.append_all() {
            Err(error) => self.log_failed(node, &error),
            Ok(None) => Ok(()),
            Ok(Some(last)) => {
                let after = self.disk_time(node);
                self.schedule.after(after, Happening::Synced(node, life));
                if self.wiring == Wiring::PersistedBeforeSync {
                    return self.give(node, life, DriverInput::Persisted(last.seq));
                }
                Ok(())
            }
        }
    }

    /// The sync under way is done: what it covers is durable.
    pub(super) fn synced(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        let lies = self.wiring == Wiring::LyingDisk;
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let covered = process.log.syncing.take().expect("a sync ends that has begun");
        if lies {
            self.safety.synced(node, covered.changes);
            self.give(node, life, DriverInput::Persisted(covered.seq))?;
            return self.begin_sync(node, life);
        }
        match process.log.sync() {
            Err(error) => self.log_failed(node, &error),
            Ok(seq) => {
                self.safety.synced(node, covered.changes);
                self.for_spec(|spec| spec.synced(node, covered.changes));
                self.look_at_disk(node)?;
                self.give(node, life, DriverInput::Persisted(seq))?;
                self.begin_sync(node, life)
            }
        }
    }

    fn log_failed(&mut self, node: NodeId, error: &StorageError) -> Result<(), Violation> {
        self.mark_if_full(node, Mark::LogFull);
        self.stop_failed(node, error)
    }

    /// Something was refused, perhaps because the disk is full.
    pub(super) fn mark_if_full(&mut self, node: NodeId, mark: Mark) {
        if self.servers[&node].failure() == DiskFailure::Full {
            self.marks.reach(mark);
        }
    }

    /// Sometimes looks what a start would find if the power failed now.
    fn look_at_disk(&mut self, node: NodeId) -> Result<(), Violation> {
        let profile = self.profile.node.clone();
        let server = self.server(node);
        if server.disk_rng.below(SYNCS_PER_LOOK) != 0 {
            return Ok(());
        }
        let invariant = Invariant::Recovery;
        let stored = server.found_if_power_failed(&profile);
        let stored = stored.map_err(|detail| Violation { invariant, detail })?;
        self.safety.holds_on_disk(node, &stored)
    }

    pub(super) fn read_later(&mut self, node: NodeId, life: Life, request: ReadLog) {
        let after = self.disk_time(node);
        self.schedule
            .after(after, Happening::LogRead(node, life, request));
    }

    pub(super) fn log_read(&mut self, node: NodeId, life: Life, request: ReadLog) -> Result<(), Violation> {
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let entries = process.reader.read(&request).map_err(|error| Violation {
            invariant: Invariant::Recovery,
            detail: format!("{node} cannot read its log for {request:?}: {error}"),
        })?;
        let mark = if entries.is_ok() {
            Mark::LogRead
        } else {
            Mark::LogGone
        };
        self.marks.reach(mark);
        self.give(node, life, DriverInput::LogRead { request, entries })
    }

    /// How long the disk takes for something that begins now.
    pub(super) fn disk_time(&mut self, node: NodeId) -> Duration {
        let (now, profile) = (self.now(), self.profile.disk.clone());
        let server = self.server(node);
        let slow = if server.slow_until > now {
            server.disk_rng.span(Duration::ZERO, SLOW)
        } else {
            Duration::ZERO
        };
        server.stalled_until.since(now) + server.disk_rng.tail(profile.latency, profile.jitter) + slow
    }
}

impl LogSide {
    /// Appends every write that waits. Returns what a sync would cover; none if nothing needs one.
    fn append_all(&mut self) -> Result<Option<Covered>, StorageError> {
        let mut writes: Vec<Write> = Vec::new();
        for job in self.jobs.drain(..) {
            match job {
                LogJob::Write(write) => writes.push(write),
                LogJob::Compact(upto) => self.compact = Some(upto),
            }
        }
        let Some(last) = writes.last() else {
            self.compact_waiting()?;
            return Ok(None);
        };
        let covered = Covered {
            changes: writes.iter().map(|write| changes(write).count()).sum(),
            seq: last.seq,
        };
        self.storage.append(&writes)?;
        self.syncing = Some(covered);
        Ok(Some(covered))
    }

    /// Lets go of what is needed no more, once all writes before that are durable.
    fn compact_waiting(&mut self) -> Result<(), StorageError> {
        self.compact
            .take()
            .map_or(Ok(()), |upto| self.storage.compact(upto))
    }

    fn sync(&mut self) -> Result<WriteSeq, StorageError> {
        let seq = self.storage.sync()?;
        self.compact_waiting()?;
        Ok(seq)
    }
}

const SYNCS_PER_LOOK: u64 = 1_000;
