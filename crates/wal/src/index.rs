//! What is where: for each group its state, its base, and the place of each entry.
//!
//! The writer changes it after each write, recovery builds it by replaying, readers look up places.
//!
//! - The entries of a group follow each other without a gap, and so do their places in the log.
//! - An entry costs 16 bytes here, its body nothing.
//! - While a log is replayed whose oldest segments are gone, a group may be incomplete: its first
//!   entries can come before the base they follow. [`Index::check`] ends the replay.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::layout::{Kind, SegmentId};
use crate::record::{LogId, Record, RecoveredGroup};

/// Where an entry's record stands, and what its body's checksum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: SegmentId,
    /// Of the record's header in the file.
    pub(crate) offset: u32,
    /// Of the body.
    pub(crate) length: u32,
    pub(crate) body_crc: u32,
}

/// A record's effect, with its place instead of its body.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) kind: Kind,
    pub(crate) group: u64,
    pub(crate) id: LogId,
    pub(crate) location: Location,
    /// The body of a state.
    pub(crate) state: Option<Bytes>,
}

/// The index of a whole log.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) groups: BTreeMap<u64, Group>,
    pub(crate) segments: BTreeMap<SegmentId, Arc<dyn DiskFile>>,
}

impl Index {
    /// Carries out one record. Fails if an entry leaves a gap.
    pub(crate) fn apply(&mut self, effect: Effect) -> Result<(), Gap> {
        let group = self.groups.entry(effect.group).or_default();
        let segment = effect.location.segment;
        match effect.kind {
            Kind::Entry => group.put(effect.id, effect.location)?,
            Kind::State => group.state = effect.state.map(|body| (body, segment)),
            Kind::Reset => group.reset(effect.id, segment),
            Kind::Compact => group.compact(effect.id, segment),
        }
        Ok(())
    }

