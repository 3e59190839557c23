//! Quorate's core. The log and the state machine finish at once.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_raft::{
    Config, Configuration, EntryId, Envelope, GroupId, Input, Limits, MemberKind, Node, NodeId, Outcome,
    Payload, Proposal, Ready, RoleKind, Session, SnapshotMeta, Stored, Ticket,
};

use crate::cluster::{COMMAND, COMPACT_EVERY, Cluster, Sum};

pub struct Quorate {
    members: [Member; 3],
    ready: Ready,
    network: VecDeque<Envelope>,
    tickets: u64,
    committed: u64,
}

struct Member {
    node: Node,
    sum: Sum,
    snapshot: u64,
}

impl Quorate {
    pub fn new() -> Self {
        let mut cluster = Self {
            members: [1, 2, 3].map(Member::new),
            ready: Ready::default(),
            network: VecDeque::new(),
            tickets: 0,
            committed: 0,
        };
        while cluster.members[0].node.status().role != RoleKind::Leader {
            cluster.members[0].node.step(Input::Tick);
            cluster.settle();
        }
        cluster
    }

    fn drain(&mut self, at: usize) {
        let (member, ready) = (&mut self.members[at], &mut self.ready);
        while member.node.ready_into(ready) {
            if at == 0 {
                self.committed += committed(ready);
            }
            self.network.extend(ready.send.drain(..));
            if let Some(write) = ready.write.take() {
                member.node.step(Input::Persisted(write.seq));
            }
            member.apply(&ready.apply);
        }
    }
}

impl Cluster for Quorate {
    fn propose(&mut self, count: u64) {
        let first = self.tickets;
        self.tickets += count;
        let proposal = |ticket| Proposal {
            ticket: Ticket(ticket),
            command: Bytes::from_static(COMMAND),
        };
        let proposals = (first..self.tickets).map(proposal).collect();
        self.members[0].node.step(Input::Propose(proposals));
    }

    fn settle(&mut self) -> u64 {
        loop {
            for at in 0..self.members.len() {
                self.drain(at);
            }
            if self.network.is_empty() {
                // What the client was told, and what was applied, are the same.
                assert_eq!(self.members[0].sum.count, self.committed);
                return self.committed;
            }
            while let Some(envelope) = self.network.pop_front() {
                let at = usize::try_from(envelope.to.0 - 1).expect("three members");
                self.members[at].node.step(Input::Receive(envelope));
            }
        }
    }
}

impl Member {
    fn new(id: u64) -> Self {
        let config = Config {
            id: NodeId(id),
            group: GroupId(1),
            kind: MemberKind::Full,
            session: Session(id),
            seed: id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            limits: Limits::default(),
        };
        let voters = Configuration::new([1, 2, 3].map(NodeId), []).expect("three voters");
        Self {
            node: Node::new(config, Stored::new(voters)).expect("the timeouts fit"),
            sum: Sum::default(),
            snapshot: 0,
        }
    }

    fn apply(&mut self, entries: &[quorate_raft::Entry]) {
        let Some(last) = entries.last().map(|entry| entry.id) else {
            return;
        };
        for entry in entries {
            if let Payload::Command(command) = &entry.payload {
                self.sum.apply_bytes(command);
            }
        }
        self.node.step(Input::Applied(last.index));
        if last.index.0 >= self.snapshot + COMPACT_EVERY {
            self.snapshot = last.index.0;
            self.compact(last);
        }
    }

    fn compact(&mut self, id: EntryId) {
        let configuration = self.node.status().configuration;
        self.node
            .step(Input::SnapshotSaved(SnapshotMeta { id, configuration }));
    }
}

fn committed(ready: &Ready) -> u64 {
    let done = |outcome: &Outcome| matches!(outcome, Outcome::Committed(_));
    ready
        .resolved
        .iter()
        .filter(|resolved| done(&resolved.outcome))
        .count() as u64
}
