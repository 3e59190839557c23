//! A leader: appends, commits, confirms reads. How it hands over is in `handover`, how it changes the
//! members in `change`, how it brings its log to followers in `replicate`, how it serves reads in `reads`.
//!
//! - It only appends to its log (paper, figure 3).
//! - It commits by counting only entries of its own term; what is before them goes along (§5.4.2).
//! - Handlers note what changed; [`Leader::replicate`] sends, once per `Ready`, whatever each
//!   follower is due. So proposals that come together leave together.

use std::collections::BTreeMap;

use crate::change::{Departing, with_itself};
use crate::core::Core;
use crate::entry::{Entry, Payload};
use crate::event::{Event, StepDown};
use crate::handover::Handover;
use crate::intake::{ForwardsIn, Uncommitted};
use crate::io::{Delivery, LogReadError, Proposal, ReadLog, Rejection, SnapshotSent};
use crate::lease::Lease;
use crate::membership::MemberKind;
use crate::message::{
    AppendEntriesResponse, Forward, ForwardResponse, Forwarded, Heartbeat, HeartbeatResponse, Message,
};
use crate::mutant::mutant;
use crate::node::Next;
use crate::progress::Progress;
use crate::reads::{ReadQueue, Reader, refuse_read};
use crate::replicate::{Replica, compare, send_append, send_entries, tell_commit};
use crate::status::{Load, PeerStatus};
use crate::types::{EntryId, Index, NodeId, Round, Session, Term};

/// A leader of the node's term.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// The term it was elected for; the node's own may be higher by the time it resigns.
    term: Term,
    /// What it knows of every other member, and of those it still tells that they are none.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    pub(crate) departing: Departing,
    heartbeat_elapsed: u32,
    pub(crate) round: Round,
    pub(crate) reads: ReadQueue,
    pub(crate) lease: Lease,
    uncommitted: Uncommitted,
    /// Of those who are or were members while it leads: one that comes back must not be believed twice.
    forwards: BTreeMap<NodeId, ForwardsIn>,
    pub(crate) handover: Option<Handover>,
}

impl Leader {
    pub(crate) fn new(core: &mut Core) -> Self {
        core.event(Event::BecameLeader { term: core.term() });
        core.requests.on_leader(core.id());
        let last = core.log.last().index;
        let progress = core
            .peers()
            .into_iter()
            .map(|peer| (peer, Progress::new(last)))
            .collect();
        // Thesis §3.6.2 and §6.4: what came before is committed, and reads are served, through this entry.
        if !mutant!(M27) {
            core.append(Payload::Noop);
        }
        core.deference.on_elected();
        let mut leader = Self {
            term: core.term(),
            progress,
            heartbeat_elapsed: 0,
            round: Round(0),
            reads: ReadQueue::default(),
            lease: Lease::default(),
            uncommitted: Uncommitted::default(),
            forwards: BTreeMap::new(),
            departing: Departing::new(),
            handover: None,
        };
        // What is committed is in this log, though after a restart nobody may know yet that it is.
        leader.watch_newcomers(core, core.log.last().index);
        leader.begin_lease_round(core);
        leader.send_heartbeats(core);
        leader
    }

    pub(crate) fn on_tick(&mut self, core: &mut Core) -> Next {
        let election_ticks = core.config.election_ticks;
        for progress in self.progress.values_mut() {
            progress.on_tick(SNAPSHOT_PATIENCE * election_ticks);
        }
        if !self.has_active_quorum(core) {
            return Next::StepDown(StepDown::LostQuorum);
        }
        self.tick_departing(core);
        self.heartbeat_elapsed += 1;
        if self.heartbeat_elapsed >= core.config.heartbeat_ticks {
            // Heartbeats of reads do not count: under steady reads these would never be due.
            self.heartbeat_elapsed = 0;
            self.progress.values_mut().for_each(Progress::expect_answer);
            self.begin_lease_round(core);
            self.send_heartbeats(core);
        }
        self.tick_handover(core)
            .or_else(|| self.tick_yielding(core))
            .or_else(|| self.go_on_with_change(core))
    }

    /// Whatever a follower says shows that it is there (docs/scenarios.md V8).
    pub(crate) fn on_heard(&mut self, from: NodeId) {
        if let Some(progress) = self.progress.get_mut(&from) {
            progress.on_heard();
        }
    }

    pub(crate) fn on_peer_gone(&mut self, peer: NodeId) {
        if let Some(progress) = self.progress.get_mut(&peer) {
            progress.on_gone();
        }
    }

