//! The simulated network: what becomes of each packet.
//!
//! - Links are directed: a node may hear another that does not hear it.
//! - A packet is lost, late, early, doubled, altered, or as old as the run. One that is altered fails
//!   its checksum: the receiver closes the connection, and what was on it is lost.
//! - What befalls a packet follows from the seed, its link and its number on that link.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_raft::NodeId;

use crate::cut::Cut;
use crate::fault::Fault;
use crate::incident::{Incident, Incidents};
use crate::profile::{NetworkProfile, Ordering};
use crate::rng::{Chance, Rng, Stream};
use crate::schedule::Time;

/// A message, encoded, on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) bytes: Bytes,
    pub(crate) state: State,
    /// The connection that it is on.
    connection: Connection,
}

/// Whether a packet is as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Whole,
    Altered,
}

/// Counts the connections of a link, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Connection(u32);

/// A packet that will arrive.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) after: Duration,
    pub(crate) packet: Packet,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    seed: u64,
    profile: NetworkProfile,
    cut: (Damage, Cut),
    damages: u64,
    links: BTreeMap<(NodeId, NodeId), Link>,
    recorded: VecDeque<Packet>,
    transfers: u64,
    counts: BTreeMap<Fault, u64>,
    pub(crate) incidents: Incidents,
}

/// Names a cut or a clog, so that what was to end it ends no later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage(u64);

/// One direction between two nodes.
#[derive(Debug, Default)]
struct Link {
    sent: u64,
    connection: Connection,
    clog: Option<Clog>,
    /// When its last packet arrives, where order is kept.
    last: Time,
}

/// A link that is slow and holds few packets.
#[derive(Clone, Debug)]
struct Clog {
    damage: Damage,
    delay: Duration,
    room: usize,
    /// When the packets that it holds arrive.
    held: Vec<Time>,
}

/// What befalls one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    drop: bool,
    duplicate: bool,
    slow: bool,
    replay: bool,
    corrupt: bool,
}

impl Packet {
    pub(crate) fn new(from: NodeId, to: NodeId, bytes: Bytes) -> Self {
        Self {
            from,
            to,
            bytes,
            state: State::Whole,
            connection: Connection::default(),
        }
    }
}

impl Network {
    /// A network whose links are all whole.
    pub(crate) fn new(seed: u64, profile: NetworkProfile, incidents: Incidents) -> Self {
        Self {
            seed,
            profile,
            cut: Default::default(),
            damages: 0,
            links: BTreeMap::new(),
            recorded: VecDeque::new(),
            transfers: 0,
            counts: BTreeMap::new(),
            incidents,
        }
    }

    /// Hands to `arrive` what arrives because `packet` was sent at `now`: nothing, it, or more.
    pub(crate) fn send(&mut self, now: Time, mut packet: Packet, mut arrive: impl FnMut(Arrival)) {
        let (from, to) = (packet.from, packet.to);
        let link = self.links.entry((from, to)).or_default();
        let nth = link.sent;
        link.sent += 1;
        packet.connection = link.connection;
        let mut rng = Rng::new(self.seed, Stream::Packet(from, to, nth));
        let mut fate = Fate::draw(&self.profile, &mut rng);
        if fate != Fate::GOOD && !self.incidents.happens(Incident::Packet { from, to, nth }) {
            fate = Fate::GOOD;
        }
        if fate.replay
            && let Some(packet) = self.recorded_one(&mut rng)
        {
            let after = rng.tail(self.profile.latency, self.profile.jitter);
            arrive(Arrival { after, packet });
        }
        self.record(&packet, &mut rng);
        if self.cut.1.blocks(from, to) || self.is_dropped(fate) {
            return;
        }
        if fate.corrupt {
            self.count(Fault::Corrupt);
            packet.bytes = altered(&packet.bytes, &mut rng);
            packet.state = State::Altered;
        }
        if fate.duplicate {
            self.count(Fault::Duplicate);
            self.pass(now, packet.clone(), fate, &mut rng).map(&mut arrive);
        }
        self.pass(now, packet, fate, &mut rng).map(arrive);
    }

