//! Frames: building one from records, and taking one apart.
//!
//! - Building copies each body once, into one buffer that is used again, and is one write.
//! - Taking apart trusts nothing: it says what is wrong, where, and whether the sectors there are known
//!   to have been written.

use std::ops::Range;

use crate::layout::{
    FOOTER, FRAME_HEADER, Footer, FrameHeader, Place, RECORD_HEADER, RUN, RecordHeader, Run, SECTOR, body,
    size,
};
use crate::record::Record;

/// What a frame says about itself besides its records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) frame: u64,
    pub(crate) synced: u64,
    pub(crate) floor: crate::layout::SegmentId,
    pub(crate) chain: u32,
}

/// Builds one frame after the other in the same buffer.
pub(crate) struct FrameBuilder {
    place: Place,
    buf: Vec<u8>,
    runs: Vec<Run>,
    records: u32,
    digest: u32,
}

impl FrameBuilder {
    /// A builder whose first frame will stand at `place`.
    pub(crate) fn new(place: Place) -> FrameBuilder {
        let buf = vec![0; FRAME_HEADER];
        FrameBuilder {
            place,
            buf,
            runs: Vec::new(),
            records: 0,
            digest: 0,
        }
    }

    /// Begins a frame that will stand at `place`.
    pub(crate) fn begin(&mut self, place: Place) {
        self.place = place;
        self.buf.truncate(FRAME_HEADER);
        self.buf.shrink_to(KEPT_BUFFER);
        self.runs.clear();
        self.records = 0;
        self.digest = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Where the next record would stand in the file.
    pub(crate) fn next_offset(&self) -> u64 {
        self.place.offset + self.buf.len() as u64
    }

    /// How long the frame would be with a record of `body_len` bytes more.
    pub(crate) fn len_with(&self, body_len: usize) -> usize {
        frame_len(
            self.buf.len() - FRAME_HEADER + RECORD_HEADER + body_len,
            self.runs.len() + 1,
        )
    }

    /// Adds a record; returns the header it was given.
    pub(crate) fn push(&mut self, record: &Record) -> RecordHeader {
        let header = RecordHeader::of(record);
        let bytes = header.encode(self.place.plus(self.buf.len()));
        self.buf.extend_from_slice(&bytes);
        self.buf.extend_from_slice(body(record));
        self.digest = digest_with(self.digest, &bytes);
        if !self.runs.last_mut().is_some_and(|run| run.extend(&header)) {
            self.runs.push(Run::starting(&header));
        }
        self.records += 1;
        header
    }

    /// Completes the frame; returns its bytes and what the next frame chains to.
    pub(crate) fn finish(&mut self, stamp: Stamp) -> (&[u8], u32) {
        let total = frame_len(self.buf.len() - FRAME_HEADER, self.runs.len());
        self.buf.resize(total, 0);
        let length = u32::try_from(total).expect("a frame fits into a segment");
        let Stamp {
            frame,
            synced,
            floor,
            chain,
        } = stamp;
        self.put_end(Footer {
            length,
            frame,
            synced,
            records: self.records,
            runs: u32::try_from(self.runs.len()).expect("no more runs than records"),
            digest: self.digest,
            runs_crc: 0,
        });
        let mut header = FrameHeader {
            length,
            frame,
            synced,
            floor,
            records: self.records,
            chain,
            crc: 0,
        };
        header.encode(self.place, &mut self.buf);
        (&self.buf, chain_after(&header, self.digest))
    }

    fn put_end(&mut self, mut footer: Footer) {
        let end = self.buf.len() - FOOTER;
        let runs_start = end - self.runs.len() * RUN;
        for (run, buf) in self
            .runs
            .iter()
            .zip(self.buf[runs_start..end].chunks_exact_mut(RUN))
        {
            run.encode(buf);
        }
        footer.runs_crc = crc32c::crc32c(&self.buf[runs_start..end]);
        footer.encode(self.place.plus(end), &mut self.buf[end..]);
    }
}

/// A buffer that one large batch made larger than this is given back.
const KEPT_BUFFER: usize = 4 << 20;

/// The length of a frame whose records, with their headers, take `content` bytes.
pub(crate) fn frame_len(content: usize, runs: usize) -> usize {
    (FRAME_HEADER + content + runs * RUN + FOOTER).next_multiple_of(SECTOR)
}

/// The digest of record headers, continued by one more. Their own checksums are left out: what ends in
/// its checksum has the same checksum whatever it says.
fn digest_with(digest: u32, record_header: &[u8]) -> u32 {
    crc32c::crc32c_append(digest, &record_header[..RECORD_HEADER - 4])
}

/// What the frame after this one must give as its chain: it stands for the frame's header and for the
/// identity and the body of every record.
fn chain_after(header: &FrameHeader, digest: u32) -> u32 {
    crc32c::crc32c_append(header.crc, &digest.to_le_bytes())
}

/// What a whole frame holds.
pub(crate) struct Contents {
    pub(crate) records: Vec<Found>,
    /// The chain of the next frame.
    pub(crate) next_chain: u32,
}

/// A record found in a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) header: RecordHeader,
    /// Where its header begins in the frame.
    pub(crate) start: usize,
    /// Where its body is in the frame.
    pub(crate) body: Range<usize>,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    /// Where the wrong bytes begin in the frame.
    pub(crate) at: usize,
    pub(crate) cause: Cause,
}

/// What may have made a frame wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A sector that never reached the disk, or rot.
    TornOrRot,
    /// Rot, or a bug: every sector concerned is known to have been written.
    Rot,
}

/// Takes a frame apart that has a valid header. `frame` is as long as the header says.
pub(crate) fn open_frame(place: Place, header: &FrameHeader, frame: &[u8]) -> Result<Contents, Fault> {
    Opener {
        place,
        header,
        frame,
        written: vec![false; frame.len() / SECTOR],
    }
    .open()
}

