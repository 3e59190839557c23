//! OmniPaxos over its own `MemoryStorage`, with commands by value (as it prefers) or as shared bytes.

use std::fmt::Debug;

use bytes::Bytes;
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

use crate::cluster::{COMMAND, COMPACT_EVERY, Cluster, Sum};

/// What can be a command.
pub trait Command: Entry {
    fn new() -> Self;
    fn apply(&self, sum: &mut Sum);
}

/// Eight bytes by value: nothing is shared or counted.
#[derive(Clone, Debug)]
pub struct ByValue(u64);

/// Bytes of any length, as a library that knows nothing of its commands has them.
#[derive(Clone, Debug)]
pub struct AsBytes(Bytes);

impl Entry for ByValue {
    type Snapshot = NoSnapshot;
}

impl Entry for AsBytes {
    type Snapshot = NoSnapshot;
}

impl Command for ByValue {
    fn new() -> Self {
        Self(u64::from_le_bytes(*COMMAND))
    }

    fn apply(&self, sum: &mut Sum) {
        sum.apply(self.0);
    }
}

impl Command for AsBytes {
    fn new() -> Self {
        Self(Bytes::from_static(COMMAND))
    }

    fn apply(&self, sum: &mut Sum) {
        sum.apply_bytes(&self.0);
    }
}

pub struct Omni<C: Command> {
    members: [Member<C>; 3],
    network: Vec<Message<C>>,
    arrived: Vec<Message<C>>,
    leader: usize,
    trimmed: usize,
}

struct Member<C: Command> {
    node: OmniPaxos<C, MemoryStorage<C>>,
    sum: Sum,
    applied: usize,
}

impl<C: Command> Omni<C> {
    pub fn new() -> Self {
        let mut cluster = Self {
            members: [1, 2, 3].map(Member::new),
            network: Vec::new(),
            arrived: Vec::new(),
            leader: 0,
            trimmed: 0,
        };
        cluster.leader = cluster.elect();
        cluster
    }

    /// The place of the member that all follow.
    fn elect(&mut self) -> usize {
        loop {
            for member in &mut self.members {
                member.node.tick();
            }
            self.settle();
            let leaders = self
                .members
                .each_ref()
                .map(|member| member.node.get_current_leader());
            if let [Some((leader, true)), others @ ..] = leaders
                && others.iter().all(|other| *other == Some((leader, true)))
            {
                return usize::try_from(leader - 1).expect("three members");
            }
        }
    }

    /// All members drop what all have decided: here the leader asks them to.
    fn trim(&mut self) {
        let decided = self.members.iter().map(|member| member.applied).min();
        let decided = decided.expect("three members");
        if decided as u64 >= self.trimmed as u64 + COMPACT_EVERY {
            self.trimmed = decided;
            let leader = &mut self.members[self.leader].node;
            leader.trim(Some(decided)).expect("all have decided it");
        }
    }
}

impl<C: Command> Cluster for Omni<C> {
    fn propose(&mut self, count: u64) {
        let leader = &mut self.members[self.leader].node;
        for _ in 0..count {
            leader.append(C::new()).expect("the leader takes commands");
        }
    }

    fn settle(&mut self) -> u64 {
        loop {
            for member in &mut self.members {
                member.apply();
                member.node.take_outgoing_messages(&mut self.network);
            }
            if self.network.is_empty() {
                self.trim();
                return self.members[self.leader].sum.count;
            }
            std::mem::swap(&mut self.network, &mut self.arrived);
            for message in self.arrived.drain(..) {
                let at = usize::try_from(message.get_receiver() - 1).expect("three members");
                self.members[at].node.handle_incoming(message);
            }
        }
    }
}

impl<C: Command> Member<C> {
    fn new(pid: u64) -> Self {
        let cluster = ClusterConfig {
            configuration_id: 1,
            nodes: vec![1, 2, 3],
            ..ClusterConfig::default()
        };
        let server = ServerConfig {
            pid,
            ..ServerConfig::default()
        };
        Self {
            node: cluster
                .build_for_server(server, MemoryStorage::default())
                .expect("the settings fit"),
            sum: Sum::default(),
            applied: 0,
        }
    }

    fn apply(&mut self) {
        if self.node.get_decided_idx() <= self.applied {
            return;
        }
        for entry in self.node.read_decided_suffix(self.applied).unwrap_or_default() {
            self.applied += 1;
            if let LogEntry::Decided(command) = entry {
                command.apply(&mut self.sum);
            }
        }
    }
}
