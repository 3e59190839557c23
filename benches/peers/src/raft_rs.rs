//! raft-rs over its own `MemStorage`, driven as its documentation says.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use crate::cluster::{COMMAND, COMPACT_EVERY, Cluster, Sum};

pub struct RaftRs {
    members: [Member; 3],
    network: VecDeque<Message>,
}

struct Member {
    node: RawNode<MemStorage>,
    storage: MemStorage,
    sum: Sum,
    compacted: u64,
}

impl RaftRs {
    pub fn new() -> Self {
        let mut cluster = Self {
            members: [1, 2, 3].map(Member::new),
            network: VecDeque::new(),
        };
        while cluster.members[0].node.raft.state != StateRole::Leader {
            cluster.members[0].node.campaign().expect("it may campaign");
            cluster.settle();
        }
        cluster
    }
}

impl Cluster for RaftRs {
    /// One message with all commands: `RawNode::propose` once for each would be slower.
    fn propose(&mut self, count: u64) {
        let entry = Entry {
            data: Bytes::from_static(COMMAND),
            ..Entry::default()
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = 1;
        message.set_entries((0..count).map(|_| entry.clone()).collect::<Vec<_>>().into());
        let leader = &mut self.members[0].node;
        leader.raft.step(message).expect("the leader takes proposals");
    }

    fn settle(&mut self) -> u64 {
        loop {
            for member in &mut self.members {
                while member.node.has_ready() {
                    member.carry_out(&mut self.network);
                }
            }
            if self.network.is_empty() {
                return self.members[0].sum.count;
            }
            while let Some(message) = self.network.pop_front() {
                let at = usize::try_from(message.to - 1).expect("three members");
                self.members[at].node.step(message).expect("a message of a peer");
            }
        }
    }
}

impl Member {
    fn new(id: u64) -> Self {
        let config = Config {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            ..Config::default()
        };
        let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
        let logger = Logger::root(Discard, o!());
        Self {
            node: RawNode::new(&config, storage.clone(), &logger).expect("the settings fit"),
            storage,
            sum: Sum::default(),
            compacted: 0,
        }
    }

    fn carry_out(&mut self, network: &mut VecDeque<Message>) {
        let mut ready = self.node.ready();
        network.extend(ready.take_messages());
        self.apply(&ready.take_committed_entries());
        {
            let mut storage = self.storage.wl();
            storage.append(ready.entries()).expect("entries that follow");
            if let Some(hard_state) = ready.hs() {
                storage.set_hardstate(hard_state.clone());
            }
        }
        network.extend(ready.take_persisted_messages());
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.storage.wl().mut_hard_state().commit = commit;
        }
        network.extend(light.take_messages());
        self.apply(&light.take_committed_entries());
        self.node.advance_apply();
        self.compact();
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            // The leader's first entry is empty.
            if entry.get_entry_type() == EntryType::EntryNormal && !entry.data.is_empty() {
                self.sum.apply_bytes(&entry.data);
            }
        }
    }

    fn compact(&mut self) {
        let applied = self.node.raft.raft_log.applied;
        if applied >= self.compacted + COMPACT_EVERY {
            self.compacted = applied;
            // A follower may be a message behind; what it will want stays.
            let up_to = applied.saturating_sub(RETAINED);
            self.storage
                .wl()
                .compact(up_to)
                .expect("entries that were applied");
        }
    }
}

/// As many as Quorate keeps by default.
const RETAINED: u64 = 5_000;
