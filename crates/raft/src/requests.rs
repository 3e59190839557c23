//! Tickets whose outcome is not known yet.
//!
//! - Every ticket is in one place, and leaves it by being resolved, exactly once.
//! - A command that became an entry is known by that entry's id: when the place of the entry is
//!   committed, either it is that entry or the command never happened. Nor does it once anything
//!   of a later term is committed before it.
//! - A command on its way to the leader may have been appended: when no answer comes, its outcome is
//!   unknown. A read on its way has changed nothing: it is rejected and may be tried again.

use std::collections::{BTreeMap, VecDeque};

use crate::asked_changes::AskedChanges;
use crate::entry::{Entry, Payload};
use crate::io::{Outcome, ReadReady, Rejection, Resolved};
use crate::membership::Target;
use crate::message::{Forwarded, ReadId, ReadOutcome, ReconfigureResponse};
use crate::types::{EntryId, Index, NodeId, Session, Term, Ticket};

/// Tickets whose outcome is not known yet.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    session: Session,
    last_seq: u64,
    appended: VecDeque<(EntryId, Ticket)>,
    /// The term of the last entry that was committed and handed out.
    committed_term: Term,
    forwards: BTreeMap<u64, ForwardOut>,
    forwarded_bytes: u64,
    reads: BTreeMap<u64, ReadOut>,
    /// Reads that a leader confirmed at indices which are not known to be committed here yet.
    confirmed: BTreeMap<Index, Vec<Ticket>>,
    transfer: Option<TransferOut>,
    changes: AskedChanges,
    resolved: Vec<Resolved>,
    ready_reads: Vec<ReadReady>,
}

#[derive(Clone, Debug)]
struct ForwardOut {
    term: Term,
    tickets: Vec<Ticket>,
    bytes: u64,
    age: u32,
}

/// Another node is to lead, as this one was asked for while it led.
#[derive(Clone, Debug)]
struct TransferOut {
    ticket: Ticket,
    to: NodeId,
    age: u32,
}

#[derive(Clone, Debug)]
struct ReadOut {
    tickets: Vec<Ticket>,
    age: u32,
}

