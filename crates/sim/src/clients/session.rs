//! A client's session: what production's handle keeps and does, without its clocks.
//!
//! - A command has a name in its session, and keeps it however often it is repeated.
//! - A command that is given up is not repeated: the next one says so.
//! - A session that ended takes with it the name of the command under way: whether that was applied
//!   cannot be asked any more.

use quorate::sessions::{self, Outstanding, Refusal, Seq, SessionId, TimeToLive};

use super::{Asker, Clients, Current, RequestId, Submission, Wake};
use crate::invariant::{Invariant, Violation};
use crate::registers::Command;

/// What a client's command becomes in the log.
pub(crate) type Proposal = sessions::Command<Command>;

/// What a node tells a client of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It is open.
    Opened(SessionId),
    /// What was to be done to it is done.
    Done,
    /// It did not do what it was asked to.
    Refused(Refusal),
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    ttl: TimeToLive,
    /// None before it is opened, and once it has ended.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    id: SessionId,
    outstanding: Outstanding,
}

/// Names a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    session: SessionId,
    seq: Seq,
}

/// Whether an attempt may have had a command applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    NotDone,
    Unknown,
}

impl Session {
    /// A session that nobody has opened yet.
    pub(super) fn new(ttl: TimeToLive) -> Self {
        Self { ttl, open: None }
    }

    /// What is to be proposed so that `command` is applied once: if there is no session yet, that one is opened.
    pub(super) fn proposal(&mut self, name: &mut Option<Name>, command: Command) -> Proposal {
        let Some(open) = &mut self.open else {
            return Proposal::Open { ttl: self.ttl };
        };
        let session = open.id;
        let seq = name.map_or_else(|| open.begin(), |name| name.seq);
        *name = Some(Name { session, seq });
        Proposal::Apply {
            session,
            seq,
            acknowledged_below: open.outstanding.acknowledged_below(),
            command,
        }
    }

    fn opened(&mut self, id: SessionId) {
        self.open = Some(Open {
            id,
            outstanding: Outstanding::new(WINDOW),
        });
    }

    /// A command will not be repeated.
    pub(super) fn end(&mut self, name: Name) {
        if let Some(open) = &mut self.open {
            open.outstanding.end(name.seq);
        }
    }
}

impl Open {
    fn begin(&mut self) -> Seq {
        let seq = self.outstanding.begin();
        seq.expect("a client has one command under way, which is less than the window")
    }
}

impl Clients {
    /// A node says something of a session, or of time that passed.
    pub(crate) fn told(&mut self, request: RequestId, word: Word) -> Result<Option<Wake>, Violation> {
        let asker = self.close(request)?;
        let Some(client) = self.client_waiting(asker, request) else {
            // Of a session that nobody knows of, its time to live is the end.
            return Ok(None);
        };
        let Word::Refused(refusal) = word else {
            if let (Word::Opened(id), Some(session)) = (word, &mut self.client(client).session) {
                session.opened(id);
            }
            return Ok(Some(self.try_again(client)));
        };
        self.refused_by_session(client, refusal).map(Some)
    }

    fn refused_by_session(&mut self, client: u64, refusal: Refusal) -> Result<Wake, Violation> {
        if matches!(refusal, Refusal::TooManySessions { .. }) {
            return Ok(self.try_again(client));
        }
        if matches!(refusal, Refusal::ResponseNotKept) {
            return Ok(self.abandon(client));
        }
        if matches!(refusal, Refusal::UnknownSession(_)) {
            return Ok(self.session_ended(client));
        }
        Err(Violation {
            invariant: Invariant::OnceOnly,
            detail: format!(
                "client {client} has one command under way, and its session refuses it: {refusal}"
            ),
        })
    }

    fn session_ended(&mut self, client: u64) -> Wake {
        let doer = self.client(client);
        if let Some(session) = &mut doer.session {
            session.open = None;
        }
        match &mut doer.current {
            Some(current) if current.certainty == Certainty::NotDone => {
                current.name = None;
                self.try_again(client)
            }
            _ => self.abandon(client),
        }
    }

    /// Whether this request repeats a command that may have been applied.
    pub(crate) fn repeats(&self, request: RequestId) -> bool {
        let asker = self.requests.get(&request).map(|request| request.asker);
        let current = asker.and_then(|asker| self.current_of(asker, request));
        current.is_some_and(|current| current.name.is_some() && current.certainty == Certainty::Unknown)
    }

    /// Whether the client may ask for the same again, whatever became of what it asked last.
    pub(super) fn may_repeat(&self, client: u64) -> bool {
        let doer = &self.clients[super::place(client)];
        let has_effects = |current: Current| current.plan.action != super::Action::Read;
        doer.session.is_some() && doer.current.is_some_and(has_effects)
    }

    /// A client that wants nothing more closes its session. Nobody waits for that.
    pub(super) fn leave(&mut self, client: u64) -> Option<Submission> {
        let doer = &mut self.clients[super::place(client)];
        let session = doer.session.as_mut()?.open.take()?.id;
        let node = *doer.rng.pick(&self.nodes);
        Some(Submission {
            request: self.request(node, Asker::Nobody),
            node,
            call: super::Call::Propose(Proposal::Close { session }),
            begins: None,
        })
    }
}

/// How far a command may be ahead of the first that is not acknowledged.
const WINDOW: u64 = 8;
