//! Checkpoints: files written in chunks, checksummed, and visible only when whole.
//!
//! A snapshot of a state machine is one. A checkpoint has a name, meta data that the owner understands,
//! and chunks that can be read in any order.
//!
//! - A checkpoint appears under its name at once, complete and durable, or not at all.
//! - Each chunk has a checksum, which is bound to this file and to the chunk's number, so a chunk
//!   that stands in the place of another is noticed. All chunks together have one more.
//! - A file that was cut, lengthened or changed anywhere is [`CheckpointError::Damaged`], at the latest
//!   when [`CheckpointReader::verify`] reads it. What [`CheckpointReader::chunk`] returns was written.
//!
//! Left out: compression, encryption, and deciding which checkpoints to keep. The format is drawn in
//! `docs/formats/wal.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint_layout::{
    CHUNK_PLACE, ChunkPlace, HEADER, HeaderError, MAX_CHUNKS, TRAILER, Trailer, VERSION, chunk_crc,
    decode_header, encode_header,
};
use crate::disk::{Disk, DiskFile, OpenMode, read_exact_at};
use crate::layout::size;
use crate::mutant::mutant;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// There is no checkpoint of this name.
    #[error("there is no checkpoint {}", file.display())]
    NotFound {
        /// The file looked for.
        file: PathBuf,
    },
    /// The file's bytes are not those that were written.
    #[error("{} is damaged at byte {offset}: {what}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A later release wrote this checkpoint.
    #[error("{} has format version {found}; this release reads up to {supported}: use a newer release", file.display())]
    NewerVersion {
        /// The file that says so.
        file: PathBuf,
        /// The version it has.
        found: u32,
        /// The highest version this release reads.
        supported: u32,
    },
    /// The name is empty, longer than 200 bytes, or has other characters than `A-Z a-z 0-9 _ -`.
    #[error("{0:?} is not a name for a checkpoint")]
    BadName(String),
    /// The meta data, a chunk or the number of chunks is over its limit.
    #[error("{what} of {size} is more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// There are fewer chunks than that.
    #[error("no chunk {index}: there are {chunks}")]
    NoSuchChunk {
        /// The chunk asked for.
        index: u32,
        /// How many there are.
        chunks: u32,
    },
    /// An earlier call on this writer failed; nothing will be installed.
    #[error("an earlier write of {} failed", file.display())]
    Broken {
        /// The unfinished file.
        file: PathBuf,
    },
}

/// Writes one checkpoint. Dropped before [`CheckpointWriter::finish`] it leaves an unfinished file, which
/// nobody can mistake for a checkpoint and [`remove_unfinished_checkpoints`] removes.
pub struct CheckpointWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    name: String,
    draft: PathBuf,
    file: Arc<dyn DiskFile>,
    /// The checksum in the header, to which everything else is bound.
    header_crc: u32,
    /// Where the next chunk goes.
    offset: u64,
    chunks: Vec<ChunkPlace>,
    whole_crc: u32,
    broken: bool,
}