impl Requests {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            last_seq: 0,
            appended: VecDeque::new(),
            committed_term: Term::ZERO,
            forwards: BTreeMap::new(),
            forwarded_bytes: 0,
            reads: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            transfer: None,
            changes: AskedChanges::default(),
            resolved: Vec::new(),
            ready_reads: Vec::new(),
        }
    }

    pub(crate) fn session(&self) -> Session {
        self.session
    }

    pub(crate) fn resolve(&mut self, ticket: Ticket, outcome: Outcome) {
        self.resolved.push(Resolved { ticket, outcome });
    }

    pub(crate) fn reject(&mut self, ticket: Ticket, rejection: Rejection) {
        self.resolve(ticket, Outcome::Rejected(rejection));
    }

    pub(crate) fn reject_all(&mut self, tickets: impl IntoIterator<Item = Ticket>, rejection: Rejection) {
        for ticket in tickets {
            self.reject(ticket, rejection);
        }
    }

    pub(crate) fn read_ready(&mut self, ticket: Ticket, index: Index) {
        self.ready_reads.push(ReadReady { ticket, index });
    }

    /// Swaps what is to be told to the caller into two vectors, which must be empty.
    pub(crate) fn swap_news(&mut self, resolved: &mut Vec<Resolved>, reads: &mut Vec<ReadReady>) {
        debug_assert!(resolved.is_empty() && reads.is_empty(), "news would be told late");
        std::mem::swap(&mut self.resolved, resolved);
        std::mem::swap(&mut self.ready_reads, reads);
    }

    /// The command of `ticket` is in the log as `id`.
    pub(crate) fn appended(&mut self, ticket: Ticket, id: EntryId) {
        let before = |(other, _): &(EntryId, Ticket)| (other.index, other.term) < (id.index, id.term);
        if self.appended.back().is_none_or(before) {
            self.appended.push_back((id, ticket));
            return;
        }
        let at = self.appended.partition_point(before);
        if self.appended.get(at).is_some_and(|(other, _)| *other == id) {
            // Only a broken leader gives one place to two commands: which of them it holds is unknown.
            self.resolve(ticket, Outcome::Unknown);
        } else {
            self.appended.insert(at, (id, ticket));
        }
    }

    /// `entries` are committed, in this order, and handed out to be applied.
    pub(crate) fn on_committed(&mut self, entries: &[Entry]) {
        for entry in entries {
            while let Some((id, ticket)) = self.appended.front().copied()
                && id.index <= entry.id.index
            {
                self.appended.pop_front();
                let outcome = outcome_of(id, entry);
                self.resolve(ticket, outcome);
            }
            let members = match &entry.payload {
                Payload::Configuration(members) => Some(&**members),
                Payload::Noop | Payload::Stripped | Payload::Command(_) => None,
            };
            self.changes.committed(entry.id, members, &mut self.resolved);
        }
        if let Some(last) = entries.last()
            && last.id.term > self.committed_term
        {
            self.reject_before(last.id.term);
        }
    }

    /// Terms never fall along a log: after a committed entry of `term`, none of an earlier one is ever committed.
    fn reject_before(&mut self, term: Term) {
        self.committed_term = term;
        let appended = std::mem::take(&mut self.appended);
        for (id, ticket) in appended {
            if id.term < self.committed_term {
                self.reject(ticket, Rejection::NotLeader { leader: None });
            } else {
                self.appended.push_back((id, ticket));
            }
        }
        self.changes.end_before(term, &mut self.resolved);
    }

    /// Entries up to `last` came in a snapshot: whose they were cannot be told.
    pub(crate) fn on_snapshot(&mut self, last: EntryId) {
        while let Some((id, ticket)) = self.appended.front().copied()
            && id.index <= last.index
        {
            self.appended.pop_front();
            self.resolve(ticket, Outcome::Unknown);
        }
        self.reject_before(last.term);
        self.changes.overtaken(last, &mut self.resolved);
    }

    /// This node, which leads, has begun a change with the entry `first`.
    pub(crate) fn change_begun(&mut self, ticket: Ticket, first: EntryId, target: Target) {
        self.changes.begun(ticket, first, target, &mut self.resolved);
    }

    /// Notes a change that goes to the leader of `term`; its name, unless too many wait.
    pub(crate) fn forward_change(
        &mut self,
        term: Term,
        ticket: Ticket,
        target: &Target,
    ) -> Option<(Session, u64)> {
        if !self.changes.have_room() {
            return None;
        }
        self.last_seq += 1;
        self.changes
            .forwarded(term, self.last_seq, ticket, target.clone());
        Some((self.session, self.last_seq))
    }

    /// A leader said what became of a change; entries up to `handed` are past being matched.
    pub(crate) fn on_change_answered(&mut self, msg: ReconfigureResponse, handed: Index) {
        if msg.session == self.session {
            let is_past = |first: EntryId| first.index <= handed;
            self.changes
                .answered(msg.seq, &msg.outcome, is_past, &mut self.resolved);
        }
    }

    /// This node is no member any more: what comes after `commit` it may never be told.
    pub(crate) fn on_removed(&mut self, commit: Index) {
        while let Some((_, ticket)) = self.appended.pop_back_if(|(id, _)| id.index > commit) {
            self.resolve(ticket, Outcome::Unknown);
        }
        for (_, tickets) in std::mem::take(&mut self.confirmed) {
            self.reject_all(tickets, Rejection::Removed);
        }
    }

    /// Entries up to `commit` are committed here: what was confirmed for them will be applied.
    pub(crate) fn on_commit(&mut self, commit: Index) {
        while let Some(confirmed) = self.confirmed.first_entry()
            && *confirmed.key() <= commit
        {
            let (index, tickets) = confirmed.remove_entry();
            for ticket in tickets {
                self.read_ready(ticket, index);
            }
        }
    }

    /// This node is no member any more and hears of no leader: nobody will tell it what became of a change.
    pub(crate) fn on_left_alone(&mut self) {
        self.changes.left_alone(&mut self.resolved);
    }

    pub(crate) fn forwarded_bytes(&self) -> u64 {
        self.forwarded_bytes
    }

    /// Notes commands that go to the leader of `term`; the number of the forward.
    pub(crate) fn forward(&mut self, term: Term, tickets: Vec<Ticket>, bytes: u64) -> u64 {
        self.last_seq += 1;
        self.forwarded_bytes += bytes;
        self.forwards.insert(
            self.last_seq,
            ForwardOut {
                term,
                tickets,
                bytes,
                age: 0,
            },
        );
        self.last_seq
    }

    /// A leader said what became of the forward `seq`; entries up to `handed` are past being matched.
    pub(crate) fn on_forwarded(&mut self, session: Session, seq: u64, outcome: Forwarded, handed: Index) {
        if session != self.session {
            return;
        }
        let Some(forward) = self.take_forward(seq) else {
            return;
        };
        match outcome {
            Forwarded::Refused => self.reject_all(forward.tickets, Rejection::NotLeader { leader: None }),
            Forwarded::Overloaded => self.reject_all(forward.tickets, Rejection::Overloaded),
            Forwarded::Appended { first } => {
                let mut index = first;
                for ticket in forward.tickets {
                    let id = EntryId::new(index, forward.term);
                    index = index.next();
                    if id.index <= handed {
                        self.resolve(ticket, Outcome::Unknown);
                    } else if id.term < self.committed_term {
                        self.reject(ticket, Rejection::NotLeader { leader: None });
                    } else {
                        self.appended(ticket, id);
                    }
                }
            }
        }
    }

    /// Notes reads that go to the leader together; the name of the request.
    pub(crate) fn ask_read_index(&mut self, tickets: Vec<Ticket>) -> ReadId {
        self.last_seq += 1;
        self.reads.insert(self.last_seq, ReadOut { tickets, age: 0 });
        ReadId {
            session: self.session,
            seq: self.last_seq,
        }
    }

    pub(crate) fn pending_reads(&self) -> usize {
        let asked = self.reads.values().map(|read| read.tickets.len());
        let confirmed = self.confirmed.values().map(Vec::len);
        asked.chain(confirmed).sum()
    }

    /// A leader answered reads. Those that it confirmed are ready once `commit`, up to where entries are committed
    /// here, has come as far: a node that was removed is told of no more entries, and nothing may wait for them.
    pub(crate) fn on_read_index(&mut self, id: ReadId, outcome: ReadOutcome, commit: Index) {
        if id.session != self.session {
            return;
        }
        let Some(read) = self.reads.remove(&id.seq) else {
            return;
        };
        match outcome {
            ReadOutcome::Ready(index) => {
                self.confirmed.entry(index).or_default().extend(read.tickets);
                self.on_commit(commit);
            }
            ReadOutcome::Refused => self.reject_all(read.tickets, Rejection::NotLeader { leader: None }),
        }
    }

    /// The leadership is being handed to `to`, as `ticket` asked.
    pub(crate) fn transfer(&mut self, ticket: Ticket, to: NodeId) {
        self.transfer = Some(TransferOut { ticket, to, age: 0 });
    }

    pub(crate) fn end_transfer(&mut self, outcome: Outcome) {
        if let Some(transfer) = self.transfer.take() {
            self.resolve(transfer.ticket, outcome);
        }
    }

    /// `leader` leads: that settles a transfer that was under way when this node stepped down.
    pub(crate) fn on_leader(&mut self, leader: NodeId) {
        let Some(to) = self.transfer.as_ref().map(|transfer| transfer.to) else {
            return;
        };
        self.end_transfer(if to == leader {
            Outcome::Transferred
        } else {
            Outcome::Rejected(Rejection::BadTransferee)
        });
    }

    /// A tick passed: what got no answer for `patience` ticks gets none.
    pub(crate) fn on_tick(&mut self, patience: u32) {
        self.forwards.values_mut().for_each(|forward| forward.age += 1);
        self.reads.values_mut().for_each(|read| read.age += 1);
        // Numbers grow with time, so the first of a map is its oldest.
        while let Some((seq, forward)) = self.forwards.first_key_value()
            && forward.age > patience
        {
            let tickets = self
                .take_forward(*seq)
                .map(|forward| forward.tickets)
                .unwrap_or_default();
            for ticket in tickets {
                self.resolve(ticket, Outcome::Unknown);
            }
        }
        self.changes.on_tick(patience, &mut self.resolved);
        if let Some(transfer) = &mut self.transfer {
            transfer.age += 1;
            // The leadership gives it up in half this time. One that ended before may never hear who leads next.
            if transfer.age > patience.saturating_mul(2) {
                self.end_transfer(Outcome::Unknown);
            }
        }
        while let Some(read) = self.reads.first_entry()
            && read.get().age > patience
        {
            let tickets = read.remove().tickets;
            self.reject_all(tickets, Rejection::NotLeader { leader: None });
        }
    }

    /// Whether something waits to be told to the caller.
    pub(crate) fn has_news(&self) -> bool {
        !self.resolved.is_empty() || !self.ready_reads.is_empty()
    }

    /// Checks that entries are waited for in their order.
    pub(crate) fn check(&self, handed: Index) {
        let mut before = EntryId::new(handed, Term(u64::MAX));
        for (id, ticket) in &self.appended {
            assert!(
                (id.index, id.term) > (before.index, before.term),
                "{ticket} waits for {id} after {before}: it would never be resolved"
            );
            before = *id;
        }
        let bytes: u64 = self.forwards.values().map(|forward| forward.bytes).sum();
        assert_eq!(
            bytes, self.forwarded_bytes,
            "bytes of commands on their way to the leader"
        );
    }

    fn take_forward(&mut self, seq: u64) -> Option<ForwardOut> {
        let forward = self.forwards.remove(&seq)?;
        self.forwarded_bytes -= forward.bytes;
        Some(forward)
    }
}

