//! Who can reach whom while the network is not whole.

use std::collections::BTreeSet;

use quorate_raft::NodeId;

use crate::rng::Rng;

/// Who cannot send to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    blocked: BTreeSet<(NodeId, NodeId)>,
}

impl Cut {
    /// Two groups, neither of which reaches the other.
    pub(crate) fn halves(nodes: &[NodeId], rng: &mut Rng) -> Self {
        let split = rng.between(1, (nodes.len() as u64).max(2) - 1);
        let split = usize::try_from(split).expect("a number of nodes fits");
        Self::between(&shuffled(nodes, rng), split)
    }

    /// One node reaches nobody, and nobody reaches it.
    pub(crate) fn isolate(nodes: &[NodeId], rng: &mut Rng) -> Self {
        Self::between(&shuffled(nodes, rng), 1)
    }

    /// One node and all others.
    pub(crate) fn around(node: NodeId, nodes: &[NodeId]) -> Self {
        let others = nodes.iter().copied().filter(|other| *other != node);
        Self {
            blocked: others.flat_map(|other| [(node, other), (other, node)]).collect(),
        }
    }

    /// One node is heard by nobody, or hears nobody, or only one link is cut, one way.
    pub(crate) fn one_way(nodes: &[NodeId], rng: &mut Rng) -> Self {
        let order = shuffled(nodes, rng);
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

    /// One node reaches all; the others are in two groups.
    pub(crate) fn bridge(nodes: &[NodeId], rng: &mut Rng) -> Self {
        let order = shuffled(nodes, rng);
        let Some((_, rest)) = order.split_first() else {
            return Self::default();
        };
        Self::between(rest, rest.len() / 2)
    }

    /// Each node reaches its neighbours on a ring, as many as make a majority with it.
    pub(crate) fn ring(nodes: &[NodeId], rng: &mut Rng) -> Self {
        let order = shuffled(nodes, rng);
        let count = order.len();
        let reach = (count / 2).div_ceil(2);
        Self::unless(&order, |a, b| a.abs_diff(b).min(count - a.abs_diff(b)) <= reach)
    }

    /// Each node reaches the one before it and the one after it (OmniPaxos' chained case).
    pub(crate) fn chain(nodes: &[NodeId], rng: &mut Rng) -> Self {
        Self::unless(&shuffled(nodes, rng), |a, b| a.abs_diff(b) == 1)
    }

    /// Only one node reaches others, and it reaches all (OmniPaxos' quorum-loss case).
    pub(crate) fn star(nodes: &[NodeId], rng: &mut Rng) -> Self {
        Self::unless(&shuffled(nodes, rng), |a, b| a == 0 || b == 0)
    }

    /// Two nodes do not reach each other.
    pub(crate) fn half_open(nodes: &[NodeId], rng: &mut Rng) -> Self {
        let order = shuffled(nodes, rng);
        Self::unless(&order, |a, b| a.max(b) > 1)
    }

    pub(crate) fn blocks(&self, from: NodeId, to: NodeId) -> bool {
        !self.blocked.is_empty() && self.blocked.contains(&(from, to))
    }

    /// The first `split` nodes and the rest.
    fn between(order: &[NodeId], split: usize) -> Self {
        Self::unless(order, |a, b| (a < split) == (b < split))
    }

    /// Blocks all pairs but those whose places in `order` reach each other.
    fn unless(order: &[NodeId], reach: impl Fn(usize, usize) -> bool) -> Self {
        let mut blocked = BTreeSet::new();
        for (a, from) in order.iter().enumerate() {
            for (b, to) in order.iter().enumerate() {
                if a != b && !reach(a, b) {
                    blocked.insert((*from, *to));
                }
            }
        }
        Self { blocked }
    }
}

fn shuffled(nodes: &[NodeId], rng: &mut Rng) -> Vec<NodeId> {
    let mut order = nodes.to_vec();
    rng.shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    const FIVE: [NodeId; 5] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5)];

    fn reached(cut: &Cut) -> Vec<usize> {
        let nodes = FIVE.into_iter();
        let reached = |from| nodes.clone().filter(|to| !cut.blocks(from, *to)).count();
        let mut counts: Vec<usize> = nodes.clone().map(reached).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn each_cut_has_its_shape() {
        for nth in 0..20 {
            let rng = &mut Rng::new(nth, Stream::Faults);
            assert_eq!(reached(&Cut::ring(&FIVE, rng)), [3, 3, 3, 3, 3]);
            assert_eq!(reached(&Cut::bridge(&FIVE, rng)), [3, 3, 3, 3, 5]);
            assert_eq!(reached(&Cut::isolate(&FIVE, rng)), [1, 4, 4, 4, 4]);
            assert_eq!(reached(&Cut::around(NodeId(2), &FIVE)), [1, 4, 4, 4, 4]);
            assert_eq!(reached(&Cut::chain(&FIVE, rng)), [2, 2, 3, 3, 3]);
            assert_eq!(reached(&Cut::star(&FIVE, rng)), [2, 2, 2, 2, 5]);
            assert_eq!(reached(&Cut::half_open(&FIVE, rng)), [4, 4, 5, 5, 5]);
        }
    }

    #[test]
    fn halves_cut_both_directions_and_one_way_cuts_one() {
        let rng = &mut Rng::new(4, Stream::Faults);
        for _ in 0..20 {
            let halves = Cut::halves(&FIVE, rng);
            assert!(!halves.blocked.is_empty());
            assert!(halves.blocked.iter().all(|(a, b)| halves.blocks(*b, *a)));
            let one_way = Cut::one_way(&FIVE, rng);
            assert!(!one_way.blocked.is_empty());
            assert!(one_way.blocked.iter().all(|(a, b)| !one_way.blocks(*b, *a)));
        }
    }
}
