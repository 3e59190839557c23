//! The clients: each asks one thing at a time, of any node, and never gives up for long.
//!
//! - What was refused did not happen and is tried again at another node.
//! - What has no answer in time, or was under way when its node died, may have happened: it is left
//!   in the history without an end, and never tried again. A client that has a session ([`session`])
//!   repeats its command under the same name instead, until it has an answer or gives up.
//! - Each request is answered once at most, and it is noted if one is not.
//! - At the end an auditor writes to every key and reads it at every node, so that what was lost is missed.

mod ending;
mod session;
mod wishes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate::sessions::TimeToLive;
use quorate_raft::{Index, NodeId};

use crate::history::{Action, Answer, History, Key, OperationId, Value};
use crate::invariant::{Invariant, Violation, require};
use crate::profile::{ClientProfile, SessionProfile};
use crate::registers::{Command, Response};
use crate::rng::{Chance, Rng, Stream};
use session::{Certainty, Name, Session};
pub(crate) use session::{Proposal, Word};

/// Names one attempt of one request at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// What a client sends to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Propose(Proposal),
    Read(Key),
}

/// A call on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) request: RequestId,
    pub(crate) node: NodeId,
    pub(crate) call: Call,
    /// The operation, if the client's patience for it begins: with the first attempt, and when it is
    /// repeated after that.
    pub(crate) begins: Option<OperationId>,
}

/// When a client is to be woken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wake {
    pub(crate) client: u64,
    pub(crate) after: Duration,
}

/// Everyone who asks, and what they saw.
#[derive(Debug)]
pub(crate) struct Clients {
    profile: ClientProfile,
    /// Whom they ask.
    nodes: Vec<NodeId>,
    clients: Vec<Client>,
    history: History,
    requests: BTreeMap<RequestId, Request>,
    requested: u64,
    values: u64,
    /// The highest index that any client knows to hold its write.
    acknowledged: Index,
    counts: Counts,
    /// How many operations may begin yet; any number if none.
    operations: Option<u64>,
    mode: Mode,
    caution: Caution,
}

/// What clients do when the outcome of an operation is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caution {
    /// They leave it at that.
    NeverRepeat,
    /// They ask for the very same again, as if it had not happened. A mistake.
    Repeat,
}

/// How operations ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With an answer.
    pub answered: u64,
    /// Without: they may have happened.
    pub unknown: u64,
    /// Never happened.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Clients ask on and on.
    Asking,
    /// What has begun is finished; only steady readers begin anew.
    Finishing,
    /// Nobody begins anew but the auditor.
    Auditing,
}

#[derive(Debug)]
struct Client {
    rng: Rng,
    /// What it last knew of each key.
    known: BTreeMap<Key, Option<Value>>,
    current: Option<Current>,
    /// None if it repeats nothing.
    session: Option<Session>,
    /// What the auditor is to do, in order; empty for all others.
    script: VecDeque<Plan>,
}

/// One thing to ask.
#[derive(Clone, Copy, Debug)]
struct Plan {
    key: Key,
    action: Action,
    /// Whom to ask; anyone if none.
    node: Option<NodeId>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    operation: OperationId,
    plan: Plan,
    /// The attempt that is under way; none between two.
    request: Option<RequestId>,
    /// An earlier write was acknowledged here before this began.
    floor: Index,
    /// Of a command within a session, once that is open.
    name: Option<Name>,
    certainty: Certainty,
    patience: Patience,
    /// How many times the client's patience may begin anew.
    repeats: u64,
}

/// Whether a client's patience for what it wants has a time to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// It begins with the next attempt.
    Fresh,
    Running,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    node: NodeId,
    asker: Asker,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    Client(u64),
    Operator(Errand),
    /// Nobody waits for the answer.
    Nobody,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    Transfer,
    Members,
}

