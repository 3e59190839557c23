//! The keys, in order, each with its versions.
//!
//! - A key's versions are in order of position. Two of one revision are possible: a transaction may put a
//!   key in one nested transaction and delete it in a later one.
//! - A key that has one version costs three words here besides its record.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use crate::record::{Position, Record};
use crate::{KeyRange, Revision};

/// Every key that has a version, deleted ones too as long as history remembers them.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    keys: BTreeSet<KeyHistory>,
}

impl KeyIndex {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyHistory> {
        self.keys.get(key)
    }

    /// The histories of a range's keys, in key order.
    pub(crate) fn range<'a>(&'a self, keys: &'a KeyRange) -> impl Iterator<Item = &'a KeyHistory> {
        let range = (!keys.is_empty()).then(|| self.keys.range::<[u8], _>(keys.bounds()));
        range.into_iter().flatten()
    }

    /// The histories from a key on, in key order.
    pub(crate) fn from(&self, key: &[u8]) -> impl Iterator<Item = &KeyHistory> {
        self.keys
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
    }

    /// Takes a key out, to be put back by [`Self::insert`] with one version more.
    pub(crate) fn take(&mut self, key: &[u8]) -> Option<KeyHistory> {
        self.keys.take(key)
    }

    /// Adds a version, newer than all others of its key, whose history was taken out before.
    pub(crate) fn insert(&mut self, history: Option<KeyHistory>, record: Record) {
        self.keys.insert(KeyHistory::with(history, record));
    }

    /// An index of records that are in order of key, then of position.
    pub(crate) fn from_ordered(records: impl Iterator<Item = Record>) -> Self {
        let mut histories: Vec<KeyHistory> = Vec::new();
        for record in records {
            let history = histories.pop_if(|last| last.key() == record.key());
            histories.push(KeyHistory::with(history, record));
        }
        Self {
            keys: histories.into_iter().collect(),
        }
    }

    /// Removes a key's oldest versions, at most `count` of them, and the key with its last one.
    pub(crate) fn remove_oldest(&mut self, key: &[u8], count: usize) -> Vec<Record> {
        if count == 0 {
            return Vec::new();
        }
        let Some(mut history) = self.keys.take(key) else {
            return Vec::new();
        };
        let mut removed = history.take_older(count);
        if removed.len() < count {
            removed.push(history.latest);
        } else {
            self.keys.insert(history);
        }
        removed
    }
}

/// The versions of one key: at least one.
#[derive(Debug)]
pub(crate) struct KeyHistory {
    latest: Record,
    #[expect(
        clippy::box_collection,
        reason = "most keys have one version: this is one word instead of four"
    )]
    older: Option<Box<VecDeque<Record>>>,
}

impl KeyHistory {
    pub(crate) fn key(&self) -> &[u8] {
        self.latest.key()
    }

    /// The newest version, if the key exists in it.
    pub(crate) fn alive(&self) -> Option<&Record> {
        Some(&self.latest).filter(|record| record.is_put())
    }

    /// The version at a revision: a tombstone if the key was deleted.
    pub(crate) fn version_at(&self, revision: Revision) -> Option<&Record> {
        if self.latest.revision() <= revision {
            return Some(&self.latest);
        }
        let older = self.older.as_ref()?;
        let after = older.partition_point(|record| record.revision() <= revision);
        older.get(after.checked_sub(1)?)
    }

    /// The version at a revision, if the key existed.
    pub(crate) fn alive_at(&self, revision: Revision) -> Option<&Record> {
        self.version_at(revision).filter(|record| record.is_put())
    }

    /// How many of the oldest versions nobody can see from `compacted` on.
    ///
    /// What was written at `compacted` itself stays, tombstones too: a watch may begin there.
    pub(crate) fn superseded(&self, compacted: Revision) -> usize {
        match self.version_at(compacted) {
            None => 0,
            Some(seen) if seen.revision() == compacted => self.count_until(compacted.prev()),
            Some(seen) => self.count_until(compacted) - usize::from(seen.is_put()),
        }
    }

    /// The versions that somebody can see from `compacted` on, in order; those at `after` and before it
    /// left out.
    pub(crate) fn visible_from(
        &self,
        compacted: Revision,
        after: Option<Position>,
    ) -> impl Iterator<Item = &Record> {
        let older = self.older.as_deref();
        let told = |older: &VecDeque<Record>| {
            after.map_or(0, |after| {
                older.partition_point(|record| record.position() <= after)
            })
        };
        let first = self.superseded(compacted).max(older.map_or(0, told));
        let count = older.map_or(0, VecDeque::len);
        let latest = (first <= count && after.is_none_or(|after| self.latest.position() > after))
            .then_some(&self.latest);
        older
            .into_iter()
            .flat_map(move |older| older.range(first.min(count)..))
            .chain(latest)
    }

