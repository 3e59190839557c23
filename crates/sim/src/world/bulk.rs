//! Snapshots on their way from node to node, beside the messages.
//!
//! A transfer ends in one of two ways, of which the sender's core is told one, once. The receiver's
//! core hears of it only when all of it is durable there. A chunk may come twice, and then late.

use quorate::driver::DriverInput;
use quorate::storage::{Outgoing, SnapshotWriter, StorageError};
use quorate_raft::{Delivery, MemberKind, NodeId, SendSnapshot};

use super::{Happening, World};
use crate::invariant::Violation;
use crate::marks::Mark;
use crate::rng::{Rng, Stream};
use crate::server::Life;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TransferId(u64);

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    from: (NodeId, Life),
    to: (NodeId, Life),
    request: SendSnapshot,
    outgoing: Outgoing,
    receiving: Receiving,
    rng: Rng,
}

/// How much the receiver has.
#[derive(Debug)]
enum Receiving {
    Nothing,
    Half(SnapshotWriter),
    Whole,
}

/// What came of a chunk at the receiver.
enum Taken {
    /// It is not the next one.
    Ignored,
    More,
    Whole,
    Refused,
}

impl Transfer {
    /// The sender.
    pub(super) fn from(&self) -> NodeId {
        self.from.0
    }

    /// The receiver.
    pub(super) fn to(&self) -> NodeId {
        self.to.0
    }
}

impl World {
    pub(super) fn begin_transfer(
        &mut self,
        node: NodeId,
        life: Life,
        request: SendSnapshot,
    ) -> Result<(), Violation> {
        let to = request.announcement.to;
        let to = (to, self.servers[&to].life);
        let Some(process) = self.process(node, life) else {
            return Ok(());
        };
        let Ok(outgoing) = process.snapshots.send(request.meta.id) else {
            return self.give(node, life, sent(&request, Delivery::Failed));
        };
        let number = self.network.begin_transfer();
        let id = TransferId(number);
        let transfer = Transfer {
            from: (node, life),
            to,
            request,
            outgoing,
            receiving: Receiving::Nothing,
            rng: Rng::new(self.seed, Stream::Transfer(number)),
        };
        self.transfers.insert(id, transfer);
        self.next_chunk(id)
    }

    /// A chunk arrives at the receiver.
    pub(super) fn chunk(&mut self, id: TransferId, number: u32) -> Result<(), Violation> {
        let Some(mut transfer) = self.transfers.remove(&id) else {
            return Ok(());
        };
        let (node, life) = transfer.to;
        let can_go_on = self.process(transfer.from.0, transfer.from.1).is_some();
        if self.process(node, life).is_none() || !can_go_on {
            return self.end_transfer(transfer, Delivery::Failed);
        }
        let taken = self.take_chunk(&mut transfer, number);
        match taken {
            Err(error) => {
                self.end_transfer(transfer, Delivery::Failed)?;
                self.snapshot_failed(node, &error)
            }
            Ok(Taken::Refused) => self.end_transfer(transfer, Delivery::Failed),
            Ok(Taken::Ignored) => {
                self.transfers.insert(id, transfer);
                Ok(())
            }
            Ok(Taken::More) => {
                let pause = self.pause_of(transfer.from.0);
                self.transfers.insert(id, transfer);
                if pause.is_zero() {
                    return self.next_chunk(id);
                }
                self.schedule.after(pause, Happening::NextChunk(id));
                Ok(())
            }
            Ok(Taken::Whole) => {
                let announcement = transfer.request.announcement.clone();
                let meta_id = transfer.request.meta.id;
                self.note(|| format!("{node} received snapshot {meta_id}"));
                let answer_takes = self
                    .network
                    .send_chunk(node, transfer.from.0, id.0, &mut transfer.rng);
                match answer_takes {
                    Some(after) => {
                        self.transfers.insert(id, transfer);
                        self.schedule.after(after, Happening::Delivered(id));
                    }
                    None => self.end_transfer(transfer, Delivery::Failed)?,
                }
                self.give(node, life, DriverInput::Receive(announcement))
            }
        }
    }

    /// The sender learns that all has arrived.
    pub(super) fn delivered(&mut self, id: TransferId) -> Result<(), Violation> {
        match self.transfers.remove(&id) {
            Some(transfer) => self.end_transfer(transfer, Delivery::Delivered),
            None => Ok(()),
        }
    }

    pub(super) fn next_chunk(&mut self, id: TransferId) -> Result<(), Violation> {
        let Some(transfer) = self.transfers.get_mut(&id) else {
            return Ok(());
        };
        let (from, to) = (transfer.from.0, transfer.to.0);
        if let Some(after) = self.network.send_chunk(from, to, id.0, &mut transfer.rng) {
            let number = match &transfer.receiving {
                Receiving::Half(writer) => writer.chunks(),
                Receiving::Nothing | Receiving::Whole => 0,
            };
            let again = self.network.repeat_chunk(id.0, &mut transfer.rng);
            for after in [Some(after), again].into_iter().flatten() {
                self.schedule.after(after, Happening::Chunk(id, number));
            }
            return Ok(());
        }
        match self.transfers.remove(&id) {
            Some(transfer) => self.end_transfer(transfer, Delivery::Failed),
            None => Ok(()),
        }
    }

    fn end_transfer(&mut self, transfer: Transfer, outcome: Delivery) -> Result<(), Violation> {
        if outcome == Delivery::Failed {
            self.marks.reach(Mark::SnapshotBroken);
        }
        let (node, life) = transfer.from;
        self.give(node, life, sent(&transfer.request, outcome))
    }

    fn take_chunk(&mut self, transfer: &mut Transfer, number: u32) -> Result<Taken, StorageError> {
        let id = transfer.request.meta.id;
        let Some(process) = self.process(transfer.to.0, transfer.to.1) else {
            return Ok(Taken::Refused);
        };
        if matches!(transfer.receiving, Receiving::Nothing) {
            if process.snapshots.ids()?.contains(&id) {
                transfer.receiving = Receiving::Whole;
                return Ok(Taken::Whole);
            }
            match process.snapshots.create(&transfer.request.meta) {
                Ok(writer) => transfer.receiving = Receiving::Half(writer),
                Err(StorageError::Busy { .. }) => {
                    self.marks.reach(Mark::SnapshotBusy);
                    return Ok(Taken::Refused);
                }
                Err(error) => return Err(error),
            }
        }
        let Receiving::Half(writer) = &mut transfer.receiving else {
            return Ok(Taken::Ignored);
        };
        // A witness is brought no state, but that there is one.
        if transfer.request.kind == MemberKind::Full {
            if !writer.is_next(number) {
                self.marks.reach(Mark::ChunkAgain);
                return Ok(Taken::Ignored);
            }
            let Ok(chunk) = transfer.outgoing.chunk(number) else {
                return Ok(Taken::Refused);
            };
            writer.write_chunk(&chunk)?;
            if writer.chunks() < transfer.outgoing.chunks() {
                return Ok(Taken::More);
            }
        }
        match std::mem::replace(&mut transfer.receiving, Receiving::Whole) {
            Receiving::Half(writer) => writer.finish().map(|()| Taken::Whole),
            Receiving::Nothing | Receiving::Whole => Ok(Taken::Ignored),
        }
    }
}

fn sent(request: &SendSnapshot, outcome: Delivery) -> crate::ports::Input {
    DriverInput::SnapshotSent(request.ended(outcome))
}
