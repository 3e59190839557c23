//! The client's end of a session: a handle that repeats each command until its outcome is known.
//!
//! - Many requests may be under way at once; they are applied in any order.
//! - A request that is given up, at its deadline or because its future was dropped, counts as
//!   acknowledged: it is refused once a later one was applied.
//! - While the handle is there, so is the session, unless the node is cut off for its time to live.
//!   Dropping the last handle closes it, if the node can; else it expires.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft::Rejection;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Sessions;
use super::command::{Command, Reply, Seq, SessionId};
use super::outstanding::Outstanding;
use super::table::{Refusal, TimeToLive};
use crate::driver::Failure;
use crate::error::{OpenError, SessionError, Stopped};
use crate::machine::Repeatable;
use crate::replica::{Replica, Retry, is_passing};

/// A session with a replicated machine, by way of one node. Cheap to clone.
pub struct Session<M: Repeatable> {
    open: Arc<Open<M>>,
}

/// An open session. Dropping it closes it.
struct Open<M: Repeatable> {
    replica: Replica<Sessions<M>>,
    id: SessionId,
    ttl: TimeToLive,
    outstanding: Mutex<Outstanding>,
    /// Told whenever a request ends.
    ended: Notify,
}

impl<M: Repeatable> Replica<Sessions<M>> {
    /// Opens a session that lives for [`DEFAULT_TTL`] without a sign of life.
    ///
    /// # Errors
    /// When there are too many sessions, no majority could be reached in time, or the node stopped.
    pub async fn open_session(&self) -> Result<Session<M>, OpenError> {
        self.open_session_for(TimeToLive::new(DEFAULT_TTL)).await
    }

    /// Opens a session with a time to live of the caller's.
    ///
    /// # Errors
    /// As [`Self::open_session`].
    pub async fn open_session_for(&self, ttl: TimeToLive) -> Result<Session<M>, OpenError> {
        let mut attempts = Attempts::new(self, Instant::now() + self.shared.request_timeout);
        let command = Command::Open { ttl }.encode();
        let id = loop {
            let miss = match attempts.next(command.clone()).await {
                Ok(Reply::Opened(id)) => break id,
                Ok(Reply::Refused(refusal)) => return Err(OpenError::Refused(refusal)),
                Ok(Reply::Applied(_) | Reply::Done) => other_reply(),
                Err(miss) => miss,
            };
            // Of two that were opened, the one that nobody knows expires.
            if !attempts.may_repeat(&miss).await {
                return Err(miss.into());
            }
        };
        Ok(Session::new(self.clone(), id, ttl))
    }
}

impl<M: Repeatable> Session<M> {
    fn new(replica: Replica<Sessions<M>>, id: SessionId, ttl: TimeToLive) -> Self {
        let open = Arc::new(Open {
            replica,
            id,
            ttl,
            outstanding: Mutex::new(Outstanding::new(WINDOW)),
            ended: Notify::new(),
        });
        tokio::spawn(keep_alive(Arc::downgrade(&open), ttl.duration() / SIGNS_OF_LIFE));
        Self { open }
    }

    /// The session's name in the log.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.open.id
    }

    /// Has a command committed and applied once, however often it takes to say so.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn propose(&self, command: M::Command) -> Result<M::Response, SessionError> {
        let deadline = Instant::now() + self.open.replica.shared.request_timeout;
        self.propose_until(command, deadline).await
    }

    /// As [`Self::propose`], with a deadline of the caller's.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub async fn propose_until(
        &self,
        command: M::Command,
        deadline: Instant,
    ) -> Result<M::Response, SessionError> {
        let command = M::encode(command)?;
        let turn = self.open.begin(deadline).await?;
        let mut attempts = Attempts::new(&self.open.replica, deadline);
        loop {
            let miss = match attempts.next(turn.request(&command)).await {
                Ok(Reply::Applied(response)) => return Ok(response),
                Ok(Reply::Refused(refusal)) => match attempts.refused(refusal) {
                    Verdict::Later(miss) => miss,
                    Verdict::Never(error) => return Err(error),
                },
                Ok(Reply::Opened(_) | Reply::Done) => other_reply(),
                Err(miss) => miss,
            };
            if !attempts.may_repeat(&miss).await {
                return Err(attempts.given_up(miss));
            }
        }
    }
}

impl<M: Repeatable> Open<M> {
    /// Begins a request, once there is room in the window.
    async fn begin(&self, deadline: Instant) -> Result<Turn<'_, M>, SessionError> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on it hears of ends, before it looks: none comes in between unheard.
            ended.as_mut().enable();
            if let Some(seq) = self.outstanding.lock().begin() {
                return Ok(Turn { open: self, seq });
            }
            if tokio::time::timeout_at(deadline, ended).await.is_err() {
                return Err(SessionError::Rejected(Rejection::Overloaded));
            }
        }
    }

    fn acknowledged_below(&self) -> Seq {
        self.outstanding.lock().acknowledged_below()
    }
}

impl<M: Repeatable> Drop for Open<M> {
    fn drop(&mut self) {
        // Nobody waits for it: if it fails, the session expires.
        let close = Command::Close { session: self.id };
        drop(self.replica.shared.inbox.propose(close.encode()));
    }
}

/// A request that is under way. Dropping it gives it up, or acknowledges its response.
struct Turn<'a, M: Repeatable> {
    open: &'a Open<M>,
    seq: Seq,
}

impl<M: Repeatable> Turn<'_, M> {
    fn request(&self, command: &Bytes) -> Bytes {
        let request = Command::Apply {
            session: self.open.id,
            seq: self.seq,
            acknowledged_below: self.open.acknowledged_below(),
            command: command.clone(),
        };
        request.encode()
    }
}

