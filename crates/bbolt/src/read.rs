//! Reading a file that anybody may have made.
//!
//! - Nothing in it is believed: ids, counts, distances and lengths are checked before they are used.
//! - A tree is read a page a level. A page that is reached twice ends the reading, so that no file makes it
//!   go round in circles; memory is bounded by the longest page, and that by the file.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

use crate::layout::{
    BUCKET, BUCKET_HEADER, ELEMENT, MAGIC, META, META_CHECKED, PAGE_HEADER, PageKind, VERSION, fnv, u16_at,
    u32_at, u64_at,
};

/// Bytes that can be read from anywhere.
pub trait ReadAt {
    /// Fills `buf` with what is at `offset`.
    ///
    /// # Errors
    /// When there are not as many bytes, or they cannot be read.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = self.get(start..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}

/// Why a file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system refused.
    #[error("byte {offset} cannot be read: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// Neither of the first two pages says that this is a database.
    #[error("this is not a bbolt database, or both of its first pages are damaged")]
    NotADatabase,
    /// It ends before its last page does.
    #[error("the file is cut off: it says that it has {expected} bytes and has {found}")]
    CutOff {
        /// How long it says it is.
        expected: u64,
        /// How long it is.
        found: u64,
    },
    /// What is in it contradicts itself.
    #[error("page {page} (byte {offset}) is damaged: {what}")]
    Damaged {
        /// The page.
        page: u64,
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A database file.
pub struct Database<R> {
    source: R,
    page_bytes: u64,
    pages: u64,
    root: u64,
}

impl<R: ReadAt> Database<R> {
    /// Opens the first `bytes` bytes of a source as a database.
    ///
    /// # Errors
    /// When they are none, or are cut off.
    pub fn open(source: R, bytes: u64) -> Result<Self, ReadError> {
        let meta = newest_meta(&source, bytes)?;
        let expected = meta.pages.checked_mul(meta.page_bytes);
        match expected {
            Some(expected) if expected <= bytes => Ok(Self {
                source,
                page_bytes: meta.page_bytes,
                pages: meta.pages,
                root: meta.root,
            }),
            Some(_) | None => Err(ReadError::CutOff {
                expected: expected.unwrap_or(u64::MAX),
                found: bytes,
            }),
        }
    }

    /// How many bytes its pages take. The file may be longer.
    pub fn bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// The bucket of all buckets.
    pub fn root(&self) -> Bucket {
        Bucket(Place::Page {
            id: self.root,
            named_by: 0,
        })
    }

    /// A bucket by its name; none if there is none.
    ///
    /// # Errors
    /// When what leads there is damaged.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, ReadError> {
        let mut buckets = self.entries(&self.root())?;
        while let Some(entry) = buckets.next_entry()? {
            if entry.key == name {
                return entry.bucket();
            }
        }
        Ok(None)
    }

    /// What is in a bucket, in the order of its keys.
    ///
    /// # Errors
    /// When its first page is damaged.
    pub fn entries(&self, bucket: &Bucket) -> Result<Entries<'_, R>, ReadError> {
        let mut entries = Entries {
            database: self,
            stack: Vec::new(),
            seen: Seen::default(),
            last: Vec::new(),
            is_first: true,
        };
        let root = match &bucket.0 {
            Place::Page { id, named_by } => entries.load(*id, *named_by)?,
            Place::Inline { page, named_by } => Page::parse(*named_by, self.page_bytes, page.clone())?,
        };
        entries.stack.push(Level { page: root, next: 0 });
        Ok(entries)
    }

    fn damaged(&self, page: u64, what: &'static str) -> ReadError {
        damaged(page, self.page_bytes, what)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let read = self.source.read_exact_at(offset, buf);
        read.map_err(|source| ReadError::Io { offset, source })
    }

    /// Reads a page and those that belong to it.
    fn page(&self, id: u64, named_by: u64) -> Result<Page, ReadError> {
        if id < 2 || id >= self.pages {
            return Err(self.damaged(named_by, "it names a page that there is not"));
        }
        let mut header = [0; PAGE_HEADER];
        self.read(id * self.page_bytes, &mut header)?;
        if u64_at(&header, 0) != id {
            return Err(self.damaged(id, "it has the id of another page"));
        }
        let count = u64::from(u32_at(&header, 12)) + 1;
        if count > self.pages - id {
            return Err(self.damaged(id, "it goes on after the end of the file"));
        }
        let bytes = usize::try_from(count * self.page_bytes);
        let bytes = bytes.map_err(|_| self.damaged(id, "it is longer than this machine's memory"))?;
        let mut page = vec![0; bytes];
        self.read(id * self.page_bytes, &mut page)?;
        Page::parse(id, self.page_bytes, page)
    }
}

