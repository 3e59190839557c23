//! One replica's log: which entry is where, what of it is durable, committed, handed out, applied.
//!
//! - `base <= snapshot <= commit <= last`, and `applied <= handed <= commit`.
//! - The term of every entry after `base` is known without reading a disk: terms come in runs.
//! - Only a window of recent entries is in memory. An entry leaves it once it is durable, never before;
//!   those that a slow state machine has not been handed by then are read from the disk.
//! - `durable` never counts an entry that a later, unfinished write replaces (etcd #1690).
//!
//! It neither sends nor decides: roles do.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::configuration::Configuration;
use crate::entry::{Entry, LogSlice, Payload, weight_of};
use crate::io::{ConfigError, Stored};
use crate::mutant::mutant;
use crate::snapshot::SnapshotMeta;
use crate::types::{EntryId, Index, Term, WriteSeq};

/// One replica's log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// The entry before the first that the log has.
    base: EntryId,
    last: EntryId,
    /// Where the terms begin, in order: an entry is of the last that begins at or before it.
    terms: VecDeque<EntryId>,
    /// The newest entries, without a gap up to `last`: what is not in it is on the disk.
    window: VecDeque<Entry>,
    window_bytes: u64,
    /// The newest snapshot, this node's own or a leader's.
    snapshot: SnapshotMeta,
    /// The members by each entry after the snapshot that names them, in order.
    configurations: VecDeque<(Index, Arc<Configuration>)>,
    commit: Index,
    /// Entries up to here were handed out to be applied, or came in a snapshot.
    handed: Index,
    /// Entries up to here were reported as applied.
    applied: Index,
    /// Entries up to here are on this node's disk.
    durable: Index,
    /// The first entry that no write has.
    next_write: Index,
    /// The writes under way, each with the last entry that is durable when it is; in order.
    writing: VecDeque<(WriteSeq, Index)>,
    /// A snapshot that takes the log's place, and is in no write yet.
    unwritten_reset: Option<SnapshotMeta>,
}

/// What became of the log when a leader's entries were merged into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Splice {
    /// The log equals the leader's up to here; entries from `truncated` on were replaced.
    Done {
        match_index: Index,
        truncated: Option<Index>,
    },
    /// The entries contradict committed ones: whoever sent them is no Raft leader.
    ContradictsCommitted,
}

impl Log {
    pub(crate) fn new(stored: Stored) -> Result<Self, ConfigError> {
        check_stored(&stored)?;
        let snapshot_index = stored.snapshot.id.index;
        Ok(Self {
            base: stored.base,
            last: stored.last,
            terms: stored.terms.into(),
            window: VecDeque::new(),
            window_bytes: 0,
            snapshot: stored.snapshot,
            configurations: stored.configurations.into(),
            commit: snapshot_index,
            handed: snapshot_index,
            applied: snapshot_index,
            durable: stored.last.index,
            next_write: stored.last.index.next(),
            writing: VecDeque::new(),
            unwritten_reset: None,
        })
    }

    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    pub(crate) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    pub(crate) fn commit_index(&self) -> Index {
        self.commit
    }

    pub(crate) fn applied_index(&self) -> Index {
        self.applied
    }

    pub(crate) fn handed_index(&self) -> Index {
        self.handed
    }

    pub(crate) fn durable_index(&self) -> Index {
        self.durable
    }

    pub(crate) fn snapshot(&self) -> &SnapshotMeta {
        &self.snapshot
    }

    /// The members in effect: those of the latest entry that names any, committed or not (thesis §4.1).
    pub(crate) fn configuration(&self) -> &Arc<Configuration> {
        self.latest_named()
            .map_or(&self.snapshot.configuration, |(_, configuration)| configuration)
    }

    /// Where the configuration in effect is said.
    pub(crate) fn configuration_index(&self) -> Index {
        self.latest_named()
            .map_or(self.snapshot.id.index, |(index, _)| *index)
    }

    fn latest_named(&self) -> Option<&(Index, Arc<Configuration>)> {
        if mutant!(M37) {
            let mut newest_first = self.configurations.iter().rev();
            return newest_first.find(|(index, _)| *index <= self.commit);
        }
        self.configurations.back()
    }

    /// The configurations after `index` that are committed.
    pub(crate) fn committed_since(&self, index: Index) -> impl Iterator<Item = &Arc<Configuration>> {
        let newer = self
            .configurations
            .iter()
            .filter(move |(at, _)| *at > index && *at <= self.commit);
        newer.map(|(_, configuration)| configuration)
    }

