//! Watches: who wants to see which changes, and what each has yet to be told.
//!
//! [`WatchHub`] is shared by the thread that applies commands, which publishes changes, and the tasks of
//! the connections, which create watchers and fetch what to send. It has no clock and no thread; the owner
//! puts it behind a mutex, and no call does more than its own share of work.
//!
//! What a watcher is promised:
//!
//! - Every change in its range from its start on, once, in order of revision. Nothing is ever dropped: if
//!   the history it needs is compacted, it is canceled and told so.
//! - A revision comes in one response, unless it asked for fragments.
//! - A response at revision R means that everything up to R was sent to it before or with it.
//! - Created comes first, canceled last.
//!
//! A watcher is *synced* when it has been given everything that was published. Synced watchers are found by
//! key in `index.rs`. One that starts in the past, or whose stream has not fetched what it was given, is not
//! synced: it is given nothing until the owner reads its history for it, see [`WatchHub::next_catch_up`].
//! So a slow stream costs its bound in memory and nobody else anything.

mod catch_up;
mod deliver;
mod hub;
mod index;
mod interval;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::{Event, KeyRange, Revision};

pub use catch_up::CatchUp;
pub use hub::WatchHub;

/// Called when there is something to do. It runs under the hub's lock: it may wake a task, never call back.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Names a stream of watch responses, within the life of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Names a watcher within its stream; chosen by the client or the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names a watcher within its hub. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Serial(u64);

/// Bounds and rhythms of a hub.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// How many bytes of events a stream may have waiting. Beyond, its watchers stop being synced.
    pub stream_bytes: usize,
    /// How many bytes of events a response is given before the next one is begun.
    pub response_bytes: usize,
    /// How often a watcher that asked for it is told the revision when there is nothing else to tell.
    pub progress_interval: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            stream_bytes: 4 << 20,
            // etcd's request limit and its overhead: where fragments begin.
            response_bytes: 2 << 20,
            progress_interval: Duration::from_secs(600),
        }
    }
}

/// What a client wants to watch.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// The watcher's id; none: the hub chooses one.
    pub id: Option<WatchId>,
    /// The keys.
    pub keys: KeyRange,
    /// Where to begin.
    pub start: WatchStart,
    /// Whether to leave puts out.
    pub skip_puts: bool,
    /// Whether to leave deletions out.
    pub skip_deletes: bool,
    /// Whether to tell what was there before each change.
    pub prev_kv: bool,
    /// Whether a revision may be cut into several responses.
    pub fragment: bool,
    /// Whether to tell the revision from time to time when there is nothing else to tell.
    pub progress_notify: bool,
}

impl WatchSpec {
    /// All changes of some keys, from here on.
    #[must_use]
    pub fn new(keys: KeyRange) -> Self {
        Self {
            id: None,
            keys,
            start: WatchStart::Now,
            skip_puts: false,
            skip_deletes: false,
            prev_kv: false,
            fragment: false,
            progress_notify: false,
        }
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// After everything that is published.
    Now,
    /// With this revision: past, present or future.
    At(Revision),
}

impl WatchStart {
    /// Reads the wire's number, in which 0 stands for "now".
    #[must_use]
    pub fn from_wire(start_revision: i64) -> Self {
        if start_revision == 0 {
            Self::Now
        } else {
            Self::At(Revision(start_revision))
        }
    }
}

/// One response to send on a stream. `revision` is for its header.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchOutput {
    /// The watcher exists.
    Created {
        /// The watcher.
        id: WatchId,
        /// What was published when it was created.
        revision: Revision,
    },
    /// The watcher was not created. On the wire: created and canceled, with id -1.
    Refused {
        /// Why.
        reason: WatchRefusal,
        /// What was published then.
        revision: Revision,
    },
    /// Changes.
    Events {
        /// The watcher.
        id: WatchId,
        /// Everything up to here was sent to it, this included.
        revision: Revision,
        /// The changes, never none. Shared by all watchers of the same keys.
        events: Vec<Arc<Event>>,
        /// Whether the client wants to see what was there before; otherwise leave it out.
        prev_kv: bool,
        /// Whether the same revision goes on in the next response.
        fragment: bool,
    },
    /// Nothing happened.
    Progress {
        /// The watcher, none when the client asked for all of the stream: -1 on the wire.
        id: Option<WatchId>,
        /// Everything up to here was sent.
        revision: Revision,
    },
    /// The watcher is no more.
    Canceled {
        /// The watcher.
        id: WatchId,
        /// Why.
        cause: CancelCause,
        /// What was published then.
        revision: Revision,
    },
}

/// Why a watcher was not created. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WatchRefusal {
    /// The stream has a watcher of this id.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// The range holds no key.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// It starts before all revisions.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
}

/// Why a watcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelCause {
    /// The client asked for it.
    Requested,
    /// What it needs next is gone.
    Compacted {
        /// The oldest revision that is left.
        compacted: Revision,
    },
}

/// How much a hub has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchStats {
    /// Open streams.
    pub streams: usize,
    /// Watchers on them.
    pub watchers: usize,
    /// Watchers that are not synced.
    pub slow_watchers: usize,
    /// Bytes of events waiting to be fetched, shared ones counted for each stream.
    pub pending_bytes: usize,
}
