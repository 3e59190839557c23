//! Client sessions (thesis §6.3): a command that is repeated is applied once.
//!
//! [`Sessions`] is a [`Machine`] around any other. It knows which requests of each client were applied,
//! and with what response, so that a client whose request has an unknown outcome simply repeats it, to
//! whatever node, across changes of the leader, restarts and snapshots.
//!
//! - All is decided when entries are applied, by what the log says: replicas agree on every session.
//! - A session ends when it is closed, or when no sign of life came for its time to live. Time passes
//!   through the log: the leader measures it and proposes [`Command::Advance`], and applying that ends
//!   the sessions whose time is over. While there is no leader, no time passes.
//! - A request of a session that ended is refused, never applied.
//! - The table is part of the snapshots, before the machine's own chunks.
//!
//! ```no_run
//! # use quorate::{Config, SessionLimits, StateMachine};
//! # #[derive(Default, serde::Serialize, serde::Deserialize)]
//! # struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     type Command = u64;
//! #     type Response = u64;
//! #     type Query = ();
//! #     type Answer = u64;
//! #     fn apply(&mut self, amount: u64) -> u64 {
//! #         self.0 += amount;
//! #         self.0
//! #     }
//! #     fn query(&self, (): ()) -> u64 {
//! #         self.0
//! #     }
//! # }
//! # async fn example(config: Config) -> Result<(), Box<dyn std::error::Error>> {
//! let node = config.start_with_sessions::<Counter>(SessionLimits::default())?;
//! let session = node.open_session().await?;
//! let value = session.propose(1).await?; // Applied once, however often it was sent.
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`command`] (what is in the log), [`table`] (what it means), `stored` (snapshots),
//! [`outstanding`] (what a client must keep), [`client`] (the handle that repeats for its user).
//! All but [`client`] have no clocks and do no I/O.

pub mod client;
pub mod command;
pub mod outstanding;
pub mod table;

mod stored;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{EntryId, Event};

pub use client::Session;
pub use command::{Command, Reply, Seq, SessionId};
pub use outstanding::Outstanding;
pub use table::{Refusal, SessionLimits, Table, TimeToLive, Usage};

use crate::machine::{ApplyError, EncodeError, Machine, Repeatable, RestoreError, SnapshotError};
use crate::mutant::mutant;
use stored::{Chunks, TableView};
use table::{Admission, Kept};

/// A machine whose clients have sessions.
#[derive(Debug)]
pub struct Sessions<M: Repeatable> {
    machine: M,
    table: Table,
    /// What is to hold while this node leads.
    limits: SessionLimits,
}

impl<M: Repeatable> Sessions<M> {
    /// Puts sessions around `machine`.
    ///
    /// Of all nodes' `limits` those of the leader hold.
    #[must_use]
    pub fn new(machine: M, limits: SessionLimits) -> Self {
        Self {
            machine,
            table: Table::new(),
            limits,
        }
    }

    /// The sessions.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, to change what is not replicated.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    fn own_upkeep(&mut self, passed: Duration) -> Option<Command<M::Command>> {
        if self.table.limits() != self.limits {
            return Some(Command::Configure(self.limits));
        }
        // While there are no sessions, time need not pass, and an idle log does not grow.
        let from = self.table.now();
        if mutant!(M64) {
            self.table.advance(from, passed);
        }
        (!self.table.is_empty()).then_some(Command::Advance { from, by: passed })
    }

    fn apply_once(
        &mut self,
        id: EntryId,
        (session, seq): (SessionId, Seq),
        acknowledged_below: Seq,
        command: Bytes,
    ) -> Result<Reply<M::Response>, ApplyError> {
        match self.table.admit(session, seq, acknowledged_below) {
            Admission::New => {
                let response = self.machine.apply(id, command)?;
                // A response without a form in bytes is one that cannot be kept.
                self.table.keep(session, seq, M::encode_response(&response).ok());
                Ok(Reply::Applied(response))
            }
            Admission::Repeated(kept) => Ok(repeated::<M>(kept)),
            Admission::Refused(refusal) => Ok(Reply::Refused(refusal)),
        }
    }
}

