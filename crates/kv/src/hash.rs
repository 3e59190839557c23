//! A checksum of the keyspace that members compare.

use crate::record::Position;
use crate::{Error, Keyspace, Revision};

/// The checksum of everything readable up to a revision.
///
/// Equal on all members whose `revision` and `compacted` are equal, however far each has come with removing
/// compacted versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C of `"key"`, then of every version in order of revision: its numbers, key and value. Versions
    /// before the compacted revision count only if they are still what a read there sees.
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
        let records = self.store.log.from(Position::start_of(Revision(0)));
        let hash = records
            .take_while(|record| record.revision() <= revision)
            .filter(|record| record.revision() > compacted || self.store.is_state_at(compacted, record))
            .fold(crc32c::crc32c(b"key"), |crc, record| {
                crc32c::crc32c_append(crc, record.block())
            });
        Ok(HashKv {
            hash,
            revision,
            compacted,
        })
    }
}
