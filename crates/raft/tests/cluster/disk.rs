//! What a disk holds of one node: its term and vote, a snapshot's identity, and a log.

use std::sync::Arc;

use quorate_raft::{
    Configuration, Entry, EntryId, HardState, Index, LogReadError, Payload, ReadLog, SnapshotMeta, Stored,
    Term, Write, entry::weight_of,
};

/// The contents of one node's disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMeta,
    pub(crate) base: EntryId,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn new(configuration: Configuration) -> Self {
        let stored = Stored::new(configuration);
        Self {
            hard_state: stored.hard_state,
            snapshot: stored.snapshot,
            base: stored.base,
            entries: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, write: &Write) {
        if let Some(meta) = &write.reset {
            self.snapshot = meta.clone();
            self.base = meta.id;
            self.entries.clear();
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = write.entries.first() {
            assert!(
                first.id.index > self.base.index,
                "{} is written before the log",
                first.id
            );
            let keep = self.place(first.id.index);
            assert!(
                keep <= self.entries.len(),
                "{} is written after a gap: the log ends at {}",
                first.id,
                self.last()
            );
            self.entries.truncate(keep);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    /// Drops the log up to `base`.
    pub(crate) fn compact(&mut self, base: EntryId) {
        if base.index <= self.base.index {
            return;
        }
        assert_eq!(
            self.term_at(base.index),
            Some(base.term),
            "{base} is compacted and is not in the log"
        );
        let drop = self.place(base.index.next());
        self.entries.drain(..drop);
        self.base = base;
    }

    pub(crate) fn read(&self, request: &ReadLog) -> Result<Vec<Entry>, LogReadError> {
        if request.from <= self.base.index || request.from > self.last().index {
            return Err(LogReadError::Gone);
        }
        let mut entries = Vec::new();
        for entry in &self.entries[self.place(request.from)..] {
            let full = !entries.is_empty() && weight_of(&entries) + entry.weight() > request.max_bytes;
            if entry.id.index > request.to || full {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    pub(crate) fn stored(&self) -> Stored {
        let mut terms: Vec<EntryId> = Vec::new();
        for entry in &self.entries {
            if terms.last().is_none_or(|first| first.term < entry.id.term) {
                terms.push(entry.id);
            }
        }
        Stored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            base: self.base,
            terms,
            last: self.last(),
            configurations: self
                .configurations()
                .map(|(index, configuration)| (index, Arc::clone(configuration)))
                .collect(),
        }
    }

    /// The members as of `index`.
    pub(crate) fn configuration_at(&self, index: Index) -> Arc<Configuration> {
        let latest = self.configurations().take_while(|(at, _)| *at <= index).last();
        Arc::clone(latest.map_or(&self.snapshot.configuration, |(_, configuration)| configuration))
    }

    fn configurations(&self) -> impl Iterator<Item = (Index, &Arc<Configuration>)> {
        let after = self.snapshot.id.index;
        self.entries
            .iter()
            .filter(move |entry| entry.id.index > after)
            .filter_map(|entry| match &entry.payload {
                Payload::Configuration(configuration) => Some((entry.id.index, configuration)),
                Payload::Noop | Payload::Command(_) | Payload::Stripped => None,
            })
    }

    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        if index <= self.base.index {
            return None;
        }
        self.entries.get(self.place(index))
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.id.term)
    }

    /// Whether the entry `id`, or a snapshot that covers its index, is here.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index <= self.snapshot.id.index || self.term_at(id.index) == Some(id.term)
    }

    fn place(&self, index: Index) -> usize {
        usize::try_from(index.0 - self.base.index.0 - 1).expect("a log of a test is short")
    }
}
