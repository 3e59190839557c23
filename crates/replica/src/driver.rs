//! The one synchronous loop that owns the consensus core.
//!
//! [`Driver::handle`] takes what happened; [`Driver::flush`] carries out what the core wants done, by
//! handing each part to the [`Ports`]. Production puts threads behind the ports, the simulator its
//! virtual disk, network and machine; the driver is the same.
//!
//! - No port waits: each takes what it is given and reports later by a [`DriverInput`].
//! - Every request is answered exactly once: by the apply side when it is committed, or may be read;
//!   by [`Ports`] when it failed.
//! - Proposals and reads that arrive between two flushes are one batch for the core.
//!
//! Left out: deadlines and retries of requests ([`crate::Replica`] has them).

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{
    Configuration, Consistency, EntryId, Envelope, Event, Index, Input, LogReadError, Node, NodeId, Outcome,
    Precondition, Proposal, ReadLog, Ready, Rejection, Resolved, SendSnapshot, SnapshotMeta, SnapshotSent,
    Status, Target, Ticket, Transferee, Write, WriteSeq,
};

use crate::apply::ApplyTask;
use crate::clock::{ClockReading, LeaseClock, Trust};
use crate::ledger::Ledger;

/// Where the driver hands over what is to be done. No method may wait.
pub trait Ports {
    /// Who proposed a command, and how to answer.
    type Proposer;
    /// A query, who asked it, and how to answer.
    type Reader;
    /// Who asked for a transfer of leadership or a change of members, and how to answer.
    type Operator;

    /// Sends a message to the peer it is addressed to. It may be lost.
    fn send(&mut self, envelope: Envelope);
    /// Writes to the log after all earlier writes; answered by [`DriverInput::Persisted`].
    fn write(&mut self, write: Write);
    /// Has the apply side do this after all earlier tasks; see [`ApplyTask`] for the answers.
    fn apply(&mut self, task: ApplyTask<Self::Proposer, Self::Reader>);
    /// Reads from the log; answered by [`DriverInput::LogRead`].
    fn read_log(&mut self, request: ReadLog);
    /// Brings a snapshot to a peer; answered by [`DriverInput::SnapshotSent`].
    fn send_snapshot(&mut self, request: SendSnapshot);
    /// The log up to this entry is needed no more.
    fn compact(&mut self, upto: EntryId);
    /// These are the members from now on, until they are others. A member that was left out is still
    /// sent to for a while, so that it learns of it.
    fn configure(&mut self, _members: Arc<Configuration>) {}
    /// Something happened in the core.
    fn observe(&mut self, event: &Event);
    /// A command will not be answered by the apply side.
    fn proposal_failed(&mut self, proposer: Self::Proposer, failure: Failure);
    /// A query will not be answered by the apply side.
    fn read_failed(&mut self, reader: Self::Reader, failure: Failure);
    /// What an operator asked for is done, or has failed.
    fn operation_ended(&mut self, operator: Self::Operator, result: Result<(), Failure>);
}

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It did not happen and never will: it may be tried again.
    #[error("{0}")]
    Rejected(Rejection),
    /// It may or may not happen.
    #[error("its outcome is unknown: this node will not learn what became of it")]
    Unknown,
    /// The node stopped while it was under way: it may or may not happen.
    #[error("the node stopped while it was under way")]
    Stopped,
}

/// Something that happened to a driver.
#[derive(Debug)]
pub enum DriverInput<P, R, O> {
    /// A tick of the clock has passed.
    Tick,
    /// A message came from a peer.
    Receive(Envelope),
    /// A client wants a command replicated.
    Propose {
        /// The machine's bytes.
        command: Bytes,
        /// Who waits.
        proposer: P,
    },
    /// A client wants to read what is current.
    Read {
        /// The query, and who waits.
        reader: R,
        /// How current.
        consistency: Consistency,
    },
    /// An operator wants another node to lead.
    TransferLeadership {
        /// Which.
        to: Transferee,
        /// Who waits.
        operator: O,
    },
    /// An operator wants other members.
    Reconfigure {
        /// Who is to vote and to learn.
        target: Target,
        /// What the members must be for it to begin.
        precondition: Precondition,
        /// Who waits for the whole change.
        operator: O,
    },
    /// All writes up to this one are durable.
    Persisted(WriteSeq),
    /// All entries up to this one are applied.
    Applied(Index),
    /// The answer to [`Ports::read_log`].
    LogRead {
        /// The request.
        request: ReadLog,
        /// Its entries, at least one; or why there are none.
        entries: Result<Vec<quorate_raft::Entry>, LogReadError>,
    },
    /// A snapshot of the state machine is durable.
    SnapshotSaved(SnapshotMeta),
    /// A [`Ports::send_snapshot`] has ended.
    SnapshotSent(SnapshotSent),
    /// The state machine was restored from the received snapshot of this id.
    Restored(EntryId),
    /// A peer's host refuses connections: its process is gone. May be said again and again, and be wrong.
    PeerGone(NodeId),
}