/// What pages 0 and 1 say.
struct Meta {
    page_bytes: u64,
    root: u64,
    pages: u64,
    transaction: u64,
}

/// The valid one of the first two pages: where the second begins, only the first says, if it is whole.
fn newest_meta(source: &impl ReadAt, bytes: u64) -> Result<Meta, ReadError> {
    let first = meta_at(source, bytes, 0)?;
    let second = match &first {
        Some(first) => meta_at(source, bytes, first.page_bytes)?,
        None => {
            let mut found = None;
            for shift in 9..=16 {
                let meta = meta_at(source, bytes, 1 << shift)?;
                found = found.or(meta.filter(|meta| meta.page_bytes == 1 << shift));
            }
            found
        }
    };
    let metas = [first, second].into_iter().flatten();
    metas
        .max_by_key(|meta| meta.transaction)
        .ok_or(ReadError::NotADatabase)
}

fn meta_at(source: &impl ReadAt, bytes: u64, offset: u64) -> Result<Option<Meta>, ReadError> {
    let mut page = [0; PAGE_HEADER + META];
    if offset + page.len() as u64 > bytes {
        return Ok(None);
    }
    let read = source.read_exact_at(offset, &mut page);
    read.map_err(|source| ReadError::Io { offset, source })?;
    let meta = &page[PAGE_HEADER..];
    let page_bytes = u64::from(u32_at(meta, 8));
    let is_whole = u32_at(meta, 0) == MAGIC
        && u32_at(meta, 4) == VERSION
        && u64_at(meta, META_CHECKED) == fnv(&meta[..META_CHECKED])
        && page_bytes.is_power_of_two()
        && (512..=65536).contains(&page_bytes);
    Ok(is_whole.then(|| Meta {
        page_bytes,
        root: u64_at(meta, 16),
        pages: u64_at(meta, 40),
        transaction: u64_at(meta, 48),
    }))
}

fn damaged(page: u64, page_bytes: u64, what: &'static str) -> ReadError {
    ReadError::Damaged {
        page,
        offset: page.saturating_mul(page_bytes),
        what,
    }
}

/// Where a bucket is.
#[derive(Clone, Debug)]
pub struct Bucket(Place);

#[derive(Clone, Debug)]
enum Place {
    Page {
        id: u64,
        named_by: u64,
    },
    /// It has no page of its own.
    Inline {
        page: Vec<u8>,
        named_by: u64,
    },
}

/// What a bucket holds under a key.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value. That of a bucket is of no use but to [`Self::bucket`].
    pub value: &'a [u8],
    flags: u32,
    page: u64,
    page_bytes: u64,
}

impl Entry<'_> {
    /// The bucket that it is; none if it is a value.
    ///
    /// # Errors
    /// When it is a damaged bucket.
    pub fn bucket(&self) -> Result<Option<Bucket>, ReadError> {
        if self.flags & BUCKET == 0 {
            return Ok(None);
        }
        let named_by = self.page;
        if self.value.len() < BUCKET_HEADER {
            let what = "a bucket is too short";
            return Err(damaged(named_by, self.page_bytes, what));
        }
        Ok(Some(Bucket(match u64_at(self.value, 0) {
            0 => Place::Inline {
                page: self.value[BUCKET_HEADER..].to_vec(),
                named_by,
            },
            id => Place::Page { id, named_by },
        })))
    }
}

/// What is left to read of a bucket.
pub struct Entries<'a, R> {
    database: &'a Database<R>,
    /// The pages from the root to where the reading is.
    stack: Vec<Level>,
    seen: Seen,
    /// The key before.
    last: Vec<u8>,
    is_first: bool,
}

struct Level {
    page: Page,
    next: usize,
}

