//! Versions of keys: written once, read at any revision that is not compacted.
//!
//! - Every record is both in the index (by key) and in the log (by revision).
//! - The current revision is that of the last write that changed something.
//! - Reading depends on `compacted`, never on how far the sweep has come.

use crate::index::KeyIndex;
use crate::log::RevisionLog;
use crate::record::{NewVersion, Position, Record};
use crate::sweep::Sweep;
use crate::{Change, Compacted, Error, KeyRange, KeyRanges, LeaseId, Revision};

/// The keys and their history.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) index: KeyIndex,
    pub(crate) log: RevisionLog,
    pub(crate) sweep: Sweep,
    revision: Revision,
    compacted: Revision,
    size: StoreSize,
}

/// How much a keyspace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Keys that exist.
    pub keys: usize,
    /// Versions of keys, of deleted ones too, that are in memory.
    pub versions: usize,
    /// Bytes that all versions take, compacted ones too until they are removed.
    pub total_bytes: usize,
    /// Bytes that the newest versions of existing keys take: what no compaction can free.
    pub live_bytes: usize,
}

/// How much history to read at once. Every bound may be passed by what is left of a revision.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// The most revisions with a change in the ranges.
    pub revisions: usize,
    /// The most bytes of changes.
    pub bytes: usize,
    /// The most changes to look at, in the ranges or not.
    pub scanned: usize,
}

impl HistoryLimits {
    fn is_used_up(&self) -> bool {
        self.revisions == 0 || self.bytes == 0 || self.scanned == 0
    }
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            revisions: 1000,
            bytes: 1 << 20,
            scanned: 10_000,
        }
    }
}

/// Whole revisions out of the history, see [`crate::Keyspace::history`].
#[derive(Clone, Debug)]
pub struct HistoryBatch {
    /// The last revision covered: the batch has every change in the ranges up to and with it.
    pub through: Revision,
    /// The changes in the ranges, in order.
    pub changes: Vec<Change>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::at(Revision::FIRST, Revision::NOTHING_COMPACTED)
    }

    /// An empty store that goes on from a revision, to be filled by [`Self::restore`].
    pub(crate) fn at(revision: Revision, compacted: Revision) -> Self {
        Self {
            index: KeyIndex::default(),
            log: RevisionLog::default(),
            sweep: Sweep::done_to(compacted),
            revision,
            compacted,
            size: StoreSize::default(),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    pub(crate) fn size(&self) -> StoreSize {
        StoreSize {
            versions: self.log.len(),
            ..self.size
        }
    }

    /// The version of a key that exists.
    pub(crate) fn latest(&self, key: &[u8]) -> Option<&Record> {
        self.index.get(key)?.alive()
    }

    /// The existing keys of a range, in key order, at a revision or the newest.
    pub(crate) fn range<'a>(
        &'a self,
        keys: &'a KeyRange,
        at: Option<Revision>,
    ) -> impl Iterator<Item = &'a Record> {
        self.index.range(keys).filter_map(move |history| match at {
            None => history.alive(),
            Some(revision) => history.alive_at(revision),
        })
    }

    /// Refuses a revision that is compacted or not reached.
    pub(crate) fn check_readable(&self, revision: Revision) -> Result<(), Error> {
        if revision > self.revision {
            Err(Error::FutureRevision {
                current: self.revision,
            })
        } else if revision < self.compacted {
            Err(Error::Compacted {
                compacted: self.compacted,
            })
        } else {
            Ok(())
        }
    }

    /// Begins the next revision. It exists once something is written to it.
    pub(crate) fn write(&mut self) -> Write<'_> {
        let position = Position::start_of(self.revision.next());
        Write {
            store: self,
            position,
            changes: Vec::new(),
        }
    }

    /// Makes everything before a revision unreadable.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted {
                compacted: self.compacted,
            });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision {
                current: self.revision,
            });
        }
        self.sweep.revisit(self.compacted);
        self.compacted = revision;
        Ok(())
    }

    /// The changes of some keys, from a revision on: as many whole revisions as the limits allow.
    pub(crate) fn history(
        &self,
        keys: &KeyRanges,
        from: Revision,
        limits: &HistoryLimits,
    ) -> Result<HistoryBatch, Compacted> {
        if from < self.compacted {
            return Err(Compacted {
                compacted: self.compacted,
            });
        }
        let mut batch = HistoryBatch {
            through: self.revision.max(from.prev()),
            changes: Vec::new(),
        };
        let mut budget = *limits;
        let mut counted = from.prev();
        for record in self.log.from(Position::start_of(from)) {
            let revision = record.revision();
            let begins = revision > counted;
            if begins && revision > from && budget.is_used_up() {
                batch.through = revision.prev();
                break;
            }
            budget.scanned = budget.scanned.saturating_sub(1);
            if keys.contains(record.key()) {
                let change = self.change(record);
                budget.bytes = budget.bytes.saturating_sub(change.size());
                budget.revisions = budget.revisions.saturating_sub(usize::from(begins));
                counted = revision;
                batch.changes.push(change);
            }
        }
        Ok(batch)
    }

    /// Whether a version can be seen, by a read or a watch, when everything before `compacted` is gone.
    ///
    /// Says the same of a version before and after the sweep has removed the others.
    pub(crate) fn is_visible_from(&self, compacted: Revision, record: &Record) -> bool {
        record.revision() >= compacted || self.is_state_at(compacted, record)
    }

    /// Whether a version is what reads at a revision see of its key.
    pub(crate) fn is_state_at(&self, revision: Revision, record: &Record) -> bool {
        let history = self.index.get(record.key());
        let seen = history.and_then(|history| history.alive_at(revision));
        seen.is_some_and(|seen| seen.position() == record.position())
    }

    /// Takes over a version of a snapshot; they come in order of position.
    pub(crate) fn restore(&mut self, record: Record) {
        let replaced = self.latest(record.key()).map(Record::size);
        self.add(record, replaced);
    }

    /// Forgets a version that nobody can see.
    pub(crate) fn forget(&mut self, record: &Record) {
        self.size.total_bytes -= record.size();
        self.log.remove(record.position());
    }

    /// A change of the history with what was there before, unless that is compacted.
    fn change(&self, record: &Record) -> Change {
        let before = record.revision().prev();
        let history = self.index.get(record.key()).filter(|_| before >= self.compacted);
        let previous = history.and_then(|history| history.alive_at(before)).cloned();
        Change {
            record: record.clone(),
            previous,
        }
    }

    /// Adds a version that replaces one of the given size.
    fn add(&mut self, record: Record, replaced: Option<usize>) {
        self.size.total_bytes += record.size();
        if let Some(replaced) = replaced {
            self.size.keys -= 1;
            self.size.live_bytes -= replaced;
        }
        if record.is_put() {
            self.size.keys += 1;
            self.size.live_bytes += record.size();
        }
        self.index.push(record.clone());
        self.log.push(record);
    }
}

