//! Every version of every key, in order of revision.
//!
//! - Records are in strictly ascending order of position.
//! - Segments hold at most [`SEGMENT`] records and are never empty; neighbours that have thinned out are
//!   merged, so that memory follows the number of records.

use std::collections::VecDeque;

use crate::record::{Position, Record};

/// The most records of a segment: bounds what removing one record moves.
const SEGMENT: usize = 512;

/// The records of all revisions that were not removed.
#[derive(Debug, Default)]
pub(crate) struct RevisionLog {
    segments: VecDeque<Segment>,
    len: usize,
}

#[derive(Debug)]
struct Segment {
    /// No record of the segment is before this; all of the segments before it are.
    first: Position,
    records: Vec<Record>,
}

impl RevisionLog {
    /// A log of records in any order.
    pub(crate) fn from_unordered(records: &[Record]) -> Self {
        let mut places: Vec<(Position, usize)> = records
            .iter()
            .enumerate()
            .map(|(at, record)| (record.position(), at))
            .collect();
        places.sort_unstable();
        let mut log = Self::default();
        places
            .into_iter()
            .for_each(|(_, at)| log.push(records[at].clone()));
        log
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a record after all others.
    pub(crate) fn push(&mut self, record: Record) {
        self.len += 1;
        match self.segments.back_mut() {
            Some(last) if last.records.len() < SEGMENT => last.records.push(record),
            Some(_) | None => {
                let first = record.position();
                let mut records = Vec::with_capacity(SEGMENT);
                records.push(record);
                self.segments.push_back(Segment { first, records });
            }
        }
    }

    /// The records from a position on.
    pub(crate) fn from(&self, position: Position) -> impl Iterator<Item = &Record> {
        let at = self.segment_of(position);
        let skip = self
            .segments
            .get(at)
            .map_or(0, |segment| segment.place_of(position));
        self.segments
            .range(at..)
            .flat_map(|segment| &segment.records)
            .skip(skip)
    }

    /// Removes the record at a position, if it is there.
    pub(crate) fn remove(&mut self, position: Position) {
        let at = self.segment_of(position);
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        let place = segment.place_of(position);
        if segment
            .records
            .get(place)
            .is_some_and(|record| record.position() == position)
        {
            segment.records.remove(place);
            self.len -= 1;
            self.tidy(at);
        }
    }

    /// Where the position is, if it is anywhere.
    fn segment_of(&self, position: Position) -> usize {
        self.segments
            .partition_point(|segment| segment.first <= position)
            .saturating_sub(1)
    }

    /// Drops a segment that has become empty, or joins it to a neighbour when both have room.
    fn tidy(&mut self, at: usize) {
        if self.segments[at].records.is_empty() {
            self.segments.remove(at);
        } else {
            self.join(at, at + 1);
            at.checked_sub(1)
                .into_iter()
                .for_each(|before| self.join(before, at));
        }
    }

    fn join(&mut self, left: usize, right: usize) {
        let length = |at: usize| {
            self.segments
                .get(at)
                .map_or(SEGMENT, |segment| segment.records.len())
        };
        if length(left) + length(right) <= SEGMENT / 2 {
            let moved = self
                .segments
                .remove(right)
                .map_or(Vec::new(), |segment| segment.records);
            self.segments[left].records.extend(moved);
            self.segments[left].records.shrink_to(SEGMENT / 2);
        }
    }
}

impl Segment {
    /// The index of the first record at or after the position.
    ///
    /// Where each revision has one change and none is missing, that is its distance from the first; where
    /// some are missing, it is soon found going back from there.
    fn place_of(&self, position: Position) -> usize {
        let distance = position.main.0.saturating_sub(self.first.main.0);
        let mut low = usize::try_from(distance).unwrap_or(0).min(self.records.len());
        let mut high = self.records.len();
        let mut step = 1;
        while low > 0 && self.is_after(low, position) {
            high = low;
            low = low.saturating_sub(step);
            step *= 2;
        }
        if self
            .records
            .get(low)
            .is_some_and(|record| record.position() == position)
        {
            return low;
        }
        low + self.records[low..high].partition_point(|record| record.position() < position)
    }

    fn is_after(&self, place: usize, position: Position) -> bool {
        self.records
            .get(place)
            .is_none_or(|record| record.position() > position)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Revision;

    fn position(revision: i64) -> Position {
        Position::start_of(Revision(revision))
    }

    fn full(count: i64) -> RevisionLog {
        let mut log = RevisionLog::default();
        (1..=count).for_each(|revision| log.push(Record::tombstone(position(revision), b"k")));
        log
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a set of numbers.
        #[test]
        fn removal_leaves_the_others_in_order(
            removed in proptest::collection::btree_set(1i64..2000, 0..1900),
            from in 0i64..2001,
        ) {
            let mut log = full(2000);
            removed.iter().for_each(|&revision| log.remove(position(revision)));
            removed.iter().for_each(|&revision| log.remove(position(revision)));
            let twin: BTreeSet<i64> = (1..=2000).filter(|revision| !removed.contains(revision)).collect();
            let seen: Vec<i64> = log.from(position(from)).map(|record| record.revision().0).collect();
            prop_assert_eq!(seen, twin.range(from..).copied().collect::<Vec<_>>());
            prop_assert_eq!(log.len(), twin.len());
        }
    }

    #[test]
    fn thinned_segments_are_merged() {
        let mut log = full(10_000);
        (1..=10_000)
            .filter(|revision| revision % 100 != 0)
            .for_each(|revision| log.remove(position(revision)));
        assert_eq!(log.len(), 100);
        assert!(
            log.segments.len() <= 4,
            "{} segments for 100 records",
            log.segments.len()
        );
    }
}
