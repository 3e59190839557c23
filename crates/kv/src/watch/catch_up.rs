//! Watchers that need history: who reads it for whom, and how they join the others.
//!
//! - Watchers that need about the same part of history share one reading of it.
//! - Each is taken once before any is taken again, so none waits for one that is far behind.
//! - While a reading is under way, its watchers are in [`Place::Reading`], and whatever else happens to
//!   them wins over it.

use super::deliver::{Events, targets};
use super::hub::WatchHub;
use super::index::WatchIndex;
use super::stream::Place;
use super::{CancelCause, Serial};
use crate::{Compacted, HistoryBatch, KeyRange, KeyRanges, Revision};

/// The most watchers that share a reading.
const GROUP: usize = 512;

/// How far apart, in revisions, watchers may be to share a reading.
const WINDOW: i64 = 1000;

/// A part of history that watchers need. Read it with [`crate::Keyspace::history`], then hand it to
/// [`WatchHub::catch_up`].
#[derive(Debug)]
#[must_use = "its watchers wait for it"]
pub struct CatchUp {
    watchers: Vec<Serial>,
    keys: KeyRanges,
    from: Revision,
}

impl CatchUp {
    /// The keys whose changes are needed.
    #[must_use]
    pub fn keys(&self) -> &KeyRanges {
        &self.keys
    }

    /// The first revision that is needed.
    #[must_use]
    pub fn from(&self) -> Revision {
        self.from
    }
}

impl WatchHub {
    /// What history to read next; none if no watcher needs any.
    pub fn next_catch_up(&mut self) -> Option<CatchUp> {
        let first = self
            .queued
            .range(self.turn..)
            .next()
            .or(self.queued.first())
            .copied();
        let Some(first) = first else {
            self.catch_up_woken = false;
            return None;
        };
        let beyond = (Revision(first.0.0.saturating_add(WINDOW)), Serial(0));
        let group: Vec<_> = self.queued.range(first..beyond).take(GROUP).copied().collect();
        self.turn = group
            .last()
            .map_or(first, |(next, serial)| (*next, Serial(serial.0 + 1)));
        let watchers: Vec<Serial> = group.into_iter().map(|(_, serial)| serial).collect();
        let keys = watchers
            .iter()
            .filter_map(|serial| self.keys_of(*serial))
            .collect();
        for serial in &watchers {
            self.move_to(*serial, Place::Reading);
        }
        Some(CatchUp {
            watchers,
            keys,
            from: first.0,
        })
    }

    /// Gives watchers the history that was read for them. Those who have all of it by then are synced.
    pub fn catch_up(&mut self, request: CatchUp, history: Result<HistoryBatch, Compacted>) {
        match history {
            Ok(batch) => self.advance(&request.watchers, &batch),
            Err(Compacted { compacted }) => self.cancel_before(&request.watchers, compacted),
        }
        self.answer_progress();
    }

    fn advance(&mut self, watchers: &[Serial], batch: &HistoryBatch) {
        let mut index = WatchIndex::default();
        for serial in watchers {
            if let Some(keys) = self.keys_of(*serial) {
                index.insert(keys, *serial);
            }
        }
        let mut events = Events::new(&batch.changes);
        for (serial, places) in targets(&index, &batch.changes) {
            let events = places.into_iter().map(|place| events.get(place)).collect();
            self.give(serial, events, batch.through);
        }
        for serial in watchers {
            // Those whose stream had no room are parked.
            if let Some(next) = self.next_if_reading(*serial) {
                self.settle(*serial, next.max(batch.through.next()));
            }
        }
    }

    fn cancel_before(&mut self, watchers: &[Serial], compacted: Revision) {
        for serial in watchers {
            match self.next_if_reading(*serial) {
                Some(next) if next < compacted => self.end(*serial, CancelCause::Compacted { compacted }),
                Some(next) => self.settle(*serial, next),
                None => {}
            }
        }
    }

    fn keys_of(&self, serial: Serial) -> Option<&KeyRange> {
        self.watchers.get(&serial).map(|watcher| &watcher.spec.keys)
    }

    fn next_if_reading(&self, serial: Serial) -> Option<Revision> {
        let watcher = self
            .watchers
            .get(&serial)
            .filter(|watcher| watcher.place == Place::Reading)?;
        Some(watcher.next)
    }
}