impl Clients {
    /// Clients that have done nothing yet.
    pub(crate) fn new(
        seed: u64,
        nodes: u64,
        profile: ClientProfile,
        operations: Option<u64>,
        caution: Caution,
    ) -> Self {
        let open = |sessions: SessionProfile| Session::new(TimeToLive::new(sessions.ttl));
        let client = |n| Client {
            rng: Rng::new(seed, Stream::Client(n)),
            known: BTreeMap::new(),
            current: None,
            session: if n < profile.clients {
                profile.sessions.map(open)
            } else {
                None
            },
            script: VecDeque::new(),
        };
        Self {
            nodes: (1..=nodes).map(NodeId).collect(),
            // First those who read and write, then the steady readers, then the auditor.
            clients: (0..=profile.clients + profile.readers).map(client).collect(),
            profile,
            history: History::default(),
            requests: BTreeMap::new(),
            requested: 0,
            values: 0,
            acknowledged: Index::ZERO,
            counts: Counts::default(),
            operations,
            mode: Mode::Asking,
            caution,
        }
    }

    /// Everyone begins some time.
    pub(crate) fn start(&mut self) -> Vec<Wake> {
        (0..self.auditor()).map(|client| self.think(client)).collect()
    }

    /// Who looks at the end whether all is there.
    pub(crate) fn auditor(&self) -> u64 {
        self.profile.clients + self.profile.readers
    }

    /// A client does what it wants to do next: something new, or an attempt more.
    pub(crate) fn wake(&mut self, client: u64) -> Option<Submission> {
        match self.client(client).current {
            Some(current) if current.request.is_some() => None,
            Some(current) => Some(self.attempt(client, current)),
            None => {
                let Some(plan) = self.plan(client) else {
                    return self.leave(client);
                };
                let current = self.begin(client, plan);
                Some(self.attempt(client, current))
            }
        }
    }

    /// An operator asks a node for something. Names the request.
    pub(crate) fn operator_asks(&mut self, node: NodeId, errand: Errand) -> RequestId {
        self.request(node, Asker::Operator(errand))
    }

    /// A node asks itself for something, and waits for no answer. Names the request.
    pub(crate) fn nobody_asks(&mut self, node: NodeId) -> RequestId {
        self.request(node, Asker::Nobody)
    }

    /// These are the nodes that can be asked from here on.
    pub(crate) fn know(&mut self, nodes: Vec<NodeId>) {
        self.nodes = nodes;
    }

    /// How many requests of operators have no answer yet.
    pub(crate) fn operators(&self) -> usize {
        let asks = |request: &&Request| matches!(request.asker, Asker::Operator(_));
        self.requests.values().filter(asks).count()
    }

    /// A command was applied for whoever proposed it.
    pub(crate) fn responded(
        &mut self,
        request: RequestId,
        response: Response,
    ) -> Result<Option<Wake>, Violation> {
        let asker = self.close(request)?;
        if let Some(current) = self.current_of(asker, request) {
            require(
                response.id.index > current.floor,
                Invariant::RevisionOrder,
                || {
                    let floor = current.floor;
                    format!(
                        "a write is acknowledged at {}, an earlier one was at {floor}",
                        response.id
                    )
                },
            )?;
        }
        self.acknowledged = self.acknowledged.max(response.id.index);
        Ok(self.finish(asker, request, response.answer))
    }

    /// What is to be written by a request that its client still waits for; none if it is for something else.
    pub(crate) fn wanted(&self, request: RequestId) -> Option<Value> {
        let asker = self.requests.get(&request)?.asker;
        match self.current_of(asker, request)?.plan.action {
            Action::Write(wanted) | Action::Swap { new: wanted, .. } => Some(wanted),
            Action::Read => None,
        }
    }

    /// A query was answered.
    pub(crate) fn read(
        &mut self,
        request: RequestId,
        value: Option<Value>,
    ) -> Result<Option<Wake>, Violation> {
        let asker = self.close(request)?;
        Ok(self.finish(asker, request, Answer::Found(value)))
    }

    /// An operator's request has ended. Says what it was for.
    pub(crate) fn operator_answered(&mut self, request: RequestId) -> Result<Option<Errand>, Violation> {
        Ok(match self.close(request)? {
            Asker::Operator(errand) => Some(errand),
            Asker::Client(_) | Asker::Nobody => None,
        })
    }

    /// From here on clients begin nothing new, except for steady readers.
    pub(crate) fn finish_up(&mut self) {
        self.mode = Mode::Finishing;
    }

