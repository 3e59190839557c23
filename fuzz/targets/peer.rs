//! What peers send, from bytes to the consensus core: no bytes make a node panic.
//!
//! The input is a list of steps, each a byte that says what to do, a byte that counts, and as many
//! bytes as it counts. Bytes reach the decoder raw, or as the body of a frame with a true header, so
//! that the checksum does not hide what lies behind it. A message that was decoded goes to the core;
//! the core's disk and state machine answer at once. What a peer that lies may do to the core's
//! invariants is not asked here, only that the node goes on.

#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use quorate::codec::frame::{self, Frame, MAX_HANDSHAKE_BYTES};
use quorate_raft::{
    Config, Configuration, Consistency, Delivery, GroupId, Input, Limits, LogReadError, MemberKind, Node,
    NodeId, Proposal, Ready, Session, Stored, Ticket,
};

fuzz_target!(|data: &[u8]| {
    let mut member = Member::new();
    let mut rest = data;
    while let [action, count, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*count)));
        rest = tail;
        match action % 4 {
            0 => member.receive(bytes),
            1 => member.receive(&framed(MESSAGE, bytes)),
            2 => member.receive(&framed(action >> 2, bytes)),
            _ => member.live(*count),
        }
    }
});

/// One of three members, with a disk and a state machine that are done at once.
struct Member {
    node: Node,
    stream: BytesMut,
    tickets: u64,
}

impl Member {
    fn new() -> Self {
        let voters = [NodeId(1), NodeId(2), NodeId(3)];
        let configuration = Configuration::new(voters, []).expect("three voters are a configuration");
        let config = Config {
            id: NodeId(1),
            group: GroupId(1),
            kind: MemberKind::Full,
            session: Session(1),
            seed: 1,
            election_ticks: 10,
            heartbeat_ticks: 1,
            leases: None,
            limits: Limits::default(),
        };
        let node = Node::new(config, Stored::new(configuration)).expect("the configuration is sound");
        Self {
            node,
            stream: BytesMut::new(),
            tickets: 0,
        }
    }

    /// A connection that brought a bad frame is closed, and another one opened.
    fn receive(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        loop {
            match frame::decode(&mut self.stream, MAX_HANDSHAKE_BYTES) {
                Ok(Some(frame)) => self.take(frame),
                Ok(None) => return,
                Err(_) => return self.stream.clear(),
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        let mut encoded = BytesMut::new();
        frame::encode(&frame, &mut encoded);
        let again = frame::decode(&mut encoded, usize::MAX);
        assert_eq!(again.expect("what was encoded decodes").as_ref(), Some(&frame));
        match frame {
            Frame::Message(envelope) => self.step(Input::Receive(envelope)),
            Frame::SnapshotOffer(offer) => self.step(Input::Receive(offer.announcement)),
            _ => {}
        }
    }

    /// Time passes and clients ask.
    fn live(&mut self, ticks: u8) {
        self.tickets += 2;
        let command = Bytes::from(vec![ticks]);
        self.step(Input::Propose(vec![Proposal {
            ticket: Ticket(self.tickets),
            command,
        }]));
        self.step(Input::Read {
            tickets: vec![Ticket(self.tickets + 1)],
            consistency: Consistency::Linearizable,
        });
        for _ in 0..ticks {
            self.step(Input::Tick);
        }
    }

    fn step(&mut self, input: Input) {
        self.node.step(input);
        while let Some(ready) = self.node.ready() {
            self.carry_out(ready);
        }
    }

    fn carry_out(&mut self, ready: Ready) {
        if let Some(write) = ready.write {
            self.node.step(Input::Persisted(write.seq));
        }
        if let Some(meta) = ready.restore {
            self.node.step(Input::Restored(meta.id));
        }
        if let Some(entry) = ready.apply.last() {
            self.node.step(Input::Applied(entry.id.index));
        }
        for request in ready.read_log {
            self.node.step(Input::LogRead {
                request,
                entries: Err(LogReadError::Gone),
            });
        }
        for snapshot in ready.send_snapshots {
            let ended = snapshot.ended(Delivery::Failed);
            self.node.step(Input::SnapshotSent(ended));
        }
    }
}

/// A frame with a true header.
fn framed(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(b"QRTE");
    bytes.put_u8(kind);
    bytes.put_bytes(0, 3);
    bytes.put_u32_le(u32::try_from(body.len()).expect("a body is counted by a byte"));
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), body);
    bytes.put_u32_le(checksum);
    bytes.put_slice(body);
    bytes.freeze()
}

/// The kind of frame that holds a message of the core.
const MESSAGE: u8 = 4;
