//! The slow half of a compaction: removing, in small steps, versions that nobody can see any more.
//!
//! A version is superseded by the next one of its key. So when history is compacted from one revision to
//! another, what has to go is found by walking the changes between the two, not all that is alive.
//!
//! - Nothing a client can observe depends on how far the sweep has come.

use crate::Revision;
use crate::record::{Position, Record};
use crate::store::Store;

/// How far versions have been removed.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// The next change to look at.
    cursor: Position,
    /// Everything superseded at this revision is removed.
    done_to: Revision,
}

impl Sweep {
    pub(crate) fn done_to(compacted: Revision) -> Self {
        Self {
            cursor: Position::start_of(compacted),
            done_to: compacted,
        }
    }

    /// Goes back to a revision that was compacted to: its tombstones were kept, and may go with the next.
    pub(crate) fn revisit(&mut self, compacted: Revision) {
        self.cursor = self.cursor.min(Position::start_of(compacted));
    }
}

impl Store {
    /// Whether there is something to remove.
    pub(crate) fn needs_sweep(&self) -> bool {
        self.sweep.done_to < self.compacted()
    }

    /// Looks at or removes at most about `budget` versions. Answers whether there is more to do.
    pub(crate) fn sweep(&mut self, budget: usize) -> bool {
        let compacted = self.compacted();
        let next = self.log.from(self.sweep.cursor).take(budget);
        let next: Vec<Record> = next
            .take_while(|record| record.revision() <= compacted)
            .cloned()
            .collect();
        let mut left = budget;
        for record in &next {
            if left == 0 {
                return true;
            }
            left = left.saturating_sub(self.sweep_key(record, left));
        }
        if left > 0 {
            self.sweep = Sweep::done_to(compacted);
        }
        self.needs_sweep()
    }

    /// Removes what a change has superseded. Answers with what that cost.
    fn sweep_key(&mut self, record: &Record, budget: usize) -> usize {
        // A key's first version supersedes nothing, or what the tombstone before it has superseded too.
        let first = record.is_put() && record.version() == 1;
        let history = if first { None } else { self.index.get(record.key()) };
        let superseded = history.map_or(0, |history| history.superseded(self.compacted()));
        if superseded < budget {
            self.sweep.cursor = record.position().next();
        }
        let removed = self.index.remove_oldest(record.key(), superseded.min(budget));
        removed.iter().for_each(|record| self.forget(record));
        removed.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &str) {
        let mut write = store.write();
        write.put(key.as_bytes(), b"value", None);
        write.finish();
    }

    fn delete(store: &mut Store, key: &str) {
        let mut write = store.write();
        write.delete(key.as_bytes());
        write.finish();
    }

    fn sweep_all(store: &mut Store, budget: usize) {
        while store.sweep(budget) {}
    }

    #[test]
    fn superseded_versions_go_and_visible_ones_stay() {
        let mut store = Store::new();
        put(&mut store, "a"); // 2
        put(&mut store, "b"); // 3
        put(&mut store, "a"); // 4
        put(&mut store, "a"); // 5
        store.compact(Revision(4)).unwrap();
        sweep_all(&mut store, 1);
        let left: Vec<i64> = store
            .log
            .from(Position::start_of(Revision(0)))
            .map(|record| record.revision().0)
            .collect();
        assert_eq!(left, [3, 4, 5]);
    }

    #[test]
    fn a_tombstone_goes_only_after_the_revision_it_is_at() {
        let mut store = Store::new();
        put(&mut store, "a"); // 2
        delete(&mut store, "a"); // 3
        put(&mut store, "b"); // 4
        store.compact(Revision(3)).unwrap();
        sweep_all(&mut store, 10);
        assert_eq!(store.size().versions, 2);
        store.compact(Revision(4)).unwrap();
        sweep_all(&mut store, 10);
        assert_eq!(store.size().versions, 1);
        assert!(store.index.get(b"a").is_none());
    }

    #[test]
    fn a_tombstone_goes_even_if_the_next_compaction_comes_early() {
        let mut store = Store::new();
        put(&mut store, "a"); // 2
        delete(&mut store, "a"); // 3
        put(&mut store, "b"); // 4
        store.compact(Revision(3)).unwrap();
        assert!(store.sweep(2), "all was looked at, but the end was not reached");
        store.compact(Revision(4)).unwrap();
        sweep_all(&mut store, 10);
        assert_eq!(store.size().versions, 1);
    }

    #[test]
    fn a_long_history_goes_in_steps() {
        let mut store = Store::new();
        (0..1000).for_each(|_| put(&mut store, "a"));
        store.compact(store.revision()).unwrap();
        let before = store.size().versions;
        assert!(store.sweep(100));
        let removed = before - store.size().versions;
        assert!((90..=110).contains(&removed), "removed {removed}");
        sweep_all(&mut store, 100);
        assert_eq!(store.size().versions, 1);
    }

    #[test]
    fn sizes_return_to_what_is_alive() {
        let mut store = Store::new();
        (0..100).for_each(|i| put(&mut store, &format!("{}", i % 10)));
        (0..5).for_each(|i| delete(&mut store, &format!("{i}")));
        put(&mut store, "end");
        store.compact(store.revision()).unwrap();
        sweep_all(&mut store, 7);
        let size = store.size();
        assert_eq!((size.keys, size.versions), (6, 6));
        assert_eq!(size.total_bytes, size.live_bytes);
    }
}