/// What became of a command that was to be `id`, now that `entry` is committed in that place.
fn outcome_of(id: EntryId, entry: &Entry) -> Outcome {
    match &entry.payload {
        Payload::Command(_) | Payload::Stripped if id == entry.id => Outcome::Committed(id),
        // Only a broken leader says that this place holds a command.
        Payload::Noop | Payload::Configuration(_) if id == entry.id => Outcome::Unknown,
        Payload::Command(_) | Payload::Stripped | Payload::Noop | Payload::Configuration(_) => {
            Outcome::Rejected(Rejection::NotLeader { leader: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn forwarded(tickets: &[u64], first: u64) -> Requests {
        let mut requests = Requests::new(Session(1));
        for ticket in tickets {
            let seq = requests.forward(Term(1), vec![Ticket(*ticket)], 1);
            let outcome = Forwarded::Appended { first: Index(first) };
            requests.on_forwarded(Session(1), seq, outcome, Index(4));
        }
        requests
    }

    fn outcomes(mut requests: Requests, payload: Payload) -> Vec<(u64, Outcome)> {
        let id = EntryId::new(Index(5), Term(1));
        requests.on_committed(&[Entry { id, payload }]);
        let outcome = |resolved: Resolved| (resolved.ticket.0, resolved.outcome);
        requests.resolved.into_iter().map(outcome).collect()
    }

    #[test]
    fn one_place_is_not_given_to_two_commands() {
        let requests = forwarded(&[1, 2], 5);
        requests.check(Index(4));
        let committed = Outcome::Committed(EntryId::new(Index(5), Term(1)));
        let command = Payload::Command(Bytes::new());
        assert_eq!(
            outcomes(requests, command),
            [(2, Outcome::Unknown), (1, committed)]
        );
    }

    #[test]
    fn a_place_without_a_command_answers_no_command() {
        assert_eq!(
            outcomes(forwarded(&[1], 5), Payload::Noop),
            [(1, Outcome::Unknown)]
        );
    }

    #[test]
    fn a_place_at_the_end_of_all_numbers_does_not_overflow() {
        let requests = forwarded(&[1, 2], u64::MAX);
        requests.check(Index(4));
    }
}
