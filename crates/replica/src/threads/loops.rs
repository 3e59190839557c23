//! What each thread of a node does all its life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_raft::{ReadLog, RoleKind, SnapshotMeta, Status};
use tokio::sync::watch;

use super::inbox::{Fate, Inbox, LoopInput};
use super::ports::{ApplyWork, LogWork, SnapshotWork, ThreadPorts};
use super::requests::Asker;
use crate::apply::{Applier, ApplyFailure};
use crate::clock::ClockReading;
use crate::config::Observer;
use crate::driver::{Driver, DriverInput};
use crate::machine::{Machine, SnapshotError};
use crate::queue::{Queue, Taken};
use crate::storage::{LogReader, SnapshotWriter, Snapshots, Storage, StorageError};

/// Owns the driver, and with it the consensus core.
pub(super) struct MainLoop<M: Machine> {
    pub(super) driver: Driver<ThreadPorts<M>>,
    pub(super) inbox: Arc<Inbox<M>>,
    pub(super) status: watch::Sender<Arc<Status>>,
    pub(super) ticker: Ticker,
    pub(super) upkeep: UpkeepTimer,
    pub(super) apply: Arc<Queue<ApplyWork<M>>>,
    /// When the node started, if leaders hold leases and so the time counts.
    pub(super) leases_since: Option<Instant>,
}

impl<M: Machine> MainLoop<M> {
    /// Runs until the node's fate is sealed, and fails all who wait then.
    pub(super) fn run(&mut self) {
        let mut batch = Vec::new();
        let mut running = true;
        while running {
            self.inbox.take(&mut batch, self.ticker.next);
            if let Some(since) = self.leases_since {
                self.driver.tell_time(ClockReading::now(since));
            }
            for input in batch.drain(..) {
                match input {
                    LoopInput::Driver(input) => self.driver.handle(input),
                    LoopInput::Status(asker) => {
                        // Who asked may be gone.
                        let _ = asker.send(self.driver.status());
                    }
                    LoopInput::Stop => running = false,
                }
            }
            // After the mail: a leader that was heard of meanwhile is not campaigned against.
            let ticks = self.ticker.due(Instant::now());
            for _ in 0..ticks {
                self.driver.handle(DriverInput::Tick);
            }
            if running {
                self.flush();
                self.publish(ticks > 0);
                if ticks > 0 {
                    self.call_to_upkeep();
                }
            }
        }
        self.driver.stop();
    }

    /// Carries out what the core wants, and what follows from what was done at once.
    fn flush(&mut self) {
        self.driver.flush();
        while !self.driver.ports().done.is_empty() {
            for input in std::mem::take(&mut self.driver.ports_mut().done) {
                self.driver.handle(input);
            }
            self.driver.flush();
        }
    }

    fn call_to_upkeep(&mut self) {
        let role = self.status.borrow().role;
        if let Some(passed) = self.upkeep.due(role, Instant::now()) {
            // The queue is closed only when the node ends.
            let _ = self.apply.push(ApplyWork::Upkeep(passed));
        }
    }

    fn publish(&mut self, ticked: bool) {
        let role_changed = std::mem::take(&mut self.driver.ports_mut().role_changed);
        if role_changed || ticked {
            let status = self.driver.status();
            self.status.send_if_modified(|shown| {
                let differs = differ(shown, &status);
                if differs {
                    *shown = Arc::new(status);
                }
                differs
            });
        }
    }
}

/// Says when the leader's machine is to be called to its upkeep.
#[derive(Debug)]
pub(super) struct UpkeepTimer {
    every: Option<Duration>,
    /// When it was called last, or this node came to lead; none when it does not.
    last: Option<Instant>,
}

impl UpkeepTimer {
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self { every, last: None }
    }

    /// How much time has passed, if it is time for the upkeep.
    fn due(&mut self, role: RoleKind, now: Instant) -> Option<Duration> {
        if role != RoleKind::Leader {
            self.last = None;
            return None;
        }
        let passed = now - *self.last.get_or_insert(now);
        (passed >= self.every?).then(|| {
            self.last = Some(now);
            passed
        })
    }
}