    /// The state at `compacted` and every later version up to `until`.
    pub(crate) fn state_and_changes(
        &self,
        compacted: Revision,
        until: Revision,
    ) -> impl Iterator<Item = &Record> {
        let changes = self.visible_from(compacted, None);
        let within = move |record: &&Record| record.revision() > compacted && record.revision() <= until;
        self.alive_at(compacted).into_iter().chain(changes.filter(within))
    }

    fn count_until(&self, revision: Revision) -> usize {
        let older = self.older.as_ref().map_or(0, |older| {
            older.partition_point(|record| record.revision() <= revision)
        });
        older + usize::from(self.latest.revision() <= revision)
    }

    /// A history with one version more.
    fn with(history: Option<Self>, record: Record) -> Self {
        let older = history.map(|history| {
            let mut older = history.older.unwrap_or_default();
            older.push_back(history.latest);
            older
        });
        Self {
            latest: record,
            older,
        }
    }

    fn take_older(&mut self, count: usize) -> Vec<Record> {
        let Some(older) = self.older.as_mut() else {
            return Vec::new();
        };
        let removed = older.drain(..count.min(older.len())).collect();
        if older.is_empty() {
            self.older = None;
        } else if older.len() < older.capacity() / 4 {
            older.shrink_to(older.len() * 2);
        }
        removed
    }
}

impl Borrow<[u8]> for KeyHistory {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl Ord for KeyHistory {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for KeyHistory {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for KeyHistory {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for KeyHistory {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{NewVersion, Position};

    fn put(revision: i64) -> Record {
        let position = Position::start_of(Revision(revision));
        let create = Revision(1);
        Record::put(&NewVersion {
            position,
            key: b"k",
            value: b"",
            create,
            version: 1,
            lease: None,
        })
    }

    fn tombstone(revision: i64) -> Record {
        Record::tombstone(Position::start_of(Revision(revision)), b"k")
    }

    /// Put at 2 and 4, deleted at 6, put at 8.
    fn index() -> KeyIndex {
        let mut index = KeyIndex::default();
        for record in [put(2), put(4), tombstone(6), put(8)] {
            let history = index.take(b"k");
            index.insert(history, record);
        }
        index
    }

    fn alive_at(index: &KeyIndex, revision: i64) -> Option<i64> {
        index
            .get(b"k")?
            .alive_at(Revision(revision))
            .map(|record| record.revision().0)
    }

    #[test]
    fn a_version_is_seen_until_the_next() {
        let seen = (1..=9)
            .map(|revision| alive_at(&index(), revision))
            .collect::<Vec<_>>();
        let expected = [
            None,
            Some(2),
            Some(2),
            Some(4),
            Some(4),
            None,
            None,
            Some(8),
            Some(8),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn versions_that_nobody_can_see_are_superseded() {
        let index = index();
        let history = index.get(b"k").unwrap();
        let superseded = (1..=9)
            .map(|at| history.superseded(Revision(at)))
            .collect::<Vec<_>>();
        // At 6 the tombstone stays, for a watch from 6; at 7 it goes.
        assert_eq!(superseded, [0, 0, 0, 1, 1, 2, 3, 3, 3]);
    }

    #[test]
    fn versions_can_be_gone_on_with() {
        let index = index();
        let visible = |compacted: i64, after: Option<i64>| {
            let after = after.map(|after| Position::start_of(Revision(after)));
            let versions = index.get(b"k").unwrap().visible_from(Revision(compacted), after);
            versions.map(|record| record.revision().0).collect::<Vec<_>>()
        };
        assert_eq!(visible(-1, None), [2, 4, 6, 8]);
        assert_eq!(visible(-1, Some(4)), [6, 8]);
        assert_eq!(visible(6, None), [6, 8]);
        assert_eq!(visible(7, Some(2)), [8]);
        assert_eq!(visible(6, Some(8)), [0; 0]);
    }

    #[test]
    fn an_index_of_ordered_records_is_as_one_that_grew() {
        let ordered = KeyIndex::from_ordered([put(2), put(4), tombstone(6), put(8)].into_iter());
        let seen = |index: &KeyIndex| (1..=9).map(|at| alive_at(index, at)).collect::<Vec<_>>();
        assert_eq!(seen(&ordered), seen(&index()));
    }

    #[test]
    fn a_key_goes_with_its_last_version() {
        let mut index = index();
        assert_eq!(index.remove_oldest(b"k", 3).len(), 3);
        assert_eq!(alive_at(&index, 7), None);
        assert_eq!(alive_at(&index, 8), Some(8));
        assert_eq!(index.remove_oldest(b"k", 5).len(), 1);
        assert!(index.get(b"k").is_none());
    }
}
