//! A checksum of the keyspace that members compare.

use crate::{Error, Keyspace, Revision};

/// The checksum of everything readable up to a revision.
///
/// Equal on all members whose `revision` and `compacted` are equal, however far each has come with removing
/// compacted versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C of `"key"`, then of every version by key and revision: its numbers, key and value. Versions
    /// up to the compacted revision count only if they are what a read there sees.
    pub hash: u32,
    /// The revision the checksum is of.
    pub revision: Revision,
    /// The compacted revision.
    pub compacted: Revision,
}

impl Keyspace {
    /// The checksum at a revision, or at the newest. Reads every version: linear in the size of the keyspace.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::FutureRevision`] when the revision is not readable.
    pub fn hash_kv(&self, at: Option<Revision>) -> Result<HashKv, Error> {
        let revision = at.unwrap_or(self.revision());
        self.store.check_readable(revision)?;
        let compacted = self.compacted();
        let mut hash = crc32c::crc32c(b"key");
        for history in self.store.index.from(b"") {
            for record in history.state_and_changes(compacted, revision) {
                hash = crc32c::crc32c_append(hash, record.block());
            }
        }
        Ok(HashKv {
            hash,
            revision,
            compacted,
        })
    }
}
