//! A follower: takes entries from its leader, and campaigns when it hears of none (paper §5.2).
//!
//! - Only the leader of its term and a vote that it grants put its own campaign off.
//! - It commits what its leader committed, as far as it has compared the logs.

use crate::core::Core;
use crate::event::Event;
use crate::failover::Failover;
use crate::io::{Proposal, Rejection};
use crate::log::Splice;
use crate::membership::{MemberKind, Precondition, Target};
use crate::message::{
    AppendEntries, AppendEntriesResponse, Forward, Heartbeat, HeartbeatResponse, Message, Reconfigure,
    RequestPreVote,
};
use crate::mutant::mutant;
use crate::node::Next;
use crate::snapshot::SnapshotMeta;
use crate::types::{EntryId, Index, NodeId, Ticket};

/// A follower, or a node that waits for a leader.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    leader: Option<NodeId>,
    /// Ticks since the leader was heard of, or a vote was granted.
    elapsed: u32,
    /// Ticks after which it campaigns.
    timeout: u32,
    /// How far the log was compared with this leader's.
    verified: Index,
    failover: Failover,
}

impl Follower {
    pub(crate) fn new(core: &mut Core, leader: Option<NodeId>) -> Self {
        core.event(Event::BecameFollower {
            term: core.term(),
            leader,
        });
        if let Some(leader) = leader {
            core.requests.on_leader(leader);
        }
        Self {
            leader,
            elapsed: 0,
            timeout: core.draw_election_timeout(),
            verified: core.log.commit_index(),
            failover: Failover::default(),
        }
    }

    /// Nothing is committed that was not compared with the leader's log: the log beyond may be another's
    /// (docs/scenarios.md S19c).
    pub(crate) fn check(&self, core: &Core) {
        let (verified, commit) = (self.verified, core.log.commit_index());
        assert!(
            commit <= verified,
            "{} has committed up to {commit} in term {}, and its log was compared up to {verified} only",
            core.id(),
            core.term()
        );
    }