    pub(crate) fn propose(&mut self, core: &mut Core, proposals: Vec<Proposal>) {
        for proposal in proposals {
            let bytes = proposal.command.len() as u64;
            let too_large = bytes > core.config.limits.max_command_bytes;
            let refusal = too_large.then_some(Rejection::TooLarge);
            match refusal.or_else(|| self.refusal(core, bytes)) {
                Some(rejection) => core.requests.reject(proposal.ticket, rejection),
                None => {
                    let id = self.append(core, Payload::Command(proposal.command));
                    core.requests.appended(proposal.ticket, id);
                }
            }
        }
    }

    /// Takes commands that a follower was given; at most once each.
    pub(crate) fn on_forward(&mut self, core: &mut Core, from: NodeId, msg: Forward) {
        if !self.take_forward(core, from, msg.session, msg.seq) {
            return;
        }
        let bytes = msg.commands.iter().map(|command| command.len() as u64).sum();
        let outcome = match self.refusal(core, bytes) {
            Some(Rejection::Overloaded | Rejection::TooLarge) => Forwarded::Overloaded,
            Some(_) => Forwarded::Refused,
            None => {
                let first = core.log.last().index.next();
                for command in msg.commands {
                    self.append(core, Payload::Command(command));
                }
                Forwarded::Appended { first }
            }
        };
        let answer = ForwardResponse {
            session: msg.session,
            seq: msg.seq,
            outcome,
        };
        core.send(from, Message::ForwardResponse(answer));
    }

    pub(crate) fn on_append_response(
        &mut self,
        core: &mut Core,
        from: NodeId,
        msg: AppendEntriesResponse,
    ) -> Next {
        match msg {
            AppendEntriesResponse::Accepted { match_index } => self.on_accepted(core, from, match_index),
            AppendEntriesResponse::Rejected { prev, hint } => {
                self.on_rejected(core, from, prev, hint);
                Next::Stay
            }
        }
    }

    pub(crate) fn on_heartbeat_response(&mut self, core: &mut Core, from: NodeId, msg: HeartbeatResponse) {
        let Some(progress) = self.progress.get_mut(&from) else {
            return;
        };
        if msg.round > self.round {
            core.event(Event::Ignored {
                from,
                what: "it answers a round that did not begin",
            });
            return;
        }
        let seems_lost = progress.on_heartbeat_response(msg.round);
        if progress.is_replicating() {
            // Either an append was lost, or it was restarted: it does not know how far its log was
            // compared with ours.
            let match_index = progress.match_index();
            let doubtful = match seems_lost {
                true => Some(progress.next_index().prev()),
                false => Some(match_index).filter(|index| msg.verified < *index),
            };
            if let Some(index) = doubtful
                && !compare(core, from, index)
            {
                // What it lacks was compacted: probing finds that it needs a snapshot.
                progress.probe(match_index.next());
            }
        }
        self.on_rounds_answered(core);
    }

    /// This leader's own disk, or anything else that counts for a commit, has moved.
    pub(crate) fn on_persisted(&mut self, core: &mut Core) -> Next {
        self.free_uncommitted(core);
        self.advance_commit(core);
        self.go_on_with_change(core)
    }

    pub(crate) fn on_log_read(
        &mut self,
        core: &mut Core,
        to: NodeId,
        request: ReadLog,
        entries: Result<Vec<Entry>, LogReadError>,
    ) {
        let Some(progress) = self
            .progress
            .get_mut(&to)
            .filter(|progress| progress.is_reading())
        else {
            return;
        };
        progress.set_reading(false);
        if request.from != progress.next_index() {
            return;
        }
        match entries {
            Err(LogReadError::Gone) => progress.pause_probe(),
            Ok(entries) => {
                let ours = entries.iter().all(|entry| core.log.contains(entry.id));
                if ours && progress.wants_append(core.log.last().index, core.config.limits.max_inflight_bytes)
                {
                    let kind = kind_of(core, &self.departing, to);
                    let last = core.log.last().index;
                    send_entries(core, Replica { peer: to, kind, last }, progress, entries);
                }
            }
        }
    }

    /// A transfer of this leadership has ended; that of another snapshot, or of an earlier term, says nothing.
    pub(crate) fn on_snapshot_sent(&mut self, sent: SnapshotSent) {
        let Some(progress) = self
            .progress
            .get_mut(&sent.to)
            .filter(|progress| progress.snapshot_id() == Some(sent.id) && sent.term == self.term)
        else {
            return;
        };
        match sent.outcome {
            Delivery::Delivered => progress.on_snapshot_delivered(),
            Delivery::Failed => progress.pause_probe(),
        }
    }

