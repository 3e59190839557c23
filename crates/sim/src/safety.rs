//! Watches all nodes from above and knows at once when they are no longer one.
//!
//! - It sees each node's events, writes, syncs, sends and applied entries, in the order of the run.
//! - Each check costs a few lookups, so that all run after every step.
//! - It keeps what no node may forget: who led which term, what each index was committed as, and
//!   what the disks hold.
//!
//! Memberships that change are left out: every node votes.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::message::{AppendEntriesResponse, Message, Verdict};
use quorate_raft::{Entry, EntryId, Envelope, Event, Index, NodeId, Payload, Stored, Term, Write};

use crate::digest::Digest;
use crate::invariant::{Invariant, Violation, require};
use crate::mirror::{Change, Mirror, changes};

/// Everything that was ever true of the cluster.
#[derive(Debug)]
pub(crate) struct Safety {
    nodes: BTreeMap<NodeId, Watched>,
    leaders: BTreeMap<Term, NodeId>,
    /// What each index was committed as, from index 1 on.
    committed: Vec<Committed>,
    /// Every entry ever written, with the term of the entry before it.
    entries: BTreeMap<(Index, Term), (Term, Digest)>,
    /// The state after each index, as the first node that applied it said.
    states: BTreeMap<Index, Digest>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
}

/// What one flush of a driver handed to its ports.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) events: Vec<Event>,
    pub(crate) sends: Vec<Envelope>,
    pub(crate) writes: Vec<Write>,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    id: EntryId,
    /// The term of the leader that committed it.
    by: Term,
}

/// What is known of one node.
#[derive(Debug)]
struct Watched {
    /// By all writes it was told to make.
    written: Mirror,
    /// By those that were synced.
    durable: Mirror,
    /// Not yet synced, oldest first.
    pending: VecDeque<Change>,
    leads: Option<Term>,
    commit: Index,
    applied: Index,
}

