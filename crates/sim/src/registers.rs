//! The state machine that the simulated nodes replicate: a value per key.
//!
//! - It hashes everything it ever applied, entry by entry, so that two replicas that differ once
//!   differ for ever, and are found out at the next entry.
//! - The hash is part of its snapshots: a restored replica goes on with it.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate::machine::{ApplyError, EncodeError, Machine, RestoreError, SnapshotError};
use quorate_raft::{EntryId, Index};

use crate::digest::Digest;
use crate::executions::Execution;
use crate::history::{Action, Answer, Key, Value};
use crate::schedule::Time;

/// What a client proposes: an action that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) key: Key,
    pub(crate) action: Action,
    /// Bytes of no meaning, so that commands differ in size.
    pub(crate) padding: u16,
}

/// What applying a command gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) id: EntryId,
    pub(crate) answer: Answer,
}

/// The state.
#[derive(Debug)]
pub(crate) struct Registers {
    values: BTreeMap<Key, Value>,
    chain: Digest,
    /// The state after each entry applied since they were taken last.
    states: Vec<(Index, Digest)>,
    /// The commands carried out since they were taken last.
    executions: Vec<Execution>,
    quirk: Quirk,
}

/// Whether the machine is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// It is.
    None,
    /// It skips every entry whose index is a multiple of 64.
    Forgetful,
    /// It goes by the order of a hash map, whose hash this is the random key of.
    HashOrder(u64),
    /// It looks at its node's clock, which says this.
    Clock(Time),
}

impl Registers {
    pub(crate) fn new(quirk: Quirk) -> Self {
        Self {
            values: BTreeMap::new(),
            chain: Digest::EMPTY,
            states: Vec::new(),
            executions: Vec::new(),
            quirk,
        }
    }

    /// The state after each entry applied since this was asked last.
    pub(crate) fn take_states(&mut self) -> Vec<(Index, Digest)> {
        std::mem::take(&mut self.states)
    }

    /// The commands carried out since this was asked last.
    pub(crate) fn take_executions(&mut self) -> Vec<Execution> {
        std::mem::take(&mut self.executions)
    }

    /// The state.
    pub(crate) fn state(&self) -> Digest {
        self.chain
    }

    /// Everything that a snapshot must carry.
    pub(crate) fn content(&self) -> Digest {
        let values = self.values.iter();
        values.fold(self.chain, |digest, (key, value)| {
            digest.number(key.0).number(value.0)
        })
    }

    /// A clock that may be looked at says this.
    pub(crate) fn tell_time(&mut self, now: Time) {
        if let Quirk::Clock(time) = &mut self.quirk {
            *time = now;
        }
    }

    fn act(&mut self, key: Key, action: Action) -> Answer {
        let value = self.values.get(&key).copied();
        match action {
            Action::Write(new) => {
                self.values.insert(key, new);
                Answer::Written
            }
            Action::Swap { expected, new } if expected == value => {
                self.values.insert(key, new);
                Answer::Swapped
            }
            Action::Swap { .. } => Answer::Kept(value),
            Action::Read => Answer::Found(value),
        }
    }

    /// Entries that are no commands leave no mark, so the index is part of what is hashed.
    fn note(&mut self, id: EntryId, key: Key) {
        let value = self.values.get(&key).map_or(0, |value| value.0 + 1);
        let chain = self.chain.number(id.index.0).number(id.term.0);
        self.chain = chain.number(key.0).number(value).number(self.undue_influence());
        self.states.push((id.index, self.chain));
    }
}

impl Registers {
    /// What must not influence the state, and does not if there is no quirk.
    fn undue_influence(&self) -> u64 {
        match self.quirk {
            Quirk::None | Quirk::Forgetful => 0,
            Quirk::HashOrder(random) => {
                let hash = |key: &&Key| Digest::EMPTY.number(random).number(key.0);
                self.values.keys().min_by_key(hash).map_or(0, |first| first.0)
            }
            Quirk::Clock(time) => time.0,
        }
    }
}

impl Machine for Registers {
    type Command = Command;
    type Response = Response;
    type Query = Key;
    type Answer = Option<Value>;
    type Snapshot = Bytes;

    fn encode(command: Command) -> Result<Bytes, EncodeError> {
        let mut bytes = BytesMut::with_capacity(32 + usize::from(command.padding));
        let (kind, expected, new) = match command.action {
            Action::Write(new) => (WRITE, None, new),
            Action::Swap { expected, new } => (SWAP, expected, new),
            Action::Read => return Err(EncodeError("a read is a query, not a command".to_owned())),
        };
        bytes.put_u8(kind);
        bytes.put_u64(command.key.0);
        bytes.put_u64(new.0);
        bytes.put_u64(expected.map_or(0, |value| value.0 + 1));
        bytes.put_bytes(b'.', usize::from(command.padding));
        Ok(bytes.freeze())
    }

