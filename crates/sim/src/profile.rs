//! What a run is like: its size, its faults and its rates, all drawn from the seed.
//!
//! Every seed leaves out about half of the faults. A bug that needs one fault undisturbed by
//! another is found so, and so is one that needs two of them often (swarm testing).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_raft::Limits;

use crate::rng::{Chance, Rng, Stream};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Packets are lost.
    Drop,
    /// Packets arrive twice.
    Duplicate,
    /// Packets overtake each other.
    Reorder,
    /// A few packets take a hundred times as long.
    SlowTail,
    /// One direction of a link becomes slow and narrow.
    Clog,
    /// Packets recorded long ago arrive again.
    Replay,
    /// Two groups cannot reach each other.
    Halves,
    /// One node reaches nobody.
    Isolate,
    /// One node can be heard but hears nobody, or the other way round.
    OneWay,
    /// Two groups can reach one node, and not each other.
    Bridge,
    /// Each node reaches a majority, no two the same.
    Ring,
    /// A process dies and starts again.
    Crash,
    /// All processes die at once.
    PowerLoss,
    /// A process stands still for a while, and then goes on as if nothing had been.
    Pause,
    /// A disk stops answering for a while.
    DiskStall,
    /// A sync fails: the node must stop.
    DiskError,
    /// A snapshot breaks off on its way.
    BrokenSnapshot,
    /// An operator moves the leadership.
    Transfer,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::SlowTail,
        Self::Clog,
        Self::Replay,
        Self::Halves,
        Self::Isolate,
        Self::OneWay,
        Self::Bridge,
        Self::Ring,
        Self::Crash,
        Self::PowerLoss,
        Self::Pause,
        Self::DiskStall,
        Self::DiskError,
        Self::BrokenSnapshot,
        Self::Transfer,
    ];

    /// Whether it strikes at moments of its own, rather than at packets and transfers as they pass.
    #[must_use]
    pub fn strikes(self) -> bool {
        match self {
            Self::Drop
            | Self::Duplicate
            | Self::Reorder
            | Self::SlowTail
            | Self::Replay
            | Self::BrokenSnapshot => false,
            Self::Clog
            | Self::Halves
            | Self::Isolate
            | Self::OneWay
            | Self::Bridge
            | Self::Ring
            | Self::Crash
            | Self::PowerLoss
            | Self::Pause
            | Self::DiskStall
            | Self::DiskError
            | Self::Transfer => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::SlowTail => "slow-tail",
            Self::Clog => "clog",
            Self::Replay => "replay",
            Self::Halves => "halves",
            Self::Isolate => "isolate",
            Self::OneWay => "one-way",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::Crash => "crash",
            Self::PowerLoss => "power-loss",
            Self::Pause => "pause",
            Self::DiskStall => "disk-stall",
            Self::DiskError => "disk-error",
            Self::BrokenSnapshot => "broken-snapshot",
            Self::Transfer => "transfer",
        })
    }
}

/// How much goes wrong in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// Nothing does.
    Calm,
    /// A random half of the faults happens, at random rates.
    #[default]
    Swarm,
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
    /// Each asks about once a second.
    Idle,
}

/// What a run is asked to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub size: Size,
    /// How much goes wrong.
    pub mood: Mood,
    /// How busy the clients are.
    pub load: Load,
    /// For how long faults happen, in virtual time. Healing comes after.
    pub duration: Duration,
    /// How many lines of what happened are kept, the last ones.
    pub trace_lines: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: Size::Drawn,
            mood: Mood::Swarm,
            load: Load::Drawn,
            duration: Duration::from_secs(20),
            trace_lines: 0,
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
    /// The time from one strike to the next, on average about this.
    pub strike_every: Duration,
    /// The longest that a strike lasts.
    pub strike_lasts: Duration,
    /// The network.
    pub network: NetworkProfile,
    /// The disks.
    pub disk: DiskProfile,
    /// The nodes.
    pub node: NodeProfile,
    /// The clients.
    pub client: ClientProfile,
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
    /// See [`quorate_raft::Config::election_ticks`].
    pub election_ticks: u32,
    /// See [`quorate_raft::Config::heartbeat_ticks`].
    pub heartbeat_ticks: u32,
    /// What bounds the cores.
    pub limits: Limits,
    /// Entries applied between two snapshots.
    pub snapshot_every: u64,
    /// The bytes of a log segment.
    pub segment_bytes: u64,
    /// The bytes of a chunk of a snapshot.
    pub chunk_bytes: usize,
    /// The longest that a batch takes to be applied.
    pub apply: Duration,
    /// The longest that what happened waits for the loop, which takes in all that waits at once; none if zero.
    pub turn: Duration,
}

/// What the clients do.
#[derive(Clone, Debug)]
pub struct ClientProfile {
    /// How many there are.
    pub clients: u64,
    /// How many keys they share.
    pub keys: u64,
    /// The longest time between an answer and the next question.
    pub think: Duration,
    /// How long a client waits for an answer.
    pub patience: Duration,
}

impl Profile {
    /// What `seed` makes of `options`.
    #[must_use]
    pub fn draw(seed: u64, options: &Options) -> Self {
        let rng = &mut Rng::new(seed, Stream::Config);
        let nodes = draw_nodes(rng, options.size);
        let faults = draw_faults(rng, options.mood, nodes);
        let network = draw_network(rng, &faults);
        Self {
            nodes,
            strike_every: Duration::from_millis(rng.log_between(200, 5_000)),
            strike_lasts: Duration::from_millis(rng.log_between(100, 8_000)),
            disk: DiskProfile {
                latency: Duration::from_micros(rng.log_between(20, 5_000)),
                jitter: Duration::from_micros(rng.log_between(10, 2_000)),
            },
            node: draw_node(rng),
            client: draw_client(rng, options.load),
            network,
            faults,
        }
    }
}

