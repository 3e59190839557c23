//! One node of a model: the real core, its disk, and the writes on their way to it.
//!
//! - A machine is a pure function of what happens to it, so each step is taken once and remembered.
//! - What a core wants applied or read is done at once; its writes wait until they are let through.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use quorate_raft::invariants::{check_state, check_step};
use quorate_raft::{
    Config, Configuration, Entry, EntryId, Envelope, Event, GroupId, HardState, Index, Input, Limits,
    LogReadError, MemberKind, Node, NodeId, Proposal, ReadLog, Ready, RoleKind, Session, Stored, Term,
    Ticket, Write,
};

use super::Flaw;
use super::memory::{Audience, Label};
use crate::digest::Digest;
use crate::invariant::{Invariant, Violation};
use crate::run::message_of;

/// One node of a model.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    node: Node,
    disk: Disk,
    /// Not on the disk yet, oldest first.
    pending: VecDeque<Write>,
    lives: u64,
}

/// What outlives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    hard_state: HardState,
    /// From index 1 on.
    entries: Vec<Entry>,
}

/// Something that happens to a machine.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A message arrives.
    Deliver(Envelope),
    /// A message for it is lost.
    Lose(Envelope),
    /// Its clock runs until it campaigns.
    Timeout,
    /// Its clock ticks once: a leader's heartbeats.
    Heartbeat,
    /// A client's command, by its number.
    Propose(u64),
    /// The oldest write is durable.
    Persist,
    /// It dies and starts again; this many of its unfinished writes are on the disk.
    Crash(usize),
}

/// What comes of a happening, beside the new machine.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) events: Vec<Event>,
    pub(super) sends: Vec<Envelope>,
}

/// What laws are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) id: NodeId,
    pub(super) role: RoleKind,
    pub(super) term: Term,
    pub(super) commit: Index,
    /// What the node has written, durable or not, from index 1 on.
    pub(super) log: Vec<(EntryId, Digest)>,
    /// What its disk holds of it.
    pub(super) durable: Vec<EntryId>,
    pub(super) durable_state: HardState,
    pub(super) pending: usize,
}

impl Facts {
    /// Whether the message can change nothing any more, whatever comes: the disk keeps the term, and a role
    /// once lost is not had again in the same term.
    pub(super) fn is_deaf_to(&self, label: Label) -> bool {
        let term = self.durable_state.term;
        let has = |role| self.role == role && self.term == label.term;
        match label.audience {
            Audience::Anyone => false,
            Audience::SameTerm => label.term < term,
            Audience::Candidate => label.term <= term && !has(RoleKind::Candidate),
            Audience::Leader => label.term <= term && !has(RoleKind::Leader),
            Audience::Before(bound) => bound <= term,
        }
    }
}

impl Machine {
    /// A member of a new group of `nodes`.
    pub(super) fn new(id: NodeId, nodes: u64) -> Self {
        let mut machine = Self {
            node: start(id, nodes, &Disk::default(), 1),
            disk: Disk::default(),
            pending: VecDeque::new(),
            lives: 1,
        };
        machine.drain(&mut Effect::default());
        machine
    }

    /// The machine after something happened to it.
    pub(super) fn after(&self, happening: &Happening, flaw: Flaw) -> Result<(Self, Effect), Violation> {
        let mut next = self.clone();
        let acted = catch_unwind(AssertUnwindSafe(|| next.act(happening, flaw)));
        match acted {
            Ok(effect) => Ok((next, effect)),
            Err(panic) => Err(Violation {
                invariant: Invariant::Assertion,
                detail: message_of(panic.as_ref()),
            }),
        }
    }

    /// Tells machines apart by everything that a later step could depend on.
    pub(super) fn digest(&self) -> Digest {
        // The derived `Debug` shows every field, those that the core will get included.
        Digest::EMPTY.display(&format_args!("{self:?}"))
    }

    pub(super) fn facts(&self) -> Facts {
        let status = self.node.status();
        let mut written = self.disk.clone();
        self.pending.iter().for_each(|write| written.carry_out(write));
        Facts {
            id: status.id,
            role: status.role,
            term: status.term,
            commit: status.commit_index,
            log: written.entries.iter().map(identified).collect(),
            durable: self.disk.entries.iter().map(|entry| entry.id).collect(),
            durable_state: self.disk.hard_state,
            pending: self.pending.len(),
        }
    }

    fn act(&mut self, happening: &Happening, flaw: Flaw) -> Effect {
        let mut effect = Effect::default();
        match happening {
            Happening::Deliver(envelope) => self.step(Input::Receive(envelope.clone()), &mut effect),
            Happening::Lose(_) => {}
            Happening::Timeout => self.run_out(&mut effect),
            Happening::Heartbeat => self.step(Input::Tick, &mut effect),
            Happening::Propose(number) => {
                let proposal = Proposal {
                    ticket: Ticket(*number),
                    command: Bytes::copy_from_slice(&number.to_be_bytes()),
                };
                self.step(Input::Propose(vec![proposal]), &mut effect);
            }
            Happening::Persist => self.persist(&mut effect),
            Happening::Crash(kept) => self.crash(*kept, flaw, &mut effect),
        }
        if flaw == Flaw::EarlyPersist {
            self.report_early(&mut effect);
        }
        check_state(&self.node);
        effect
    }

