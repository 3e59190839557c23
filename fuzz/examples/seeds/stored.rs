//! What a replica keeps, of each kind.

use crate::tagged;
use bytes::{Bytes, BytesMut};
use quorate::codec::stored::{encode_hard_state, encode_payload, encode_snapshot_meta};
use quorate::sessions::command::Moment;
use quorate::sessions::{Command, Seq, SessionId, TimeToLive};
use quorate::{Machine, SessionLimits, Sessions, StateMachine, Typed};
use quorate_raft::{Configuration, EntryId, HardState, Index, NodeId, Payload, SnapshotMeta, Term};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = payloads().iter().map(|payload| tagged(0, payload)).collect();
    let state = HardState {
        term: Term(3),
        vote: Some(NodeId(2)),
    };
    seeds.push(tagged(1, encode_hard_state(&state)));
    let meta = SnapshotMeta {
        id: entry(9),
        configuration: configuration(),
    };
    seeds.push(tagged(2, encode_snapshot_meta(&meta)));
    seeds.extend(commands().iter().map(|command| tagged(3, command.encode())));
    seeds.push(tagged(4, life()));
    seeds
}

fn configuration() -> Arc<Configuration> {
    let joint = Configuration::joint([NodeId(1), NodeId(2)], [NodeId(3)], [NodeId(4)]);
    Arc::new(joint.expect("it is a configuration"))
}

fn entry(index: u64) -> EntryId {
    EntryId {
        index: Index(index),
        term: Term(1),
    }
}

fn payloads() -> Vec<Bytes> {
    let payloads = [
        Payload::Noop,
        Payload::Stripped,
        Payload::Command(Bytes::from_static(b"put")),
        Payload::Configuration(configuration()),
    ];
    let encoded = payloads.iter().map(|payload| {
        let mut out = BytesMut::new();
        encode_payload(payload, &mut out);
        out.freeze()
    });
    encoded.collect()
}

/// In the log from entry 1 on: the first session is called 1.
fn commands() -> Vec<Command<Bytes>> {
    let apply = |seq| Command::Apply {
        session: SessionId(1),
        seq: Seq(seq),
        acknowledged_below: Seq(seq - 1),
        // A number in MessagePack.
        command: Bytes::from_static(&[5]),
    };
    vec![
        Command::Open {
            ttl: TimeToLive::new(Duration::from_secs(60)),
        },
        Command::Configure(SessionLimits::default()),
        apply(1),
        apply(2),
        apply(2),
        Command::Plain(Bytes::from_static(&[7])),
        Command::KeepAlive {
            session: SessionId(1),
            acknowledged_below: Seq(2),
        },
        Command::Advance {
            from: Moment(0),
            by: Duration::from_secs(1),
        },
        Command::Open { ttl: TimeToLive::MIN },
        Command::Close {
            session: SessionId(9),
        },
    ]
}

#[derive(Default, Serialize, Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, amount: u64) -> u64 {
        self.0 += amount;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }
}

/// A table of sessions, and the same commands once more.
fn life() -> Vec<u8> {
    let mut machine = Sessions::<Typed<Counter>>::new(Typed::default(), SessionLimits::default());
    let commands = commands();
    for (number, command) in (1..).zip(&commands) {
        machine
            .apply(entry(number), command.encode())
            .expect("it is a command");
    }
    let mut view = machine.begin_snapshot();
    let snapshot = machine.snapshot_chunk(&mut view, 1 << 16);
    let snapshot = snapshot.expect("it can be written").expect("there is something");
    let rest = machine
        .snapshot_chunk(&mut view, 1 << 16)
        .expect("it can be written")
        .unwrap_or_default();
    let snapshot = [snapshot, rest].concat();
    let mut life = u16::try_from(snapshot.len())
        .expect("a seed is short")
        .to_le_bytes()
        .to_vec();
    life.extend(snapshot);
    for command in commands {
        life.extend(tagged(
            u8::try_from(command.encode().len()).expect("a seed is short"),
            command.encode(),
        ));
    }
    life
}