/// The input that a driver over `P` takes.
pub type InputOf<P> = DriverInput<<P as Ports>::Proposer, <P as Ports>::Reader, <P as Ports>::Operator>;

/// Owns a core, those who wait for it, and the ports by which it acts.
#[derive(Debug)]
pub struct Driver<P: Ports> {
    node: Node,
    ports: P,
    waiting: Ledger<Waiting<P>>,
    /// Not yet given to the core.
    proposals: Vec<Proposal>,
    /// Not yet given to the core.
    reads: Vec<Ticket>,
    /// As `reads`, of those who are content with a lease.
    lease_reads: Vec<Ticket>,
    clock: LeaseClock,
    /// Empty between flushes; its room is used again.
    ready: Ready,
}

enum Waiting<P: Ports> {
    Proposer(P::Proposer),
    Reader(P::Reader),
    Operator(P::Operator),
}

impl<P: Ports> Driver<P> {
    /// Drives `node` by way of `ports`.
    #[must_use]
    pub fn new(node: Node, ports: P) -> Self {
        Self {
            node,
            ports,
            waiting: Ledger::new(),
            proposals: Vec::new(),
            reads: Vec::new(),
            lease_reads: Vec::new(),
            clock: LeaseClock::default(),
            ready: Ready::default(),
        }
    }

    /// Says what the clocks show, once what is handled until the next flush has come and before it is
    /// handled. Only a core with leases needs it.
    pub fn tell_time(&mut self, reading: ClockReading) {
        let (moment, trust) = self.clock.read(reading);
        self.node.step(Input::Now(moment));
        if trust == Trust::InDoubt {
            self.node.step(Input::ClockInDoubt);
        }
    }

    /// Takes in what happened. What follows from it happens at the next [`Self::flush`].
    pub fn handle(&mut self, input: InputOf<P>) {
        match input {
            DriverInput::Propose { command, proposer } => {
                let ticket = self.waiting.insert(Waiting::Proposer(proposer));
                self.proposals.push(Proposal { ticket, command });
            }
            DriverInput::Read { reader, consistency } => {
                let ticket = self.waiting.insert(Waiting::Reader(reader));
                match consistency {
                    Consistency::Linearizable => self.reads.push(ticket),
                    Consistency::Lease => self.lease_reads.push(ticket),
                }
            }
            DriverInput::TransferLeadership { to, operator } => {
                let ticket = self.waiting.insert(Waiting::Operator(operator));
                self.node.step(Input::TransferLeadership { ticket, to });
            }
            DriverInput::Reconfigure {
                target,
                precondition,
                operator,
            } => {
                let ticket = self.waiting.insert(Waiting::Operator(operator));
                self.node.step(Input::Reconfigure {
                    ticket,
                    target,
                    precondition,
                });
            }
            DriverInput::Tick => self.node.step(Input::Tick),
            DriverInput::Receive(envelope) => self.node.step(Input::Receive(envelope)),
            DriverInput::Persisted(seq) => self.node.step(Input::Persisted(seq)),
            DriverInput::Applied(index) => self.node.step(Input::Applied(index)),
            DriverInput::LogRead { request, entries } => self.node.step(Input::LogRead { request, entries }),
            DriverInput::SnapshotSaved(meta) => self.node.step(Input::SnapshotSaved(meta)),
            DriverInput::SnapshotSent(sent) => self.node.step(Input::SnapshotSent(sent)),
            DriverInput::PeerGone(peer) => self.node.step(Input::PeerGone(peer)),
            DriverInput::Restored(id) => self.node.step(Input::Restored(id)),
        }
    }

