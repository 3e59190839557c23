//! Randomness: one seed, and a stream of its own for each thing that draws.
//!
//! - A seed and a [`Stream`] give the same numbers on every machine: no floating point is used.
//! - A thing that draws more, or starts to draw, does not shift what the others draw: a run stays
//!   comparable when a knob is added to one of its parts, or one of its faults is left out.
//! - A stream is one number, so that each strike and each packet has one of its own.

use std::time::Duration;

use quorate_raft::NodeId;

use crate::digest::Digest;

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Which faults a run has, and every rate.
    Config,
    /// What becomes of one packet: who sends it to whom, and how many came before it.
    Packet(NodeId, NodeId, u64),
    /// What becomes of the chunks of one transfer of a snapshot.
    Transfer(u64),
    /// When faults strike.
    Faults,
    /// One strike: what it is, and whom it hits.
    Strike(u64),
    /// What a second operator wants, after the strike of this number.
    SecondOperator(u64),
    /// One node's disk: latencies, and what a crash leaves.
    Disk(u64),
    /// One node's process: its seeds and delays.
    Process(u64),
    /// Which old packets come to a node when it starts, in one of its lives.
    Restart(NodeId, u64),
    /// What one client does.
    Client(u64),
    /// Whether clients have sessions, and what these are like.
    Sessions,
    /// What bounds the sessions.
    SessionLimits,
    /// How many directories may be lost.
    Losses,
    /// Whether there are witnesses.
    Witnesses,
    /// Whether a node that joins is a witness.
    Kind(u64),
    /// Whether some members are more wanted as leaders than others.
    Priorities,
    /// How much a node is wanted.
    Priority(u64),
}

/// A chance in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(pub u32);

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self(0);

    /// It happens in `percent` of 100 cases.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }
}

/// A stream of random numbers (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream that `seed` gives to `stream`.
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let (kind, number) = stream.numbers();
        let start = Digest::EMPTY.number(seed).number(kind).number(number);
        Self(start.value())
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias is below 2⁻³² for the bounds used here.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(
            bound > 0,
            "nothing is below 0: the caller must have something to choose from"
        );
        self.number() % bound
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(
            low <= high,
            "an empty range {low}..={high} has nothing to choose from"
        );
        low + self.below(high - low + 1)
    }

    /// A number from `low` to `high`, small ones as likely as large ones on a logarithmic scale.
    pub(crate) fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let doublings = u64::from((high / low.max(1)).max(1).ilog2());
        let top = low.max(1) << self.between(0, doublings);
        self.between(low, top.saturating_mul(2).min(high).max(low))
    }

    /// Whether something of this chance happens this time.
    pub(crate) fn chance(&mut self, chance: Chance) -> bool {
        chance.0 > 0 && self.below(1_000_000) < u64::from(chance.0)
    }

    /// A coin.
    pub(crate) fn coin(&mut self) -> bool {
        self.number() & 1 == 0
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = self.below(items.len() as u64);
        &items[usize::try_from(at).expect("an index below a length fits")]
    }

    /// A span from `low` to `high`, in whole microseconds.
    pub(crate) fn span(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(micros(low), micros(high)))
    }

    /// A span of at least `least`: in half of the cases up to `scale` more, in a quarter up to twice that, and so on.
    pub(crate) fn tail(&mut self, least: Duration, scale: Duration) -> Duration {
        let doublings = self.number().trailing_zeros().min(LONGEST_TAIL);
        let scale = micros(scale).max(1);
        least + Duration::from_micros(self.below(scale << doublings))
    }

    /// Brings `items` into a random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let at = self.below(end as u64 + 1);
            items.swap(end, usize::try_from(at).expect("an index below a length fits"));
        }
    }
}

impl Stream {
    fn numbers(self) -> (u64, u64) {
        match self {
            Self::Config => (0, 0),
            Self::Packet(from, to, nth) => (1 + (from.0 << 32) + (to.0 << 8), nth),
            Self::Transfer(nth) => (2, nth),
            Self::Faults => (3, 0),
            Self::Strike(nth) => (4, nth),
            Self::SecondOperator(nth) => (11, nth),
            Self::Disk(node) => (5, node),
            Self::Process(node) => (6, node),
            Self::Restart(node, life) => (12 + (node.0 << 32), life),
            Self::Client(client) => (7, client),
            Self::Sessions => (9, 0),
            Self::SessionLimits => (9, 1),
            Self::Losses => (9, 2),
            Self::Witnesses => (9, 3),
            Self::Kind(node) => (10, node),
            Self::Priorities => (9, 4),
            Self::Priority(node) => (13, node),
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("simulated spans are far below 2^64 microseconds")
}

/// A delay's scale is doubled this often at most. The longest delays exceed the shortest election timeouts, as they may.
const LONGEST_TAIL: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_are_apart_and_repeat() {
        let draw = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.number(), rng.number(), rng.number()]
        };
        assert_eq!(draw(7, Stream::Disk(1)), draw(7, Stream::Disk(1)));
        assert_ne!(draw(7, Stream::Disk(1)), draw(7, Stream::Disk(2)));
        assert_ne!(draw(7, Stream::Disk(1)), draw(7, Stream::Process(1)));
        assert_ne!(draw(7, Stream::Faults), draw(8, Stream::Faults));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut rng = Rng::new(1, Stream::Config);
        for _ in 0..1_000 {
            assert!((3..=9).contains(&rng.between(3, 9)));
            assert!((1..=1_000).contains(&rng.log_between(1, 1_000)));
            assert!((0..=5).contains(&rng.log_between(0, 5)));
            let span = rng.tail(Duration::from_micros(10), Duration::from_micros(5));
            assert!(span >= Duration::from_micros(10) && span < Duration::from_micros(10 + (5 << 6)));
        }
        assert!(!rng.chance(Chance::NEVER));
        assert!(rng.chance(Chance::percent(100)));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(3, Stream::Faults).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
