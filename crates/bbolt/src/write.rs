//! Writing a file: trees are built from the left, a page at a time.
//!
//! - A page is written when the next entry has no room on it, so each tree holds one open page a level.
//! - Ids are given in the order of writing. So the output is a stream, and what the first pages must say of
//!   the last ones comes from measuring the same entries before.

use std::collections::BTreeMap;
use std::io::{self, Write};

use thiserror::Error;

use crate::layout::{
    BUCKET, BUCKET_HEADER, ELEMENT, MAGIC, MAX_KEY_BYTES, MAX_VALUE_BYTES, META, PAGE_BYTES, PAGE_HEADER,
    PageKind, VERSION, fnv,
};

/// What a file will be: what its first pages say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    root: u64,
    pages: u64,
}

impl Plan {
    /// The file's length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages.saturating_mul(PAGE_BYTES as u64)
    }
}

/// Why a file cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The output refuses bytes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A key is not after the one before it.
    #[error("a key of a bucket is not after the one before it")]
    Order,
    /// A key is empty or too long.
    #[error("a key has {0} bytes: it must have 1 to {MAX_KEY_BYTES}")]
    Key(usize),
    /// A value is too long.
    #[error("a value has {0} bytes: it must have at most {MAX_VALUE_BYTES}")]
    Value(usize),
    /// There is a bucket of this name.
    #[error("a bucket is begun twice")]
    Twice,
    /// A key is put before a bucket is begun.
    #[error("a key is put outside of any bucket")]
    NoBucket,
    /// What was put differs from what was measured.
    #[error("what was written is not what was measured")]
    Differs,
}

/// Writes a file of buckets, one after the other, each with its keys in order.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    plan: Option<Plan>,
    pages: u64,
    /// The buckets that are complete, each as the value that it is among all buckets.
    buckets: BTreeMap<Vec<u8>, Vec<u8>>,
    open: Option<(Vec<u8>, Tree)>,
}

impl Writer<io::Sink> {
    /// A writer that only finds out what the file will be.
    #[must_use]
    pub fn measure() -> Self {
        Self::with(io::sink(), None)
    }
}

impl<W: Write> Writer<W> {
    /// A writer of a file that has been measured.
    ///
    /// # Errors
    /// When the output refuses the first pages.
    pub fn new(out: W, plan: Plan) -> Result<Self, WriteError> {
        let mut writer = Self::with(out, Some(plan));
        // Of two transactions with the same content, the next one overwrites the older.
        writer.out.write_all(&meta_page(0, 2, plan))?;
        writer.out.write_all(&meta_page(1, 1, plan))?;
        let mut free_list = page_header(FREE_LIST, PageKind::FreeList, 0, 0).to_vec();
        free_list.resize(PAGE_BYTES, 0);
        writer.out.write_all(&free_list)?;
        Ok(writer)
    }

    /// Begins a bucket, after which keys go into it. Buckets may come in any order.
    ///
    /// # Errors
    /// When there is one of this name, its name is no key, or the output refuses the end of the one before.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.close()?;
        check_key(name)?;
        if self.buckets.contains_key(name) {
            return Err(WriteError::Twice);
        }
        self.open = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    /// Adds a key to the bucket that was begun last.
    ///
    /// # Errors
    /// When it is not after the key before it, is empty or too long, or the output refuses a page.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        check_key(key)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(WriteError::Value(value.len()));
        }
        let (_, tree) = self.open.as_mut().ok_or(WriteError::NoBucket)?;
        let mut pages = Pages {
            out: &mut self.out,
            pages: &mut self.pages,
        };
        tree.put(&mut pages, 0, key, value)
    }

    /// Writes what is left. Says what the file has become.
    ///
    /// # Errors
    /// When the output refuses it, or it is not what was measured.
    pub fn finish(mut self) -> Result<Plan, WriteError> {
        self.close()?;
        let mut pages = Pages {
            out: &mut self.out,
            pages: &mut self.pages,
        };
        let mut tree = Tree::default();
        for (name, bucket) in &self.buckets {
            tree.put(&mut pages, BUCKET, name, bucket)?;
        }
        let root = tree.finish(&mut pages)?;
        let root = match root {
            Root::Page(id) => id,
            Root::Leaf(leaf) => pages.write(&leaf)?,
        };
        let plan = Plan {
            root,
            pages: self.pages,
        };
        self.out.flush()?;
        match self.plan {
            Some(expected) if expected != plan => Err(WriteError::Differs),
            Some(_) | None => Ok(plan),
        }
    }

    fn with(out: W, plan: Option<Plan>) -> Self {
        Self {
            out,
            plan,
            pages: FREE_LIST + 1,
            buckets: BTreeMap::new(),
            open: None,
        }
    }

    fn close(&mut self) -> Result<(), WriteError> {
        let Some((name, tree)) = self.open.take() else {
            return Ok(());
        };
        let mut pages = Pages {
            out: &mut self.out,
            pages: &mut self.pages,
        };
        let bucket = match tree.finish(&mut pages)? {
            Root::Leaf(leaf) if leaf.bytes() <= MAX_INLINE => {
                let mut bucket = vec![0; BUCKET_HEADER];
                leaf.encode(0, &mut bucket);
                bucket
            }
            Root::Leaf(leaf) => bucket_at(pages.write(&leaf)?),
            Root::Page(id) => bucket_at(id),
        };
        self.buckets.insert(name, bucket);
        Ok(())
    }
}

