//! A backup file: where its database ends, whether it is what was saved, and what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quorate_bbolt::{Database, ReadError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::format::{KEY, parse_revision};

/// Why a backup cannot be used, in one line that says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// It cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its hash is not there.
    #[error(
        "{} has no hash at its end, so it cannot be told whether it is whole: if it was copied out of an etcd's data directory, which has none, say --skip-hash-check",
        path.display()
    )]
    NoHash {
        /// The file.
        path: PathBuf,
    },
    /// Its hash is that of other bytes.
    #[error(
        "{} is damaged: its SHA-256 is {found}, and {expected} when it was saved; take another copy",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the file says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The database cannot be read.
    #[error("{}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// An entry means nothing, or contradicts others.
    #[error("{}: bucket {bucket}, {entry}: {what}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The bucket.
        bucket: String,
        /// Which entry: its number, and its key in hexadecimal.
        entry: String,
        /// What is wrong.
        what: String,
    },
    /// It is a database, but none of etcd's.
    #[error("{} is a bbolt database without etcd's buckets: it is no backup", path.display())]
    NotEtcds {
        /// The file.
        path: PathBuf,
    },
    /// Its parts contradict each other.
    #[error("{}: {what}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Whether a backup's hash must be there and right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashCheck {
    /// It must.
    Required,
    /// It must be right if it is there.
    IfThere,
    /// It is not looked at.
    Skipped,
}

/// A backup file, opened.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    pub(super) database: Database<File>,
    /// The SHA-256 of the database's bytes, as they are.
    pub(super) digest: [u8; 32],
}

/// A backup in a few numbers, as etcd's tools show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// CRC-32C of the names of all buckets, and of all keys and values.
    pub hash: u32,
    /// The newest revision that something was written at; 0 if nothing was.
    pub revision: i64,
    /// How many entries there are, in all buckets.
    pub total_key: u64,
    /// How many bytes the database has.
    pub total_size: u64,
}

impl Backup {
    /// Opens a backup of etcd's or of ours, and reads all of it once for its hash.
    ///
    /// # Errors
    /// When it cannot be read, its hash is missing or wrong and not to be skipped, or it is no database.
    pub fn open(path: &Path, check: HashCheck) -> Result<Backup, BackupError> {
        let failed = |source| BackupError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        // Pages are multiples of 512 bytes.
        let has_hash = length % 512 == HASH_BYTES;
        let bytes = length - if has_hash { HASH_BYTES } else { 0 };
        if check == HashCheck::Required && !has_hash {
            let path = path.to_owned();
            return Err(BackupError::NoHash { path });
        }
        let digest = digest(&mut (&mut file).take(bytes)).map_err(failed)?;
        if has_hash && check != HashCheck::Skipped {
            let mut expected = [0; 32];
            file.read_exact(&mut expected).map_err(failed)?;
            if expected != digest {
                return Err(BackupError::Hash {
                    path: path.to_owned(),
                    expected: hex(&expected),
                    found: hex(&digest),
                });
            }
        }
        let database = Database::open(file, bytes).map_err(|source| BackupError::Database {
            path: path.to_owned(),
            source,
        })?;
        let backup = Backup {
            path: path.to_owned(),
            database,
            digest,
        };
        match backup.found(backup.database.bucket(KEY))? {
            Some(_) => Ok(backup),
            None => Err(BackupError::NotEtcds { path: backup.path }),
        }
    }

    /// Reads all of it, and sums it up.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn status(&self) -> Result<Status, BackupError> {
        let mut status = Status {
            hash: 0,
            revision: 0,
            total_key: 0,
            total_size: self.database.bytes(),
        };
        let mut buckets = self.found(self.database.entries(&self.database.root()))?;
        while let Some(name) = self.found(buckets.next_entry())? {
            status.hash = crc32c::crc32c_append(status.hash, name.key);
            let Some(bucket) = self.found(name.bucket())? else {
                return Err(self.contradiction("an entry beside the buckets"));
            };
            let is_keys = name.key == KEY;
            let mut entries = self.found(self.database.entries(&bucket))?;
            while let Some(entry) = self.found(entries.next_entry())? {
                status.hash = crc32c::crc32c_append(status.hash, entry.key);
                status.hash = crc32c::crc32c_append(status.hash, entry.value);
                status.total_key += 1;
                if is_keys {
                    let revision = parse_revision(entry.key);
                    let number = status.total_key;
                    let revision = revision.map_err(|what| self.wrong(KEY, number, entry.key, what))?;
                    status.revision = revision.0.0;
                }
            }
        }
        Ok(status)
    }

    pub(super) fn found<T>(&self, outcome: Result<T, ReadError>) -> Result<T, BackupError> {
        outcome.map_err(|source| BackupError::Database {
            path: self.path.clone(),
            source,
        })
    }

    pub(super) fn wrong(&self, bucket: &[u8], number: u64, key: &[u8], what: impl ToString) -> BackupError {
        let start = &key[..key.len().min(SHOWN_BYTES)];
        BackupError::Entry {
            path: self.path.clone(),
            bucket: bucket.escape_ascii().to_string(),
            entry: format!("entry {number} (key {})", hex(start)),
            what: what.to_string(),
        }
    }

    pub(super) fn contradiction(&self, what: impl ToString) -> BackupError {
        BackupError::Contradiction {
            path: self.path.clone(),
            what: what.to_string(),
        }
    }
}

fn digest(input: &mut impl Read) -> io::Result<[u8; 32]> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(sha.finalize().into()),
            length => sha.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const HASH_BYTES: u64 = 32;
const READ_BYTES: usize = 256 << 10;
/// So much of a key is shown in an error.
const SHOWN_BYTES: usize = 32;
