//! Replicas that live in one process: no sockets, no files.
//!
//! For tests of what is built on a replica, and for measuring what the library itself costs. All else is
//! as in production: the loop, the core, the apply thread, snapshots.
//!
//! - A message is handed over as a value; one to a replica that is not there, or whose inbox is full, is lost.
//! - The log is in memory: it is durable at once, and gone with its replica.
//! - A snapshot is copied from replica to replica on a thread of the sender's.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, mpsc};

use parking_lot::RwLock;
use quorate_raft::{
    Delivery, Entry, EntryId, Envelope, LogReadError, MemberKind, NodeId, ReadLog, SendSnapshot,
    SnapshotSent, Write, WriteSeq,
};

use crate::storage::{Snapshots, StorageError};
use crate::transport::Deliver;

/// Connects replicas of one process. Clones are the same network.
#[derive(Clone, Default)]
pub struct LocalNetwork {
    stations: Arc<RwLock<BTreeMap<NodeId, Station>>>,
}

/// Where a replica is reached.
#[derive(Clone)]
struct Station {
    deliver: Arc<dyn Deliver>,
    snapshots: Snapshots,
}

/// A replica's place in a network, for its loop.
pub(crate) struct LocalOutbox {
    network: LocalNetwork,
    errands: mpsc::Sender<Errand>,
}

/// A replica's place in a network, for the thread that copies its snapshots.
pub(crate) struct LocalCourier {
    node: NodeId,
    own: Station,
    network: LocalNetwork,
    errands: mpsc::Receiver<Errand>,
}

/// Ends a replica's place in its network when it is dropped.
pub(crate) struct LocalStopper {
    node: NodeId,
    network: LocalNetwork,
    errands: mpsc::Sender<Errand>,
}

enum Errand {
    Bring(SendSnapshot),
    End,
}

impl LocalNetwork {
    /// A network without replicas.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `node` a place; from here on messages reach it.
    pub(crate) fn join(
        &self,
        node: NodeId,
        deliver: Arc<dyn Deliver>,
        snapshots: Snapshots,
    ) -> (LocalOutbox, LocalCourier, LocalStopper) {
        let own = Station { deliver, snapshots };
        self.stations.write().insert(node, own.clone());
        let (sender, errands) = mpsc::channel();
        let stopper = LocalStopper {
            node,
            network: self.clone(),
            errands: sender.clone(),
        };
        let outbox = LocalOutbox {
            network: self.clone(),
            errands: sender,
        };
        let courier = LocalCourier {
            node,
            own,
            network: self.clone(),
            errands,
        };
        (outbox, courier, stopper)
    }

    fn station(&self, node: NodeId) -> Option<Station> {
        self.stations.read().get(&node).cloned()
    }
}

impl LocalOutbox {
    /// Delivers a message, if its addressee is there.
    pub(crate) fn send(&self, envelope: Envelope) {
        let stations = self.network.stations.read();
        if let Some(station) = stations.get(&envelope.to) {
            station.deliver.receive(&mut vec![envelope]);
        }
    }

    pub(crate) fn send_snapshot(&self, request: SendSnapshot) {
        // The courier ends only when the node does.
        let _ = self.errands.send(Errand::Bring(request));
    }
}

impl LocalCourier {
    /// Brings snapshots until it is stopped.
    pub(crate) fn run(self) {
        while let Ok(Errand::Bring(request)) = self.errands.recv() {
            let (to, term) = (request.announcement.to, request.announcement.term);
            let id = request.meta.id;
            let outcome = match self.bring(request) {
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::warn!(from = %self.node, %to, %id, %error, "a snapshot was not delivered");
                    Delivery::Failed
                }
            };
            self.own.deliver.snapshot_sent(SnapshotSent {
                to,
                id,
                term,
                outcome,
            });
        }
    }

    fn bring(&self, request: SendSnapshot) -> Result<Delivery, StorageError> {
        let Some(peer) = self.network.station(request.announcement.to) else {
            return Ok(Delivery::Failed);
        };
        let id = request.meta.id;
        if !peer.snapshots.ids()?.contains(&id) {
            // As when one comes over TCP: those received in vain go before the next is taken.
            peer.snapshots.prune()?;
            let outgoing = self.own.snapshots.send(id)?;
            let mut writer = peer.snapshots.create(&request.meta)?;
            let chunks = match request.kind {
                MemberKind::Full => outgoing.chunks(),
                MemberKind::Witness => 0,
            };
            for number in 0..chunks {
                let chunk = outgoing.chunk(number);
                writer.write_chunk(&chunk.map_err(|source| StorageError::Io {
                    path: format!("snapshot {id}"),
                    source,
                })?)?;
            }
            writer.finish()?;
        }
        peer.deliver.receive(&mut vec![request.announcement]);
        Ok(Delivery::Delivered)
    }
}

