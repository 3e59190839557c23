//! What one client connection has watching, and what it has yet to fetch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Serial, StreamId, Waker, WatchId, WatchOutput, WatchSpec, WatchStart};
use crate::{Event, Revision};

/// What an output counts for besides its events.
const OUTPUT_BYTES: usize = 64;

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: StreamId,
    pub(super) id: WatchId,
    pub(super) spec: WatchSpec,
    /// It has been given everything before this.
    pub(super) next: Revision,
    pub(super) place: Place,
    /// Whether it was given something since the last periodic progress.
    pub(super) heard: bool,
}

/// Where a watcher gets its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// From what is published.
    Synced,
    /// From history, as soon as it is its turn.
    Queued,
    /// From history that is being read.
    Reading,
    /// From history, once its stream has fetched what it has.
    Parked,
}

impl Watcher {
    /// Whether it wants to see an event of its keys.
    pub(super) fn wants(&self, event: &Event) -> bool {
        let skipped = match event {
            Event::Put { .. } => self.spec.skip_puts,
            Event::Delete { .. } => self.spec.skip_deletes,
        };
        !skipped && event.revision() >= self.next
    }

    /// Whether it has been given everything up to a revision, and its start is not in the future.
    pub(super) fn is_current(&self, published: Revision) -> bool {
        let begun = match self.spec.start {
            WatchStart::Now => true,
            WatchStart::At(start) => start <= published,
        };
        begun && self.place == Place::Synced
    }
}

/// One stream.
pub(super) struct Stream {
    pub(super) watchers: BTreeMap<WatchId, Serial>,
    /// The watchers that wait for it to fetch.
    pub(super) parked: BTreeSet<Serial>,
    /// How many of its watchers are not synced.
    pub(super) slow: usize,
    /// Whether the client waits to hear that all its watchers are current.
    pub(super) progress_requested: bool,
    waker: Waker,
    woken: bool,
    next_id: WatchId,
    queue: VecDeque<WatchOutput>,
    queued_bytes: usize,
    /// Bytes of events in the last response of the queue, if that has events.
    last_bytes: usize,
}

impl Stream {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            watchers: BTreeMap::new(),
            parked: BTreeSet::new(),
            slow: 0,
            progress_requested: false,
            waker,
            woken: false,
            next_id: WatchId(0),
            queue: VecDeque::new(),
            queued_bytes: 0,
            last_bytes: 0,
        }
    }

    /// The next id that no watcher has.
    pub(super) fn choose_id(&mut self) -> WatchId {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id.0 += 1;
        }
        let id = self.next_id;
        self.next_id.0 += 1;
        id
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn push(&mut self, output: WatchOutput) {
        self.queued_bytes += OUTPUT_BYTES;
        self.queue.push_back(output);
        self.wake();
    }

    /// Adds a response; joins it to the last one if that is the same watcher's and both are small enough.
    pub(super) fn push_events(&mut self, response: EventResponse, response_bytes: usize) {
        self.queued_bytes += response.bytes;
        if let Some(WatchOutput::Events {
            id,
            revision,
            events,
            fragment: false,
            ..
        }) = self.queue.back_mut()
            && *id == response.watcher
            && !response.fragment
            && self.last_bytes + response.bytes <= response_bytes
        {
            *revision = response.revision;
            events.extend(response.events);
            self.last_bytes += response.bytes;
            return;
        }
        self.last_bytes = response.bytes;
        self.push(WatchOutput::Events {
            id: response.watcher,
            revision: response.revision,
            events: response.events,
            prev_kv: response.prev_kv,
            fragment: response.fragment,
        });
    }

    /// Hands out everything.
    pub(super) fn take(&mut self) -> Vec<WatchOutput> {
        self.woken = false;
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue).into()
    }

    fn wake(&mut self) {
        if !self.woken {
            self.woken = true;
            (self.waker)();
        }
    }
}

/// A response with events, on its way to a stream.
pub(super) struct EventResponse {
    pub(super) watcher: WatchId,
    pub(super) revision: Revision,
    pub(super) events: Vec<Arc<Event>>,
    pub(super) bytes: usize,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
}

/// How many bytes an event takes in memory and, nearly, on the wire.
pub(super) fn event_size(event: &Event) -> usize {
    const FIXED: usize = 64;
    let value = match event {
        Event::Put { kv, .. } => kv.value.len(),
        Event::Delete { .. } => 0,
    };
    let prev = event
        .prev()
        .map_or(0, |prev| FIXED + prev.key.len() + prev.value.len());
    FIXED + event.key().len() + value + prev
}
