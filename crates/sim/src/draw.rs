//! Draws a run's profile from its seed.
//!
//! - Every swarm leaves out about half of the faults. A bug that needs one fault undisturbed by
//!   another is found so, and so is one that needs two of them often (swarm testing).
//! - Whatever is left out has been drawn all the same, so that leaving it out shifts nothing else.
//! - What makes a node cramped (tiny batches, tiny segments, a snapshot every three entries) is there
//!   in a quarter of the runs, each for itself.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate::SessionLimits;
use quorate_raft::{DriftBound, Limits};

use crate::fault::{Fault, Manner};
use crate::profile::{
    ClientProfile, DiskProfile, Kind, Load, Losses, NetworkProfile, NodeProfile, Options, Ordering, Profile,
    SessionProfile, Size,
};
use crate::rng::{Chance, Rng, Stream};

impl Profile {
    /// What `seed` makes of `options`.
    #[must_use]
    pub fn draw(seed: u64, options: &Options) -> Self {
        let rng = &mut Rng::new(seed, Stream::Config);
        let nodes = draw_nodes(rng, options);
        let mut faults = draw_faults(rng, options.kind);
        if nodes == 1 && !faults.contains(&Fault::Reconfigure) {
            faults.retain(|fault| Fault::ALONE.contains(fault));
        }
        let strikes: Vec<Fault> = faults
            .iter()
            .copied()
            .filter(|fault| fault.manner() == Manner::Strikes)
            .collect();
        faults.retain(|fault| !options.edits.without.contains(fault));
        let mut profile = Self {
            nodes,
            strike_every: Duration::from_millis(rng.log_between(200, 5_000)),
            strike_lasts: Duration::from_millis(rng.log_between(100, 5_000)),
            losses: draw_losses(seed),
            witnesses: draw_witnesses(seed),
            wanted: draw_wanted(seed),
            network: draw_network(rng, &faults),
            disk: DiskProfile {
                latency: Duration::from_micros(rng.log_between(20, 5_000)),
                jitter: Duration::from_micros(rng.log_between(10, 2_000)),
            },
            node: NodeProfile {
                sessions: draw_session_limits(seed),
                ..draw_node(rng, options.kind, &faults)
            },
            client: ClientProfile {
                sessions: draw_sessions(seed),
                ..draw_client(rng, options)
            },
            strikes,
            faults,
        };
        // Drawn last, so that no run without leases is another for it.
        let has_leases = rng.chance(Chance::percent(40));
        // A little more than the clocks of a profile with this drift can differ by.
        let bound = DriftBound(profile.node.drift + profile.node.drift / 4);
        profile.node.leases = has_leases.then_some(bound);
        profile
    }
}

fn draw_nodes(rng: &mut Rng, options: &Options) -> u64 {
    // Drawn in any case, so that a fixed size does not shift what follows.
    let drawn = *rng.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5]);
    match (options.size, options.kind) {
        (Size::Exactly(nodes), _) => nodes,
        (Size::Drawn, Kind::Lite) => 3,
        (Size::Drawn, Kind::Partial) => drawn.max(3),
        (
            Size::Drawn,
            Kind::Swarm
            | Kind::Membership
            | Kind::Calm
            | Kind::OneFault
            | Kind::Disk
            | Kind::Clock
            | Kind::Performance,
        ) => drawn,
    }
}