impl<R: ReadAt> Entries<'_, R> {
    /// The next entry; none at the end.
    ///
    /// # Errors
    /// When the file is damaged where the entry is. There is no use in going on then.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        let (flags, key, value) = loop {
            let Some(level) = self.stack.last_mut() else {
                return Ok(None);
            };
            let number = level.next;
            if number == level.page.count {
                self.stack.pop();
                continue;
            }
            level.next += 1;
            match level.page.element(number)? {
                Element::Leaf { flags, key, value } => break (flags, key, value),
                Element::Branch { child } => {
                    let named_by = level.page.id;
                    if self.stack.len() >= MAX_DEPTH {
                        return Err(self.database.damaged(named_by, "its tree is too deep"));
                    }
                    let page = self.load(child, named_by)?;
                    self.stack.push(Level { page, next: 0 });
                }
            }
        };
        let Some(level) = self.stack.last() else {
            return Ok(None);
        };
        let page = &level.page;
        let key = &page.bytes[key];
        if !self.is_first && key <= &self.last[..] {
            return Err(self.database.damaged(page.id, "its keys are out of order"));
        }
        self.is_first = false;
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(Some(Entry {
            key,
            value: &page.bytes[value],
            flags,
            page: page.id,
            page_bytes: self.database.page_bytes,
        }))
    }

    fn load(&mut self, id: u64, named_by: u64) -> Result<Page, ReadError> {
        let page = self.database.page(id, named_by)?;
        match self.seen.add(id) {
            true => Ok(page),
            false => Err(self
                .database
                .damaged(named_by, "it names a page that another one names")),
        }
    }
}

/// The pages that were met.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Whether this one is new. Its id is below the count of pages.
    fn add(&mut self, id: u64) -> bool {
        let word = usize::try_from(id / 64).unwrap_or(usize::MAX - 1);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (id % 64);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}

/// A page with elements, and those that belong to it.
struct Page {
    id: u64,
    page_bytes: u64,
    kind: PageKind,
    count: usize,
    bytes: Vec<u8>,
}

enum Element {
    Leaf {
        flags: u32,
        key: std::ops::Range<usize>,
        value: std::ops::Range<usize>,
    },
    Branch {
        child: u64,
    },
}

impl Page {
    fn parse(id: u64, page_bytes: u64, bytes: Vec<u8>) -> Result<Self, ReadError> {
        let flags = u16_at(&bytes, 8);
        let kind = [PageKind::Leaf, PageKind::Branch];
        let kind = kind.into_iter().find(|kind| kind.flags() == flags);
        let kind = kind.ok_or_else(|| damaged(id, page_bytes, "it is neither a leaf nor a branch"))?;
        let count = usize::from(u16_at(&bytes, 10));
        if PAGE_HEADER + count * ELEMENT > bytes.len() {
            return Err(damaged(id, page_bytes, "it has more elements than room for them"));
        }
        if count == 0 && kind == PageKind::Branch {
            return Err(damaged(id, page_bytes, "it is a branch without children"));
        }
        Ok(Self {
            id,
            page_bytes,
            kind,
            count,
            bytes,
        })
    }

    fn element(&self, number: usize) -> Result<Element, ReadError> {
        let at = PAGE_HEADER + number * ELEMENT;
        let field = |offset| u32_at(&self.bytes, at + offset) as usize;
        if self.kind == PageKind::Branch {
            let child = u64_at(&self.bytes, at + 8);
            return Ok(Element::Branch { child });
        }
        let (key_bytes, value_bytes) = (field(8), field(12));
        let key_start = at + field(4);
        let value_start = key_start.checked_add(key_bytes);
        let end = value_start.and_then(|start| start.checked_add(value_bytes));
        match value_start.zip(end) {
            Some((value_start, end)) if end <= self.bytes.len() => Ok(Element::Leaf {
                flags: u32_at(&self.bytes, at),
                key: key_start..value_start,
                value: value_start..end,
            }),
            Some(_) | None => Err(damaged(
                self.id,
                self.page_bytes,
                "an entry reaches beyond its end",
            )),
        }
    }
}

impl<R> fmt::Debug for Database<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("page_bytes", &self.page_bytes)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Entries<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries")
            .field("depth", &self.stack.len())
            .finish_non_exhaustive()
    }
}

/// Deeper than any tree that fits on a disk.
const MAX_DEPTH: usize = 32;
