//! A disk in memory that keeps what is cached apart from what is durable.
//!
//! For tests and simulation. It is deterministic: what a crash leaves is decided by the numbers given
//! to [`MemDisk::crash`] and by nothing else.
//!
//! - A write is cached, sector by sector ([`SECTOR`] bytes). `sync_data` makes the cached sectors and
//!   the length of one file durable. A crash keeps, for each sector that was not synced, any one of the
//!   contents it has had since it was: torn writes, and writes that arrive out of order.
//! - Creating, renaming and removing a name, and making a directory, are cached until `sync_dir` of
//!   the directory. A crash keeps any subset of those that were not synced; each is whole or absent.
//! - Reads see what is cached. Files opened before a crash fail after it: their process is dead.
//! - Chosen calls can be made to fail ([`MemDisk::fail_nth`]), room can be short
//!   ([`MemDisk::set_capacity`]), bits can rot ([`MemDisk::flip`]).
//!
//! Left out: misdirected writes, syncs that lie, delays. A simulator wraps [`Disk`] for these.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, OpenMode};

/// The unit in which writes reach the disk: whole or not at all.
pub const SECTOR: u64 = 512;

/// The calls that can be counted and made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskOp {
    /// [`Disk::open`] with [`OpenMode::CreateNew`].
    Create,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::allocate`].
    Allocate,
    /// [`DiskFile::set_len`].
    SetLen,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_dir`].
    SyncDir,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

impl MemDisk {
    /// An empty disk without faults and with room for everything.
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// The power fails: of everything that was not synced, `rng` says what survives. All open files
    /// are dead afterwards.
    pub fn crash(&self, rng: &mut dyn FnMut() -> u64) {
        self.crash_choosing(&mut |choices| {
            let choices = choices as u64;
            usize::try_from(rng() % choices).expect("less than a usize")
        });
    }

    /// As [`MemDisk::crash`], but each single fate is picked by `choose`: given the number of contents
    /// a thing may have, 0 being what was last synced and the highest what was last written, it
    /// returns one of them. The order of the questions is always the same, so a test can go through
    /// all the answers.
    pub fn crash_choosing(&self, choose: &mut dyn FnMut(usize) -> usize) {
        self.state.lock().crash(choose);
    }

    /// The power fails and nothing survives that was not synced.
    pub fn lose_unsynced(&self) {
        self.crash_choosing(&mut |_| 0);
    }

    /// The process dies and the machine lives: everything written survives.
    pub fn kill_process(&self) {
        self.crash_choosing(&mut |choices| choices - 1);
    }

    /// Another disk with the same contents, cached and durable; open files stay with this one.
    pub fn fork(&self) -> MemDisk {
        MemDisk {
            state: Arc::new(Mutex::new(self.state.lock().clone())),
        }
    }

    /// Makes the `nth` call of `op` from here fail with an I/O error, 1 being the next. A write that
    /// fails has written nothing; what a sync that fails would have made durable stays cached.
    pub fn fail_nth(&self, op: DiskOp, nth: u64) {
        let mut state = self.state.lock();
        let at = state.count(op) + nth;
        state.failures.insert((op, at));
    }

    /// How many calls of `op` there have been.
    pub fn count(&self, op: DiskOp) -> u64 {
        self.state.lock().count(op)
    }

    /// Room for `bytes` in all files together: what would need more fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = Some(bytes);
    }

    /// What a read of the whole file sees. `NotFound` if there is no such file.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        let file = &state.files[&state.lookup(path)?];
        let mut bytes = vec![0; usize::try_from(file.len()).map_err(io::Error::other)?];
        file.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Rot: turns the bits of `mask` over in one byte, in what is cached and in what is durable.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.lookup(path)?;
        state.file(id).flip(offset, mask);
        Ok(())
    }
}

