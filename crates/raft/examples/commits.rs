//! How many 8-byte commands a second three replicas commit in one thread, without disk or network.
//!
//! ```text
//! cargo run --release -p quorate-raft --example commits
//! ```
//!
//! The log and the state machine finish at once; messages are handed over as values; logs are compacted
//! as they go. What is measured is the core alone.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it measures, and reports to whoever runs it"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use quorate_raft::{
    Config, Configuration, EntryId, Envelope, GroupId, Input, Limits, MemberKind, Node, NodeId, Outcome,
    Proposal, Ready, RoleKind, Session, SnapshotMeta, Stored, Ticket,
};

fn main() {
    println!("outstanding   commits/s");
    for outstanding in [1, 64, 256, 1024, 4096] {
        let total = if outstanding == 1 { 300_000 } else { 3_000_000 };
        println!("{outstanding:>11} {:>11.0}", measure(outstanding, total));
    }
}

fn measure(outstanding: u64, total: u64) -> f64 {
    let mut cluster = Cluster::new();
    cluster.elect();
    let command = Bytes::from_static(b"8 bytes!");
    let start = Instant::now();
    let (mut proposed, mut committed) = (0, 0);
    while committed < total {
        let batch = (outstanding - (proposed - committed)).min(total - proposed);
        let ticket = |n| Proposal {
            ticket: Ticket(n),
            command: command.clone(),
        };
        cluster.step(
            LEADER,
            Input::Propose((proposed..proposed + batch).map(ticket).collect()),
        );
        proposed += batch;
        committed += cluster.run();
    }
    total as f64 / start.elapsed().as_secs_f64()
}

/// Three nodes and the messages between them.
struct Cluster {
    nodes: BTreeMap<NodeId, Member>,
    network: VecDeque<Envelope>,
    committed: u64,
}

struct Member {
    node: Node,
    applied: EntryId,
    snapshot: u64,
}

impl Cluster {
    fn new() -> Self {
        let ids = [1, 2, 3].map(NodeId);
        let member = |id: NodeId| {
            let config = Config {
                id,
                group: GroupId(1),
                kind: MemberKind::Full,
                session: Session(id.0),
                seed: id.0,
                election_ticks: 10,
                heartbeat_ticks: 1,
                leases: None,
                limits: Limits {
                    window_bytes: 1 << 20,
                    ..Limits::default()
                },
            };
            let stored = Stored::new(Configuration::new(ids, []).expect("three voters"));
            let node = Node::new(config, stored).expect("the timeouts fit");
            (
                id,
                Member {
                    node,
                    applied: EntryId::ZERO,
                    snapshot: 0,
                },
            )
        };
        Self {
            nodes: ids.into_iter().map(member).collect(),
            network: VecDeque::new(),
            committed: 0,
        }
    }

    fn elect(&mut self) {
        while self.nodes[&LEADER].node.status().role != RoleKind::Leader {
            self.step(LEADER, Input::Tick);
            self.run();
        }
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let member = self.nodes.get_mut(&id).expect("a member");
        member.node.step(input);
    }

    /// Runs until nothing moves; how many commands the leader's clients saw committed.
    fn run(&mut self) -> u64 {
        loop {
            for id in [1, 2, 3].map(NodeId) {
                self.drain(id);
            }
            if self.network.is_empty() {
                return std::mem::take(&mut self.committed);
            }
            while let Some(envelope) = self.network.pop_front() {
                self.step(envelope.to, Input::Receive(envelope));
            }
        }
    }

    fn drain(&mut self, id: NodeId) {
        let member = self.nodes.get_mut(&id).expect("a member");
        while let Some(ready) = member.node.ready() {
            self.committed += committed(&ready);
            self.network.extend(ready.send);
            if let Some(write) = ready.write {
                member.node.step(Input::Persisted(write.seq));
            }
            if let Some(last) = ready.apply.last() {
                member.apply(last.id);
            }
        }
    }
}

impl Member {
    fn apply(&mut self, last: EntryId) {
        self.applied = last;
        self.node.step(Input::Applied(last.index));
        if last.index.0 > self.snapshot + COMPACT_EVERY {
            self.snapshot = last.index.0;
            let configuration = self.node.status().configuration;
            self.node.step(Input::SnapshotSaved(SnapshotMeta {
                id: last,
                configuration,
            }));
        }
    }
}

fn committed(ready: &Ready) -> u64 {
    ready
        .resolved
        .iter()
        .filter(|resolved| matches!(resolved.outcome, Outcome::Committed(_)))
        .count() as u64
}

const LEADER: NodeId = NodeId(1);
const COMPACT_EVERY: u64 = 10_000;