/// Whether a status says anything new: a quiet node wakes nobody.
fn differ(a: &Status, b: &Status) -> bool {
    (a.term, a.role, a.leader) != (b.term, b.role, b.leader)
        || (a.commit_index, a.applied_index, a.durable_index)
            != (b.commit_index, b.applied_index, b.durable_index)
        || (a.last, a.base, a.snapshot) != (b.last, b.base, b.snapshot)
        || a.configuration != b.configuration
        || a.configuration_index != b.configuration_index
        || a.progress != b.progress
}

/// Says when a tick is due. After a pause of the process only a few of those missed are made up for:
/// a node that was stopped for long has not missed its leader for that long.
pub(super) struct Ticker {
    tick: Duration,
    next: Instant,
}

impl Ticker {
    pub(super) fn new(tick: Duration, now: Instant) -> Self {
        Self {
            tick,
            next: now + tick,
        }
    }

    fn due(&mut self, now: Instant) -> u32 {
        let mut due = 0;
        while self.next <= now && due < MAX_CATCH_UP_TICKS {
            due += 1;
            self.next += self.tick;
        }
        if self.next <= now {
            self.next = now + self.tick;
        }
        due
    }
}

/// Owns the log: one append and one sync for all that waits.
pub(super) struct LogLoop<M: Machine> {
    pub(super) storage: Storage,
    pub(super) work: Arc<Queue<LogWork>>,
    pub(super) inbox: Arc<Inbox<M>>,
    pub(super) fate: Arc<Fate<M>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

impl<M: Machine> LogLoop<M> {
    pub(super) fn run(&mut self) {
        let mut batch = Vec::new();
        while self.work.take(&mut batch, None) == Taken::Open {
            if let Err(error) = self.carry_out(&mut batch) {
                // Nothing of this batch is acknowledged, and nothing after it is written.
                self.fate.fail_on_disk(&error);
                self.work.abandon();
                return;
            }
        }
    }

    fn carry_out(&mut self, batch: &mut Vec<LogWork>) -> Result<(), StorageError> {
        let mut writes = Vec::with_capacity(batch.len());
        let mut compact = None;
        for work in batch.drain(..) {
            match work {
                LogWork::Write(write) => writes.push(write),
                LogWork::Compact(upto) => compact = Some(upto),
            }
        }
        if !writes.is_empty() {
            self.storage.append(&writes)?;
            let started = Instant::now();
            let seq = self.storage.sync()?;
            if let Some(observer) = &self.observer {
                observer.synced(started.elapsed());
            }
            self.inbox.complete(DriverInput::Persisted(seq));
        }
        // Last, since nobody waits for it.
        compact.map_or(Ok(()), |upto| self.storage.compact(upto))
    }
}

/// Owns the state machine.
pub(super) struct ApplyLoop<M: Machine> {
    pub(super) applier: Applier<M, Asker<M>>,
    pub(super) work: Arc<Queue<ApplyWork<M>>>,
    pub(super) inbox: Arc<Inbox<M>>,
    pub(super) writer: Arc<Queue<SnapshotWork>>,
    pub(super) snapshots: Snapshots,
    pub(super) fate: Arc<Fate<M>>,
    /// Bytes applied that the loop was not woken for.
    pub(super) unreported: u64,
}

impl<M: Machine> ApplyLoop<M> {
    pub(super) fn run(&mut self) {
        let mut batch = Vec::new();
        while self.work.take(&mut batch, None) == Taken::Open {
            for work in batch.drain(..) {
                if let Err(error) = self.carry_out(work) {
                    self.fate.fail_on_disk(&error);
                    self.work.abandon();
                    return;
                }
            }
            if self.applier.snapshot_due() {
                self.begin_snapshot();
            }
        }
    }