impl Safety {
    /// A new group of the nodes 1 to `nodes`.
    pub(crate) fn new(nodes: u64) -> Self {
        let watched = || Watched {
            written: Mirror::new(),
            durable: Mirror::new(),
            pending: VecDeque::new(),
            leads: None,
            commit: Index::ZERO,
            applied: Index::ZERO,
        };
        Self {
            nodes: (1..=nodes).map(|node| (NodeId(node), watched())).collect(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            entries: BTreeMap::new(),
            states: BTreeMap::new(),
            votes: BTreeMap::new(),
        }
    }

    /// The highest index committed, ever and by anyone.
    pub(crate) fn commit_index(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A node starts, with what it found on its disk.
    pub(crate) fn started(&mut self, node: NodeId, stored: &Stored) -> Result<(), Violation> {
        let found = Mirror::recovered(stored);
        let snapshot = stored.snapshot.id;
        let watched = self.watched(node);
        let is_possible = watched
            .possible_after_crash(snapshot)
            .any(|mirror| mirror.agrees_with(&found));
        require(is_possible, Invariant::Recovery, || {
            format!("{node} found {found:?} and snapshot {snapshot}; synced {watched:?}")
        })?;
        watched.written = found.clone();
        watched.durable = found;
        watched.pending.clear();
        watched.leads = None;
        watched.commit = Index::ZERO;
        watched.applied = snapshot.index;
        Ok(())
    }

    /// This is what a node would find if it lost all that it has not synced.
    pub(crate) fn holds_on_disk(&self, node: NodeId, stored: &Stored) -> Result<(), Violation> {
        let found = Mirror::recovered(stored);
        let mut durable = self.nodes[&node].durable.clone();
        durable.settle_on(stored.snapshot.id);
        require(durable.agrees_with(&found), Invariant::Recovery, || {
            format!("{node} synced {durable:?}, its disk holds {found:?}")
        })
    }

    /// What a node's core wants done after one or more inputs.
    pub(crate) fn stepped(&mut self, node: NodeId, step: &Step) -> Result<(), Violation> {
        let ends = step.events.iter().any(ends_leadership);
        for write in &step.writes {
            self.wrote(node, write, if ends { None } else { self.nodes[&node].leads })?;
        }
        step.events
            .iter()
            .try_for_each(|event| self.observed(node, event))?;
        step.sends.iter().try_for_each(|envelope| self.sent(envelope))
    }

    /// A node's core makes this write, leading `leads` before it and after it.
    fn wrote(&mut self, node: NodeId, write: &Write, leads: Option<Term>) -> Result<(), Violation> {
        self.check_hard_state(node, write)?;
        let watched = self.watched(node);
        if let (Some(term), Some(first)) = (leads, write.entries.first()) {
            let last = watched.written.last();
            require(first.id.index > last.index, Invariant::LeaderAppendOnly, || {
                format!(
                    "{node} leads term {term} and replaces {last} from {} on",
                    first.id
                )
            })?;
        }
        for change in changes(write) {
            watched.written.change(change);
            watched.pending.push_back(change);
        }
        self.check_log_matching(node, &write.entries)
    }

    /// The node's oldest `count` changes are durable.
    pub(crate) fn synced(&mut self, node: NodeId, count: usize) {
        let watched = self.watched(node);
        for change in watched.pending.drain(..count) {
            watched.durable.change(change);
        }
    }

    fn observed(&mut self, node: NodeId, event: &Event) -> Result<(), Violation> {
        if ends_leadership(event) {
            self.watched(node).leads = None;
        }
        if let Event::BecameLeader { term } = event {
            return self.elected(node, *term);
        }
        if let Event::Committed { index } = event {
            return self.advanced(node, *index);
        }
        let is_alone = !matches!(event, Event::SecondLeader { .. });
        require(is_alone, Invariant::ElectionSafety, || format!("{node} {event}"))
    }

    fn sent(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        if let Message::VoteResponse(Verdict::Granted) = &envelope.message {
            return self.voted(envelope);
        }
        let Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) =
            &envelope.message
        else {
            return Ok(());
        };
        let node = envelope.from;
        let durable = self.watched(node).durable.last();
        require(*match_index <= durable.index, Invariant::DurablePromise, || {
            format!("{node} acknowledges {match_index}, its disk holds {durable}")
        })
    }

    /// A node's state machine is handed an entry.
    pub(crate) fn applying(&mut self, node: NodeId, entry: &Entry) -> Result<(), Violation> {
        let id = entry.id;
        let committed = self.committed_at(id.index).map(|committed| committed.id);
        require(committed == Some(id), Invariant::StateMachineSafety, || {
            format!("{node} applies {id}, committed is {committed:?}")
        })?;
        let known = self.entries.get(&(id.index, id.term)).map(|(_, digest)| *digest);
        require(
            known == Some(digest_of(entry)),
            Invariant::StateMachineSafety,
            || format!("{node} applies another {id} than was written"),
        )?;
        let watched = self.watched(node);
        let applied = watched.applied;
        require(id.index == applied.next(), Invariant::Monotone, || {
            format!("{node} applies {id} after {applied}")
        })?;
        watched.applied = id.index;
        Ok(())
    }

    /// A node's state machine is handed a snapshot.
    pub(crate) fn restoring(&mut self, node: NodeId, id: EntryId) -> Result<(), Violation> {
        let committed = self.committed_at(id.index).map(|committed| committed.id);
        require(committed == Some(id), Invariant::StateMachineSafety, || {
            format!("{node} installs snapshot {id}, committed is {committed:?}")
        })?;
        let watched = self.watched(node);
        let applied = watched.applied;
        require(id.index >= applied, Invariant::Monotone, || {
            format!("{node} installs snapshot {id} after it applied {applied}")
        })?;
        watched.applied = id.index;
        Ok(())
    }

    /// A node's state machine is in this state after the entry at `index`.
    pub(crate) fn in_state(&mut self, node: NodeId, index: Index, state: Digest) -> Result<(), Violation> {
        let first = *self.states.entry(index).or_insert(state);
        require(first == state, Invariant::EqualState, || {
            format!("{node} is in state {state} after {index}, another node was in {first}")
        })
    }

    fn elected(&mut self, node: NodeId, term: Term) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(node);
        require(leader == node, Invariant::ElectionSafety, || {
            format!("{leader} and {node} both lead term {term}")
        })?;
        // By log matching the last entry committed before the term stands for all of them. Terms of
        // committing leaders never fall along the log, so a search finds it.
        let before = self.committed.partition_point(|committed| committed.by < term);
        let last = before.checked_sub(1).map(|at| self.committed[at].id);
        let watched = self.watched(node);
        watched.leads = Some(term);
        let log = &watched.written;
        require(
            last.is_none_or(|id| log.holds(id)),
            Invariant::LeaderCompleteness,
            || format!("{node} leads term {term} without committed {last:?}: {log:?}"),
        )
    }

    fn advanced(&mut self, node: NodeId, index: Index) -> Result<(), Violation> {
        let watched = self.watched(node);
        let before = std::mem::replace(&mut watched.commit, index);
        require(before <= index, Invariant::Monotone, || {
            format!("{node} goes back from commit index {before} to {index}")
        })?;
        if index > self.commit_index() {
            self.committed_first(node, index)?;
        }
        let written = &self.nodes[&node].written;
        let committed = self.committed_at(index).map(|committed| committed.id);
        require(
            committed.is_none_or(|id| written.holds(id)),
            Invariant::StateMachineSafety,
            || format!("{node} commits up to {index}, which is {committed:?}, and holds {written:?}"),
        )
    }