impl CheckpointWriter {
    /// Begins a checkpoint in `dir`, which is made if it is not there; `meta`, of at most 1 MiB, is
    /// kept in its header. Only one writer at a time may be at work on a name.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        name: &str,
        meta: &[u8],
    ) -> Result<CheckpointWriter, CheckpointError> {
        check_name(name)?;
        check_limit("meta data", meta.len() as u64, MAX_META)?;
        make_dir(&*disk, dir)?;
        let draft = dir.join(format!("{name}{DRAFT_SUFFIX}"));
        let file = create_anew(&*disk, &draft)?;
        let (header, header_crc) = encode_header(meta);
        file.write_at(0, &header).trying("write", &draft)?;
        Ok(CheckpointWriter {
            disk,
            dir: dir.to_owned(),
            name: name.to_owned(),
            draft,
            file,
            header_crc,
            offset: header.len() as u64,
            chunks: Vec::new(),
            whole_crc: 0,
            broken: false,
        })
    }

    /// Adds a chunk of at most 16 MiB. Its number is what [`CheckpointWriter::chunks`] was before.
    ///
    /// After an error of the disk the writer is of no more use: every call is
    /// [`CheckpointError::Broken`].
    pub fn write_chunk(&mut self, chunk: &[u8]) -> Result<(), CheckpointError> {
        check_limit("a chunk", chunk.len() as u64, MAX_CHUNK)?;
        check_limit("the number of chunks", self.chunks.len() as u64 + 1, MAX_CHUNKS)?;
        self.write(chunk)?;
        let crc = chunk_crc(self.header_crc, self.chunks(), chunk);
        let length = u32::try_from(chunk.len()).expect("at most MAX_CHUNK");
        self.chunks.push(ChunkPlace {
            offset: self.offset,
            length,
            crc,
        });
        self.offset += chunk.len() as u64;
        self.whole_crc = crc32c::crc32c_append(self.whole_crc, chunk);
        Ok(())
    }

    /// How many chunks there are so far: the number of the next.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("at most MAX_CHUNKS")
    }

    /// Makes the checkpoint durable and then visible under its name. One that had the name is replaced.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        let end = self.encode_end();
        self.write(&end)?;
        if !mutant!(M32) {
            self.file.sync_data().trying("sync", &self.draft)?;
        }
        let to = file_of(&self.dir, &self.name);
        self.disk.rename(&self.draft, &to).trying("rename", &self.draft)?;
        self.disk.sync_dir(&self.dir).trying("sync", &self.dir)
    }

    /// Removes what was written.
    pub fn abandon(self) -> Result<(), CheckpointError> {
        self.disk.remove(&self.draft).trying("remove", &self.draft)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        if self.broken {
            return Err(CheckpointError::Broken {
                file: self.draft.clone(),
            });
        }
        let written = self
            .file
            .write_at(self.offset, bytes)
            .trying("write", &self.draft);
        self.broken = written.is_err();
        written
    }

    fn encode_end(&self) -> Vec<u8> {
        let mut end = vec![0; self.chunks.len() * CHUNK_PLACE + TRAILER];
        for (place, buf) in self.chunks.iter().zip(end.chunks_exact_mut(CHUNK_PLACE)) {
            place.encode(buf);
        }
        let index_len = self.chunks.len() * CHUNK_PLACE;
        let trailer = Trailer {
            chunks: self.chunks(),
            index_crc: crc32c::crc32c(&end[..index_len]),
            file_length: self.offset + end.len() as u64,
            whole_crc: self.whole_crc,
        };
        trailer.encode(self.header_crc, &mut end[index_len..]);
        end
    }
}

/// Reads one checkpoint, from any thread.
pub struct CheckpointReader {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    meta: Bytes,
    header_crc: u32,
    chunks: Vec<ChunkPlace>,
    whole_crc: u32,
}

