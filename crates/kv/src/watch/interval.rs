//! Which of many ranges hold a key: a tree of intervals in which a look-up costs the logarithm of their
//! number, plus what it finds.
//!
//! It is a treap: a search tree by (start, end) that is also a heap by a number drawn at insertion, which
//! keeps it shallow whatever the order of insertions. Every node knows how far its subtree reaches, so that
//! subtrees that end before a key are not entered.

use bytes::Bytes;

use super::Serial;
use crate::KeyRange;

/// Ranges, each with the watchers that have it.
#[derive(Debug, Default)]
pub(super) struct IntervalTree {
    root: Link,
    drawn: u64,
}

type Link = Option<Box<Node>>;

#[derive(Debug)]
struct Node {
    interval: Interval,
    watchers: Vec<Serial>,
    /// Not below those of its children.
    priority: u64,
    /// The end that is last in this subtree.
    reach: End,
    left: Link,
    right: Link,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    start: Bytes,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Bytes),
    Never,
}

impl IntervalTree {
    pub(super) fn insert(&mut self, keys: &KeyRange, watcher: Serial) {
        let interval = Interval::from(keys);
        match find(&mut self.root, &interval) {
            Some(node) => node.watchers.push(watcher),
            None => {
                self.drawn += 1;
                let node = Node::new(interval, watcher, scramble(self.drawn));
                self.root = Some(insert(self.root.take(), Box::new(node)));
            }
        }
    }

    pub(super) fn remove(&mut self, keys: &KeyRange, watcher: Serial) {
        let interval = Interval::from(keys);
        let Some(node) = find(&mut self.root, &interval) else {
            return;
        };
        node.watchers.retain(|other| *other != watcher);
        if node.watchers.is_empty() {
            self.root = remove(self.root.take(), &interval);
        }
    }

    /// Adds the watchers of all ranges that hold `key`.
    pub(super) fn matching(&self, key: &[u8], found: &mut Vec<Serial>) {
        matching(&self.root, key, found);
    }
}

impl Node {
    fn new(interval: Interval, watcher: Serial, priority: u64) -> Self {
        let reach = interval.end.clone();
        Self {
            interval,
            watchers: vec![watcher],
            priority,
            reach,
            left: None,
            right: None,
        }
    }

    /// Corrects `reach` after a child has changed.
    fn update(&mut self) {
        let children = [&self.left, &self.right]
            .into_iter()
            .flatten()
            .map(|child| &child.reach);
        let reach = children
            .max()
            .map_or(&self.interval.end, |reach| reach.max(&self.interval.end));
        self.reach = reach.clone();
    }
}

impl From<&KeyRange> for Interval {
    fn from(keys: &KeyRange) -> Self {
        Self {
            start: keys.start().clone(),
            end: keys.end().map_or(End::Never, End::Before),
        }
    }
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Never => true,
        }
    }
}

fn find<'a>(mut link: &'a mut Link, interval: &Interval) -> Option<&'a mut Node> {
    while let Some(node) = link {
        link = match interval.cmp(&node.interval) {
            std::cmp::Ordering::Equal => return Some(node),
            std::cmp::Ordering::Less => &mut node.left,
            std::cmp::Ordering::Greater => &mut node.right,
        };
    }
    None
}

fn insert(link: Link, mut new: Box<Node>) -> Box<Node> {
    let Some(mut node) = link else { return new };
    if new.priority > node.priority {
        (new.left, new.right) = split(Some(node), &new.interval);
        new.update();
        return new;
    }
    if new.interval < node.interval {
        node.left = Some(insert(node.left.take(), new));
    } else {
        node.right = Some(insert(node.right.take(), new));
    }
    node.update();
    node
}

/// Parts a tree into what is before an interval and what is after it.
fn split(link: Link, at: &Interval) -> (Link, Link) {
    let Some(mut node) = link else { return (None, None) };
    if node.interval < *at {
        let (left, right) = split(node.right.take(), at);
        node.right = left;
        node.update();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), at);
        node.left = right;
        node.update();
        (left, Some(node))
    }
}

fn remove(link: Link, interval: &Interval) -> Link {
    let mut node = link?;
    match interval.cmp(&node.interval) {
        std::cmp::Ordering::Equal => return merge(node.left, node.right),
        std::cmp::Ordering::Less => node.left = remove(node.left.take(), interval),
        std::cmp::Ordering::Greater => node.right = remove(node.right.take(), interval),
    }
    node.update();
    Some(node)
}

/// Joins two trees, all of the left one before all of the right one.
fn merge(left: Link, right: Link) -> Link {
    let (mut left, mut right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (one, None) | (None, one) => return one,
    };
    if left.priority > right.priority {
        left.right = merge(left.right.take(), Some(right));
        left.update();
        Some(left)
    } else {
        right.left = merge(Some(left), right.left.take());
        right.update();
        Some(right)
    }
}

fn matching(link: &Link, key: &[u8], found: &mut Vec<Serial>) {
    let Some(node) = link else { return };
    if !node.reach.is_after(key) {
        return;
    }
    matching(&node.left, key, found);
    if &node.interval.start[..] <= key {
        if node.interval.end.is_after(key) {
            found.extend_from_slice(&node.watchers);
        }
        matching(&node.right, key, found);
    }
}

/// The finalizer of splitmix64: spreads consecutive numbers evenly, the same on every run.
fn scramble(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn depth(link: &Link) -> usize {
        link.as_ref()
            .map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    #[test]
    fn ordered_insertions_make_a_shallow_tree() {
        let mut tree = IntervalTree::default();
        for i in 0..10_000u64 {
            tree.insert(&KeyRange::From(i.to_be_bytes().to_vec().into()), Serial(i));
        }
        assert!(depth(&tree.root) < 60, "depth {}", depth(&tree.root));
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        let key = || proptest::collection::vec(0u8..4, 1..3).prop_map(Bytes::from);
        prop_oneof![
            (key(), key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
            key().prop_map(KeyRange::From),
        ]
    }

    proptest! {
        /// Against a list that is searched from end to end.
        #[test]
        fn finds_what_a_list_finds(
            ranges in proptest::collection::vec(range(), 1..40),
            removed in proptest::collection::vec(any::<bool>(), 40),
            keys in proptest::collection::vec(proptest::collection::vec(0u8..4, 1..4), 20),
        ) {
            let mut tree = IntervalTree::default();
            let serials = || (0..).map(Serial);
            ranges.iter().zip(serials()).for_each(|(range, serial)| tree.insert(range, serial));
            let gone = |serial: &Serial| removed[usize::try_from(serial.0).unwrap()];
            for (range, serial) in ranges.iter().zip(serials()).filter(|(_, serial)| gone(serial)) {
                tree.remove(range, serial);
            }
            for key in keys {
                let mut found = Vec::new();
                tree.matching(&key, &mut found);
                found.sort_unstable();
                let twin = ranges.iter().zip(serials());
                let twin: Vec<Serial> = twin
                    .filter(|(range, serial)| range.contains(&key) && !gone(serial))
                    .map(|(_, serial)| serial)
                    .collect();
                prop_assert_eq!(found, twin);
            }
        }
    }
}
