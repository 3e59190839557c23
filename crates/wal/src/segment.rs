//! Segment files: their names, how one is made, and how one is taken out of use.
//!
//! - A segment is visible under its name only when its header is durable, and the directory is synced
//!   before anything is written behind the header.
//! - A segment that is no longer needed is renamed to a spare and used again under a new number. Its
//!   old bytes stay in it; they are valid for the old number only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::layout::{DATA_START, SEGMENT_HEADER, SegmentHeader, SegmentId, size};

/// The directory of a log.
pub(crate) struct SegmentDir {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    /// Spare files, any of which can become a segment.
    spares: Vec<PathBuf>,
    max_spares: usize,
}

/// An operation that the disk refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) action: &'static str,
    pub(crate) file: PathBuf,
    pub(crate) source: io::Error,
}

/// Names what was tried on which file when it fails.
pub(crate) trait Trying<T> {
    fn trying(self, action: &'static str, file: &Path) -> Result<T, Refused>;
}

impl<T> Trying<T> for io::Result<T> {
    fn trying(self, action: &'static str, file: &Path) -> Result<T, Refused> {
        self.map_err(|source| Refused {
            action,
            file: file.to_owned(),
            source,
        })
    }
}

/// What a directory was found to hold.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) segments: Vec<SegmentId>,
    spares: Vec<PathBuf>,
    /// A file that never became a segment.
    unfinished: Option<PathBuf>,
}

impl Listing {
    /// Segments that a crash kept from being let go, and those without a gap up to the last.
    pub(crate) fn split_at_gap(&self) -> (&[SegmentId], &[SegmentId]) {
        let follows = |pair: &[SegmentId]| pair[0].next() == Some(pair[1]);
        let gap = self.segments.windows(2).rposition(|pair| !follows(pair));
        self.segments.split_at(gap.map_or(0, |before| before + 1))
    }

    pub(crate) fn has_spares(&self) -> bool {
        !self.spares.is_empty()
    }
}

impl SegmentDir {
    /// Uses `path`, which is made durably if it is not there.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path, max_spares: usize) -> Result<SegmentDir, Refused> {
        disk.create_dir(path).trying("create", path)?;
        for dir in path.ancestors().skip(1) {
            disk.sync_dir(dir).trying("sync", dir)?;
        }
        Ok(SegmentDir {
            disk,
            path: path.to_owned(),
            spares: Vec::new(),
            max_spares,
        })
    }

    /// Looks, and changes nothing. Names that are none of ours are passed over.
    pub(crate) fn list(&self) -> Result<Listing, Refused> {
        let mut listing = Listing::default();
        for name in self.disk.list(&self.path).trying("list", &self.path)? {
            if let Some(segment) = parse_name(&name, "") {
                listing.segments.push(segment);
            } else if parse_name(&name, SPARE_PREFIX).is_some() {
                listing.spares.push(self.path.join(name));
            } else if name == UNFINISHED {
                listing.unfinished = Some(self.path.join(name));
            }
        }
        listing.segments.sort();
        Ok(listing)
    }

    /// After a recovery: takes over the spares and removes what was never finished.
    pub(crate) fn adopt(&mut self, listing: Listing) -> Result<(), Refused> {
        self.spares = listing.spares;
        if let Some(file) = listing.unfinished {
            self.disk.remove(&file).trying("remove", &file)?;
        }
        self.drop_surplus()?;
        self.sync()
    }

    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }

    pub(crate) fn file_of(&self, segment: SegmentId) -> PathBuf {
        self.path.join(file_name(segment))
    }

    /// Makes a segment. Everything in the log before it must be durable.
    pub(crate) fn create(&mut self, header: &SegmentHeader) -> Result<Arc<dyn DiskFile>, Refused> {
        let (draft, mode) = match self.spares.pop() {
            Some(spare) => (spare, OpenMode::ReadWrite),
            None => (self.path.join(UNFINISHED), OpenMode::CreateNew),
        };
        let file = self.disk.open(&draft, mode).trying("open", &draft)?;
        fill(&*file, header).trying("write", &draft)?;
        let to = self.file_of(header.segment);
        self.disk.rename(&draft, &to).trying("rename", &draft)?;
        self.sync()?;
        Ok(file)
    }

    /// Takes segments out of use, lowest first. Nothing in them may be needed any more.
    pub(crate) fn retire(&mut self, segments: &[SegmentId]) -> Result<(), Refused> {
        for segment in segments {
            let from = self.file_of(*segment);
            let to = self.path.join(name(*segment, SPARE_PREFIX));
            self.disk.rename(&from, &to).trying("rename", &from)?;
            self.spares.push(to);
        }
        self.drop_surplus()?;
        self.sync()
    }

    fn drop_surplus(&mut self) -> Result<(), Refused> {
        while self.spares.len() > self.max_spares {
            let file = self.spares.remove(0);
            self.disk.remove(&file).trying("remove", &file)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Refused> {
        self.disk.sync_dir(&self.path).trying("sync", &self.path)
    }
}

/// Gives a file the length and the header of a segment, durably.
fn fill(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<()> {
    if file.len()? > header.length {
        file.set_len(header.length)?;
    }
    file.allocate(header.length)?;
    let mut block = vec![0; size(DATA_START)];
    block[..SEGMENT_HEADER].copy_from_slice(&header.encode());
    file.write_at(0, &block)?;
    file.sync_data()
}

const UNFINISHED: &str = "unfinished.tmp";
const SPARE_PREFIX: &str = "spare-";
const SUFFIX: &str = ".wal";

/// The name of a segment's file.
pub(crate) fn file_name(segment: SegmentId) -> String {
    name(segment, "")
}

fn name(segment: SegmentId, prefix: &str) -> String {
    format!("{prefix}{:08x}{SUFFIX}", segment.0)
}

fn parse_name(text: &str, prefix: &str) -> Option<SegmentId> {
    let digits = text.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
    let segment = SegmentId(u32::from_str_radix(digits, 16).ok()?);
    // Only the one spelling that we write.
    (name(segment, prefix) == text).then_some(segment)
}