fn draw_faults(rng: &mut Rng, kind: Kind) -> BTreeSet<Fault> {
    match kind {
        Kind::Swarm => Fault::ALL.into_iter().filter(|_| rng.coin()).collect(),
        Kind::Calm => BTreeSet::new(),
        Kind::Lite => [*rng.pick(&Fault::ALL), *rng.pick(&Fault::ALL)].into(),
        Kind::OneFault => [*rng.pick(&Fault::ALL)].into(),
        Kind::Partial => half_and(
            rng,
            &Fault::PARTIAL,
            &[Fault::Crash, Fault::Drop, Fault::Transfer, Fault::Comeback],
        ),
        Kind::Membership => {
            let more = [
                Fault::Crash,
                Fault::Isolate,
                Fault::Drop,
                Fault::Transfer,
                Fault::Halves,
                Fault::OneWay,
            ];
            let mut faults = half_and(rng, &[Fault::LostDirectory, Fault::FalseReport], &more);
            faults.insert(Fault::Reconfigure);
            faults
        }
        Kind::Disk => half_and(rng, &Fault::DISK, &[Fault::Isolate]),
        Kind::Clock => half_and(rng, &Fault::CLOCK, &[Fault::Transfer, Fault::Isolate]),
        // Many clients leave long tails in the log of a leader that is cut off.
        Kind::Performance => half_and(
            rng,
            &[
                Fault::SlowNode,
                Fault::Clog,
                Fault::Isolate,
                Fault::Halves,
                Fault::Blackhole,
                Fault::Comeback,
            ],
            &[Fault::SlowTail, Fault::Pause, Fault::Crash],
        ),
    }
}

/// One of `faults` and about half of its others, and of `more` sometimes one.
fn half_and(rng: &mut Rng, faults: &[Fault], more: &[Fault]) -> BTreeSet<Fault> {
    let mut drawn: BTreeSet<Fault> = faults.iter().copied().filter(|_| rng.coin()).collect();
    drawn.insert(*rng.pick(faults));
    drawn.extend(more.iter().copied().filter(|_| rng.chance(Chance::percent(25))));
    drawn
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
        corrupt: chance(Fault::Corrupt, 20_000),
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

fn draw_node(rng: &mut Rng, kind: Kind, faults: &BTreeSet<Fault>) -> NodeProfile {
    let heartbeat_ticks = rng.between(1, 3);
    let election_ticks = heartbeat_ticks * rng.between(4, 10);
    let ticks = |ticks| u32::try_from(ticks).expect("at most thirty");
    let drift = u32::try_from(rng.log_between(1_000, 200_000)).expect("below a million");
    let drawn = NodeProfile {
        tick: Duration::from_millis(*rng.pick(&[10, 20, 50, 50])),
        drift: if faults.contains(&Fault::Drift) { drift } else { 0 },
        election_ticks: ticks(election_ticks),
        heartbeat_ticks: ticks(heartbeat_ticks),
        leases: None,
        limits: draw_limits(rng),
        snapshot_every: *rng.pick(&[3, 20, 100, 500, 10_000]),
        segment_bytes: *rng.pick(&[16 << 10, 64 << 10, 1 << 20]),
        chunk_bytes: *rng.pick(&[7, 60, 64 << 10]),
        apply: Duration::from_micros(rng.log_between(10, 20_000)),
        turn: Duration::from_micros(*rng.pick(&[0, 0, 20, 500, 5_000])),
        sessions: SessionLimits::default(),
    };
    if kind != Kind::Calm {
        return drawn;
    }
    // As in production.
    NodeProfile {
        tick: Duration::from_millis(50),
        election_ticks: 10,
        heartbeat_ticks: 2,
        limits: Limits::default(),
        snapshot_every: 10_000,
        ..drawn
    }
}

fn draw_limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits {
        retained_entries: *rng.pick(&[0, 2, 10, 100, 5_000]),
        ..Limits::default()
    };
    let mut cramped = |limit: &mut u64, values: &[u64]| {
        let drawn = *rng.pick(values);
        if rng.chance(Chance::percent(25)) {
            *limit = drawn;
        }
    };
    cramped(&mut limits.max_message_bytes, &[1, 60, 200, 2_000]);
    cramped(&mut limits.max_inflight_bytes, &[1, 200, 2_000]);
    cramped(&mut limits.max_uncommitted_bytes, &[500, 2_000, 20_000]);
    cramped(&mut limits.max_applying_bytes, &[1, 200, 2_000]);
    cramped(&mut limits.window_bytes, &[0, 100, 1_000]);
    if rng.chance(Chance::percent(25)) {
        limits.max_pending_reads = usize::from(*rng.pick(&[1_u8, 2, 100]));
    }
    limits
}

