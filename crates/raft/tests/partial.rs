//! Clusters in which some links are cut, both ways or one way: where some node can talk to a quorum, a
//! leader that can work is found, and kept.
//!
//! The named cases are those of OmniPaxos (Ng, Haridi, Carbone, EuroSys 2023), §2. Time passes alike at
//! all nodes, and messages take none: what is counted is ticks and terms.

mod cluster;

use cluster::{Cluster, Options};
use quorate_raft::status::RoleKind;
use quorate_raft::{Input, Limits, MemberInfo, NodeId, Outcome, Precondition, Priority, Target, Term};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn cluster(voters: u64, seed: u64, limits: Limits) -> Cluster {
    let mut cluster = Cluster::new(Options {
        voters,
        seed,
        automatic: true,
        limits,
        ..Options::default()
    });
    cluster.be_silent();
    cluster
}

/// Lets time pass at all nodes.
fn pass(cluster: &mut Cluster, ticks: u32) {
    for _ in 0..ticks {
        for id in cluster.running() {
            cluster.step(id, Input::Tick);
        }
        cluster.stabilize();
    }
}

fn leaders(cluster: &Cluster) -> Vec<NodeId> {
    let leads = |id: &NodeId| cluster.status(*id).role == RoleKind::Leader;
    cluster.ids().into_iter().filter(leads).collect()
}

fn term(cluster: &Cluster) -> Term {
    let terms = cluster.ids().into_iter().map(|id| cluster.status(id).term);
    terms.max().expect("there are nodes")
}

/// Makes `id` the leader of all, who have everything.
fn elect(cluster: &mut Cluster, id: NodeId) {
    for _ in 0..50 {
        pass(cluster, 5);
        let Some(leader) = leaders(cluster).first().copied() else {
            continue;
        };
        if leader == id {
            return pass(cluster, 5);
        }
        cluster.transfer(leader, quorate_raft::Transferee::Node(id));
        cluster.stabilize();
    }
    panic!("{id} is never elected");
}

fn cut_both(cluster: &mut Cluster, a: NodeId, b: NodeId) {
    cluster.network.cut(a, b);
    cluster.network.cut(b, a);
}

/// Whether some leader commits a command now.
fn commits(cluster: &mut Cluster) -> bool {
    leaders(cluster).into_iter().any(|leader| {
        let ticket = cluster.propose(leader, &["command".to_string()])[0];
        cluster.stabilize();
        matches!(cluster.history.outcome(ticket), Some(Outcome::Committed(_)))
    })
}

/// A leader that commits is found within the bound, and then no election happens for a long time.
fn recovers_and_stays(cluster: &mut Cluster, case: &str) {
    let timeout = cluster.election_ticks();
    let found = (0..BOUND * timeout).any(|_| {
        pass(cluster, 1);
        commits(cluster)
    });
    assert!(
        found,
        "{case}: no leader commits within {BOUND} election timeouts"
    );
    pass(cluster, 2 * timeout);
    let (before, leader) = (term(cluster), leaders(cluster));
    pass(cluster, KEPT * timeout);
    assert_eq!(term(cluster), before, "{case}: elections go on");
    assert_eq!(leaders(cluster), leader, "{case}: the leader is not kept");
    assert!(
        commits(cluster),
        "{case}: the leader that was kept commits nothing"
    );
    cluster.network.heal();
    pass(cluster, 4 * timeout);
    assert!(commits(cluster), "{case}: it does not heal");
}

/// Only `hub` reaches the others.
fn only_hub(cluster: &mut Cluster, hub: NodeId) {
    for a in cluster.ids() {
        for b in cluster.ids() {
            if a != hub && b != hub && a != b {
                cluster.network.cut(a, b);
            }
        }
    }
}

fn isolate(cluster: &mut Cluster, id: NodeId) {
    for other in cluster.ids() {
        cut_both(cluster, id, other);
    }
}

fn write(cluster: &mut Cluster, at: NodeId, count: u64) {
    for number in 0..count {
        cluster.propose(at, &[format!("entry {number}")]);
        cluster.stabilize();
    }
}

#[test]
fn quorum_loss_ends_when_the_connected_node_leads() {
    for seed in 0..SEEDS {
        let mut cluster = cluster(5, seed, Limits::default());
        elect(&mut cluster, N1);
        only_hub(&mut cluster, N2);
        recovers_and_stays(&mut cluster, &format!("quorum loss, seed {seed}"));
        assert!(term(&cluster) <= Term(20));
    }
}

#[test]
fn constrained_election_is_won_with_the_log_of_another() {
    for seed in 0..SEEDS {
        let limits = Limits {
            max_message_bytes: [1, 100, 1 << 20][usize::try_from(seed % 3).unwrap_or(0)],
            window_bytes: [0, 1 << 20][usize::try_from(seed % 2).unwrap_or(0)],
            ..Limits::default()
        };
        let mut cluster = cluster(5, seed, limits);
        elect(&mut cluster, N1);
        isolate(&mut cluster, N2);
        write(&mut cluster, N1, 1 + seed % 20);
        cluster.network.heal();
        isolate(&mut cluster, N1);
        only_hub(&mut cluster, N2);
        recovers_and_stays(&mut cluster, &format!("constrained election, seed {seed}"));
    }
}

