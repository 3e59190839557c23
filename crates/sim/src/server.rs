//! One simulated node: a disk that outlives the process, and the process while there is one.
//!
//! The process is put together from the parts that run in production; what differs is that nothing
//! happens by itself. The world calls in when it is time.

use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use quorate::apply::{Applier, SnapshotPolicy};
use quorate::codec::Incarnation;
use quorate::codec::frame::ClusterId;
use quorate::storage::{Identity, LogReader, Options, SnapshotWriter, Snapshots, Storage};
use quorate_raft::invariants::{self, View};
use quorate_raft::{
    Config, Configuration, EntryId, GroupId, MemberKind, Node, NodeId, Session, SnapshotMeta, Status, Stored,
    WriteSeq,
};
use quorate_wal::{DiskOp, MemDisk};

use crate::ports::{Caller, Collected, Input, LogJob, Outbox, SimDriver, Task};
use crate::profile::NodeProfile;
use crate::registers::{Quirk, Registers};
use crate::rng::{Rng, Stream};
use crate::schedule::Time;

/// Counts the processes that a node has had: what was meant for an earlier one is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub(crate) u64);

/// A node: its machine, whether or not the process runs.
pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) life: Life,
    pub(crate) disk: MemDisk,
    pub(crate) disk_rng: Rng,
    pub(crate) rng: Rng,
    pub(crate) process: Option<Process>,
    /// The process stands still until then.
    pub(crate) paused_until: Time,
    /// The disk answers nothing until then.
    pub(crate) stalled_until: Time,
    pub(crate) failure: DiskFailure,
}

/// Whether a disk has been made to refuse a call that has not come yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DiskFailure {
    #[default]
    None,
    Expected,
}

/// Why a process did not start.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// Its disk was made to fail: it may be tried again.
    DiskFailed,
    /// It refuses what its disk holds.
    Refused(String),
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) driver: SimDriver,
    pub(crate) log: LogSide,
    pub(crate) reader: LogReader,
    pub(crate) snapshots: Snapshots,
    pub(crate) apply: ApplySide,
    pub(crate) outbox: Outbox,
    /// What waits for the loop's next turn.
    pub(crate) inbox: Vec<Input>,
    view: View,
    steps: u64,
}

/// What production has a log thread for.
#[derive(Debug)]
pub(crate) struct LogSide {
    pub(crate) storage: Storage,
    pub(crate) jobs: VecDeque<LogJob>,
    /// The log up to here may go, once what is being synced is durable.
    pub(crate) compact: Option<EntryId>,
    /// What the sync under way covers.
    pub(crate) syncing: Option<Covered>,
}

/// What a sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// How many changes to the log.
    pub(crate) changes: usize,
    /// The last write.
    pub(crate) seq: WriteSeq,
}

/// What production has an apply thread and a snapshot writer for.
#[derive(Debug)]
pub(crate) struct ApplySide {
    pub(crate) applier: Applier<Registers, Caller>,
    pub(crate) tasks: VecDeque<Task>,
    /// Whether a task is being carried out.
    pub(crate) busy: bool,
    pub(crate) saving: Option<Saving>,
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(crate) struct Saving {
    pub(crate) meta: SnapshotMeta,
    pub(crate) writer: SnapshotWriter,
}

impl Server {
    /// A machine with an empty disk.
    pub(crate) fn new(seed: u64, id: NodeId) -> Self {
        Self {
            id,
            life: Life::default(),
            disk: MemDisk::new(),
            disk_rng: Rng::new(seed, Stream::Disk(id.0)),
            rng: Rng::new(seed, Stream::Process(id.0)),
            process: None,
            paused_until: Time::START,
            stalled_until: Time::START,
            failure: DiskFailure::None,
        }
    }

    /// Starts a process over what the disk holds. Returns what it found.
    pub(crate) fn start(
        &mut self,
        nodes: u64,
        profile: &NodeProfile,
        quirk: Quirk,
    ) -> Result<Stored, NotStarted> {
        self.life = Life(self.life.0 + 1);
        let options = self.storage_options(nodes, profile);
        let disk = Arc::new(self.disk.clone());
        let (storage, opened) = Storage::open(disk, options).map_err(|error| self.not_started(error))?;
        let stored = opened.stored;
        let policy = SnapshotPolicy {
            every_entries: profile.snapshot_every,
            ..SnapshotPolicy::default()
        };
        let applier = Applier::new(
            Registers::new(quirk),
            storage.snapshots(),
            &stored.snapshot,
            policy,
        )
        .map_err(|error| self.not_started(error))?;
        let node =
            Node::new(self.config(profile), stored.clone()).map_err(|error| self.not_started(error))?;
        self.process = Some(Process::new(node, storage, applier));
        Ok(stored)
    }