fn repeated<M: Repeatable>(kept: Kept) -> Reply<M::Response> {
    let response = match kept {
        Kept::Response(bytes) => M::decode_response(bytes).ok(),
        Kept::Applied => None,
    };
    response.map_or(Reply::Refused(Refusal::ResponseNotKept), Reply::Applied)
}

fn done<R>(result: Result<(), Refusal>) -> Reply<R> {
    match result {
        Ok(()) => Reply::Done,
        Err(refusal) => Reply::Refused(refusal),
    }
}

impl<M: Repeatable> Machine for Sessions<M> {
    type Command = Command<M::Command>;
    type Response = Reply<M::Response>;
    type Query = M::Query;
    type Answer = M::Answer;
    type Snapshot = View<M>;

    /// Often enough for the machine within, too.
    const UPKEEP_EVERY: Option<Duration> = match M::UPKEEP_EVERY {
        Some(every) if every.as_nanos() < ADVANCE_EVERY.as_nanos() => Some(every),
        Some(_) | None => Some(ADVANCE_EVERY),
    };

    fn encode(command: Self::Command) -> Result<Bytes, EncodeError> {
        Ok(command.try_map(M::encode)?.encode())
    }

    fn apply(&mut self, id: EntryId, command: Bytes) -> Result<Self::Response, ApplyError> {
        let command = Command::decode(command).map_err(|error| ApplyError(format!("entry {id}: {error}")))?;
        Ok(match command {
            Command::Plain(command) => Reply::Applied(self.machine.apply(id, command)?),
            Command::Open { ttl } => {
                // Thesis §6.3: the index of the entry is the session's name.
                let session = SessionId(id.index.0);
                match self.table.open(session, ttl) {
                    Ok(()) => Reply::Opened(session),
                    Err(refusal) => Reply::Refused(refusal),
                }
            }
            Command::Apply {
                session,
                seq,
                acknowledged_below,
                command,
            } => self.apply_once(id, (session, seq), acknowledged_below, command)?,
            Command::KeepAlive {
                session,
                acknowledged_below,
            } => done(self.table.keep_alive(session, acknowledged_below)),
            Command::Close { session } => done(self.table.close(session)),
            Command::Advance { from, by } => {
                self.table.advance(from, by);
                Reply::Done
            }
            Command::Configure(limits) => {
                self.table.configure(limits);
                Reply::Done
            }
        })
    }

    fn batch_applied(&mut self) {
        self.machine.batch_applied();
    }

    fn query(&mut self, query: M::Query) -> M::Answer {
        self.machine.query(query)
    }

    fn observe(&mut self, event: &Event) {
        self.machine.observe(event);
    }

    fn upkeep(&mut self, passed: Duration) -> Vec<Self::Command> {
        let within = self.machine.upkeep(passed).into_iter().map(Command::Plain);
        within.chain(self.own_upkeep(passed)).collect()
    }

    fn begin_snapshot(&mut self) -> View<M> {
        View {
            table: Some(TableView::new(&self.table)),
            machine: self.machine.begin_snapshot(),
        }
    }

    fn snapshot_chunk(
        &mut self,
        view: &mut View<M>,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, SnapshotError> {
        if let Some(chunk) = view.table.as_mut().and_then(|table| table.chunk(max_bytes)) {
            return Ok(Some(chunk));
        }
        view.table = None;
        self.machine.snapshot_chunk(&mut view.machine, max_bytes)
    }

    fn end_snapshot(&mut self, view: View<M>) {
        self.machine.end_snapshot(view.machine);
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError> {
        let mut chunks = Chunks::new(chunks);
        let table = stored::decode(&mut chunks)?;
        self.machine.restore(&mut chunks)?;
        self.table = table;
        Ok(())
    }
}

/// A view of the sessions and of the machine within, at one index.
pub struct View<M: Machine> {
    /// None once it was read to its end.
    table: Option<TableView>,
    machine: M::Snapshot,
}

impl<M: Machine> std::fmt::Debug for View<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// How often the leader says that time has passed. Less than [`table::MAX_STEP`], so that nothing is lost.
const ADVANCE_EVERY: Duration = Duration::from_millis(500);
