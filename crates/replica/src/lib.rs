//! Replicate your own state machine with Raft: durable, linearizable, embeddable.
//!
//! Implement [`StateMachine`] for a type of yours, describe the cluster with a [`Config`], and start
//! a [`Replica`] on each machine. A command that was acknowledged is on the disks of a majority and
//! survives the loss of a minority; a read sees every command that was acknowledged before it began.
//!
//! ```text
//!   propose, read        transport
//!         \                 /  \  peers
//!          v               v    ^
//!        one loop: Driver over quorate_raft::Node        (the only owner of the core)
//!          |        |            |
//!          v        v            v
//!      log thread  log reader   apply thread -> snapshot writer
//!      (Storage)                (Applier over your machine)
//! ```
//!
//! Reading order: [`machine`] (what you implement), [`driver`] (the loop), [`apply`], [`storage`],
//! [`codec`] (frames and records), `transport`, then [`replica`], which puts threads around them. Beside
//! it all is [`sessions`]: a command that is repeated is applied once.
//!
//! [`clock`] is what leases go by. [`driver`], [`apply`], [`storage`] and [`codec`] have neither threads nor
//! clocks: a simulator runs them as they are. They are public for simulators, and may change in any release.

#![forbid(unsafe_code)]

pub mod apply;
pub mod clock;
pub mod codec;
pub mod config;
pub mod driver;
pub mod error;
pub mod local;
pub mod machine;
pub mod replica;
pub mod sessions;
pub mod storage;

mod ledger;
mod members;
mod mutant;
mod queue;
mod threads;
mod tls;
mod transport;

pub use apply::SnapshotPolicy;
pub use codec::MemberContext;
pub use config::{Config, Observer, SnapshotWay, Start};
pub use driver::{Driver, DriverInput, Failure, Ports};
pub use error::{
    OpenError, ProposeError, ReadError, ReconfigureError, SessionError, StartError, Stopped, TransferError,
};
pub use local::LocalNetwork;
pub use machine::{Machine, Repeatable, StateMachine, Typed};
pub use members::Reconfiguring;
pub use quorate_raft::{
    ChangeStage, Configuration, ConfigurationError, Delivery, DriftBound, EntryId, Event, Index, Limits,
    MemberInfo, MemberKind, NodeId, Precondition, Priority, Reconfiguration, Rejection, RoleKind, Status,
    Target, Term,
};
pub use replica::{Consistency, Replica, found};
pub use sessions::{Session, SessionLimits, Sessions};
pub use tls::{AllowedPeers, KeyPairFiles, PeerTls, TlsError, TlsProtocol, TlsTerms};
pub use transport::{InquiryError, Introduced, inquire, inquire_securely};