impl<M: Repeatable> Drop for Turn<'_, M> {
    fn drop(&mut self) {
        self.open.outstanding.lock().end(self.seq);
        self.open.ended.notify_waiters();
    }
}

/// Attempts to have one thing done.
struct Attempts<'a, M: Repeatable> {
    replica: &'a Replica<Sessions<M>>,
    retry: Retry,
    deadline: Instant,
    patience: Duration,
    certainty: Certainty,
}

/// Whether an earlier attempt may have done it, or may yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    NotDone,
    Unknown,
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Miss {
    Rejected(Rejection),
    Refused(Refusal),
    Unknown,
    Stopped(Stopped),
}

/// What a refusal means.
enum Verdict {
    /// Try again.
    Later(Miss),
    /// Trying again is no use.
    Never(SessionError),
}

impl<'a, M: Repeatable> Attempts<'a, M> {
    fn new(replica: &'a Replica<Sessions<M>>, deadline: Instant) -> Self {
        Self {
            replica,
            retry: Retry::new(replica, deadline),
            deadline,
            patience: FIRST_PATIENCE,
            certainty: Certainty::NotDone,
        }
    }

    /// Makes one attempt.
    async fn next(&mut self, command: Bytes) -> Result<Reply<M::Response>, Miss> {
        let receiver = self.replica.shared.inbox.propose(command);
        let until = self.deadline.min(Instant::now() + self.patience);
        let failure = match tokio::time::timeout_at(until, receiver).await {
            Ok(Ok(Ok(reply))) => return Ok(reply),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_dropped)) => Failure::Stopped,
            Err(_elapsed) => {
                // What is slow is made slower by repetitions.
                self.patience *= 2;
                Failure::Unknown
            }
        };
        Err(match failure {
            Failure::Rejected(rejection) => Miss::Rejected(rejection),
            Failure::Unknown => {
                self.certainty = Certainty::Unknown;
                Miss::Unknown
            }
            Failure::Stopped => Miss::Stopped(self.replica.stopped().await),
        })
    }

    /// Whether there is a use and time for another attempt, once it is time for it.
    async fn may_repeat(&mut self, miss: &Miss) -> bool {
        match miss {
            Miss::Stopped(_) => false,
            Miss::Rejected(rejection) => is_passing(*rejection) && self.retry.wait().await,
            Miss::Refused(_) | Miss::Unknown => self.retry.wait().await,
        }
    }

    fn refused(&self, refusal: Refusal) -> Verdict {
        match (refusal, self.certainty) {
            (Refusal::BeyondWindow { .. }, _) => Verdict::Later(Miss::Refused(refusal)),
            (Refusal::ResponseNotKept, _) => Verdict::Never(SessionError::ResponseLost),
            (Refusal::UnknownSession(_), Certainty::Unknown) => Verdict::Never(SessionError::Ended),
            (Refusal::Acknowledged { .. }, Certainty::Unknown) => Verdict::Never(SessionError::Unknown),
            (
                Refusal::UnknownSession(_)
                | Refusal::NameTaken(_)
                | Refusal::TooManySessions { .. }
                | Refusal::Acknowledged { .. },
                _,
            ) => Verdict::Never(SessionError::Refused(refusal)),
        }
    }

    fn given_up(&self, miss: Miss) -> SessionError {
        match (miss, self.certainty) {
            (Miss::Stopped(stopped), _) => SessionError::Stopped(stopped),
            (_, Certainty::Unknown) | (Miss::Unknown, _) => SessionError::Unknown,
            (Miss::Rejected(rejection), Certainty::NotDone) => SessionError::Rejected(rejection),
            (Miss::Refused(refusal), Certainty::NotDone) => SessionError::Refused(refusal),
        }
    }
}

impl From<Miss> for OpenError {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Rejected(rejection) => Self::Rejected(rejection),
            Miss::Refused(refusal) => Self::Refused(refusal),
            Miss::Unknown => Self::TimedOut,
            Miss::Stopped(stopped) => Self::Stopped(stopped),
        }
    }
}

/// Gives signs of life for as long as there is a handle.
async fn keep_alive<M: Repeatable>(session: Weak<Open<M>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(open) = session.upgrade() else { return };
        let sign = Command::KeepAlive {
            session: open.id,
            acknowledged_below: open.acknowledged_below(),
        };
        let receiver = open.replica.shared.inbox.propose(sign.encode());
        // Nothing of the session is held while the answer is waited for.
        drop(open);
        let reply = tokio::time::timeout(every, receiver).await;
        if let Ok(Ok(Ok(Reply::Refused(Refusal::UnknownSession(id))))) = reply {
            tracing::warn!(%id, "it ended before its client");
            return;
        }
    }
}

/// Commands and replies of sessions come in pairs, and both were made in this process.
fn other_reply() -> ! {
    panic!("a command of sessions was answered as another kind of command would be: fix Sessions::apply")
}

impl<M: Repeatable> Clone for Session<M> {
    fn clone(&self) -> Self {
        Self {
            open: Arc::clone(&self.open),
        }
    }
}

impl<M: Repeatable> std::fmt::Debug for Session<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.open.id)
            .field("ttl", &self.open.ttl)
            .finish_non_exhaustive()
    }
}

/// How long a session lives without a sign of life, unless its client says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30);
/// How many signs of life are given in a time to live.
const SIGNS_OF_LIFE: u32 = 3;
/// How far a request may be ahead of the first under way.
const WINDOW: u64 = 128;
/// How long an attempt is waited for before it is repeated, at first.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
