//! The data directory that each peer was first seen with, kept for ever.
//!
//! ```text
//! quorate peers
//! format 1
//! peer 2 6f1c…                 (32 hexadecimal digits; a line for each peer, by id)
//! crc32c 1a2b3c4d              (of all lines above)
//! ```
//!
//! - A peer is written down before anything it says is believed. Were it known in memory only, a voter
//!   that lost its directory would be taken back by peers that restarted, and with it a vote that it
//!   forgot or an entry that it acknowledged.
//! - The file is replaced as a whole; one that is damaged is an error, never an empty one.
//! - It has a bound, so that strangers cannot make it one that the next start refuses to read.
//! - Members that left stay in it: an id is never used again, so that nobody may come back under it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use quorate_raft::NodeId;
use quorate_wal::{Disk, OpenMode};

use super::StorageError;
use crate::codec::Incarnation;

/// The incarnation that each peer was first seen with, as the disk knows it.
pub(crate) struct KnownPeers {
    disk: Arc<dyn Disk>,
    directory: String,
    known: BTreeMap<NodeId, Incarnation>,
}

impl KnownPeers {
    /// Reads what was written down; nobody is known where there is no file.
    ///
    /// # Errors
    /// When the file is damaged, of a newer version, or cannot be read. `directory` names it.
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: &str) -> Result<Self, StorageError> {
        let known = match read(disk.as_ref())? {
            None => BTreeMap::new(),
            Some(text) => parse(&text).map_err(|problem| StorageError::Peers {
                directory: directory.to_owned(),
                problem,
            })?,
        };
        let directory = directory.to_owned();
        Ok(Self {
            disk,
            directory,
            known,
        })
    }

    /// Whether `node` was seen before, with this incarnation.
    pub(crate) fn is_known(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.known.get(&node) == Some(&incarnation)
    }

    /// The incarnation that `node` was first seen with: `seen`, if that is now. It is durable then.
    ///
    /// # Errors
    /// When the file cannot be written, or is [`StorageError::TooManyPeers`]. `node` stays unknown then.
    pub(crate) fn first_seen(
        &mut self,
        node: NodeId,
        seen: Incarnation,
    ) -> Result<Incarnation, StorageError> {
        if let Some(known) = self.known.get(&node) {
            return Ok(*known);
        }
        if self.known.len() >= MOST_PEERS {
            return Err(StorageError::TooManyPeers {
                directory: self.directory.clone(),
                most: MOST_PEERS,
            });
        }
        let mut known = self.known.clone();
        known.insert(node, seen);
        write(self.disk.as_ref(), &format(&known))?;
        self.known = known;
        Ok(seen)
    }
}

fn read(disk: &dyn Disk) -> Result<Option<Vec<u8>>, StorageError> {
    let at = |error| StorageError::io(FILE, error);
    let file = match disk.open(Path::new(FILE), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(error)),
    };
    let length = usize::try_from(file.len().map_err(at)?).unwrap_or(usize::MAX);
    let mut text = vec![0; length.min(MAX_BYTES)];
    let length = file.read_at(0, &mut text).map_err(at)?;
    text.truncate(length);
    Ok(Some(text))
}

fn write(disk: &dyn Disk, text: &str) -> Result<(), StorageError> {
    let at = |error| StorageError::io(FILE, error);
    let temporary = Path::new(TEMPORARY);
    match disk.remove(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
        Ok(()) | Err(_) => {}
    }
    let file = disk.open(temporary, OpenMode::CreateNew).map_err(at)?;
    file.write_at(0, text.as_bytes()).map_err(at)?;
    file.sync_data().map_err(at)?;
    disk.rename(temporary, Path::new(FILE)).map_err(at)?;
    disk.sync_dir(Path::new("")).map_err(at)
}

fn format(known: &BTreeMap<NodeId, Incarnation>) -> String {
    let mut lines = format!("{TITLE}\nformat {FORMAT}\n");
    for (node, incarnation) in known {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "peer {} {incarnation}", node.0);
    }
    let checksum = crc32c::crc32c(lines.as_bytes());
    let _ = writeln!(lines, "crc32c {checksum:08x}");
    lines
}

