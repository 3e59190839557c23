//! What the core knows of snapshots: identities, never data.

use std::fmt;
use std::sync::Arc;

use crate::configuration::Configuration;
use crate::types::EntryId;

/// Says what a snapshot stands for (paper §7, figure 12).
///
/// A new group starts from the snapshot at index 0: an empty state machine and the first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effect is in the snapshot; it was committed.
    pub id: EntryId,
    /// The members as of that entry.
    pub configuration: Arc<Configuration>,
}

impl fmt::Display for SnapshotMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.configuration)
    }
}
