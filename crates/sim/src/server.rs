//! One simulated node: a disk that outlives the process, and the process while there is one.
//!
//! The process is put together from the parts that run in production; what differs is that nothing
//! happens by itself. The world calls in when it is time.

use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quorate::apply::{Applier, SnapshotPolicy};
use quorate::clock::ClockReading;
use quorate::codec::Incarnation;
use quorate::codec::frame::ClusterId;
use quorate::machine::Machine;
use quorate::sessions::Sessions;
use quorate::storage::{Identity, LogReader, Opened, Options, SnapshotWriter, Snapshots, Storage};
use quorate_raft::invariants::{self, View};
use quorate_raft::{
    Config, Configuration, EntryId, Event, GroupId, Index, Leases, MemberKind, Node, NodeId, RoleKind,
    Session, SnapshotMeta, Status, Stored, WriteSeq,
};
use quorate_wal::{DiskOp, MemDisk};

use crate::clock::Clock;
use crate::conduct::Conduct;
use crate::invariant::{Invariant, Violation, require};
use crate::marks::Mark;
use crate::ports::{Caller, Collected, Input, LogJob, Outbox, SimDriver, Task};
use crate::profile::NodeProfile;
use crate::registers::{Quirk, Registers};
use crate::replicated::Replicated;
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
    /// The process does everything late until then.
    pub(crate) slow_until: Time,
    pub(crate) clock: Clock,
    /// Whether the disk has no room for anything.
    is_full: bool,
    /// Whether the disk will refuse a call that has not come yet.
    is_armed: bool,
    pub(crate) presence: Presence,
    /// Whether it keeps data, ever.
    pub(crate) kind: MemberKind,
    /// Whether the last process stopped because its disk was full.
    pub(crate) last_stop: DiskFailure,
    /// The members that its directory begins with.
    first: Configuration,
    /// What the process campaigns as, if it does.
    campaign: Option<RoleKind>,
}

/// Whether a node can ever run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    #[default]
    Here,
    /// Its directory is lost, and nobody may come back under its id.
    Lost,
}

/// Whether a disk has been made to refuse something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DiskFailure {
    #[default]
    None,
    /// A call that has not come yet.
    Armed,
    /// Whatever needs room, until there is room again.
    Full,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It is killed: what it wrote stays in the memory of its machine.
    Killed,
    /// Its machine loses power: what was not synced is lost, or torn.
    PowerLost,
}

