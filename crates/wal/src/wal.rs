//! The log: appending, syncing, letting go of what is no longer needed.
//!
//! - An append is one write: a frame behind the last. A batch that does not fit into the rest of a
//!   segment goes on in the next, as another frame.
//! - A segment is begun only when everything before it is durable.
//! - Before a segment is let go, the states and bases whose latest copy is in it are written again
//!   and synced.
//! - The first error of the disk ends it: what the file holds after a failed sync is not known, and
//!   trying again can succeed although data is lost.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::admit::Admission;
use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, WalError};
use crate::frame::{FrameBuilder, Stamp, frame_len};
use crate::index::{Effect, Index, Location};
use crate::layout::{
    DATA_START, MAX_BODY, MAX_SEGMENT, MIN_SEGMENT, Place, RECORD_HEADER, SECTOR, SegmentHeader, SegmentId,
    body,
};
use crate::reader::Reader;
use crate::record::{LogId, Record, Recovered};
use crate::recovery::{self, Recovery};
use crate::segment::{Refused, SegmentDir, Trying};

/// How a log is laid out.
#[derive(Debug, Clone)]
pub struct Options {
    /// The size of a segment file in bytes: a multiple of 512 between 8 KiB and 1 GiB. It bounds the
    /// size of a record. An existing log may have segments of other sizes.
    pub segment_bytes: u64,
    /// Names a new log, so that a file of another log is never taken for a part of it: random, and kept
    /// by an existing log.
    pub wal_id: u128,
    /// How many segments that are no longer needed are kept for reuse; the others are removed.
    pub spare_segments: usize,
}

impl Options {
    /// The defaults (segments of 64 MiB, two spares) for a log named `wal_id`.
    pub fn new(wal_id: u128) -> Options {
        Options {
            segment_bytes: 64 << 20,
            wal_id,
            spare_segments: 2,
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        if !(MIN_SEGMENT..=MAX_SEGMENT).contains(&self.segment_bytes) {
            return Err(OpenError::BadOptions(
                "segment_bytes must be between 8 KiB and 1 GiB",
            ));
        }
        if !self.segment_bytes.is_multiple_of(SECTOR as u64) {
            return Err(OpenError::BadOptions("segment_bytes must be a multiple of 512"));
        }
        Ok(())
    }

    /// The largest body that fits: at most 64 MiB, and a segment holds at least one record.
    fn max_body(&self) -> u64 {
        let room = self.segment_bytes - DATA_START - frame_len(RECORD_HEADER, 1) as u64;
        room.min(MAX_BODY)
    }
}

/// Figures about a log since it was opened, except where said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Segment files in use at present.
    pub segments: u64,
    /// Spare segment files at present.
    pub spares: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes written, with headers and padding.
    pub bytes: u64,
    /// Calls of `fdatasync` for appended records.
    pub syncs: u64,
    /// Segments that were let go.
    pub reclaimed: u64,
}

/// The log of all groups of a node. Owned by the one thread that writes it.
pub struct Wal {
    dir: SegmentDir,
    options: Options,
    id: u128,
    index: Arc<RwLock<Index>>,
    active: Active,
    /// The number of the next frame.
    next_frame: u64,
    /// Stands for the last frame.
    chain: u32,
    /// The last frame that is durable.
    synced: u64,
    /// The lowest segment in use.
    floor: SegmentId,
    builder: FrameBuilder,
    /// What the frame being built will do to the index.
    effects: Vec<Effect>,
    /// A base has moved, or a segment was begun, since segments were last let go.
    compacted: bool,
    /// What the first error said.
    failed: Option<String>,
    stats: Stats,
}

/// The segment that is written.
pub(crate) struct Active {
    pub(crate) segment: SegmentId,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) length: u64,
    /// Where the next frame goes.
    pub(crate) offset: u64,
}

