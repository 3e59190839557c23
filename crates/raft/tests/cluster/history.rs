//! What was seen of all nodes since the beginning, and what must be true of it.
//!
//! - Election safety: one leader a term, one vote a node and term (paper, figure 3).
//! - Log matching: an entry's id stands for its payload and, through the one before it, for all before.
//! - Leader completeness and state machine safety, over every entry that was ever committed.
//! - What is committed is on the disks of a quorum; what is acknowledged is on the sender's.
//! - A ticket resolves at most once, and truly; a read is not older than what was committed before it.

use std::collections::BTreeMap;

use quorate_raft::message::{AppendEntriesResponse, Verdict};
use quorate_raft::status::RoleKind;
use quorate_raft::{Entry, EntryId, Envelope, Index, Message, NodeId, Outcome, Payload, Term, Ticket};

use super::{Member, disk::Disk};

/// What was seen of all nodes since the beginning.
#[derive(Debug, Default)]
pub(crate) struct History {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
    made: BTreeMap<EntryId, (Entry, EntryId)>,
    committed: BTreeMap<Index, Committed>,
    /// What was committed before the first entry that was seen: stored logs may begin after a snapshot.
    unseen: Index,
    tickets: BTreeMap<Ticket, Request>,
}

#[derive(Debug)]
struct Committed {
    entry: Entry,
    /// The term of the node that was first to know.
    by: Term,
}

/// A request, and what became of it.
#[derive(Debug)]
pub(crate) struct Request {
    node: NodeId,
    command: Option<Vec<u8>>,
    committed_before: Index,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Outcome(Outcome),
    Read(Index),
    /// The node crashed: nobody is left to be told.
    Lost,
}

impl History {
    /// A request was made of `node`; a command when it is a proposal.
    pub(crate) fn ask(&mut self, node: NodeId, command: Option<&[u8]>) -> Ticket {
        let ticket = Ticket(self.tickets.len() as u64 + 1);
        let request = Request {
            node,
            command: command.map(<[u8]>::to_vec),
            committed_before: self.commit_index(),
            answer: None,
        };
        self.tickets.insert(ticket, request);
        ticket
    }

    pub(crate) fn on_resolved(&mut self, node: NodeId, ticket: Ticket, outcome: Outcome) {
        self.answer(node, ticket, Answer::Outcome(outcome));
        let request = &self.tickets[&ticket];
        if let Outcome::Committed(id) = outcome {
            let entry = &self.committed.get(&id.index).expect("it is committed").entry;
            let command = match &entry.payload {
                Payload::Command(bytes) => Some(bytes.to_vec()),
                Payload::Noop | Payload::Stripped | Payload::Configuration(_) => None,
            };
            assert_eq!(entry.id, id, "{ticket} is committed as another entry");
            assert_eq!(
                command, request.command,
                "{ticket} is committed as another command"
            );
        }
    }

    pub(crate) fn on_read(&mut self, node: NodeId, ticket: Ticket, index: Index) {
        self.answer(node, ticket, Answer::Read(index));
        let least = self.tickets[&ticket].committed_before;
        assert!(
            index >= least,
            "{ticket} reads at {index}; {least} was committed before it came"
        );
    }

    pub(crate) fn on_crash(&mut self, node: NodeId) {
        for request in self.tickets.values_mut() {
            if request.node == node && request.answer.is_none() {
                request.answer = Some(Answer::Lost);
            }
        }
    }

    pub(crate) fn unanswered(&self) -> Vec<Ticket> {
        let open = self
            .tickets
            .iter()
            .filter(|(_, request)| request.answer.is_none());
        open.map(|(ticket, _)| *ticket).collect()
    }

