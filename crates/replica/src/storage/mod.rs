//! What a node keeps on its disk: its identity, its log, its snapshots.
//!
//! ```text
//! IDENTITY       whose directory it is, written once
//! PEERS          the directory that each peer was first seen with
//! wal/           the log's segments (quorate-wal): terms, votes, entries
//! snapshots/     one file a snapshot, named by index and term
//! ```
//!
//! - [`Storage`] belongs to the log thread: it appends, syncs and nothing else. [`LogReader`] reads
//!   entries, and [`Snapshots`] snapshots, from other threads meanwhile.
//! - [`Storage::append`] and [`Storage::sync`] are apart so that one sync covers all that waits, and so
//!   that a simulator can crash in between.
//! - After an error nothing may be acknowledged any more; the node stops (the log refuses all further work).
//!
//! What a start makes of a log and a snapshot that do not fit is a table in `recovery`.

mod directory;
mod founding;
mod identity;
mod peers;
mod recovery;
mod snapshots;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_raft::{
    Configuration, Entry, EntryId, GroupId, HardState, Index, LogReadError, Payload, ReadLog, SnapshotMeta,
    Stored, Term, Write, WriteSeq,
};
use quorate_wal::{Cut, Disk, Record, RecoveredGroup, Wal};

pub(crate) use directory::{examine, is_used};
pub use directory::{inspect, owner};
pub use founding::{RESTORED, found};
pub use identity::{FORMAT, Identity};
pub(crate) use peers::KnownPeers;
pub use recovery::Contradiction;
pub use snapshots::{Chunks, Outgoing, SnapshotWriter, Snapshots};

use crate::codec::{DecodeError, stored};
#[cfg(feature = "mutants")]
use crate::mutant::mutant;
use recovery::{Verdict, entry_id, reconcile};

/// How a node's storage is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the directory is called in errors.
    pub directory: String,
    /// Whose data it must hold. The incarnation is used only if the directory is empty.
    pub identity: Identity,
    /// The log to open.
    pub group: GroupId,
    /// The members that a new group starts with; an existing one has its own.
    pub configuration: Configuration,
    /// How the log's files are laid out, and what names a new log.
    pub wal: quorate_wal::Options,
}

/// What was found on the disk.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Whose directory it is.
    pub identity: Identity,
    /// What the core starts from. The state machine is to be restored from its snapshot.
    pub stored: Stored,
    /// The unfinished tail of the log that a crash had left, if there was one.
    pub cut: Option<Cut>,
}

/// A group's log, and the snapshots beside it.
pub struct Storage {
    wal: Wal,
    group: GroupId,
    snapshots: Snapshots,
    records: Vec<Record>,
    /// The highest write appended.
    appended: WriteSeq,
    /// Whether the latest writes hold no entries.
    #[cfg(feature = "mutants")]
    votes_only: bool,
}

/// Reads entries of a group's log while others are being written.
#[derive(Clone)]
pub struct LogReader {
    reader: quorate_wal::Reader,
    group: GroupId,
}