fn check_key(key: &[u8]) -> Result<(), WriteError> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(()),
        bytes => Err(WriteError::Key(bytes)),
    }
}

fn bucket_at(root: u64) -> Vec<u8> {
    let mut bucket = vec![0; BUCKET_HEADER];
    bucket[..8].copy_from_slice(&root.to_le_bytes());
    bucket
}

/// Where pages go.
struct Pages<'a, W> {
    out: &'a mut W,
    pages: &'a mut u64,
}

impl<W: Write> Pages<'_, W> {
    /// Writes a page; its id.
    fn write(&mut self, node: &Node) -> Result<u64, WriteError> {
        let id = *self.pages;
        let count = node.bytes().div_ceil(PAGE_BYTES);
        let mut bytes = Vec::with_capacity(count * PAGE_BYTES);
        node.encode(id, &mut bytes);
        bytes.resize(count * PAGE_BYTES, 0);
        self.out.write_all(&bytes)?;
        *self.pages += count as u64;
        Ok(id)
    }
}

/// A tree that grows to the right: the page at which it grows, a level each, leaves first.
#[derive(Debug, Default)]
struct Tree {
    levels: Vec<Node>,
    last: Option<Vec<u8>>,
}

/// What a finished tree hangs from.
enum Root {
    Page(u64),
    /// All of it fits on one leaf, which is not written.
    Leaf(Node),
}

impl Tree {
    fn put<W: Write>(
        &mut self,
        pages: &mut Pages<'_, W>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), WriteError> {
        if self.last.as_deref().is_some_and(|last| last >= key) {
            return Err(WriteError::Order);
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if self.levels.is_empty() {
            self.levels.push(Node::new(PageKind::Leaf));
        }
        if !self.levels[0].has_room_for(key.len() + value.len()) {
            self.turn(pages, 0)?;
        }
        self.levels[0].add(Head::Leaf { flags }, key, value);
        Ok(())
    }

    /// Writes the page of a level, tells the level above, and begins the next one.
    fn turn<W: Write>(&mut self, pages: &mut Pages<'_, W>, level: usize) -> Result<(), WriteError> {
        let full = std::mem::replace(&mut self.levels[level], Node::new(PageKind::Leaf));
        self.levels[level] = Node::new(full.kind);
        let child = pages.write(&full)?;
        let above = level + 1;
        if above == self.levels.len() {
            self.levels.push(Node::new(PageKind::Branch));
        } else if !self.levels[above].has_room_for(full.first_key().len()) {
            self.turn(pages, above)?;
        }
        self.levels[above].add(Head::Branch { child }, full.first_key(), &[]);
        Ok(())
    }

    fn finish<W: Write>(mut self, pages: &mut Pages<'_, W>) -> Result<Root, WriteError> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.turn(pages, level)?;
            level += 1;
        }
        match self.levels.pop() {
            None => Ok(Root::Leaf(Node::new(PageKind::Leaf))),
            Some(top) if top.kind == PageKind::Leaf => Ok(Root::Leaf(top)),
            Some(top) => match top.only_child() {
                Some(child) => Ok(Root::Page(child)),
                None => Ok(Root::Page(pages.write(&top)?)),
            },
        }
    }
}

