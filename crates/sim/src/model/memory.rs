//! Every machine and message that was ever seen, by number, and every step that a machine ever took.
//!
//! A state of the whole is then a few numbers, and most steps cost a look-up.

use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_raft::message::{AppendEntriesResponse, Message, Verdict};
use quorate_raft::{Envelope, Index, NodeId, Term};

use super::Flaw;
use super::machine::{Effect, Facts, Happening, Machine};
use crate::digest::Digest;
use crate::invariant::Violation;

/// Names a machine in one of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MachineId(pub(super) u32);

/// Names a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MessageId(pub(super) u32);

/// A happening, in a form that is small and has an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stimulus {
    Deliver(MessageId),
    /// It arrives, and will arrive again.
    Repeat(MessageId),
    /// It is lost, and what was sent after it is not.
    Lose(MessageId),
    Timeout,
    Heartbeat,
    Propose(u8),
    Persist,
    Crash(u8),
}

/// What a step of a machine came to.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) next: MachineId,
    pub(super) sends: Vec<MessageId>,
}

/// What is known of a message without looking into it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) term: Term,
    pub(super) promise: Promise,
    pub(super) audience: Audience,
}

/// Who takes any notice of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Anyone, perhaps.
    Anyone,
    /// The candidate of its term.
    Candidate,
    /// The leader of its term.
    Leader,
    /// Whoever is in its term, or in a lower one.
    SameTerm,
    /// Whoever is in a lower term than this.
    Before(Term),
}

/// What a message promises of its sender's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Nothing,
    /// Its vote in the envelope's term is the receiver's.
    Vote,
    /// Its log equals the receiver's up to here.
    Match(Index),
}

/// Everything seen.
#[derive(Debug)]
pub(super) struct Memory {
    flaw: Flaw,
    machines: Vec<Machine>,
    facts: Vec<Facts>,
    machine_ids: BTreeMap<Digest, MachineId>,
    messages: Vec<Envelope>,
    labels: Vec<Label>,
    message_ids: BTreeMap<Digest, MessageId>,
    steps: BTreeMap<(MachineId, Stimulus), Rc<Step>>,
}

impl Memory {
    pub(super) fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            machines: Vec::new(),
            facts: Vec::new(),
            machine_ids: BTreeMap::new(),
            messages: Vec::new(),
            labels: Vec::new(),
            message_ids: BTreeMap::new(),
            steps: BTreeMap::new(),
        }
    }

    pub(super) fn facts(&self, id: MachineId) -> &Facts {
        &self.facts[place(id.0)]
    }

    pub(super) fn label(&self, id: MessageId) -> Label {
        self.labels[place(id.0)]
    }

    /// How many machines and messages were seen.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.machines.len(), self.messages.len())
    }

    /// What `stimulus` makes of a machine.
    pub(super) fn step(&mut self, id: MachineId, stimulus: Stimulus) -> Result<Rc<Step>, Violation> {
        // The receiver cannot tell a message that will come again from one that will not.
        let stimulus = if let Stimulus::Repeat(message) = stimulus {
            Stimulus::Deliver(message)
        } else {
            stimulus
        };
        if let Some(step) = self.steps.get(&(id, stimulus)) {
            return Ok(Rc::clone(step));
        }
        let (machine, effect) = self.take_step(id, stimulus)?;
        let next = self.remember(machine);
        let sends = effect.sends.into_iter();
        let sends = sends.map(|envelope| self.remember_message(envelope)).collect();
        let step = Rc::new(Step { next, sends });
        self.steps.insert((id, stimulus), Rc::clone(&step));
        Ok(step)
    }

    /// The same, with all that happens in it.
    pub(super) fn take_step(
        &self,
        id: MachineId,
        stimulus: Stimulus,
    ) -> Result<(Machine, Effect), Violation> {
        self.machines[place(id.0)].after(&self.happening(stimulus), self.flaw)
    }

    pub(super) fn happening(&self, stimulus: Stimulus) -> Happening {
        match stimulus {
            Stimulus::Deliver(id) | Stimulus::Repeat(id) => {
                Happening::Deliver(self.messages[place(id.0)].clone())
            }
            Stimulus::Lose(id) => Happening::Lose(self.messages[place(id.0)].clone()),
            Stimulus::Timeout => Happening::Timeout,
            Stimulus::Heartbeat => Happening::Heartbeat,
            Stimulus::Propose(number) => Happening::Propose(u64::from(number)),
            Stimulus::Persist => Happening::Persist,
            Stimulus::Crash(kept) => Happening::Crash(usize::from(kept)),
        }
    }

    pub(super) fn remember(&mut self, machine: Machine) -> MachineId {
        let digest = machine.digest();
        if let Some(id) = self.machine_ids.get(&digest) {
            return *id;
        }
        let id = MachineId(number(self.machines.len()));
        self.machine_ids.insert(digest, id);
        self.facts.push(machine.facts());
        self.machines.push(machine);
        id
    }

    fn remember_message(&mut self, envelope: Envelope) -> MessageId {
        let digest = Digest::EMPTY.display(&format_args!("{envelope:?}"));
        if let Some(id) = self.message_ids.get(&digest) {
            return *id;
        }
        let id = MessageId(number(self.messages.len()));
        self.message_ids.insert(digest, id);
        self.labels.push(Label::of(&envelope));
        self.messages.push(envelope);
        id
    }
}

impl Stimulus {
    /// Whether it happens on the way, and not to a machine.
    pub(super) fn is_loss(self) -> bool {
        matches!(self, Self::Lose(_))
    }
}

impl Step {
    /// A machine to which nothing happens.
    pub(super) fn nothing(id: MachineId) -> Self {
        Self {
            next: id,
            sends: Vec::new(),
        }
    }
}

impl Label {
    fn of(envelope: &Envelope) -> Self {
        let promise = if let Message::VoteResponse(Verdict::Granted) = &envelope.message {
            Promise::Vote
        } else if let Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) =
            &envelope.message
        {
            Promise::Match(*match_index)
        } else {
            Promise::Nothing
        };
        Self {
            from: envelope.from,
            to: envelope.to,
            term: envelope.term,
            promise,
            audience: Audience::of(envelope),
        }
    }
}

impl Audience {
    fn of(envelope: &Envelope) -> Self {
        let message = &envelope.message;
        if let Message::PreVoteResponse(answer) = message {
            return Self::Before(answer.term.max(envelope.term.next()));
        }
        if matches!(message, Message::VoteResponse(_)) {
            return Self::Candidate;
        }
        let is_answer = matches!(
            message,
            Message::AppendEntriesResponse(_) | Message::HeartbeatResponse(_)
        );
        if is_answer {
            return Self::Leader;
        }
        if matches!(message, Message::Commit(_) | Message::StaleTerm) {
            return Self::SameTerm;
        }
        Self::Anyone
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).expect("a number of 32 bits fits")
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("memory ends long before 2^32 machines")
}