    /// After a replay: every group's entries must follow its base. Fails with the first that do not.
    pub(crate) fn check(&self) -> Result<(), (u64, Gap)> {
        for (number, group) in &self.groups {
            if !group.entries.is_empty() && group.first != group.base.index.saturating_add(1) {
                return Err((
                    *number,
                    Gap {
                        index: group.first,
                        last: group.base,
                    },
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn recovered(&self) -> BTreeMap<u64, RecoveredGroup> {
        self.groups
            .iter()
            .map(|(number, group)| (*number, group.recovered()))
            .collect()
    }

    /// The lowest segment that holds an entry still needed; `active` if there is none.
    pub(crate) fn lowest_needed(&self, active: SegmentId) -> SegmentId {
        let firsts = self.groups.values().filter_map(|group| group.entries.front());
        firsts.map(|location| location.segment).min().unwrap_or(active)
    }

    /// What must be written again before the segments below `floor` can go.
    pub(crate) fn carry(&self, floor: SegmentId) -> Vec<Record> {
        let mut records = Vec::new();
        for (&group, state) in &self.groups {
            if state.base_segment.is_some_and(|segment| segment < floor) {
                let LogId { index, term } = state.base;
                records.push(Record::Compact { group, index, term });
            }
            if let Some((body, segment)) = &state.state
                && *segment < floor
            {
                records.push(Record::State {
                    group,
                    body: body.clone(),
                });
            }
        }
        records
    }
}

/// An entry would not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) index: u64,
    pub(crate) last: LogId,
}

/// One group's log.
#[derive(Default)]
pub(crate) struct Group {
    state: Option<(Bytes, SegmentId)>,
    base: LogId,
    /// Where the base was last written; `None` while it is the beginning of a fresh log.
    base_segment: Option<SegmentId>,
    /// The index of the first of `entries`.
    first: u64,
    entries: VecDeque<Location>,
    /// The first entry of each run of equal terms.
    terms: VecDeque<LogId>,
}

impl Group {
    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    /// The last entry, or the base.
    pub(crate) fn last(&self) -> LogId {
        match self.terms.back() {
            Some(run) => LogId::new(self.end() - 1, run.term),
            None => self.base,
        }
    }

    /// The term and the place of an entry.
    pub(crate) fn entry(&self, index: u64) -> Option<(u64, Location)> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let location = self.entries.get(at)?;
        let run = self.terms.partition_point(|run| run.index <= index);
        Some((self.terms[run - 1].term, *location))
    }

    pub(crate) fn recovered(&self) -> RecoveredGroup {
        RecoveredGroup {
            state: self.state.as_ref().map(|(body, _)| body.clone()),
            base: self.base,
            last: self.last(),
            terms: self.terms.iter().copied().collect(),
        }
    }

    /// One past the last entry.
    fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }

    fn put(&mut self, id: LogId, location: Location) -> Result<(), Gap> {
        if self.entries.is_empty() || id.index < self.first {
            self.clear();
            self.first = id.index;
        } else if id.index > self.end() {
            return Err(Gap {
                index: id.index,
                last: self.last(),
            });
        }
        self.truncate(id.index);
        if self.terms.back().is_none_or(|run| run.term != id.term) {
            self.terms.push_back(id);
        }
        self.entries.push_back(location);
        Ok(())
    }

    /// Forgets the entries from `index` on.
    fn truncate(&mut self, index: u64) {
        let kept = usize::try_from(index - self.first).expect("no more than there are entries");
        self.entries.truncate(kept);
        while self.terms.back().is_some_and(|run| run.index >= index) {
            self.terms.pop_back();
        }
    }

    fn reset(&mut self, base: LogId, segment: SegmentId) {
        self.clear();
        self.base = base;
        self.base_segment = Some(segment);
    }

    fn compact(&mut self, base: LogId, segment: SegmentId) {
        if base.index < self.base.index {
            return;
        }
        self.base = base;
        self.base_segment = Some(segment);
        while !self.entries.is_empty() && self.first <= base.index {
            self.entries.pop_front();
            self.first += 1;
        }
        self.trim_terms();
    }

    /// Makes the runs begin where the entries do.
    fn trim_terms(&mut self) {
        if self.entries.is_empty() {
            self.clear();
            return;
        }
        while self.terms.get(1).is_some_and(|run| run.index <= self.first) {
            self.terms.pop_front();
        }
        let first = self.first;
        if let Some(run) = self.terms.front_mut() {
            run.index = run.index.max(first);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.terms.clear();
        self.first = self.base.index.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(kind: Kind, index: u64, term: u64) -> Effect {
        let location = Location {
            segment: SegmentId(1),
            offset: 0,
            length: 0,
            body_crc: 0,
        };
        Effect {
            kind,
            group: 1,
            id: LogId::new(index, term),
            location,
            state: None,
        }
    }

    fn replay(effects: &[(Kind, u64, u64)]) -> Result<Index, Gap> {
        let mut index = Index::default();
        for &(kind, at, term) in effects {
            index.apply(effect(kind, at, term))?;
        }
        Ok(index)
    }

    #[test]
    fn entries_may_come_before_the_base_they_follow_but_not_without_it() {
        let lost_beginning = [(Kind::Entry, 5, 1), (Kind::Entry, 6, 2), (Kind::Entry, 7, 2)];
        let index = replay(&lost_beginning).unwrap();
        assert_eq!(
            index.check(),
            Err((
                1,
                Gap {
                    index: 5,
                    last: LogId::default()
                }
            ))
        );
        let carried = [&lost_beginning[..], &[(Kind::Compact, 5, 1)]].concat();
        let index = replay(&carried).unwrap();
        assert_eq!(index.check(), Ok(()));
        let group = &index.groups[&1];
        assert_eq!((group.base(), group.last()), (LogId::new(5, 1), LogId::new(7, 2)));
        assert_eq!(group.recovered().terms, [LogId::new(6, 2)]);
        assert_eq!(group.entry(5), None);
    }

    #[test]
    fn a_gap_between_entries_is_told() {
        let gap = replay(&[(Kind::Entry, 1, 1), (Kind::Entry, 3, 1)]).map(|_| ());
        assert_eq!(
            gap,
            Err(Gap {
                index: 3,
                last: LogId::new(1, 1)
            })
        );
    }

    #[test]
    fn the_highest_index_there_is_does_no_harm() {
        let index = replay(&[(Kind::Reset, u64::MAX - 1, 1), (Kind::Entry, u64::MAX, 1)]).unwrap();
        assert_eq!(index.check(), Ok(()));
        let index = replay(&[(Kind::Reset, u64::MAX, 1), (Kind::Entry, u64::MAX, 1)]).unwrap();
        assert!(index.groups[&1].entry(0).is_none());
    }
}
