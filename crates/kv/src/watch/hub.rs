//! The life of streams and watchers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::index::WatchIndex;
use super::stream::{Place, Stream, Watcher};
use super::{
    CancelCause, Serial, StreamId, Waker, WatchConfig, WatchId, WatchOutput, WatchRefusal, WatchSpec,
    WatchStart, WatchStats,
};
use crate::Revision;

/// All watchers of a member. See the module's text for what they are promised.
///
/// The thread that applies commands calls [`Self::publish`] once for each batch, before the batch's clients
/// get their answers, and then serves [`Self::next_catch_up`]. A connection's task opens a stream, creates
/// watchers and, whenever its waker was called, sends what [`Self::poll`] gives.
pub struct WatchHub {
    pub(super) config: WatchConfig,
    /// The last revision that was published.
    pub(super) revision: Revision,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) watchers: BTreeMap<Serial, Watcher>,
    /// The synced watchers.
    pub(super) synced: WatchIndex,
    /// The queued watchers, by what they need next.
    pub(super) queued: BTreeSet<(Revision, Serial)>,
    /// Where the search for the next watchers to catch up goes on.
    pub(super) turn: (Revision, Serial),
    catch_up_waker: Waker,
    pub(super) catch_up_woken: bool,
    /// Streams whose client waits to hear of progress.
    pub(super) progress_waiting: BTreeSet<StreamId>,
    next_progress: Option<Duration>,
    last_stream: StreamId,
    last_serial: Serial,
}

impl WatchHub {
    /// A hub over a keyspace at `revision`. `catch_up_waker` is called when [`Self::next_catch_up`] has
    /// something to read.
    #[must_use]
    pub fn new(config: WatchConfig, revision: Revision, catch_up_waker: Waker) -> Self {
        Self {
            config,
            revision,
            streams: BTreeMap::new(),
            watchers: BTreeMap::new(),
            synced: WatchIndex::default(),
            queued: BTreeSet::new(),
            turn: (Revision(0), Serial(0)),
            catch_up_waker,
            catch_up_woken: false,
            progress_waiting: BTreeSet::new(),
            next_progress: None,
            last_stream: StreamId(0),
            last_serial: Serial(0),
        }
    }

    /// Opens a stream. `waker` is called when it has something to fetch that it was not told of.
    pub fn open_stream(&mut self, waker: Waker) -> StreamId {
        self.last_stream.0 += 1;
        self.streams.insert(self.last_stream, Stream::new(waker));
        self.last_stream
    }

    /// Ends a stream and its watchers. Nothing is sent.
    pub fn close_stream(&mut self, stream: StreamId) {
        let watchers = self
            .streams
            .get(&stream)
            .map(|stream| stream.watchers.values().copied().collect());
        let watchers: Vec<Serial> = watchers.unwrap_or_default();
        watchers.into_iter().for_each(|serial| self.remove(serial));
        self.progress_waiting.remove(&stream);
        self.streams.remove(&stream);
    }

    /// Creates a watcher. The stream gets to see whether that went well. Nothing happens on a stream that
    /// was closed.
    pub fn create(&mut self, stream: StreamId, spec: WatchSpec) {
        let revision = self.revision;
        let Some(on) = self.streams.get_mut(&stream) else {
            return;
        };
        if let Some(reason) = refusal(&spec, on) {
            on.push(WatchOutput::Refused { reason, revision });
            return;
        }
        let id = spec.id.unwrap_or_else(|| on.choose_id());
        on.push(WatchOutput::Created { id, revision });
        self.last_serial.0 += 1;
        let serial = self.last_serial;
        on.watchers.insert(id, serial);
        on.slow += 1;
        let next = match spec.start {
            WatchStart::Now => revision.next(),
            WatchStart::At(start) => start,
        };
        let watcher = Watcher {
            stream,
            id,
            spec,
            next,
            place: Place::Reading,
            heard: false,
        };
        self.watchers.insert(serial, watcher);
        self.settle(serial, next);
    }

    /// Ends a watcher at its client's wish. An unknown one is ignored.
    pub fn cancel(&mut self, stream: StreamId, id: WatchId) {
        let on = self.streams.get(&stream);
        if let Some(serial) = on.and_then(|stream| stream.watchers.get(&id)).copied() {
            self.end(serial, CancelCause::Requested);
            self.answer_progress();
        }
    }

    /// Asks to be told the revision as soon as all watchers of the stream have been given everything.
    /// Requests that meet before the answer are answered together; a stream without watchers gets none.
    pub fn request_progress(&mut self, stream: StreamId) {
        if let Some(on) = self.streams.get_mut(&stream) {
            on.progress_requested = true;
            self.progress_waiting.insert(stream);
            self.answer_progress();
        }
    }

    /// What a stream has to send, in order. The waker is called again for whatever comes after.
    pub fn poll(&mut self, stream: StreamId) -> Vec<WatchOutput> {
        let Some(on) = self.streams.get_mut(&stream) else {
            return Vec::new();
        };
        let outputs = on.take();
        for serial in on.parked.clone() {
            self.move_to(serial, Place::Queued);
        }
        self.wake_catch_up();
        outputs
    }

    /// Sends periodic progress if it is time. Answers when to call again. `now` is the time since any fixed
    /// origin.
    pub fn tick(&mut self, now: Duration) -> Duration {
        let due = self.next_progress.is_some_and(|due| due <= now);
        if due {
            self.send_periodic_progress();
        }
        let next = self.next_progress.filter(|_| !due);
        *self
            .next_progress
            .insert(next.unwrap_or(now + self.config.progress_interval))
    }