    /// A leader commits what nobody has before.
    fn committed_first(&mut self, node: NodeId, index: Index) -> Result<(), Violation> {
        let watched = &self.nodes[&node];
        let term = watched.written.term_at(index);
        require(
            watched.leads.is_some() && watched.leads == term,
            Invariant::OwnTermCommit,
            || {
                format!(
                    "{node} commits {index} of term {term:?} first, and leads {:?}",
                    watched.leads
                )
            },
        )?;
        let by = term.expect("a leader's term, as checked above");
        let id = EntryId::new(index, by);
        let holders = self
            .nodes
            .values()
            .filter(|other| other.durable.holds(id))
            .count();
        require(2 * holders > self.nodes.len(), Invariant::DurableOnQuorum, || {
            format!(
                "{node} commits {id}, which is on {holders} of {} disks",
                self.nodes.len()
            )
        })?;
        for next in self.commit_index().0 + 1..=index.0 {
            let term = self.nodes[&node].written.term_at(Index(next));
            let id = EntryId::new(Index(next), term.unwrap_or_default());
            self.committed.push(Committed { id, by });
        }
        self.check_later_leaders(id)
    }

    /// A leader of a higher term may have been elected before this was called committed.
    fn check_later_leaders(&self, id: EntryId) -> Result<(), Violation> {
        for (node, watched) in &self.nodes {
            let lacks = watched.leads.is_some_and(|term| term > id.term) && !watched.written.holds(id);
            require(!lacks, Invariant::LeaderCompleteness, || {
                format!(
                    "{id} is committed, and {node} leads {:?} without it",
                    watched.leads
                )
            })?;
        }
        Ok(())
    }

    fn voted(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let (node, term, to) = (envelope.from, envelope.term, envelope.to);
        let first = *self.votes.entry((node, term)).or_insert(to);
        require(first == to, Invariant::Monotone, || {
            format!("{node} votes for {first} and for {to} in term {term}")
        })?;
        let durable = self.nodes[&node].durable.hard_state();
        let kept = durable.term > term || (durable.term == term && durable.vote == Some(to));
        require(kept, Invariant::DurablePromise, || {
            format!("{node} votes for {to} in term {term}, its disk holds {durable:?}")
        })
    }

    fn check_hard_state(&mut self, node: NodeId, write: &Write) -> Result<(), Violation> {
        let Some(after) = write.hard_state else {
            return Ok(());
        };
        let before = self.watched(node).written.hard_state();
        require(before.term <= after.term, Invariant::Monotone, || {
            format!("{node} goes back from term {} to {}", before.term, after.term)
        })?;
        let keeps = before.term < after.term || before.vote.is_none() || before.vote == after.vote;
        require(keeps, Invariant::Monotone, || {
            format!(
                "{node} changes its vote in term {} from {:?} to {:?}",
                after.term, before.vote, after.vote
            )
        })
    }

    fn check_log_matching(&mut self, node: NodeId, entries: &[Entry]) -> Result<(), Violation> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let written = &self.nodes[&node].written;
        let mut prev = written.term_at(first.id.index.prev());
        for entry in entries {
            let id = entry.id;
            let found = (prev.unwrap_or_default(), digest_of(entry));
            let known = *self.entries.entry((id.index, id.term)).or_insert(found);
            require(known == found && prev.is_some(), Invariant::LogMatching, || {
                format!("{node} writes {id} after term {prev:?}: {found:?}, another wrote {known:?}")
            })?;
            prev = Some(id.term);
        }
        Ok(())
    }

    fn committed_at(&self, index: Index) -> Option<Committed> {
        let place = usize::try_from(index.0.checked_sub(1)?).ok()?;
        self.committed.get(place).copied()
    }

    fn watched(&mut self, node: NodeId) -> &mut Watched {
        self.nodes
            .get_mut(&node)
            .expect("nodes are numbered from 1 to their count")
    }
}

impl Watched {
    /// Every log that a crash may leave: what is durable, and each prefix of what was pending.
    fn possible_after_crash(&self, snapshot: EntryId) -> impl Iterator<Item = Mirror> {
        let mut mirror = self.durable.clone();
        let later = self.pending.iter().map(move |change| {
            mirror.change(*change);
            mirror.clone()
        });
        [self.durable.clone()]
            .into_iter()
            .chain(later)
            .map(move |mut mirror| {
                mirror.settle_on(snapshot);
                mirror
            })
    }
}

fn ends_leadership(event: &Event) -> bool {
    matches!(
        event,
        Event::SteppedDown { .. }
            | Event::BecameFollower { .. }
            | Event::BecamePreCandidate { .. }
            | Event::BecameCandidate { .. }
    )
}

fn digest_of(entry: &Entry) -> Digest {
    match &entry.payload {
        Payload::Noop => Digest::EMPTY.number(1),
        Payload::Command(command) => Digest::EMPTY.number(2).bytes(command),
        Payload::Configuration(configuration) => {
            let members = configuration.members();
            members
                .iter()
                .fold(Digest::EMPTY.number(3), |digest, node| digest.number(node.0))
        }
    }
}
