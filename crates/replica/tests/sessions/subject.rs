//! What is tested: sessions around a journal, applied to as the log would.

use std::time::Duration;

use bytes::Bytes;
use quorate::machine::Machine;
use quorate::sessions::table::{MAX_STEP, Usage};
use quorate::sessions::{Command, Reply, Seq, SessionId, SessionLimits, TimeToLive};
use quorate::{EntryId, Index, Sessions, StateMachine, Term, Typed};
use serde::{Deserialize, Serialize};

/// Everything that was applied, in order. The response to a command is how many there were before,
/// and as many bytes as the command asks for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Journal(Vec<Order>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) value: u64,
    pub(crate) response_bytes: usize,
}

pub(crate) type Receipt = (usize, String);

impl StateMachine for Journal {
    type Command = Order;
    type Response = Receipt;
    type Query = ();
    type Answer = Vec<u64>;

    fn apply(&mut self, order: Order) -> Receipt {
        let receipt = (self.0.len(), ".".repeat(order.response_bytes));
        self.0.push(order);
        receipt
    }

    fn query(&self, (): ()) -> Vec<u64> {
        self.0.iter().map(|order| order.value).collect()
    }
}

/// A replica of the machine, and the log's next index.
pub(crate) struct Subject {
    pub(crate) sessions: Sessions<Typed<Journal>>,
    pub(crate) index: u64,
}

impl Subject {
    pub(crate) fn new() -> Self {
        Self {
            sessions: machine(),
            index: 0,
        }
    }

    pub(crate) fn with_limits(limits: SessionLimits) -> Self {
        let mut subject = Self::new();
        assert_eq!(subject.apply(Command::Configure(limits)), Reply::Done);
        subject
    }

    pub(crate) fn apply(&mut self, command: Command<Order>) -> Reply<Receipt> {
        self.index += 1;
        let bytes = Sessions::<Typed<Journal>>::encode(command).unwrap();
        let id = EntryId::new(Index(self.index), Term(1));
        self.sessions.apply(id, bytes).unwrap()
    }

    pub(crate) fn open(&mut self, ttl: Duration) -> SessionId {
        let opened = self.apply(Command::Open {
            ttl: TimeToLive::new(ttl),
        });
        assert_eq!(opened, Reply::Opened(SessionId(self.index)));
        SessionId(self.index)
    }

    /// Lets time pass in the largest steps there are.
    pub(crate) fn pass(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let by = left.min(MAX_STEP);
            let from = self.sessions.table().now();
            self.apply(Command::Advance { from, by });
            left -= by;
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        self.sessions.table().usage()
    }

    pub(crate) fn values(&mut self) -> Vec<u64> {
        self.sessions.query(())
    }

    pub(crate) fn snapshot(&mut self, max_bytes: usize) -> Vec<Bytes> {
        let mut view = self.sessions.begin_snapshot();
        let mut chunks = Vec::new();
        while let Some(chunk) = self.sessions.snapshot_chunk(&mut view, max_bytes).unwrap() {
            assert!(!chunk.is_empty() && chunk.len() <= max_bytes);
            chunks.push(chunk);
        }
        self.sessions.end_snapshot(view);
        chunks
    }

    /// Another replica, that was brought here by a snapshot.
    pub(crate) fn restored(&mut self, max_bytes: usize) -> Self {
        let mut chunks = self.snapshot(max_bytes).into_iter().map(Ok);
        let mut sessions = machine();
        sessions.restore(&mut chunks).unwrap();
        Self {
            sessions,
            index: self.index,
        }
    }
}

pub(crate) fn machine() -> Sessions<Typed<Journal>> {
    Sessions::new(Typed::default(), SessionLimits::default())
}

pub(crate) fn order(value: u64) -> Order {
    Order {
        value,
        response_bytes: 0,
    }
}

pub(crate) fn request(
    session: SessionId,
    seq: u64,
    acknowledged_below: u64,
    command: Order,
) -> Command<Order> {
    Command::Apply {
        session,
        seq: Seq(seq),
        acknowledged_below: Seq(acknowledged_below),
        command,
    }
}

pub(crate) fn applied(before: usize) -> Reply<Receipt> {
    Reply::Applied((before, String::new()))
}
