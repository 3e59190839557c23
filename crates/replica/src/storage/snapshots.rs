//! The snapshots of a node: one file each, whole or not there.
//!
//! - A snapshot becomes visible when it is complete and durable, under its name.
//! - The newest two are kept, and each that is being sent: a slow transfer never has its file taken
//!   away, and the next one need not start before it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft::{EntryId, Index, SnapshotMeta, Term};
use quorate_wal::{CheckpointReader, CheckpointWriter, Disk};

use super::StorageError;
use crate::codec::stored;
use crate::mutant::mutant;

/// The snapshots on a disk. Cheap to clone; all clones share one view.
#[derive(Clone)]
pub struct Snapshots {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    in_use: Mutex<InUse>,
    /// Held by whoever removes files, so that no two remove the same.
    pruning: Mutex<()>,
}

#[derive(Default)]
struct InUse {
    /// How many transfers read each snapshot.
    sending: BTreeMap<EntryId, usize>,
    writing: BTreeSet<EntryId>,
}

impl Snapshots {
    /// Opens the directory of snapshots and removes what was never finished.
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<Self, StorageError> {
        quorate_wal::remove_unfinished_checkpoints(disk.as_ref(), Path::new(DIR))?;
        Ok(Self {
            shared: Arc::new(Shared {
                disk,
                in_use: Mutex::default(),
                pruning: Mutex::default(),
            }),
        })
    }

    /// The newest snapshot; its file's header is checked, its chunks are when they are read.
    ///
    /// # Errors
    /// When the directory or the file cannot be read, or its header is damaged.
    pub fn newest(&self) -> Result<Option<SnapshotMeta>, StorageError> {
        self.ids()?.last().map(|id| self.meta(*id)).transpose()
    }

    /// The chunks of a snapshot, in order, verified.
    ///
    /// # Errors
    /// When there is none of this id, or its header is damaged.
    pub fn read(&self, id: EntryId) -> Result<Chunks, StorageError> {
        Ok(Chunks {
            reader: self.reader(id)?,
            next: 0,
        })
    }

    /// A snapshot to be sent: it is kept as long as the value lives.
    ///
    /// # Errors
    /// When there is none of this id, or its header is damaged.
    pub fn send(&self, id: EntryId) -> Result<Outgoing, StorageError> {
        // Counted before it is opened, so that it cannot be removed in between.
        *self.shared.in_use.lock().sending.entry(id).or_default() += 1;
        let pin = Pin {
            id,
            snapshots: self.clone(),
        };
        let reader = self.reader(id)?;
        Ok(Outgoing { reader, _pin: pin })
    }

    /// Begins to write a snapshot.
    ///
    /// # Errors
    /// When the file cannot be made, or this snapshot is being written already.
    pub fn create(&self, meta: &SnapshotMeta) -> Result<SnapshotWriter, StorageError> {
        let id = meta.id;
        if !self.shared.in_use.lock().writing.insert(id) {
            return Err(StorageError::Busy { id });
        }
        let claim = Claim {
            id,
            snapshots: self.clone(),
        };
        let header = stored::encode_snapshot_meta(meta);
        let disk = Arc::clone(&self.shared.disk);
        let writer = CheckpointWriter::create(disk, Path::new(DIR), &name_of(id), &header)
            .map_err(|source| StorageError::Snapshot { id, source })?;
        Ok(SnapshotWriter {
            writer,
            chunks: 0,
            claim,
        })
    }

