//! Setting up a directory whose node begins with a state, not with none: one restored from a backup.
//!
//! - The state is a snapshot at [`RESTORED`], and the log goes on after it. All members of a new group are set
//!   up with the same state and members: to the core that is a committed entry that all of them have.
//! - The identity is written last. Without one, no node starts in the directory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_raft::{EntryId, HardState, Index, SnapshotMeta, Term};
use quorate_wal::{Disk, OpenMode, Record, Wal};

use super::{Options, Snapshots, StorageError, WAL_DIR, identity, make_directories, reset_to, stored};

/// Where the log of a restored group begins.
pub const RESTORED: EntryId = EntryId {
    index: Index(1),
    term: Term(1),
};

/// Sets up the directory that `disk` is rooted at. The `files`, by name, are for the node's owner.
///
/// # Errors
/// When the directory is a node's already, the state cannot be read, or something cannot be written.
pub fn found(
    disk: &Arc<dyn Disk>,
    options: Options,
    files: &[(&str, &[u8])],
    state: &mut dyn Iterator<Item = io::Result<Bytes>>,
) -> Result<(), StorageError> {
    identity::refuse_used(disk.as_ref(), &options.directory)?;
    make_directories(disk.as_ref())?;
    write_state(disk, &options, state)?;
    let group = options.group;
    let begun = HardState {
        term: RESTORED.term,
        vote: None,
    };
    let (mut wal, _) = Wal::open(Arc::clone(disk), Path::new(WAL_DIR), options.wal)?;
    wal.append(&[
        reset_to(group, RESTORED),
        Record::State {
            group: group.0,
            body: stored::encode_hard_state(&begun),
        },
    ])?;
    wal.sync()?;
    for (name, bytes) in files {
        write_file(disk.as_ref(), name, bytes).map_err(|error| StorageError::io(name, error))?;
    }
    identity::write(disk.as_ref(), options.identity)
}

fn write_state(
    disk: &Arc<dyn Disk>,
    options: &Options,
    state: &mut dyn Iterator<Item = io::Result<Bytes>>,
) -> Result<(), StorageError> {
    let meta = SnapshotMeta {
        id: RESTORED,
        configuration: Arc::new(options.configuration.clone()),
    };
    let mut writer = Snapshots::open(Arc::clone(disk))?.create(&meta)?;
    for chunk in state {
        let chunk = chunk.map_err(|error| StorageError::io("the state", error))?;
        writer.write_chunk(&chunk)?;
    }
    writer.finish()
}

/// The name becomes durable with that of the identity.
fn write_file(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(Path::new(name), OpenMode::CreateNew)?;
    file.write_at(0, bytes)?;
    file.sync_data()
}
