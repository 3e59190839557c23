//! A run in the words of the TLA+ specification, for TLC to say whether it is a behavior of it.
//!
//! - A line is what one node is after a step, what a sync put on its disk, or what it starts from.
//! - What a node promises (asks for votes, votes, acknowledgments) is on the line of the step that sends it.
//! - The lines are a prefix of the run: they end when there are enough, or when a snapshot takes the
//!   place of a log.
//!
//! What a line means is in `spec/QuorateTrace.tla`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use quorate_raft::message::{AppendEntriesResponse, Message, Verdict};
use quorate_raft::{
    Configuration, Entry, EntryId, Envelope, Event, HardState, Index, MemberKind, NodeId, Payload, Stored,
    Target, Write,
};

use crate::mirror::{Change, Mirror, changes};
use crate::safety::Step;

/// A run as far as it was recorded.
#[derive(Debug)]
pub(crate) struct SpecTrace {
    nodes: BTreeMap<NodeId, Seen>,
    voters: BTreeSet<NodeId>,
    witnesses: BTreeSet<NodeId>,
    targets: BTreeSet<String>,
    /// Every entry ever written, in the specification's words.
    entries: BTreeMap<EntryId, String>,
    lines: Vec<String>,
    most_lines: usize,
    ended: bool,
}

/// What is known of one node.
#[derive(Debug)]
struct Seen {
    /// What it works with.
    state: State,
    /// What its disk holds.
    durable: Mirror,
    /// Written and not yet synced, oldest first.
    pending: VecDeque<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    role: &'static str,
    hard_state: HardState,
    log: Vec<EntryId>,
    commit: Index,
}

impl SpecTrace {
    /// Nothing yet; ends after `most_lines` lines.
    pub(crate) fn new(most_lines: usize) -> Self {
        Self {
            nodes: BTreeMap::new(),
            voters: BTreeSet::new(),
            witnesses: BTreeSet::new(),
            targets: BTreeSet::new(),
            entries: BTreeMap::new(),
            lines: Vec::new(),
            most_lines,
            ended: false,
        }
    }

    /// A node starts, with what it found on its disk.
    pub(crate) fn started(&mut self, node: NodeId, stored: &Stored) {
        if self.nodes.is_empty() {
            let configuration = &stored.snapshot.configuration;
            self.voters.clone_from(configuration.voters());
            self.witnesses.extend(witnesses(configuration));
        }
        self.ended |= stored.base != EntryId::ZERO;
        let durable = Mirror::recovered(stored);
        self.add(format!("kind |-> \"start\", {}", on_disk(node, &durable)));
        let ids = (1..=stored.last.index.0).map(Index);
        let log = ids.map(|index| EntryId::new(index, durable.term_at(index).unwrap_or_default()));
        let state = State {
            role: "follower",
            hard_state: stored.hard_state,
            log: log.collect(),
            commit: stored.snapshot.id.index,
        };
        let pending = VecDeque::new();
        let seen = Seen {
            state,
            durable,
            pending,
        };
        self.nodes.insert(node, seen);
    }

    /// What a node's core wants done after an input.
    pub(crate) fn stepped(&mut self, node: NodeId, step: &Step) {
        step.writes.iter().for_each(|write| self.learn(write));
        let Some(seen) = self.nodes.get_mut(&node) else {
            return;
        };
        let before = seen.state.clone();
        for write in &step.writes {
            seen.pending.extend(changes(write));
            seen.state.write(write);
        }
        step.events.iter().for_each(|event| seen.state.observe(event));
        let after = seen.state.clone();
        let said: Vec<String> = step.sends.iter().filter_map(said).collect();
        if before != after || !said.is_empty() {
            let line = self.step_line(node, &before, &after, &said);
            self.add(line);
        }
    }

    /// The node's oldest `count` changes are durable.
    pub(crate) fn synced(&mut self, node: NodeId, count: usize) {
        let Some(seen) = self.nodes.get_mut(&node) else {
            return;
        };
        seen.pending
            .drain(..count)
            .for_each(|change| seen.durable.change(change));
        let line = format!("kind |-> \"disk\", {}", on_disk(node, &seen.durable));
        self.add(line);
    }

    /// The run as the module `Run`.
    pub(crate) fn module(&self) -> String {
        let (nodes, lines) = (self.nodes.keys().copied(), self.lines.join(",\n    "));
        let targets: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        let mut module = "---- MODULE Run ----\n".to_owned();
        for (name, value) in [
            ("RunNodes", set(nodes)),
            ("RunVoters", set(self.voters.iter().copied())),
            ("RunWitnesses", set(self.witnesses.iter().copied())),
            ("RunTargets", format!("{{{}}}", targets.join(", "))),
            ("Lines", format!("<<\n    {lines}\n>>")),
        ] {
            writeln!(module, "{name} == {value}").expect("a string takes what is written to it");
        }
        module + "====\n"
    }

