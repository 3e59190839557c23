//! Whose data a directory holds, written once when it is first used.
//!
//! ```text
//! quorate data directory
//! format 1
//! cluster 00000000cafe0001
//! node 2
//! incarnation 6f1c…            (32 hexadecimal digits)
//! crc32c 1a2b3c4d              (of all lines above)
//! ```
//!
//! It is read before anything else in the directory is touched, so that a wrong flag harms nothing.
//!
//! The incarnation tells a directory from an empty one that took its place. Each node keeps those of its
//! peers on disk, in `PEERS`, and refuses a peer that comes with another: it has forgotten its votes.

use std::io;
use std::path::Path;
use std::str::FromStr;

use quorate_raft::NodeId;
use quorate_wal::{Disk, OpenMode};

use super::StorageError;
use crate::codec::Incarnation;
use crate::codec::frame::ClusterId;

/// Whose data a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The directory's own random name.
    pub incarnation: Incarnation,
}

/// The version of the layout of a data directory that this code reads and writes.
pub const FORMAT: u32 = 1;

/// Finds in the directory the identity expected, or writes it into an empty one.
///
/// The incarnation of `expected` is that of a directory used for the first time.
pub(super) fn establish(
    disk: &dyn Disk,
    directory: &str,
    expected: Identity,
) -> Result<Identity, StorageError> {
    let damaged = |problem: String| StorageError::Identity {
        directory: directory.to_owned(),
        problem,
    };
    let Some(text) = read(disk)? else {
        refuse_unless_empty(disk, directory)?;
        write(disk, expected)?;
        return Ok(expected);
    };
    let found = parse(&text).map_err(damaged)?;
    let mismatch = |what, expected: String, found: String| StorageError::Foreign {
        directory: directory.to_owned(),
        what,
        expected,
        found,
    };
    if found.cluster != expected.cluster {
        let (expected, found) = (expected.cluster.to_string(), found.cluster.to_string());
        return Err(mismatch("cluster", expected, found));
    }
    if found.node != expected.node {
        let (expected, found) = (format!("{:x}", expected.node.0), format!("{:x}", found.node.0));
        return Err(mismatch("node", expected, found));
    }
    Ok(found)
}

fn read(disk: &dyn Disk) -> Result<Option<Vec<u8>>, StorageError> {
    let at = |error| StorageError::io(FILE, error);
    let file = match disk.open(Path::new(FILE), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(error)),
    };
    let mut text = vec![0; MAX_BYTES];
    let length = file.read_at(0, &mut text).map_err(at)?;
    text.truncate(length);
    Ok(Some(text))
}

/// A directory that holds something but no identity is not ours to write into.
fn refuse_unless_empty(disk: &dyn Disk, directory: &str) -> Result<(), StorageError> {
    let names = disk
        .list(Path::new(""))
        .map_err(|error| StorageError::directory(directory, error))?;
    match names.into_iter().find(|name| !HARMLESS.contains(&name.as_str())) {
        Some(found) => Err(StorageError::NotEmpty {
            directory: directory.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// Refuses a directory that is a node's.
pub(super) fn refuse_used(disk: &dyn Disk, directory: &str) -> Result<(), StorageError> {
    match read(disk)? {
        None => Ok(()),
        Some(_) => Err(StorageError::NotEmpty {
            directory: directory.to_owned(),
            found: FILE.to_owned(),
        }),
    }
}

/// Writes who a directory belongs to, durably and as a whole.
pub(super) fn write(disk: &dyn Disk, identity: Identity) -> Result<(), StorageError> {
    let at = |error| StorageError::io(FILE, error);
    let temporary = Path::new(TEMPORARY);
    match disk.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        Ok(()) | Err(_) => {}
    }
    let file = disk.open(temporary, OpenMode::CreateNew).map_err(at)?;
    file.write_at(0, format(identity).as_bytes()).map_err(at)?;
    file.sync_data().map_err(at)?;
    disk.rename(temporary, Path::new(FILE)).map_err(at)?;
    disk.sync_dir(Path::new("")).map_err(at)
}

fn format(identity: Identity) -> String {
    let lines = format!(
        "{TITLE}\nformat {FORMAT}\ncluster {}\nnode {}\nincarnation {}\n",
        identity.cluster, identity.node.0, identity.incarnation
    );
    let checksum = crc32c::crc32c(lines.as_bytes());
    format!("{lines}crc32c {checksum:08x}\n")
}

pub(super) fn parse(text: &[u8]) -> Result<Identity, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(format!("it does not begin with the line {TITLE:?}"));
    }
    // A newer version may have other lines, and another checksum: its number comes first.
    let format: u32 = field(lines.next(), "format", FromStr::from_str)?;
    if format != FORMAT {
        return Err(format!(
            "its format is {format}, this program's is {FORMAT}; use the version of the program that wrote it"
        ));
    }
    let identity = Identity {
        cluster: ClusterId(field(lines.next(), "cluster", |hex| {
            u64::from_str_radix(hex, 16)
        })?),
        node: NodeId(field(lines.next(), "node", FromStr::from_str)?),
        incarnation: Incarnation(field(lines.next(), "incarnation", |hex| {
            u128::from_str_radix(hex, 16)
        })?),
    };
    if text != self::format(identity) {
        return Err(
            "its checksum does not match; restore the file from a copy of this very directory".to_owned(),
        );
    }
    Ok(identity)
}

fn field<T, E>(
    line: Option<&str>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, String> {
    let value = line.and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.ok_or_else(|| format!("it has no line {name:?} where there should be one"))?;
    parse(value).map_err(|_| format!("its line {name:?} is malformed"))
}

const TITLE: &str = "quorate data directory";
pub(super) const FILE: &str = "IDENTITY";
const TEMPORARY: &str = "IDENTITY.tmp";
const MAX_BYTES: usize = 4096;
/// What may be in a directory that was never used: a lock, and an identity whose writing was cut short.
pub(super) const HARMLESS: [&str; 4] = [TEMPORARY, "LOCK", "lost+found", "tls"];