    /// Of whom it was asked.
    pub(crate) fn node_of(&self, ticket: Ticket) -> NodeId {
        self.tickets[&ticket].node
    }

    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        match self.tickets.get(&ticket)?.answer? {
            Answer::Outcome(outcome) => Some(outcome),
            Answer::Read(_) | Answer::Lost => None,
        }
    }

    /// The highest index that any node ever knew to be committed.
    pub(crate) fn commit_index(&self) -> Index {
        let last = self.committed.last_key_value();
        last.map_or(self.unseen, |(index, _)| *index)
    }

    /// A rejected command must never have been committed, nor one be committed twice. For commands that differ.
    pub(crate) fn check_tickets(&self) {
        let mut places: BTreeMap<&[u8], Vec<Index>> = BTreeMap::new();
        for (index, committed) in &self.committed {
            if let Payload::Command(bytes) = &committed.entry.payload {
                places.entry(bytes).or_default().push(*index);
            }
        }
        for (ticket, request) in &self.tickets {
            let Some(command) = &request.command else { continue };
            let at = places.get(command.as_slice()).map_or(&[][..], Vec::as_slice);
            assert!(at.len() <= 1, "{ticket} was committed twice: {at:?}");
            if let Some(Answer::Outcome(Outcome::Rejected(rejection))) = request.answer {
                assert!(
                    at.is_empty(),
                    "{ticket} was rejected ({rejection}) and committed: {at:?}"
                );
            }
        }
    }

    /// Entries that came from a stored log rather than from a node.
    pub(crate) fn on_stored(&mut self, disk: &Disk) {
        self.unseen = self.unseen.max(disk.base.index);
        let mut prev = disk.base;
        for entry in &disk.entries {
            self.on_made(entry, prev);
            prev = entry.id;
        }
    }

    /// `disk` is what a node holds after it wrote `entries`.
    pub(crate) fn on_written(&mut self, disk: &Disk, entries: &[Entry]) {
        for entry in entries {
            let index = entry.id.index.prev();
            let term = disk.term_at(index).expect("a log has no gaps");
            self.on_made(entry, EntryId::new(index, term));
        }
    }

    /// What a message promises is on the sender's disk before it leaves.
    pub(crate) fn on_sent(&mut self, envelope: &Envelope, disk: &Disk) {
        let (from, term) = (envelope.from, envelope.term);
        if let Message::VoteResponse(Verdict::Granted) = &envelope.message {
            self.on_vote(term, from, envelope.to, disk);
        } else if let Message::RequestVote(_) = &envelope.message {
            self.on_vote(term, from, from, disk);
        } else if let Message::AppendEntriesResponse(answer) = &envelope.message
            && let AppendEntriesResponse::Accepted { match_index } = answer
        {
            // It may have been durable and replaced since, in a later term.
            let there = disk.hard_state.term > term || disk.last().index >= *match_index;
            assert!(
                there,
                "not durable yet: {envelope}, the disk ends at {}",
                disk.last()
            );
        } else if let Message::HeartbeatResponse(_) = &envelope.message {
            assert!(
                disk.hard_state.term >= term,
                "its term is not durable yet: {envelope}"
            );
        }
    }

    /// `entry` is handed to the state machine of a node whose disk is `disk`.
    pub(crate) fn on_applied(&self, node: NodeId, entry: &Entry, disk: &Disk) {
        let committed = self
            .committed
            .get(&entry.id.index)
            .map(|committed| &committed.entry);
        assert!(
            committed.is_some_and(|committed| same(committed, entry)),
            "{node} applies {entry}, and {committed:?} is committed"
        );
        assert!(
            disk.holds(entry.id),
            "{node} applies {entry}, which its disk may forget"
        );
    }

    /// Looks at every node after `node` made a step.
    pub(crate) fn on_step(&mut self, node: NodeId, members: &BTreeMap<NodeId, Member>) {
        let member = &members[&node];
        let Some(status) = member.status() else { return };
        if status.role == RoleKind::Leader {
            let leader = *self.leaders.entry(status.term).or_insert(node);
            assert_eq!(leader, node, "two leaders of term {}", status.term);
            self.check_completeness(status.term, member);
        }
        let known = self.commit_index();
        for index in known.0 + 1..=status.commit_index.0 {
            let entry = member
                .written
                .entry(Index(index))
                .expect("a committed entry is in the log");
            let quorum = |other: NodeId| members.get(&other).is_some_and(|m| m.durable.holds(entry.id));
            assert!(
                // The step that commits an entry may begin the next configuration.
                member.configuration.has_quorum(quorum) || status.configuration.has_quorum(quorum),
                "{node} committed {entry}, which is not on the disks of a quorum"
            );
            let (entry, by) = (entry.clone(), status.term);
            self.committed.insert(Index(index), Committed { entry, by });
        }
        if let Some(ours) = member.written.term_at(status.commit_index)
            && let Some(theirs) = self.committed.get(&status.commit_index)
        {
            // By log matching, one equal entry stands for all before it.
            assert_eq!(
                ours, theirs.entry.id.term,
                "{node} committed another entry at {}",
                status.commit_index
            );
        }
    }

    fn check_completeness(&self, term: Term, leader: &Member) {
        // By log matching, the last one stands for all before it.
        let earlier = self
            .committed
            .values()
            .rev()
            .find(|committed| committed.by < term);
        if let Some(Committed { entry, .. }) = earlier {
            assert!(
                leader.written.holds(entry.id),
                "the leader of term {term} lacks the committed entry {entry}"
            );
        }
    }

    fn answer(&mut self, node: NodeId, ticket: Ticket, answer: Answer) {
        let request = self.tickets.get_mut(&ticket).expect("it was asked");
        assert_eq!(request.node, node, "{ticket} was resolved by another node");
        assert_eq!(request.answer, None, "{ticket} was resolved twice");
        request.answer = Some(answer);
    }

    fn on_vote(&mut self, term: Term, voter: NodeId, vote: NodeId, disk: &Disk) {
        let durable = disk.hard_state;
        assert!(
            durable.term > term || (durable.term == term && durable.vote == Some(vote)),
            "{voter} votes for {vote} in term {term}, and its disk has {durable:?}"
        );
        let known = *self.votes.entry((term, voter)).or_insert(vote);
        assert_eq!(known, vote, "{voter} voted twice in term {term}");
    }

    fn on_made(&mut self, entry: &Entry, prev: EntryId) {
        let (known, known_prev) = self.made.entry(entry.id).or_insert_with(|| (entry.clone(), prev));
        assert!(
            same(known, entry) && *known_prev == prev,
            "two entries are called {}: {known} after {known_prev}, {entry} after {prev}",
            entry.id
        );
        if known.payload == Payload::Stripped {
            *known = entry.clone();
        }
    }
}

/// Whether two entries are the same, as far as a witness would know.
fn same(a: &Entry, b: &Entry) -> bool {
    a == b || (a.id == b.id && (a == &b.stripped() || b == &a.stripped()))
}
