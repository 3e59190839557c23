//! Versions of keys: written once, read at any revision that is not compacted.
//!
//! - Every record is both in the index (by key) and in the log (by revision).
//! - The current revision is that of the last write that changed something.
//! - Reading depends on `compacted`, never on how far the sweep has come.

use crate::index::{KeyHistory, KeyIndex};
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
        Self::restored(Revision::FIRST, Revision::NOTHING_COMPACTED, Vec::new())
    }

    /// A store of these versions, which are in order of key, then of position. They are all there is to see
    /// at `revision` when it was compacted at `compacted`.
    pub(crate) fn restored(revision: Revision, compacted: Revision, records: Vec<Record>) -> Self {
        let mut size = StoreSize::default();
        for key in records.chunk_by(|a, b| a.key() == b.key()) {
            key.iter().for_each(|record| size.add(record));
            let ended = key.split_last().map_or(&[][..], |(_, older)| older);
            ended
                .iter()
                .filter(|record| record.is_put())
                .for_each(|record| size.end(record));
        }
        Self {
            log: RevisionLog::from_unordered(&records),
            index: KeyIndex::from_ordered(records.into_iter()),
            sweep: Sweep::done_to(compacted),
            revision,
            compacted,
            size,
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

    /// Adds a version to a key that was taken out of the index.
    fn add(&mut self, history: Option<KeyHistory>, record: Record) {
        self.size.add(&record);
        if let Some(replaced) = history.as_ref().and_then(KeyHistory::alive) {
            self.size.end(replaced);
        }
        self.index.insert(history, record.clone());
        self.log.push(record);
    }
}

impl StoreSize {
    /// Counts a version that is the latest of its key.
    fn add(&mut self, record: &Record) {
        self.total_bytes += record.size();
        if record.is_put() {
            self.keys += 1;
            self.live_bytes += record.size();
        }
    }

    /// Counts a version that is no longer the latest of its key.
    fn end(&mut self, record: &Record) {
        self.keys -= 1;
        self.live_bytes -= record.size();
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
        let position = self.position;
        self.add(key, |replaced| {
            let (create, version) = replaced.map_or((position.main, 1), |replaced| {
                (replaced.create(), replaced.version().saturating_add(1))
            });
            Record::put(&NewVersion {
                position,
                key,
                value,
                create,
                version,
                lease,
            })
        })
    }

    /// Deletes a key. Answers with what was there before; nothing happens if that is nothing.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Option<Record> {
        self.store.latest(key)?;
        let position = self.position;
        self.add(key, |_| Record::tombstone(position, key))
    }

    /// Makes the revision current, if it changed anything.
    pub(crate) fn finish(self) -> Vec<Change> {
        self.store.revision = self.visible_revision();
        self.changes
    }

    /// Adds a version, made from the one it replaces. Answers with that.
    fn add(&mut self, key: &[u8], make: impl FnOnce(Option<&Record>) -> Record) -> Option<Record> {
        let history = self.store.index.take(key);
        let replaced = history.as_ref().and_then(KeyHistory::alive).cloned();
        let before = self.store.revision;
        let previous = match (&replaced, &history) {
            // Written by this very revision: watchers see what was there before the revision.
            (Some(last), Some(history)) if last.revision() > before => history.alive_at(before).cloned(),
            _ => replaced.clone(),
        };
        let record = make(replaced.as_ref());
        self.store.add(history, record.clone());
        self.changes.push(Change { record, previous });
        self.position = self.position.next();
        replaced
    }
}