    /// The number of a new transfer of bulk data.
    pub(crate) fn begin_transfer(&mut self) -> u64 {
        self.transfers += 1;
        self.transfers
    }

    /// How long a chunk of a transfer takes from one node to another; none if it is lost, and its transfer with it.
    pub(crate) fn send_chunk(
        &mut self,
        from: NodeId,
        to: NodeId,
        transfer: u64,
        rng: &mut Rng,
    ) -> Option<Duration> {
        let breaks = rng.chance(self.profile.break_transfer);
        if self.cut.1.blocks(from, to) {
            return None;
        }
        if breaks && self.incidents.happens(Incident::Transfer(transfer)) {
            self.count(Fault::BrokenSnapshot);
            return None;
        }
        Some(rng.tail(self.profile.latency, self.profile.jitter))
    }

    /// How long a second copy of a chunk takes; none if there is none.
    pub(crate) fn repeat_chunk(&mut self, transfer: u64, rng: &mut Rng) -> Option<Duration> {
        let repeats = rng.chance(self.profile.duplicate);
        if !repeats || !self.incidents.happens(Incident::Transfer(transfer)) {
            return None;
        }
        self.count(Fault::Duplicate);
        Some(rng.tail(self.profile.latency, self.profile.jitter))
    }

    /// Whether nothing gets from one node to another.
    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.1.blocks(from, to)
    }

    /// Whether the connection that a packet is on was lost meanwhile.
    pub(crate) fn is_lost(&self, packet: &Packet) -> bool {
        let link = self.links.get(&(packet.from, packet.to));
        link.is_some_and(|link| link.connection != packet.connection)
    }

    /// A connection is closed: what is on it is lost, and what is sent next goes by another.
    pub(crate) fn close(&mut self, from: NodeId, to: NodeId) {
        if let Some(link) = self.links.get_mut(&(from, to)) {
            link.connection = Connection(link.connection.0 + 1);
        }
    }

    /// Makes the links what `cut` says, instead of what a cut before it said.
    pub(crate) fn cut(&mut self, cut: Cut) -> Damage {
        let damage = self.next_damage();
        self.cut = (damage, cut);
        damage
    }

    /// Whether nothing has taken the place of this cut.
    pub(crate) fn is_cut_by(&self, damage: Damage) -> bool {
        self.cut.0 == damage
    }

    /// Makes one direction of a link slow and narrow.
    pub(crate) fn clog(&mut self, from: NodeId, to: NodeId, rng: &mut Rng) -> Damage {
        let damage = self.next_damage();
        let clog = Clog {
            damage,
            delay: Duration::from_micros(rng.log_between(1_000, 5_000_000)),
            room: usize::try_from(rng.between(2, 20)).expect("at most 20"),
            held: Vec::new(),
        };
        self.links.entry((from, to)).or_default().clog = Some(clog);
        damage
    }

    /// Ends this cut or clog, unless another has taken its place.
    pub(crate) fn mend(&mut self, damage: Damage) {
        if self.is_cut_by(damage) {
            self.cut.1 = Cut::default();
        }
        for link in self.links.values_mut() {
            link.clog.take_if(|clog| clog.damage == damage);
        }
    }

    /// Ends every cut and every clog, and loses nothing from here on.
    pub(crate) fn heal(&mut self) {
        self.cut = Default::default();
        self.links.values_mut().for_each(|link| link.clog = None);
        self.profile.drop = Chance::NEVER;
        self.profile.duplicate = Chance::NEVER;
        self.profile.slow = Chance::NEVER;
        self.profile.corrupt = Chance::NEVER;
        self.profile.replay = Chance::NEVER;
        self.profile.break_transfer = Chance::NEVER;
    }

    /// Loses everything from here on.
    pub(crate) fn break_down(&mut self) {
        self.profile.drop = Chance::percent(100);
    }

    /// Packets recorded earlier, for a node that has started again.
    pub(crate) fn replay_after_restart(&mut self, node: NodeId, life: u64) -> Vec<Arrival> {
        let rng = &mut Rng::new(self.seed, Stream::Restart(node, life));
        if self.profile.replay == Chance::NEVER {
            return Vec::new();
        }
        let mut arrivals = Vec::new();
        for _ in 0..rng.below(REPLAYED_AT_RESTART) {
            if let Some(packet) = self.recorded_one(rng) {
                let after = rng.tail(self.profile.latency, self.profile.jitter);
                arrivals.push(Arrival { after, packet });
            }
        }
        arrivals
    }

    /// How often each fault of the network happened.
    pub(crate) fn counts(&self) -> &BTreeMap<Fault, u64> {
        &self.counts
    }

    fn next_damage(&mut self) -> Damage {
        self.damages += 1;
        Damage(self.damages)
    }

    fn is_dropped(&mut self, fate: Fate) -> bool {
        if fate.drop {
            self.count(Fault::Drop);
        }
        fate.drop
    }

    fn pass(&mut self, now: Time, packet: Packet, fate: Fate, rng: &mut Rng) -> Option<Arrival> {
        let mut after = rng.tail(self.profile.latency, self.profile.jitter);
        if fate.slow {
            self.count(Fault::SlowTail);
            after *= SLOWER;
        }
        let link = self.links.entry((packet.from, packet.to)).or_default();
        if let Some(clog) = &mut link.clog {
            clog.held.retain(|arrives| *arrives > now);
            if clog.held.len() == clog.room {
                return None;
            }
            after += clog.delay;
        }
        if self.profile.ordering == Ordering::Kept {
            link.last = link.last.max(now + after);
            after = link.last.since(now);
        }
        if let Some(clog) = &mut link.clog {
            clog.held.push(now + after);
        }
        Some(Arrival { after, packet })
    }

    /// A packet as it was recorded, on the connection that is open.
    fn recorded_one(&mut self, rng: &mut Rng) -> Option<Packet> {
        if self.recorded.is_empty() {
            return None;
        }
        self.count(Fault::Replay);
        let mut packet = rng.pick(self.recorded.make_contiguous()).clone();
        let link = self.links.get(&(packet.from, packet.to));
        packet.connection = link.map(|link| link.connection).unwrap_or_default();
        Some(packet)
    }

    /// Keeps some packets for ever and some for a while, so that what is replayed has every age.
    fn record(&mut self, packet: &Packet, rng: &mut Rng) {
        if self.profile.replay == Chance::NEVER || rng.below(4) != 0 {
            return;
        }
        if self.recorded.len() < MOST_RECORDED {
            self.recorded.push_back(packet.clone());
        } else {
            let at = rng.below(MOST_RECORDED as u64);
            self.recorded[usize::try_from(at).expect("an index below a length fits")] = packet.clone();
        }
    }

    fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }
}

