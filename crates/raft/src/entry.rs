//! Log entries, and slices of a log that were checked once when they were built.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::configuration::Configuration;
use crate::types::{EntryId, Term};

/// One place of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, and who made it.
    pub id: EntryId,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a leader's first entry, by which it commits what came before (thesis §6.4, §3.6.2).
    Noop,
    /// A command for the state machine. Its bytes are the application's.
    Command(Bytes),
    /// The members from this entry on, whether committed or not (thesis §4.1).
    Configuration(Arc<Configuration>),
    /// A command of which a witness keeps only that it is there.
    Stripped,
}

impl Entry {
    /// What the entry weighs in bounds and budgets, in bytes: its payload and its identity.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let payload = match &self.payload {
            Payload::Noop | Payload::Stripped => 0,
            Payload::Command(bytes) => bytes.len() as u64,
            Payload::Configuration(configuration) => configuration.weight(),
        };
        payload + IDENTITY_BYTES
    }
}

impl Entry {
    /// What a witness keeps of it: all but a command's bytes.
    #[must_use]
    pub fn stripped(&self) -> Self {
        let payload = match &self.payload {
            Payload::Command(_) | Payload::Stripped => Payload::Stripped,
            Payload::Noop => Payload::Noop,
            Payload::Configuration(configuration) => Payload::Configuration(Arc::clone(configuration)),
        };
        Self { id: self.id, payload }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.payload {
            Payload::Noop => write!(f, "{}", self.id),
            Payload::Command(bytes) => write!(f, "{} {:?}", self.id, String::from_utf8_lossy(bytes)),
            Payload::Configuration(configuration) => write!(f, "{} {configuration}", self.id),
            Payload::Stripped => write!(f, "{} stripped", self.id),
        }
    }
}

/// A run of entries and the entry before it.
///
/// Always true: indexes follow `prev` without a gap, terms never fall, and none is below `prev`'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSlice {
    prev: EntryId,
    entries: Vec<Entry>,
}

/// Why a run of entries is not a slice of any log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SliceError {
    /// An entry's index is not one more than that of the entry before it.
    #[error("entry {found} follows {prev}: the log has a gap or goes back")]
    NotContiguous {
        /// The entry before.
        prev: EntryId,
        /// The entry that does not follow it.
        found: EntryId,
    },
    /// An entry's term is lower than that of the entry before it.
    #[error("entry {found} follows {prev}: terms never fall along a log")]
    TermFell {
        /// The entry before.
        prev: EntryId,
        /// The entry of the lower term.
        found: EntryId,
    },
}

impl LogSlice {
    /// The entries after `prev`.
    ///
    /// # Errors
    /// When the entries do not follow `prev` and each other.
    pub fn new(prev: EntryId, entries: Vec<Entry>) -> Result<Self, SliceError> {
        let mut last = prev;
        for entry in &entries {
            let found = entry.id;
            if found.index != last.index.next() {
                return Err(SliceError::NotContiguous { prev: last, found });
            }
            if found.term < last.term {
                return Err(SliceError::TermFell { prev: last, found });
            }
            last = found;
        }
        Ok(Self { prev, entries })
    }

    /// The entry before the first.
    #[must_use]
    pub fn prev(&self) -> EntryId {
        self.prev
    }

    /// The last entry, or the one before the first when there is none.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.prev, |entry| entry.id)
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, owned.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a command's bytes were kept from it.
    #[must_use]
    pub fn is_stripped(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.payload == Payload::Stripped)
    }

    /// The highest term among the entries and the one before them.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.last().term
    }
}

impl fmt::Display for LogSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prev={} [", self.prev)?;
        for (n, entry) in self.entries.iter().enumerate() {
            write!(f, "{}{entry}", if n == 0 { "" } else { ", " })?;
        }
        write!(f, "]")
    }
}

/// Sums what `entries` weigh, in bytes.
#[must_use]
pub fn weight_of(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::weight).sum()
}

/// Term and index, as they weigh in a frame.
const IDENTITY_BYTES: u64 = 16;
