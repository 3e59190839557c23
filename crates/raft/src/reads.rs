//! Reads that wait for a leader to prove that it still leads (thesis §6.4).
//!
//! - A read joins a round of heartbeats that begins after the read came, never one under way.
//! - It is served at the commit index of the moment the round began.
//! - No round begins before the leader has committed an entry of its own term: until then its commit
//!   index may be behind what was acknowledged (etcd #7331).
//! - One round is under way at a time; reads that come meanwhile share the next.
//! - A leader with a lease serves those who are content with it at once (thesis §6.4.1): at the moment that
//!   its clock was read for the read, nobody else had committed anything.

use crate::core::Core;
use crate::io::Rejection;
use crate::leader::Leader;
use crate::lease::Consistency;
use crate::message::{Message, ReadId, ReadIndexResponse, ReadOutcome};
use crate::mutant::mutant;
use crate::node::{Next, Node, Role};
use crate::progress::Progress;
use crate::types::{Index, Moment, NodeId, Round, Ticket};

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A client of this node.
    Client(Ticket),
    /// Clients of a follower.
    Peer(NodeId, ReadId),
}

/// Reads that wait, in two groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadQueue {
    waiting: Vec<Reader>,
    confirming: Option<Confirming>,
}

#[derive(Clone, Debug)]
struct Confirming {
    round: Round,
    index: Index,
    readers: Vec<Reader>,
}

impl ReadQueue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
            + self
                .confirming
                .as_ref()
                .map_or(0, |confirming| confirming.readers.len())
    }

    pub(crate) fn push(&mut self, reader: Reader) {
        match &mut self.confirming {
            Some(confirming) if mutant!(M57) => confirming.readers.push(reader),
            _ => self.waiting.push(reader),
        }
    }

    /// Whether a round should begin for those that wait.
    pub(crate) fn wants_round(&self) -> bool {
        self.confirming.is_none() && !self.waiting.is_empty()
    }

    /// `round` begins, at commit index `index`, for all that wait.
    pub(crate) fn begin(&mut self, round: Round, index: Index) {
        let readers = std::mem::take(&mut self.waiting);
        self.confirming = Some(Confirming {
            round,
            index,
            readers,
        });
    }

    /// A quorum has answered all rounds up to `acked`: the reads that this confirms, and their index.
    pub(crate) fn confirm(&mut self, acked: Round) -> Option<(Index, Vec<Reader>)> {
        let confirmed = self.confirming.take_if(|confirming| confirming.round <= acked)?;
        Some((confirmed.index, confirmed.readers))
    }

    /// Empties the queue: the leadership is over.
    pub(crate) fn drain(&mut self) -> Vec<Reader> {
        let mut readers = std::mem::take(&mut self.waiting);
        readers.extend(
            self.confirming
                .take()
                .into_iter()
                .flat_map(|confirming| confirming.readers),
        );
        readers
    }
}

impl Node {
    /// Clients of this node want to read.
    pub(crate) fn read(&mut self, tickets: Vec<Ticket>, consistency: Consistency) -> Next {
        if let Some(refusal) = self.refusal() {
            self.core.requests.reject_all(tickets, refusal);
            return Next::Stay;
        }
        match &mut self.role {
            Role::Leader(leader) => leader.read(&mut self.core, tickets, consistency),
            Role::Follower(follower) => follower.read(&mut self.core, tickets),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.core.requests.reject_all(tickets, Rejection::NoLeader)
            }
        }
        Next::Stay
    }
}

impl Leader {
    pub(crate) fn read(&mut self, core: &mut Core, tickets: Vec<Ticket>, consistency: Consistency) {
        let by_lease = consistency == Consistency::Lease && self.lease_until(core).is_some();
        for ticket in tickets {
            if by_lease {
                core.requests.read_ready(ticket, core.log.commit_index());
            } else if self.reads.len() >= core.config.limits.max_pending_reads {
                core.requests.reject(ticket, Rejection::Overloaded);
            } else {
                self.reads.push(Reader::Client(ticket));
            }
        }
    }

    pub(crate) fn on_read_index(&mut self, core: &mut Core, from: NodeId, id: ReadId) {
        if self.reads.len() >= core.config.limits.max_pending_reads {
            refuse_read(core, from, id);
        } else {
            self.reads.push(Reader::Peer(from, id));
        }
    }

    /// Sends a round of heartbeats for the reads that wait, if it is time for one.
    pub(crate) fn begin_read_round(&mut self, core: &mut Core) {
        if !self.reads.wants_round() || !(has_committed_own(core) || mutant!(M56)) {
            return;
        }
        self.begin_round(core);
        self.reads.begin(self.round, core.log.commit_index());
        self.send_heartbeats(core);
        self.on_rounds_answered(core);
    }

    /// Without leases the clock's heartbeats belong to the round that there is: nobody counts them.
    pub(crate) fn begin_lease_round(&mut self, core: &Core) {
        if core.promise.leases().is_some() {
            self.begin_round(core);
        }
    }

    /// The heartbeats sent next are a round of their own.
    fn begin_round(&mut self, core: &Core) {
        self.round = self.round.next();
        self.lease.on_round(self.round, core.promise.now());
    }

    /// Until when this leader may serve reads by its lease.
    pub(crate) fn lease_until(&self, core: &Core) -> Option<Moment> {
        let hands_over = self.handover.is_some() && !mutant!(M59);
        let until = self.lease.until(&core.promise)?;
        (!hands_over && has_committed_own(core)).then_some(until)
    }

    /// A quorum may have answered rounds that it had not before.
    pub(crate) fn on_rounds_answered(&mut self, core: &mut Core) {
        let (me, own) = (core.id(), self.round);
        let acked = |node| {
            let round = if node == me {
                Some(own)
            } else {
                self.progress.get(&node).map(Progress::acked_round)
            };
            round.map_or(0, |round| round.0)
        };
        let acked = Round(core.configuration().quorum_value(acked).unwrap_or(0));
        self.lease.on_acked(acked, core.promise.now());
        let acked = mutant!(M55, self.round, acked);
        let Some((index, readers)) = self.reads.confirm(acked) else {
            return;
        };
        for reader in readers {
            match reader {
                Reader::Client(ticket) => core.requests.read_ready(ticket, index),
                Reader::Peer(peer, id) => {
                    let answer = ReadIndexResponse {
                        id,
                        outcome: ReadOutcome::Ready(index),
                    };
                    core.send(peer, Message::ReadIndexResponse(answer));
                }
            }
        }
    }
}

/// Before an own entry is committed, entries that earlier leaders acknowledged may not be.
fn has_committed_own(core: &Core) -> bool {
    core.log.term_at(core.log.commit_index()) == Some(core.term())
}

pub(crate) fn refuse_read(core: &mut Core, peer: NodeId, id: ReadId) {
    let answer = ReadIndexResponse {
        id,
        outcome: ReadOutcome::Refused,
    };
    core.send(peer, Message::ReadIndexResponse(answer));
}
