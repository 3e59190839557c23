//! The bytes of a segment: headers, records and footers, and nothing about when they are written.
//!
//! A segment is one block of [`DATA_START`] bytes with the segment header, then frames. A frame is
//! what one append wrote; it begins and ends at borders of sectors, so no two frames share a sector:
//!
//! ```text
//! | frame header 64 | record header 40, body | ... | zeros | run 32 | ... | footer 48 |
//! ^ n * 512                                                                 m * 512  ^
//! ```
//!
//! - Numbers are little-endian. Checksums are CRC-32C.
//! - The checksum of every header and footer begins with the log's random name, the segment's number
//!   and the offset in the file: the same bytes anywhere else, in another log or in an earlier use of a
//!   recycled file, are not valid.
//! - Each record's identity is there twice: in its own header, and in the runs at the frame's end.
//!
//! The fields, byte by byte, are in `docs/formats/wal.md`.

use crate::record::Record;

/// The format this release writes, and the highest it reads.
pub(crate) const VERSION: u32 = 1;
/// The unit in which a disk writes: whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// Where the first frame begins.
pub(crate) const DATA_START: u64 = 4096;
/// The largest body of a record.
pub(crate) const MAX_BODY: u64 = 64 << 20;
pub(crate) const MIN_SEGMENT: u64 = 8 << 10;
pub(crate) const MAX_SEGMENT: u64 = 1 << 30;

pub(crate) const SEGMENT_HEADER: usize = 128;
pub(crate) const FRAME_HEADER: usize = 64;
pub(crate) const RECORD_HEADER: usize = 40;
pub(crate) const RUN: usize = 32;
pub(crate) const FOOTER: usize = 48;

const SEGMENT_MAGIC: &[u8; 8] = b"QUORWAL\n";
const FRAME_MAGIC: &[u8; 4] = b"QFRM";
const RECORD_MAGIC: &[u8; 3] = b"QRE";
const FOOTER_MAGIC: &[u8; 4] = b"QEND";

/// The number of a segment: higher is later, and none is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId(pub(crate) u32);

impl SegmentId {
    pub(crate) const FIRST: SegmentId = SegmentId(1);

    /// `None` when the numbers have run out.
    pub(crate) fn next(self) -> Option<SegmentId> {
        self.0.checked_add(1).map(SegmentId)
    }
}

/// Where something stands: the log, the segment, and the offset in the segment's file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) wal_id: u128,
    pub(crate) segment: SegmentId,
    pub(crate) offset: u64,
}

impl Place {
    pub(crate) fn plus(self, bytes: usize) -> Place {
        Place {
            offset: self.offset + bytes as u64,
            ..self
        }
    }

    /// The checksum of `bytes` standing here.
    fn crc(self, bytes: &[u8]) -> u32 {
        let mut place = [0; 32];
        place[..16].copy_from_slice(&self.wal_id.to_le_bytes());
        put_u64(&mut place, 16, u64::from(self.segment.0));
        put_u64(&mut place, 24, self.offset);
        crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
    }
}

/// The first bytes of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) wal_id: u128,
    pub(crate) segment: SegmentId,
    /// The file's length when it was made.
    pub(crate) length: u64,
    /// The number of its first frame. All frames before were durable when this was written.
    pub(crate) first_frame: u64,
    /// Stands for the whole frame before.
    pub(crate) chain: u32,
    /// The lowest segment that was needed when this was written.
    pub(crate) floor: SegmentId,
}

/// Why the first bytes of a file are not a segment header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    NotASegment,
    Checksum,
    Newer(u32),
    Nonsense,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut buf = [0; SEGMENT_HEADER];
        buf[..8].copy_from_slice(SEGMENT_MAGIC);
        put_u32(&mut buf, 8, VERSION);
        buf[16..32].copy_from_slice(&self.wal_id.to_le_bytes());
        put_u64(&mut buf, 32, u64::from(self.segment.0));
        put_u64(&mut buf, 40, self.length);
        put_u64(&mut buf, 48, self.first_frame);
        put_u32(&mut buf, 56, self.chain);
        put_u64(&mut buf, 64, u64::from(self.floor.0));
        let crc = crc32c::crc32c(&buf[..SEGMENT_HEADER - 4]);
        put_u32(&mut buf, SEGMENT_HEADER - 4, crc);
        buf
    }

    /// The place of the checksum is the same in every version, so rot is never taken for a newer one.
    pub(crate) fn decode(buf: &[u8; SEGMENT_HEADER]) -> Result<SegmentHeader, BadHeader> {
        if &buf[..8] != SEGMENT_MAGIC {
            return Err(BadHeader::NotASegment);
        }
        if get_u32(buf, SEGMENT_HEADER - 4) != crc32c::crc32c(&buf[..SEGMENT_HEADER - 4]) {
            return Err(BadHeader::Checksum);
        }
        match get_u32(buf, 8) {
            VERSION => SegmentHeader::decode_fields(buf).ok_or(BadHeader::Nonsense),
            0 => Err(BadHeader::Nonsense),
            newer => Err(BadHeader::Newer(newer)),
        }
    }

    fn decode_fields(buf: &[u8; SEGMENT_HEADER]) -> Option<SegmentHeader> {
        let mut wal_id = [0; 16];
        wal_id.copy_from_slice(&buf[16..32]);
        let header = SegmentHeader {
            wal_id: u128::from_le_bytes(wal_id),
            segment: segment_id(get_u64(buf, 32))?,
            length: get_u64(buf, 40),
            first_frame: get_u64(buf, 48),
            chain: get_u32(buf, 56),
            floor: segment_id(get_u64(buf, 64))?,
        };
        let sane = (MIN_SEGMENT..=MAX_SEGMENT).contains(&header.length) && header.first_frame > 0;
        sane.then_some(header)
    }
}

