//! Making the data directory of a member of a new cluster out of a backup.
//!
//! - The directory is made beside its place, under a name of its own, and takes its place when it is complete
//!   and durable. What a crash leaves is not found by a start, and is replaced by the next attempt.
//! - All first members are restored from the same file in the same way. Their ids, and the cluster's, are drawn
//!   from that too, so that members of the old cluster are strangers.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_kv::{Bump, Keyspace, Snapshot};
use thiserror::Error;

use super::file::{Backup, BackupError, HashCheck};
use super::import::import;
use super::salt::{self, Salt};
use crate::config::{ConfigError, Identity, ServerConfig};
use crate::server::group_config;

/// What is to be restored, and for which member.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// Whether its hash must be right.
    pub check: HashCheck,
    /// What is added to the newest revision.
    pub bump_revision: u64,
    /// Whether everything before the revision that is reached so is compacted.
    pub mark_compacted: bool,
    /// The member: its name, its data directory and its cluster are looked at.
    pub member: ServerConfig,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The member and its cluster.
    pub identity: Identity,
    /// The newest revision.
    pub revision: i64,
    /// How many keys there are.
    pub keys: usize,
    /// How many keys named a lease that the backup does not have. They have none.
    pub orphans: usize,
}

/// Why nothing was restored, in one line that says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The flags make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory has something in it.
    #[error("{} is not empty: name a directory that is not there yet with --data-dir", .0.display())]
    NotEmpty(PathBuf),
    /// The directory cannot be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The member's data cannot be written.
    #[error(transparent)]
    Write(quorate::StartError),
}

impl Restore {
    /// Makes the directory.
    ///
    /// # Errors
    /// See [`RestoreError`]; there is no directory then that was not there before.
    pub fn run(&self) -> Result<Restored, RestoreError> {
        self.member.check_members()?;
        let target = &self.member.data_dir;
        refuse_unless_empty(target)?;
        let backup = Backup::open(&self.file, self.check)?;
        let bump = Bump {
            by: self.bump_revision,
            compact: self.mark_compacted,
        };
        let imported = import(&backup, bump)?;
        let salt = Salt::of(&backup.digest, bump);
        let identity = self.member.identity(Some(&salt));
        let restored = Restored {
            revision: imported.keyspace.revision().0,
            keys: imported.keyspace.size().keys,
            orphans: imported.orphans,
            identity: identity.clone(),
        };
        let unfinished = Unfinished::begin(target)?;
        let member = ServerConfig {
            data_dir: unfinished.path.clone(),
            ..self.member.clone()
        };
        let files = [(salt::FILE, &salt.to_file()[..])];
        let mut state = State::of(imported.keyspace);
        quorate::found(&group_config(&member, &identity), &files, &mut state).map_err(RestoreError::Write)?;
        unfinished.finish(target)?;
        Ok(restored)
    }
}

/// The chunks of a snapshot of a keyspace that nobody else has.
struct State {
    keyspace: Keyspace,
    snapshot: Snapshot,
}

impl State {
    fn of(mut keyspace: Keyspace) -> State {
        let snapshot = keyspace.begin_snapshot();
        State { keyspace, snapshot }
    }
}

impl Iterator for State {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let chunk = self.keyspace.snapshot_chunk(&mut self.snapshot, CHUNK_BYTES);
        chunk.map(Ok)
    }
}

fn refuse_unless_empty(dir: &Path) -> Result<(), RestoreError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(RestoreError::NotEmpty(dir.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(dir, source)),
    }
}

/// A directory that is being made; it is removed unless it is finished.
struct Unfinished {
    path: PathBuf,
    parent: PathBuf,
    is_finished: bool,
}

impl Unfinished {
    /// Begins one beside `target`, in the place of what an attempt before may have left.
    fn begin(target: &Path) -> Result<Unfinished, RestoreError> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let name = target.file_name().ok_or_else(|| {
            let problem = io::Error::other("it names no directory that can be made");
            failed(target, problem)
        })?;
        let mut name = name.to_os_string();
        name.push(SUFFIX);
        let path = parent.join(name);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed(&path, source)),
            Ok(()) | Err(_) => {}
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| failed(&path, source))?;
        Ok(Unfinished {
            path,
            parent,
            is_finished: false,
        })
    }

    /// Gives it its place.
    fn finish(mut self, target: &Path) -> Result<(), RestoreError> {
        fs::rename(&self.path, target).map_err(|source| {
            match source.kind() == io::ErrorKind::DirectoryNotEmpty {
                true => RestoreError::NotEmpty(target.to_owned()),
                false => failed(target, source),
            }
        })?;
        self.is_finished = true;
        let synced = File::open(&self.parent).and_then(|parent| parent.sync_all());
        synced.map_err(|source| failed(&self.parent, source))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed is not started either, and goes with the next attempt.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn failed(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Of the name of a directory that is being made.
const SUFFIX: &str = ".restoring";
/// As large as those that a running node makes.
const CHUNK_BYTES: usize = 256 << 10;