/// Why a process did not start.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// Its disk was made to fail: it may be tried again.
    DiskFailed(String),
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
    conduct: Conduct,
    steps: u64,
    /// By its clock, since the machine of this leader was called to its upkeep; none if it does not lead.
    since_upkeep: Option<Duration>,
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
    pub(crate) applier: Applier<Replicated, Caller>,
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
    pub(crate) fn new(
        seed: u64,
        (id, kind): (NodeId, MemberKind),
        profile: &NodeProfile,
        first: Configuration,
    ) -> Self {
        let mut rng = Rng::new(seed, Stream::Process(id.0));
        Self {
            id,
            life: Life::default(),
            disk: MemDisk::new(),
            disk_rng: Rng::new(seed, Stream::Disk(id.0)),
            clock: Clock::new(profile, &mut rng),
            rng,
            process: None,
            paused_until: Time::START,
            stalled_until: Time::START,
            slow_until: Time::START,
            is_full: false,
            is_armed: false,
            presence: Presence::Here,
            kind,
            last_stop: DiskFailure::None,
            first,
            campaign: None,
        }
    }

    /// Starts a process over what the disk holds. Returns what it found.
    pub(crate) fn start(&mut self, profile: &NodeProfile, quirk: Quirk) -> Result<Opened, NotStarted> {
        self.life = Life(self.life.0 + 1);
        self.campaign = None;
        let options = self.storage_options(profile);
        let disk = Arc::new(self.disk.clone());
        let (storage, opened) = Storage::open(disk, options).map_err(|error| self.not_started(error))?;
        let stored = &opened.stored;
        let policy = SnapshotPolicy {
            every_entries: profile.snapshot_every,
            ..SnapshotPolicy::default()
        };
        let restore = match self.kind {
            MemberKind::Full => Applier::new,
            MemberKind::Witness => Applier::new_witness,
        };
        let machine = Sessions::new(Registers::new(quirk), profile.sessions);
        let applier = restore(machine, storage.snapshots(), &stored.snapshot, policy)
            .map_err(|error| self.not_started(error))?;
        let node =
            Node::new(self.config(profile), stored.clone()).map_err(|error| self.not_started(error))?;
        let conduct = Conduct::new(profile.election_ticks);
        self.process = Some(Process::new(node, storage, applier, conduct));
        Ok(opened)
    }

    /// What a process would find if the power failed now and nothing survived that was not synced.
    ///
    /// On a disk that refuses something a start may fail. It must harm nothing then: once the disk
    /// refuses nothing more, all is found.
    pub(crate) fn found_if_power_failed(&mut self, profile: &NodeProfile) -> Result<Stored, String> {
        let disk = self.disk.fork();
        disk.lose_unsynced();
        let options = self.storage_options(profile);
        if self.failure() != DiskFailure::None {
            // Whether it starts is another matter: what it leaves behind is looked at below.
            drop(Storage::open(Arc::new(disk.clone()), options.clone()));
            disk.lose_unsynced();
            disk.mend();
        }
        let opened = Storage::open(Arc::new(disk), options);
        let opened = opened.map(|(_, opened)| opened.stored);
        opened.map_err(|error| format!("{} would not start if the power failed: {error}", self.id))
    }

    /// Follows the node's campaigns by its events. Returns how one was lost.
    pub(crate) fn campaigns(&mut self, event: &Event) -> Option<Mark> {
        let before = self.campaign;
        if matches!(event, Event::BecameLeader { .. }) {
            self.campaign = None;
        } else if matches!(event, Event::BecamePreCandidate { .. }) {
            self.campaign = Some(RoleKind::PreCandidate);
        } else if matches!(event, Event::BecameCandidate { .. }) {
            self.campaign = Some(RoleKind::Candidate);
        } else if matches!(event, Event::BecameFollower { .. }) {
            self.campaign = None;
            return Some(match before? {
                RoleKind::Candidate => Mark::ElectionLost,
                RoleKind::PreCandidate | RoleKind::Follower | RoleKind::Leader => Mark::PreVoteLost,
            });
        }
        None
    }

    /// Whether its log says, for certain, that it is no member any more.
    pub(crate) fn knows_its_removal(&self) -> bool {
        let status = self.process.as_ref().map(|process| process.driver.status());
        status.is_some_and(|status| status.removed)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.presence == Presence::Lost
    }

    /// What the disk refuses, now or later.
    pub(crate) fn failure(&self) -> DiskFailure {
        if self.is_full {
            DiskFailure::Full
        } else if self.is_armed {
            DiskFailure::Armed
        } else {
            DiskFailure::None
        }
    }

    /// The disk will refuse one call of `op`, the next.
    pub(crate) fn fail_next(&mut self, op: DiskOp) {
        self.disk.fail_nth(op, 1);
        self.is_armed = true;
    }

    /// The disk has no room for anything more.
    pub(crate) fn fill_disk(&mut self) {
        self.disk.set_capacity(0);
        self.is_full = true;
    }

    /// The disk has room again. A call that it was to refuse besides may still come.
    pub(crate) fn make_room(&mut self) {
        self.disk.set_capacity(u64::MAX);
        self.is_full = false;
    }

    /// The process ends, and with it what its disk was to refuse once: a full disk stays full.
    pub(crate) fn die(&mut self, death: Death) {
        self.process = None;
        self.paused_until = Time::START;
        self.is_armed = false;
        let rng = &mut self.disk_rng;
        match death {
            Death::Killed => self.disk.kill_process(),
            Death::PowerLost => self.disk.crash(&mut || rng.number()),
        }
    }

    /// The process has noticed a refusal, and stops: a disk that was made to refuse nothing must not.
    pub(crate) fn noticed_failure(&mut self, error: &dyn Display) -> Result<(), Violation> {
        self.last_stop = self.failure();
        require(self.last_stop != DiskFailure::None, Invariant::Recovery, || {
            format!("{} stops though its disk refuses nothing: {error}", self.id)
        })
    }

    fn not_started(&self, error: impl Display) -> NotStarted {
        match self.failure() {
            DiskFailure::Armed | DiskFailure::Full => NotStarted::DiskFailed(error.to_string()),
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

    fn storage_options(&mut self, profile: &NodeProfile) -> Options {
        let identity = Identity {
            cluster: ClusterId(1),
            node: self.id,
            incarnation: Incarnation(u128::from(self.rng.number())),
        };
        Options {
            directory: format!("the disk of {}", self.id),
            identity,
            group: GROUP,
            configuration: self.first.clone(),
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
            kind: self.kind,
            session: Session(self.rng.number()),
            seed: self.rng.number(),
            election_ticks: profile.election_ticks,
            heartbeat_ticks: profile.heartbeat_ticks,
            leases: profile.leases.map(|drift| Leases {
                promise: profile.tick * profile.election_ticks,
                drift,
            }),
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
    fn new(node: Node, storage: Storage, applier: Applier<Replicated, Caller>, conduct: Conduct) -> Self {
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
            conduct,
            steps: 0,
            since_upkeep: None,
        }
    }

    /// The loop's turn: takes in all that waits, and hands out what follows from it. The clocks show
    /// `reading`, if leaders hold leases.
    pub(crate) fn turn(&mut self, reading: Option<ClockReading>) -> Result<Collected, Violation> {
        if let Some(reading) = reading {
            self.driver.tell_time(reading);
        }
        for input in self.inbox.drain(..) {
            self.conduct.given(&self.view, &input);
            self.driver.handle(input);
        }
        self.driver.flush();
        self.check();
        let collected = self.driver.ports_mut().take();
        self.conduct.turned(&self.view, &collected.step)?;
        Ok(collected)
    }

    /// A tick has passed: how much time since the last upkeep, if it is time for another.
    pub(crate) fn upkeep_due(&mut self, tick: Duration) -> Option<Duration> {
        if self.role() != RoleKind::Leader {
            self.since_upkeep = None;
            return None;
        }
        let passed = self.since_upkeep.map_or(Duration::ZERO, |passed| passed + tick);
        let is_due = Replicated::UPKEEP_EVERY.is_some_and(|every| passed >= every);
        self.since_upkeep = Some(if is_due { Duration::ZERO } else { passed });
        is_due.then_some(passed)
    }

    /// Until when, by the clock that leases go by, the core serves reads without asking.
    pub(crate) fn lease_until(&self) -> Option<Duration> {
        let until = self.driver.node().lease_until()?;
        Some(Duration::from_micros(until.0))
    }

    /// What the core promised, and until when by the clock that leases go by; none if that is not known yet.
    pub(crate) fn promised(&self) -> Option<(Option<NodeId>, Duration)> {
        let promised = self.driver.node().promised()?;
        Some((promised.to, Duration::from_micros(promised.until?.0)))
    }

    /// What the core is, as of the last turn.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// What the core says of itself, every few steps.
    pub(crate) fn look(&self) -> Option<Status> {
        self.steps
            .is_multiple_of(STEPS_PER_CHECK)
            .then(|| self.driver.status())
    }

    /// What the core is, as of the last turn.
    pub(crate) fn role(&self) -> RoleKind {
        self.view.role
    }

    /// The last entry of the core's log.
    pub(crate) fn last_index(&self) -> Index {
        self.view.last.index
    }

    /// The entry before the first of the core's log.
    pub(crate) fn base_index(&self) -> Index {
        self.driver.status().base.index
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn only_a_disk_that_was_made_to_refuse_something_excuses_a_stop() {
        let profile = Profile::draw(1, &crate::profile::Options::default()).node;
        let first = Configuration::new([NodeId(1)], []).unwrap();
        let mut server = Server::new(1, (NodeId(1), MemberKind::Full), &profile, first);
        let is_excused = |server: &mut Server| server.noticed_failure(&"no reason").is_ok();
        assert!(!is_excused(&mut server));
        server.fail_next(DiskOp::Sync);
        assert!(is_excused(&mut server));
        server.fill_disk();
        server.make_room();
        assert!(is_excused(&mut server), "the sync may fail yet");
        server.die(Death::Killed);
        assert!(
            !is_excused(&mut server),
            "what was to fail has ended with the process"
        );
        server.fill_disk();
        server.die(Death::PowerLost);
        assert!(is_excused(&mut server), "it is full still");
        server.make_room();
        assert!(!is_excused(&mut server));
    }
}
