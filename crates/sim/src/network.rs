//! The simulated network: what becomes of each packet.
//!
//! - Links are directed: a node may hear another that does not hear it.
//! - A packet is lost, late, early, doubled, or as old as the run; it is never altered, since frames
//!   carry checksums and a connection that fails them is closed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::NodeId;

use crate::profile::{Fault, NetworkProfile, Ordering};
use crate::rng::{Chance, Rng};
use crate::schedule::Time;

/// A message, encoded, on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) bytes: Bytes,
}

/// A packet that will arrive.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) after: Duration,
    pub(crate) packet: Packet,
}

/// Who can reach whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    blocked: BTreeSet<(NodeId, NodeId)>,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    profile: NetworkProfile,
    rng: Rng,
    cut: Cut,
    clogged: BTreeMap<(NodeId, NodeId), Clog>,
    /// When the last packet of each link arrives, where order is kept.
    last: BTreeMap<(NodeId, NodeId), Time>,
    recorded: VecDeque<Packet>,
    counts: BTreeMap<Fault, u64>,
}

/// A link that is slow and holds few packets.
#[derive(Clone, Copy, Debug)]
struct Clog {
    delay: Duration,
    room: u64,
}

impl Network {
    /// A network whose links are all whole.
    pub(crate) fn new(profile: NetworkProfile, rng: Rng) -> Self {
        Self {
            profile,
            rng,
            cut: Cut::default(),
            clogged: BTreeMap::new(),
            last: BTreeMap::new(),
            recorded: VecDeque::new(),
            counts: BTreeMap::new(),
        }
    }

    /// What arrives because `packet` was sent at `now`: nothing, it, or more.
    pub(crate) fn send(&mut self, now: Time, packet: Packet) -> Vec<Arrival> {
        let mut arrivals = Vec::with_capacity(1);
        if self.rng.chance(self.profile.replay) {
            arrivals.extend(self.replay());
        }
        self.record(&packet);
        if self.cut.blocks(packet.from, packet.to) {
            return arrivals;
        }
        if self.rng.chance(self.profile.drop) {
            self.count(Fault::Drop);
            return arrivals;
        }
        if self.rng.chance(self.profile.duplicate) {
            self.count(Fault::Duplicate);
            arrivals.extend(self.pass(now, packet.clone()));
        }
        arrivals.extend(self.pass(now, packet));
        arrivals
    }

    /// How long a chunk of bulk data takes from one node to another; none if it is lost, and its transfer with it.
    pub(crate) fn send_chunk(&mut self, from: NodeId, to: NodeId) -> Option<Duration> {
        if self.cut.blocks(from, to) {
            return None;
        }
        if self.rng.chance(self.profile.break_transfer) {
            self.count(Fault::BrokenSnapshot);
            return None;
        }
        Some(self.rng.tail(self.profile.latency, self.profile.jitter))
    }

    /// Makes the links what `cut` says.
    pub(crate) fn cut(&mut self, cut: Cut) {
        self.cut = cut;
    }

    /// Makes one direction of a link slow and narrow.
    pub(crate) fn clog(&mut self, from: NodeId, to: NodeId) {
        let clog = Clog {
            delay: Duration::from_micros(self.rng.log_between(1_000, 5_000_000)),
            room: self.rng.between(2, 20),
        };
        self.clogged.insert((from, to), clog);
    }

    /// Ends every cut and every clog.
    pub(crate) fn mend(&mut self) {
        self.cut = Cut::default();
        self.clogged.clear();
    }

    /// Mends, and loses nothing from here on.
    pub(crate) fn heal(&mut self) {
        self.mend();
        self.profile.drop = Chance::NEVER;
        self.profile.duplicate = Chance::NEVER;
        self.profile.slow = Chance::NEVER;
        self.profile.replay = Chance::NEVER;
        self.profile.break_transfer = Chance::NEVER;
    }

    /// Loses everything from here on.
    pub(crate) fn break_down(&mut self) {
        self.profile.drop = Chance::percent(100);
    }

    /// Packets recorded earlier, for a node that has started again.
    pub(crate) fn replay_after_restart(&mut self) -> Vec<Arrival> {
        if self.profile.replay == Chance::NEVER {
            return Vec::new();
        }
        (0..self.rng.below(REPLAYED_AT_RESTART))
            .filter_map(|_| self.replay())
            .collect()
    }