    /// A follower whose term grew without a leader to follow: its patience is not renewed.
    pub(crate) fn in_newer_term(&self, core: &mut Core) -> Self {
        core.event(Event::BecameFollower {
            term: core.term(),
            leader: None,
        });
        Self {
            leader: None,
            verified: core.log.commit_index(),
            ..*self
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Whether a leader was heard of so recently that no other should be elected (thesis §4.2.3).
    pub(crate) fn shelters_leader(&self, core: &Core) -> bool {
        self.leader.is_some() && self.elapsed < core.config.election_ticks
    }

    pub(crate) fn on_tick(&mut self, core: &mut Core) -> Next {
        self.elapsed += 1;
        if self.elapsed >= self.timeout && self.leader.is_some() && !core.may_campaign() {
            // Others will find another; what is asked here meanwhile has nowhere to go.
            self.leader = None;
            core.event(Event::BecameFollower {
                term: core.term(),
                leader: None,
            });
        }
        if self.leader.is_none() && core.is_removed() {
            core.requests.on_left_alone();
        }
        self.campaign_if_due(core)
    }

    fn campaign_if_due(&self, core: &Core) -> Next {
        if self.elapsed >= self.timeout && core.is_free_to_campaign() {
            if mutant!(M14) {
                return Next::Campaign;
            }
            Next::PreCampaign(self.failover.attempt())
        } else {
            Next::Stay
        }
    }

    pub(crate) fn on_vote_granted(&mut self, core: &mut Core) {
        self.wait_anew(core);
    }

    /// A pre-vote was denied because this node hears its leader.
    pub(crate) fn on_asked_in_vain(&mut self, from: NodeId, ask: RequestPreVote) {
        self.failover.on_denied(from, ask);
    }

    /// Its leader is gone, if that is `peer`: it campaigns when its turn comes.
    pub(crate) fn on_peer_gone(&mut self, core: &mut Core, peer: NodeId) -> Next {
        if self.leader != Some(peer) {
            return Next::Stay;
        }
        core.event(Event::LeaderGone { leader: peer });
        self.leader = None;
        let turn = self.failover.begin(core, peer);
        self.timeout = self.timeout.min(self.elapsed.saturating_add(turn));
        if mutant!(M73) && self.elapsed >= self.timeout && core.is_free_to_campaign() {
            return Next::Campaign;
        }
        self.campaign_if_due(core)
    }

    /// Thesis §3.5. `Node::step` has applied the term rule, so the sender leads our term.
    pub(crate) fn on_append_entries(&mut self, core: &mut Core, from: NodeId, msg: AppendEntries) -> Next {
        if !self.follow(core, from) {
            return Next::Stay;
        }
        if core.config.kind == MemberKind::Full && msg.slice.is_stripped() {
            core.event(Event::Ignored {
                from,
                what: "it takes this node for a witness and keeps data from it",
            });
            return Next::Stay;
        }
        let prev = msg.slice.prev();
        if prev.index < core.log.commit_index() && !core.log.contains(prev) {
            // Committed entries are in every later leader's log (§3.6.3): nothing to compare.
            let match_index = core.log.commit_index();
            core.send_when_durable(from, accepted(match_index));
        } else if core.log.contains(prev) || (mutant!(M18) && prev.index <= core.log.last().index) {
            self.splice(core, from, msg);
        } else if mutant!(M28) && prev.index > core.log.last().index {
            core.send_when_durable(from, accepted(msg.slice.last().index));
        } else {
            let hint = core.log.last_id_not_after(prev); // Skips a whole term per round trip.
            core.send(
                from,
                Message::AppendEntriesResponse(AppendEntriesResponse::Rejected { prev, hint }),
            );
        }
        Next::Stay
    }

    pub(crate) fn on_heartbeat(&mut self, core: &mut Core, from: NodeId, msg: Heartbeat) -> Next {
        if self.follow(core, from) {
            self.commit(core, msg.commit);
            let answer = HeartbeatResponse {
                round: msg.round,
                verified: self.verified,
            };
            core.send_when_term_durable(from, Message::HeartbeatResponse(answer));
        }
        Next::Stay
    }

    pub(crate) fn on_commit(&mut self, core: &mut Core, from: NodeId, index: Index) -> Next {
        if self.follow(core, from) {
            self.commit(core, index);
        }
        Next::Stay
    }

    /// Paper §7. The data is on this node's disk.
    pub(crate) fn on_install_snapshot(&mut self, core: &mut Core, from: NodeId, meta: SnapshotMeta) -> Next {
        if !self.follow(core, from) {
            return Next::Stay;
        }
        let index = meta.id.index;
        if index <= core.log.commit_index() && !mutant!(M29) {
            let match_index = core.log.commit_index();
            core.send_when_durable(from, accepted(match_index));
        } else if core.log.contains(meta.id) && !mutant!(M29) || mutant!(M30) && index < core.log.last().index
        {
            // Figure 13, rule 6: what follows the snapshot in the log stays.
            self.verified = self.verified.max(index);
            core.commit_to(index);
            core.send_when_durable(from, accepted(index));
        } else {
            core.install(from, meta);
            self.verified = index;
        }
        Next::Stay
    }

    /// The snapshot that `leader` sent is installed: its acknowledgment says so.
    pub(crate) fn on_restored(&mut self, core: &mut Core, leader: NodeId, id: EntryId) {
        if self.leader == Some(leader) {
            core.send_when_durable(leader, accepted(id.index));
        }
    }

    /// Thesis §3.10. A log that is not wholly on the disk, or a learner's, must not win (docs/scenarios.md V6).
    pub(crate) fn on_timeout_now(&mut self, core: &mut Core, from: NodeId) -> Next {
        let ready = core.may_campaign() && core.log.durable_index() == core.log.last().index;
        if self.follow(core, from) && ready {
            Next::Transfer
        } else {
            Next::Stay
        }
    }

    /// Hands commands to the leader.
    pub(crate) fn propose(&mut self, core: &mut Core, proposals: Vec<Proposal>) {
        let Some(leader) = self.leader else {
            core.requests.reject_all(
                proposals.into_iter().map(|proposal| proposal.ticket),
                Rejection::NoLeader,
            );
            return;
        };
        let mut batch = Batch::default();
        let limits = core.config.limits.clone();
        for proposal in proposals {
            let bytes = proposal.command.len() as u64;
            if bytes > limits.max_command_bytes {
                core.requests.reject(proposal.ticket, Rejection::TooLarge);
            } else if core.requests.forwarded_bytes() + batch.bytes + bytes > limits.max_uncommitted_bytes {
                core.requests.reject(proposal.ticket, Rejection::Overloaded);
            } else {
                if !batch.tickets.is_empty() && batch.bytes + bytes > limits.max_message_bytes {
                    std::mem::take(&mut batch).send(core, leader);
                }
                batch.push(proposal);
            }
        }
        batch.send(core, leader);
    }

    /// Hands a change of members to the leader.
    pub(crate) fn reconfigure(
        &mut self,
        core: &mut Core,
        ticket: Ticket,
        target: Target,
        precondition: Precondition,
    ) {
        let Some(leader) = self.leader else {
            core.requests.reject(ticket, Rejection::NoLeader);
            return;
        };
        let term = core.term();
        let Some((session, seq)) = core.requests.forward_change(term, ticket, &target) else {
            core.requests.reject(ticket, Rejection::ChangeInProgress);
            return;
        };
        core.send(
            leader,
            Message::Reconfigure(Box::new(Reconfigure {
                session,
                seq,
                target,
                precondition,
            })),
        );
    }

    /// Asks the leader up to where to apply before these reads.
    pub(crate) fn read(&mut self, core: &mut Core, tickets: Vec<Ticket>) {
        let Some(leader) = self.leader else {
            core.requests.reject_all(tickets, Rejection::NoLeader);
            return;
        };
        if core.requests.pending_reads() + tickets.len() > core.config.limits.max_pending_reads {
            core.requests.reject_all(tickets, Rejection::Overloaded);
            return;
        }
        let id = core.requests.ask_read_index(tickets);
        core.send(leader, Message::ReadIndex(id));
    }

    /// Follows `leader` of this term; not a second one (paper §5.2: there is at most one).
    fn follow(&mut self, core: &mut Core, leader: NodeId) -> bool {
        if let Some(other) = self.leader.filter(|known| *known != leader) {
            core.event(Event::SecondLeader {
                term: core.term(),
                other,
            });
            return false;
        }
        if self.leader.is_none() {
            self.leader = Some(leader);
            core.event(Event::BecameFollower {
                term: core.term(),
                leader: self.leader,
            });
            core.requests.on_leader(leader);
        }
        core.promise.make(leader);
        self.wait_anew(core);
        true
    }

    /// Somebody leads, or may soon: the next campaign is an election timeout away.
    fn wait_anew(&mut self, core: &mut Core) {
        if mutant!(M13) {
            return;
        }
        self.elapsed = 0;
        if self.failover.end() {
            self.timeout = core.draw_election_timeout();
        }
    }

    fn splice(&mut self, core: &mut Core, from: NodeId, msg: AppendEntries) {
        match core.log.splice(msg.slice) {
            Splice::ContradictsCommitted => {
                core.event(Event::Ignored {
                    from,
                    what: "its entries contradict committed ones",
                });
            }
            Splice::Done {
                match_index,
                truncated,
            } => {
                if let Some(from) = truncated {
                    core.event(Event::LogTruncated { from });
                }
                self.verified = self.verified.max(match_index);
                core.tell(match_index);
                core.commit_to(msg.commit.min(mutant!(M23, msg.commit, match_index)));
                core.send_when_durable(from, accepted(match_index));
            }
        }
    }

    /// Commits within what was compared with the leader's log (etcd-io/raft #139).
    fn commit(&mut self, core: &mut Core, index: Index) {
        self.verified = self.verified.max(core.log.commit_index());
        core.commit_to(index.min(mutant!(M26, index, self.verified)));
    }
}

/// Commands that go to the leader in one message.
#[derive(Default)]
struct Batch {
    tickets: Vec<Ticket>,
    commands: Vec<bytes::Bytes>,
    bytes: u64,
}

impl Batch {
    fn push(&mut self, proposal: Proposal) {
        self.bytes += proposal.command.len() as u64;
        self.tickets.push(proposal.ticket);
        self.commands.push(proposal.command);
    }

    fn send(self, core: &mut Core, leader: NodeId) {
        if self.tickets.is_empty() {
            return;
        }
        let seq = core.requests.forward(core.term(), self.tickets, self.bytes);
        let session = core.requests.session();
        core.send(
            leader,
            Message::Forward(Forward {
                session,
                seq,
                commands: self.commands,
            }),
        );
    }
}

fn accepted(match_index: Index) -> Message {
    Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index })
}