    /// The configurations that decide or may decide: the last committed one, and those after it.
    pub(crate) fn live_configurations(&self) -> impl Iterator<Item = &Arc<Configuration>> {
        let committed = self
            .configurations
            .partition_point(|(index, _)| *index <= self.commit);
        let before = committed
            .checked_sub(1)
            .and_then(|last| self.configurations.get(last))
            .map_or(&self.snapshot.configuration, |(_, configuration)| configuration);
        let after = self.configurations.range(committed..);
        std::iter::once(before).chain(after.map(|(_, configuration)| configuration))
    }

    /// The term of the entry at `index`, if the log has it or begins right after it.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        // Most questions are about the newest entries.
        if let Some(newest) = self.terms.back().filter(|first| first.index <= index) {
            return Some(newest.term);
        }
        let runs_begun = self.terms.partition_point(|first| first.index <= index);
        self.terms.get(runs_begun.checked_sub(1)?).map(|first| first.term)
    }

    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// Whether another entry is known to be in the place of `id`.
    pub(crate) fn conflicts(&self, id: EntryId) -> bool {
        self.term_at(id.index).is_some_and(|term| term != id.term)
    }

    /// The last entry whose term and index do not exceed `id`'s: where two logs may agree at best.
    pub(crate) fn last_id_not_after(&self, id: EntryId) -> EntryId {
        let mut end = self.last.index.min(id.index);
        for first in self.terms.iter().rev() {
            if first.index > end {
                continue;
            }
            if first.term <= id.term {
                return EntryId::new(end, first.term);
            }
            end = first.index.prev();
        }
        self.base
    }

    /// Adds an entry of a leader's own at the end.
    pub(crate) fn append(&mut self, term: Term, payload: Payload) -> EntryId {
        let id = EntryId::new(self.last.index.next(), term);
        self.push(Entry { id, payload });
        id
    }

    /// Merges a leader's entries, whose `prev` is in this log (thesis §3.5).
    pub(crate) fn splice(&mut self, slice: LogSlice) -> Splice {
        let match_index = slice.last().index;
        let mut truncated = None;
        for entry in slice.into_entries() {
            let replaced_anyway = mutant!(M20) || mutant!(M19) && entry.id.index > self.commit;
            if entry.id.index <= self.base.index || self.contains(entry.id) && !replaced_anyway {
                continue;
            }
            if entry.id.index <= self.commit && !mutant!(M20) {
                return Splice::ContradictsCommitted;
            }
            if entry.id.index <= self.last.index {
                // Only a conflict truncates: a late message must not undo a newer one (paper §5.3).
                truncated = Some(entry.id.index);
                self.truncate(entry.id.index);
            }
            self.push(entry);
        }
        Splice::Done {
            match_index,
            truncated,
        }
    }

    /// Replaces the log by a leader's snapshot (paper, figure 13, rule 7).
    pub(crate) fn reset(&mut self, meta: SnapshotMeta) {
        assert!(
            meta.id.index > self.commit || mutant!(M29),
            "a snapshot at {} would undo what is committed up to {}",
            meta.id,
            self.commit
        );
        self.base = meta.id;
        self.last = meta.id;
        self.terms.clear();
        self.window.clear();
        self.window_bytes = 0;
        self.configurations.clear();
        self.commit = meta.id.index;
        self.handed = meta.id.index;
        self.next_write = meta.id.index.next();
        self.forget_writes_from(Index::ZERO);
        self.unwritten_reset = Some(meta.clone());
        self.snapshot = meta;
    }

    /// Raises the commit index, within the log; says whether it grew.
    pub(crate) fn commit_to(&mut self, index: Index) -> bool {
        let index = index.min(self.last.index);
        let grows = index > self.commit;
        if grows {
            self.commit = index;
        }
        grows
    }

    /// Entries from `from` to `to` at most, if the first is in memory: up to `max_bytes`, at least one.
    pub(crate) fn window_entries(&self, from: Index, to: Index, max_bytes: u64) -> Option<Vec<Entry>> {
        let first = self.window.front()?.id.index;
        let skip = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        let mut bytes = 0;
        let mut count = 0;
        for entry in self.window.range(skip.min(self.window.len())..) {
            bytes += entry.weight();
            if entry.id.index > to || (count > 0 && bytes > max_bytes) {
                break;
            }
            count += 1;
        }
        (count > 0).then(|| self.window.range(skip..skip + count).cloned().collect())
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.unwritten_reset.is_some() || self.next_write <= self.last.index
    }

    /// Takes what is not yet on its way to the disk, as part of the write `seq`.
    pub(crate) fn take_unwritten(&mut self, seq: WriteSeq) -> (Option<SnapshotMeta>, Vec<Entry>) {
        let entries = self
            .window_entries(self.next_write, self.last.index, u64::MAX)
            .unwrap_or_default();
        self.next_write = self.last.index.next();
        self.writing.push_back((seq, self.last.index));
        (self.unwritten_reset.take(), entries)
    }

    /// Everything up to the write `seq` is on the disk.
    pub(crate) fn on_persisted(&mut self, seq: WriteSeq) {
        while let Some((written, last)) = self.writing.front().copied()
            && written <= seq
        {
            self.writing.pop_front();
            self.durable = self.durable.max(last);
        }
    }

    /// The last entry that may be applied: committed, and on this node's own disk.
    pub(crate) fn appliable_index(&self) -> Index {
        self.commit.min(self.durable)
    }

    /// Notes that entries up to `index` were handed out to be applied.
    pub(crate) fn hand_out(&mut self, index: Index) {
        self.handed = index;
    }

    pub(crate) fn on_applied(&mut self, index: Index) {
        assert!(
            index <= self.handed,
            "entry {index} was reported applied, but only those up to {} were handed out",
            self.handed
        );
        self.applied = self.applied.max(index);
    }

    /// Drops entries from memory while they weigh more than `budget` bytes, oldest first.
    pub(crate) fn evict(&mut self, budget: u64) {
        if mutant!(M74) {
            return;
        }
        let evictable = self.durable;
        while self.window_bytes > budget
            && self
                .window
                .front()
                .is_some_and(|entry| entry.id.index <= evictable)
        {
            if let Some(entry) = self.window.pop_front() {
                self.window_bytes -= entry.weight();
            }
        }
    }

    /// Notes a newer snapshot of this replica's own state machine; says whether it is one.
    pub(crate) fn on_snapshot_saved(&mut self, meta: SnapshotMeta) -> bool {
        if meta.id.index <= self.snapshot.id.index || !self.contains(meta.id) || meta.id.index > self.applied
        {
            return false;
        }
        self.configurations.retain(|(index, _)| *index > meta.id.index);
        self.snapshot = meta;
        true
    }

    /// Forgets entries up to `index`, which a snapshot covers; the new base if that changes it.
    pub(crate) fn compact(&mut self, index: Index) -> Option<EntryId> {
        let index = index.min(self.snapshot.id.index).min(self.durable);
        if index <= self.base.index {
            return None;
        }
        self.base = EntryId::new(index, self.term_at(index)?);
        self.drop_terms_up_to(index);
        while self.window.front().is_some_and(|entry| entry.id.index <= index) {
            if let Some(entry) = self.window.pop_front() {
                self.window_bytes -= entry.weight();
            }
        }
        Some(self.base)
    }

    /// Checks what must always be true of a log. Costs a pass over the window.
    pub(crate) fn check(&self) {
        let Self {
            base,
            last,
            commit,
            handed,
            applied,
            durable,
            ..
        } = self;
        let snapshot = self.snapshot.id;
        assert!(
            base.index <= snapshot.index,
            "log: base {base} is after snapshot {snapshot}"
        );
        assert!(
            snapshot.index <= *commit,
            "log: snapshot {snapshot} is after commit {commit}"
        );
        assert!(
            *commit <= last.index,
            "log: commit {commit} is after the last entry {last}"
        );
        assert!(
            handed <= commit,
            "log: handed out {handed} is after commit {commit}"
        );
        assert!(
            applied <= handed,
            "log: applied {applied} is after handed out {handed}"
        );
        assert!(
            *durable <= last.index,
            "log: durable {durable} is after the last entry {last}"
        );
        assert_eq!(
            self.window_bytes,
            self.window.iter().map(Entry::weight).sum::<u64>(),
            "log: window bytes"
        );
        if let Some(first) = self.window.front() {
            let ends = first.id.index.0 + self.window.len() as u64 - 1;
            assert_eq!(
                Index(ends),
                last.index,
                "log: the window does not end with the last entry"
            );
            assert!(
                first.id.index > base.index,
                "log: the window holds compacted entries"
            );
        }
        for entry in &self.window {
            assert_eq!(
                Some(entry.id.term),
                self.term_at(entry.id.index),
                "log: term of {}",
                entry.id
            );
        }
    }

    fn push(&mut self, entry: Entry) {
        assert!(
            entry.id.index == self.last.index.next() && entry.id.term >= self.last.term,
            "entry {} does not follow {}: appended without the check of paper §5.3",
            entry.id,
            self.last
        );
        if self.terms.back().is_none_or(|first| first.term < entry.id.term) {
            self.terms.push_back(entry.id);
        }
        if let Payload::Configuration(configuration) = &entry.payload {
            self.configurations
                .push_back((entry.id.index, Arc::clone(configuration)));
        }
        self.last = entry.id;
        self.window_bytes += entry.weight();
        self.window.push_back(entry);
    }

    fn truncate(&mut self, from: Index) {
        assert!(
            from > self.commit || mutant!(M20),
            "entry {from} is committed (up to {}) and cannot be replaced",
            self.commit
        );
        while self.window.back().is_some_and(|entry| entry.id.index >= from) {
            if let Some(entry) = self.window.pop_back() {
                self.window_bytes -= entry.weight();
            }
        }
        while self.terms.back().is_some_and(|first| first.index >= from) {
            self.terms.pop_back();
        }
        while self
            .configurations
            .back()
            .is_some_and(|(index, _)| *index >= from && !mutant!(M42))
        {
            self.configurations.pop_back();
        }
        let index = from.prev();
        let term = self.terms.back().map_or(self.base.term, |first| first.term);
        self.last = EntryId::new(index, term);
        self.next_write = self.next_write.min(from);
        self.forget_writes_from(from);
    }

    /// Writes under way say nothing about entries from `from` on: a later write replaces those.
    fn forget_writes_from(&mut self, from: Index) {
        for (_, last) in &mut self.writing {
            *last = (*last).min(from.prev());
        }
        self.durable = self.durable.min(from.prev());
    }

    fn drop_terms_up_to(&mut self, index: Index) {
        while self
            .terms
            .get(1)
            .is_some_and(|second| second.index <= index.next())
        {
            self.terms.pop_front();
        }
        if self.last.index <= index {
            self.terms.clear();
        } else if let Some(first) = self.terms.front_mut() {
            first.index = first.index.max(index.next());
        }
    }
}