/// The first bytes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// From here to the end of the footer, in bytes: a multiple of [`SECTOR`].
    pub(crate) length: u32,
    /// Counts frames from 1, over all segments.
    pub(crate) frame: u64,
    /// All frames up to this number were durable before this one was written.
    pub(crate) synced: u64,
    /// The lowest segment that was needed when this was written.
    pub(crate) floor: SegmentId,
    pub(crate) records: u32,
    /// Stands for the whole frame before.
    pub(crate) chain: u32,
    /// This header's own checksum.
    pub(crate) crc: u32,
}

impl FrameHeader {
    /// Writes the header and fills in its checksum.
    pub(crate) fn encode(&mut self, place: Place, buf: &mut [u8]) {
        buf[..4].copy_from_slice(FRAME_MAGIC);
        put_u32(buf, 4, self.length);
        put_u64(buf, 8, u64::from(place.segment.0));
        put_u64(buf, 16, place.offset);
        put_u64(buf, 24, self.frame);
        put_u64(buf, 32, self.synced);
        put_u64(buf, 40, u64::from(self.floor.0));
        put_u32(buf, 48, self.records);
        put_u32(buf, 52, self.chain);
        put_u32(buf, 56, 0);
        self.crc = place.crc(&buf[..FRAME_HEADER - 4]);
        put_u32(buf, FRAME_HEADER - 4, self.crc);
    }

    /// `None` if these bytes are not a frame header of this log, segment and offset.
    pub(crate) fn decode(place: Place, buf: &[u8]) -> Option<FrameHeader> {
        let crc = get_u32(buf, FRAME_HEADER - 4);
        if &buf[..4] != FRAME_MAGIC || place.crc(&buf[..FRAME_HEADER - 4]) != crc {
            return None;
        }
        Some(FrameHeader {
            length: get_u32(buf, 4),
            frame: get_u64(buf, 24),
            synced: get_u64(buf, 32),
            floor: segment_id(get_u64(buf, 40))?,
            records: get_u32(buf, 48),
            chain: get_u32(buf, 52),
            crc,
        })
    }
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry = 1,
    State = 2,
    Reset = 3,
    Compact = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Entry, Kind::State, Kind::Reset, Kind::Compact]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A record's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    pub(crate) group: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) body_crc: u32,
}

impl RecordHeader {
    pub(crate) fn of(record: &Record) -> RecordHeader {
        let (kind, group, index, term) = match *record {
            Record::Entry {
                group, index, term, ..
            } => (Kind::Entry, group, index, term),
            Record::State { group, .. } => (Kind::State, group, 0, 0),
            Record::Reset { group, index, term } => (Kind::Reset, group, index, term),
            Record::Compact { group, index, term } => (Kind::Compact, group, index, term),
        };
        let body = body(record);
        let length = u32::try_from(body.len()).expect("append refuses bodies over MAX_BODY");
        RecordHeader {
            kind,
            length,
            group,
            index,
            term,
            body_crc: crc32c::crc32c(body),
        }
    }

    pub(crate) fn encode(&self, place: Place) -> [u8; RECORD_HEADER] {
        let mut buf = [0; RECORD_HEADER];
        buf[..3].copy_from_slice(RECORD_MAGIC);
        buf[3] = self.kind as u8;
        put_u32(&mut buf, 4, self.length);
        put_u64(&mut buf, 8, self.group);
        put_u64(&mut buf, 16, self.index);
        put_u64(&mut buf, 24, self.term);
        put_u32(&mut buf, 32, self.body_crc);
        let crc = place.crc(&buf[..RECORD_HEADER - 4]);
        put_u32(&mut buf, RECORD_HEADER - 4, crc);
        buf
    }