    /// Entries after this index must stay: a snapshot up to here is on its way (docs/scenarios.md V22).
    pub(crate) fn keep_after(&self) -> Option<Index> {
        self.progress
            .values()
            .filter_map(|progress| progress.snapshot_id().map(|id| id.index))
            .min()
    }

    /// Sends every follower what it is due.
    pub(crate) fn replicate(&mut self, core: &mut Core) {
        self.begin_read_round(core);
        let last = core.log.last().index;
        let witness_last = self.witness_limit(core).unwrap_or(last);
        let max_inflight = core.config.limits.max_inflight_bytes;
        for (peer, progress) in &mut self.progress {
            let (kind, last) = match kind_of(core, &self.departing, *peer) {
                MemberKind::Full => (MemberKind::Full, last),
                MemberKind::Witness => (MemberKind::Witness, witness_last),
            };
            let replica = Replica {
                peer: *peer,
                kind,
                last,
            };
            while progress.wants_append(last, max_inflight) && send_append(core, replica, progress) {}
            tell_commit(core, *peer, progress);
        }
    }

    /// How far witnesses are sent entries; none if there are no witnesses.
    ///
    /// An entry that only this leader and witnesses have is committed, and gone for good with this
    /// leader's disk; and nobody else could lead. So witnesses wait for those voters that keep up. If
    /// none does, they wait for one full voter's disk, which may be the own one: an entry that a
    /// crash takes from all who have its command must not be in the log of a witness, or that
    /// witness would deny its vote to all of them for ever.
    fn witness_limit(&self, core: &Core) -> Option<Index> {
        let patience = core.config.election_ticks;
        let configuration = core.configuration();
        if configuration.described().is_empty() && self.departing.is_empty() {
            return None;
        }
        let full_voter = |node| configuration.is_voter(node) && configuration.kind(node) == MemberKind::Full;
        let voters = || self.progress.iter().filter(|(node, _)| full_voter(**node));
        let keeping_up = voters()
            .filter(|(_, progress)| progress.keeps_up(patience))
            .map(|(_, progress)| progress.match_index());
        let own = full_voter(core.id()).then(|| core.log.durable_index());
        let on_a_disk = voters()
            .map(|(_, progress)| progress.match_index())
            .chain(own)
            .max();
        keeping_up.min().or(on_a_disk).or(Some(Index::ZERO))
    }

    /// Ends this leadership: nobody who waits on it is forgotten.
    pub(crate) fn resign(&mut self, core: &mut Core, reason: StepDown) {
        core.event(Event::SteppedDown {
            term: self.term,
            reason,
        });
        for reader in self.reads.drain() {
            match reader {
                Reader::Client(ticket) => core
                    .requests
                    .reject(ticket, Rejection::NotLeader { leader: None }),
                Reader::Peer(peer, id) => refuse_read(core, peer, id),
            }
        }
    }

    pub(crate) fn progress(&self, election_ticks: u32) -> BTreeMap<NodeId, PeerStatus> {
        self.progress
            .iter()
            .map(|(peer, progress)| (*peer, progress.status(election_ticks)))
            .collect()
    }

    /// What the node holds in memory while it leads.
    pub(crate) fn load(&self, core: &Core) -> Load {
        let inflight = self.progress.values().map(Progress::inflight_bytes);
        Load {
            uncommitted_bytes: self.uncommitted.bytes(),
            inflight_bytes: inflight.max().unwrap_or(0),
            pending_reads: self.reads.len(),
            ..core.load()
        }
    }

    pub(crate) fn check(&self, core: &Core) {
        for progress in self.progress.values() {
            progress.check(core.log.last().index);
        }
        self.uncommitted.check();
    }

    fn on_accepted(&mut self, core: &mut Core, from: NodeId, match_index: Index) -> Next {
        let Some(progress) = self.progress.get_mut(&from) else {
            return Next::Stay;
        };
        if match_index > core.log.last().index {
            core.event(Event::Ignored {
                from,
                what: "it acknowledges entries that were never sent",
            });
            return Next::Stay;
        }
        let match_index = mutant!(M21, progress.next_index().prev(), match_index);
        if !progress.on_accepted(match_index, core.log.base().index) {
            return Next::Stay;
        }
        self.advance_commit(core);
        self.note_catching_up(core, from);
        self.go_on_with_handover(core)
            .or_else(|| self.go_on_with_change(core))
    }

