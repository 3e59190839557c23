//! What a run is asked to be, and what it is: its size, its faults and its rates.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use quorate::SessionLimits;
use quorate_raft::{DriftBound, Limits};

use crate::fault::{Fault, UnknownName};
use crate::incident::Edits;
use crate::rng::Chance;

/// What a run is about: which faults it draws from, and what its nodes and clients are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A random half of all faults, at random rates.
    #[default]
    Swarm,
    /// Nothing goes wrong; the nodes are set up as in production.
    Calm,
    /// Three nodes and two faults.
    Lite,
    /// One fault, undisturbed by any other.
    OneFault,
    /// Who reaches whom only in part: bridges, rings, chains, single links and single directions.
    Partial,
    /// Members that come and go, and directories that are lost.
    Membership,
    /// Crashes, and disks that stall, fail or are full.
    Disk,
    /// Clocks that drift, jump and flicker, and processes that stand still.
    Clock,
    /// Many clients against narrow bounds and slow nodes.
    Performance,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Swarm,
        Self::Calm,
        Self::Lite,
        Self::OneFault,
        Self::Partial,
        Self::Membership,
        Self::Disk,
        Self::Clock,
        Self::Performance,
    ];

    /// The kind that a seed has when all kinds take turns. Every second seed is a swarm.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        if seed.is_multiple_of(2) {
            return Self::Swarm;
        }
        let turn = seed / 2 % (Self::ALL.len() as u64 - 1);
        Self::ALL[usize::try_from(turn).expect("below the number of kinds") + 1]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Swarm => "swarm",
            Self::Calm => "calm",
            Self::Lite => "lite",
            Self::OneFault => "one-fault",
            Self::Partial => "partial",
            Self::Membership => "membership",
            Self::Disk => "disk",
            Self::Clock => "clock",
            Self::Performance => "performance",
        })
    }
}

impl FromStr for Kind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| UnknownName::new("profile", text, &Self::ALL))
    }
}

/// How many nodes a run has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// From 1 to 5, mostly 3.
    #[default]
    Drawn,
    /// This many, at least 1.
    Exactly(u64),
}

/// How busy the clients of a run are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// One to five of them, each with milliseconds between its operations.
    #[default]
    Drawn,
    /// Five of them, each with half a second between its operations.
    Moderate,
    /// Each asks about once a second.
    Idle,
}

/// What a run is asked to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub size: Size,
    /// What it is about.
    pub kind: Kind,
    /// How busy the clients are.
    pub load: Load,
    /// For how long faults happen, in virtual time. Healing comes after.
    pub duration: Duration,
    /// How many lines of what happened are kept, the last ones.
    pub trace_lines: usize,
    /// What is left out of it.
    pub edits: Edits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: Size::Drawn,
            kind: Kind::Swarm,
            load: Load::Drawn,
            duration: Duration::from_secs(10),
            trace_lines: 0,
            edits: Edits::default(),
        }
    }
}

/// What a run is, in every number.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How many nodes.
    pub nodes: u64,
    /// The faults that happen.
    pub faults: BTreeSet<Fault>,
    /// The faults among which each strike chooses; those that do not happen are chosen in vain.
    pub strikes: Vec<Fault>,
    /// The time from one strike to the next, on average about this.
    pub strike_every: Duration,
    /// The longest that a strike lasts.
    pub strike_lasts: Duration,
    /// How many directories may be lost.
    pub losses: Losses,
    /// Whether the last of three or more nodes is a witness, and how likely each that joins later is one;
    /// no witnesses if never.
    pub witnesses: Chance,
    /// How likely each that keeps data is wanted more than others as the leader; all alike if never.
    pub wanted: Chance,
    /// The network.
    pub network: NetworkProfile,
    /// The disks.
    pub disk: DiskProfile,
    /// The nodes.
    pub node: NodeProfile,
    /// The clients.
    pub client: ClientProfile,
}

/// How many directories may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// No more than the members can do without.
    Tolerable,
    /// Any number but all. What is left may have to halt.
    Any,
}

/// What packets meet.
#[derive(Clone, Debug)]
pub struct NetworkProfile {
    /// A packet is lost.
    pub drop: Chance,
    /// A packet arrives twice.
    pub duplicate: Chance,
    /// A packet takes a hundred times as long.
    pub slow: Chance,
    /// A bit of a packet is turned over.
    pub corrupt: Chance,
    /// An old packet comes with a packet.
    pub replay: Chance,
    /// A chunk of a snapshot breaks its transfer off.
    pub break_transfer: Chance,
    /// What a packet takes at least.
    pub latency: Duration,
    /// What it may take more; doubled with halving chance.
    pub jitter: Duration,
    /// Whether packets may overtake each other.
    pub ordering: Ordering,
}

/// Whether packets of one direction of a link may overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// They arrive in the order of sending, like on one connection.
    Kept,
    /// Each takes as long as it takes.
    Free,
}

/// How fast the disks are.
#[derive(Clone, Debug)]
pub struct DiskProfile {
    /// What a sync takes at least.
    pub latency: Duration,
    /// What it may take more; doubled with halving chance.
    pub jitter: Duration,
}

/// How the nodes are set up.
#[derive(Clone, Debug)]
pub struct NodeProfile {
    /// The time between two ticks.
    pub tick: Duration,
    /// By how much the rates of two clocks may differ, in parts per million.
    pub drift: u32,
    /// See [`quorate_raft::Config::election_ticks`].
    pub election_ticks: u32,
    /// See [`quorate_raft::Config::heartbeat_ticks`].
    pub heartbeat_ticks: u32,
    /// Whether leaders hold leases, and by how much they take clocks to differ: more than `drift`.
    pub leases: Option<DriftBound>,
    /// What bounds the cores.
    pub limits: Limits,
    /// Entries applied between two snapshots.
    pub snapshot_every: u64,
    /// The bytes of a log segment.
    pub segment_bytes: u64,
    /// The bytes of a chunk of a snapshot.
    pub chunk_bytes: usize,
    /// What bounds the sessions of clients.
    pub sessions: SessionLimits,
    /// The longest that a batch takes to be applied.
    pub apply: Duration,
    /// The longest that what happened waits for the loop, which takes in all that waits at once; none if zero.
    pub turn: Duration,
}

/// What the clients do.
#[derive(Clone, Debug)]
pub struct ClientProfile {
    /// How many there are, the steady readers not counted.
    pub clients: u64,
    /// What part of their operations are reads.
    pub reads: Chance,
    /// How many clients only read, and go on until the healed cluster is at rest.
    pub readers: u64,
    /// The longest time between two operations of a steady reader.
    pub reader_think: Duration,
    /// How many keys they share.
    pub keys: u64,
    /// The longest time between an answer and the next question.
    pub think: Duration,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// The sessions of those who write; none if they have none, and repeat nothing.
    pub sessions: Option<SessionProfile>,
}

/// What sessions of clients are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionProfile {
    /// How long one lives without a sign of life.
    pub ttl: Duration,
    /// A client gives no sign of life for seconds after an answer.
    pub naps: Chance,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} nodes{}{}, {} clients{}, {} readers,{} faults: {}",
            self.nodes,
            if self.witnesses == Chance::NEVER {
                ""
            } else {
                ", some of them witnesses"
            },
            if self.wanted == Chance::NEVER {
                ""
            } else {
                ", some wanted more"
            },
            self.client.clients,
            if self.client.sessions.is_some() {
                " with sessions"
            } else {
                ""
            },
            self.client.readers,
            self.node.leases.map_or("", |_| " leases,"),
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(" ")
            }
        )
    }
}