impl CheckpointReader {
    /// Opens a finished checkpoint and checks everything but the chunks.
    pub fn open(disk: &dyn Disk, dir: &Path, name: &str) -> Result<CheckpointReader, CheckpointError> {
        check_name(name)?;
        let path = file_of(dir, name);
        let file = match disk.open(&path, OpenMode::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(CheckpointError::NotFound { file: path });
            }
            opened => opened.trying("open", &path)?,
        };
        let parts = Parts {
            path: &path,
            file: &*file,
        };
        let (meta, header_crc) = parts.read_header()?;
        let data_start = HEADER as u64 + meta.len() as u64;
        let (trailer, index_start) = parts.read_trailer(header_crc, data_start)?;
        let chunks = parts.read_index(&trailer, data_start, index_start)?;
        Ok(CheckpointReader {
            path,
            file,
            meta,
            header_crc,
            chunks,
            whole_crc: trailer.whole_crc,
        })
    }

    /// What was given to [`CheckpointWriter::create`].
    pub fn meta(&self) -> &Bytes {
        &self.meta
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("at most MAX_CHUNKS")
    }

    /// The size of all chunks together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// Reads and checks one chunk; the first has the number 0.
    pub fn chunk(&self, index: u32) -> Result<Bytes, CheckpointError> {
        let place = usize::try_from(index).ok().and_then(|at| self.chunks.get(at));
        let place = place.ok_or(CheckpointError::NoSuchChunk {
            index,
            chunks: self.chunks(),
        })?;
        let mut bytes = vec![0; size(u64::from(place.length))];
        read_exact_at(&*self.file, place.offset, &mut bytes).trying("read", &self.path)?;
        if chunk_crc(self.header_crc, index, &bytes) != place.crc {
            return Err(self.damaged(place.offset, "the checksum of a chunk is wrong"));
        }
        Ok(Bytes::from(bytes))
    }

    /// Reads and checks every chunk, one at a time, and all of them together.
    pub fn verify(&self) -> Result<(), CheckpointError> {
        let mut whole = 0;
        for index in 0..self.chunks() {
            whole = crc32c::crc32c_append(whole, &self.chunk(index)?);
        }
        if whole == self.whole_crc {
            return Ok(());
        }
        Err(self.damaged(0, "the checksum of all chunks together is wrong"))
    }

    fn damaged(&self, offset: u64, what: &'static str) -> CheckpointError {
        CheckpointError::Damaged {
            file: self.path.clone(),
            offset,
            what,
        }
    }
}

/// The names of the finished checkpoints in `dir`, sorted, so that among names that grow the newest is
/// last. None if there is no such directory.
pub fn list_checkpoints(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let names = list(disk, dir)?.into_iter();
    let mut names: Vec<String> = names
        .filter_map(|name| Some(name.strip_suffix(SUFFIX)?.to_owned()))
        .collect();
    names.retain(|name| check_name(name).is_ok());
    names.sort();
    Ok(names)
}

/// Removes a checkpoint. Those who have it open can go on reading it.
pub fn remove_checkpoint(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), CheckpointError> {
    check_name(name)?;
    let file = file_of(dir, name);
    match disk.remove(&file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(CheckpointError::NotFound { file }),
        removed => removed.trying("remove", &file),
    }?;
    disk.sync_dir(dir).trying("sync", dir)
}

/// Removes what was left by writers that never finished. Only while no writer is at work in `dir`: at
/// the start of a process.
pub fn remove_unfinished_checkpoints(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    for name in list(disk, dir)?
        .into_iter()
        .filter(|name| name.ends_with(DRAFT_SUFFIX))
    {
        let file = dir.join(name);
        disk.remove(&file).trying("remove", &file)?;
    }
    Ok(())
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>, CheckpointError> {
    match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.trying("list", dir),
    }
}

/// Makes `dir`, durably.
fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
    disk.create_dir(dir).trying("create", dir)?;
    for parent in dir.ancestors().skip(1) {
        disk.sync_dir(parent).trying("sync", parent)?;
    }
    Ok(())
}

/// A new file, in the place of one that an earlier writer may have left.
fn create_anew(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>, CheckpointError> {
    match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.trying("remove", path),
    }?;
    disk.open(path, OpenMode::CreateNew).trying("create", path)
}

/// The fixed parts of a file that is being opened.
struct Parts<'a> {
    path: &'a Path,
    file: &'a dyn DiskFile,
}

