//! The keyspace as the replica drives it: entries in, outcomes out.
//!
//! - It translates and decides nothing: what an entry does is the keyspace's business.
//! - Only the apply thread touches the keyspace. Watchers and lease deadlines are shared with the
//!   tasks that serve clients, each behind a lock that is held for one call.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::EntryId;
use quorate::machine::{ApplyError, EncodeError, Machine, RestoreError, SnapshotError};
use quorate_kv::{
    Applied, AuthStatus, Backup, Caller, Change, Error, HistoryLimits, KeyRange, Keyspace, LeaseClock,
    LeaseEvent, LeaseId, Member, Moment, Page, PageRequest, Proposal, Range, RangeResponse, ReadTxn,
    Response, Revision, Right, SessionEvent, Sessions, Snapshot, TxnResponse, UnixSeconds, Waker,
    WatchConfig, WatchHub,
};
use tokio::sync::{Notify, watch};

use crate::auth::answer_auth;
use crate::meter::{Meter, Work};
use crate::metrics::RemovalStep;
pub(crate) use crate::query::{Answer, Chores, Figures, LeaseView, Query};

/// What the apply thread shares with the tasks that serve clients.
pub(crate) struct Shared {
    /// Who watches what.
    pub(crate) watches: Mutex<WatchHub>,
    /// When leases end.
    pub(crate) leases: Mutex<LeaseClock>,
    /// Whose tokens are good here.
    pub(crate) sessions: Mutex<Sessions>,
    /// Whether authentication is on, and the state of users and roles, after the last batch.
    auth: watch::Sender<AuthStatus>,
    /// The keyspace's revision after the last batch.
    revision: AtomicI64,
    /// Woken when there may be watchers that need history, or history to remove.
    pub(crate) chores: Arc<Notify>,
    origin: Instant,
}

impl Shared {
    /// The parts at the start of a member.
    pub(crate) fn new(config: WatchConfig, token_ttl: Duration) -> Shared {
        let chores = Arc::new(Notify::new());
        let waker = Arc::clone(&chores);
        let catch_up_waker: Waker = Arc::new(move || waker.notify_one());
        Shared {
            watches: Mutex::new(WatchHub::new(config, Revision::FIRST, catch_up_waker)),
            leases: Mutex::new(LeaseClock::new()),
            sessions: Mutex::new(Sessions::new(token_ttl)),
            auth: watch::Sender::new(Keyspace::new().auth().status()),
            revision: AtomicI64::new(Revision::FIRST.0),
            chores,
            origin: Instant::now(),
        }
    }

    /// The keyspace's revision after the last batch.
    pub(crate) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// Whether authentication is on, and the state of users and roles, after the last batch.
    pub(crate) fn auth_status(&self) -> AuthStatus {
        *self.auth.borrow()
    }

    /// As [`Self::auth_status`], and tells of changes.
    pub(crate) fn watch_auth(&self) -> watch::Receiver<AuthStatus> {
        self.auth.subscribe()
    }

    /// The time since the start, which is what the keyspace's parts reckon in.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// The keyspace as a state machine.
pub(crate) struct KvMachine {
    keyspace: Keyspace,
    shared: Arc<Shared>,
    /// Of the batch that is being applied.
    changes: Vec<Change>,
    /// Of the batch that is being applied: they count from the moment it is done.
    lease_events: Vec<LeaseEvent>,
    /// Of the batch that is being applied.
    session_events: Vec<SessionEvent>,
    /// Counts the times that the keyspace was replaced as a whole.
    restores: u64,
    /// The last command that was applied since the start; zero before the first.
    applied: EntryId,
    meter: Meter,
}

/// A state that is being written to a backup, and what belongs to it.
pub(crate) struct BackupView {
    pub(crate) backup: Backup,
    /// The members that have published themselves.
    pub(crate) members: Vec<Member>,
    /// The last command that is in the state, as far as it is known.
    pub(crate) applied: EntryId,
}

/// A view of the keyspace that is being written to a snapshot.
pub(crate) struct View {
    snapshot: Snapshot,
    restores: u64,
}

impl KvMachine {
    /// An empty keyspace, measured by `meter`.
    pub(crate) fn new(shared: Arc<Shared>, meter: Meter) -> KvMachine {
        KvMachine {
            keyspace: Keyspace::new(),
            shared,
            changes: Vec::new(),
            lease_events: Vec::new(),
            session_events: Vec::new(),
            restores: 0,
            applied: EntryId::ZERO,
            meter,
        }
    }

