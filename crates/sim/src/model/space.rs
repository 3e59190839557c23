//! The search: breadth first, over states of a few numbers each.

use std::collections::BTreeSet;
use std::rc::Rc;

use quorate_raft::{Envelope, Event, NodeId, RoleKind};

use super::laws::{self, Past};
use super::machine::Machine;
use super::memory::{MachineId, Memory, MessageId, Step, Stimulus};
use super::{Bounds, Counterexample, Coverage, Findings, Flaw, Order};
use crate::digest::Digest;
use crate::invariant::Violation;

/// The states found so far.
pub(super) struct Space {
    bounds: Bounds,
    memory: Memory,
    seen: BTreeSet<Digest>,
    /// How each state was reached, by its number.
    origins: Vec<Option<Origin>>,
    transitions: u64,
    committed: usize,
    leaders: BTreeSet<(u64, NodeId)>,
}

/// The state of everything.
#[derive(Clone, Debug)]
struct State {
    number: u32,
    machines: Vec<MachineId>,
    /// Every message under way that could still do anything, by rank.
    sent: Vec<MessageId>,
    left: Left,
    past: Past,
}

/// What may still happen.
#[derive(Clone, Copy, Debug)]
struct Left {
    timeouts: u8,
    heartbeats: u8,
    proposals: u8,
    crashes: u8,
    repeats: u8,
    losses: u8,
}

/// A step: what happened to which machine.
#[derive(Clone, Copy, Debug)]
struct Origin {
    from: u32,
    node: u8,
    stimulus: Stimulus,
}

impl Space {
    pub(super) fn new(bounds: Bounds, flaw: Flaw) -> Self {
        Self {
            bounds,
            memory: Memory::new(flaw),
            seen: BTreeSet::new(),
            origins: Vec::new(),
            transitions: 0,
            committed: 0,
            leaders: BTreeSet::new(),
        }
    }

    pub(super) fn explore(mut self) -> Findings {
        let first = self.first();
        self.seen.insert(first.digest());
        self.origins.push(None);
        let mut frontier = vec![first];
        let mut depth = 0;
        while !frontier.is_empty() {
            let mut found = Vec::new();
            for state in &frontier {
                if self.origins.len() >= self.bounds.states {
                    return self.findings(depth, Coverage::Part, None);
                }
                if let Err((origin, violation)) = self.expand(state, &mut found) {
                    let counterexample = self.counterexample(origin, violation);
                    return self.findings(depth + 1, Coverage::Part, Some(counterexample));
                }
            }
            depth += usize::from(!found.is_empty());
            frontier = found;
        }
        self.findings(depth, Coverage::Whole, None)
    }

    fn first(&mut self) -> State {
        let nodes = self.bounds.nodes;
        let machines = (1..=nodes).map(|node| self.memory.remember(Machine::new(NodeId(node), nodes)));
        State {
            number: 0,
            machines: machines.collect(),
            sent: Vec::new(),
            left: Left {
                timeouts: self.bounds.timeouts,
                heartbeats: self.bounds.heartbeats,
                proposals: self.bounds.proposals,
                crashes: self.bounds.crashes,
                repeats: self.bounds.repeats,
                losses: self.bounds.losses,
            },
            past: Past::default(),
        }
    }

    /// Adds every state one step from `state` that is news to `found`.
    fn expand(&mut self, state: &State, found: &mut Vec<State>) -> Result<(), (Origin, Violation)> {
        for node in 0..state.machines.len() {
            for stimulus in self.stimuli(state, node) {
                let origin = Origin {
                    from: state.number,
                    node: u8::try_from(node).expect("a handful of nodes"),
                    stimulus,
                };
                let next = self.after(state, node, stimulus);
                let Some(mut next) = next.map_err(|violation| (origin, violation))? else {
                    continue;
                };
                self.transitions += 1;
                if self.seen.insert(next.digest()) {
                    next.number = u32::try_from(self.origins.len()).expect("memory ends before");
                    self.origins.push(Some(origin));
                    self.note(&next);
                    found.push(next);
                }
            }
        }
        Ok(())
    }

