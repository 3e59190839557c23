//! Reads that wait for a leader to prove that it still leads (thesis §6.4).
//!
//! - A read joins a round of heartbeats that begins after the read came, never one under way.
//! - It is served at the commit index of the moment the round began.
//! - No round begins before the leader has committed an entry of its own term: until then its commit
//!   index may be behind what was acknowledged (etcd #7331).
//! - One round is under way at a time; reads that come meanwhile share the next.

use crate::message::ReadId;
use crate::mutant::mutant;
use crate::types::{Index, NodeId, Round, Ticket};

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A client of this node.
    Client(Ticket),
    /// Clients of a follower.
    Peer(NodeId, ReadId),
}

/// Reads that wait, in two groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadQueue {
    waiting: Vec<Reader>,
    confirming: Option<Confirming>,
}

#[derive(Clone, Debug)]
struct Confirming {
    round: Round,
    index: Index,
    readers: Vec<Reader>,
}

impl ReadQueue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
            + self
                .confirming
                .as_ref()
                .map_or(0, |confirming| confirming.readers.len())
    }

    pub(crate) fn push(&mut self, reader: Reader) {
        match &mut self.confirming {
            Some(confirming) if mutant!(M57) => confirming.readers.push(reader),
            _ => self.waiting.push(reader),
        }
    }

    /// Whether a round should begin for those that wait.
    pub(crate) fn wants_round(&self) -> bool {
        self.confirming.is_none() && !self.waiting.is_empty()
    }

    /// `round` begins, at commit index `index`, for all that wait.
    pub(crate) fn begin(&mut self, round: Round, index: Index) {
        let readers = std::mem::take(&mut self.waiting);
        self.confirming = Some(Confirming {
            round,
            index,
            readers,
        });
    }

    /// A quorum has answered all rounds up to `acked`: the reads that this confirms, and their index.
    pub(crate) fn confirm(&mut self, acked: Round) -> Option<(Index, Vec<Reader>)> {
        let confirmed = self.confirming.take_if(|confirming| confirming.round <= acked)?;
        Some((confirmed.index, confirmed.readers))
    }

    /// Empties the queue: the leadership is over.
    pub(crate) fn drain(&mut self) -> Vec<Reader> {
        let mut readers = std::mem::take(&mut self.waiting);
        readers.extend(
            self.confirming
                .take()
                .into_iter()
                .flat_map(|confirming| confirming.readers),
        );
        readers
    }
}