/// A page in the making.
#[derive(Debug)]
struct Node {
    kind: PageKind,
    elements: Vec<Element>,
    /// Keys and values.
    body: Vec<u8>,
}

#[derive(Debug)]
struct Element {
    head: Head,
    at: usize,
    key: usize,
    value: usize,
}

/// What an element says beside its key and value.
#[derive(Clone, Copy, Debug)]
enum Head {
    Leaf { flags: u32 },
    Branch { child: u64 },
}

impl Node {
    fn new(kind: PageKind) -> Self {
        Self {
            kind,
            elements: Vec::new(),
            body: Vec::new(),
        }
    }

    fn bytes(&self) -> usize {
        PAGE_HEADER + self.elements.len() * ELEMENT + self.body.len()
    }

    /// A branch has two children at least, however long their keys: a level is shorter than the one below.
    fn has_room_for(&self, bytes: usize) -> bool {
        let least = match self.kind {
            PageKind::Branch => 2,
            PageKind::Leaf | PageKind::Meta | PageKind::FreeList => 1,
        };
        self.elements.len() < least || self.bytes() + ELEMENT + bytes <= PAGE_BYTES
    }

    fn add(&mut self, head: Head, key: &[u8], value: &[u8]) {
        self.elements.push(Element {
            head,
            at: self.body.len(),
            key: key.len(),
            value: value.len(),
        });
        self.body.extend_from_slice(key);
        self.body.extend_from_slice(value);
    }

    fn first_key(&self) -> &[u8] {
        self.elements.first().map_or(&[], |first| &self.body[..first.key])
    }

    fn only_child(&self) -> Option<u64> {
        match self.elements[..] {
            [
                Element {
                    head: Head::Branch { child },
                    ..
                },
            ] => Some(child),
            _ => None,
        }
    }

    fn encode(&self, id: u64, out: &mut Vec<u8>) {
        let overflow = (self.bytes().div_ceil(PAGE_BYTES)).saturating_sub(1);
        out.extend(page_header(id, self.kind, self.elements.len(), overflow));
        for (number, element) in self.elements.iter().enumerate() {
            let distance = (self.elements.len() - number) * ELEMENT + element.at;
            match element.head {
                Head::Leaf { flags } => {
                    out.extend(flags.to_le_bytes());
                    out.extend(narrow(distance).to_le_bytes());
                    out.extend(narrow(element.key).to_le_bytes());
                    out.extend(narrow(element.value).to_le_bytes());
                }
                Head::Branch { child } => {
                    out.extend(narrow(distance).to_le_bytes());
                    out.extend(narrow(element.key).to_le_bytes());
                    out.extend(child.to_le_bytes());
                }
            }
        }
        out.extend_from_slice(&self.body);
    }
}

fn page_header(id: u64, kind: PageKind, count: usize, overflow: usize) -> [u8; PAGE_HEADER] {
    let count = u16::try_from(count).expect("a page of 4 KiB has room for 255 elements");
    let mut header = [0; PAGE_HEADER];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&kind.flags().to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&narrow(overflow).to_le_bytes());
    header
}

fn meta_page(id: u64, transaction: u64, plan: Plan) -> Vec<u8> {
    let mut page = page_header(id, PageKind::Meta, 0, 0).to_vec();
    page.extend(MAGIC.to_le_bytes());
    page.extend(VERSION.to_le_bytes());
    page.extend(narrow(PAGE_BYTES).to_le_bytes());
    page.extend(0u32.to_le_bytes());
    for number in [plan.root, 0, FREE_LIST, plan.pages, transaction] {
        page.extend(number.to_le_bytes());
    }
    let checksum = fnv(&page[PAGE_HEADER..]);
    page.extend(checksum.to_le_bytes());
    debug_assert_eq!(page.len(), PAGE_HEADER + META);
    page.resize(PAGE_BYTES, 0);
    page
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("one value and one key of bounded length are all that a long page holds")
}

/// The page of the list of free pages, of which there are none.
const FREE_LIST: u64 = 2;
/// The most bytes of a bucket that has no page of its own.
const MAX_INLINE: usize = PAGE_BYTES / 4;