    fn carry_out(&mut self, work: ApplyWork<M>) -> Result<(), ApplyFailure> {
        match work {
            ApplyWork::Task(task) => {
                self.unreported += quorate_raft::entry::weight_of(&task.entries);
                let progress = self.applier.process(task)?;
                if let Some(id) = progress.restored {
                    self.inbox.complete(DriverInput::Restored(id));
                    self.snapshots.prune()?;
                }
                self.report(DriverInput::Applied(progress.applied));
            }
            ApplyWork::Local(reading) => self.applier.read_local(reading),
            ApplyWork::BeginSnapshot(asker) => {
                let begun = self.begin_snapshot();
                // Who asked may be gone.
                let _ = asker.send(begun.map(|meta| meta.id));
            }
            ApplyWork::Upkeep(passed) => self.upkeep(passed),
            ApplyWork::NextChunk => self.next_chunk(),
            ApplyWork::SnapshotEnded => self.applier.snapshot_ended(),
        }
        Ok(())
    }

    /// Has the machine's upkeep proposed.
    fn upkeep(&mut self, passed: Duration) {
        for command in self.applier.machine_mut().upkeep(passed) {
            match M::encode(command) {
                // Nobody waits for it: it is called for again, if need be.
                Ok(command) => drop(self.inbox.propose(command)),
                Err(error) => tracing::warn!(%error, "the machine's upkeep was not proposed"),
            }
        }
    }

    /// The core waits for this only when much is being applied: small progress need not wake the loop.
    fn report(&mut self, applied: super::requests::Request<M>) {
        match self.unreported < QUIET_BYTES {
            true => self.inbox.complete_quietly(applied),
            false => {
                self.unreported = 0;
                self.inbox.complete(applied);
            }
        }
    }

    fn begin_snapshot(&mut self) -> Option<SnapshotMeta> {
        let meta = self.applier.begin_snapshot()?;
        self.write(SnapshotWork::Begin(meta.clone()));
        Some(meta)
    }

    fn next_chunk(&mut self) {
        let work = match self.applier.snapshot_chunk(CHUNK_BYTES) {
            Ok(Some(chunk)) => SnapshotWork::Chunk(chunk),
            Ok(None) => SnapshotWork::Finish,
            Err(SnapshotError(why)) => {
                tracing::warn!(%why, "a snapshot was given up");
                SnapshotWork::GiveUp
            }
        };
        self.write(work);
    }