fn parse(text: &[u8]) -> Result<BTreeMap<NodeId, Incarnation>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(format!("it does not begin with the line {TITLE:?}"));
    }
    let format = lines.next().unwrap_or_default();
    if format != format!("format {FORMAT}") {
        return Err(format!(
            "its second line is {format:?}, not \"format {FORMAT}\"; use the version of the program that wrote it"
        ));
    }
    let known = lines.map_while(peer).collect();
    match text == self::format(&known) {
        true => Ok(known),
        false => {
            Err("its checksum does not match; restore the file from a copy of this very directory".to_owned())
        }
    }
}

fn peer(line: &str) -> Option<(NodeId, Incarnation)> {
    let (node, incarnation) = line.strip_prefix("peer ")?.split_once(' ')?;
    let incarnation = u128::from_str_radix(incarnation, 16).ok()?;
    Some((NodeId(node.parse().ok()?), Incarnation(incarnation)))
}

const TITLE: &str = "quorate peers";
const FORMAT: u32 = 1;
const FILE: &str = "PEERS";
const TEMPORARY: &str = "PEERS.tmp";
const MAX_BYTES: usize = 1 << 20;
/// More than any cluster has members in its life. Their lines take a quarter of `MAX_BYTES`.
const MOST_PEERS: usize = 4096;

#[cfg(test)]
mod tests {
    use quorate_wal::MemDisk;

    use super::*;

    fn open(disk: &MemDisk) -> Result<KnownPeers, StorageError> {
        KnownPeers::open(Arc::new(disk.clone()), "data")
    }

    #[test]
    fn the_first_incarnation_is_the_one_that_is_kept() {
        let disk = MemDisk::new();
        let (two, three) = (NodeId(2), NodeId(3));
        let mut peers = open(&disk).unwrap();
        assert_eq!(peers.first_seen(two, Incarnation(20)).unwrap(), Incarnation(20));
        let mut peers = open(&disk).unwrap();
        assert_eq!(peers.first_seen(two, Incarnation(21)).unwrap(), Incarnation(20));
        assert_eq!(peers.first_seen(three, Incarnation(30)).unwrap(), Incarnation(30));
        let mut peers = open(&disk).unwrap();
        assert_eq!(peers.first_seen(three, Incarnation(31)).unwrap(), Incarnation(30));
        assert_eq!(peers.first_seen(two, Incarnation(22)).unwrap(), Incarnation(20));
    }

    #[test]
    fn more_strangers_than_can_be_written_down_are_refused() {
        let disk = MemDisk::new();
        let all = (0..MOST_PEERS as u64).map(|peer| (NodeId(u64::MAX - peer), Incarnation(u128::MAX)));
        let text = format(&all.collect());
        assert!(text.len() <= MAX_BYTES / 3, "{} bytes", text.len());
        write(&disk, &text).unwrap();
        let mut peers = open(&disk).unwrap();
        let refused = peers.first_seen(NodeId(1), Incarnation(1));
        assert!(
            matches!(refused, Err(StorageError::TooManyPeers { .. })),
            "{refused:?}"
        );
        let known = peers.first_seen(NodeId(u64::MAX), Incarnation(1)).unwrap();
        assert_eq!(known, Incarnation(u128::MAX));
    }

    #[test]
    fn any_damage_is_refused_by_name() {
        let disk = MemDisk::new();
        open(&disk)
            .unwrap()
            .first_seen(NodeId(2), Incarnation(20))
            .unwrap();
        let whole = read(&disk).unwrap().unwrap();
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1;
            let file = disk.open(Path::new(FILE), OpenMode::ReadWrite).unwrap();
            file.write_at(0, &damaged).unwrap();
            let error = open(&disk).map(|_| ()).unwrap_err().to_string();
            assert!(
                error.starts_with("data/PEERS is not usable"),
                "byte {byte}: {error}"
            );
        }
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "cut to {length}");
        }
    }
}
