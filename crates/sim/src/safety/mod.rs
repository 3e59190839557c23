//! Watches all nodes from above and knows at once when they are no longer one.
//!
//! - It sees each node's events, writes, syncs, sends and applied entries, in the order of the run.
//! - Each check costs a few lookups, so that all run after every step. What needs a look at the core
//!   itself ([`look`]) runs after every few.
//! - It keeps what no node may forget: who led which term, what each index was committed as, and
//!   what the disks hold.
//!
//! [`elections`], [`logs`], [`commits`], [`leases`], [`membership`] and [`machines`] each hold the checks of one
//! matter, [`window`] what may be in memory; [`hope`] says whether a cluster that lost disks can go on. What each invariant means, and which
//! function holds it, is in `docs/simulator.md`.

mod commits;
mod elections;
mod hope;
mod leases;
mod logs;
mod look;
mod machines;
mod membership;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quorate_raft::message::{AppendEntriesResponse, Campaign, Message, Verdict};
use quorate_raft::{
    Configuration, EntryId, Envelope, Event, HardState, Index, Limits, NodeId, Stored, Term, Write,
};

use crate::digest::Digest;
use crate::invariant::{Invariant, Violation, require};
use crate::mirror::{Change, Mirror};
use commits::Committed;
pub(crate) use hope::Hope;
use leases::Leases;
pub(crate) use logs::digest_of;
use look::Matched;
pub(crate) use membership::is_quorum;
use membership::{Members, Named};
use window::Unevictable;

/// Everything that was ever true of the cluster.
#[derive(Debug)]
pub(crate) struct Safety {
    nodes: BTreeMap<NodeId, Watched>,
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// The highest term in which anyone stood.
    campaigned: Term,
    /// What each index was committed as, from index 1 on.
    committed: Vec<Committed>,
    /// Every entry ever written, with the term of the entry before it.
    entries: BTreeMap<(Index, Term), (Term, Digest)>,
    /// The members that the cluster begins with.
    first_members: Option<Arc<Configuration>>,
    /// The configurations among them.
    configurations: BTreeMap<(Index, Term), Arc<Configuration>>,
    /// The state after each index, as the first node that applied it said.
    states: BTreeMap<Index, Digest>,
    limits: Limits,
    /// Those who keep no data.
    witnesses: BTreeSet<NodeId>,
    /// All that a snapshot at an index holds, as the first node that made or restored one said.
    contents: BTreeMap<Index, Digest>,
    leases: Leases,
}

/// What one flush of a driver handed to its ports.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) events: Vec<Event>,
    pub(crate) sends: Vec<Envelope>,
    pub(crate) writes: Vec<Write>,
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
    /// By all writes.
    members: Members,
    /// The members in effect before the latest step.
    members_before: Named,
    /// Its term and vote before the latest step.
    voted_before: HardState,
    /// The term in which it is a candidate.
    stands: Option<Term>,
    leads: Option<Term>,
    commit: Index,
    applied: Index,
    matched: Option<Matched>,
    /// What a newcomer must have before it votes, if this node lets it in.
    to_reach: EntryId,
    unevictable: Unevictable,
}