impl Storage {
    /// Opens the directory that `disk` is rooted at, or sets it up if it is empty.
    ///
    /// # Errors
    /// When the directory is another's, is damaged, or cannot be read or written. A directory that is
    /// another's, or of a newer version, is left as it was.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Opened), StorageError> {
        let identity = identity::establish(disk.as_ref(), &options.directory, options.identity)?;
        make_directories(disk.as_ref())?;
        let snapshots = Snapshots::open(Arc::clone(&disk))?;
        refuse_without_log(disk.as_ref(), &snapshots, &options.directory)?;
        let (wal, recovered) = Wal::open(disk, Path::new(WAL_DIR), options.wal)?;
        let mut storage = Self {
            wal,
            group: options.group,
            snapshots,
            records: Vec::new(),
            appended: WriteSeq::default(),
            #[cfg(feature = "mutants")]
            votes_only: false,
        };
        let log = recovered.groups.get(&options.group.0);
        let newest = storage.newest_or_first(log, options.configuration)?;
        let verdict = reconcile(log, newest.id).map_err(|source| StorageError::Recovery {
            directory: options.directory,
            source,
        })?;
        let stored = storage.recover(log, newest, verdict)?;
        let opened = Opened {
            identity,
            stored,
            cut: recovered.cut,
        };
        Ok((storage, opened))
    }

    /// Appends writes, in order. They are not durable before the next [`Self::sync`].
    ///
    /// # Errors
    /// When the log cannot be written to. It then takes no further work.
    pub fn append(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        let mut bodies = BytesMut::with_capacity(writes.iter().map(body_bytes).sum());
        for write in writes {
            assert!(
                write.seq > self.appended,
                "write {} came after {}: writes must keep their order",
                write.seq,
                self.appended
            );
            self.appended = write.seq;
            self.push_records(write, &mut bodies);
        }
        #[cfg(feature = "mutants")]
        {
            self.votes_only = writes
                .iter()
                .all(|write| write.entries.is_empty() && write.reset.is_none());
        }
        self.append_records()
    }

    /// Makes everything appended durable, and says up to which write that is.
    ///
    /// # Errors
    /// When it cannot be known that it is durable. The log then takes no further work.
    pub fn sync(&mut self) -> Result<WriteSeq, StorageError> {
        #[cfg(feature = "mutants")]
        if mutant!(M1) && self.votes_only {
            return Ok(self.appended);
        }
        self.wal.sync()?;
        Ok(self.appended)
    }

    /// Lets go of the log up to and with this entry. Needs no sync of its own.
    ///
    /// # Errors
    /// When the log cannot be written to. It then takes no further work.
    pub fn compact(&mut self, upto: EntryId) -> Result<(), StorageError> {
        self.records.push(Record::Compact {
            group: self.group.0,
            index: upto.index.0,
            term: upto.term.0,
        });
        self.append_records()
    }

    /// Reads the log from other threads.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader {
            reader: self.wal.reader(),
            group: self.group,
        }
    }

    /// The snapshots.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// How much the log holds and has done.
    #[must_use]
    pub fn stats(&self) -> quorate_wal::Stats {
        self.wal.stats()
    }

    fn push_records(&mut self, write: &Write, bodies: &mut BytesMut) {
        let group = self.group.0;
        if let Some(snapshot) = &write.reset {
            self.records.push(reset_to(self.group, snapshot.id));
        }
        if let Some(state) = &write.hard_state {
            self.records.push(Record::State {
                group,
                body: stored::encode_hard_state(state),
            });
        }
        for entry in &write.entries {
            stored::encode_payload(&entry.payload, bodies);
            self.records.push(Record::Entry {
                group,
                index: entry.id.index.0,
                term: entry.id.term.0,
                body: bodies.split().freeze(),
            });
        }
    }

    fn append_records(&mut self) -> Result<(), StorageError> {
        self.wal.append(&self.records)?;
        self.records.clear();
        Ok(())
    }

    /// The newest snapshot. That of a new group stands for index 0 and holds its first members: it is
    /// kept like any other, so that later starts cannot begin the group with different ones.
    fn newest_or_first(
        &self,
        log: Option<&RecoveredGroup>,
        configuration: Configuration,
    ) -> Result<SnapshotMeta, StorageError> {
        if let Some(newest) = self.snapshots.newest()? {
            return Ok(newest);
        }
        let first = SnapshotMeta {
            id: EntryId::ZERO,
            configuration: Arc::new(configuration),
        };
        if log.is_none() {
            self.snapshots.create(&first)?.finish()?;
        }
        Ok(first)
    }

    fn recover(
        &mut self,
        log: Option<&RecoveredGroup>,
        snapshot: SnapshotMeta,
        verdict: Verdict,
    ) -> Result<Stored, StorageError> {
        let mut hard_state = recovered_hard_state(log)?;
        if hard_state.term < snapshot.id.term {
            // A received snapshot became durable before the term it brought: no vote was given in it.
            hard_state = HardState {
                term: snapshot.id.term,
                vote: None,
            };
        }
        let (base, terms, last) = match (log, verdict) {
            (Some(log), Verdict::Keep) => {
                let terms = log.terms.iter().copied().map(entry_id).collect();
                (entry_id(log.base), terms, entry_id(log.last))
            }
            (None, Verdict::Keep) => (EntryId::ZERO, Vec::new(), EntryId::ZERO),
            (_, Verdict::Reset) => {
                self.records.push(reset_to(self.group, snapshot.id));
                self.append_records()?;
                self.wal.sync()?;
                (snapshot.id, Vec::new(), snapshot.id)
            }
        };
        let configurations = self.configurations(snapshot.id.index, last.index)?;
        Ok(Stored {
            hard_state,
            snapshot,
            base,
            terms,
            last,
            configurations,
        })
    }

    /// The configurations among the entries after `after`, up to `last`.
    fn configurations(
        &self,
        after: Index,
        last: Index,
    ) -> Result<Vec<(Index, Arc<Configuration>)>, StorageError> {
        let reader = self.reader();
        let mut configurations = Vec::new();
        let mut next = after.next();
        while next <= last {
            let entries = reader.entries(next, last, SCAN_BYTES)?;
            for entry in entries {
                next = entry.id.index.next();
                if let Payload::Configuration(configuration) = entry.payload {
                    configurations.push((entry.id.index, configuration));
                }
            }
        }
        Ok(configurations)
    }
}

