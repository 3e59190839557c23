//! The seam to the operating system: everything this crate asks of a disk.
//!
//! All calls block. All paths are relative to a root that the implementation owns. Nothing is
//! durable until it is synced: the bytes and the length of a file by [`DiskFile::sync_data`], the
//! names in a directory by [`Disk::sync_dir`]. Two implementations are here: [`crate::OsDisk`] and
//! [`crate::MemDisk`], which can crash.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// A directory tree of files, with durability spelled out.
pub trait Disk: Send + Sync + 'static {
    /// Creates a directory and its parents, readable by the owner only. An existing one is left as it is.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted. `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file. `NotFound` or `AlreadyExists` as the mode demands.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name at once and as a whole, replacing a file that has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Files that are open stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names a directory holds. The root itself is the empty path.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet, for reading and writing; it begins empty.
    CreateNew,
}

/// An open file. Offsets and lengths are in bytes.
pub trait DiskFile: Send + Sync {
    /// The file's length.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from `offset` until `buf` is full; returns less than `buf.len()` only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, lengthening the file if need be.
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Makes the file `len` bytes long and takes the room for all of them on the disk, so that writing
    /// inside it cannot fail for want of space. New bytes are zero.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts or lengthens the file; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the file's bytes and its length durable.
    fn sync_data(&self) -> io::Result<()>;
}

/// Reads exactly `buf.len()` bytes; `UnexpectedEof` if the file is shorter.
pub(crate) fn read_exact_at(file: &dyn DiskFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let read = file.read_at(offset, buf)?;
    if read < buf.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
