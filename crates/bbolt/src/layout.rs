//! What is where in a file.
//!
//! A file is a row of pages; all numbers are little-endian. A page that is too small for what it holds is
//! followed by more, which it counts in `overflow`.
//!
//! | bytes of a page | field | |
//! |---|---|---|
//! | 0..8 | id | its place in the file |
//! | 8..10 | flags | what it is: one of [`PageKind`] |
//! | 10..12 | count | of its elements |
//! | 12..16 | overflow | how many pages more belong to it |
//!
//! Then, in a leaf, 16 bytes for each element: flags, distance from here to its key, and the lengths of key
//! and value, 4 bytes each; the value follows its key. In a branch: the same distance and length of a key, and
//! the id of the child whose keys begin with it, 8 bytes.
//!
//! The value of an element with the flag [`BUCKET`] is a bucket: the id of its tree's root and a counter, 8
//! bytes each. A small bucket has no page: its root is 0, and a leaf without an id follows.
//!
//! Pages 0 and 1 are both of this kind, and the one with the higher transaction that is whole is valid:
//!
//! | bytes after the page's header | field | |
//! |---|---|---|
//! | 0..4 | magic | [`MAGIC`] |
//! | 4..8 | version | [`VERSION`] |
//! | 8..12 | page size | |
//! | 12..16 | flags | 0 |
//! | 16..32 | root | the bucket of all buckets |
//! | 32..40 | free list | its page; all ones for none |
//! | 40..48 | pages | one above the last page in use |
//! | 48..56 | transaction | |
//! | 56..64 | checksum | FNV-1a, 64 bits, of the 56 bytes before |

/// Bytes of a page in files that are written.
pub const PAGE_BYTES: usize = 4096;

/// The longest key that there can be.
pub const MAX_KEY_BYTES: usize = 32 << 10;

/// The longest value that there can be.
pub const MAX_VALUE_BYTES: usize = (1 << 31) - 2;

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;

/// Bytes of a page before its elements.
pub(crate) const PAGE_HEADER: usize = 16;
/// Bytes of an element, of a leaf or of a branch.
pub(crate) const ELEMENT: usize = 16;
/// Bytes of a bucket before the page of a small one.
pub(crate) const BUCKET_HEADER: usize = 16;
/// Bytes of what pages 0 and 1 hold.
pub(crate) const META: usize = 64;
/// Of these, the ones that the checksum is of.
pub(crate) const META_CHECKED: usize = 56;
/// The flag of a leaf's element that is a bucket.
pub(crate) const BUCKET: u32 = 1;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    Branch,
    Leaf,
    Meta,
    FreeList,
}

impl PageKind {
    pub(crate) fn flags(self) -> u16 {
        match self {
            Self::Branch => 0x01,
            Self::Leaf => 0x02,
            Self::Meta => 0x04,
            Self::FreeList => 0x10,
        }
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The two bytes at a place; 0 where there are none.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array_at(bytes, at).map_or(0, u16::from_le_bytes)
}

/// The four bytes at a place; 0 where there are none.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array_at(bytes, at).map_or(0, u32::from_le_bytes)
}

/// The eight bytes at a place; 0 where there are none.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array_at(bytes, at).map_or(0, u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