    /// Removes all but the newest two and those being sent.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn prune(&self) -> Result<(), StorageError> {
        let _pruning = self.shared.pruning.lock();
        let mut ids = self.ids()?;
        ids.truncate(ids.len().saturating_sub(KEPT));
        for id in ids {
            let in_use = self.shared.in_use.lock();
            if in_use.sending.contains_key(&id) {
                continue;
            }
            quorate_wal::remove_checkpoint(self.shared.disk.as_ref(), Path::new(DIR), &name_of(id))?;
        }
        Ok(())
    }

    /// The ids of all complete snapshots, in order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn ids(&self) -> Result<Vec<EntryId>, StorageError> {
        let names = quorate_wal::list_checkpoints(self.shared.disk.as_ref(), Path::new(DIR))?;
        let mut ids: Vec<EntryId> = names.iter().filter_map(|name| id_of(name)).collect();
        ids.sort_by_key(|id| (id.index, id.term));
        Ok(ids)
    }

    fn meta(&self, id: EntryId) -> Result<SnapshotMeta, StorageError> {
        let reader = self.reader(id)?;
        let meta = stored::decode_snapshot_meta(reader.meta())
            .map_err(|source| StorageError::record(format!("snapshot {id}"), source))?;
        if meta.id != id {
            let source = crate::codec::DecodeError::Missing("header of its name");
            return Err(StorageError::record(format!("snapshot {id}"), source));
        }
        Ok(meta)
    }

    fn reader(&self, id: EntryId) -> Result<CheckpointReader, StorageError> {
        if !self.ids()?.contains(&id) {
            return Err(StorageError::NoSnapshot { id });
        }
        CheckpointReader::open(self.shared.disk.as_ref(), Path::new(DIR), &name_of(id))
            .map_err(|source| StorageError::Snapshot { id, source })
    }
}

/// The chunks of a snapshot, in order.
pub struct Chunks {
    reader: CheckpointReader,
    next: u32,
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.reader.chunks() {
            return None;
        }
        let chunk = self.reader.chunk(self.next);
        self.next += 1;
        Some(chunk.map_err(io::Error::other))
    }
}

/// A snapshot that is being sent, and kept meanwhile.
pub struct Outgoing {
    reader: CheckpointReader,
    _pin: Pin,
}

impl Outgoing {
    /// How many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.reader.chunks()
    }

    /// One chunk, verified; they are counted from 0.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn chunk(&self, number: u32) -> io::Result<Bytes> {
        self.reader.chunk(number).map_err(io::Error::other)
    }
}

/// A snapshot that is being written. Dropped unfinished, it leaves a file that counts for nothing and
/// goes at the next start; [`Self::abandon`] removes it at once.
pub struct SnapshotWriter {
    writer: CheckpointWriter,
    chunks: u32,
    claim: Claim,
}

impl SnapshotWriter {
    /// Writes the next chunk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_chunk(&mut self, chunk: &[u8]) -> Result<(), StorageError> {
        let id = self.claim.id;
        self.writer
            .write_chunk(chunk)
            .map_err(|source| StorageError::Snapshot { id, source })?;
        self.chunks += 1;
        Ok(())
    }

    /// Whether chunk `number` of a snapshot that arrives is the one to write next; they are counted from 0.
    ///
    /// What another node sends may come twice, or have overtaken something: the file says nothing of order.
    #[must_use]
    pub fn is_next(&self, number: u32) -> bool {
        number == self.chunks || mutant!(M36)
    }

    /// How many chunks were written.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Makes the snapshot durable and visible. Older ones stay until [`Snapshots::prune`].
    ///
    /// # Errors
    /// When it is not known to be durable.
    pub fn finish(self) -> Result<(), StorageError> {
        let id = self.claim.id;
        self.writer
            .finish()
            .map_err(|source| StorageError::Snapshot { id, source })
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn abandon(self) -> Result<(), StorageError> {
        let id = self.claim.id;
        self.writer
            .abandon()
            .map_err(|source| StorageError::Snapshot { id, source })
    }
}

struct Pin {
    id: EntryId,
    snapshots: Snapshots,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut in_use = self.snapshots.shared.in_use.lock();
        if let Some(count) = in_use.sending.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                in_use.sending.remove(&self.id);
            }
        }
    }
}

struct Claim {
    id: EntryId,
    snapshots: Snapshots,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.snapshots.shared.in_use.lock().writing.remove(&self.id);
    }
}

fn name_of(id: EntryId) -> String {
    format!("{:020}-{:020}", id.index.0, id.term.0)
}

fn id_of(name: &str) -> Option<EntryId> {
    let (index, term) = name.split_once('-')?;
    let id = EntryId::new(Index(index.parse().ok()?), Term(term.parse().ok()?));
    (name_of(id) == name).then_some(id)
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("chunks", &self.chunks())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("id", &self.claim.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

pub(super) const DIR: &str = "snapshots";
const KEPT: usize = 2;
