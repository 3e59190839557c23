//! Which watchers a change is for, without looking at the others.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Serial;
use super::interval::IntervalTree;
use crate::KeyRange;

/// Watchers by what they watch: single keys in a map, ranges in a tree.
#[derive(Debug, Default)]
pub(super) struct WatchIndex {
    keys: BTreeMap<Bytes, Vec<Serial>>,
    ranges: IntervalTree,
}

impl WatchIndex {
    pub(super) fn insert(&mut self, keys: &KeyRange, watcher: Serial) {
        match keys {
            KeyRange::Single(key) => self.keys.entry(key.clone()).or_default().push(watcher),
            KeyRange::Span { .. } | KeyRange::From(_) => self.ranges.insert(keys, watcher),
        }
    }

    pub(super) fn remove(&mut self, keys: &KeyRange, watcher: Serial) {
        match keys {
            KeyRange::Single(key) => self.remove_key(key, watcher),
            KeyRange::Span { .. } | KeyRange::From(_) => self.ranges.remove(keys, watcher),
        }
    }

    /// The watchers of a key, in no particular order.
    pub(super) fn matching(&self, key: &[u8]) -> Vec<Serial> {
        let mut found = self.keys.get(key).cloned().unwrap_or_default();
        self.ranges.matching(key, &mut found);
        found
    }

    fn remove_key(&mut self, key: &Bytes, watcher: Serial) {
        let Some(watchers) = self.keys.get_mut(key) else {
            return;
        };
        watchers.retain(|other| *other != watcher);
        if watchers.is_empty() {
            self.keys.remove(key);
        }
    }
}
