//! One version of one key, in one immutable block of bytes that all who need it share.
//!
//! The block is a header of [`HEADER`] bytes, then the key, then the value:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..8 | main | the revision that wrote it |
//! | 8..12 | sub | its place among the changes of that revision, from 0 |
//! | 12..16 | key length | |
//! | 16..24 | create | the revision that created the key; 0 in a tombstone |
//! | 24..32 | version | puts since then, from 1; 0 in a tombstone |
//! | 32..40 | lease | 0 for none |
//!
//! Numbers are little-endian. The same block is in the index, in the log of revisions, in watch events, in
//! snapshots and under the hash: a version costs one allocation and is never copied.
//!
//! - A block that exists is well formed: [`Record::parse`] refuses any other.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{KeyValue, LeaseId, Revision};

/// Bytes of a block before its key.
pub(crate) const HEADER: usize = 40;

/// What is kept of a key besides its block: two handles, the counts of its block, and its place in a tree.
const OVERHEAD: usize = 72;

/// A place in the history of the keyspace: a revision, and a change within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) main: Revision,
    pub(crate) sub: u32,
}

impl Position {
    /// The first change of a revision.
    pub(crate) fn start_of(main: Revision) -> Self {
        Self { main, sub: 0 }
    }

    /// The place right after this one.
    pub(crate) fn next(self) -> Self {
        Self {
            sub: self.sub.saturating_add(1),
            ..self
        }
    }
}

/// Whether a version is a value or the end of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Tombstone,
}

/// What a put writes into a new version.
pub(crate) struct NewVersion<'a> {
    pub(crate) position: Position,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) create: Revision,
    pub(crate) version: i64,
    pub(crate) lease: Option<LeaseId>,
}

/// A handle on a version: 16 bytes, cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record(Arc<[u8]>);

impl Record {
    /// A version with a value.
    pub(crate) fn put(new: &NewVersion<'_>) -> Self {
        let lease = new.lease.map_or(0, |lease| lease.0);
        let numbers = [new.create.0, new.version, lease];
        Self(build(new.position, numbers, new.key, new.value))
    }

    /// The version that ends a key.
    pub(crate) fn tombstone(position: Position, key: &[u8]) -> Self {
        Self(build(position, [0; 3], key, &[]))
    }

    /// Reads a block that comes from outside; none if it is not well formed.
    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        let record = (block.len() > HEADER).then(|| Self(block.into()))?;
        let key_len = usize::try_from(record.u32_at(12)).ok()?;
        let whole = key_len > 0 && key_len <= block.len() - HEADER;
        let put = record.create().0 > 0 && record.create() <= record.revision() && record.version() > 0;
        let tombstone = block[16..HEADER].iter().all(|&byte| byte == 0) && block.len() == HEADER + key_len;
        (whole && (put || tombstone)).then_some(record)
    }

    pub(crate) fn position(&self) -> Position {
        Position {
            main: self.revision(),
            sub: self.u32_at(8),
        }
    }

    /// What records are ordered by in the index and in snapshots.
    pub(crate) fn order(&self) -> (&[u8], Position) {
        (self.key(), self.position())
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.i64_at(0))
    }

    pub(crate) fn create(&self) -> Revision {
        Revision(self.i64_at(16))
    }

    pub(crate) fn version(&self) -> i64 {
        self.i64_at(24)
    }

    pub(crate) fn lease(&self) -> Option<LeaseId> {
        LeaseId::from_wire(self.i64_at(32))
    }

    pub(crate) fn kind(&self) -> Kind {
        if self.version() == 0 {
            Kind::Tombstone
        } else {
            Kind::Put
        }
    }

    pub(crate) fn is_put(&self) -> bool {
        self.kind() == Kind::Put
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0[HEADER..self.value_start()]
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.0[self.value_start()..]
    }

    /// The whole block.
    pub(crate) fn block(&self) -> &[u8] {
        &self.0
    }

    /// The memory it takes, in bytes, all told.
    pub(crate) fn size(&self) -> usize {
        OVERHEAD + self.0.len()
    }

    /// The version as clients see it: shares the block.
    pub(crate) fn to_key_value(&self) -> KeyValue {
        let block = Bytes::from_owner(Arc::clone(&self.0));
        let key_end = self.value_start();
        KeyValue {
            key: block.slice(HEADER..key_end),
            value: block.slice(key_end..),
            create_revision: self.create(),
            mod_revision: self.revision(),
            version: self.version(),
            lease: self.lease(),
        }
    }

    /// The version without its value.
    pub(crate) fn to_key_only(&self) -> KeyValue {
        KeyValue {
            value: Bytes::new(),
            ..self.to_key_value()
        }
    }

    fn value_start(&self) -> usize {
        HEADER + self.u32_at(12) as usize
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.0[at..at + 8].try_into().expect("the slice has 8 bytes"))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("the slice has 4 bytes"))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { main, sub } = self.position();
        write!(f, "{}@{main}.{sub} {:?}", self.key().escape_ascii(), self.kind())
    }
}

fn build(position: Position, [create, version, lease]: [i64; 3], key: &[u8], value: &[u8]) -> Arc<[u8]> {
    let key_len = u32::try_from(key.len()).expect("requests are far smaller than 4 GiB");
    let mut block = Vec::with_capacity(HEADER + key.len() + value.len());
    block.extend_from_slice(&position.main.0.to_le_bytes());
    block.extend_from_slice(&position.sub.to_le_bytes());
    block.extend_from_slice(&key_len.to_le_bytes());
    for number in [create, version, lease] {
        block.extend_from_slice(&number.to_le_bytes());
    }
    block.extend_from_slice(key);
    block.extend_from_slice(value);
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position {
            main: Revision(7),
            sub: 3,
        }
    }

    fn put() -> Record {
        Record::put(&NewVersion {
            position: position(),
            key: b"key",
            value: b"value",
            create: Revision(5),
            version: 2,
            lease: Some(LeaseId(-9)),
        })
    }

    #[test]
    fn a_put_reads_back_as_written() {
        let kv = put().to_key_value();
        assert_eq!((&kv.key[..], &kv.value[..]), (&b"key"[..], &b"value"[..]));
        assert_eq!(
            (kv.create_revision, kv.mod_revision, kv.version),
            (Revision(5), Revision(7), 2)
        );
        assert_eq!((kv.lease, put().position()), (Some(LeaseId(-9)), position()));
    }

    #[test]
    fn blocks_survive_a_round_trip() {
        for record in [put(), Record::tombstone(position(), b"key")] {
            assert_eq!(Record::parse(record.block()), Some(record));
        }
    }

    #[test]
    fn malformed_blocks_are_refused() {
        let good = put().block().to_vec();
        let broken = |at: usize, byte: u8| {
            let mut block = good.clone();
            block[at] = byte;
            Record::parse(&block)
        };
        assert_eq!(Record::parse(&good[..HEADER]), None, "no key");
        assert_eq!(broken(12, 9), None, "a key longer than the block");
        assert_eq!(broken(12, 0), None, "an empty key");
        assert_eq!(broken(16, 8), None, "created after it was changed");
        assert_eq!(broken(24, 0), None, "a tombstone with a value");
    }
}