fn draw_client(rng: &mut Rng, options: &Options) -> ClientProfile {
    let drawn = ClientProfile {
        clients: rng.between(1, 5),
        reads: Chance::percent(*rng.pick(&[10, 40, 40, 80])),
        readers: *rng.pick(&[0, 0, 0, 1, 1, 2]),
        reader_think: Duration::from_millis(rng.log_between(1, 50)),
        keys: rng.between(1, 4),
        think: Duration::from_millis(rng.log_between(2, 500)),
        patience: Duration::from_millis(rng.log_between(200, 5_000)),
        sessions: None,
    };
    let ClientProfile { clients, think, .. } = drawn;
    let (clients, think) = match (options.load, options.kind) {
        (Load::Idle, _) => (clients, Duration::from_secs(2)),
        (Load::Moderate, _) => (5, Duration::from_secs(1)),
        (Load::Drawn, Kind::Performance) => (clients * 4, think.min(Duration::from_millis(50))),
        (Load::Drawn, _) => (clients, think),
    };
    ClientProfile {
        // As many keys as there are clients, or nobody could judge what they saw.
        keys: if options.kind == Kind::Performance {
            clients.max(4)
        } else {
            drawn.keys
        },
        clients: options.edits.clients.map_or(clients, |most| most.min(clients)),
        readers: if options.load == Load::Drawn {
            options
                .edits
                .clients
                .map_or(drawn.readers, |most| most.min(drawn.readers))
        } else {
            0
        },
        think,
        ..drawn
    }
}

/// In some runs so many directories are lost that the others must halt.
fn draw_losses(seed: u64) -> Losses {
    if Rng::new(seed, Stream::Losses).chance(Chance::percent(15)) {
        Losses::Any
    } else {
        Losses::Tolerable
    }
}

/// A quarter of the runs have witnesses.
fn draw_witnesses(seed: u64) -> Chance {
    let rng = &mut Rng::new(seed, Stream::Witnesses);
    let newcomers = Chance::percent(*rng.pick(&[10, 30, 50]));
    if rng.chance(Chance::percent(25)) {
        newcomers
    } else {
        Chance::NEVER
    }
}

/// In a quarter of the runs some members are more wanted than others.
fn draw_wanted(seed: u64) -> Chance {
    let rng = &mut Rng::new(seed, Stream::Priorities);
    let each = Chance::percent(*rng.pick(&[20, 50]));
    if rng.chance(Chance::percent(25)) {
        each
    } else {
        Chance::NEVER
    }
}

/// Half of the runs have clients with sessions.
fn draw_sessions(seed: u64) -> Option<SessionProfile> {
    let rng = &mut Rng::new(seed, Stream::Sessions);
    let drawn = SessionProfile {
        ttl: Duration::from_millis(rng.log_between(100, 10_000)),
        naps: Chance::percent(*rng.pick(&[0, 2, 10])),
    };
    rng.coin().then_some(drawn)
}