impl Wal {
    /// Opens the log in `dir`, or makes a new one if `dir` holds none. Only one at a time may have it
    /// open: see [`crate::DirLock`].
    ///
    /// Everything it returns is durable. An unfinished tail, which no sync covered, is cut off and
    /// reported; anything else that is wrong is an [`OpenError::Damaged`] that changes nothing.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<(Wal, Recovered), OpenError> {
        options.check()?;
        let mut dir = SegmentDir::open(disk, dir, options.spare_segments)?;
        let listing = dir.list()?;
        let recovery = match recovery::read(&dir, &listing)? {
            Some(recovery) => recovery,
            None => Recovery::of_nothing(options.wal_id),
        };
        dir.adopt(listing)?;
        let (cut, recovered) = (recovery.cut.clone(), recovery.index.recovered());
        let wal = Wal::start(dir, options, recovery)?;
        Ok((
            wal,
            Recovered {
                groups: recovered,
                cut,
            },
        ))
    }

    /// Writes records, in order, behind all earlier ones. They can be read at once, but they are durable
    /// only after [`Wal::sync`].
    ///
    /// A record that is refused ([`WalError::TooLarge`], [`WalError::Gap`], [`WalError::BeforeBase`])
    /// leaves the log as it was, without any record of the batch.
    pub fn append(&mut self, records: &[Record]) -> Result<(), WalError> {
        self.check_alive()?;
        self.admit(records)?;
        self.write(records).map_err(|refused| self.fail(refused))
    }

    /// Makes everything appended durable. Then, if a base has moved, lets go of segments that nobody needs.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.check_alive()?;
        self.flush()
            .and_then(|()| self.reclaim())
            .map_err(|refused| self.fail(refused))
    }

    /// A handle that reads entries from any thread while this one writes and syncs.
    pub fn reader(&self) -> Reader {
        Reader::new(self.index.clone(), self.dir.path.clone(), self.id)
    }

    /// The name of this log: [`Options::wal_id`] from when it was made.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// Figures for people.
    pub fn stats(&self) -> Stats {
        let segments = self.index.read().segments.len() as u64;
        Stats {
            segments,
            spares: self.dir.spares() as u64,
            ..self.stats
        }
    }

    fn start(mut dir: SegmentDir, options: Options, mut recovery: Recovery) -> Result<Wal, Refused> {
        let active = recovery.settle(&mut dir, options.segment_bytes)?;
        let place = Place {
            wal_id: recovery.wal_id,
            segment: active.segment,
            offset: active.offset,
        };
        Ok(Wal {
            dir,
            options,
            id: recovery.wal_id,
            floor: recovery
                .index
                .segments
                .keys()
                .next()
                .copied()
                .unwrap_or(active.segment),
            index: Arc::new(RwLock::new(recovery.index)),
            active,
            next_frame: recovery.next_frame,
            chain: recovery.chain,
            synced: recovery.next_frame - 1,
            builder: FrameBuilder::new(place),
            effects: Vec::new(),
            compacted: true,
            failed: None,
            stats: Stats::default(),
        })
    }

    fn check_alive(&self) -> Result<(), WalError> {
        match &self.failed {
            Some(first) => Err(WalError::Poisoned { first: first.clone() }),
            None => Ok(()),
        }
    }

    fn fail(&mut self, refused: Refused) -> WalError {
        let Refused { action, file, source } = refused;
        self.failed = Some(format!("cannot {action} {}: {source}", file.display()));
        WalError::Io { action, file, source }
    }

    fn admit(&self, records: &[Record]) -> Result<(), WalError> {
        let index = self.index.read();
        let mut admission = Admission::new(&index, self.options.max_body());
        records.iter().try_for_each(|record| admission.admit(record))
    }

    fn write(&mut self, records: &[Record]) -> Result<(), Refused> {
        for record in records {
            self.make_room(body(record).len())?;
            self.place(record);
        }
        if self.builder.is_empty() {
            Ok(())
        } else {
            self.write_frame()
        }
    }

    /// Ends the frame, and then the segment, if a body of this size does not fit.
    fn make_room(&mut self, body_len: usize) -> Result<(), Refused> {
        if self.fits(body_len) {
            return Ok(());
        }
        if !self.builder.is_empty() {
            self.write_frame()?;
        }
        if self.fits(body_len) {
            Ok(())
        } else {
            self.next_segment()
        }
    }

    fn fits(&self, body_len: usize) -> bool {
        self.active.offset + self.builder.len_with(body_len) as u64 <= self.active.length
    }

    fn place(&mut self, record: &Record) {
        let offset = u32::try_from(self.builder.next_offset()).expect("segments are at most 1 GiB");
        let header = self.builder.push(record);
        let state = match record {
            Record::State { body, .. } => Some(body.clone()),
            Record::Entry { .. } | Record::Reset { .. } | Record::Compact { .. } => None,
        };
        self.compacted |= matches!(record, Record::Reset { .. } | Record::Compact { .. });
        let location = Location {
            segment: self.active.segment,
            offset,
            length: header.length,
            body_crc: header.body_crc,
        };
        let id = LogId::new(header.index, header.term);
        self.effects.push(Effect {
            kind: header.kind,
            group: header.group,
            id,
            location,
            state,
        });
    }

    /// Writes the frame that was built, and only then lets readers see it.
    fn write_frame(&mut self) -> Result<(), Refused> {
        let stamp = Stamp {
            frame: self.next_frame,
            synced: self.synced,
            floor: self.floor,
            chain: self.chain,
        };
        let (bytes, chain) = self.builder.finish(stamp);
        let (active, len) = (&self.active, bytes.len() as u64);
        assert!(
            active.offset + len <= active.length,
            "a frame of {len} bytes leaves its segment at {}",
            active.offset
        );
        let written = active.file.write_at(active.offset, bytes);
        written.trying("write", &self.dir.file_of(active.segment))?;
        self.stats.records += self.effects.len() as u64;
        self.stats.bytes += len;
        self.active.offset += len;
        self.next_frame += 1;
        self.chain = chain;
        self.begin_frame();
        self.publish();
        Ok(())
    }

    fn begin_frame(&mut self) {
        let Active { segment, offset, .. } = self.active;
        self.builder.begin(Place {
            wal_id: self.id,
            segment,
            offset,
        });
    }

    fn publish(&mut self) {
        let mut index = self.index.write();
        for effect in self.effects.drain(..) {
            if let Err(gap) = index.apply(effect) {
                panic!("an admitted entry {} leaves a gap after {}", gap.index, gap.last);
            }
        }
    }

    fn next_segment(&mut self) -> Result<(), Refused> {
        self.flush()?;
        let segment = next_id(self.active.segment, &self.dir)?;
        let header = SegmentHeader {
            wal_id: self.id,
            segment,
            length: self.options.segment_bytes,
            first_frame: self.next_frame,
            chain: self.chain,
            floor: self.floor,
        };
        let file = self.dir.create(&header)?;
        self.index.write().segments.insert(segment, file.clone());
        self.active = Active {
            segment,
            file,
            length: header.length,
            offset: DATA_START,
        };
        self.compacted = true;
        self.begin_frame();
        Ok(())
    }

    /// Makes all frames durable.
    fn flush(&mut self) -> Result<(), Refused> {
        if self.synced + 1 == self.next_frame {
            return Ok(());
        }
        self.active
            .file
            .sync_data()
            .trying("sync", &self.dir.file_of(self.active.segment))?;
        self.synced = self.next_frame - 1;
        self.stats.syncs += 1;
        Ok(())
    }

    /// Lets go of the segments before the first one that holds an entry still needed.
    fn reclaim(&mut self) -> Result<(), Refused> {
        if !std::mem::take(&mut self.compacted) {
            return Ok(());
        }
        let floor = self.index.read().lowest_needed(self.active.segment);
        if floor <= self.floor {
            return Ok(());
        }
        let carried = self.index.read().carry(floor);
        self.floor = floor;
        self.write(&carried)?;
        if carried.is_empty() {
            // A durable frame must say what the lowest segment is.
            self.make_room(0)?;
            self.write_frame()?;
        }
        self.flush()?;
        self.compacted = false;
        self.retire_below(floor)
    }

    fn retire_below(&mut self, floor: SegmentId) -> Result<(), Refused> {
        let retired: Vec<SegmentId> = {
            let mut index = self.index.write();
            let kept = index.segments.split_off(&floor);
            std::mem::replace(&mut index.segments, kept).into_keys().collect()
        };
        self.stats.reclaimed += retired.len() as u64;
        self.dir.retire(&retired)
    }
}

/// The number after `segment`.
pub(crate) fn next_id(segment: SegmentId, dir: &SegmentDir) -> Result<SegmentId, Refused> {
    let none_left = || std::io::Error::other("all segment numbers have been used");
    segment
        .next()
        .ok_or_else(none_left)
        .trying("begin a segment in", &dir.path)
}