/// The bytes of a run of entries and the last of them.
pub(crate) fn measure(entries: &[Entry]) -> Option<(Index, u64)> {
    entries.last().map(|last| (last.id.index, weight_of(entries)))
}

fn check_stored(stored: &Stored) -> Result<(), ConfigError> {
    let inconsistent = |what: String| Err(ConfigError::Inconsistent(what));
    let (base, snapshot, last) = (stored.base, stored.snapshot.id, stored.last);
    if base.index > snapshot.index {
        return inconsistent(format!(
            "the log begins after {base}, its snapshot is older: {snapshot}"
        ));
    }
    if last.index < snapshot.index {
        return inconsistent(format!("the log ends at {last}, before its snapshot {snapshot}"));
    }
    let mut before = base;
    for first in &stored.terms {
        let starts_right = before == base && first.index == base.index.next() && first.term >= base.term;
        let goes_on = before != base && first.index > before.index && first.term > before.term;
        if !(starts_right || goes_on) || first.index > last.index {
            return inconsistent(format!(
                "a run of terms begins at {first} after {before}; the last entry is {last}"
            ));
        }
        before = *first;
    }
    if before.term != last.term {
        return inconsistent(format!(
            "the last entry is {last}, the last run of terms begins at {before}"
        ));
    }
    if stored.hard_state.term < last.term {
        return inconsistent(format!(
            "term {} is older than the last entry {last}",
            stored.hard_state.term
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::types::NodeId;

    fn empty() -> Log {
        Log::new(Stored::new(Configuration::new([NodeId(1)], []).unwrap())).unwrap()
    }

    fn entry(index: u64, term: u64) -> Entry {
        let payload = Payload::Command(Bytes::from(format!("{index}@{term}")));
        Entry {
            id: EntryId::new(Index(index), Term(term)),
            payload,
        }
    }

    fn log_of(terms: &[u64]) -> Log {
        let mut log = empty();
        for (n, term) in terms.iter().enumerate() {
            log.push(entry(n as u64 + 1, *term));
        }
        log
    }

    fn slice_after(prev: EntryId, terms: &[u64]) -> LogSlice {
        let entries = terms
            .iter()
            .zip(prev.index.0 + 1..)
            .map(|(term, index)| entry(index, *term))
            .collect();
        LogSlice::new(prev, entries).unwrap()
    }

    #[test]
    fn a_late_append_does_not_truncate_what_matches() {
        let mut log = log_of(&[1, 1, 1]);
        let done = log.splice(slice_after(EntryId::ZERO, &[1]));
        assert_eq!(
            done,
            Splice::Done {
                match_index: Index(1),
                truncated: None
            }
        );
        assert_eq!(log.last(), EntryId::new(Index(3), Term(1)));
    }

    #[test]
    fn a_completion_of_a_replaced_write_makes_nothing_durable() {
        // Entry 2 of term 1 is written, replaced by one of term 2, and written again: the first
        // completion comes while the disk may already hold the replacement.
        let mut log = log_of(&[1, 1]);
        log.take_unwritten(WriteSeq(1));
        log.splice(slice_after(EntryId::new(Index(1), Term(1)), &[2]));
        log.take_unwritten(WriteSeq(2));
        log.on_persisted(WriteSeq(1));
        assert_eq!(log.durable_index(), Index(1));
        log.on_persisted(WriteSeq(2));
        assert_eq!(log.durable_index(), Index(2));
    }

    #[test]
    fn a_snapshot_with_another_entry_at_its_index_replaces_the_whole_log() {
        let mut log = log_of(&[1, 1, 1]);
        let configuration = Arc::clone(log.configuration());
        let id = EntryId::new(Index(2), Term(2));
        log.reset(SnapshotMeta { id, configuration });
        log.check();
        assert_eq!(
            (log.base(), log.last(), log.durable_index()),
            (id, id, Index::ZERO)
        );
        assert_eq!(log.term_at(Index(3)), None);
    }

    #[test]
    fn entries_that_contradict_committed_ones_are_refused() {
        let mut log = log_of(&[1, 1]);
        log.commit_to(Index(2));
        assert_eq!(
            log.splice(slice_after(EntryId::ZERO, &[2])),
            Splice::ContradictsCommitted
        );
        assert_eq!(log.last(), EntryId::new(Index(2), Term(1)));
    }

    proptest! {
        #[test]
        fn terms_and_hints_equal_those_of_a_plain_list(
            steps in prop::collection::vec(0..2_u64, 1..30), compact in 0..30_u64, cut in 1..31_u64, at in 0..40_u64, term in 0..20_u64,
        ) {
            let terms: Vec<u64> = steps.iter().scan(1, |term, step| { *term += step; Some(*term) }).collect();
            let mut log = log_of(&terms);
            log.take_unwritten(WriteSeq(1));
            log.on_persisted(WriteSeq(1));
            let compact = compact.min(cut - 1).min(terms.len() as u64 - 1);
            log.commit_to(Index(compact));
            log.hand_out(Index(compact));
            log.on_applied(Index(compact));
            if let Some(term) = log.term_at(Index(compact)) {
                let meta = SnapshotMeta { id: EntryId::new(Index(compact), term), configuration: Arc::clone(log.configuration()) };
                log.on_snapshot_saved(meta);
                log.compact(Index(compact));
            }
            let cut = cut.clamp(compact + 1, terms.len() as u64);
            log.truncate(Index(cut));
            log.check();
            let mut plain: Vec<EntryId> = vec![log.base()];
            plain.extend((compact + 1..cut).map(|i| EntryId::new(Index(i), Term(terms[usize::try_from(i).unwrap() - 1]))));
            for id in &plain {
                prop_assert_eq!(log.term_at(id.index), Some(id.term));
            }
            prop_assert_eq!(log.last(), *plain.last().unwrap());
            prop_assert_eq!(log.term_at(Index(cut)), None);
            let limit = EntryId::new(Index(at), Term(term));
            let naive = plain.iter().rev().find(|id| id.index <= limit.index && id.term <= limit.term);
            prop_assert_eq!(log.last_id_not_after(limit), naive.copied().unwrap_or(log.base()));
        }
    }
}