    /// How often each fault of the network happened.
    pub(crate) fn counts(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }

    fn pass(&mut self, now: Time, packet: Packet) -> Option<Arrival> {
        let link = (packet.from, packet.to);
        let mut after = self.rng.tail(self.profile.latency, self.profile.jitter);
        if self.rng.chance(self.profile.slow) {
            self.count(Fault::SlowTail);
            after *= SLOWER;
        }
        if let Some(clog) = self.clogged.get_mut(&link) {
            clog.room = clog.room.checked_sub(1)?;
            after += clog.delay;
        }
        if self.profile.ordering == Ordering::Kept {
            let last = self.last.entry(link).or_default();
            *last = (*last).max(now + after);
            after = last.since(now);
        }
        Some(Arrival { after, packet })
    }

    fn replay(&mut self) -> Option<Arrival> {
        if self.recorded.is_empty() {
            return None;
        }
        self.count(Fault::Replay);
        let at = self.rng.below(self.recorded.len() as u64);
        let packet = self.recorded[usize::try_from(at).expect("an index below a length fits")].clone();
        let after = self.rng.tail(self.profile.latency, self.profile.jitter);
        Some(Arrival { after, packet })
    }

    /// Keeps some packets for ever and some for a while, so that what is replayed has every age.
    fn record(&mut self, packet: &Packet) {
        if self.profile.replay == Chance::NEVER || self.rng.below(4) != 0 {
            return;
        }
        if self.recorded.len() < MOST_RECORDED {
            self.recorded.push_back(packet.clone());
        } else {
            let at = self.rng.below(MOST_RECORDED as u64);
            self.recorded[usize::try_from(at).expect("an index below a length fits")] = packet.clone();
        }
    }

    fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }
}

impl Cut {
    /// The cut of the shape that `fault` names, among nodes 1 to `nodes`; whole for other faults.
    pub(crate) fn draw(fault: Fault, nodes: u64, rng: &mut Rng) -> Self {
        let mut order: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        rng.shuffle(&mut order);
        match fault {
            Fault::Halves => {
                let split = rng.between(1, nodes.max(2) - 1);
                Self::between(&order, split)
            }
            Fault::Isolate => Self::between(&order, 1),
            Fault::OneWay => Self::one_way(&order, rng),
            Fault::Bridge => Self::bridge(&order),
            Fault::Ring => Self::ring(&order),
            Fault::Drop
            | Fault::Duplicate
            | Fault::Reorder
            | Fault::SlowTail
            | Fault::Clog
            | Fault::Replay
            | Fault::Crash
            | Fault::PowerLoss
            | Fault::Pause
            | Fault::DiskStall
            | Fault::DiskError
            | Fault::BrokenSnapshot
            | Fault::Transfer => Self::default(),
        }
    }

    fn blocks(&self, from: NodeId, to: NodeId) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// The first `split` nodes and the rest.
    fn between(order: &[NodeId], split: u64) -> Self {
        let split = usize::try_from(split).expect("a number of nodes fits");
        let (some, rest) = order.split_at(split.min(order.len()));
        let pairs = some
            .iter()
            .flat_map(|a| rest.iter().flat_map(move |b| [(*a, *b), (*b, *a)]));
        Self {
            blocked: pairs.collect(),
        }
    }

    /// The first node is heard by nobody, or hears nobody, or only one link is cut, one way.
    fn one_way(order: &[NodeId], rng: &mut Rng) -> Self {
        let Some((one, rest)) = order.split_first() else {
            return Self::default();
        };
        let blocked = match rng.below(3) {
            0 => rest.iter().map(|other| (*one, *other)).collect(),
            1 => rest.iter().map(|other| (*other, *one)).collect(),
            _ => rest.iter().take(1).map(|other| (*one, *other)).collect(),
        };
        Self { blocked }
    }

    /// The first node reaches all; the others are in two groups.
    fn bridge(order: &[NodeId]) -> Self {
        let Some((_, rest)) = order.split_first() else {
            return Self::default();
        };
        Self::between(rest, rest.len() as u64 / 2)
    }

