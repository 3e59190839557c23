//! The Raft consensus core: no I/O, no clock, no threads, no randomness of its own.
//!
//! A [`Node`] is one member of one replicated log. It is a pure function of its inputs:
//!
//! 1. Tell it what happened with [`Node::step`]: a tick, a message, a proposal, a finished write.
//! 2. Take what it wants done from [`Node::ready`] until there is nothing more.
//! 3. Do it, all of it, in any order; report what finished as further inputs.
//! 4. Send messages at once: those that must wait for the disk are held back inside the core.
//! 5. Carry out writes in order, and report each with [`Input::Persisted`].
//! 6. Give every request a [`Ticket`] that is never used again: each resolves exactly once.
//!
//! References are to Diego Ongaro's dissertation ("thesis") and to the extended Raft paper ("paper").
//!
//! Reading order: [`types`] and [`entry`] (the words), [`message`] (what nodes say), [`io`] (the
//! contract with the caller), `log` (one replica's log), `core` (what all roles share), then the
//! roles: `follower` with `failover`, `candidate`, `leader` with its `progress`, `replicate`, `reads`,
//! `lease` and `intake`. `elections` answers those who ask for votes, `fetch` gets a pre-candidate the log
//! that it lacks, `requests` tells each asker what became of what it asked. `node` ties them, and
//! [`invariants`] is true of them after every step.
//!
//! Members change by way of the log: `configuration` has the steps, `membership` the words, `change`
//! what a leader does about it, `asked_changes` what whoever asked is told; `handover` is how it makes
//! another node lead, `yielding` when it does so by itself.

#![forbid(unsafe_code)]

mod asked_changes;
mod candidate;
mod change;
pub mod configuration;
mod core;
mod elections;
pub mod entry;
pub mod event;
mod failover;
mod fetch;
mod follower;
mod handover;
mod intake;
pub mod invariants;
pub mod io;
mod leader;
mod lease;
mod log;
pub mod membership;
pub mod message;
mod mutant;
mod node;
mod progress;
mod reads;
mod replicate;
mod requests;
mod rng;
pub mod snapshot;
pub mod status;
pub mod types;
mod yielding;

pub use configuration::{Configuration, ConfigurationError, Stage};
pub use entry::{Entry, LogSlice, Payload, SliceError};
pub use event::{Event, StepDown};
pub use io::{
    Config, ConfigError, Delivery, HardState, Input, Limits, LogReadError, Outcome, Proposal, Purpose,
    ReadLog, ReadReady, Ready, Rejection, Resolved, SendSnapshot, SnapshotSent, Stored, Transferee, Write,
};
pub use lease::{Consistency, DriftBound, Leases, Promised};
pub use membership::{MemberInfo, MemberKind, Precondition, Priority, Target};
pub use message::{Envelope, Message};
pub use node::Node;
pub use snapshot::SnapshotMeta;
pub use status::{ChangeStage, Load, PeerMode, PeerStatus, Reconfiguration, RoleKind, Status};
pub use types::{EntryId, GroupId, Index, Moment, NodeId, Round, Session, Term, Ticket, WriteSeq};