    /// What a process would find if the power failed now and nothing survived that was not synced.
    pub(crate) fn found_if_power_failed(
        &mut self,
        nodes: u64,
        profile: &NodeProfile,
    ) -> Result<Stored, String> {
        let disk = self.disk.fork();
        disk.lose_unsynced();
        let options = self.storage_options(nodes, profile);
        let opened = Storage::open(Arc::new(disk), options);
        let opened = opened.map(|(_, opened)| opened.stored);
        opened.map_err(|error| format!("{} would not start if the power failed: {error}", self.id))
    }

    /// The disk will refuse one call of `op`, the next.
    pub(crate) fn fail_next(&mut self, op: DiskOp) {
        self.disk.fail_nth(op, 1);
        self.failure = DiskFailure::Expected;
    }

    fn not_started(&mut self, error: impl Display) -> NotStarted {
        match std::mem::take(&mut self.failure) {
            DiskFailure::Expected => NotStarted::DiskFailed,
            DiskFailure::None => NotStarted::Refused(format!("{} does not start: {error}", self.id)),
        }
    }

    /// The process, if it runs and is the one that `life` says.
    pub(crate) fn process_of(&mut self, life: Life) -> Option<&mut Process> {
        if self.life == life {
            self.process.as_mut()
        } else {
            None
        }
    }

    fn storage_options(&mut self, nodes: u64, profile: &NodeProfile) -> Options {
        let voters = (1..=nodes).map(NodeId);
        let configuration = Configuration::new(voters, []).expect("there is a node, and no learner");
        let identity = Identity {
            cluster: ClusterId(1),
            node: self.id,
            incarnation: Incarnation(u128::from(self.rng.number())),
        };
        Options {
            directory: format!("the disk of {}", self.id),
            identity,
            group: GROUP,
            configuration,
            wal: quorate_wal::Options {
                segment_bytes: profile.segment_bytes,
                ..quorate_wal::Options::new(u128::from(self.rng.number()))
            },
        }
    }

    fn config(&mut self, profile: &NodeProfile) -> Config {
        Config {
            id: self.id,
            group: GROUP,
            kind: MemberKind::Full,
            session: Session(self.rng.number()),
            seed: self.rng.number(),
            election_ticks: profile.election_ticks,
            heartbeat_ticks: profile.heartbeat_ticks,
            limits: profile.limits.clone(),
        }
    }
}

impl ApplySide {
    /// Begins the next task; false if there is none, or one is being carried out.
    pub(crate) fn begin(&mut self) -> bool {
        let begins = !self.busy && !self.tasks.is_empty();
        self.busy |= begins;
        begins
    }

    /// The task being carried out.
    pub(crate) fn take(&mut self) -> Option<Task> {
        self.busy = false;
        self.tasks.pop_front()
    }
}

impl Process {
    fn new(node: Node, storage: Storage, applier: Applier<Registers, Caller>) -> Self {
        let outbox = Outbox::default();
        let view = node.view();
        Self {
            driver: SimDriver::new(node, Collected::new(Rc::clone(&outbox))),
            reader: storage.reader(),
            snapshots: storage.snapshots(),
            log: LogSide {
                storage,
                jobs: VecDeque::new(),
                compact: None,
                syncing: None,
            },
            apply: ApplySide {
                applier,
                tasks: VecDeque::new(),
                busy: false,
                saving: None,
            },
            outbox,
            inbox: Vec::new(),
            view,
            steps: 0,
        }
    }

    /// The loop's turn: takes in all that waits, and hands out what follows from it.
    pub(crate) fn turn(&mut self) -> Collected {
        for input in self.inbox.drain(..) {
            self.driver.handle(input);
        }
        self.driver.flush();
        self.check();
        self.driver.ports_mut().take()
    }

    /// What the core says of itself, every few steps.
    pub(crate) fn look(&self) -> Option<Status> {
        self.steps
            .is_multiple_of(STEPS_PER_CHECK)
            .then(|| self.driver.status())
    }

    /// The core's own invariants. Those that cost a pass over its entries are checked less often.
    fn check(&mut self) {
        let view = self.driver.node().view();
        invariants::check_step(&self.view, &view);
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_PER_CHECK) {
            invariants::check_state(self.driver.node());
        }
        self.view = view;
    }
}

const STEPS_PER_CHECK: u64 = 8;
const GROUP: GroupId = GroupId(1);