impl Parts<'_> {
    fn read_header(&self) -> Result<(Bytes, u32), CheckpointError> {
        let bytes = self.read(0, HEADER as u64)?;
        let header = decode_header(&bytes).map_err(|error| match error {
            HeaderError::Damaged(what) => self.damaged(0, what),
            HeaderError::Newer(found) => CheckpointError::NewerVersion {
                file: self.path.to_owned(),
                found,
                supported: VERSION,
            },
        })?;
        let meta_len = u64::from(header.meta_len);
        if meta_len > MAX_META {
            return Err(self.damaged(0, "its meta data is too long"));
        }
        let meta = self.read(HEADER as u64, meta_len)?;
        if crc32c::crc32c(&meta) != header.meta_crc {
            return Err(self.damaged(HEADER as u64, "the checksum of its meta data is wrong"));
        }
        Ok((Bytes::from(meta), header.crc))
    }

    /// The trailer, and where the index of chunks before it begins.
    fn read_trailer(&self, header_crc: u32, data_start: u64) -> Result<(Trailer, u64), CheckpointError> {
        let length = self.file.len().trying("read", self.path)?;
        let Some(at) = length.checked_sub(TRAILER as u64).filter(|at| *at >= data_start) else {
            return Err(self.damaged(length, "the file is too short"));
        };
        let bytes = self.read(at, TRAILER as u64)?;
        let Some(trailer) = Trailer::decode(header_crc, &bytes) else {
            return Err(self.damaged(at, "it does not end like this checkpoint"));
        };
        let index_len = u64::from(trailer.chunks) * CHUNK_PLACE as u64;
        match at.checked_sub(index_len).filter(|start| *start >= data_start) {
            Some(start) if trailer.file_length == length => Ok((trailer, start)),
            _ => Err(self.damaged(at, "its length is not what its trailer says")),
        }
    }

    fn read_index(
        &self,
        trailer: &Trailer,
        data_start: u64,
        at: u64,
    ) -> Result<Vec<ChunkPlace>, CheckpointError> {
        let bytes = self.read(at, u64::from(trailer.chunks) * CHUNK_PLACE as u64)?;
        if crc32c::crc32c(&bytes) != trailer.index_crc {
            return Err(self.damaged(at, "the checksum of its index is wrong"));
        }
        let chunks: Vec<ChunkPlace> = bytes.chunks_exact(CHUNK_PLACE).map(ChunkPlace::decode).collect();
        let mut next = data_start;
        for chunk in &chunks {
            if chunk.offset != next || u64::from(chunk.length) > MAX_CHUNK {
                return Err(self.damaged(at, "its index makes no sense"));
            }
            next += u64::from(chunk.length);
        }
        if next == at {
            Ok(chunks)
        } else {
            Err(self.damaged(at, "its index does not cover its chunks"))
        }
    }

    /// Reads bytes whose number has been bounded, after checking that the file has them.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, CheckpointError> {
        let length = self.file.len().trying("read", self.path)?;
        if length.saturating_sub(offset) < len {
            return Err(self.damaged(length, "the file is too short"));
        }
        let mut bytes = vec![0; size(len)];
        read_exact_at(self.file, offset, &mut bytes).trying("read", self.path)?;
        Ok(bytes)
    }

    fn damaged(&self, offset: u64, what: &'static str) -> CheckpointError {
        CheckpointError::Damaged {
            file: self.path.to_owned(),
            offset,
            what,
        }
    }
}

fn file_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}{SUFFIX}"))
}

fn check_name(name: &str) -> Result<(), CheckpointError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(CheckpointError::BadName(name.to_owned()));
    }
    Ok(())
}

fn check_limit(what: &'static str, size: u64, limit: u64) -> Result<(), CheckpointError> {
    if size > limit {
        Err(CheckpointError::TooLarge { what, size, limit })
    } else {
        Ok(())
    }
}

trait Trying<T> {
    fn trying(self, action: &'static str, file: &Path) -> Result<T, CheckpointError>;
}

impl<T> Trying<T> for io::Result<T> {
    fn trying(self, action: &'static str, file: &Path) -> Result<T, CheckpointError> {
        self.map_err(|source| CheckpointError::Io {
            action,
            file: file.to_owned(),
            source,
        })
    }
}

const SUFFIX: &str = ".ckpt";
const DRAFT_SUFFIX: &str = ".ckpt.tmp";
const MAX_NAME: usize = 200;
const MAX_META: u64 = 1 << 20;
const MAX_CHUNK: u64 = 16 << 20;