impl Safety {
    /// A cluster of which no node has started, and none may hold more than `limits` say.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            witnesses: BTreeSet::new(),
            nodes: BTreeMap::new(),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            campaigned: Term::ZERO,
            committed: Vec::new(),
            entries: BTreeMap::new(),
            first_members: None,
            configurations: BTreeMap::new(),
            states: BTreeMap::new(),
            contents: BTreeMap::new(),
            leases: Leases::default(),
        }
    }

    /// This node, wherever it is a member, keeps no data.
    pub(crate) fn keeps_no_data(&mut self, node: NodeId) {
        self.witnesses.insert(node);
    }

    /// A node starts, with what it found on its disk.
    pub(crate) fn started(&mut self, node: NodeId, stored: &Stored) -> Result<(), Violation> {
        let found = Mirror::recovered(stored);
        let snapshot = stored.snapshot.id;
        let members = Members::recovered(stored);
        let known = self.nodes.get(&node);
        let is_possible = known.map_or(found == Mirror::new(), |watched| {
            let mut possible = watched.possible_after_crash(snapshot);
            possible.any(|mirror| mirror.agrees_with(&found))
        });
        require(is_possible, Invariant::Recovery, || {
            format!("{node} found {found:?} and snapshot {snapshot}; synced {known:?}")
        })?;
        let members_found = &stored.snapshot.configuration;
        if snapshot == EntryId::ZERO && !members_found.is_unknown() {
            self.first_members
                .get_or_insert_with(|| Arc::clone(members_found));
        }
        self.check_members_found(node, &found, stored)?;
        if stored.hard_state.term == Term::ZERO {
            self.never_answered(node);
        }
        let watched = Watched {
            written: found.clone(),
            durable: found,
            pending: VecDeque::new(),
            members_before: members.latest().clone(),
            voted_before: stored.hard_state,
            members,
            stands: None,
            leads: None,
            commit: Index::ZERO,
            applied: snapshot.index,
            matched: None,
            to_reach: EntryId::ZERO,
            unevictable: Unevictable::default(),
        };
        self.nodes.insert(node, watched);
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
        // Writes say only what became of the log in the end: what a leader did to it is told from what a later one
        // did as long as nothing was replaced after it had ended.
        let led = self.nodes[&node].leads;
        let led = led.filter(|_| own_log(&step.events) == OwnLog::Kept);
        let watched = self.watched(node);
        watched.members_before = watched.members.latest().clone();
        watched.voted_before = watched.written.hard_state();
        let term = watched.voted_before.term;
        if !(step.events.is_empty() && step.sends.is_empty() && step.writes.is_empty()) {
            watched.unevictable.gave_out();
        }
        for write in &step.writes {
            self.wrote(node, write, led)?;
        }
        self.check_terms(node, step, term)?;
        let elected = step
            .events
            .iter()
            .rposition(|event| matches!(event, Event::BecameLeader { .. }));
        let log = own_log(&step.events[elected.unwrap_or_default()..]);
        for event in &step.events {
            self.observed(node, event, log)?;
        }
        if !step.writes.is_empty() {
            self.check_one_change(node)?;
        }
        step.sends.iter().try_for_each(|envelope| self.sent(envelope))
    }

    /// The node's oldest `count` changes are durable.
    pub(crate) fn synced(&mut self, node: NodeId, count: usize) {
        let watched = self.watched(node);
        for change in watched.pending.drain(..count) {
            watched.durable.change(change);
        }
    }

    fn observed(&mut self, node: NodeId, event: &Event, log: OwnLog) -> Result<(), Violation> {
        self.check_transition(node, event)?;
        self.check_promise_kept(node, event)?;
        if let Event::BecameFollower {
            leader: Some(leader), ..
        } = event
        {
            self.follows(*leader);
        }
        if ends_leadership(event) {
            self.watched(node).leads = None;
        }
        if let Event::BecameLeader { term } = event {
            return self.elected(node, *term, log);
        }
        if let Event::Committed { index } = event {
            self.check_leases(node, *index)?;
            return self.advanced(node, *index);
        }
        let is_alone = !matches!(event, Event::SecondLeader { .. });
        require(is_alone, Invariant::ElectionSafety, || format!("{node} {event}"))
    }

    fn sent(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        if let Message::VoteResponse(Verdict::Granted) = &envelope.message {
            return self.voted(envelope);
        }
        if let Message::TimeoutNow = &envelope.message {
            self.calls_successor(envelope);
        }
        if let Message::RequestVote(ask) = &envelope.message
            && ask.cause == Campaign::Transfer
        {
            self.stands_for_leader(envelope.from, envelope.term);
        }
        let Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }) =
            &envelope.message
        else {
            return Ok(());
        };
        let node = envelope.from;
        let watched = &self.nodes[&node];
        let durable = &watched.durable;
        // What was said in an earlier term was said of the log as it was then.
        let is_on_disk = if envelope.term == watched.written.hard_state().term {
            watched.has_on_disk(*match_index)
        } else {
            *match_index <= durable.last().index
        };
        require(is_on_disk, Invariant::DurablePromise, || {
            format!("{node} acknowledges {match_index}, its disk holds {durable:?}")
        })
    }

    fn watched(&mut self, node: NodeId) -> &mut Watched {
        self.nodes
            .get_mut(&node)
            .expect("a node that does something has started")
    }
}

/// What became of a leader's log within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnLog {
    /// It only grew, by another's entries too perhaps.
    Kept,
    /// Another leader may have replaced entries of it.
    Replaced,
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

/// What became of the log of the leader that a node is when the first of `events` has happened.
fn own_log(events: &[Event]) -> OwnLog {
    let ended = events.iter().position(ends_leadership);
    if ended.is_some_and(|at| events[at..].iter().any(replaces_log)) {
        OwnLog::Replaced
    } else {
        OwnLog::Kept
    }
}

fn replaces_log(event: &Event) -> bool {
    matches!(
        event,
        Event::LogTruncated { .. } | Event::LogFetched { .. } | Event::SnapshotInstalled { .. }
    )
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