fn draw_session_limits(seed: u64) -> SessionLimits {
    let rng = &mut Rng::new(seed, Stream::SessionLimits);
    let mut limits = SessionLimits::default();
    let mut cramped = |limit: &mut u64, values: &[u64]| {
        let drawn = *rng.pick(values);
        if rng.chance(Chance::percent(15)) {
            *limit = drawn;
        }
    };
    cramped(&mut limits.max_sessions, &[1, 2, 4]);
    cramped(&mut limits.max_unacknowledged, &[1, 2]);
    cramped(&mut limits.max_session_bytes, &[0, 30]);
    cramped(&mut limits.max_bytes, &[0, 60]);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Edits;

    fn of_kind(kind: Kind) -> Options {
        Options {
            kind,
            ..Options::default()
        }
    }

    #[test]
    fn seeds_differ_and_each_leaves_half_of_the_faults_out() {
        let faults = |seed| Profile::draw(seed, &Options::default()).faults;
        assert_ne!(faults(1), faults(2));
        let total: usize = (0..400).map(|seed| faults(seed).len()).sum();
        let average = total / 400;
        let half = Fault::ALL.len() / 2;
        assert!((half - 4..=half).contains(&average), "{average} of {half}");
    }

    #[test]
    fn a_calm_run_has_no_faults_and_no_losses() {
        let profile = Profile::draw(3, &of_kind(Kind::Calm));
        assert!(profile.faults.is_empty());
        assert_eq!(profile.network.drop, Chance::NEVER);
        assert_eq!(profile.network.ordering, Ordering::Kept);
    }

    #[test]
    fn each_kind_has_its_faults() {
        for seed in 0..50 {
            let faults = |kind| Profile::draw(seed, &of_kind(kind)).faults;
            let has_one_of = |kind, some: &[Fault], none: &[Fault]| {
                // A node that is alone has no faults of the network.
                let mut options = of_kind(kind);
                options.size = Size::Exactly(3);
                let drawn = Profile::draw(seed, &options).faults;
                assert!(some.iter().any(|fault| drawn.contains(fault)), "{kind:?} {seed}");
                assert!(none.iter().all(|fault| !drawn.contains(fault)), "{kind:?} {seed}");
            };
            assert!(faults(Kind::Calm).is_empty());
            assert!(faults(Kind::OneFault).len() <= 1);
            assert!(faults(Kind::Lite).len() <= 2);
            has_one_of(
                Kind::Partial,
                &Fault::PARTIAL,
                &[Fault::DiskError, Fault::DiskStall],
            );
            has_one_of(Kind::Membership, &[Fault::Reconfigure], &Fault::CLOCK);
            has_one_of(Kind::Disk, &Fault::DISK, &[Fault::Reconfigure]);
            has_one_of(Kind::Clock, &Fault::CLOCK, &[Fault::Reconfigure]);
            let slow = [
                Fault::SlowNode,
                Fault::Clog,
                Fault::Isolate,
                Fault::Halves,
                Fault::Blackhole,
                Fault::Comeback,
            ];
            has_one_of(Kind::Performance, &slow, &[Fault::Reconfigure]);
        }
        let mut swarmed = BTreeSet::new();
        for seed in 0..50 {
            let drawn = Profile::draw(seed, &of_kind(Kind::Swarm)).faults;
            assert!(drawn.len() < Fault::ALL.len(), "a swarm leaves some out: {seed}");
            swarmed.extend(drawn);
        }
        assert_eq!(
            swarmed.len(),
            Fault::ALL.len(),
            "every fault is drawn by some seed"
        );
    }

    #[test]
    fn clients_and_steady_readers_are_limited_alike() {
        let limited = |most| {
            let mut options = Options::default();
            options.edits.clients = Some(most);
            (0..50).map(move |seed| Profile::draw(seed, &options).client)
        };
        assert!(limited(1).any(|client| client.readers == 1));
        assert!(limited(1).all(|client| client.clients <= 1 && client.readers <= 1));
    }

    #[test]
    fn a_fixed_size_and_a_fault_left_out_shift_nothing_else() {
        let drawn = Profile::draw(9, &Options::default());
        let left_out = *drawn.faults.first().expect("seed 9 has faults");
        let same = Options {
            size: Size::Exactly(drawn.nodes),
            edits: Edits {
                without: [left_out].into(),
                ..Edits::default()
            },
            ..Options::default()
        };
        let edited = Profile::draw(9, &same);
        assert!(!edited.faults.contains(&left_out));
        assert_eq!(edited.strikes, drawn.strikes);
        assert_eq!(format!("{:?}", edited.client), format!("{:?}", drawn.client));
    }
}
