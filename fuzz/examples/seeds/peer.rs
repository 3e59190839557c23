//! What a member receives while three of them elect a leader and replicate.

use bytes::{Bytes, BytesMut};
use quorate::codec::frame::{HEADER_BYTES, encode_message};
use quorate_raft::{
    Config, Configuration, Consistency, Envelope, GroupId, Input, Limits, MemberKind, Node, NodeId, Proposal,
    Session, Stored, Ticket,
};

/// A life for each seed.
pub fn seeds() -> Vec<Vec<u8>> {
    (1..=12).map(life).collect()
}

/// The steps of member 1, in the format of the target.
fn life(seed: u64) -> Vec<u8> {
    let mut members: Vec<Node> = (1..=3).map(|id| member(id, seed)).collect();
    let mut steps = Vec::new();
    for round in 0..40 {
        for (place, node) in members.iter_mut().enumerate() {
            // Unequal clocks, so that in each life another member campaigns first.
            if (round + seed) % 3 != place as u64 {
                node.step(Input::Tick);
            }
        }
        let asked = usize::try_from((round + seed) % 3).expect("less than three");
        let proposal = Proposal {
            ticket: Ticket(round),
            command: Bytes::from_static(b"command"),
        };
        members[asked].step(Input::Propose(vec![proposal]));
        members[asked].step(Input::Read {
            tickets: vec![Ticket(1000 + round)],
            consistency: Consistency::Linearizable,
        });
        steps.extend([3, 1]);
        deliver_all(&mut members, &mut steps);
    }
    steps
}

fn member(id: u64, seed: u64) -> Node {
    let configuration =
        Configuration::new([NodeId(1), NodeId(2), NodeId(3)], []).expect("three voters are a configuration");
    let config = Config {
        id: NodeId(id),
        group: GroupId(1),
        kind: MemberKind::Full,
        session: Session(id),
        seed: seed * 10 + id,
        election_ticks: 10,
        heartbeat_ticks: 1,
        leases: None,
        limits: Limits::default(),
    };
    Node::new(config, Stored::new(configuration)).expect("the configuration is sound")
}

/// Carries messages until there are none; writes down those for member 1.
fn deliver_all(members: &mut [Node], steps: &mut Vec<u8>) {
    loop {
        let sent: Vec<Envelope> = members.iter_mut().flat_map(carry_out).collect();
        if sent.is_empty() {
            return;
        }
        for envelope in sent {
            if envelope.to == NodeId(1) {
                write_down(&envelope, steps);
            }
            let to = usize::try_from(envelope.to.0 - 1).expect("three members");
            members[to].step(Input::Receive(envelope));
        }
    }
}

fn write_down(envelope: &Envelope, steps: &mut Vec<u8>) {
    let mut frame = BytesMut::new();
    encode_message(envelope, &mut frame);
    let body = &frame[HEADER_BYTES..];
    if let Ok(count) = u8::try_from(body.len()) {
        steps.extend([1, count]);
        steps.extend_from_slice(body);
    }
}

fn carry_out(node: &mut Node) -> Vec<Envelope> {
    let mut sent = Vec::new();
    while let Some(ready) = node.ready() {
        sent.extend(ready.send);
        if let Some(write) = ready.write {
            node.step(Input::Persisted(write.seq));
        }
        if let Some(entry) = ready.apply.last() {
            node.step(Input::Applied(entry.id.index));
        }
    }
    sent
}