    /// Everything that can happen to a node.
    fn stimuli(&self, state: &State, node: usize) -> Vec<Stimulus> {
        let facts = self.memory.facts(state.machines[node]);
        let (left, leads) = (state.left, facts.role == RoleKind::Leader);
        let mut stimuli = Vec::new();
        for id in self.arriving(state, facts.id) {
            stimuli.push(Stimulus::Deliver(id));
            if left.repeats > 0 {
                stimuli.push(Stimulus::Repeat(id));
            }
            if left.losses > 0 {
                stimuli.push(Stimulus::Lose(id));
            }
        }
        // All nodes are alike until the patience of one ends: it may as well be the first.
        let is_first = left.timeouts == self.bounds.timeouts;
        let may_campaign = !leads && facts.term.0 < self.bounds.terms && (node == 0 || !is_first);
        if left.timeouts > 0 && may_campaign {
            stimuli.push(Stimulus::Timeout);
        }
        if left.heartbeats > 0 && leads {
            stimuli.push(Stimulus::Heartbeat);
        }
        if left.proposals > 0 && leads {
            stimuli.push(Stimulus::Propose(self.bounds.proposals - left.proposals + 1));
        }
        if facts.pending > 0 {
            stimuli.push(Stimulus::Persist);
        }
        if left.crashes > 0 && !is_first {
            let most = u8::try_from(facts.pending).unwrap_or(u8::MAX);
            stimuli.extend((0..=most).map(Stimulus::Crash));
        }
        stimuli
    }

    /// The messages that may be the next to arrive at a node.
    fn arriving(&self, state: &State, node: NodeId) -> Vec<MessageId> {
        let to_node = state.sent.iter().filter(|id| self.memory.label(**id).to == node);
        let mut arriving: Vec<MessageId> = to_node.copied().collect();
        if self.bounds.order == Order::Streams {
            arriving.dedup_by_key(|id| self.memory.label(*id).from);
        }
        arriving
    }

    /// Messages under way are kept in this order; those of equal rank in the order of sending.
    fn rank(&self, id: MessageId) -> (u64, u64) {
        let label = self.memory.label(id);
        match self.bounds.order {
            Order::Streams => (label.to.0, label.from.0),
            Order::Any => (u64::from(id.0), 0),
        }
    }

    /// The state after a step; none if the step changes nothing.
    fn after(&mut self, state: &State, node: usize, stimulus: Stimulus) -> Result<Option<State>, Violation> {
        let before = state.machines[node];
        let step = if stimulus.is_loss() {
            Rc::new(Step::nothing(before))
        } else {
            self.memory.step(before, stimulus)?
        };
        let mut next = state.clone();
        next.left.spend(stimulus);
        next.machines[node] = step.next;
        if let Stimulus::Deliver(id) | Stimulus::Lose(id) = stimulus {
            let place = next.sent.iter().position(|other| *other == id);
            next.sent.remove(place.expect("what arrives was under way"));
        }
        if stimulus.is_loss() {
            return Ok(Some(next));
        }
        let in_order = self.bounds.order == Order::Streams;
        let is_news = |id: &&MessageId| in_order || next.sent.binary_search(id).is_err();
        let news: Vec<MessageId> = step.sends.iter().filter(is_news).copied().collect();
        if step.next == before && news.is_empty() && !in_order {
            // At most a message less is under way, and it may have been lost: nothing new follows.
            return Ok(None);
        }
        for id in news {
            let others = next.sent.iter().map(|other| self.memory.label(*other));
            laws::check_promise(self.memory.facts(step.next), self.memory.label(id), others)?;
            let place = next
                .sent
                .partition_point(|other| self.rank(*other) <= self.rank(id));
            next.sent.insert(place, id);
        }
        let all: Vec<_> = next.machines.iter().map(|id| self.memory.facts(*id)).collect();
        laws::check(&all, node, &mut next.past)?;
        self.forget_dead_letters(&mut next);
        Ok(Some(next))
    }

