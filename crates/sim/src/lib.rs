//! A deterministic simulator that runs the production code of Quorate.
//!
//! A run is a cluster of one to five nodes, its clients and everything that goes wrong, in one thread
//! and in virtual time, and all of it follows from one seed. The consensus core, the driver around it,
//! the log, the snapshots, the apply side and the peer protocol's codec are those of production; the
//! clocks, the network, the disks and the clients are not.
//!
//! ```text
//! run ─ world ─┬─ schedule            what happens next
//!              ├─ server × n          Driver, Storage over a MemDisk, Applier over Sessions of Registers
//!              ├─ network, faults     what goes wrong
//!              ├─ clients ─ history   what was asked and answered ─ linearizable
//!              ├─ safety ─ mirror     what must be true, after every step
//!              └─ executions          what was carried out, and what local reads may find
//! ```
//!
//! - One seed is one run: two runs of a seed have the same [`Report::hash`], over every event.
//! - Each swarm leaves out about half of the faults ([`profile`]), so that rare pairs meet.
//! - Whatever went wrong can be left out piece by piece ([`Edits`]), to find what matters.
//! - Rare branches are counted ([`Marks`]): many runs together must reach every one.
//! - After the faults everything heals; a cluster that then does not come to rest, with a leader,
//!   every request answered and all nodes equal, has failed. If so many disks are lost that none can be
//!   elected, which is proved from those that are left, it must halt instead.
//!
//! [`model`] needs no seed: it explores every state of a small cluster.
//!
//! Reading order: [`run()`], [`profile`], `world`, `safety`, [`linearizable`].
//!
//! Left out: damage to what was synced (bit rot, misdirected writes), and the keyspace with its
//! watchers and leases.

#![forbid(unsafe_code)]

mod clients;
mod clock;
mod conduct;
mod cut;
mod digest;
mod draw;
mod executions;
mod fault;
pub mod history;
#[cfg(feature = "mutants")]
pub mod hunt;
mod incident;
mod invariant;
pub mod linearizable;
mod marks;
mod mirror;
pub mod model;
mod mutant;
mod network;
mod ports;
pub mod profile;
mod registers;
mod replicated;
mod rng;
mod run;
mod safety;
mod schedule;
mod server;
mod shrink;
mod soak;
mod spec_trace;
mod trace;
mod world;

pub use clients::Counts;
pub use digest::Digest;
pub use fault::{Fault, UnknownName};
pub use incident::{Edits, Incident, Kept, NoIncident};
pub use invariant::Invariant;
pub use marks::{Mark, Marks, NeverReached};
pub use profile::{Kind, Load, Losses, Options, Profile, SessionProfile, Size};
pub use rng::Chance;
pub use run::{Failure, Report, run, spec_trace};
pub use schedule::Time;
pub use shrink::{Smallest, shrink};
pub use soak::{Verdict, soak};
