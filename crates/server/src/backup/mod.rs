//! Backups in etcd's own format, both ways: a bbolt database, as etcd 3.4 and 3.5 have it, and the SHA-256 of
//! its bytes.
//!
//! - `export` makes one of a node's state, which real etcd tools restore.
//! - [`Backup`] is a file, ours or etcd's, of which [`Status`] is a summary.
//! - [`Restore`] makes the data directory of a member of a new cluster out of one.
//!
//! What the buckets hold is in `format`, and in docs/formats/backup.md.

mod export;
mod file;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod import;
mod restore;
mod salt;

pub use file::{Backup, BackupError, HashCheck, Status};
pub use restore::{Restore, RestoreError, Restored};
pub use salt::SaltError;

pub(crate) use export::{Contents, ExportError, measure, write};
pub(crate) use salt::{Salt, salt};