impl LogReader {
    /// Carries out a request of the core.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged. That entries are gone is no error of this kind.
    pub fn read(&self, request: &ReadLog) -> Result<Result<Vec<Entry>, LogReadError>, StorageError> {
        match self.entries(request.from, request.to, request.max_bytes) {
            Ok(entries) => Ok(Ok(entries)),
            Err(StorageError::Read(
                quorate_wal::ReadError::Compacted { .. } | quorate_wal::ReadError::NotFound { .. },
            )) => Ok(Err(LogReadError::Gone)),
            Err(error) => Err(error),
        }
    }

    fn entries(&self, from: Index, to: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let read = self.reader.read(self.group.0, from.0, to.0, max_bytes)?;
        assert!(
            !read.is_empty(),
            "a read of the log from {from} brought nothing and no error"
        );
        let (mut entries, mut bytes) = (Vec::with_capacity(read.len()), 0);
        for entry in read {
            let entry = decode(entry)?;
            // The log counts bodies. In memory an entry weighs more, and one without a command much more.
            bytes += entry.weight();
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn decode(entry: quorate_wal::ReadEntry) -> Result<Entry, StorageError> {
    let id = EntryId::new(Index(entry.index), Term(entry.term));
    let payload = stored::decode_payload(entry.body)
        .map_err(|source| StorageError::record(format!("entry {id}"), source))?;
    Ok(Entry { id, payload })
}

/// Durably, before anything is in them: a file must not survive the name of its directory.
fn make_directories(disk: &dyn Disk) -> Result<(), StorageError> {
    for dir in [WAL_DIR, snapshots::DIR] {
        disk.create_dir(Path::new(dir))
            .map_err(|error| StorageError::io(dir, error))?;
    }
    disk.sync_dir(Path::new(""))
        .map_err(|error| StorageError::io(".", error))
}

/// The first snapshot is written after the log was made: where there is one, there was a log.
fn refuse_without_log(disk: &dyn Disk, snapshots: &Snapshots, directory: &str) -> Result<(), StorageError> {
    let Some(snapshot) = snapshots.ids()?.last().copied() else {
        return Ok(());
    };
    let files = disk
        .list(Path::new(WAL_DIR))
        .map_err(|error| StorageError::io(WAL_DIR, error))?;
    match files.is_empty() {
        false => Ok(()),
        true => Err(StorageError::Recovery {
            directory: directory.to_owned(),
            source: Contradiction::NoLog { snapshot },
        }),
    }
}

fn recovered_hard_state(log: Option<&RecoveredGroup>) -> Result<HardState, StorageError> {
    let body: Option<&Bytes> = log.and_then(|log| log.state.as_ref());
    body.map_or(Ok(HardState::default()), |body| {
        stored::decode_hard_state(body.clone())
            .map_err(|source| StorageError::record("term and vote".to_owned(), source))
    })
}

fn reset_to(group: GroupId, id: EntryId) -> Record {
    Record::Reset {
        group: group.0,
        index: id.index.0,
        term: id.term.0,
    }
}

fn body_bytes(write: &Write) -> usize {
    let bytes: u64 = write.entries.iter().map(Entry::weight).sum();
    usize::try_from(bytes).unwrap_or(0)
}

/// Why storage cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process uses the directory.
    #[error(transparent)]
    Locked(#[from] quorate_wal::LockError),
    /// The directory holds another's data.
    #[error(
        "{directory} belongs to {what} {found}, this is {what} {expected}; choose another data directory, or start with the settings of its owner"
    )]
    Foreign {
        /// The directory.
        directory: String,
        /// "cluster" or "node".
        what: &'static str,
        /// Whose it should be.
        expected: String,
        /// Whose it is.
        found: String,
    },
    /// The directory holds files that are not of a node.
    #[error("{directory} holds {found} and is no data directory of Quorate; choose an empty or a new one")]
    NotEmpty {
        /// The directory.
        directory: String,
        /// One of the files.
        found: String,
    },
    /// The directory is laid out as etcd's.
    #[error(
        "{directory} looks like etcd's data (member/wal, member/snap), which cannot be opened; choose an empty directory; `quorate snapshot restore` makes one out of its file member/snap/db, or out of a backup"
    )]
    EtcdData {
        /// The directory.
        directory: String,
    },
    /// The path is a file's, or leads through one.
    #[error("{directory} is not a directory; choose another path")]
    NotADirectory {
        /// The path.
        directory: String,
    },
    /// The directory's identity cannot be understood.
    #[error("{directory}/IDENTITY is not usable: {problem}")]
    Identity {
        /// The directory.
        directory: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// What is known of the peers cannot be understood.
    #[error("{directory}/PEERS is not usable: {problem}")]
    Peers {
        /// The directory.
        directory: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// So many peers were seen that no other is taken on: most of them are strangers.
    #[error("{directory}/PEERS names {most} peers already, and no more are taken on")]
    TooManyPeers {
        /// The directory.
        directory: String,
        /// How many may be known.
        most: usize,
    },
    /// The log and the snapshots do not fit.
    #[error("{directory}: {source}")]
    Recovery {
        /// The directory.
        directory: String,
        /// How.
        source: Contradiction,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] quorate_wal::OpenError),
    /// The log cannot be written.
    #[error(transparent)]
    Wal(#[from] quorate_wal::WalError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] quorate_wal::ReadError),
    /// A snapshot's file cannot be written or read.
    #[error("snapshot {id}: {source}")]
    Snapshot {
        /// Which.
        id: EntryId,
        /// Why.
        source: quorate_wal::CheckpointError,
    },
    /// The snapshots cannot be listed or removed.
    #[error(transparent)]
    Snapshots(#[from] quorate_wal::CheckpointError),
    /// There is no such snapshot.
    #[error("there is no snapshot {id}")]
    NoSnapshot {
        /// Which.
        id: EntryId,
    },
    /// The same snapshot is being written already.
    #[error("snapshot {id} is being written already")]
    Busy {
        /// Which.
        id: EntryId,
    },
    /// A record whose checksum is right means nothing to this program.
    #[error("the {what} on disk cannot be understood: {source}; was it written by a newer version?")]
    Record {
        /// Which.
        what: String,
        /// Why.
        source: DecodeError,
    },
    /// The disk failed, or what is on it, in this directory.
    #[error("{directory}: {source}{advice}")]
    In {
        /// The data directory.
        directory: String,
        /// What happened there.
        source: Box<StorageError>,
        /// What a person can do; empty where the source says it.
        advice: &'static str,
    },
    /// The operating system refused the data directory itself.
    #[error("{directory}: {source}")]
    Directory {
        /// The directory.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused a file or directory in the data directory.
    #[error("{path}: {source}")]
    Io {
        /// Where it is, seen from the data directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl StorageError {
    /// The same error with the data directory, where it has only paths inside of it.
    #[must_use]
    pub(crate) fn within(self, directory: &str) -> Self {
        match self {
            Self::Locked(_)
            | Self::Foreign { .. }
            | Self::NotEmpty { .. }
            | Self::EtcdData { .. }
            | Self::NotADirectory { .. }
            | Self::Identity { .. }
            | Self::Peers { .. }
            | Self::TooManyPeers { .. }
            | Self::Recovery { .. }
            | Self::Directory { .. }
            | Self::In { .. } => self,
            Self::Open(_)
            | Self::Wal(_)
            | Self::Read(_)
            | Self::Snapshot { .. }
            | Self::Snapshots(_)
            | Self::NoSnapshot { .. }
            | Self::Busy { .. }
            | Self::Record { .. }
            | Self::Io { .. } => Self::In {
                directory: directory.to_owned(),
                advice: disk_full_advice(&self),
                source: Box::new(self),
            },
        }
    }

    fn io(path: &str, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn directory(directory: &str, source: io::Error) -> Self {
        Self::Directory {
            directory: directory.to_owned(),
            source,
        }
    }

    fn record(what: String, source: DecodeError) -> Self {
        Self::Record { what, source }
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("group", &self.group)
            .field("appended", &self.appended)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// What to do about a full disk; empty if that is not what went wrong.
pub(crate) fn disk_full_advice(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut systems = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    match systems.any(|error| error.kind() == io::ErrorKind::StorageFull) {
        true => {
            "; make room: the log reserves a whole segment at a time, which is 64 MiB unless set otherwise"
        }
        false => "",
    }
}

const WAL_DIR: &str = "wal";
/// How much of the log is read at once when it is looked through, in bytes.
const SCAN_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_reported_with_the_directory_and_what_to_do() {
        let file = Path::new("wal/unfinished.tmp").to_owned();
        let full = quorate_wal::OpenError::Io {
            action: "allocate",
            file,
            source: io::ErrorKind::StorageFull.into(),
        };
        let text = StorageError::from(full).within("/data").to_string();
        assert!(text.starts_with("/data: ") && text.contains("64 MiB"), "{text}");
        let other = StorageError::io("wal", io::ErrorKind::PermissionDenied.into()).within("/data");
        assert!(!other.to_string().contains("64 MiB"), "{other}");
    }

    #[test]
    fn the_directory_is_named_whatever_it_is_called() {
        for directory in ["wal", "/", "PEERS", "e"] {
            let error = StorageError::io("wal/PEERS", io::ErrorKind::PermissionDenied.into());
            let text = error.within(directory).to_string();
            assert!(text.starts_with(&format!("{directory}: wal/PEERS: ")), "{text}");
            let error = StorageError::directory(directory, io::ErrorKind::PermissionDenied.into());
            let once = error.to_string();
            assert_eq!(error.within(directory).to_string(), once);
        }
    }
}
