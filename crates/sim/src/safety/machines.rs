//! What state machines are handed, and the states they come to (I5, I6, I10).

use quorate_raft::{Entry, EntryId, Index, NodeId};

use super::Safety;
use super::logs::{digest_of, is_stripped, place_of};
use crate::digest::Digest;
use crate::invariant::{Invariant, Violation, require};

impl Safety {
    /// A node's state machine is handed an entry.
    pub(crate) fn applying(&mut self, node: NodeId, entry: &Entry) -> Result<(), Violation> {
        let id = entry.id;
        let committed = self.committed_id(id.index);
        require(committed == Some(id), Invariant::StateMachineSafety, || {
            format!("{node} applies {id}, committed is {committed:?}")
        })?;
        let known = self.entries.get(&place_of(id)).map(|(_, digest)| *digest);
        require(
            known == Some(digest_of(entry)) || (is_stripped(entry) && self.witnesses.contains(&node)),
            Invariant::StateMachineSafety,
            || format!("{node} applies another {id} than was written"),
        )?;
        let watched = self.watched(node);
        let applied = watched.applied;
        require(id.index == applied.next(), Invariant::Monotone, || {
            format!("{node} applies {id} after {applied}")
        })?;
        watched.applied = id.index;
        Ok(())
    }

    /// A node's state machine is handed a snapshot.
    pub(crate) fn restoring(&mut self, node: NodeId, id: EntryId) -> Result<(), Violation> {
        let committed = self.committed_id(id.index);
        require(committed == Some(id), Invariant::StateMachineSafety, || {
            format!("{node} installs snapshot {id}, committed is {committed:?}")
        })?;
        let watched = self.watched(node);
        let applied = watched.applied;
        require(id.index >= applied, Invariant::Monotone, || {
            format!("{node} installs snapshot {id} after it applied {applied}")
        })?;
        watched.applied = id.index;
        Ok(())
    }

    /// A node's state machine is in this state after the entry at `index`.
    pub(crate) fn in_state(&mut self, node: NodeId, index: Index, state: Digest) -> Result<(), Violation> {
        if self.witnesses.contains(&node) {
            return Ok(());
        }
        let first = *self.states.entry(index).or_insert(state);
        require(first == state, Invariant::EqualState, || {
            format!("{node} is in state {state} after {index}, another node was in {first}")
        })
    }

    /// A node makes, or has restored, a snapshot at `index` of all this.
    pub(crate) fn holds(&mut self, node: NodeId, index: Index, content: Digest) -> Result<(), Violation> {
        if self.witnesses.contains(&node) {
            return Ok(());
        }
        let first = *self.contents.entry(index).or_insert(content);
        require(first == content, Invariant::EqualState, || {
            format!("{node} holds {content} at snapshot {index}, another node held {first}")
        })
    }
}
