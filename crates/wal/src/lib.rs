//! A checksummed, group-committed log and checkpoint files over a [`Disk`].
//!
//! One [`Wal`] holds the logs of all groups of a node in one sequence of segment files, so that one
//! `fdatasync` makes durable whatever has queued up for any of them. It knows bytes, not Raft: a
//! group, an index, a term and a body.
//!
//! What is always true:
//!
//! - After [`Wal::sync`] returned `Ok`, everything appended before is found by every later
//!   [`Wal::open`], or the open refuses and says where the damage is.
//! - What a crash leaves is a prefix of the appended records that holds at least all that was synced.
//! - A sector that was synced is not written again until its whole segment is recycled.
//! - The first error of the disk is the last: afterwards nothing is written, and every call says why.
//! - Nothing that a file contains can make this crate panic or allocate without bound.
//!
//! Reading order: [`disk`] (the seam), [`record`] (the words), `layout` and `frame` (the bytes),
//! `segment` and `open_segment`, `index`, `admit` (what may be appended), [`wal`] (writing), [`reader`],
//! `tail` and `traces` (what a crash left at the end), `recovery` (the decision table), and apart
//! from all these [`checkpoint`]. The formats are drawn in `docs/formats/wal.md`.
//!
//! Left out: repair of damaged records from a peer, background scrubbing, encryption.

#![forbid(unsafe_code)]

mod admit;
pub mod checkpoint;
mod checkpoint_layout;
pub mod disk;
pub mod error;
mod frame;
mod index;
mod layout;
pub mod mem_disk;
mod mem_file;
mod mutant;
mod open_segment;
pub mod os_disk;
pub mod reader;
pub mod record;
mod recovery;
mod segment;
mod tail;
mod traces;
pub mod wal;

pub use checkpoint::{
    CheckpointError, CheckpointReader, CheckpointWriter, list_checkpoints, remove_checkpoint,
    remove_unfinished_checkpoints,
};
pub use disk::{Disk, DiskFile, OpenMode};
pub use error::{OpenError, ReadError, WalError};
pub use mem_disk::{DiskOp, MemDisk};
pub use os_disk::{DirLock, LockError, OsDisk};
pub use reader::{ReadEntry, Reader};
pub use record::{Cut, LogId, Record, Recovered, RecoveredGroup};
pub use wal::{Options, Stats, Wal};
