//! Reading entries, from any thread, while the log is written.
//!
//! - Places are looked up under a lock that is held for no I/O; the bytes are then read without it.
//! - What was read is checked against the record's checksums and against the index: group, index, term
//!   and body are those that were appended, or there is an error.
//! - Meanwhile the entry may have been replaced, or its segment recycled. Then the places are looked up
//!   again: only what is wrong although its place still holds is damage.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::disk::{DiskFile, read_exact_at};
use crate::error::ReadError;
use crate::index::{Group, Index, Location};
use crate::layout::{Kind, Place, RECORD_HEADER, RecordHeader, SegmentId, size};
use crate::record::LogId;
use crate::segment::file_name;

/// One entry, as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEntry {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Its body.
    pub body: Bytes,
}

/// Reads entries of the log whose [`crate::Wal::reader`] made it. Cheap to clone, and all its methods
/// can be called from any thread.
#[derive(Clone)]
pub struct Reader {
    index: Arc<RwLock<Index>>,
    dir: PathBuf,
    wal_id: u128,
}

impl Reader {
    pub(crate) fn new(index: Arc<RwLock<Index>>, dir: PathBuf, wal_id: u128) -> Reader {
        Reader { index, dir, wal_id }
    }

    /// The entries of `group` from `from` to `to_inclusive` or to its last, whichever comes first,
    /// without a gap. At least one, then as many as keep their bodies within `max_bytes` together.
    ///
    /// What was appended can be read before it is durable.
    ///
    /// # Errors
    ///
    /// [`ReadError::Compacted`] if `from` is at or before the base, [`ReadError::NotFound`] if it is
    /// past the last entry or past `to_inclusive`; [`ReadError::Damaged`] and [`ReadError::Io`] name
    /// the file.
    pub fn read(
        &self,
        group: u64,
        from: u64,
        to_inclusive: u64,
        max_bytes: u64,
    ) -> Result<Vec<ReadEntry>, ReadError> {
        loop {
            let plan = Plan::make(&self.index.read(), group, from, to_inclusive, max_bytes)?;
            match self.carry_out(group, &plan) {
                Err(_) if !plan.holds(&self.index.read(), group) => {}
                done => return done,
            }
        }
    }

    /// The group's base and its last entry; both zero for a group without records.
    pub fn bounds(&self, group: u64) -> (LogId, LogId) {
        let index = self.index.read();
        index
            .groups
            .get(&group)
            .map_or_else(Default::default, |group| (group.base(), group.last()))
    }

    fn carry_out(&self, group: u64, plan: &Plan) -> Result<Vec<ReadEntry>, ReadError> {
        let mut entries = Vec::with_capacity(plan.wanted.len());
        for stretch in plan
            .wanted
            .chunk_by(|a, b| a.location.end() == b.location.start())
        {
            self.read_stretch(group, plan, stretch, &mut entries)?;
        }
        Ok(entries)
    }

    /// Reads records that stand one after the other, at once.
    fn read_stretch(
        &self,
        group: u64,
        plan: &Plan,
        stretch: &[Wanted],
        entries: &mut Vec<ReadEntry>,
    ) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else {
            return Ok(());
        };
        let (segment, start) = first.location.start();
        let mut bytes = vec![0; size(last.location.end().1 - start)];
        let read = read_exact_at(&*plan.files[&segment], start, &mut bytes);
        read.map_err(|source| ReadError::Io {
            file: self.file_of(segment),
            source,
        })?;
        let mut rest = Bytes::from(bytes);
        for wanted in stretch {
            let record = rest.split_to(RECORD_HEADER + size(u64::from(wanted.location.length)));
            let entry = wanted.open(self.wal_id, group, record);
            entries.push(entry.ok_or_else(|| ReadError::Damaged {
                file: self.file_of(segment),
                offset: u64::from(wanted.location.offset),
            })?);
        }
        Ok(())
    }

    fn file_of(&self, segment: SegmentId) -> PathBuf {
        self.dir.join(file_name(segment))
    }
}

impl Location {
    fn start(&self) -> (SegmentId, u64) {
        (self.segment, u64::from(self.offset))
    }

    fn end(&self) -> (SegmentId, u64) {
        (
            self.segment,
            u64::from(self.offset) + RECORD_HEADER as u64 + u64::from(self.length),
        )
    }
}

/// An entry to read, and where it was when the index was asked.
#[derive(Clone, Copy)]
struct Wanted {
    id: LogId,
    location: Location,
}

impl Wanted {
    /// `None` if `record` is not this entry.
    fn open(&self, wal_id: u128, group: u64, record: Bytes) -> Option<ReadEntry> {
        let (segment, offset) = self.location.start();
        let header = RecordHeader::decode(
            Place {
                wal_id,
                segment,
                offset,
            },
            &record[..RECORD_HEADER],
        )?;
        let LogId { index, term } = self.id;
        let Location { length, body_crc, .. } = self.location;
        let expected = RecordHeader {
            kind: Kind::Entry,
            length,
            group,
            index,
            term,
            body_crc,
        };
        let body = record.slice(RECORD_HEADER..);
        let sound = header == expected && crc32c::crc32c(&body) == body_crc;
        sound.then_some(ReadEntry { index, term, body })
    }
}

/// What to read from where.
struct Plan {
    wanted: Vec<Wanted>,
    files: BTreeMap<SegmentId, Arc<dyn DiskFile>>,
}

impl Plan {
    fn make(index: &Index, group: u64, from: u64, to: u64, max_bytes: u64) -> Result<Plan, ReadError> {
        let nothing = Group::default();
        let group = index.groups.get(&group).unwrap_or(&nothing);
        if from <= group.base().index {
            return Err(ReadError::Compacted { base: group.base() });
        }
        let mut plan = Plan {
            wanted: Vec::new(),
            files: BTreeMap::new(),
        };
        let mut bytes = 0;
        for at in from..=to {
            let Some((term, location)) = group.entry(at) else {
                break;
            };
            bytes += u64::from(location.length);
            if bytes > max_bytes && !plan.wanted.is_empty() {
                break;
            }
            plan.wanted.push(Wanted {
                id: LogId::new(at, term),
                location,
            });
            plan.files
                .entry(location.segment)
                .or_insert_with(|| index.segments[&location.segment].clone());
        }
        if plan.wanted.is_empty() {
            return Err(ReadError::NotFound {
                index: from,
                last: group.last(),
            });
        }
        Ok(plan)
    }

    /// Whether every entry is still where it was.
    fn holds(&self, index: &Index, group: u64) -> bool {
        let Some(group) = index.groups.get(&group) else {
            return false;
        };
        self.wanted
            .iter()
            .all(|wanted| group.entry(wanted.id.index) == Some((wanted.id.term, wanted.location)))
    }
}
