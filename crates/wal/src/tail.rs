//! The last segment of a log that is being opened: reading it through a window, and making durable
//! what was found in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{DiskFile, read_exact_at};
use crate::layout::{DATA_START, SegmentHeader, SegmentId, size};
use crate::recovery::Recovery;
use crate::segment::{Refused, SegmentDir, Trying};
use crate::wal::{Active, next_id};

/// Reads a file in large pieces.
pub(crate) struct Window {
    file: Arc<dyn DiskFile>,
    /// Where the file ends.
    length: u64,
    start: u64,
    buf: Vec<u8>,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn DiskFile>, length: u64) -> Window {
        Window {
            file,
            length,
            start: 0,
            buf: Vec::new(),
        }
    }

    /// `len` bytes at `offset`; `None` if the file ends before.
    pub(crate) fn get(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if self.length.saturating_sub(offset) < len as u64 {
            return Ok(None);
        }
        if offset < self.start || self.start + (self.buf.len() as u64) < offset + len as u64 {
            self.load(offset, len.max(PIECE))?;
        }
        let at = size(offset - self.start);
        Ok(Some(&self.buf[at..at + len]))
    }

    fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        self.buf.resize(len.min(size(self.length - offset)), 0);
        self.start = offset;
        read_exact_at(&*self.file, offset, &mut self.buf)
    }
}

const PIECE: usize = 1 << 20;

/// The last segment, as it was found.
pub(crate) struct Tail {
    pub(crate) id: SegmentId,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    /// How long the file was made.
    pub(crate) length: u64,
    /// Where the last whole frame ends.
    pub(crate) end: u64,
    /// Where the first frame begins that is not known to be durable.
    pub(crate) rewrite_from: u64,
    /// Whether there is nothing but zeros behind the end.
    pub(crate) blank: bool,
}

impl Tail {
    /// Makes the frames durable that may be in the cache only: after a sync that failed they are there,
    /// look clean, and are never written unless somebody writes them again.
    fn rewrite(&self) -> io::Result<()> {
        if self.rewrite_from == self.end {
            return Ok(());
        }
        let mut at = self.rewrite_from;
        while at < self.end {
            let mut piece = vec![0; PIECE.min(size(self.end - at))];
            read_exact_at(&*self.file, at, &mut piece)?;
            self.file.write_at(at, &piece)?;
            at += piece.len() as u64;
        }
        self.file.sync_data()
    }

    /// Gives back the room behind the end, which is of no more use once there is a next segment.
    fn shorten(&self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_data()
    }

    fn into_active(self) -> Active {
        Active {
            segment: self.id,
            file: self.file,
            length: self.length,
            offset: self.end,
        }
    }
}

impl Recovery {
    /// Makes durable what was found, and returns where to go on.
    pub(crate) fn settle(&mut self, dir: &mut SegmentDir, segment_bytes: u64) -> Result<Active, Refused> {
        if !self.leftovers.is_empty() {
            dir.retire(&self.leftovers)?;
        }
        let Some(tail) = self.tail.take() else {
            return self.begin(dir, SegmentId::FIRST, segment_bytes);
        };
        tail.rewrite().trying("write", &tail.path)?;
        if tail.blank {
            return Ok(tail.into_active());
        }
        let active = self.begin(dir, next_id(tail.id, dir)?, segment_bytes)?;
        tail.shorten().trying("shorten", &tail.path)?;
        Ok(active)
    }

    fn begin(&mut self, dir: &mut SegmentDir, segment: SegmentId, length: u64) -> Result<Active, Refused> {
        let header = SegmentHeader {
            wal_id: self.wal_id,
            segment,
            length,
            first_frame: self.next_frame,
            chain: self.chain,
            floor: self.index.segments.keys().next().copied().unwrap_or(segment),
        };
        let file = dir.create(&header)?;
        self.index.segments.insert(segment, file.clone());
        Ok(Active {
            segment,
            file,
            length,
            offset: DATA_START,
        })
    }
}
