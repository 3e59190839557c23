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
//! - A sync that fails has not made anything durable, and syncing again does not help.
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
use crate::mem_file::FileState;
pub use crate::mem_file::SECTOR;

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

    /// The process dies and the machine lives: everything written can still be read, and what was not
    /// synced can still be lost.
    pub fn kill_process(&self) {
        self.state.lock().end_life();
    }

    /// Another disk with the same contents, cached and durable; open files stay with this one.
    pub fn fork(&self) -> MemDisk {
        MemDisk {
            state: Arc::new(Mutex::new(self.state.lock().clone())),
        }
    }

    /// Makes the `nth` call of `op` from here fail with an I/O error, 1 being the next. A call that fails
    /// has done nothing, but a sync of a file that fails is the last that tries: as in a real system, what
    /// it should have made durable can be read as before, later syncs succeed without it, and a crash
    /// may lose it.
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

    /// Nothing fails from here on, and there is room for everything.
    pub fn mend(&self) {
        let mut state = self.state.lock();
        state.failures.clear();
        state.capacity = None;
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
        let node = Node::File(state.lookup(from)?);
        state.check_dir(to.parent().unwrap_or(Path::new("")))?;
        state.change(Change::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            node,
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
        let synced = self.with(DiskOp::Sync, |state| {
            state.file(self.id).sync();
            Ok(())
        });
        if synced.is_err() {
            self.disk.state.lock().give_up_sync(self.id);
        }
        synced
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
    Link {
        path: PathBuf,
        node: Node,
    },
    Unlink {
        path: PathBuf,
    },
    /// As in a directory of a real file system, a name stands for a file, not for another name: whatever
    /// else a crash leaves of the changes before this one, `to` is this file.
    Rename {
        from: PathBuf,
        to: PathBuf,
        node: Node,
    },
}

impl Change {
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } => path.parent() == Some(dir),
            Change::Rename { from, to, .. } => from.parent() == Some(dir) || to.parent() == Some(dir),
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
            Change::Rename { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
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
        self.end_life();
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.failures.clear();
    }

    fn give_up_sync(&mut self, id: u64) {
        if let Some(file) = self.files.get_mut(&id) {
            file.give_up_sync();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with_file(bytes: &[u8]) -> (MemDisk, Arc<dyn DiskFile>) {
        let disk = MemDisk::new();
        let file = disk.open(path(), OpenMode::CreateNew).unwrap();
        file.write_at(0, bytes).unwrap();
        (disk, file)
    }

    fn path() -> &'static Path {
        Path::new("file")
    }

    #[test]
    fn a_name_that_was_not_synced_is_lost_with_its_bytes() {
        let (disk, file) = disk_with_file(b"x");
        file.sync_data().unwrap();
        disk.lose_unsynced();
        assert_eq!(disk.contents(path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn bytes_that_were_not_synced_are_lost_with_the_name_there() {
        let (disk, file) = disk_with_file(b"old");
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        file.write_at(0, b"new!").unwrap();
        assert_eq!(disk.contents(path()).unwrap(), b"new!");
        disk.lose_unsynced();
        assert_eq!(disk.contents(path()).unwrap(), b"old");
        assert!(file.len().is_err(), "its process is dead");
    }

    #[test]
    fn a_crash_can_leave_any_content_a_sector_had_since_the_sync() {
        let (disk, file) = disk_with_file(b"0");
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        file.write_at(0, b"1").unwrap();
        file.write_at(0, b"2").unwrap();
        for (choice, left) in [(0, b"0"), (1, b"1"), (2, b"2")] {
            let disk = disk.fork();
            disk.crash_choosing(&mut |choices| {
                assert_eq!(choices, 3);
                choice
            });
            assert_eq!(disk.contents(path()).unwrap(), left);
        }
    }

    #[test]
    fn a_rename_happens_as_a_whole_or_not_at_all() {
        let (disk, file) = disk_with_file(b"x");
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        disk.rename(path(), Path::new("other")).unwrap();
        assert_eq!(disk.list(Path::new("")).unwrap(), ["other"]);
        let before = disk.fork();
        before.lose_unsynced();
        assert_eq!(before.list(Path::new("")).unwrap(), ["file"]);
        disk.crash_choosing(&mut |choices| choices - 1);
        assert_eq!(disk.list(Path::new("")).unwrap(), ["other"]);
    }

    #[test]
    fn a_rename_gives_the_name_to_the_file_that_was_renamed() {
        let (disk, old) = disk_with_file(b"old");
        old.sync_data().unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        disk.remove(path()).unwrap();
        let new = disk.open(path(), OpenMode::CreateNew).unwrap();
        new.write_at(0, b"new").unwrap();
        new.sync_data().unwrap();
        disk.rename(path(), Path::new("other")).unwrap();
        // Of the removal, the creation and the renaming, every subset may survive.
        for kept in 0..8 {
            let disk = disk.fork();
            let mut question = 0;
            disk.crash_choosing(&mut |_| {
                question += 1;
                (kept >> (question - 1)) & 1
            });
            let other = disk.contents(Path::new("other"));
            if kept & 4 == 0 {
                assert_eq!(other.unwrap_err().kind(), io::ErrorKind::NotFound);
            } else {
                assert_eq!(other.unwrap(), b"new", "kept {kept:03b}");
            }
        }
    }

    #[test]
    fn a_mended_disk_refuses_nothing_more() {
        let (disk, file) = disk_with_file(b"x");
        disk.set_capacity(1);
        disk.fail_nth(DiskOp::Sync, 1);
        assert!(file.write_at(1, b"y").is_err());
        disk.mend();
        file.write_at(1, b"y").unwrap();
        file.sync_data().unwrap();
    }

    #[test]
    fn a_sync_after_one_that_failed_succeeds_and_helps_nothing() {
        let (disk, file) = disk_with_file(b"x");
        disk.sync_dir(Path::new("")).unwrap();
        disk.fail_nth(DiskOp::Sync, 1);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.contents(path()).unwrap(), b"x");
        disk.lose_unsynced();
        assert_ne!(disk.contents(path()).unwrap(), b"x");
    }

    #[test]
    fn what_is_cut_off_reads_as_zero_when_the_file_grows_again() {
        let (disk, file) = disk_with_file(&[7; 1500]);
        file.sync_data().unwrap();
        file.set_len(600).unwrap();
        file.set_len(1500).unwrap();
        let bytes = disk.contents(path()).unwrap();
        assert!(bytes[..600].iter().all(|byte| *byte == 7) && bytes[600..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_full_disk_refuses_what_needs_more_room() {
        let (disk, file) = disk_with_file(&[7; 1000]);
        disk.set_capacity(1200);
        file.write_at(0, &[8; 1200]).unwrap();
        assert_eq!(
            file.write_at(1000, &[8; 201]).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(
            file.allocate(1201).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        file.write_at(0, &[9; 100]).unwrap();
    }

    #[test]
    fn files_in_a_directory_that_is_lost_are_lost() {
        let disk = MemDisk::new();
        disk.create_dir(Path::new("a/b")).unwrap();
        disk.open(Path::new("a/b/c"), OpenMode::CreateNew).unwrap();
        disk.sync_dir(Path::new("a/b")).unwrap();
        disk.sync_dir(Path::new("a")).unwrap();
        disk.lose_unsynced();
        assert!(disk.list(Path::new("a/b")).is_err());
        assert!(disk.list(Path::new("")).unwrap().is_empty());
    }
}