impl Disk for MemDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let ancestors: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
        for dir in ancestors.into_iter().rev() {
            if !state.cached.contains_key(dir) {
                state.change(Change::Link {
                    path: dir.to_owned(),
                    node: Node::Dir,
                });
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_dir(dir)?;
        let inside = state.cached.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let id = match mode {
            OpenMode::Read | OpenMode::ReadWrite => state.lookup(path)?,
            OpenMode::CreateNew => state.create(path)?,
        };
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(MemFile {
            disk: self.clone(),
            id,
            life: state.life,
            writable,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.attempt(DiskOp::Rename)?;
        state.lookup(from)?;
        state.check_dir(to.parent().unwrap_or(Path::new("")))?;
        state.change(Change::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.attempt(DiskOp::Remove)?;
        state.lookup(path)?;
        state.change(Change::Unlink {
            path: path.to_owned(),
        });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.attempt(DiskOp::SyncDir)?;
        state.check_dir(dir)?;
        state.sync_dir(dir);
        Ok(())
    }
}

struct MemFile {
    disk: MemDisk,
    id: u64,
    /// Which life of the disk opened it.
    life: u64,
    writable: bool,
}

impl MemFile {
    fn check_life(&self, state: &State) -> io::Result<()> {
        if state.life == self.life {
            return Ok(());
        }
        Err(io::Error::other("the file was opened before the crash"))
    }

    fn with<T>(&self, op: DiskOp, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        self.check_life(&state)?;
        if op != DiskOp::Read && !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        state.attempt(op)?;
        act(&mut state)
    }
}

impl DiskFile for MemFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state.lock();
        self.check_life(&state)?;
        Ok(state.file(self.id).len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.with(DiskOp::Read, |state| Ok(state.file(self.id).read(offset, buf)))
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.with(DiskOp::Write, |state| {
            let len = state.file(self.id).len().max(offset + buf.len() as u64);
            state.check_room(self.id, len)?;
            state.file(self.id).write(offset, buf);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.with(DiskOp::Allocate, |state| {
            state.check_room(self.id, len)?;
            state.file(self.id).set_len(len);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(DiskOp::SetLen, |state| {
            state.check_room(self.id, len)?;
            state.file(self.id).set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(DiskOp::Sync, |state| {
            state.file(self.id).sync();
            Ok(())
        })
    }
}

/// Everything on the disk. A name is cached, durable or both; a file is found by its number.
#[derive(Clone, Default)]
struct State {
    /// Counts crashes.
    life: u64,
    next_file: u64,
    files: BTreeMap<u64, FileState>,
    cached: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// What separates `cached` from `durable`, in order.
    changes: Vec<Change>,
    counts: BTreeMap<DiskOp, u64>,
    failures: BTreeSet<(DiskOp, u64)>,
    capacity: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Debug, Clone)]
enum Change {
    Link { path: PathBuf, node: Node },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

impl Change {
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } => path.parent() == Some(dir),
            Change::Rename { from, to } => from.parent() == Some(dir) || to.parent() == Some(dir),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Link { path, node } => {
                names.insert(path.clone(), *node);
            }
            Change::Unlink { path } => {
                names.remove(path);
            }
            Change::Rename { from, to } => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl State {
    fn count(&self, op: DiskOp) -> u64 {
        self.counts.get(&op).copied().unwrap_or(0)
    }

    fn attempt(&mut self, op: DiskOp) -> io::Result<()> {
        let count = self.count(op) + 1;
        self.counts.insert(op, count);
        if self.failures.remove(&(op, count)) {
            return Err(io::Error::other(format!("injected failure of {op:?}")));
        }
        Ok(())
    }

    fn check_room(&self, id: u64, len: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else {
            return Ok(());
        };
        let named = self
            .cached
            .values()
            .filter_map(Node::file)
            .filter(|other| *other != id);
        let others: u64 = named
            .filter_map(|other| self.files.get(&other))
            .map(FileState::len)
            .sum();
        let grows = len > self.files.get(&id).map_or(0, FileState::len);
        if grows && others + len > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn check_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || self.cached.get(dir) == Some(&Node::Dir) {
            return Ok(());
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn lookup(&self, path: &Path) -> io::Result<u64> {
        match self.cached.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&mut self, id: u64) -> &mut FileState {
        self.files
            .get_mut(&id)
            .expect("files go only when no name and no living handle has them")
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.attempt(DiskOp::Create)?;
        if self.cached.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_dir(path.parent().unwrap_or(Path::new("")))?;
        self.next_file += 1;
        self.files.insert(self.next_file, FileState::default());
        self.change(Change::Link {
            path: path.to_owned(),
            node: Node::File(self.next_file),
        });
        Ok(self.next_file)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.changes.push(change);
    }

    fn sync_dir(&mut self, dir: &Path) {
        let (synced, rest) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition(|c| c.is_in(dir));
        self.changes = rest;
        let synced: Vec<Change> = synced;
        for change in synced {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        for change in std::mem::take(&mut self.changes) {
            if choose(2) == 1 {
                change.apply(&mut self.durable);
            }
        }
        self.drop_orphans();
        self.cached = self.durable.clone();
        let named: BTreeSet<u64> = self.cached.values().filter_map(Node::file).collect();
        self.files.retain(|id, _| named.contains(id));
        for file in self.files.values_mut() {
            file.crash(choose);
        }
        self.life += 1;
        self.failures.clear();
    }

    /// Names in directories that did not survive are gone with them.
    fn drop_orphans(&mut self) {
        let dirs: BTreeSet<PathBuf> = self
            .durable
            .iter()
            .filter(|(_, node)| **node == Node::Dir)
            .map(|(path, _)| path.clone())
            .collect();
        self.durable.retain(|path, _| {
            path.ancestors()
                .skip(1)
                .all(|dir| dir.as_os_str().is_empty() || dirs.contains(dir))
        });
    }
}

impl Node {
    fn file(&self) -> Option<u64> {
        match self {
            Node::Dir => None,
            Node::File(id) => Some(*id),
        }
    }
}

type Sector = [u8; 512];
const ZERO: Sector = [0; 512];
const _: () = assert!(ZERO.len() as u64 == SECTOR);

/// One file's bytes. A sector that is nowhere is zero.
#[derive(Clone, Default)]
struct FileState {
    durable: BTreeMap<u64, Sector>,
    durable_len: u64,
    /// What each sector has held since the last sync, oldest first.
    pending: BTreeMap<u64, Vec<Sector>>,
    pending_len: Vec<u64>,
}

impl FileState {
    fn len(&self) -> u64 {
        self.pending_len.last().copied().unwrap_or(self.durable_len)
    }

    fn sector(&self, number: u64) -> &Sector {
        let pending = self.pending.get(&number).and_then(|versions| versions.last());
        pending.or_else(|| self.durable.get(&number)).unwrap_or(&ZERO)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = clamp(self.len().saturating_sub(offset), buf.len());
        for part in parts(offset, len) {
            buf[part.buf].copy_from_slice(&self.sector(part.sector)[part.within]);
        }
        len
    }

    fn write(&mut self, offset: u64, buf: &[u8]) {
        for part in parts(offset, buf.len()) {
            let mut sector = *self.sector(part.sector);
            sector[part.within].copy_from_slice(&buf[part.buf]);
            self.pending.entry(part.sector).or_default().push(sector);
        }
        let end = offset + buf.len() as u64;
        if end > self.len() {
            self.pending_len.push(end);
        }
    }

    fn set_len(&mut self, len: u64) {
        let old = self.len();
        if len < old {
            self.zero(len, old);
        }
        if len != old {
            self.pending_len.push(len);
        }
    }

    /// What lies past a cut must read as zero if the file grows again.
    fn zero(&mut self, from: u64, to: u64) {
        let written: Vec<u64> = self.durable.keys().chain(self.pending.keys()).copied().collect();
        for number in written {
            let start = from.max(number * SECTOR);
            let end = to.min((number + 1) * SECTOR);
            if start < end {
                self.write(start, &ZERO[..clamp(end - start, ZERO.len())]);
            }
        }
    }

    fn sync(&mut self) {
        self.settle(&mut |choices| choices - 1);
    }

    fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        self.settle(choose);
    }

    fn settle(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        for (number, versions) in std::mem::take(&mut self.pending) {
            if let Some(kept) = choose(versions.len() + 1).checked_sub(1) {
                self.durable.insert(number, versions[kept]);
            }
        }
        let lens = std::mem::take(&mut self.pending_len);
        if !lens.is_empty()
            && let Some(kept) = choose(lens.len() + 1).checked_sub(1)
        {
            self.durable_len = lens[kept];
        }
    }

    fn flip(&mut self, offset: u64, mask: u8) {
        let number = offset / SECTOR;
        let within = clamp(offset % SECTOR, ZERO.len());
        self.durable.entry(number).or_insert(ZERO)[within] ^= mask;
        for version in self.pending.get_mut(&number).into_iter().flatten() {
            version[within] ^= mask;
        }
    }
}

struct Part {
    sector: u64,
    within: std::ops::Range<usize>,
    buf: std::ops::Range<usize>,
}

/// Cuts a range of a file at the borders of sectors.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = Part> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let start = clamp(at % SECTOR, ZERO.len());
        let size = (ZERO.len() - start).min(len - done);
        let part = Part {
            sector: at / SECTOR,
            within: start..start + size,
            buf: done..done + size,
        };
        done += size;
        Some(part)
    })
}

fn clamp(value: u64, limit: usize) -> usize {
    usize::try_from(value).map_or(limit, |value| value.min(limit))
}