    fn write(&self, work: SnapshotWork) {
        // The writer is closed only when the node ends.
        let _ = self.writer.push(work);
    }
}

/// Writes snapshots, so that the state machine never waits for their files.
pub(super) struct SnapshotLoop<M: Machine> {
    pub(super) snapshots: Snapshots,
    pub(super) work: Arc<Queue<SnapshotWork>>,
    pub(super) apply: Arc<Queue<ApplyWork<M>>>,
    pub(super) inbox: Arc<Inbox<M>>,
    pub(super) fate: Arc<Fate<M>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
    pub(super) writing: Option<Writing>,
}

/// The snapshot being written.
pub(super) struct Writing {
    meta: SnapshotMeta,
    writer: SnapshotWriter,
    begun: Instant,
}

impl<M: Machine> SnapshotLoop<M> {
    pub(super) fn run(&mut self) {
        let mut batch = Vec::new();
        while self.work.take(&mut batch, None) == Taken::Open {
            for work in batch.drain(..) {
                if let Err(error) = self.carry_out(work) {
                    self.fate.fail_on_disk(&error);
                    self.work.abandon();
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, work: SnapshotWork) -> Result<(), StorageError> {
        match work {
            SnapshotWork::Begin(meta) => self.begin(meta)?,
            SnapshotWork::Chunk(chunk) => {
                if let Some(writing) = &mut self.writing {
                    writing.writer.write_chunk(&chunk)?;
                }
                self.tell(ApplyWork::NextChunk);
            }
            SnapshotWork::Finish => {
                if let Some(writing) = self.writing.take() {
                    self.finish(writing)?;
                }
                self.tell(ApplyWork::SnapshotEnded);
            }
            SnapshotWork::GiveUp => {
                if let Some(writing) = self.writing.take() {
                    writing.writer.abandon()?;
                }
                self.tell(ApplyWork::SnapshotEnded);
            }
        }
        Ok(())
    }

    fn begin(&mut self, meta: SnapshotMeta) -> Result<(), StorageError> {
        let writer = match self.snapshots.create(&meta) {
            Ok(writer) => writer,
            // It is being received from a peer at this moment: one of the two is enough.
            Err(StorageError::Busy { .. }) => {
                self.tell(ApplyWork::SnapshotEnded);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.writing = Some(Writing {
            meta,
            writer,
            begun: Instant::now(),
        });
        self.tell(ApplyWork::NextChunk);
        Ok(())
    }

    fn finish(&mut self, writing: Writing) -> Result<(), StorageError> {
        let id = writing.meta.id;
        writing.writer.finish()?;
        tracing::info!(%id, "a snapshot was saved");
        if let Some(observer) = &self.observer {
            observer.snapshot_saved(writing.begun.elapsed());
        }
        self.snapshots.prune()?;
        self.inbox.complete(DriverInput::SnapshotSaved(writing.meta));
        Ok(())
    }

    fn tell(&self, work: ApplyWork<M>) {
        // The apply thread's queue is closed only when the node ends.
        let _ = self.apply.push(work);
    }
}

/// Reads old entries of the log, so that a follower far behind costs the loop no disk access.
pub(super) struct ReadLoop<M: Machine> {
    pub(super) reader: LogReader,
    pub(super) work: Arc<Queue<ReadLog>>,
    pub(super) inbox: Arc<Inbox<M>>,
    pub(super) fate: Arc<Fate<M>>,
}

impl<M: Machine> ReadLoop<M> {
    pub(super) fn run(&mut self) {
        let mut batch = Vec::new();
        while self.work.take(&mut batch, None) == Taken::Open {
            for request in batch.drain(..) {
                match self.reader.read(&request) {
                    Ok(entries) => self.inbox.complete(DriverInput::LogRead { request, entries }),
                    Err(error) => {
                        self.fate.fail_on_disk(&error);
                        self.work.abandon();
                        return;
                    }
                }
            }
        }
    }
}

const MAX_CATCH_UP_TICKS: u32 = 2;
/// How large a chunk of a snapshot is, about, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// How much may be applied before the loop is woken to hear of it, in bytes.
const QUIET_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaders_upkeep_counts_the_time_since_it_leads() {
        let start = Instant::now();
        let every = Duration::from_millis(500);
        let mut timer = UpkeepTimer::new(Some(every));
        assert_eq!(timer.due(RoleKind::Follower, start), None);
        assert_eq!(
            timer.due(RoleKind::Leader, start + every * 2),
            None,
            "it has just begun to lead"
        );
        assert_eq!(timer.due(RoleKind::Leader, start + every * 3), Some(every));
        assert_eq!(timer.due(RoleKind::Leader, start + every * 3), None);
        assert_eq!(timer.due(RoleKind::Leader, start + every * 5), Some(every * 2));
        assert_eq!(timer.due(RoleKind::Candidate, start + every * 7), None);
        assert_eq!(timer.due(RoleKind::Leader, start + every * 9), None);
        let mut never = UpkeepTimer::new(None);
        assert_eq!(never.due(RoleKind::Leader, start), None);
        assert_eq!(never.due(RoleKind::Leader, start + every * 9), None);
    }

    #[test]
    fn a_long_pause_is_made_up_for_by_a_few_ticks_only() {
        let start = Instant::now();
        let tick = Duration::from_millis(10);
        let mut ticker = Ticker::new(tick, start);
        assert_eq!(ticker.due(start), 0);
        assert_eq!(ticker.due(start + tick), 1);
        assert_eq!(ticker.due(start + tick * 1000), MAX_CATCH_UP_TICKS);
        assert_eq!(ticker.due(start + tick * 1000), 0);
        assert_eq!(ticker.due(start + tick * 1001), 1);
    }
}