/// What going through the records of a frame showed.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    /// See [`digest_with`].
    digest: u32,
    /// The first body whose checksum is wrong.
    bad_body: Option<Range<usize>>,
}

struct Opener<'a> {
    place: Place,
    header: &'a FrameHeader,
    frame: &'a [u8],
    /// The sectors that hold a valid header or footer as a whole. A sector is written whole or not at
    /// all, so what is wrong in such a sector did not get wrong by being torn.
    written: Vec<bool>,
}

impl Opener<'_> {
    fn open(mut self) -> Result<Contents, Fault> {
        self.mark_written(0, FRAME_HEADER);
        let footer_at = self.frame.len() - FOOTER;
        let footer = Footer::decode(self.place.plus(footer_at), &self.frame[footer_at..]);
        if footer.is_some() {
            self.mark_written(footer_at, FOOTER);
        }
        let Walk {
            found,
            digest,
            bad_body,
        } = self.walk()?;
        if let Some(bad) = bad_body {
            return Err(self.unreadable("the checksum of a record's body is wrong", bad));
        }
        let footer = footer
            .ok_or_else(|| self.unreadable("the frame's footer is wrong", footer_at..self.frame.len()))?;
        self.check_footer(&footer, footer_at, digest)?;
        self.check_runs(&footer, footer_at, &found)?;
        Ok(Contents {
            records: found,
            next_chain: chain_after(self.header, digest),
        })
    }

    fn walk(&mut self) -> Result<Walk, Fault> {
        let mut walk = Walk::default();
        let mut at = FRAME_HEADER;
        for _ in 0..self.header.records {
            let record = self.record_at(at)?;
            walk.digest = digest_with(walk.digest, &self.frame[at..at + RECORD_HEADER]);
            at = record.body.end;
            let sound = crc32c::crc32c(&self.frame[record.body.clone()]) == record.header.body_crc;
            if !sound && walk.bad_body.is_none() {
                walk.bad_body = Some(record.body.clone());
            }
            walk.found.push(record);
        }
        Ok(walk)
    }

    fn record_at(&mut self, at: usize) -> Result<Found, Fault> {
        let limit = self.frame.len() - FOOTER;
        if limit < at + RECORD_HEADER {
            return Err(self.contradiction("there are more records than fit", at));
        }
        let bytes = &self.frame[at..at + RECORD_HEADER];
        let Some(header) = RecordHeader::decode(self.place.plus(at), bytes) else {
            return Err(self.unreadable("the header of a record is wrong", at..at + RECORD_HEADER));
        };
        self.mark_written(at, RECORD_HEADER);
        let start = at + RECORD_HEADER;
        let end = start + size(u64::from(header.length));
        if limit < end {
            return Err(self.contradiction("a record is longer than its frame", at));
        }
        Ok(Found {
            header,
            start: at,
            body: start..end,
        })
    }

    fn check_footer(&self, footer: &Footer, at: usize, digest: u32) -> Result<(), Fault> {
        let header = self.header;
        let same = (footer.length, footer.frame, footer.synced, footer.records)
            == (header.length, header.frame, header.synced, header.records);
        if !same || footer.digest != digest {
            return Err(self.contradiction("the frame's footer and its header disagree", at));
        }
        Ok(())
    }

    fn check_runs(&self, footer: &Footer, end: usize, found: &[Found]) -> Result<(), Fault> {
        let last = found.last().map_or(FRAME_HEADER, |record| record.body.end);
        let len = size(u64::from(footer.runs)) * RUN;
        let Some(start) = end.checked_sub(len).filter(|start| last <= *start) else {
            return Err(self.contradiction("the frame's runs overlap its records", end));
        };
        let bytes = &self.frame[start..end];
        if crc32c::crc32c(bytes) != footer.runs_crc {
            return Err(self.unreadable("the checksum of the frame's runs is wrong", start..end));
        }
        if encode_runs(found) != bytes {
            return Err(self.contradiction("the frame's runs and its records disagree", start));
        }
        Ok(())
    }

    fn mark_written(&mut self, at: usize, len: usize) {
        let (first, last) = (at / SECTOR, (at + len - 1) / SECTOR);
        if first == last {
            self.written[first] = true;
        }
    }

    fn unreadable(&self, what: &'static str, bytes: Range<usize>) -> Fault {
        let at = bytes.start;
        let sectors = at / SECTOR..bytes.end.div_ceil(SECTOR);
        let written = self.written[sectors].iter().all(|written| *written);
        let cause = if written && !self.is_blank_from(bytes.end - 1) {
            Cause::Rot
        } else {
            Cause::TornOrRot
        };
        Fault { what, at, cause }
    }

    /// A frame that is sound up to a point and blank from there on was being written, even where a disk
    /// writes less than a sector at once.
    fn is_blank_from(&self, at: usize) -> bool {
        self.frame[at..].iter().all(|byte| *byte == 0)
    }

    /// Valid pieces that do not fit together: each place of a segment is written once, so no tear
    /// makes this.
    fn contradiction(&self, what: &'static str, at: usize) -> Fault {
        Fault {
            what,
            at,
            cause: Cause::Rot,
        }
    }
}

fn encode_runs(found: &[Found]) -> Vec<u8> {
    let mut runs: Vec<Run> = Vec::new();
    for Found { header, .. } in found {
        if !runs.last_mut().is_some_and(|run| run.extend(header)) {
            runs.push(Run::starting(header));
        }
    }
    let mut bytes = vec![0; runs.len() * RUN];
    for (run, buf) in runs.iter().zip(bytes.chunks_exact_mut(RUN)) {
        run.encode(buf);
    }
    bytes
}
