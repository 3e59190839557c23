//! What a replica keeps besides commands: entries' bodies, hard states, headers of snapshots, and sessions. Any
//! bytes are one of these or refused; what was read is written as something that reads alike.
//!
//! The input is a byte that says what it is, and the rest of it. For sessions that is a snapshot of their
//! table, after its two bytes of length, and commands to it, each after a byte of length.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use quorate::codec::stored::{
    decode_hard_state, decode_payload, decode_snapshot_meta, encode_hard_state, encode_payload,
    encode_snapshot_meta,
};
use quorate::sessions::Command;
use quorate::{Machine, SessionLimits, Sessions, StateMachine, Typed};
use quorate_raft::{EntryId, Index, Term};
use serde::{Deserialize, Serialize};

fuzz_target!(|data: &[u8]| {
    let [form, rest @ ..] = data else { return };
    let bytes = Bytes::copy_from_slice(rest);
    match form % 5 {
        0 => {
            if let Ok(payload) = decode_payload(bytes) {
                let mut again = BytesMut::new();
                encode_payload(&payload, &mut again);
                assert_eq!(decode_payload(again.freeze()), Ok(payload));
            }
        }
        1 => {
            if let Ok(state) = decode_hard_state(bytes) {
                assert_eq!(decode_hard_state(encode_hard_state(&state)), Ok(state));
            }
        }
        2 => {
            if let Ok(meta) = decode_snapshot_meta(rest) {
                assert_eq!(decode_snapshot_meta(&encode_snapshot_meta(&meta)), Ok(meta));
            }
        }
        3 => {
            if let Ok(command) = Command::decode(bytes) {
                assert_eq!(Command::decode(command.encode()), Ok(command));
            }
        }
        _ => sessions(rest),
    }
});

#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, amount: u64) -> u64 {
        self.0 = self.0.wrapping_add(amount);
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }
}

type Counting = Sessions<Typed<Counter>>;

fn sessions(data: &[u8]) {
    let [low, high, rest @ ..] = data else { return };
    let (snapshot, mut steps) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(rest.len()));
    let Some(mut machine) = restored([Bytes::copy_from_slice(snapshot)]) else {
        return;
    };
    let mut index = 0;
    while let [count, tail @ ..] = steps {
        let (command, tail) = tail.split_at(tail.len().min(usize::from(*count)));
        steps = tail;
        index += 1;
        let id = EntryId {
            index: Index(index),
            term: Term(1),
        };
        // A command that is none stops a node by name.
        let _ = machine.apply(id, Bytes::copy_from_slice(command));
    }
    let chunks = chunks(&mut machine);
    let mut again = restored(chunks.clone()).expect("a snapshot is whole");
    assert_eq!(self::chunks(&mut again), chunks);
}

fn restored(chunks: impl IntoIterator<Item = Bytes>) -> Option<Counting> {
    let mut machine = Counting::new(Typed::default(), SessionLimits::default());
    machine.restore(&mut chunks.into_iter().map(Ok)).ok()?;
    Some(machine)
}

fn chunks(machine: &mut Counting) -> Vec<Bytes> {
    let mut view = machine.begin_snapshot();
    std::iter::from_fn(|| {
        machine
            .snapshot_chunk(&mut view, 4096)
            .expect("it can be written")
    })
    .collect()
}
