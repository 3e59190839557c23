//! The bytes of a checkpoint file around its chunks: header, index of chunks, trailer. Drawn in
//! `docs/formats/wal.md`.

use crate::layout::{get_u32, get_u64, put_u32, put_u64};

/// Where a chunk is, and its checksum.
pub(crate) struct ChunkPlace {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl ChunkPlace {
    pub(crate) fn encode(&self, buf: &mut [u8]) {
        put_u64(buf, 0, self.offset);
        put_u32(buf, 8, self.length);
        put_u32(buf, 12, self.crc);
    }

    pub(crate) fn decode(buf: &[u8]) -> ChunkPlace {
        ChunkPlace {
            offset: get_u64(buf, 0),
            length: get_u32(buf, 8),
            crc: get_u32(buf, 12),
        }
    }
}

pub(crate) struct Trailer {
    pub(crate) chunks: u32,
    pub(crate) index_crc: u32,
    pub(crate) file_length: u64,
    pub(crate) whole_crc: u32,
}

impl Trailer {
    pub(crate) fn encode(&self, header_crc: u32, buf: &mut [u8]) {
        buf[..8].copy_from_slice(TRAILER_MAGIC);
        put_u32(buf, 8, self.chunks);
        put_u32(buf, 12, self.index_crc);
        put_u64(buf, 16, self.file_length);
        put_u32(buf, 24, self.whole_crc);
        put_u32(buf, 28, crc32c::crc32c_append(header_crc, &buf[..28]));
    }

    /// `None` if these bytes are not the trailer of a file whose header has this checksum.
    pub(crate) fn decode(header_crc: u32, buf: &[u8]) -> Option<Trailer> {
        let sound =
            &buf[..8] == TRAILER_MAGIC && crc32c::crc32c_append(header_crc, &buf[..28]) == get_u32(buf, 28);
        let trailer = Trailer {
            chunks: get_u32(buf, 8),
            index_crc: get_u32(buf, 12),
            file_length: get_u64(buf, 16),
            whole_crc: get_u32(buf, 24),
        };
        (sound && u64::from(trailer.chunks) <= MAX_CHUNKS).then_some(trailer)
    }
}

/// The header and the meta data behind it, and the header's checksum.
pub(crate) fn encode_header(meta: &[u8]) -> (Vec<u8>, u32) {
    let mut header = vec![0; HEADER];
    header[..8].copy_from_slice(HEADER_MAGIC);
    put_u32(&mut header, 8, VERSION);
    put_u32(
        &mut header,
        12,
        u32::try_from(meta.len()).expect("at most MAX_META"),
    );
    put_u32(&mut header, 16, crc32c::crc32c(meta));
    let crc = crc32c::crc32c(&header[..HEADER - 4]);
    put_u32(&mut header, HEADER - 4, crc);
    header.extend_from_slice(meta);
    (header, crc)
}

/// What the first bytes of a checkpoint say.
pub(crate) struct Header {
    pub(crate) meta_len: u32,
    pub(crate) meta_crc: u32,
    /// Its own checksum, to which everything else is bound.
    pub(crate) crc: u32,
}

/// Why the first bytes of a file are not the header of a checkpoint.
pub(crate) enum HeaderError {
    Damaged(&'static str),
    Newer(u32),
}

pub(crate) fn decode_header(buf: &[u8]) -> Result<Header, HeaderError> {
    if &buf[..8] != HEADER_MAGIC {
        return Err(HeaderError::Damaged("it does not begin like a checkpoint"));
    }
    let crc = get_u32(buf, HEADER - 4);
    if crc32c::crc32c(&buf[..HEADER - 4]) != crc {
        return Err(HeaderError::Damaged("the checksum of its header is wrong"));
    }
    match get_u32(buf, 8) {
        VERSION => Ok(Header {
            meta_len: get_u32(buf, 12),
            meta_crc: get_u32(buf, 16),
            crc,
        }),
        0 => Err(HeaderError::Damaged("its version makes no sense")),
        newer => Err(HeaderError::Newer(newer)),
    }
}

/// The checksum of a chunk, bound to its file and its number.
pub(crate) fn chunk_crc(header_crc: u32, number: u32, chunk: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(header_crc, &number.to_le_bytes()), chunk)
}

pub(crate) const VERSION: u32 = 1;
const HEADER_MAGIC: &[u8; 8] = b"QUORCKP\n";
const TRAILER_MAGIC: &[u8; 8] = b"QUOREND\n";
pub(crate) const HEADER: usize = 32;
pub(crate) const TRAILER: usize = 32;
pub(crate) const CHUNK_PLACE: usize = 16;
pub(crate) const MAX_CHUNKS: u64 = 1 << 24;
