//! One member of one group: takes inputs, applies the rule about terms, and lets its role act.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::candidate::{Attempt, Candidate, PreCandidate};
use crate::core::Core;
use crate::entry::Entry;
use crate::event::{Event, StepDown};
use crate::follower::Follower;
use crate::invariants::View;
use crate::io::{
    Config, ConfigError, Input, LogReadError, Proposal, Purpose, ReadLog, Ready, Rejection, Stored,
    Transferee,
};
use crate::leader::Leader;
use crate::lease::Promised;
use crate::membership::{MemberKind, Precondition, Target};
use crate::message::{
    Campaign, Envelope, Forward, ForwardResponse, Forwarded, Message, ReadOutcome, Reconfigure,
    ReconfigureResponse, Verdict,
};
use crate::mutant::mutant;
use crate::reads::refuse_read;
use crate::snapshot::SnapshotMeta;
use crate::status::{RoleKind, Status};
use crate::types::{EntryId, Index, Moment, NodeId, Term, Ticket};

/// One member of one group. See the crate's page for the contract.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) core: Core,
    pub(crate) role: Role,
}

/// The roles of the paper's figure 4, and the pre-candidate of thesis §9.6.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// What a handler wants its node to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// What it is.
    Stay,
    /// A follower, of this leader if it is known.
    Follow(Option<NodeId>),
    /// A follower, from being a leader.
    StepDown(StepDown),
    /// A pre-candidate, at this of its attempts.
    PreCampaign(Attempt),
    /// A candidate.
    Campaign,
    /// A candidate at the leader's wish (thesis §3.10).
    Transfer,
    /// A leader.
    Lead,
}

impl Next {
    /// This, or what `other` says if this changes nothing.
    pub(crate) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Stay { other() } else { self }
    }
}

impl Node {
    /// A node as its disk describes it.
    ///
    /// # Errors
    /// When the timeouts do not fit each other, or the parts of `stored` contradict each other.
    pub fn new(config: Config, stored: Stored) -> Result<Self, ConfigError> {
        let mut core = Core::new(config, stored)?;
        let role = Role::Follower(Follower::new(&mut core, None));
        Ok(Self { core, role })
    }