/// A revision in the making.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    store: &'a mut Store,
    position: Position,
    changes: Vec<Change>,
}

impl Write<'_> {
    /// The revision that is being written.
    pub(crate) fn revision(&self) -> Revision {
        self.position.main
    }

    /// The newest revision a read sees: the one being written once it has a change.
    pub(crate) fn visible_revision(&self) -> Revision {
        if self.changes.is_empty() {
            self.store.revision
        } else {
            self.position.main
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store
    }

    /// Creates or overwrites a key. Answers with what was there before.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: Option<LeaseId>) -> Option<Record> {
        let previous = self.store.latest(key).cloned();
        let (create, version) = previous.as_ref().map_or((self.position.main, 1), |record| {
            (record.create(), record.version().saturating_add(1))
        });
        let position = self.position;
        self.add(
            Record::put(&NewVersion {
                position,
                key,
                value,
                create,
                version,
                lease,
            }),
            previous.clone(),
        );
        previous
    }

    /// Deletes a key. Answers with what was there before; nothing happens if that is nothing.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Record> {
        let previous = self.store.latest(key).cloned()?;
        self.add(Record::tombstone(self.position, key), Some(previous.clone()));
        Some(previous)
    }

    /// Makes the revision current, if it changed anything.
    pub(crate) fn finish(self) -> Vec<Change> {
        self.store.revision = self.visible_revision();
        self.changes
    }

    fn add(&mut self, record: Record, replaced: Option<Record>) {
        let replaced_size = replaced.as_ref().map(Record::size);
        let previous = match replaced {
            // Written by this very revision: watchers see what was there before the revision.
            Some(replaced) if replaced.revision() == self.position.main => self.before(record.key()),
            replaced => replaced,
        };
        self.store.add(record.clone(), replaced_size);
        self.changes.push(Change { record, previous });
        self.position = self.position.next();
    }

    fn before(&self, key: &[u8]) -> Option<Record> {
        self.store.index.get(key)?.alive_at(self.store.revision).cloned()
    }
}