    /// Tells that the keyspace was replaced by a snapshot at `revision`, without its changes being
    /// published. Watchers read them from the new history, or are canceled if that does not reach back.
    pub fn restored(&mut self, revision: Revision) {
        let missed = self.revision.next();
        self.revision = self.revision.max(revision);
        let synced = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.place == Place::Synced);
        let synced: Vec<(Serial, Revision)> = synced
            .map(|(serial, watcher)| (*serial, watcher.next.max(missed)))
            .collect();
        synced
            .into_iter()
            .for_each(|(serial, next)| self.settle(serial, next));
    }

    /// The last revision that was published.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many watchers there are.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// How much there is to do. Linear in the number of streams.
    #[must_use]
    pub fn stats(&self) -> WatchStats {
        WatchStats {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow_watchers: self.streams.values().map(|stream| stream.slow).sum(),
            pending_bytes: self.streams.values().map(Stream::queued_bytes).sum(),
        }
    }

    /// Puts a watcher that needs `next` where it will get it.
    pub(super) fn settle(&mut self, serial: Serial, next: Revision) {
        self.move_to(serial, Place::Reading);
        if let Some(watcher) = self.watchers.get_mut(&serial) {
            watcher.next = next;
            let place = if next > self.revision {
                Place::Synced
            } else {
                Place::Queued
            };
            self.move_to(serial, place);
        }
        self.wake_catch_up();
    }

    /// Takes a watcher from one place to another.
    pub(super) fn move_to(&mut self, serial: Serial, place: Place) {
        let Some(watcher) = self.watchers.get_mut(&serial) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&watcher.stream) else {
            return;
        };
        match watcher.place {
            Place::Synced => {
                stream.slow += 1;
                self.synced.remove(&watcher.spec.keys, serial);
            }
            Place::Queued => drop(self.queued.remove(&(watcher.next, serial))),
            Place::Parked => drop(stream.parked.remove(&serial)),
            Place::Reading => {}
        }
        match place {
            Place::Synced => {
                stream.slow -= 1;
                self.synced.insert(&watcher.spec.keys, serial);
            }
            Place::Queued => drop(self.queued.insert((watcher.next, serial))),
            Place::Parked => drop(stream.parked.insert(serial)),
            Place::Reading => {}
        }
        watcher.place = place;
    }

    /// Ends a watcher and tells its stream.
    pub(super) fn end(&mut self, serial: Serial, cause: CancelCause) {
        let revision = self.revision;
        let Some(watcher) = self.watchers.get(&serial) else {
            return;
        };
        let (id, stream) = (watcher.id, watcher.stream);
        self.remove(serial);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.push(WatchOutput::Canceled { id, cause, revision });
        }
    }

    /// Answers requests for progress where all watchers have been given everything.
    pub(super) fn answer_progress(&mut self) {
        let (revision, watchers) = (self.revision, &self.watchers);
        let current = |serial: &Serial| {
            watchers
                .get(serial)
                .is_none_or(|watcher| watcher.is_current(revision))
        };
        let streams = &mut self.streams;
        self.progress_waiting.retain(|id| {
            let Some(stream) = streams.get_mut(id) else {
                return false;
            };
            if stream.slow > 0 || !stream.watchers.values().all(current) {
                return true;
            }
            if !stream.watchers.is_empty() {
                stream.push(WatchOutput::Progress { id: None, revision });
            }
            false
        });
    }

    fn send_periodic_progress(&mut self) {
        let revision = self.revision;
        for watcher in self
            .watchers
            .values_mut()
            .filter(|watcher| watcher.spec.progress_notify)
        {
            let heard = std::mem::take(&mut watcher.heard);
            let Some(stream) = self.streams.get_mut(&watcher.stream) else {
                continue;
            };
            // A stream that does not fetch is told nothing more: its memory is bounded.
            let fetches = stream.queued_bytes() < self.config.stream_bytes;
            if !heard && fetches && watcher.is_current(revision) {
                stream.push(WatchOutput::Progress {
                    id: Some(watcher.id),
                    revision,
                });
            }
        }
    }

    fn remove(&mut self, serial: Serial) {
        self.move_to(serial, Place::Reading);
        let Some(watcher) = self.watchers.remove(&serial) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&watcher.stream) {
            stream.watchers.remove(&watcher.id);
            stream.slow -= 1;
        }
    }

    fn wake_catch_up(&mut self) {
        if !self.queued.is_empty() && !self.catch_up_woken {
            self.catch_up_woken = true;
            (self.catch_up_waker)();
        }
    }
}

impl fmt::Debug for WatchHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchHub")
            .field("revision", &self.revision)
            .field("stats", &self.stats())
            .finish()
    }
}

fn refusal(spec: &WatchSpec, stream: &Stream) -> Option<WatchRefusal> {
    if spec.keys.is_empty() {
        return Some(WatchRefusal::EmptyRange);
    }
    if matches!(spec.start, WatchStart::At(start) if start < Revision(0)) {
        return Some(WatchRefusal::Compacted);
    }
    let taken = spec.id.is_some_and(|id| stream.watchers.contains_key(&id));
    taken.then_some(WatchRefusal::DuplicateId)
}