impl Drop for LocalStopper {
    fn drop(&mut self) {
        self.network.stations.write().remove(&self.node);
        // A courier that has ended needs no word.
        let _ = self.errands.send(Errand::End);
    }
}

impl fmt::Debug for LocalNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.stations.read().keys()).finish()
    }
}

/// A log that is lost with its process. Indexes follow each other without a gap.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    entries: VecDeque<Entry>,
}

impl MemoryLog {
    /// Carries out a write; it is durable at once.
    pub(crate) fn write(&mut self, write: Write) -> WriteSeq {
        if write.reset.is_some() {
            self.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            while self
                .entries
                .back()
                .is_some_and(|last| last.id.index >= first.id.index)
            {
                self.entries.pop_back();
            }
        }
        self.entries.extend(write.entries);
        write.seq
    }

    /// Forgets entries up to `upto`.
    pub(crate) fn compact(&mut self, upto: EntryId) {
        while self
            .entries
            .front()
            .is_some_and(|first| first.id.index <= upto.index)
        {
            self.entries.pop_front();
        }
    }

    /// The entries asked for, within the bound, at least one.
    pub(crate) fn read(&self, request: &ReadLog) -> Result<Vec<Entry>, LogReadError> {
        let first = self.entries.front().ok_or(LogReadError::Gone)?.id.index;
        let skip = request.from.0.checked_sub(first.0).ok_or(LogReadError::Gone)?;
        let skip = usize::try_from(skip).map_err(|_| LogReadError::Gone)?;
        let mut bytes = 0;
        let within = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry.weight();
            entry.id.index <= request.to && (first || bytes <= request.max_bytes)
        };
        let rest = self.entries.range(skip.min(self.entries.len())..);
        let found: Vec<Entry> = rest.take_while(within).cloned().collect();
        match found.is_empty() {
            true => Err(LogReadError::Gone),
            false => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Index, Payload, Purpose, Term};

    use super::*;

    fn write(seq: u64, entries: &[(u64, u64)]) -> Write {
        let entry = |(index, term): &(u64, u64)| Entry {
            id: EntryId::new(Index(*index), Term(*term)),
            payload: Payload::Noop,
        };
        Write {
            seq: WriteSeq(seq),
            reset: None,
            hard_state: None,
            entries: entries.iter().map(entry).collect(),
        }
    }

    fn read(log: &MemoryLog, from: u64, max_bytes: u64) -> Result<Vec<(u64, u64)>, LogReadError> {
        let request = ReadLog {
            purpose: Purpose::Apply,
            from: Index(from),
            to: Index(9),
            max_bytes,
        };
        let ids = |entries: Vec<Entry>| {
            entries
                .iter()
                .map(|entry| (entry.id.index.0, entry.id.term.0))
                .collect()
        };
        log.read(&request).map(ids)
    }

    #[test]
    fn a_write_replaces_what_is_at_its_place_and_after() {
        let mut log = MemoryLog::default();
        log.write(write(1, &[(1, 1), (2, 1), (3, 1)]));
        assert_eq!(log.write(write(2, &[(2, 2)])), WriteSeq(2));
        assert_eq!(read(&log, 1, 1000), Ok(vec![(1, 1), (2, 2)]));
    }

    #[test]
    fn a_read_keeps_its_bound_but_brings_one_entry() {
        let mut log = MemoryLog::default();
        log.write(write(1, &[(1, 1), (2, 1), (3, 1)]));
        assert_eq!(read(&log, 2, 1), Ok(vec![(2, 1)]));
        assert_eq!(read(&log, 1, 32), Ok(vec![(1, 1), (2, 1)]));
    }

    #[test]
    fn what_was_compacted_or_never_written_is_gone() {
        let mut log = MemoryLog::default();
        assert_eq!(read(&log, 1, 1000), Err(LogReadError::Gone));
        log.write(write(1, &[(1, 1), (2, 1)]));
        log.compact(EntryId::new(Index(1), Term(1)));
        assert_eq!(read(&log, 1, 1000), Err(LogReadError::Gone));
        assert_eq!(read(&log, 2, 1000), Ok(vec![(2, 1)]));
        assert_eq!(read(&log, 3, 1000), Err(LogReadError::Gone));
    }
}
