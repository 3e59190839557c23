//! What is replicated: the small trait for most users, and the raw one under it.
//!
//! - [`StateMachine`]: commands, queries and the state itself are serde types. Two methods.
//! - [`Machine`]: bytes in, snapshots in chunks of its own making, for state of any size.
//! - [`Typed`] makes a [`Machine`] of a [`StateMachine`].
//!
//! Whatever changes the state must be decided by the commands alone: no clock, no randomness, no
//! order of a hash map. Otherwise replicas that applied the same log differ.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft::{EntryId, Event};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A state that is kept identical on several machines.
///
/// `Default` is the state before the first command; it must be the same on every machine.
/// Snapshots name the fields, so that the type may gain fields that have a `#[serde(default)]`.
///
/// For each snapshot the whole state is encoded at once on the thread that applies commands: they wait
/// meanwhile, and the bytes stay in memory until they are written. A state for which that is too much
/// should be a [`Machine`] with chunks of its own.
pub trait StateMachine: Default + Serialize + DeserializeOwned + Send + 'static {
    /// What changes the state.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What a command gives back to whoever proposed it.
    type Response: Send + 'static;
    /// What asks about the state without changing it.
    type Query: Send + 'static;
    /// What a query gives back.
    type Answer: Send + 'static;

    /// Changes the state. Called once for each committed command, in the same order on every machine.
    fn apply(&mut self, command: Self::Command) -> Self::Response;

    /// Looks at the state.
    fn query(&self, query: Self::Query) -> Self::Answer;
}

/// The raw trait: a state machine that takes bytes and makes its own snapshots.
///
/// One thread owns the machine and calls all of its methods but [`Machine::encode`].
pub trait Machine: Send + 'static {
    /// What callers propose.
    type Command: Send + 'static;
    /// What a command gives back to whoever proposed it.
    type Response: Send + 'static;
    /// What asks about the state.
    type Query: Send + 'static;
    /// What a query gives back.
    type Answer: Send + 'static;
    /// A consistent view of the state at one index, read in chunks while later commands are applied.
    type Snapshot: Send + 'static;

    /// The bytes that the log keeps of a command.
    ///
    /// # Errors
    /// When the command has no form in bytes; it is then not proposed.
    fn encode(command: Self::Command) -> Result<Bytes, EncodeError>;

    /// Changes the state by the committed entry `id`.
    ///
    /// # Errors
    /// When this process cannot know what the command means, such as one of a newer version. The
    /// node stops: to skip an entry that others apply would let the replicas differ.
    fn apply(&mut self, id: EntryId, command: Bytes) -> Result<Self::Response, ApplyError>;

    /// Called after each batch of commands: the moment to publish what they changed.
    fn batch_applied(&mut self) {}

    /// Looks at the state.
    fn query(&mut self, query: Self::Query) -> Self::Answer;

    /// Told of what happens in the consensus core, except for each growth of the commit index.
    fn observe(&mut self, _event: &Event) {}

    /// How often the leader's machine is asked for its [`Self::upkeep`]; never, unless it is set.
    const UPKEEP_EVERY: Option<Duration> = None;

    /// Commands that nobody asked for and that time calls for. `passed` is the time since this was
    /// called last, or since this node leads.
    ///
    /// Called on the leader only. What comes back is proposed once, and nobody waits for it: it may be
    /// lost, or be applied after another leader's.
    fn upkeep(&mut self, _passed: Duration) -> Vec<Self::Command> {
        Vec::new()
    }

    /// Fixes a view of the state as it is. One view at a time exists.
    fn begin_snapshot(&mut self) -> Self::Snapshot;

    /// The view's next chunk, of about `max_bytes` bytes at most; none at its end.
    ///
    /// # Errors
    /// When the state cannot be written down. The snapshot is given up and tried again later.
    fn snapshot_chunk(
        &mut self,
        snapshot: &mut Self::Snapshot,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, SnapshotError>;

    /// Gives the view up, whether or not it was read to its end.
    fn end_snapshot(&mut self, snapshot: Self::Snapshot);

    /// Replaces the state by that of a snapshot's chunks, which come in the order they were made.
    ///
    /// # Errors
    /// When the chunks cannot be read or are no state. The node stops.
    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError>;
}

/// A machine whose responses have a form in bytes, so that [`crate::Sessions`] can give them again.
pub trait Repeatable: Machine {
    /// The bytes that are kept of a response.
    ///
    /// # Errors
    /// When the response has no form in bytes. It is then not kept. Whether it has one must depend on
    /// the response alone: replicas that differ here differ for ever.
    fn encode_response(response: &Self::Response) -> Result<Bytes, EncodeError>;

    /// Reads what [`Self::encode_response`] wrote.
    ///
    /// # Errors
    /// When it is no response that this process knows.
    fn decode_response(bytes: Bytes) -> Result<Self::Response, DecodeResponseError>;
}

/// A command has no form in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command cannot be encoded: {0}")]
pub struct EncodeError(pub String);

/// Bytes are no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kept response cannot be read: {0}")]
pub struct DecodeResponseError(pub String);

