//! From changes to responses.

use std::sync::Arc;

use super::hub::WatchHub;
use super::index::WatchIndex;
use super::stream::{EventResponse, Place, Stream, Watcher, event_size};
use super::{Serial, WatchConfig};
use crate::{Change, Event, Revision};

impl WatchHub {
    /// Gives changes to the synced watchers of their keys. `changes` are all there are after what was
    /// published before, up to `revision`, in order.
    pub fn publish(&mut self, changes: &[Change], revision: Revision) {
        self.revision = self.revision.max(revision);
        let mut events = Events::new(changes);
        for (serial, places) in targets(&self.synced, changes) {
            let events = places.into_iter().map(|place| events.get(place)).collect();
            self.give(serial, events, revision);
        }
        if !self.progress_waiting.is_empty() {
            self.answer_progress();
        }
    }

    /// Gives a watcher the events of its keys up to a revision. If its stream has no room for all of them,
    /// the watcher is parked and needs the rest from history.
    pub(super) fn give(&mut self, serial: Serial, mut events: Vec<Arc<Event>>, through: Revision) {
        let Some(watcher) = self.watchers.get_mut(&serial) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&watcher.stream) else {
            return;
        };
        events.retain(|event| watcher.wants(event));
        if events.is_empty() {
            return;
        }
        watcher.heard = true;
        let mut responses = Responses {
            watcher,
            stream,
            config: &self.config,
            pending: Pending::default(),
        };
        if let Some(next) = responses.add_all(&events, through) {
            self.move_to(serial, Place::Reading);
            if let Some(watcher) = self.watchers.get_mut(&serial) {
                watcher.next = next;
            }
            self.move_to(serial, Place::Parked);
        }
    }
}

/// Who of an index watches which changes: for each watcher their places in `changes`, in order.
pub(super) fn targets(index: &WatchIndex, changes: &[Change]) -> Vec<(Serial, Vec<usize>)> {
    let mut pairs = Vec::new();
    for (place, change) in changes.iter().enumerate() {
        pairs.extend(
            index
                .matching(change.key())
                .into_iter()
                .map(|serial| (serial, place)),
        );
    }
    pairs.sort_unstable();
    let places = |group: &[(Serial, usize)]| group.iter().map(|(_, place)| *place).collect();
    pairs
        .chunk_by(|a, b| a.0 == b.0)
        .map(|group| (group[0].0, places(group)))
        .collect()
}

/// The events of changes, each made when the first watcher wants it and shared by all.
pub(super) struct Events<'a> {
    changes: &'a [Change],
    made: Vec<Option<Arc<Event>>>,
}

impl<'a> Events<'a> {
    pub(super) fn new(changes: &'a [Change]) -> Self {
        Self {
            changes,
            made: vec![None; changes.len()],
        }
    }

    pub(super) fn get(&mut self, place: usize) -> Arc<Event> {
        let change = &self.changes[place];
        Arc::clone(self.made[place].get_or_insert_with(|| Arc::new(change.to_event())))
    }
}

/// Cuts a watcher's events into responses, at the borders of revisions.
struct Responses<'a> {
    watcher: &'a Watcher,
    stream: &'a mut Stream,
    config: &'a WatchConfig,
    pending: Pending,
}

#[derive(Default)]
struct Pending {
    events: Vec<Arc<Event>>,
    bytes: usize,
}

impl Responses<'_> {
    /// Answers with the first revision that there was no room for.
    fn add_all(&mut self, events: &[Arc<Event>], through: Revision) -> Option<Revision> {
        for change in events.chunk_by(|a, b| a.revision() == b.revision()) {
            let revision = change[0].revision();
            // A stream that has nothing waiting takes a revision of any size.
            if self.stream.queued_bytes() + self.pending.bytes >= self.config.stream_bytes.max(1) {
                self.flush(revision.prev());
                return Some(revision);
            }
            self.add(change, revision);
        }
        self.flush(through);
        None
    }

    /// Adds the events of one revision.
    fn add(&mut self, events: &[Arc<Event>], revision: Revision) {
        let bytes: usize = events.iter().map(|event| event_size(event)).sum();
        if self.pending.bytes + bytes > self.config.response_bytes {
            self.flush(revision.prev());
        }
        if self.watcher.spec.fragment && bytes >= self.config.response_bytes {
            self.add_in_fragments(events, revision);
        } else {
            self.pending.events.extend_from_slice(events);
            self.pending.bytes += bytes;
        }
    }

    fn add_in_fragments(&mut self, events: &[Arc<Event>], revision: Revision) {
        for event in events {
            let bytes = event_size(event);
            if self.pending.bytes + bytes >= self.config.response_bytes {
                self.push(revision, true);
            }
            self.pending.events.push(Arc::clone(event));
            self.pending.bytes += bytes;
        }
        self.push(revision, false);
    }

    fn flush(&mut self, revision: Revision) {
        self.push(revision, false);
    }

    fn push(&mut self, revision: Revision, fragment: bool) {
        let Pending { events, bytes } = std::mem::take(&mut self.pending);
        if events.is_empty() {
            return;
        }
        let (watcher, prev_kv) = (self.watcher.id, self.watcher.spec.prev_kv);
        let response = EventResponse {
            watcher,
            revision,
            events,
            bytes,
            prev_kv,
            fragment,
        };
        self.stream.push_events(response, self.config.response_bytes);
    }
}
