//! What can go wrong, named.

use std::io;
use std::path::PathBuf;

use crate::record::LogId;
use crate::segment::Refused;

/// Why a log could not be opened. Nothing on the disk was changed, except after an [`OpenError::Io`],
/// where an unfinished tail may have been partly cut: the next open does the rest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Bytes that had been synced are wrong or gone.
    #[error("{} is damaged at byte {offset}: {what}; {advice}", file.display())]
    Damaged {
        /// The damaged or missing file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// What a person can do.
        advice: &'static str,
    },
    /// A later release wrote this log.
    #[error("{} has format version {found}; this release reads up to {supported}: use a newer release", file.display())]
    NewerVersion {
        /// The file that says so.
        file: PathBuf,
        /// The version it has.
        found: u32,
        /// The highest version this release reads.
        supported: u32,
    },
    /// The options contradict themselves.
    #[error("bad log options: {0}")]
    BadOptions(&'static str),
}

impl From<Refused> for OpenError {
    fn from(refused: Refused) -> OpenError {
        let Refused { action, file, source } = refused;
        OpenError::Io { action, file, source }
    }
}

/// Why a write or a sync failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The disk refused. What was appended since the last sync may or may not be there, and the log
    /// takes nothing more: a sync that is tried again can succeed although the data is lost.
    #[error("the log has stopped: cannot {action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// An earlier call failed; this one did nothing.
    #[error("the log stopped earlier: {first}")]
    Poisoned {
        /// What the first error said.
        first: String,
    },
    /// The record does not fit into a segment. Nothing was written, and the log goes on.
    #[error("a record of {bytes} bytes is more than the log's limit of {limit}")]
    TooLarge {
        /// The size of the record's body.
        bytes: u64,
        /// The largest body this log takes.
        limit: u64,
    },
    /// The entry would leave a gap. Nothing was written, and the log goes on.
    #[error("group {group}: entry {index} leaves a gap after {last}")]
    Gap {
        /// The group.
        group: u64,
        /// The index of the refused entry.
        index: u64,
        /// The group's last entry.
        last: LogId,
    },
    /// The entry lies at or before the base. Nothing was written, and the log goes on.
    #[error("group {group}: entry {index} is at or before the base {base}")]
    BeforeBase {
        /// The group.
        group: u64,
        /// The index of the refused entry.
        index: u64,
        /// The group's base.
        base: LogId,
    },
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The entries are at or before the group's base.
    #[error("entries up to {base} have been compacted")]
    Compacted {
        /// The group's base.
        base: LogId,
    },
    /// The group has no such entry.
    #[error("no entry {index}: the last is {last}")]
    NotFound {
        /// The index asked for.
        index: u64,
        /// The group's last entry.
        last: LogId,
    },
    /// The entry is there but its bytes have changed since they were written.
    #[error("{} is damaged at byte {offset}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where its damaged record begins.
        offset: u64,
    },
    /// The disk refused.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Damage, with what a person can do about it.
pub(crate) fn damaged(file: PathBuf, offset: u64, what: impl Into<String>) -> OpenError {
    OpenError::Damaged {
        file,
        offset,
        what: what.into(),
        advice: ADVICE,
    }
}

const ADVICE: &str = "nothing was changed: restore the directory from a copy taken after the node last stopped, \
                      or replace the member by a new one";
