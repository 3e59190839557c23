//! A leader: appends, replicates, commits, confirms reads, hands over.
//!
//! - It only appends to its log (paper, figure 3).
//! - It commits by counting only entries of its own term; what is before them goes along (§5.4.2).
//! - Handlers note what changed; [`Leader::replicate`] sends, once per `Ready`, whatever each
//!   follower is due. So proposals that come together leave together.

use std::collections::BTreeMap;

use crate::core::Core;
use crate::entry::{Entry, LogSlice, Payload, weight_of};
use crate::event::{Event, StepDown};
use crate::intake::{ForwardsIn, Uncommitted};
use crate::io::{Delivery, LogReadError, Outcome, Proposal, Purpose, ReadLog, Rejection};
use crate::message::{
    AppendEntries, AppendEntriesResponse, Forward, ForwardResponse, Forwarded, Heartbeat, HeartbeatResponse,
    Message, ReadId, ReadIndexResponse, ReadOutcome,
};
use crate::node::Next;
use crate::progress::Progress;
use crate::reads::{ReadQueue, Reader};
use crate::status::PeerStatus;
use crate::types::{EntryId, Index, NodeId, Round, Term, Ticket};

/// A leader of the node's term.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    /// The term it was elected for; the node's own may be higher by the time it resigns.
    term: Term,
    progress: BTreeMap<NodeId, Progress>,
    heartbeat_elapsed: u32,
    round: Round,
    reads: ReadQueue,
    uncommitted: Uncommitted,
    forwards: BTreeMap<NodeId, ForwardsIn>,
    transfer: Option<Transfer>,
}