fn draw_nodes(rng: &mut Rng, size: Size) -> u64 {
    // Drawn in any case, so that a fixed size does not shift what follows.
    let drawn = *rng.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5]);
    match size {
        Size::Drawn => drawn,
        Size::Exactly(nodes) => nodes,
    }
}

fn draw_faults(rng: &mut Rng, mood: Mood, nodes: u64) -> BTreeSet<Fault> {
    let drawn: BTreeSet<Fault> = Fault::ALL.into_iter().filter(|_| rng.coin()).collect();
    let alone = [
        Fault::Crash,
        Fault::PowerLoss,
        Fault::Pause,
        Fault::DiskStall,
        Fault::DiskError,
    ];
    match mood {
        Mood::Calm => BTreeSet::new(),
        Mood::Swarm if nodes == 1 => drawn.into_iter().filter(|fault| alone.contains(fault)).collect(),
        Mood::Swarm => drawn,
    }
}

fn draw_network(rng: &mut Rng, faults: &BTreeSet<Fault>) -> NetworkProfile {
    let mut chance = |fault, most| {
        let drawn = u32::try_from(rng.log_between(1_000, most)).expect("below a million");
        if faults.contains(&fault) {
            Chance(drawn)
        } else {
            Chance::NEVER
        }
    };
    NetworkProfile {
        drop: chance(Fault::Drop, 300_000),
        duplicate: chance(Fault::Duplicate, 500_000),
        slow: chance(Fault::SlowTail, 50_000),
        replay: chance(Fault::Replay, 50_000),
        break_transfer: chance(Fault::BrokenSnapshot, 500_000),
        latency: Duration::from_micros(rng.log_between(50, 3_000)),
        jitter: Duration::from_micros(rng.log_between(10, 3_000)),
        ordering: if faults.contains(&Fault::Reorder) {
            Ordering::Free
        } else {
            Ordering::Kept
        },
    }
}

fn draw_node(rng: &mut Rng) -> NodeProfile {
    let heartbeat_ticks = rng.between(1, 3);
    let election_ticks = heartbeat_ticks * rng.between(4, 10);
    let ticks = |ticks| u32::try_from(ticks).expect("at most thirty");
    NodeProfile {
        tick: Duration::from_millis(*rng.pick(&[10, 20, 50])),
        election_ticks: ticks(election_ticks),
        heartbeat_ticks: ticks(heartbeat_ticks),
        limits: draw_limits(rng),
        snapshot_every: *rng.pick(&[3, 20, 100, 500, 10_000]),
        segment_bytes: *rng.pick(&[16 << 10, 64 << 10, 1 << 20]),
        chunk_bytes: *rng.pick(&[64, 1_000, 64 << 10]),
        apply: Duration::from_micros(rng.log_between(10, 20_000)),
        turn: Duration::from_micros(*rng.pick(&[0, 0, 20, 500, 5_000])),
    }
}

fn draw_limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits {
        retained_entries: *rng.pick(&[0, 2, 10, 100, 5_000]),
        ..Limits::default()
    };
    if rng.coin() {
        limits.max_message_bytes = *rng.pick(&[1, 60, 200, 2_000]);
        limits.max_inflight_bytes = *rng.pick(&[1, 200, 2_000]);
        limits.max_uncommitted_bytes = *rng.pick(&[500, 2_000, 20_000]);
        limits.max_applying_bytes = *rng.pick(&[1, 200, 2_000]);
        limits.window_bytes = *rng.pick(&[0, 100, 1_000]);
        limits.max_pending_reads = usize::from(*rng.pick(&[1_u8, 2, 100]));
    }
    limits
}

fn draw_client(rng: &mut Rng, load: Load) -> ClientProfile {
    let drawn = ClientProfile {
        clients: rng.between(1, 5),
        keys: rng.between(1, 4),
        think: Duration::from_millis(rng.log_between(1, 200)),
        patience: Duration::from_millis(rng.log_between(200, 5_000)),
    };
    match load {
        Load::Drawn => drawn,
        Load::Idle => ClientProfile {
            think: Duration::from_secs(2),
            ..drawn
        },
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} nodes, {} clients, faults: {}",
            self.nodes,
            self.client.clients,
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(" ")
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_and_each_leaves_faults_out() {
        let faults = |seed| Profile::draw(seed, &Options::default()).faults;
        assert_ne!(faults(1), faults(2));
        let total: usize = (0..400).map(|seed| faults(seed).len()).sum();
        let average = total / 400;
        assert!((6..=11).contains(&average), "about half of 18: {average}");
    }

    #[test]
    fn a_calm_run_has_no_faults_and_no_losses() {
        let options = Options {
            mood: Mood::Calm,
            ..Options::default()
        };
        let profile = Profile::draw(3, &options);
        assert!(profile.faults.is_empty());
        assert_eq!(profile.network.drop, Chance::NEVER);
        assert_eq!(profile.network.ordering, Ordering::Kept);
    }

    #[test]
    fn a_fixed_size_does_not_shift_what_else_is_drawn() {
        let drawn = Profile::draw(9, &Options::default());
        let fixed = Profile::draw(
            9,
            &Options {
                size: Size::Exactly(drawn.nodes),
                ..Options::default()
            },
        );
        assert_eq!(format!("{drawn:?}"), format!("{fixed:?}"));
    }
}
