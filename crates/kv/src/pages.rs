//! Reading a range piece by piece, at one revision, without counting what is left.

use bytes::Bytes;

use crate::{Error, KeyRange, KeyValue, Keyspace, Projection, Revision};

/// A piece of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The keys from where the piece begins.
    pub keys: KeyRange,
    /// The revision they are read at; none: the newest.
    pub at: Option<Revision>,
    /// What is wanted of each key.
    pub projection: Projection,
    /// The most keys.
    pub max_keys: usize,
    /// The bytes of keys and values after which the piece ends; it has one key at least.
    pub max_bytes: usize,
}

/// A piece of a range, in the order of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The newest revision there is, which is where the next piece must be read if none was said.
    pub revision: Revision,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// What is left of the range; none at its end.
    pub rest: Option<KeyRange>,
}

impl Keyspace {
    /// Reads a piece of a range.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::FutureRevision`] and [`Error::Compacted`] when the revision asked for
    /// is not there.
    pub fn page(&self, request: &PageRequest) -> Result<Page, Error> {
        crate::check::keys(&request.keys)?;
        if let Some(at) = request.at {
            self.store.check_readable(at)?;
        }
        let mut page = Page {
            revision: self.store.revision(),
            kvs: Vec::new(),
            rest: None,
        };
        let mut bytes = 0;
        for record in self.store.range(&request.keys, request.at) {
            let is_full = page.kvs.len() >= request.max_keys || bytes >= request.max_bytes;
            if is_full && !page.kvs.is_empty() {
                page.rest = Some(request.keys.starting_at(Bytes::copy_from_slice(record.key())));
                break;
            }
            let kv = match request.projection {
                Projection::KeysAndValues => record.to_key_value(),
                Projection::KeysOnly | Projection::CountOnly => record.to_key_only(),
            };
            bytes += kv.key.len() + kv.value.len();
            page.kvs.push(kv);
        }
        Ok(page)
    }
}