impl Fate {
    const GOOD: Self = Self {
        drop: false,
        duplicate: false,
        slow: false,
        replay: false,
        corrupt: false,
    };

    fn draw(profile: &NetworkProfile, rng: &mut Rng) -> Self {
        // One number for each, whatever its chance: a fault that is left out does not shift the others.
        let mut befalls = |chance: Chance| rng.below(1_000_000) < u64::from(chance.0);
        Self {
            drop: befalls(profile.drop),
            duplicate: befalls(profile.duplicate),
            slow: befalls(profile.slow),
            replay: befalls(profile.replay),
            corrupt: befalls(profile.corrupt),
        }
    }
}

/// The same bytes but for one, anywhere.
fn altered(bytes: &Bytes, rng: &mut Rng) -> Bytes {
    let mut altered = BytesMut::from(&bytes[..]);
    if !altered.is_empty() {
        let at = usize::try_from(rng.below(altered.len() as u64)).expect("an index below a length fits");
        altered[at] ^= 1 << rng.below(8);
    }
    altered.freeze()
}

/// How much longer a slow packet takes.
const SLOWER: u32 = 100;
const MOST_RECORDED: usize = 64;
const REPLAYED_AT_RESTART: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Kept;
    use crate::profile::{Kind, Options, Profile};

    fn network() -> Network {
        let options = Options {
            kind: Kind::Calm,
            ..Options::default()
        };
        Network::new(1, Profile::draw(1, &options).network, Incidents::new(Kept::All))
    }

    fn packet(from: u64, to: u64) -> Packet {
        Packet::new(NodeId(from), NodeId(to), Bytes::from_static(b"some bytes"))
    }

    fn sent(network: &mut Network, packet: Packet) -> Vec<Arrival> {
        sent_at(Time::START, network, packet)
    }

    fn sent_at(now: Time, network: &mut Network, packet: Packet) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        network.send(now, packet, |arrival| arrivals.push(arrival));
        arrivals
    }

    #[test]
    fn a_cut_link_carries_nothing_until_it_is_mended() {
        let mut network = network();
        let rng = &mut Rng::new(1, Stream::Transfer(1));
        let earlier = network.cut(Cut::isolate(&[NodeId(1), NodeId(2)], &mut rng.clone()));
        let later = network.cut(Cut::isolate(&[NodeId(1), NodeId(2)], &mut rng.clone()));
        network.mend(earlier);
        assert!(sent(&mut network, packet(1, 2)).is_empty());
        assert_eq!(network.send_chunk(NodeId(2), NodeId(1), 1, rng), None);
        network.mend(later);
        assert_eq!(sent(&mut network, packet(1, 2)).len(), 1);
    }

    #[test]
    fn a_calm_link_keeps_its_order_and_a_doubling_one_doubles() {
        let mut network = network();
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            let arrivals = sent(&mut network, packet(1, 2));
            assert_eq!(arrivals.len(), 1);
            assert!(arrivals[0].after >= last);
            last = arrivals[0].after;
        }
        network.profile.duplicate = Chance::percent(100);
        assert_eq!(sent(&mut network, packet(1, 2)).len(), 2);
        network.profile.drop = Chance::percent(100);
        assert!(sent(&mut network, packet(1, 2)).is_empty());
    }

    #[test]
    fn what_befalls_a_packet_can_be_left_out() {
        let mut network = network();
        network.profile.drop = Chance::percent(100);
        network.incidents = Incidents::new(Kept::Only([].into()));
        assert_eq!(sent(&mut network, packet(1, 2)).len(), 1);
    }

    #[test]
    fn one_bit_is_altered_and_a_closed_connection_loses_what_is_on_it() {
        let mut network = network();
        network.profile.corrupt = Chance::percent(100);
        let arrived = sent(&mut network, packet(1, 2)).remove(0).packet;
        let differ = arrived
            .bytes
            .iter()
            .zip(b"some bytes")
            .map(|(a, b)| (a ^ b).count_ones());
        assert_eq!(differ.sum::<u32>(), 1);
        assert!(!network.is_lost(&arrived));
        network.close(NodeId(1), NodeId(2));
        assert!(network.is_lost(&arrived));
        let next = sent(&mut network, packet(1, 2)).remove(0).packet;
        assert!(!network.is_lost(&next));
    }

    #[test]
    fn a_clogged_link_holds_few_packets() {
        let mut network = network();
        network.clog(NodeId(1), NodeId(2), &mut Rng::new(1, Stream::Strike(1)));
        let passed: Vec<Arrival> = (0..100).flat_map(|_| sent(&mut network, packet(1, 2))).collect();
        assert!((2..=20).contains(&passed.len()));
        assert_eq!(sent(&mut network, packet(2, 1)).len(), 1);
        let first = Time::START + passed[0].after;
        assert_eq!(
            sent_at(first, &mut network, packet(1, 2)).len(),
            1,
            "one has left"
        );
    }
}