    fn on_rejected(&mut self, core: &mut Core, from: NodeId, prev: EntryId, hint: EntryId) {
        let Some(progress) = self.progress.get_mut(&from) else {
            return;
        };
        if prev.index <= progress.match_index() {
            // A late answer, or a follower whose disk forgot what it acknowledged: nothing to go back for.
            core.event(Event::Ignored {
                from,
                what: "it rejects entries that it acknowledged",
            });
            return;
        }
        let agree = core.log.last_id_not_after(hint).index;
        progress.on_rejected(prev.index, agree);
    }

    /// Paper §5.3 and §5.4.2: commits what a quorum has, through an entry of this term.
    fn advance_commit(&mut self, core: &mut Core) {
        let own = mutant!(M16, core.log.last().index, core.log.durable_index());
        let me = core.id();
        let reached = |node| {
            if node == me {
                own
            } else {
                self.progress
                    .get(&node)
                    .map_or(Index::ZERO, Progress::match_index)
            }
        };
        // Thesis §4.2.2: a leader that is left out manages a cluster in which it does not count.
        let index = mutant!(
            M41,
            with_itself(core).committed_index(reached),
            core.configuration().committed_index(reached)
        );
        let own_term = core.log.term_at(index) == Some(core.term()) || mutant!(M17);
        if index > core.log.commit_index() && own_term {
            core.commit_to(index);
            self.free_uncommitted(core);
        }
    }

    /// What is committed and on this leader's own disk need not stay in memory.
    fn free_uncommitted(&mut self, core: &Core) {
        self.uncommitted.free_to(core.log.appliable_index());
    }

    pub(crate) fn append(&mut self, core: &mut Core, payload: Payload) -> EntryId {
        let entry = Entry {
            id: EntryId::ZERO,
            payload,
        };
        let weight = entry.weight();
        let id = core.append(entry.payload);
        self.uncommitted.push(id.index, weight);
        id
    }

    /// Why commands of `bytes` in all cannot be taken.
    fn refusal(&self, core: &Core, bytes: u64) -> Option<Rejection> {
        let limits = &core.config.limits;
        if self.handover.is_some() {
            Some(Rejection::Transferring)
        } else if bytes > limits.max_command_bytes.max(limits.max_message_bytes) {
            Some(Rejection::TooLarge)
        } else if self.uncommitted.bytes() > 0
            && self.uncommitted.bytes() + bytes > limits.max_uncommitted_bytes
        {
            Some(Rejection::Overloaded)
        } else {
            None
        }
    }

    /// Whether a forward is a member's and new. A stranger gets no answer: an earlier copy, of when it was a
    /// member, may have been taken.
    pub(crate) fn take_forward(&mut self, core: &mut Core, from: NodeId, session: Session, seq: u64) -> bool {
        if !self.progress.contains_key(&from) {
            let what = "it is no member and forwards a request";
            core.event(Event::Ignored { from, what });
            return false;
        }
        let known = self
            .forwards
            .entry(from)
            .or_insert_with(|| ForwardsIn::new(session));
        known.take(session, seq)
    }

    pub(crate) fn send_heartbeats(&mut self, core: &mut Core) {
        for (peer, progress) in &mut self.progress {
            // A follower may hold other entries beyond what it is known to match (docs/scenarios.md S19c).
            let known = mutant!(M26, core.log.last().index, progress.match_index());
            let commit = core.log.commit_index().min(known);
            progress.tell_commit(commit);
            core.send(
                *peer,
                Message::Heartbeat(Heartbeat {
                    commit,
                    round: self.round,
                }),
            );
        }
    }

    fn has_active_quorum(&self, core: &Core) -> bool {
        let (me, election_ticks) = (core.id(), core.config.election_ticks);
        core.configuration().has_quorum(|node| {
            node == me
                || self
                    .progress
                    .get(&node)
                    .is_some_and(|progress| progress.is_active(election_ticks))
        })
    }
}

/// What `peer` keeps, who is a member or is told that it is none any more.
fn kind_of(core: &Core, departing: &Departing, peer: NodeId) -> MemberKind {
    let departure = departing.get(&peer);
    departure.map_or_else(|| core.configuration().kind(peer), |departure| departure.kind)
}

/// Election timeouts that a follower may take to install a snapshot that it has.
const SNAPSHOT_PATIENCE: u32 = 30;