    /// Drops messages that whoever they are for would take in without a word and without a trace, for ever.
    fn forget_dead_letters(&self, state: &mut State) {
        let State { machines, sent, .. } = state;
        let facts = |node| {
            let all = machines.iter().map(|machine| self.memory.facts(*machine));
            all.into_iter().find(|facts| facts.id == node)
        };
        sent.retain(|id| {
            let label = self.memory.label(*id);
            facts(label.to).is_some_and(|to| !to.is_deaf_to(label))
        });
    }

    fn note(&mut self, state: &State) {
        self.committed = self.committed.max(state.past.committed.len());
        let leaders = state.past.leaders.iter();
        self.leaders.extend(leaders.map(|(term, node)| (term.0, *node)));
    }

    fn findings(&self, depth: usize, coverage: Coverage, counterexample: Option<Counterexample>) -> Findings {
        let (machines, messages) = self.memory.sizes();
        Findings {
            states: self.origins.len(),
            transitions: self.transitions,
            depth,
            machines,
            messages,
            coverage,
            committed: self.committed,
            leaders: self.leaders.iter().copied().collect(),
            counterexample,
        }
    }

    /// Tells how `last` came about, from the start.
    fn counterexample(&mut self, last: Origin, violation: Violation) -> Counterexample {
        let mut steps = vec![last];
        let mut at = last.from;
        while let Some(origin) = self.origins[usize::try_from(at).expect("32 bits")] {
            steps.push(origin);
            at = origin.from;
        }
        let mut machines = self.first().machines;
        let mut lines = Vec::new();
        for origin in steps.into_iter().rev() {
            let machine = &mut machines[usize::from(origin.node)];
            let happening = self.memory.happening(origin.stimulus);
            lines.push(format!("{} {happening}", self.memory.facts(*machine).id));
            if origin.stimulus.is_loss() {
                continue;
            }
            let Ok((next, effect)) = self.memory.take_step(*machine, origin.stimulus) else {
                break;
            };
            lines.extend(
                effect
                    .events
                    .iter()
                    .map(|event| shown_event(*machine, &self.memory, event)),
            );
            lines.extend(effect.sends.iter().map(shown_message));
            *machine = self.memory.remember(next);
        }
        Counterexample {
            invariant: violation.invariant,
            detail: violation.detail,
            lines,
        }
    }
}

impl State {
    fn digest(&self) -> Digest {
        let Left {
            timeouts,
            heartbeats,
            proposals,
            crashes,
            repeats,
            losses,
        } = self.left;
        let left = [timeouts, heartbeats, proposals, crashes, repeats, losses];
        let mut digest = Digest::EMPTY.bytes(&left).number(self.sent.len() as u64);
        for id in &self.machines {
            digest = digest.number(u64::from(id.0));
        }
        for id in &self.sent {
            digest = digest.number(u64::from(id.0));
        }
        for (term, node) in &self.past.leaders {
            digest = digest.number(term.0).number(node.0);
        }
        for (id, by) in &self.past.committed {
            digest = digest.number(id.index.0).number(id.term.0).number(by.0);
        }
        digest
    }
}

impl Left {
    fn spend(&mut self, stimulus: Stimulus) {
        match stimulus {
            Stimulus::Deliver(_) | Stimulus::Persist => {}
            Stimulus::Timeout => self.timeouts -= 1,
            Stimulus::Heartbeat => self.heartbeats -= 1,
            Stimulus::Propose(_) => self.proposals -= 1,
            Stimulus::Crash(_) => self.crashes -= 1,
            Stimulus::Repeat(_) => self.repeats -= 1,
            Stimulus::Lose(_) => self.losses -= 1,
        }
    }
}

fn shown_event(machine: MachineId, memory: &Memory, event: &Event) -> String {
    format!("  {} {event}", memory.facts(machine).id)
}

fn shown_message(envelope: &Envelope) -> String {
    format!("  {envelope}")
}
