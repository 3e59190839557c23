//! Database files of bbolt, which is what etcd's backups are: written in one go, read with distrust.
//!
//! - [`Writer`] loads buckets whose keys come in order, and writes each page once, from the first to the
//!   last: to a file or to a socket. The first pages name the last ones, so the same entries are put twice:
//!   once to [`Writer::measure`], which says what there will be, and once to be written.
//! - [`Database`] reads a file that anybody may have made: every number in it is checked before it is used,
//!   and what is wrong is an error that names the page and the byte. It never panics, and it holds one page
//!   for each level of a tree.
//! - It knows pages, trees and buckets. What a bucket means is its user's business.
//!
//! Left out: changing a file, and the list of free pages of a file that is read.
//!
//! To read it: `layout.rs` (what is where), `write.rs`, `read.rs`.

#![forbid(unsafe_code)]

mod layout;
mod read;
mod write;

pub use layout::{MAX_KEY_BYTES, MAX_VALUE_BYTES, PAGE_BYTES};
pub use read::{Bucket, Database, Entries, Entry, ReadAt, ReadError};
pub use write::{Plan, WriteError, Writer};