#[derive(Clone, Debug)]
struct Transfer {
    to: NodeId,
    elapsed: u32,
    asked: bool,
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
        core.append(Payload::Noop);
        let mut leader = Self {
            term: core.term(),
            progress,
            heartbeat_elapsed: 0,
            round: Round(0),
            reads: ReadQueue::default(),
            uncommitted: Uncommitted::default(),
            forwards: BTreeMap::new(),
            transfer: None,
        };
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
        self.tick_transfer(core);
        self.heartbeat_elapsed += 1;
        if self.heartbeat_elapsed >= core.config.heartbeat_ticks {
            // Heartbeats of reads do not count: under steady reads these would never be due.
            self.heartbeat_elapsed = 0;
            self.progress.values_mut().for_each(Progress::expect_answer);
            self.send_heartbeats(core);
        }
        Next::Stay
    }

    /// Whatever a follower says shows that it is there (raft-scenarios V8).
    pub(crate) fn on_heard(&mut self, from: NodeId) {
        if let Some(progress) = self.progress.get_mut(&from) {
            progress.on_heard();
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
        if !self.take_forward(from, &msg) {
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

    pub(crate) fn read(&mut self, core: &mut Core, tickets: Vec<Ticket>) {
        for ticket in tickets {
            if self.reads.len() >= core.config.limits.max_pending_reads {
                core.requests.reject(ticket, Rejection::Overloaded);
            } else {
                self.reads.push(Reader::Client(ticket));
            }
        }
    }

    pub(crate) fn on_read_index(&mut self, core: &mut Core, from: NodeId, id: ReadId) {
        if self.reads.len() >= core.config.limits.max_pending_reads {
            refuse_read(core, from, id);
        } else {
            self.reads.push(Reader::Peer(from, id));
        }
    }

    pub(crate) fn transfer(&mut self, core: &mut Core, ticket: Ticket, to: NodeId) {
        if to == core.id() {
            core.requests.resolve(ticket, Outcome::Transferred);
        } else if self.transfer.is_some() {
            core.requests.reject(ticket, Rejection::Transferring);
        } else if !core.configuration().is_voter(to) {
            core.requests.reject(ticket, Rejection::BadTransferee);
        } else {
            core.event(Event::TransferStarted { to });
            core.requests.transfer(ticket, to);
            self.transfer = Some(Transfer {
                to,
                elapsed: 0,
                asked: false,
            });
            self.go_on_with_transfer(core);
        }
    }

    pub(crate) fn on_append_response(&mut self, core: &mut Core, from: NodeId, msg: AppendEntriesResponse) {
        match msg {
            AppendEntriesResponse::Accepted { match_index } => self.on_accepted(core, from, match_index),
            AppendEntriesResponse::Rejected { prev, hint } => self.on_rejected(core, from, prev, hint),
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
        self.confirm_reads(core);
    }

    /// This leader's own disk, or anything else that counts for a commit, has moved.
    pub(crate) fn on_persisted(&mut self, core: &mut Core) {
        self.advance_commit(core);
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
                    send_entries(core, to, progress, entries);
                }
            }
        }
    }

    pub(crate) fn on_snapshot_sent(&mut self, to: NodeId, outcome: Delivery) {
        let Some(progress) = self
            .progress
            .get_mut(&to)
            .filter(|progress| progress.snapshot_index().is_some())
        else {
            return;
        };
        match outcome {
            Delivery::Delivered => progress.on_snapshot_delivered(),
            Delivery::Failed => progress.pause_probe(),
        }
    }

    /// Entries after this index must stay: a snapshot up to here is on its way (raft-scenarios V22).
    pub(crate) fn keep_after(&self) -> Option<Index> {
        self.progress.values().filter_map(Progress::snapshot_index).min()
    }

    /// Sends every follower what it is due.
    pub(crate) fn replicate(&mut self, core: &mut Core) {
        self.begin_read_round(core);
        let last = core.log.last().index;
        let max_inflight = core.config.limits.max_inflight_bytes;
        for (peer, progress) in &mut self.progress {
            while progress.wants_append(last, max_inflight) && send_append(core, *peer, progress) {}
            tell_commit(core, *peer, progress);
        }
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

    pub(crate) fn check(&self, core: &Core) {
        for progress in self.progress.values() {
            progress.check(core.log.last().index);
        }
        self.uncommitted.check();
    }

    fn on_accepted(&mut self, core: &mut Core, from: NodeId, match_index: Index) {
        let Some(progress) = self.progress.get_mut(&from) else {
            return;
        };
        if match_index > core.log.last().index {
            core.event(Event::Ignored {
                from,
                what: "it acknowledges entries that were never sent",
            });
            return;
        }
        if progress.on_accepted(match_index, core.log.base().index) {
            self.advance_commit(core);
            self.go_on_with_transfer(core);
        }
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
        let (me, own) = (core.id(), core.log.durable_index());
        let reached = |node| {
            if node == me {
                own
            } else {
                self.progress
                    .get(&node)
                    .map_or(Index::ZERO, Progress::match_index)
            }
        };
        let index = core.configuration().committed_index(reached);
        if index > core.log.commit_index() && core.log.term_at(index) == Some(core.term()) {
            core.commit_to(index);
            self.uncommitted.free_to(index);
        }
    }

    fn append(&mut self, core: &mut Core, payload: Payload) -> EntryId {
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
        if self.transfer.is_some() {
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

    fn take_forward(&mut self, from: NodeId, msg: &Forward) -> bool {
        let known = self
            .forwards
            .entry(from)
            .or_insert_with(|| ForwardsIn::new(msg.session));
        known.take(msg.session, msg.seq)
    }

    fn begin_read_round(&mut self, core: &mut Core) {
        // Before an own entry is committed, entries that earlier leaders acknowledged may not be.
        let own_term_committed = core.log.term_at(core.log.commit_index()) == Some(core.term());
        if !self.reads.wants_round() || !own_term_committed {
            return;
        }
        self.round = self.round.next();
        self.reads.begin(self.round, core.log.commit_index());
        self.send_heartbeats(core);
        self.confirm_reads(core);
    }

    fn confirm_reads(&mut self, core: &mut Core) {
        let (me, own) = (core.id(), self.round);
        let acked = |node| {
            let round = if node == me {
                Some(own)
            } else {
                self.progress.get(&node).map(Progress::acked_round)
            };
            round.map_or(0, |round| round.0)
        };
        let acked = Round(core.configuration().quorum_value(acked).unwrap_or(0));
        let Some((index, readers)) = self.reads.confirm(acked) else {
            return;
        };
        for reader in readers {
            match reader {
                Reader::Client(ticket) => core.requests.read_ready(ticket, index),
                Reader::Peer(peer, id) => {
                    let answer = ReadIndexResponse {
                        id,
                        outcome: ReadOutcome::Ready(index),
                    };
                    core.send(peer, Message::ReadIndexResponse(answer));
                }
            }
        }
    }

    fn send_heartbeats(&mut self, core: &mut Core) {
        for (peer, progress) in &mut self.progress {
            // A follower may hold other entries beyond what it is known to match (raft-scenarios S19c).
            let commit = core.log.commit_index().min(progress.match_index());
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

    fn tick_transfer(&mut self, core: &mut Core) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        transfer.elapsed += 1;
        if transfer.elapsed < core.config.election_ticks {
            return;
        }
        core.event(Event::TransferAborted { to: transfer.to });
        core.requests.end_transfer(if transfer.asked {
            // It may have been told and be slow: nothing takes that back.
            Outcome::Unknown
        } else {
            Outcome::Rejected(Rejection::BadTransferee)
        });
        self.transfer = None;
    }

    /// Thesis §3.10: once the target has everything, it is told to campaign.
    fn go_on_with_transfer(&mut self, core: &mut Core) {
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        let caught_up = self
            .progress
            .get(&transfer.to)
            .is_some_and(|progress| progress.match_index() == core.log.last().index);
        if caught_up && !transfer.asked {
            transfer.asked = true;
            core.send(transfer.to, Message::TimeoutNow);
        }
    }
}

/// Sends the next entries, or sees to it that they can be sent. Says whether more may follow.
fn send_append(core: &mut Core, peer: NodeId, progress: &mut Progress) -> bool {
    let (from, last) = (progress.next_index(), core.log.last().index);
    if core.log.term_at(from.prev()).is_none() {
        progress.snapshot(core.log.snapshot().id);
        core.send_snapshot(peer);
        return false;
    }
    let max_bytes = core.config.limits.max_message_bytes;
    if from > last {
        send_entries(core, peer, progress, Vec::new());
        return false;
    }
    match core.log.window_entries(from, last, max_bytes) {
        Some(entries) => {
            send_entries(core, peer, progress, entries);
            true
        }
        None => {
            progress.set_reading(true);
            core.read_log(ReadLog {
                purpose: Purpose::Replicate(peer),
                from,
                to: last,
                max_bytes,
            });
            false
        }
    }
}

fn send_entries(core: &mut Core, peer: NodeId, progress: &mut Progress, entries: Vec<Entry>) {
    let prev_index = progress.next_index().prev();
    let Some(prev_term) = core.log.term_at(prev_index) else {
        return;
    };
    let bytes = weight_of(&entries);
    let slice = LogSlice::new(EntryId::new(prev_index, prev_term), entries)
        .expect("entries that the log contains follow each other");
    let commit = core.log.commit_index();
    progress.on_sent(slice.last().index, bytes);
    progress.tell_commit(commit.min(slice.last().index));
    core.send(peer, Message::AppendEntries(AppendEntries { slice, commit }));
}

/// Asks a follower to compare its log with ours up to `index`. Says whether the log still knows that entry.
fn compare(core: &mut Core, peer: NodeId, index: Index) -> bool {
    let Some(term) = core.log.term_at(index) else {
        return false;
    };
    let slice = LogSlice::new(EntryId::new(index, term), Vec::new()).expect("nothing follows anything");
    let commit = core.log.commit_index();
    core.send(peer, Message::AppendEntries(AppendEntries { slice, commit }));
    true
}

fn tell_commit(core: &mut Core, peer: NodeId, progress: &mut Progress) {
    let commit = core.log.commit_index().min(progress.match_index());
    if progress.is_replicating() && commit > progress.told_commit() {
        progress.tell_commit(commit);
        core.send(peer, Message::Commit(commit));
    }
}

pub(crate) fn refuse_read(core: &mut Core, peer: NodeId, id: ReadId) {
    let answer = ReadIndexResponse {
        id,
        outcome: ReadOutcome::Refused,
    };
    core.send(peer, Message::ReadIndexResponse(answer));
}

/// Election timeouts that a follower may take to install a snapshot that it has.
const SNAPSHOT_PATIENCE: u32 = 30;
