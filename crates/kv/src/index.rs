//! The keys, in order, each with its versions.
//!
//! - A key's versions are in order of position. Two of one revision are possible: a transaction may put a
//!   key in one nested transaction and delete it in a later one.
//! - A key that has one version costs three words here besides its record.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use crate::{KeyRange, Revision, record::Record};

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

    /// Adds a version, newer than all others of its key.
    pub(crate) fn push(&mut self, record: Record) {
        let history = match self.keys.take(record.key()) {
            None => KeyHistory {
                latest: record,
                older: None,
            },
            Some(history) => history.push(record),
        };
        self.keys.insert(history);
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

    fn count_until(&self, revision: Revision) -> usize {
        let older = self.older.as_ref().map_or(0, |older| {
            older.partition_point(|record| record.revision() <= revision)
        });
        older + usize::from(self.latest.revision() <= revision)
    }

    fn push(mut self, record: Record) -> Self {
        let older = self.older.get_or_insert_default();
        older.push_back(self.latest);
        Self {
            latest: record,
            older: self.older,
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
        self.latest.key()
    }
}

impl Ord for KeyHistory {
    fn cmp(&self, other: &Self) -> Ordering {
        self.latest.key().cmp(other.latest.key())
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
            index.push(record);
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
    fn a_key_goes_with_its_last_version() {
        let mut index = index();
        assert_eq!(index.remove_oldest(b"k", 3).len(), 3);
        assert_eq!(alive_at(&index, 7), None);
        assert_eq!(alive_at(&index, 8), Some(8));
        assert_eq!(index.remove_oldest(b"k", 5).len(), 1);
        assert!(index.get(b"k").is_none());
    }
}