    fn lease_view(&self, id: LeaseId) -> Option<LeaseView> {
        let lease = self.keyspace.lease(id)?;
        let left = self.shared.leases.lock().remaining(id, self.shared.now())?;
        Some(LeaseView {
            granted_secs: lease.ttl_secs,
            left_secs: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    fn figures(&self) -> Figures {
        let size = self.keyspace.size();
        Figures {
            revision: self.keyspace.revision(),
            compacted: self.keyspace.compacted(),
            keys: count(size.keys),
            total_bytes: count(size.total_bytes),
            in_use_bytes: count(size.live_bytes),
            alarms: self.keyspace.alarms().collect(),
        }
    }

    /// One step of removing compacted history, and one of bringing history to watchers.
    fn chores(&mut self) -> Chores {
        let removing = self.keyspace.needs_compact_step() && self.remove_compacted();
        if self.catch_up() || removing {
            Chores::Left
        } else {
            Chores::Done
        }
    }
}

impl KvMachine {
    /// Removes some of the history that was compacted, and says whether to go on.
    fn remove_compacted(&mut self) -> bool {
        let (begun, before) = (Instant::now(), self.keyspace.size());
        let go_on = self.keyspace.compact_step(REMOVED_AT_ONCE);
        self.meter.removed(&RemovalStep {
            begun,
            before,
            after: self.keyspace.size(),
            is_more_left: self.keyspace.needs_compact_step(),
        });
        go_on
    }

    fn answer(&mut self, query: Query) -> Answer {
        let revision = self.keyspace.revision();
        match query {
            Query::Nothing => Answer::Nothing,
            Query::Range(caller, range) => Answer::Range(self.range(&caller, &range)),
            Query::Txn(caller, txn) => Answer::Txn(self.read_txn(&caller, &txn)),
            Query::HashKv(at) => Answer::HashKv(self.keyspace.hash_kv(at).map(|hash| (revision, hash))),
            Query::Leases => Answer::Leases((revision, self.shared.leases.lock().by_expiry())),
            Query::Lease(id) => Answer::Lease(Ok((revision, self.lease_view(id)))),
            Query::LeaseWithKeys(caller, id) => {
                let permitted = self.keyspace.permit(&caller, Right::LeaseKeys(id));
                Answer::Lease(permitted.map(|()| (revision, self.lease_view(id))))
            }
            Query::Auth(question) => Answer::Auth(answer_auth(&self.keyspace, question)),
            Query::Members => Answer::Members(self.keyspace.members().cloned().collect()),
            Query::Alarms => Answer::Alarms(self.keyspace.alarms().collect()),
            Query::Figures => Answer::Figures(self.figures()),
            Query::Page(caller, keys, page) => Answer::Page(self.page(&caller, &keys, &page)),
            Query::BeginBackup => Answer::Backup(self.begin_backup()),
            Query::BackupBatch(mut backup, limits) => {
                let batch = self.keyspace.backup_batch(&mut backup, limits);
                Answer::BackupBatch((backup, batch))
            }
            Query::Chores => Answer::Chores(self.chores()),
        }
    }

    fn range(&self, caller: &Caller, range: &Range) -> Result<RangeResponse, Error> {
        self.keyspace.permit(caller, Right::Read(&range.keys))?;
        self.keyspace.range(range)
    }

    fn page(&self, caller: &Caller, keys: &KeyRange, page: &PageRequest) -> Result<Page, Error> {
        self.keyspace.permit(caller, Right::Read(keys))?;
        self.keyspace.page(page)
    }

    fn begin_backup(&self) -> BackupView {
        BackupView {
            backup: self.keyspace.begin_backup(),
            members: self.keyspace.members().cloned().collect(),
            applied: self.applied,
        }
    }

    fn read_txn(&self, caller: &Caller, txn: &ReadTxn) -> Result<TxnResponse, Error> {
        self.keyspace.permit(caller, Right::ReadTxn(txn))?;
        self.keyspace.read_txn(txn)
    }

    /// Tokens first: who sees the new state finds no token that it has made void.
    fn publish_auth(&mut self) {
        if !self.session_events.is_empty() {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = Moment {
                steady: self.shared.now(),
                wall: UnixSeconds(wall.as_secs()),
            };
            let mut sessions = self.shared.sessions.lock();
            let events = self.session_events.drain(..);
            events.for_each(|event| sessions.observe(&event, now));
        }
        let status = self.keyspace.auth().status();
        self.shared.auth.send_if_modified(|known| {
            let is_new = *known != status;
            *known = status;
            is_new
        });
    }

    /// Whether there was history to bring to watchers.
    fn catch_up(&self) -> bool {
        let request = self.shared.watches.lock().next_catch_up();
        let Some(request) = request else {
            return false;
        };
        let limits = HistoryLimits::default();
        let history = self.keyspace.history(request.keys(), request.from(), &limits);
        self.shared.watches.lock().catch_up(request, history);
        true
    }
}

impl Machine for KvMachine {
    /// A command, encoded.
    type Command = Bytes;
    type Response = Outcome;
    type Query = Query;
    type Answer = Answer;
    type Snapshot = View;

    fn encode(command: Bytes) -> Result<Bytes, EncodeError> {
        Ok(command)
    }

    fn apply(&mut self, id: EntryId, command: Bytes) -> Result<Outcome, ApplyError> {
        let bytes = command.len();
        let proposal =
            Proposal::decode(command).map_err(|error| ApplyError(format!("entry {id}: {error}")))?;
        let work = Work::begin(&proposal.command, bytes);
        let Applied {
            revision,
            result,
            changes,
            leases,
            sessions,
        } = self.keyspace.apply(proposal);
        self.applied = id;
        self.meter.applied(&work, &result, &changes);
        self.changes.extend(changes);
        self.lease_events.extend(leases);
        self.session_events.extend(sessions);
        Ok(Outcome { revision, result })
    }

    fn batch_applied(&mut self) {
        let revision = self.keyspace.revision();
        self.shared.revision.store(revision.0, Ordering::Release);
        // Before the changes, so that no watcher is given one without a look at the rights it has now.
        self.publish_auth();
        if !self.changes.is_empty() {
            self.shared.watches.lock().publish(&self.changes, revision);
            self.changes.clear();
        }
        if !self.lease_events.is_empty() {
            let now = self.shared.now();
            let mut clock = self.shared.leases.lock();
            self.lease_events
                .drain(..)
                .for_each(|event| clock.observe(&event, now));
        }
        if self.keyspace.needs_compact_step() {
            self.shared.chores.notify_one();
        }
        self.meter.batch_applied();
    }

    fn query(&mut self, query: Query) -> Answer {
        let begun = Instant::now();
        let answer = self.answer(query);
        self.meter.answered(begun, &answer);
        answer
    }

    fn begin_snapshot(&mut self) -> View {
        View {
            snapshot: self.keyspace.begin_snapshot(),
            restores: self.restores,
        }
    }

    fn snapshot_chunk(&mut self, view: &mut View, max_bytes: usize) -> Result<Option<Bytes>, SnapshotError> {
        if view.restores != self.restores {
            let problem = "the keyspace it is of has been replaced";
            return Err(SnapshotError(problem.to_owned()));
        }
        Ok(self.keyspace.snapshot_chunk(&mut view.snapshot, max_bytes))
    }

    fn end_snapshot(&mut self, view: View) {
        self.keyspace.end_snapshot(view.snapshot);
        // History is not removed while a view is open.
        self.shared.chores.notify_one();
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError> {
        let _until_it_is_over = self.meter.restoring();
        let restored = Keyspace::restore(chunks);
        self.keyspace = restored.map_err(|error| RestoreError::Invalid(error.to_string()))?;
        self.restores += 1;
        self.changes.clear();
        self.lease_events.clear();
        // What happened to tokens meanwhile is not in a snapshot.
        self.session_events.clear();
        self.shared.sessions.lock().clear();
        self.publish_auth();
        let revision = self.keyspace.revision();
        self.shared.revision.store(revision.0, Ordering::Release);
        let now = self.shared.now();
        self.shared.leases.lock().restart(self.keyspace.leases(), now);
        self.shared.watches.lock().restored(revision);
        self.shared.chores.notify_one();
        Ok(())
    }
}

/// What became of a command.
pub(crate) struct Outcome {
    /// The keyspace's revision after it.
    pub(crate) revision: Revision,
    /// Its answer.
    pub(crate) result: Result<Response, Error>,
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Versions of compacted history that are removed between two batches of commands.
const REMOVED_AT_ONCE: usize = 2000;
