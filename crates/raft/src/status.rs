//! What a node says of itself when asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::configuration::{Configuration, Stage};
use crate::membership::Target;
use crate::types::{EntryId, Index, NodeId, Term};

/// A node's state, for operators and metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// Its term.
    pub term: Term,
    /// What it is in that term.
    pub role: RoleKind,
    /// Whom it follows; itself when it leads.
    pub leader: Option<NodeId>,
    /// The highest index known to be committed.
    pub commit_index: Index,
    /// The highest index applied.
    pub applied_index: Index,
    /// The last entry of its log.
    pub last: EntryId,
    /// The last index known to be on its disk.
    pub durable_index: Index,
    /// The entry before the first of its log.
    pub base: EntryId,
    /// Its newest snapshot.
    pub snapshot: EntryId,
    /// The members.
    pub configuration: Arc<Configuration>,
    /// The entry that says so; 0 for those that the group began with.
    pub configuration_index: Index,
    /// Whether it was a member and is none any more, for certain. A member that was removed and restarts after
    /// it has compacted that does not know.
    pub removed: bool,
    /// What a leader knows of each other member; empty otherwise.
    pub progress: BTreeMap<NodeId, PeerStatus>,
    /// What it holds in memory.
    pub load: Load,
}

/// What a node holds in memory, as far as [`crate::Limits`] bound it. Bytes, unless said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Entries that it appended as leader and that are not committed.
    pub uncommitted_bytes: u64,
    /// Entries sent to one follower and not acknowledged: the most of any.
    pub inflight_bytes: u64,
    /// Entries handed out to be applied and not reported.
    pub applying_bytes: u64,
    /// Entries in memory, whatever for.
    pub window_bytes: u64,
    /// How many reads wait for a quorum.
    pub pending_reads: usize,
}

impl Status {
    /// The change of members under way, if there is one.
    #[must_use]
    pub fn reconfiguration(&self) -> Option<Reconfiguration> {
        let target = self.configuration.pending()?;
        let lacks = |node: &NodeId| {
            let match_index = self.progress.get(node)?.match_index;
            Some(self.last.index.0.saturating_sub(match_index.0))
        };
        let newcomers = self.configuration.newcomers();
        Some(Reconfiguration {
            stage: match self.configuration.stage() {
                Stage::Joint => ChangeStage::Joint,
                Stage::CatchingUp(_) | Stage::Settled => ChangeStage::CatchingUp,
            },
            target: target.clone(),
            newcomers: newcomers.iter().map(|node| (*node, lacks(node))).collect(),
        })
    }
}

/// A change of members under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfiguration {
    /// How far it has come.
    pub stage: ChangeStage,
    /// Where it leads.
    pub target: Target,
    /// Those who are to vote and do not yet, with how many entries each lacks, if this node knows: the
    /// leader does.
    pub newcomers: BTreeMap<NodeId, Option<u64>>,
}

/// How far a change of members has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStage {
    /// Those who are to vote and do not yet are learning.
    CatchingUp,
    /// Both the old voters and the new ones decide.
    Joint,
}

/// The roles of the paper's figure 4, and the pre-candidate of thesis §9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// Follows, or waits for a leader.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The highest index known to equal the leader's log.
    pub match_index: Index,
    /// The next index to send.
    pub next_index: Index,
    /// How it is being replicated to.
    pub mode: PeerMode,
    /// Whether it was heard of within the last election timeout.
    pub active: bool,
}

/// How a follower is being replicated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMode {
    /// Where the logs agree is being found out.
    Probe,
    /// Appends are pipelined.
    Replicate,
    /// It is being sent a snapshot.
    Snapshot,
}