    /// Requests to `members` without an answer, and clients that are not done. Steady readers count when
    /// they have stopped; who is no member may never learn what became of what it was asked.
    pub(crate) fn unanswered(&self, members: &BTreeSet<NodeId>) -> usize {
        let counts = |client: u64| self.mode == Mode::Auditing || !self.is_reader(client);
        let is_busy = |client: &Client| client.current.is_some() || !client.script.is_empty();
        let busy = (0..).zip(&self.clients);
        let busy = busy.filter(|(number, client)| counts(*number) && is_busy(client));
        let owed = self
            .requests
            .values()
            .filter(|request| members.contains(&request.node));
        let open = owed.filter(|request| match request.asker {
            Asker::Client(client) => counts(client),
            Asker::Operator(_) => true,
            Asker::Nobody => false,
        });
        open.count() + busy.count()
    }

    /// The nodes whose answers are awaited.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.requests.values().map(|request| request.node)
    }

    fn is_reader(&self, client: u64) -> bool {
        (self.profile.clients..self.auditor()).contains(&client)
    }

    /// What clients did and saw.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// How operations ended.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn attempt(&mut self, client: u64, mut current: Current) -> Submission {
        let doer = &mut self.clients[place(client)];
        let anyone = *doer.rng.pick(&self.nodes);
        let padding = if doer.rng.chance(Chance::percent(10)) {
            doer.rng.below(300)
        } else {
            0
        };
        let Plan { key, action, node } = current.plan;
        let call = match action {
            Action::Read => Call::Read(key),
            Action::Write(_) | Action::Swap { .. } => {
                let padding = u16::try_from(padding).expect("below 300");
                Call::Propose(doer.proposal(&mut current.name, Command { key, action, padding }))
            }
        };
        let node = node.unwrap_or(anyone);
        let request = self.request(node, Asker::Client(client));
        let is_fresh = std::mem::replace(&mut current.patience, Patience::Running) == Patience::Fresh;
        current.request = Some(request);
        self.client(client).current = Some(current);
        Submission {
            request,
            node,
            call,
            begins: is_fresh.then_some(current.operation),
        }
    }

    fn request(&mut self, node: NodeId, asker: Asker) -> RequestId {
        self.requested += 1;
        let request = RequestId(self.requested);
        self.requests.insert(request, Request { node, asker });
        request
    }

    fn close(&mut self, request: RequestId) -> Result<Asker, Violation> {
        let closed = self.requests.remove(&request);
        require(closed.is_some(), Invariant::AnsweredOnce, || {
            format!("request {} is answered twice, or after its node died", request.0)
        })?;
        Ok(closed.expect("required above").asker)
    }

    /// The client that still waits for this very request.
    fn client_waiting(&self, asker: Asker, request: RequestId) -> Option<u64> {
        match asker {
            Asker::Client(client) => self.current_of(asker, request).map(|_| client),
            Asker::Operator(_) | Asker::Nobody => None,
        }
    }

    fn current_of(&self, asker: Asker, request: RequestId) -> Option<Current> {
        let Asker::Client(client) = asker else {
            return None;
        };
        let current = self.clients[place(client)].current?;
        (current.request == Some(request)).then_some(current)
    }

    fn think(&mut self, client: u64) -> Wake {
        let longest = if self.is_reader(client) {
            self.profile.reader_think
        } else {
            self.profile.think
        };
        let naps = self
            .profile
            .sessions
            .map_or(Chance::NEVER, |sessions| sessions.naps);
        let doer = self.client(client);
        let after = if doer.session.is_some() && doer.rng.chance(naps) {
            doer.rng.span(Duration::ZERO, LONGEST_NAP)
        } else {
            doer.rng.span(Duration::ZERO, longest)
        };
        Wake { client, after }
    }

    fn client(&mut self, client: u64) -> &mut Client {
        &mut self.clients[place(client)]
    }
}

impl Client {
    fn proposal(&mut self, name: &mut Option<Name>, command: Command) -> Proposal {
        match &mut self.session {
            Some(session) => session.proposal(name, command),
            None => Proposal::Plain(command),
        }
    }

    fn draw_repeats(&mut self) -> u64 {
        match &self.session {
            Some(_) => self.rng.below(MOST_REPEATS + 1),
            None => 0,
        }
    }
}

fn place(client: u64) -> usize {
    usize::try_from(client).expect("there are few clients")
}

const RETRY_AFTER: Duration = Duration::from_millis(5);
/// How many times a client that has a session begins to wait for the same command again, at most.
const MOST_REPEATS: u64 = 3;
/// Long enough for a session to end meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(6);
