//! What the loop takes its inputs from, and how a node's life ends.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use quorate_raft::{Envelope, Rejection, Status};
use tokio::sync::oneshot;

use super::requests::{Proposer, Request, refuse};
use crate::driver::{DriverInput, Failure};
use crate::error::Stopped;
use crate::machine::Machine;
use crate::queue::{Bound, Kind, Queue, Taken};
use crate::transport;

/// One thing for the loop to take in.
pub(crate) enum LoopInput<M: Machine> {
    Driver(Request<M>),
    Status(oneshot::Sender<Status>),
    /// End, for the reason that [`Fate`] knows.
    Stop,
}

/// The loop's queue. Requests and messages are bounded; completions are bounded by what they complete.
pub(crate) struct Inbox<M: Machine> {
    queue: Queue<LoopInput<M>>,
    /// How many requests may wait before more are refused, and messages before more are dropped.
    bound: Bound,
}

impl<M: Machine> Inbox<M> {
    pub(crate) fn new(bound: Bound) -> Self {
        Self {
            queue: Queue::new(),
            bound,
        }
    }

    /// Hands a client's request to the loop, or refuses it by its own responder.
    pub(crate) fn submit(&self, request: Request<M>) {
        let bytes = weight(&request);
        let mut refused = None;
        let input = [(LoopInput::Driver(request), bytes)];
        self.queue
            .extend_within(Kind::Request, self.bound, input, |input| refused = Some(input));
        if let Some(LoopInput::Driver(request)) = refused {
            fail(request, Failure::Rejected(Rejection::Overloaded));
        }
    }

    /// Has a command proposed; says where its response will come.
    pub(crate) fn propose(&self, command: Bytes) -> oneshot::Receiver<Result<M::Response, Failure>> {
        let (sender, receiver) = oneshot::channel();
        let proposer = Proposer(sender);
        self.submit(DriverInput::Propose { command, proposer });
        receiver
    }

    /// Hands messages of a peer to the loop. Those that are too many are dropped: the protocol repeats them.
    /// Says how many.
    pub(crate) fn receive(&self, envelopes: impl IntoIterator<Item = Envelope>) -> usize {
        let mut dropped = 0;
        let inputs = envelopes.into_iter().map(|envelope| {
            let bytes = transport::weight(&envelope.message);
            (LoopInput::Driver(DriverInput::Receive(envelope)), bytes)
        });
        self.queue
            .extend_within(Kind::Message, self.bound, inputs, |_input| dropped += 1);
        dropped
    }

    /// Hands a completion to the loop.
    pub(crate) fn complete(&self, completion: Request<M>) {
        // A loop that has ended needs no completions.
        let _ = self.queue.push(LoopInput::Driver(completion));
    }

    /// As [`Self::complete`], for one that may wait until something else happens or a tick passes.
    pub(crate) fn complete_quietly(&self, completion: Request<M>) {
        let _ = self.queue.push_quietly(LoopInput::Driver(completion));
    }

    pub(crate) fn ask_status(&self, asker: oneshot::Sender<Status>) {
        let _ = self.queue.push(LoopInput::Status(asker));
    }

    pub(super) fn take(&self, batch: &mut Vec<LoopInput<M>>, deadline: std::time::Instant) -> Taken {
        self.queue.take(batch, Some(deadline))
    }

    /// Lets nothing more in, and drops what waits: whoever waits for it learns that the node stopped.
    pub(super) fn abandon(&self) {
        self.queue.abandon();
    }
}

/// Why the node ends, decided once, by whoever is first.
pub(crate) struct Fate<M: Machine> {
    reason: OnceLock<Stopped>,
    inbox: Arc<Inbox<M>>,
    directory: String,
}

impl<M: Machine> Fate<M> {
    pub(crate) fn new(inbox: Arc<Inbox<M>>, directory: String) -> Self {
        Self {
            directory,
            reason: OnceLock::new(),
            inbox,
        }
    }

    /// Ends the node for `reason`, unless it ends already.
    pub(crate) fn seal(&self, reason: Stopped) {
        if self.reason.set(reason.clone()).is_ok() {
            match &reason {
                Stopped::Shutdown => tracing::info!("the node shuts down"),
                Stopped::Failed(why) => tracing::error!(%why, "the node stops"),
            }
            let _ = self.inbox.queue.push(LoopInput::Stop);
        }
    }

    /// Ends the node because it cannot go on.
    pub(crate) fn fail(&self, why: &dyn std::fmt::Display) {
        self.seal(Stopped::Failed(why.to_string().into()));
    }

    /// Ends the node because of its data directory, which it names.
    pub(crate) fn fail_on_disk(&self, error: &(dyn std::error::Error + 'static)) {
        let advice = crate::storage::disk_full_advice(error);
        self.fail(&format!("{}: {error}{advice}", self.directory));
    }

    pub(crate) fn reason(&self) -> Option<Stopped> {
        self.reason.get().cloned()
    }
}

/// What a request of a client holds in memory, in bytes, beside its place in the queue.
fn weight<M: Machine>(request: &Request<M>) -> u64 {
    match request {
        DriverInput::Propose { command, .. } => command.len() as u64,
        DriverInput::Reconfigure { target, .. } => target.weight(),
        DriverInput::Read { .. }
        | DriverInput::TransferLeadership { .. }
        | DriverInput::Tick
        | DriverInput::Receive(_)
        | DriverInput::Persisted(_)
        | DriverInput::Applied(_)
        | DriverInput::LogRead { .. }
        | DriverInput::SnapshotSaved(_)
        | DriverInput::SnapshotSent { .. }
        | DriverInput::PeerGone(_)
        | DriverInput::Restored(_) => 0,
    }
}

fn fail<M: Machine>(request: Request<M>, failure: Failure) {
    match request {
        DriverInput::Propose { proposer, .. } => proposer.fail(failure),
        DriverInput::Read { reader, .. } => refuse(reader, failure),
        DriverInput::TransferLeadership { operator, .. } | DriverInput::Reconfigure { operator, .. } => {
            operator.end(Err(failure));
        }
        DriverInput::Tick
        | DriverInput::Receive(_)
        | DriverInput::Persisted(_)
        | DriverInput::Applied(_)
        | DriverInput::LogRead { .. }
        | DriverInput::SnapshotSaved(_)
        | DriverInput::SnapshotSent(_)
        | DriverInput::PeerGone(_)
        | DriverInput::Restored(_) => {}
    }
}