    /// Each node reaches its neighbours on a ring, as many as make a majority with it.
    fn ring(order: &[NodeId]) -> Self {
        let count = order.len();
        let reach = (count / 2).div_ceil(2);
        let mut blocked = BTreeSet::new();
        for (a, from) in order.iter().enumerate() {
            for (b, to) in order.iter().enumerate() {
                let apart = a.abs_diff(b).min(count - a.abs_diff(b));
                if apart > reach {
                    blocked.insert((*from, *to));
                }
            }
        }
        Self { blocked }
    }
}

/// How much longer a slow packet takes.
const SLOWER: u32 = 100;
const MOST_RECORDED: usize = 64;
const REPLAYED_AT_RESTART: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Mood, Options, Profile};
    use crate::rng::Stream;

    fn network() -> Network {
        let options = Options {
            mood: Mood::Calm,
            ..Options::default()
        };
        Network::new(Profile::draw(1, &options).network, Rng::new(1, Stream::Network))
    }

    fn packet(from: u64, to: u64) -> Packet {
        Packet {
            from: NodeId(from),
            to: NodeId(to),
            bytes: Bytes::new(),
        }
    }

    fn reached(cut: &Cut, nodes: u64, from: u64) -> usize {
        (1..=nodes)
            .filter(|to| !cut.blocks(NodeId(from), NodeId(*to)))
            .count()
    }

    #[test]
    fn in_a_ring_each_node_reaches_a_majority_and_nobody_all() {
        let cut = Cut::draw(Fault::Ring, 5, &mut Rng::new(1, Stream::Faults));
        assert!((1..=5).all(|node| reached(&cut, 5, node) == 3));
    }

    #[test]
    fn a_bridge_reaches_all_and_the_others_their_side_and_it() {
        let cut = Cut::draw(Fault::Bridge, 5, &mut Rng::new(2, Stream::Faults));
        let mut counts: Vec<usize> = (1..=5).map(|node| reached(&cut, 5, node)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [3, 3, 3, 3, 5]);
    }

    #[test]
    fn an_isolated_node_reaches_itself_only_and_is_reached_by_nobody() {
        let cut = Cut::draw(Fault::Isolate, 3, &mut Rng::new(3, Stream::Faults));
        let alone: Vec<u64> = (1..=3).filter(|node| reached(&cut, 3, *node) == 1).collect();
        assert_eq!(alone.len(), 1);
        assert!((1..=3).all(|from| from == alone[0] || cut.blocks(NodeId(from), NodeId(alone[0]))));
    }

    #[test]
    fn halves_cut_both_directions_and_one_way_cuts_one() {
        let rng = &mut Rng::new(4, Stream::Faults);
        for _ in 0..20 {
            let halves = Cut::draw(Fault::Halves, 5, rng);
            assert!(!halves.blocked.is_empty());
            assert!(halves.blocked.iter().all(|(a, b)| halves.blocks(*b, *a)));
            let one_way = Cut::draw(Fault::OneWay, 5, rng);
            assert!(!one_way.blocked.is_empty());
            assert!(one_way.blocked.iter().all(|(a, b)| !one_way.blocks(*b, *a)));
        }
    }

    #[test]
    fn a_cut_link_carries_nothing_until_it_is_mended() {
        let mut network = network();
        network.cut(Cut::between(&[NodeId(1), NodeId(2)], 1));
        assert!(network.send(Time(0), packet(1, 2)).is_empty());
        assert_eq!(network.send_chunk(NodeId(2), NodeId(1)), None);
        network.mend();
        assert_eq!(network.send(Time(0), packet(1, 2)).len(), 1);
    }

    #[test]
    fn a_calm_link_keeps_its_order_and_a_doubling_one_doubles() {
        let mut network = network();
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            let arrivals = network.send(Time(0), packet(1, 2));
            assert_eq!(arrivals.len(), 1);
            assert!(arrivals[0].after >= last);
            last = arrivals[0].after;
        }
        network.profile.duplicate = Chance::percent(100);
        assert_eq!(network.send(Time(0), packet(1, 2)).len(), 2);
        network.profile.drop = Chance::percent(100);
        assert!(network.send(Time(0), packet(1, 2)).is_empty());
    }

    #[test]
    fn a_clogged_link_holds_few_packets() {
        let mut network = network();
        network.clog(NodeId(1), NodeId(2));
        let passed = (0..100)
            .filter(|_| !network.send(Time(0), packet(1, 2)).is_empty())
            .count();
        assert!((2..=20).contains(&passed));
        assert_eq!(network.send(Time(0), packet(2, 1)).len(), 1);
    }
}