    /// `None` if these bytes are not a record header of this log, segment and offset.
    pub(crate) fn decode(place: Place, buf: &[u8]) -> Option<RecordHeader> {
        let crc = get_u32(buf, RECORD_HEADER - 4);
        if &buf[..3] != RECORD_MAGIC || place.crc(&buf[..RECORD_HEADER - 4]) != crc {
            return None;
        }
        Some(RecordHeader {
            kind: Kind::from_byte(buf[3])?,
            length: get_u32(buf, 4),
            group: get_u64(buf, 8),
            index: get_u64(buf, 16),
            term: get_u64(buf, 24),
            body_crc: get_u32(buf, 32),
        })
    }
}

/// The bytes a record carries besides its identity.
pub(crate) fn body(record: &Record) -> &[u8] {
    match record {
        Record::Entry { body, .. } | Record::State { body, .. } => body,
        Record::Reset { .. } | Record::Compact { .. } => &[],
    }
}

/// The second copy of identities: `count` entries of one group and term with indexes that follow each
/// other, or one record of another kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) group: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
}

impl Run {
    pub(crate) fn starting(header: &RecordHeader) -> Run {
        let RecordHeader {
            kind,
            group,
            index,
            term,
            ..
        } = *header;
        Run {
            kind,
            count: 1,
            group,
            index,
            term,
        }
    }

    /// Takes a record into this run if it continues it.
    pub(crate) fn extend(&mut self, header: &RecordHeader) -> bool {
        let continues = self.kind == Kind::Entry
            && header.kind == Kind::Entry
            && (header.group, header.term) == (self.group, self.term)
            && self.index.checked_add(u64::from(self.count)) == Some(header.index);
        self.count += u32::from(continues);
        continues
    }

    pub(crate) fn encode(&self, buf: &mut [u8]) {
        put_u32(buf, 0, self.kind as u32);
        put_u32(buf, 4, self.count);
        put_u64(buf, 8, self.group);
        put_u64(buf, 16, self.index);
        put_u64(buf, 24, self.term);
    }
}

/// The last bytes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    /// As in the frame's header.
    pub(crate) length: u32,
    /// As in the frame's header.
    pub(crate) frame: u64,
    /// As in the frame's header.
    pub(crate) synced: u64,
    /// As in the frame's header.
    pub(crate) records: u32,
    pub(crate) runs: u32,
    /// The checksum of all record headers, without their own checksums, one after the other.
    pub(crate) digest: u32,
    pub(crate) runs_crc: u32,
}

impl Footer {
    pub(crate) fn encode(&self, place: Place, buf: &mut [u8]) {
        buf[..4].copy_from_slice(FOOTER_MAGIC);
        put_u32(buf, 4, self.length);
        put_u64(buf, 8, self.frame);
        put_u64(buf, 16, self.synced);
        put_u32(buf, 24, self.records);
        put_u32(buf, 28, self.runs);
        put_u32(buf, 32, self.digest);
        put_u32(buf, 36, self.runs_crc);
        put_u32(buf, 40, 0);
        let crc = place.crc(&buf[..FOOTER - 4]);
        put_u32(buf, FOOTER - 4, crc);
    }

    /// `None` if these bytes are not a footer of this log, segment and offset.
    pub(crate) fn decode(place: Place, buf: &[u8]) -> Option<Footer> {
        let crc = get_u32(buf, FOOTER - 4);
        if &buf[..4] != FOOTER_MAGIC || place.crc(&buf[..FOOTER - 4]) != crc {
            return None;
        }
        Some(Footer {
            length: get_u32(buf, 4),
            frame: get_u64(buf, 8),
            synced: get_u64(buf, 16),
            records: get_u32(buf, 24),
            runs: get_u32(buf, 28),
            digest: get_u32(buf, 32),
            runs_crc: get_u32(buf, 36),
        })
    }
}

fn segment_id(number: u64) -> Option<SegmentId> {
    u32::try_from(number).ok().map(SegmentId)
}

pub(crate) fn put_u32(buf: &mut [u8], at: usize, value: u32) {
    buf[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(buf: &mut [u8], at: usize, value: u64) {
    buf[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn get_u32(buf: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&buf[at..at + 4]);
    u32::from_le_bytes(bytes)
}

pub(crate) fn get_u64(buf: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&buf[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Sizes in memory; every one of them has been bounded far below this.
pub(crate) fn size(value: u64) -> usize {
    usize::try_from(value).expect("sizes are bounded by MAX_SEGMENT")
}