    fn add(&mut self, fields: String) {
        self.ended |= self.lines.len() >= self.most_lines;
        if !self.ended {
            self.lines.push(format!("[{fields}]"));
        }
    }

    /// Remembers what the entries of a write say.
    fn learn(&mut self, write: &Write) {
        self.ended |= write.reset.is_some();
        for Entry { id, payload } in &write.entries {
            let configuration = match payload {
                Payload::Configuration(configuration) => {
                    self.witnesses.extend(witnesses(configuration));
                    self.targets.insert(goal(configuration));
                    spell(configuration)
                }
                Payload::Noop | Payload::Command(_) | Payload::Stripped => String::new(),
            };
            let entry = format!("[term |-> {}, conf |-> {{{configuration}}}]", id.term);
            self.entries.insert(*id, entry);
        }
    }

    fn step_line(&self, node: NodeId, before: &State, after: &State, said: &[String]) -> String {
        let both = before.log.iter().zip(&after.log);
        let keep = both.take_while(|(old, new)| old == new).count();
        let added = after.log[keep..].iter().map(|id| self.entries[id].as_str());
        let added: Vec<&str> = added.collect();
        format!(
            "kind |-> \"step\", node |-> \"{node}\", role |-> \"{}\", {}, commit |-> {}, keep |-> {keep}, \
             add |-> <<{}>>, said |-> <<{}>>",
            after.role,
            promised(after.hard_state),
            after.commit,
            added.join(", "),
            said.join(", "),
        )
    }
}

impl State {
    fn write(&mut self, write: &Write) {
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        for Entry { id, .. } in &write.entries {
            self.log.retain(|other| other.index < id.index);
            self.log.push(*id);
        }
    }

    fn observe(&mut self, event: &Event) {
        // A node that asks whether it could win has not begun to campaign: it still follows.
        if let Event::BecameFollower { .. } | Event::BecamePreCandidate { .. } = event {
            self.role = "follower";
        } else if let Event::BecameCandidate { .. } = event {
            self.role = "candidate";
        } else if let Event::BecameLeader { .. } = event {
            self.role = "leader";
        } else if let Event::Committed { index } = event {
            self.commit = *index;
        }
    }
}

/// What a message promises; none if it promises nothing.
fn said(envelope: &Envelope) -> Option<String> {
    let message = &envelope.message;
    let what = if let Message::RequestVote(_) = message {
        "what |-> \"ask\"".to_owned()
    } else if let Message::VoteResponse(Verdict::Granted) = message {
        format!("what |-> \"vote\", to |-> \"{}\"", envelope.to)
    } else if let Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) = message {
        format!("what |-> \"ack\", index |-> {match_index}")
    } else {
        return None;
    };
    Some(format!("[{what}, term |-> {}]", envelope.term))
}

fn on_disk(node: NodeId, disk: &Mirror) -> String {
    let EntryId { term, index } = disk.last();
    let promised = promised(disk.hard_state());
    format!("node |-> \"{node}\", {promised}, last |-> [term |-> {term}, index |-> {index}]")
}

fn promised(HardState { term, vote }: HardState) -> String {
    let vote = vote.map_or("nobody".to_owned(), |node| node.to_string());
    format!("term |-> {term}, vote |-> \"{vote}\"")
}

fn spell(configuration: &Configuration) -> String {
    format!(
        "[voters |-> {}, outgoing |-> {}, learners |-> {}, pending |-> {{{}}}]",
        set(configuration.voters().iter().copied()),
        set(configuration.outgoing().iter().copied()),
        set(configuration.learners().iter().copied()),
        configuration.pending().map_or(String::new(), target),
    )
}

/// Where a configuration leads, or stands.
fn goal(configuration: &Configuration) -> String {
    target(&Target::of(configuration))
}

fn target(target: &Target) -> String {
    let (voters, learners) = (target.voters().iter().copied(), target.learners().iter().copied());
    format!("[voters |-> {}, learners |-> {}]", set(voters), set(learners))
}

fn set(nodes: impl Iterator<Item = NodeId>) -> String {
    let names: Vec<String> = nodes.map(|node| format!("\"{node}\"")).collect();
    format!("{{{}}}", names.join(", "))
}

fn witnesses(configuration: &Configuration) -> impl Iterator<Item = NodeId> + '_ {
    let witness = |node: &NodeId| configuration.kind(*node) == MemberKind::Witness;
    configuration.members().into_iter().filter(witness)
}