    fn apply(&mut self, id: EntryId, mut command: Bytes) -> Result<Response, ApplyError> {
        let malformed = |error: bytes::TryGetError| ApplyError(format!("entry {id}: {error}"));
        let kind = command.try_get_u8().map_err(malformed)?;
        let key = Key(command.try_get_u64().map_err(malformed)?);
        let new = Value(command.try_get_u64().map_err(malformed)?);
        let expected = command
            .try_get_u64()
            .map_err(malformed)?
            .checked_sub(1)
            .map(Value);
        let action = match kind {
            WRITE => Action::Write(new),
            SWAP => Action::Swap { expected, new },
            other => return Err(ApplyError(format!("entry {id}: there is no command {other}"))),
        };
        if self.quirk == Quirk::Forgetful && id.index.0.is_multiple_of(64) {
            return Ok(Response {
                id,
                answer: Answer::Written,
            });
        }
        let answer = self.act(key, action);
        self.note(id, key);
        self.executions.push(Execution {
            index: id.index,
            key,
            wanted: new,
            left: self.values.get(&key).copied(),
        });
        Ok(Response { id, answer })
    }

    fn query(&mut self, key: Key) -> Option<Value> {
        self.values.get(&key).copied()
    }

    fn begin_snapshot(&mut self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u64(self.chain.value());
        for (key, value) in &self.values {
            bytes.put_u64(key.0);
            bytes.put_u64(value.0);
        }
        bytes.freeze()
    }

    fn snapshot_chunk(
        &mut self,
        snapshot: &mut Bytes,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, SnapshotError> {
        if snapshot.is_empty() {
            return Ok(None);
        }
        Ok(Some(snapshot.split_to(max_bytes.clamp(1, snapshot.len()))))
    }

    fn end_snapshot(&mut self, _snapshot: Bytes) {}

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError> {
        let mut bytes = BytesMut::new();
        for chunk in chunks {
            bytes.extend_from_slice(&chunk?);
        }
        let cut = |_| RestoreError::Invalid("it is cut short".to_owned());
        let chain = bytes.try_get_u64().map_err(cut)?;
        let mut values = BTreeMap::new();
        while bytes.has_remaining() {
            let key = Key(bytes.try_get_u64().map_err(cut)?);
            values.insert(key, Value(bytes.try_get_u64().map_err(cut)?));
        }
        self.chain = Digest::from_value(chain);
        self.values = values;
        Ok(())
    }
}

const WRITE: u8 = 1;
const SWAP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Term;

    fn apply(machine: &mut Registers, index: u64, action: Action) -> Answer {
        let command = Command {
            key: Key(1),
            action,
            padding: 3,
        };
        let bytes = Registers::encode(command).unwrap();
        machine
            .apply(EntryId::new(Index(index), Term(1)), bytes)
            .unwrap()
            .answer
    }

    #[test]
    fn commands_do_what_they_say() {
        let mut machine = Registers::new(Quirk::None);
        assert_eq!(apply(&mut machine, 1, Action::Write(Value(0))), Answer::Written);
        let swap = |expected, new| Action::Swap {
            expected,
            new: Value(new),
        };
        assert_eq!(
            apply(&mut machine, 2, swap(None, 5)),
            Answer::Kept(Some(Value(0)))
        );
        assert_eq!(apply(&mut machine, 3, swap(Some(Value(0)), 6)), Answer::Swapped);
        assert_eq!(machine.query(Key(1)), Some(Value(6)));
        assert_eq!(machine.query(Key(2)), None);
    }

    #[test]
    fn a_snapshot_in_small_chunks_carries_state_and_hash() {
        let mut machine = Registers::new(Quirk::None);
        apply(&mut machine, 1, Action::Write(Value(4)));
        let mut view = machine.begin_snapshot();
        let mut chunks = Vec::new();
        while let Some(chunk) = machine.snapshot_chunk(&mut view, 5).unwrap() {
            chunks.push(Ok(chunk));
        }
        let mut restored = Registers::new(Quirk::None);
        restored.restore(&mut chunks.into_iter()).unwrap();
        assert_eq!(restored.query(Key(1)), Some(Value(4)));
        assert_eq!(restored.state(), machine.state());
        assert!(
            restored
                .restore(&mut [Ok(Bytes::from_static(b"short"))].into_iter())
                .is_err()
        );
    }

    #[test]
    fn malformed_commands_are_refused() {
        let mut machine = Registers::new(Quirk::None);
        assert!(
            machine
                .apply(EntryId::ZERO, Bytes::from_static(&[1, 2, 3]))
                .is_err()
        );
        assert!(
            machine
                .apply(EntryId::ZERO, Bytes::from_static(&[9; 30]))
                .is_err()
        );
    }
}