    /// Tells the node what happened. Bounded in time, without I/O; no peer can make it fail.
    pub fn step(&mut self, input: Input) {
        let next = match input {
            Input::Tick => self.on_tick(),
            Input::Now(moment) => self.core.stay(|core| core.promise.on_now(moment)),
            Input::ClockInDoubt => self.as_leader(|leader, _| {
                leader.lease.give_up();
                Next::Stay
            }),
            Input::Receive(envelope) => self.receive(envelope),
            Input::Propose(proposals) => self.propose(proposals),
            Input::Read { tickets, consistency } => self.read(tickets, consistency),
            Input::TransferLeadership { ticket, to } => self.transfer(ticket, to),
            Input::Reconfigure {
                ticket,
                target,
                precondition,
            } => self.reconfigure(ticket, target, precondition),
            Input::Persisted(seq) => {
                self.core.on_persisted(seq);
                self.on_persisted()
            }
            Input::Applied(index) => {
                self.core.on_applied(index);
                Next::Stay
            }
            Input::LogRead { request, entries } => self.on_log_read(request, entries),
            Input::SnapshotSaved(meta) => self.on_snapshot_saved(meta),
            Input::SnapshotSent(sent) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_snapshot_sent(sent);
                }
                Next::Stay
            }
            Input::PeerGone(peer) => self.on_peer_gone(peer),
            Input::Restored(id) => self.on_restored(id),
        };
        self.turn(next);
    }

    /// Takes what the node wants done; none when there is nothing.
    pub fn ready(&mut self) -> Option<Ready> {
        let mut ready = Ready::default();
        self.ready_into(&mut ready).then_some(ready)
    }

    /// As [`Self::ready`], into a value of the caller's; says whether there is anything. What was left
    /// in it is dropped, and the room of its vectors is used again: a busy caller allocates none anew.
    pub fn ready_into(&mut self, ready: &mut Ready) -> bool {
        if let Role::Leader(leader) = &mut self.role {
            leader.replicate(&mut self.core);
        }
        let has_ready = self.core.has_ready();
        if has_ready {
            self.core.take_ready(ready);
        }
        has_ready
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let log = &self.core.log;
        Status {
            id: self.core.id(),
            term: self.core.term(),
            role: self.role_kind(),
            leader: self.leader(),
            commit_index: log.commit_index(),
            applied_index: log.applied_index(),
            last: log.last(),
            durable_index: log.durable_index(),
            base: log.base(),
            snapshot: log.snapshot().id,
            configuration: Arc::clone(log.configuration()),
            configuration_index: log.configuration_index(),
            removed: self.core.is_removed(),
            progress: match &self.role {
                Role::Leader(leader) => leader.progress(self.core.config.election_ticks),
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => BTreeMap::new(),
            },
            load: match &self.role {
                Role::Leader(leader) => leader.load(&self.core),
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => self.core.load(),
            },
        }
    }

    /// What invariants compare between two steps.
    #[must_use]
    pub fn view(&self) -> View {
        let log = &self.core.log;
        View {
            id: self.core.id(),
            term: self.core.term(),
            vote: self.core.vote(),
            role: self.role_kind(),
            leader: self.leader(),
            commit_index: log.commit_index(),
            applied_index: log.applied_index(),
            last: log.last(),
        }
    }

    /// Until when, by its clock, this node may serve reads by a lease; none if it may not.
    #[must_use]
    pub fn lease_until(&self) -> Option<Moment> {
        match &self.role {
            Role::Leader(leader) => leader.lease_until(&self.core),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// What this node promised last to the leader that it heard, or in an earlier life; none without leases.
    #[must_use]
    pub fn promised(&self) -> Option<Promised> {
        self.core.promise.made()
    }

    /// The term of the entry at `index`, if this node's log still says.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.core.log.term_at(index)
    }

    /// Checks what must be true of the node at any moment.
    ///
    /// # Panics
    /// When it is not: a bug of this crate or of its caller. Costs a pass over the entries in memory.
    pub fn check(&self) {
        self.core.check();
        match &self.role {
            Role::Leader(leader) => leader.check(&self.core),
            Role::Follower(follower) => follower.check(&self.core),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    fn role_kind(&self) -> RoleKind {
        match &self.role {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader(),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.core.id()),
        }
    }

    /// Becomes what a handler asked for. Nothing else changes the role.
    fn turn(&mut self, mut next: Next) {
        while next != Next::Stay {
            self.resign(next);
            let core = &mut self.core;
            (self.role, next) = match next {
                Next::Stay => return,
                Next::Follow(leader) => (self.role.follow(core, leader), Next::Stay),
                Next::StepDown(_) => (self.role.follow(core, None), Next::Stay),
                Next::PreCampaign(attempt) => {
                    let candidate = PreCandidate::new(core, attempt);
                    let next = candidate.next(core);
                    (Role::PreCandidate(candidate), next)
                }
                Next::Campaign => (
                    Role::Candidate(Candidate::new(core, Campaign::Timeout)),
                    Next::Stay,
                ),
                Next::Transfer => (
                    Role::Candidate(Candidate::new(core, Campaign::Transfer)),
                    Next::Stay,
                ),
                Next::Lead => (Role::Leader(Box::new(Leader::new(core))), Next::Stay),
            };
        }
    }

    fn resign(&mut self, next: Next) {
        if let Role::Leader(leader) = &mut self.role {
            let reason = if let Next::StepDown(reason) = next {
                reason
            } else {
                StepDown::HigherTerm
            };
            leader.resign(&mut self.core, reason);
        }
    }

    fn on_tick(&mut self) -> Next {
        self.core.on_tick();
        match &mut self.role {
            Role::Follower(follower) => follower.on_tick(&mut self.core),
            Role::PreCandidate(candidate) => candidate.on_tick(&self.core),
            Role::Candidate(candidate) => candidate.on_tick(&self.core),
            Role::Leader(leader) => leader.on_tick(&mut self.core),
        }
    }

    /// The rule about terms (paper §5.1), with the exceptions that pre-votes and sheltered leaders need.
    fn receive(&mut self, envelope: Envelope) -> Next {
        if let Some(what) = self.wrong_with(&envelope) {
            self.core.event(Event::Ignored {
                from: envelope.from,
                what,
            });
            return Next::Stay;
        }
        match envelope.term.cmp(&self.core.term()) {
            Ordering::Less => self.receive_older(envelope),
            Ordering::Equal => self.deliver(envelope),
            Ordering::Greater => self.receive_newer(envelope),
        }
    }

    /// What makes a message one that no correct peer sends here.
    fn wrong_with(&self, envelope: &Envelope) -> Option<&'static str> {
        let config = &self.core.config;
        if envelope.group != config.group {
            Some("its message is for another group")
        } else if envelope.to != config.id {
            Some("its message is for another node")
        } else if envelope.from == config.id {
            Some("it says that it is this node")
        } else {
            envelope.fault()
        }
    }

    fn receive_newer(&mut self, envelope: Envelope) -> Next {
        if matches!(
            &envelope.message,
            Message::RequestPreVote(_) | Message::FetchLog(_)
        ) {
            // A question about an election changes nothing (thesis §9.6).
            return self.deliver(envelope);
        }
        let promised = self.core.promise.forbids(envelope.from);
        // A leader that asks for votes in a newer term leads no more.
        let hears_leader = self.shelters_leader() && self.leader() != Some(envelope.from);
        let shelters = (hears_leader && !mutant!(M14)) || promised;
        if envelope.message.is_uncalled_campaign() && shelters {
            // Thesis §4.2.3: while a leader is heard of, none is deposed.
            return Next::Stay;
        }
        let leader = envelope.message.is_from_leader().then_some(envelope.from);
        self.core.adopt_term(envelope.term);
        if mutant!(M9) && matches!(self.role, Role::Leader(_)) {
            return self.deliver(envelope);
        }
        self.turn(Next::Follow(leader));
        self.deliver(envelope)
    }

    fn receive_older(&mut self, envelope: Envelope) -> Next {
        let from = envelope.from;
        if mutant!(M10) && matches!(envelope.message, Message::VoteResponse(_)) {
            return self.deliver(envelope);
        }
        match envelope.message {
            Message::RequestPreVote(_) | Message::PreVoteResponse(_) | Message::ForwardResponse(_) => {
                return self.deliver(envelope);
            }
            Message::FetchLog(_) | Message::LogSuffix(_) => return self.deliver(envelope),
            Message::ReadIndexResponse(_) | Message::ReconfigureResponse(_) => return self.deliver(envelope),
            Message::RequestVote(_) => self.core.send(from, Message::VoteResponse(Verdict::Denied)),
            Message::ReadIndex(id) => refuse_read(&mut self.core, from, id),
            // Without an answer, a leader that was cut off would go on for ever in its old term.
            Message::AppendEntries(_) | Message::Heartbeat(_) | Message::InstallSnapshot(_) => {
                self.core.send(from, Message::StaleTerm);
            }
            Message::VoteResponse(_)
            | Message::AppendEntriesResponse(_)
            | Message::HeartbeatResponse(_)
            | Message::Commit(_)
            | Message::TimeoutNow
            | Message::StaleTerm
            // Whether an earlier copy of it was appended cannot be told, so its sender is not told either.
            | Message::Forward(_)
            | Message::Reconfigure(_) => {}
        }
        Next::Stay
    }

    /// One line per message; its handler is named after the rule it serves.
    fn deliver(&mut self, envelope: Envelope) -> Next {
        let from = envelope.from;
        if let Role::Leader(leader) = &mut self.role
            && envelope.message.is_from_follower()
        {
            leader.on_heard(from);
        }
        match envelope.message {
            Message::RequestPreVote(msg) => self.on_request_pre_vote(from, msg),
            Message::PreVoteResponse(msg) => self.on_pre_vote_response(from, msg),
            Message::FetchLog(prev) => self.on_fetch_log(from, prev),
            Message::LogSuffix(msg) => self.on_log_suffix(from, msg),
            Message::RequestVote(msg) => self.on_request_vote(from, msg),
            Message::VoteResponse(verdict) => self.on_vote_response(from, verdict),
            Message::AppendEntries(msg) => {
                self.as_follower(from, |f, core| f.on_append_entries(core, from, msg))
            }
            Message::Heartbeat(msg) => self.as_follower(from, |f, core| f.on_heartbeat(core, from, msg)),
            Message::Commit(index) => self.as_follower(from, |f, core| f.on_commit(core, from, index)),
            Message::InstallSnapshot(meta) => {
                self.as_follower(from, |f, core| f.on_install_snapshot(core, from, meta))
            }
            Message::TimeoutNow => self.as_follower(from, |f, core| f.on_timeout_now(core, from)),
            Message::AppendEntriesResponse(msg) => {
                self.as_leader(|leader, core| leader.on_append_response(core, from, msg))
            }
            Message::HeartbeatResponse(msg) => self.as_leader(|leader, core| {
                leader.on_heartbeat_response(core, from, msg);
                Next::Stay
            }),
            Message::Forward(msg) => self.on_forward(from, msg),
            Message::ForwardResponse(msg) => self.on_forward_response(msg),
            Message::ReadIndex(id) => match &mut self.role {
                Role::Leader(leader) => self.core.stay(|core| leader.on_read_index(core, from, id)),
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                    self.core.stay(|core| refuse_read(core, from, id))
                }
            },
            Message::ReadIndexResponse(msg) => self.core.stay(|core| {
                let outcome = if core.is_removed() {
                    ReadOutcome::Refused
                } else {
                    msg.outcome
                };
                let commit = core.log.commit_index();
                core.requests.on_read_index(msg.id, outcome, commit);
            }),
            Message::Reconfigure(msg) => self.on_reconfigure(from, *msg),
            Message::ReconfigureResponse(msg) => {
                let matched = self.core.matched_index();
                self.core
                    .stay(|core| core.requests.on_change_answered(msg, matched))
            }
            Message::StaleTerm => Next::Stay,
        }
    }

    /// Whoever is not the leader of the sender's term refuses, if it can know that it never was.
    fn on_forward(&mut self, from: NodeId, msg: Forward) -> Next {
        match &mut self.role {
            Role::Leader(leader) => leader.on_forward(&mut self.core, from, msg),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                // One that voted for itself may have led this term and appended a copy of these commands.
                if self.core.vote() != Some(self.core.id()) {
                    let outcome = Forwarded::Refused;
                    let answer = ForwardResponse {
                        session: msg.session,
                        seq: msg.seq,
                        outcome,
                    };
                    self.core.send(from, Message::ForwardResponse(answer));
                }
            }
        }
        Next::Stay
    }

    fn on_forward_response(&mut self, msg: ForwardResponse) -> Next {
        let matched = self.core.matched_index();
        self.core
            .requests
            .on_forwarded(msg.session, msg.seq, msg.outcome, matched);
        Next::Stay
    }

    /// Acts as a follower of `from`, which leads this term (paper §5.2: a candidate gives up).
    fn as_follower(&mut self, from: NodeId, act: impl FnOnce(&mut Follower, &mut Core) -> Next) -> Next {
        match &mut self.role {
            Role::Leader(_) => {
                self.core.event(Event::SecondLeader {
                    term: self.core.term(),
                    other: from,
                });
                return Next::Stay;
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.turn(Next::Follow(Some(from))),
            Role::Follower(_) => {}
        }
        match &mut self.role {
            Role::Follower(follower) => act(follower, &mut self.core),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => Next::Stay,
        }
    }

    fn as_leader(&mut self, act: impl FnOnce(&mut Leader, &mut Core) -> Next) -> Next {
        match &mut self.role {
            Role::Leader(leader) => act(leader, &mut self.core),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => Next::Stay,
        }
    }

    fn propose(&mut self, proposals: Vec<Proposal>) -> Next {
        if let Some(refusal) = self.refusal() {
            let tickets = proposals.into_iter().map(|proposal| proposal.ticket);
            self.core.requests.reject_all(tickets, refusal);
            return Next::Stay;
        }
        match &mut self.role {
            Role::Leader(leader) => leader.propose(&mut self.core, proposals),
            Role::Follower(follower) => follower.propose(&mut self.core, proposals),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                let tickets = proposals.into_iter().map(|proposal| proposal.ticket);
                self.core.requests.reject_all(tickets, Rejection::NoLeader);
            }
        }
        Next::Stay
    }

    /// Why this node, as things are, can do nothing for anybody.
    pub(crate) fn refusal(&self) -> Option<Rejection> {
        if self.core.config.kind == MemberKind::Witness {
            Some(Rejection::Witness)
        } else if self.is_out() {
            Some(Rejection::Removed)
        } else {
            None
        }
    }

    /// Whether this node was removed and is told nothing any more: what it asked for would have no end.
    fn is_out(&self) -> bool {
        self.core.is_removed() && self.role_kind() != RoleKind::Leader
    }

    fn transfer(&mut self, ticket: Ticket, to: Transferee) -> Next {
        let leader = self.leader();
        match &mut self.role {
            Role::Leader(role) => role.transfer(&mut self.core, ticket, to),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.core.requests.reject(ticket, Rejection::NotLeader { leader });
            }
        }
        Next::Stay
    }

    fn reconfigure(&mut self, ticket: Ticket, target: Target, when: Precondition) -> Next {
        let most = self.core.config.limits.max_change_bytes();
        let refusal = if self.is_out() {
            Some(Rejection::Removed)
        } else if target.weight() > most || when.weight() > most {
            Some(Rejection::TooLarge)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.core.requests.reject(ticket, refusal);
            return Next::Stay;
        }
        match &mut self.role {
            Role::Leader(leader) => {
                leader.reconfigure(&mut self.core, ticket, target, &when);
                return leader.go_on_with_change(&mut self.core);
            }
            Role::Follower(follower) => follower.reconfigure(&mut self.core, ticket, target, when),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.core.requests.reject(ticket, Rejection::NoLeader);
            }
        }
        Next::Stay
    }

    /// Whoever is not the leader says so, if it can know that it never began the change.
    fn on_reconfigure(&mut self, from: NodeId, msg: Reconfigure) -> Next {
        if let Role::Leader(leader) = &mut self.role {
            leader.on_reconfigure(&mut self.core, from, msg);
        } else if self.core.vote() != Some(self.core.id()) {
            let answer = ReconfigureResponse {
                session: msg.session,
                seq: msg.seq,
                outcome: Err(Rejection::NotLeader { leader: None }),
            };
            self.core.send(from, Message::ReconfigureResponse(answer));
        }
        Next::Stay
    }

    fn on_persisted(&mut self) -> Next {
        match &mut self.role {
            Role::Candidate(candidate) => candidate.on_persisted(&self.core),
            Role::Leader(leader) => leader.on_persisted(&mut self.core),
            Role::Follower(_) | Role::PreCandidate(_) => Next::Stay,
        }
    }

    fn on_log_read(&mut self, request: ReadLog, entries: Result<Vec<Entry>, LogReadError>) -> Next {
        match request.purpose {
            Purpose::Apply => self.core.on_apply_read(entries.ok()),
            Purpose::Supply(to) => self.on_supply_read(to, request, entries),
            Purpose::Replicate(to) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.on_log_read(&mut self.core, to, request, entries);
                }
            }
        }
        Next::Stay
    }

    fn on_snapshot_saved(&mut self, meta: SnapshotMeta) -> Next {
        assert!(
            !meta.configuration.is_unknown(),
            "{} saved a snapshot as of {} that names no members: nobody could take it. The caller must not save one \
             before it is told who the members are",
            self.core.id(),
            meta.id
        );
        let keep_after = match &self.role {
            Role::Leader(leader) => leader.keep_after(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        self.core.on_snapshot_saved(meta, keep_after);
        Next::Stay
    }

    fn on_restored(&mut self, id: EntryId) -> Next {
        if let Some(leader) = self.core.on_restored(id)
            && let Role::Follower(follower) = &mut self.role
        {
            follower.on_restored(&mut self.core, leader, id);
        }
        Next::Stay
    }
}

impl Role {
    fn follow(&self, core: &mut Core, leader: Option<NodeId>) -> Self {
        Self::Follower(match (self, leader) {
            (Self::Follower(follower), None) => follower.in_newer_term(core),
            _ => Follower::new(core, leader),
        })
    }
}
