//! The clients: each asks one thing at a time, of any node, and never gives up for long.
//!
//! - What was refused did not happen and is tried again at another node.
//! - What has no answer in time, or was under way when its node died, may have happened: it is left
//!   in the history without an end, and never tried again.
//! - Each request is answered once at most, and it is noted if one is not.
//! - At the end an auditor writes to every key and reads it at every node, so that what was lost is missed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate::driver::Failure;
use quorate_raft::{Index, NodeId};

use crate::history::{Action, Answer, History, Key, OperationId, Value};
use crate::invariant::{Invariant, Violation, require};
use crate::profile::ClientProfile;
use crate::registers::{Command, Response};
use crate::rng::{Chance, Rng, Stream};

/// Names one attempt of one request at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// What a client sends to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Propose(Command),
    Read(Key),
}

/// A call on its way to a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submission {
    pub(crate) request: RequestId,
    pub(crate) node: NodeId,
    pub(crate) call: Call,
    /// The operation, if this is its first attempt: the client's patience begins.
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
        let client = |n| Client {
            rng: Rng::new(seed, Stream::Client(n)),
            known: BTreeMap::new(),
            current: None,
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
                let plan = self.plan(client)?;
                let current = self.begin(client, plan);
                let submission = self.attempt(client, current);
                Some(Submission {
                    begins: Some(current.operation),
                    ..submission
                })
            }
        }
    }

    /// An operator asks a node for something. Names the request.
    pub(crate) fn operator_asks(&mut self, node: NodeId, errand: Errand) -> RequestId {
        self.request(node, Asker::Operator(errand))
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

    /// A query was answered.
    pub(crate) fn read(
        &mut self,
        request: RequestId,
        value: Option<Value>,
    ) -> Result<Option<Wake>, Violation> {
        let asker = self.close(request)?;
        Ok(self.finish(asker, request, Answer::Found(value)))
    }

    /// A request was not served.
    pub(crate) fn failed(&mut self, request: RequestId, failure: Failure) -> Result<Option<Wake>, Violation> {
        let asker = self.close(request)?;
        let Some(client) = self.client_waiting(asker, request) else {
            return Ok(None);
        };
        let never_happened = matches!(failure, Failure::Rejected(_));
        Ok(Some(if never_happened {
            self.try_again(client)
        } else {
            self.give_up(client)
        }))
    }

    /// An operator's request has ended. Says what it was for.
    pub(crate) fn operator_answered(&mut self, request: RequestId) -> Result<Option<Errand>, Violation> {
        Ok(match self.close(request)? {
            Asker::Operator(errand) => Some(errand),
            Asker::Client(_) => None,
        })
    }

    /// The node refuses connections: the attempt was never made.
    pub(crate) fn refused(&mut self, request: RequestId) -> Option<Wake> {
        let asker = self.requests.remove(&request)?.asker;
        let client = self.client_waiting(asker, request)?;
        Some(self.try_again(client))
    }

    /// A node died, and with it whatever was under way there.
    pub(crate) fn node_died(&mut self, node: NodeId) -> Vec<Wake> {
        let at_node = self.requests.iter().filter(|(_, request)| request.node == node);
        let lost: Vec<(RequestId, Asker)> = at_node.map(|(id, request)| (*id, request.asker)).collect();
        let mut wakes = Vec::new();
        for (request, asker) in lost {
            self.requests.remove(&request);
            if let Some(client) = self.client_waiting(asker, request) {
                wakes.push(self.give_up(client));
            }
        }
        wakes
    }

    /// A client's patience for an operation has ended.
    pub(crate) fn timed_out(&mut self, client: u64, operation: OperationId) -> Option<Wake> {
        let current = self
            .client(client)
            .current
            .filter(|current| current.operation == operation)?;
        if current.request.is_some() {
            return Some(self.give_up(client));
        }
        self.history.refuse(operation);
        self.counts.refused += 1;
        self.client(client).current = None;
        Some(self.think(client))
    }

    /// From here on clients begin nothing new, except for steady readers.
    pub(crate) fn finish_up(&mut self) {
        self.mode = Mode::Finishing;
    }

    /// The auditor writes to each key, and reads it at each of `members`.
    pub(crate) fn audit(&mut self, members: &BTreeSet<NodeId>) -> Wake {
        self.mode = Mode::Auditing;
        let auditor = self.auditor();
        let mut script = VecDeque::new();
        for key in (0..self.profile.keys).map(Key) {
            let at = |node, action| Plan { key, action, node };
            let reads = members.iter().map(|node| at(Some(*node), Action::Read));
            script.extend(reads.clone());
            let writer = members.first().copied();
            script.push_back(at(writer, Action::Write(self.new_value())));
            script.extend(reads);
        }
        self.client(auditor).script = script;
        Wake {
            client: auditor,
            after: Duration::ZERO,
        }
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

    /// What the client wants to do next.
    fn plan(&mut self, client: u64) -> Option<Plan> {
        let is_reader = self.is_reader(client);
        let goes_on = self.mode == Mode::Asking || (is_reader && self.mode == Mode::Finishing);
        if !goes_on {
            return self.client(client).script.pop_front();
        }
        if let Some(left) = &mut self.operations {
            *left = left.checked_sub(1)?;
        }
        let new = self.new_value();
        let ClientProfile { keys, reads, .. } = self.profile;
        let doer = self.client(client);
        let key = Key(doer.rng.below(keys));
        let action = if is_reader || doer.rng.chance(reads) {
            Action::Read
        } else if doer.rng.below(3) > 0 {
            Action::Write(new)
        } else {
            Action::Swap {
                expected: doer.known.get(&key).copied().flatten(),
                new,
            }
        };
        Some(Plan {
            key,
            action,
            node: None,
        })
    }

    fn begin(&mut self, client: u64, plan: Plan) -> Current {
        let current = Current {
            operation: self.history.invoke(client, plan.key, plan.action),
            plan,
            request: None,
            floor: self.acknowledged,
        };
        self.client(client).current = Some(current);
        current
    }

    fn attempt(&mut self, client: u64, current: Current) -> Submission {
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
            Action::Write(_) | Action::Swap { .. } => Call::Propose(Command {
                key,
                action,
                padding: u16::try_from(padding).expect("below 300"),
            }),
        };
        let node = node.unwrap_or(anyone);
        let request = self.request(node, Asker::Client(client));
        self.client(client).current = Some(Current {
            request: Some(request),
            ..current
        });
        Submission {
            request,
            node,
            call,
            begins: None,
        }
    }

    fn new_value(&mut self) -> Value {
        self.values += 1;
        Value(self.values)
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

    fn finish(&mut self, asker: Asker, request: RequestId, answer: Answer) -> Option<Wake> {
        let client = self.client_waiting(asker, request)?;
        let current = self.client(client).current.take()?;
        self.history.answer(current.operation, answer);
        self.counts.answered += 1;
        let known = match (current.plan.action, answer) {
            (Action::Write(new) | Action::Swap { new, .. }, Answer::Written | Answer::Swapped) => Some(new),
            (_, Answer::Found(value) | Answer::Kept(value)) => value,
            (Action::Read, Answer::Written | Answer::Swapped) => None,
        };
        self.client(client).known.insert(current.plan.key, known);
        Some(self.think(client))
    }

    /// The client that still waits for this very request.
    fn client_waiting(&self, asker: Asker, request: RequestId) -> Option<u64> {
        match asker {
            Asker::Client(client) => self.current_of(asker, request).map(|_| client),
            Asker::Operator(_) => None,
        }
    }

    fn current_of(&self, asker: Asker, request: RequestId) -> Option<Current> {
        let Asker::Client(client) = asker else {
            return None;
        };
        let current = self.clients[place(client)].current?;
        (current.request == Some(request)).then_some(current)
    }

    fn try_again(&mut self, client: u64) -> Wake {
        let doer = self.client(client);
        if let Some(current) = &mut doer.current {
            current.request = None;
        }
        let after = doer.rng.span(RETRY_AFTER, RETRY_AFTER * 10);
        Wake { client, after }
    }

    fn give_up(&mut self, client: u64) -> Wake {
        if self.caution == Caution::Repeat {
            return self.try_again(client);
        }
        self.client(client).current = None;
        self.counts.unknown += 1;
        self.think(client)
    }

    fn think(&mut self, client: u64) -> Wake {
        let longest = if self.is_reader(client) {
            self.profile.reader_think
        } else {
            self.profile.think
        };
        let after = self.client(client).rng.span(Duration::ZERO, longest);
        Wake { client, after }
    }

    fn client(&mut self, client: u64) -> &mut Client {
        &mut self.clients[place(client)]
    }
}

fn place(client: u64) -> usize {
    usize::try_from(client).expect("there are few clients")
}

const RETRY_AFTER: Duration = Duration::from_millis(5);