    /// Hands the waiting batch to the core, then everything that the core wants done to the ports.
    pub fn flush(&mut self) {
        if !self.proposals.is_empty() {
            self.node.step(Input::Propose(next_batch(&mut self.proposals)));
        }
        for (reads, consistency) in [
            (&mut self.reads, Consistency::Linearizable),
            (&mut self.lease_reads, Consistency::Lease),
        ] {
            if !reads.is_empty() {
                let tickets = std::mem::take(reads);
                self.node.step(Input::Read { tickets, consistency });
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        while self.node.ready_into(&mut ready) {
            self.carry_out(&mut ready);
        }
        self.ready = ready;
    }

    /// The core's state.
    #[must_use]
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// The core, to look at.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The ports.
    #[must_use]
    pub fn ports(&self) -> &P {
        &self.ports
    }

    /// The ports, to change what is behind them.
    pub fn ports_mut(&mut self) -> &mut P {
        &mut self.ports
    }

    /// Fails everyone who waits. The driver must not be used any more.
    pub fn stop(&mut self) {
        for waiting in self.waiting.drain() {
            self.fail(waiting, Failure::Stopped);
        }
    }

    fn carry_out(&mut self, ready: &mut Ready) {
        for event in &ready.events {
            self.ports.observe(event);
        }
        if let Some(members) = ready.configuration.take() {
            self.ports.configure(members);
        }
        // Peers first: their disks then work in parallel with ours (thesis §10.2.1).
        for envelope in ready.send.drain(..) {
            self.ports.send(envelope);
        }
        if let Some(write) = ready.write.take() {
            self.ports.write(write);
        }
        for request in ready.read_log.drain(..) {
            self.ports.read_log(request);
        }
        for request in ready.send_snapshots.drain(..) {
            self.ports.send_snapshot(request);
        }
        let mut task = ApplyTask {
            events: ready.events.drain(..).filter(concerns_machine).collect(),
            restore: ready.restore.take(),
            entries: std::mem::take(&mut ready.apply),
            proposers: Vec::with_capacity(ready.resolved.len()),
            reads: Vec::with_capacity(ready.reads.len()),
        };
        for read in ready.reads.drain(..) {
            let reader = self.take_reader(read.ticket);
            task.reads.push((read.index, reader));
        }
        for resolved in ready.resolved.drain(..) {
            self.resolve(resolved, &mut task);
        }
        if !task.is_empty() {
            self.ports.apply(task);
        }
        if let Some(upto) = ready.compact {
            self.ports.compact(upto);
        }
    }

    fn resolve(&mut self, resolved: Resolved, task: &mut ApplyTask<P::Proposer, P::Reader>) {
        let Resolved { ticket, outcome } = resolved;
        let waiting = self.waiting.take(ticket);
        let waiting =
            waiting.unwrap_or_else(|| panic!("the core resolved {ticket} as {outcome} twice, or made it up"));
        match (outcome, waiting) {
            (Outcome::Committed(id), Waiting::Proposer(proposer)) => task.proposers.push((id, proposer)),
            (Outcome::Transferred | Outcome::Committed(_), Waiting::Operator(operator)) => {
                self.ports.operation_ended(operator, Ok(()))
            }
            (Outcome::Rejected(rejection), waiting) => self.fail(waiting, Failure::Rejected(rejection)),
            (Outcome::Unknown, waiting) => self.fail(waiting, Failure::Unknown),
            (Outcome::Committed(_) | Outcome::Transferred, _) => {
                panic!("the core resolved {ticket} as {outcome}, which is no outcome of its kind of request")
            }
        }
    }

    fn take_reader(&mut self, ticket: Ticket) -> P::Reader {
        match self.waiting.take(ticket) {
            Some(Waiting::Reader(reader)) => reader,
            Some(Waiting::Proposer(_) | Waiting::Operator(_)) | None => {
                panic!("the core says that {ticket} may be read, which is no read that waits")
            }
        }
    }

    fn fail(&mut self, waiting: Waiting<P>, failure: Failure) {
        match waiting {
            Waiting::Proposer(proposer) => self.ports.proposal_failed(proposer, failure),
            Waiting::Reader(reader) => self.ports.read_failed(reader, failure),
            Waiting::Operator(operator) => self.ports.operation_ended(operator, Err(failure)),
        }
    }
}

/// Takes what waits, and makes room for as much again: the next batch is likely to be of that size.
fn next_batch(waiting: &mut Vec<Proposal>) -> Vec<Proposal> {
    let room = Vec::with_capacity(waiting.len());
    std::mem::replace(waiting, room)
}

/// The commit index grows with every batch, and what was committed comes as entries anyhow.
fn concerns_machine(event: &Event) -> bool {
    !matches!(event, Event::Committed { .. })
}

impl<P: Ports> std::fmt::Debug for Waiting<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Proposer(_) => "Proposer",
            Self::Reader(_) => "Reader",
            Self::Operator(_) => "Operator",
        })
    }
}