    /// Ticks until it campaigns: the bound is more than any timeout that is drawn.
    fn run_out(&mut self, effect: &mut Effect) {
        for _ in 0..2 * ELECTION_TICKS {
            self.step(Input::Tick, effect);
            if effect.events.iter().any(begins_campaign) {
                return;
            }
        }
    }

    fn persist(&mut self, effect: &mut Effect) {
        if let Some(write) = self.pending.pop_front() {
            self.disk.carry_out(&write);
            self.step(Input::Persisted(write.seq), effect);
        }
    }

    fn report_early(&mut self, effect: &mut Effect) {
        if let Some(write) = self.pending.back() {
            let seq = write.seq;
            self.step(Input::Persisted(seq), effect);
        }
    }

    fn crash(&mut self, kept: usize, flaw: Flaw, effect: &mut Effect) {
        for write in self.pending.drain(..).take(kept) {
            self.disk.carry_out(&write);
        }
        if flaw == Flaw::ForgottenVote {
            self.disk.hard_state.vote = None;
        }
        self.lives += 1;
        let status = self.node.status();
        let nodes = status.configuration.voters().len() as u64;
        self.node = start(status.id, nodes, &self.disk, self.lives);
        self.drain(effect);
    }

    fn step(&mut self, input: Input, effect: &mut Effect) {
        let before = self.node.view();
        self.node.step(input);
        self.drain(effect);
        check_step(&before, &self.node.view());
    }

    /// Does what the core wants done.
    fn drain(&mut self, effect: &mut Effect) {
        while let Some(ready) = self.node.ready() {
            let Ready {
                events,
                send,
                write,
                apply,
                read_log,
                ..
            } = ready;
            effect.events.extend(events);
            effect.sends.extend(send);
            self.pending.extend(write);
            if let Some(last) = apply.last() {
                self.node.step(Input::Applied(last.id.index));
            }
            for request in read_log {
                let entries = self.disk.read(&request);
                self.node.step(Input::LogRead { request, entries });
            }
        }
    }
}

impl Disk {
    fn carry_out(&mut self, write: &Write) {
        assert!(write.reset.is_none(), "nothing is compacted in a model");
        if let Some(state) = write.hard_state {
            self.hard_state = state;
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
        }
        self.entries.extend(write.entries.iter().cloned());
    }

    fn read(&self, request: &ReadLog) -> Result<Vec<Entry>, LogReadError> {
        let wanted = self
            .entries
            .iter()
            .filter(|entry| entry.id.index >= request.from && entry.id.index <= request.to);
        let entries: Vec<Entry> = wanted.cloned().collect();
        if entries.is_empty() {
            return Err(LogReadError::Gone);
        }
        Ok(entries)
    }

    fn stored(&self, configuration: Configuration) -> Stored {
        let mut stored = Stored::new(configuration);
        stored.hard_state = self.hard_state;
        for entry in &self.entries {
            if stored.terms.last().is_none_or(|first| first.term < entry.id.term) {
                stored.terms.push(entry.id);
            }
            stored.last = entry.id;
        }
        stored
    }
}

fn start(id: NodeId, nodes: u64, disk: &Disk, life: u64) -> Node {
    let voters = (1..=nodes).map(NodeId);
    let members = Configuration::new(voters, []).expect("there is a voter, and no learner");
    let config = Config {
        id,
        group: GroupId(1),
        kind: MemberKind::Full,
        session: Session(life),
        seed: EVEN_SEED,
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: 1,
        leases: None,
        limits: Limits::default(),
    };
    Node::new(config, disk.stored(members)).expect("the disk holds what a node wrote")
}

fn identified(entry: &Entry) -> (EntryId, Digest) {
    (entry.id, crate::safety::digest_of(entry))
}

fn begins_campaign(event: &Event) -> bool {
    matches!(
        event,
        Event::BecamePreCandidate { .. } | Event::BecameCandidate { .. }
    )
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(envelope) => write!(f, "receives {envelope}"),
            Self::Lose(envelope) => write!(f, "never receives {envelope}"),
            Self::Timeout => write!(f, "hears of no leader for too long"),
            Self::Heartbeat => write!(f, "ticks"),
            Self::Propose(number) => write!(f, "is asked for command {number}"),
            Self::Persist => write!(f, "has its oldest write on the disk"),
            Self::Crash(0) => write!(f, "dies, loses what it was writing, and starts again"),
            Self::Crash(kept) => write!(
                f,
                "dies when {kept} of its unfinished writes reached the disk, and starts again"
            ),
        }
    }
}

/// The least that leaves room for heartbeats: fewer ticks make fewer states.
const ELECTION_TICKS: u32 = 3;
/// From this seed the core draws the shortest timeout for the first 29 times, so that draws make no states.
const EVEN_SEED: u64 = 658_089_599;