/// A committed command means nothing to this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a committed command cannot be applied: {0}")]
pub struct ApplyError(pub String);

/// The state has no form in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state cannot be written to a snapshot: {0}")]
pub struct SnapshotError(pub String);

/// A snapshot cannot be made the state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// It cannot be read, or is damaged.
    #[error("the snapshot cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Its bytes are no state, or one of a newer version.
    #[error("the snapshot is not a state of this machine: {0}")]
    Invalid(String),
}

/// Makes a [`Machine`] of a [`StateMachine`]: all of its types travel as MessagePack with named fields.
#[derive(Debug, Default)]
pub struct Typed<S: StateMachine>(S);

impl<S: StateMachine> Machine for Typed<S> {
    type Command = S::Command;
    type Response = S::Response;
    type Query = S::Query;
    type Answer = S::Answer;
    type Snapshot = EncodedState;

    fn encode(command: S::Command) -> Result<Bytes, EncodeError> {
        let bytes = rmp_serde::to_vec_named(&command).map_err(|error| EncodeError(error.to_string()))?;
        Ok(Bytes::from(bytes))
    }

    fn apply(&mut self, id: EntryId, command: Bytes) -> Result<S::Response, ApplyError> {
        let command =
            rmp_serde::from_slice(&command).map_err(|error| ApplyError(format!("entry {id}: {error}")))?;
        Ok(self.0.apply(command))
    }

    fn query(&mut self, query: S::Query) -> S::Answer {
        self.0.query(query)
    }

    fn begin_snapshot(&mut self) -> EncodedState {
        EncodedState(match rmp_serde::to_vec_named(&self.0) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) => Err(SnapshotError(error.to_string())),
        })
    }

    fn snapshot_chunk(
        &mut self,
        snapshot: &mut EncodedState,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, SnapshotError> {
        let rest = snapshot.0.as_mut().map_err(|error| error.clone())?;
        if rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(rest.split_to(max_bytes.clamp(1, rest.len()))))
    }

    fn end_snapshot(&mut self, _snapshot: EncodedState) {}

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError> {
        let mut bytes = Vec::new();
        for chunk in chunks {
            bytes.extend_from_slice(&chunk?);
        }
        self.0 = rmp_serde::from_slice(&bytes).map_err(|error| RestoreError::Invalid(error.to_string()))?;
        Ok(())
    }
}

impl<S: StateMachine> Repeatable for Typed<S>
where
    S::Response: Serialize + DeserializeOwned,
{
    fn encode_response(response: &S::Response) -> Result<Bytes, EncodeError> {
        let bytes = rmp_serde::to_vec_named(response).map_err(|error| EncodeError(error.to_string()))?;
        Ok(Bytes::from(bytes))
    }

    fn decode_response(bytes: Bytes) -> Result<S::Response, DecodeResponseError> {
        rmp_serde::from_slice(&bytes).map_err(|error| DecodeResponseError(error.to_string()))
    }
}

/// A [`Typed`] machine's snapshot: what is left to read of its encoded state.
#[derive(Debug)]
pub struct EncodedState(Result<Bytes, SnapshotError>);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Sum {
        total: u64,
    }

    impl StateMachine for Sum {
        type Command = u64;
        type Response = u64;
        type Query = ();
        type Answer = u64;

        fn apply(&mut self, command: u64) -> u64 {
            self.total += command;
            self.total
        }

        fn query(&self, (): ()) -> u64 {
            self.total
        }
    }

    fn snapshot(machine: &mut Typed<Sum>, max_bytes: usize) -> Vec<Bytes> {
        let mut view = machine.begin_snapshot();
        let mut chunks = Vec::new();
        while let Some(chunk) = machine.snapshot_chunk(&mut view, max_bytes).unwrap() {
            chunks.push(chunk);
        }
        machine.end_snapshot(view);
        chunks
    }

    #[test]
    fn a_snapshot_in_small_chunks_restores_the_state() {
        let mut machine = Typed::<Sum>::default();
        let command = Typed::<Sum>::encode(7).unwrap();
        assert_eq!(machine.apply(EntryId::ZERO, command), Ok(7));

        let chunks = snapshot(&mut machine, 3);
        assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.len() <= 3));
        let mut restored = Typed::<Sum>::default();
        restored.restore(&mut chunks.into_iter().map(Ok)).unwrap();
        assert_eq!(restored.query(()), 7);
    }

    #[test]
    fn an_unknown_command_is_refused_and_changes_nothing() {
        let mut machine = Typed::<Sum>::default();
        assert!(machine.apply(EntryId::ZERO, Bytes::from_static(b"\xc1")).is_err());
        assert_eq!(machine.query(()), 0);
    }

    #[test]
    fn a_snapshot_of_something_else_is_refused() {
        let mut chunks = [Ok(Bytes::from_static(b"\x01"))].into_iter();
        let restored = Typed::<Sum>::default().restore(&mut chunks);
        assert!(matches!(restored, Err(RestoreError::Invalid(_))));
    }
}
