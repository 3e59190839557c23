//! The messages that wait for one peer.
//!
//! - Bounded in bytes. What is too much is dropped: the protocol sends it again.
//! - Without a connection nothing waits: what would be old when it arrives need not arrive.

use parking_lot::Mutex;
use quorate_raft::entry::weight_of;
use quorate_raft::message::LogSuffix;
use quorate_raft::{Envelope, Message};
use tokio::sync::Notify;

pub(super) struct Lane {
    state: Mutex<State>,
    filled: Notify,
    max_bytes: u64,
}

#[derive(Default)]
struct State {
    connected: bool,
    envelopes: Vec<Envelope>,
    bytes: u64,
}

impl Lane {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            max_bytes,
        }
    }

    /// Has a message wait, unless it must be dropped; says whether it waits.
    pub(super) fn push(&self, envelope: Envelope) -> bool {
        let bytes = weight(&envelope.message);
        let mut state = self.state.lock();
        // A message that is larger than the bound travels alone.
        let fits = state.envelopes.is_empty() || state.bytes + bytes <= self.max_bytes;
        if !state.connected || !fits {
            return false;
        }
        state.bytes += bytes;
        state.envelopes.push(envelope);
        let first = state.envelopes.len() == 1;
        drop(state);
        // Whoever takes, takes all: only the first need wake it.
        if first {
            self.filled.notify_one();
        }
        true
    }

    /// Waits for messages and swaps all there are into `batch`, which must be empty. Loses nothing when dropped.
    pub(super) async fn take(&self, batch: &mut Vec<Envelope>) {
        loop {
            {
                let mut state = self.state.lock();
                if !state.envelopes.is_empty() {
                    state.bytes = 0;
                    std::mem::swap(&mut state.envelopes, batch);
                    return;
                }
            }
            self.filled.notified().await;
        }
    }

    /// A connection is there: messages may wait from here on.
    pub(super) fn connect(&self) {
        self.state.lock().connected = true;
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state.lock().connected
    }

    /// The connection is gone, and with it what waited; says how many messages that were.
    pub(super) fn disconnect(&self) -> usize {
        std::mem::take(&mut *self.state.lock()).envelopes.len()
    }
}

/// What a message weighs against a bound, in bytes.
pub(crate) fn weight(message: &Message) -> u64 {
    let payload = match message {
        Message::AppendEntries(append) => weight_of(append.slice.entries()),
        Message::Forward(forward) => forward.commands.iter().map(|command| command.len() as u64).sum(),
        Message::LogSuffix(LogSuffix::Entries(slice)) => weight_of(slice.entries()),
        Message::Reconfigure(ask) => ask.target.weight(),
        Message::RequestPreVote(_)
        | Message::FetchLog(_)
        | Message::LogSuffix(LogSuffix::Unknown { .. })
        | Message::PreVoteResponse(_)
        | Message::RequestVote(_)
        | Message::VoteResponse(_)
        | Message::AppendEntriesResponse(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatResponse(_)
        | Message::Commit(_)
        | Message::InstallSnapshot(_)
        | Message::TimeoutNow
        | Message::StaleTerm
        | Message::ForwardResponse(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexResponse(_)
        | Message::ReconfigureResponse(_) => 0,
    };
    payload + FRAME_BYTES
}

/// What a message without payload weighs.
const FRAME_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_raft::message::Forward;
    use quorate_raft::{GroupId, NodeId, Session, Term};

    use super::*;

    fn envelope(bytes: usize) -> Envelope {
        Envelope {
            group: GroupId(1),
            from: NodeId(1),
            to: NodeId(2),
            term: Term(1),
            message: Message::Forward(Forward {
                session: Session(1),
                seq: 1,
                commands: vec![Bytes::from(vec![0; bytes])],
            }),
        }
    }

    fn waiting(lane: &Lane) -> usize {
        lane.state.lock().envelopes.len()
    }

    #[test]
    fn without_a_connection_nothing_waits() {
        let lane = Lane::new(1000);
        assert!(!lane.push(envelope(1)));
        assert_eq!(waiting(&lane), 0);
        lane.connect();
        assert!(lane.push(envelope(1)));
        assert_eq!(waiting(&lane), 1);
        assert_eq!(lane.disconnect(), 1);
        assert_eq!(waiting(&lane), 0);
    }

    #[test]
    fn what_exceeds_the_bound_is_dropped_but_for_one_alone() {
        let lane = Lane::new(300);
        lane.connect();
        assert!(lane.push(envelope(1000)));
        assert_eq!(waiting(&lane), 1);
        assert!(!lane.push(envelope(1)));
        assert_eq!(waiting(&lane), 1);
    }

    #[tokio::test]
    async fn all_that_waits_is_taken_at_once() {
        let lane = Lane::new(1000);
        lane.connect();
        lane.push(envelope(1));
        lane.push(envelope(2));
        let mut batch = Vec::new();
        lane.take(&mut batch).await;
        assert_eq!(batch.len(), 2);
    }
}