#[test]
fn constrained_election_replaces_entries_that_were_never_committed() {
    for seed in 0..SEEDS {
        let mut cluster = cluster(5, seed, Limits::default());
        elect(&mut cluster, N2);
        isolate(&mut cluster, N2);
        write(&mut cluster, N2, 1 + seed % 5);
        pass(&mut cluster, 50);
        let leader = leaders(&cluster)[0];
        write(&mut cluster, leader, 3);
        cluster.network.heal();
        isolate(&mut cluster, leader);
        only_hub(&mut cluster, N2);
        recovers_and_stays(&mut cluster, &format!("diverged hub, seed {seed}"));
    }
}

#[test]
fn chained_nodes_keep_their_leader() {
    for seed in 0..SEEDS {
        for (leader, stale) in [(N1, false), (N1, true), (N2, false)] {
            let mut cluster = cluster(3, seed, Limits::default());
            elect(&mut cluster, leader);
            if stale {
                isolate(&mut cluster, N2);
                write(&mut cluster, leader, 3);
                cluster.network.heal();
            }
            cut_both(&mut cluster, N1, NodeId(3));
            recovers_and_stays(&mut cluster, &format!("chain led by {leader}, seed {seed}"));
        }
    }
}

#[test]
fn links_that_work_one_way_depose_nobody_for_ever() {
    for seed in 0..SEEDS {
        for to_leader in [true, false] {
            for both in [true, false] {
                let mut cluster = cluster(3, seed, Limits::default());
                elect(&mut cluster, N1);
                for other in [N2, NodeId(3)].into_iter().take(if both { 2 } else { 1 }) {
                    match to_leader {
                        true => cluster.network.cut(other, N1),
                        false => cluster.network.cut(N1, other),
                    }
                }
                let case = format!("one way, to the leader: {to_leader}, both: {both}, seed {seed}");
                recovers_and_stays(&mut cluster, &case);
            }
        }
    }
}

#[test]
fn any_cut_that_leaves_some_node_a_quorum_leaves_a_leader() {
    let mut played = 0;
    for seed in 0..10 * SEEDS {
        let mut dice = Dice(seed);
        let voters = 3 + 2 * dice.below(2);
        let mut cluster = cluster(voters, seed, Limits::default());
        let first = NodeId(1 + dice.below(voters));
        elect(&mut cluster, first);
        if dice.below(2) == 0 {
            let behind = NodeId(1 + dice.below(voters));
            isolate(&mut cluster, behind);
            write(&mut cluster, first, 1 + dice.below(4));
            cluster.network.heal();
        }
        let links = dice.below(1_000);
        for a in cluster.ids() {
            for b in cluster.ids() {
                if a != b && dice.below(1_000) < links {
                    cluster.network.cut(a, b);
                }
            }
        }
        if somebody_reaches_a_quorum(&cluster) {
            played += 1;
            recovers_and_stays(&mut cluster, &format!("random cuts, seed {seed}"));
        }
    }
    assert!(
        played > SEEDS,
        "too few of the random cuts leave a quorum: {played}"
    );
}

fn somebody_reaches_a_quorum(cluster: &Cluster) -> bool {
    let ids = cluster.ids();
    let both = |a: NodeId, b: NodeId| !cluster.network.is_cut(a, b) && !cluster.network.is_cut(b, a);
    let reached = |a: NodeId| ids.iter().filter(|b| both(a, **b)).count();
    ids.iter().any(|a| 2 * reached(*a) > ids.len())
}

/// Election timeouts within which a leader is found.
const BOUND: u32 = 20;
/// Election timeouts for which it is kept.
const KEPT: u32 = 40;
const SEEDS: u64 = 30;

/// Every try ends the leadership of the only one that can win: with a wait that began anew with each leadership, one
/// election followed another for ever.
#[test]
fn a_more_wanted_voter_that_cannot_win_is_asked_ever_less_often() {
    let (hub, wanted) = (N1, NodeId(5));
    let mut cluster = cluster(5, 1, Limits::default());
    elect(&mut cluster, hub);
    only_hub(&mut cluster, hub);
    cluster.reconfigure(hub, wanting(&cluster, wanted), Precondition::Any);
    let (timeout, before) = (cluster.election_ticks(), term(&cluster));
    pass(&mut cluster, 250 * timeout);
    let terms = term(&cluster).0 - before.0;
    assert!(
        (2..=24).contains(&terms),
        "{terms} terms in 250 election timeouts"
    );
    assert_eq!(leaders(&cluster), [hub]);
    assert!(commits(&mut cluster));

    cluster.network.heal();
    pass(&mut cluster, 520 * timeout);
    assert_eq!(leaders(&cluster), [wanted]);
}

/// The members as they are, one of them more wanted than the others.
fn wanting(cluster: &Cluster, wanted: NodeId) -> Target {
    let info = |node: NodeId| {
        let priority = Priority(u32::from(node == wanted));
        let info = MemberInfo {
            priority,
            ..MemberInfo::default()
        };
        (node, info)
    };
    Target::new(cluster.ids().into_iter().map(info), []).expect("voters alone")
}
