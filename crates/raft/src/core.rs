//! What a node has in every role: its term and vote, its log, and what it wants done.
//!
//! - Term, vote and entries go to the disk in one ordered stream of writes.
//! - A message that promises something waits here until the write that keeps the promise is durable.
//! - Only [`Core::adopt_term`] and [`Core::vote_for`] change the term and the vote.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::configuration::Configuration;
use crate::entry::{Entry, Payload};
use crate::event::Event;
use crate::io::{Config, ConfigError, HardState, Purpose, ReadLog, Ready, SendSnapshot, Stored, Write};
use crate::lease::{EarlierLife, Promise};
use crate::log::{Log, measure};
use crate::membership::MemberKind;
use crate::message::{Envelope, Message};
use crate::mutant::mutant;
use crate::node::Next;
use crate::requests::Requests;
use crate::rng::Rng;
use crate::snapshot::SnapshotMeta;
use crate::status::Load;
use crate::types::{EntryId, Index, NodeId, Term, WriteSeq};
use crate::yielding::Deference;

/// What a node has in every role.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) requests: Requests,
    rng: Rng,
    hard_state: HardState,
    writes: Writes,
    apply: ApplyQueue,
    restoring: Option<Restoring>,
    /// How far this node may have told a leader of its term that their logs agree. An earlier life may have
    /// told of all that the disk holds.
    told: Index,
    /// Whether entries are being read for a pre-candidate that lacks them: one at a time is served so.
    pub(crate) supplying: bool,
    /// Whether committed members that this node knows of included it.
    was_member: bool,
    /// The members that the caller was told of last.
    announced: Option<Arc<Configuration>>,
    /// What the clock shows, and what this node owes a leader by it.
    pub(crate) promise: Promise,
    /// When this node, if it leads, may hand over to a more wanted voter.
    pub(crate) deference: Deference,
    out: Ready,
}

/// The stream of writes, and the messages that wait for it.
#[derive(Clone, Debug, Default)]
struct Writes {
    last: WriteSeq,
    persisted: WriteSeq,
    /// The last write with a term and vote, and whether a newer pair waits to be written.
    hard_state: WriteSeq,
    hard_state_dirty: bool,
    /// Ticks without an answer from the disk, while one is due.
    silent_ticks: u32,
    held: VecDeque<(WriteSeq, Envelope)>,
    held_for_term: VecDeque<(WriteSeq, Envelope)>,
}

/// What was handed out to be applied and has not been reported.
#[derive(Clone, Debug, Default)]
struct ApplyQueue {
    batches: VecDeque<(Index, u64)>,
    bytes: u64,
    reading: bool,
}

#[derive(Clone, Debug)]
struct Restoring {
    id: EntryId,
    leader: NodeId,
}

impl Core {
    pub(crate) fn new(config: Config, stored: Stored) -> Result<Self, ConfigError> {
        check(&config)?;
        let earlier = match stored.hard_state.term {
            Term::ZERO => EarlierLife::None,
            _ => EarlierLife::Possible,
        };
        Ok(Self {
            requests: Requests::new(config.session),
            rng: Rng::new(config.seed),
            hard_state: HardState {
                vote: stored.hard_state.vote.filter(|_| !mutant!(M3)),
                ..stored.hard_state
            },
            promise: Promise::new(config.leases, earlier),
            deference: Deference::new(config.election_ticks),
            told: stored.last.index,
            was_member: stored.snapshot.configuration.is_member(config.id),
            log: Log::new(stored)?,
            writes: Writes::default(),
            apply: ApplyQueue::default(),
            restoring: None,
            supplying: false,
            announced: None,
            out: Ready::default(),
            config,
        })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn vote(&self) -> Option<NodeId> {
        self.hard_state.vote
    }

    pub(crate) fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// Whether this node votes by the members in effect.
    pub(crate) fn is_voter(&self) -> bool {
        self.configuration().is_voter(self.id())
    }

    /// A tick passed.
    pub(crate) fn on_tick(&mut self) {
        self.requests.on_tick(self.config.election_ticks);
        self.deference.on_tick();
        let due = self.writes.persisted < self.writes.last;
        self.writes.silent_ticks = if due {
            self.writes.silent_ticks.saturating_add(1)
        } else {
            0
        };
    }

    /// Whether the disk has not answered for an election timeout.
    pub(crate) fn disk_is_stalled(&self) -> bool {
        self.writes.silent_ticks >= self.config.election_ticks
    }

    /// Whether this node may ask to be elected now, and has not promised to wait.
    pub(crate) fn is_free_to_campaign(&self) -> bool {
        self.may_campaign() && !self.promise.forbids(self.id())
    }

    /// Whether this node may campaign: a learner listens, a witness has nothing to lead with, one whose disk
    /// is stalled could not vote for itself, and one that was removed is silent. While its removal is not
    /// committed it may be the only one that has the entry which says so (docs/scenarios.md V17), or the entry
    /// may yet be replaced.
    pub(crate) fn may_campaign(&self) -> bool {
        let me = self.id();
        self.config.kind == MemberKind::Full
            && !self.disk_is_stalled()
            && self
                .log
                .live_configurations()
                .any(|configuration| configuration.is_voter(me))
    }

    /// The other members, in order.
    pub(crate) fn peers(&self) -> Vec<NodeId> {
        let me = self.id();
        self.configuration()
            .members()
            .into_iter()
            .filter(|node| *node != me)
            .collect()
    }

    /// Draws how many ticks to wait for a leader, so that nodes seldom wait equally long (paper §5.2).
    pub(crate) fn draw_election_timeout(&mut self) -> u32 {
        let least = self.config.election_ticks;
        if mutant!(M12) {
            return least;
        }
        self.rng.between(least, least + least / 2)
    }

    /// Draws a number of ticks from `least` to `most`.
    pub(crate) fn draw(&mut self, least: u32, most: u32) -> u32 {
        self.rng.between(least, most)
    }

    /// Draws how many ticks to wait before asking again for pre-votes that were denied.
    pub(crate) fn draw_retry_timeout(&mut self) -> u32 {
        let most = self.config.election_ticks;
        if mutant!(M12) {
            return most;
        }
        self.rng.between(most / 4 + 1, most / 2 + 1)
    }

    /// Paper §5.4.1: whether a log that ends with `last` holds all that may be committed, as far as
    /// this node can tell.
    pub(crate) fn is_up_to_date(&self, last: EntryId) -> bool {
        let own = self.log.last();
        let in_order = mutant!(M5, last.index >= own.index, last >= own);
        in_order || mutant!(M4)
    }

    /// Moves to a higher term. Nobody has this node's vote in it yet (paper, figure 2).
    pub(crate) fn adopt_term(&mut self, term: Term) {
        assert!(
            term > self.term(),
            "{}: term {} cannot become {term}",
            self.id(),
            self.term()
        );
        let vote = self.hard_state.vote.filter(|_| mutant!(M8));
        self.hard_state = HardState { term, vote };
        self.told = Index::ZERO;
        self.writes.hard_state_dirty = true;
        // What waits was promised to a leader or candidate of an earlier term, and a leader of this one
        // may have it replaced by the time the disk is ready.
        self.writes.held.clear();
        self.writes.held_for_term.clear();
    }

    /// Notes that the leader of this term is told how far the logs agree.
    pub(crate) fn tell(&mut self, match_index: Index) {
        self.told = self.told.max(match_index);
    }

    pub(crate) fn told(&self) -> Index {
        self.told
    }

    /// Takes back what waits to be said of this node's log, which has become another.
    pub(crate) fn drop_promises(&mut self) {
        self.writes.held.clear();
    }

    /// Gives this node's only vote of the term.
    pub(crate) fn vote_for(&mut self, node: NodeId) {
        let vote = self.hard_state.vote;
        assert!(
            vote.is_none_or(|other| other == node),
            "{}: a second vote in term {}: {vote:?}, then {node}",
            self.id(),
            self.term()
        );
        if vote.is_none() {
            self.hard_state.vote = Some(node);
            self.writes.hard_state_dirty = true;
        }
    }

    /// Whether the term and the vote are on the disk.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        !self.writes.hard_state_dirty && self.writes.hard_state <= self.writes.persisted
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }

    /// Sends at once: for requests, and for answers that promise nothing.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        self.out.send.push(envelope);
    }

    /// Sends once all that this node has and says at this moment is on its disk.
    pub(crate) fn send_when_durable(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        let unwritten = self.writes.hard_state_dirty || self.log.has_unwritten();
        let needed = if unwritten {
            self.writes.last.next()
        } else {
            self.writes.last
        };
        if needed <= self.writes.persisted || is_hasty(&envelope.message) {
            self.out.send.push(envelope);
        } else {
            hold(&mut self.writes.held, needed, envelope);
        }
    }

    /// Sends once this node's term is on its disk: for answers that promise nothing of the log.
    pub(crate) fn send_when_term_durable(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(to, message);
        let dirty = self.writes.hard_state_dirty;
        let needed = if dirty {
            self.writes.last.next()
        } else {
            self.writes.hard_state
        };
        if needed <= self.writes.persisted {
            self.out.send.push(envelope);
        } else {
            hold(&mut self.writes.held_for_term, needed, envelope);
        }
    }

    pub(crate) fn send_snapshot(&mut self, to: NodeId, kind: MemberKind) {
        let meta = self.log.snapshot().clone();
        let announcement = self.envelope(to, Message::InstallSnapshot(meta.clone()));
        self.event(Event::SnapshotNeeded { by: to });
        self.out.send_snapshots.push(SendSnapshot {
            kind,
            announcement,
            meta,
        });
    }

    pub(crate) fn read_log(&mut self, request: ReadLog) {
        self.out.read_log.push(request);
    }

    pub(crate) fn append(&mut self, payload: Payload) -> EntryId {
        self.log.append(self.hard_state.term, payload)
    }

    pub(crate) fn commit_to(&mut self, index: Index) {
        // Only a configuration that is committed by this can be one that leaves this node out.
        let undecided = self.log.configuration_index() > self.log.commit_index();
        let was_removed = undecided && self.is_removed();
        let before = self.log.commit_index();
        if self.log.commit_to(index) {
            self.event(Event::Committed {
                index: self.log.commit_index(),
            });
            self.requests.on_commit(self.log.commit_index());
            if undecided {
                self.was_member |= self
                    .log
                    .committed_since(before)
                    .any(|members| members.is_member(self.id()));
                self.note_removal(was_removed);
            }
        }
    }

    /// Ends what only the members are told of, if this node is none any more and was not removed before.
    fn note_removal(&mut self, was_removed: bool) {
        if !was_removed && self.is_removed() {
            let index = self.log.configuration_index();
            self.event(Event::Removed { index });
            self.requests.on_removed(self.log.commit_index());
        }
    }

    /// Entries up to here are past being matched with requests: all, once this node is told of none any more.
    pub(crate) fn matched_index(&self) -> Index {
        if self.is_removed() {
            Index(u64::MAX)
        } else {
            self.log.handed_index()
        }
    }

    /// Whether this node was a member and is none any more, whatever becomes of its log. A newcomer that is not yet
    /// told of its own addition was none.
    pub(crate) fn is_removed(&self) -> bool {
        self.was_member && !self.is_member_for_good()
    }

    /// Whether the committed configuration, or a later one, has this node as a member.
    fn is_member_for_good(&self) -> bool {
        let me = self.id();
        self.log
            .live_configurations()
            .any(|configuration| configuration.is_member(me))
    }

    /// Takes over a leader's snapshot whose data is on this node's disk.
    pub(crate) fn install(&mut self, leader: NodeId, meta: SnapshotMeta) {
        let id = meta.id;
        let was_removed = self.is_removed();
        self.was_member |= meta.configuration.is_member(self.id());
        self.log.reset(meta.clone());
        self.requests.on_snapshot(id);
        self.requests.on_commit(id.index);
        self.apply = ApplyQueue::default();
        self.restoring = Some(Restoring { id, leader });
        self.out.restore = Some(meta);
        self.event(Event::SnapshotInstalled { id });
        self.note_removal(was_removed);
    }

    /// The state machine was restored: the leader that sent the snapshot, if it was the latest one.
    pub(crate) fn on_restored(&mut self, id: EntryId) -> Option<NodeId> {
        if self.restoring.as_ref().is_none_or(|restoring| restoring.id != id) {
            return None;
        }
        self.log.on_applied(id.index);
        self.restoring.take().map(|restoring| restoring.leader)
    }

    pub(crate) fn on_persisted(&mut self, seq: WriteSeq) {
        assert!(
            seq <= self.writes.last,
            "{}: {seq} was reported durable, the last write is {}",
            self.id(),
            self.writes.last
        );
        self.writes.persisted = self.writes.persisted.max(seq);
        self.writes.silent_ticks = 0;
        self.log.on_persisted(seq);
        release(&mut self.writes.held, seq, &mut self.out.send);
        release(&mut self.writes.held_for_term, seq, &mut self.out.send);
    }

    pub(crate) fn on_applied(&mut self, index: Index) {
        if self.restoring.is_some() {
            return;
        }
        self.log.on_applied(index);
        while let Some((last, bytes)) = self.apply.batches.front().copied()
            && last <= index
        {
            self.apply.batches.pop_front();
            self.apply.bytes -= bytes;
        }
    }

    /// Entries came from the disk to be applied; none if they were replaced meanwhile.
    pub(crate) fn on_apply_read(&mut self, entries: Option<Vec<Entry>>) {
        self.apply.reading = false;
        let next = self.log.handed_index().next();
        let Some(mut entries) = entries else { return };
        let up_to = self.log.appliable_index();
        entries.retain(|entry| entry.id.index >= next && entry.id.index <= up_to);
        let whole = entries.first().is_some_and(|first| first.id.index == next);
        if whole && self.restoring.is_none() && entries.iter().all(|entry| self.log.contains(entry.id)) {
            self.hand_out(entries);
        }
    }

    pub(crate) fn on_snapshot_saved(&mut self, meta: SnapshotMeta, keep_after: Option<Index>) {
        if self.log.on_snapshot_saved(meta) {
            self.compact(keep_after);
        }
    }

    /// Drops what a snapshot covers, but for what followers a little behind will want.
    fn compact(&mut self, keep_after: Option<Index>) {
        let retained = self.config.limits.retained_entries;
        let up_to = Index(self.log.snapshot().id.index.0.saturating_sub(retained));
        if let Some(base) = self
            .log
            .compact(keep_after.map_or(up_to, |index| up_to.min(index)))
        {
            self.out.compact = Some(base);
        }
    }

    /// Whether there is anything for [`Core::take_ready`].
    pub(crate) fn has_ready(&mut self) -> bool {
        self.queue_apply();
        self.announced.is_none()
            || self.writes.hard_state_dirty
            || self.log.has_unwritten()
            || self.requests.has_news()
            || !self.out.is_empty()
    }

    /// Takes all that this node wants done into `ready`, whose vectors are used for what comes next.
    pub(crate) fn take_ready(&mut self, ready: &mut Ready) {
        self.announce();
        self.out.write = self.take_write();
        self.requests
            .swap_news(&mut self.out.resolved, &mut self.out.reads);
        self.log.evict(self.config.limits.window_bytes);
        ready.clear();
        mem::swap(&mut self.out, ready);
    }

    /// Runs a handler that changes no role.
    pub(crate) fn stay(&mut self, act: impl FnOnce(&mut Self)) -> Next {
        act(self);
        Next::Stay
    }

    /// What this node holds in memory, whatever its role.
    pub(crate) fn load(&self) -> Load {
        Load {
            applying_bytes: self.apply.bytes,
            window_bytes: self.log.window_bytes(),
            ..Load::default()
        }
    }

    pub(crate) fn check(&self) {
        self.log.check();
        self.requests.check(self.log.handed_index());
        assert!(
            self.writes.persisted <= self.writes.last && self.writes.hard_state <= self.writes.last,
            "{}: writes out of order",
            self.id()
        );
    }

    fn envelope(&self, to: NodeId, message: Message) -> Envelope {
        Envelope {
            group: self.config.group,
            from: self.id(),
            to,
            term: self.term(),
            message,
        }
    }

    /// Tells the caller who the members are, if they are others than it was told last.
    fn announce(&mut self) {
        let configuration = self.log.configuration();
        if let Some(announced) = &self.announced {
            if Arc::ptr_eq(announced, configuration) {
                return;
            }
            if announced == configuration {
                // A snapshot took the place of the entry that said so.
                self.announced = Some(Arc::clone(configuration));
                return;
            }
            let index = self.log.configuration_index();
            self.out.events.push(Event::ConfigurationChanged { index });
        }
        self.announced = Some(Arc::clone(configuration));
        self.out.configuration = Some(Arc::clone(configuration));
    }

    fn take_write(&mut self) -> Option<Write> {
        if !self.writes.hard_state_dirty && !self.log.has_unwritten() {
            return None;
        }
        let seq = self.writes.last.next();
        self.writes.last = seq;
        let hard_state = mem::take(&mut self.writes.hard_state_dirty).then_some(self.hard_state);
        if hard_state.is_some() {
            self.writes.hard_state = seq;
        }
        let (reset, entries) = self.log.take_unwritten(seq);
        Some(Write {
            seq,
            reset,
            hard_state,
            entries,
        })
    }

    /// Hands out committed entries to be applied, within the bound, or asks for those not in memory.
    fn queue_apply(&mut self) {
        let limit = self.config.limits.max_applying_bytes;
        while self.restoring.is_none() && !self.apply.reading && self.apply.bytes < limit {
            let (from, to) = (self.log.handed_index().next(), self.log.appliable_index());
            if from > to {
                return;
            }
            match self.log.window_entries(from, to, limit) {
                Some(entries) => self.hand_out(entries),
                None => {
                    self.apply.reading = true;
                    let max_bytes = self.config.limits.max_message_bytes;
                    self.read_log(ReadLog {
                        purpose: Purpose::Apply,
                        from,
                        to,
                        max_bytes,
                    });
                }
            }
        }
    }

    fn hand_out(&mut self, mut entries: Vec<Entry>) {
        if let Some((last, bytes)) = measure(&entries) {
            self.requests.on_committed(&entries);
            self.log.hand_out(last);
            self.apply.batches.push_back((last, bytes));
            self.apply.bytes += bytes;
            if self.out.apply.is_empty() {
                self.out.apply = entries;
            } else {
                self.out.apply.append(&mut entries);
            }
        }
    }
}

/// Whether a message is sent before what it promises is durable: never.
fn is_hasty(message: &Message) -> bool {
    let hasty_vote = mutant!(M2) && matches!(message, Message::VoteResponse(_));
    hasty_vote || (mutant!(M15) && matches!(message, Message::AppendEntriesResponse(_)))
}

/// Keeps a message for later; the oldest is lost when too many wait, as messages may be.
fn hold(held: &mut VecDeque<(WriteSeq, Envelope)>, needed: WriteSeq, envelope: Envelope) {
    if held.len() >= MOST_HELD {
        held.pop_front();
    }
    held.push_back((needed, envelope));
}

fn release(held: &mut VecDeque<(WriteSeq, Envelope)>, persisted: WriteSeq, send: &mut Vec<Envelope>) {
    while held.front().is_some_and(|(needed, _)| *needed <= persisted) {
        if let Some((_, envelope)) = held.pop_front() {
            send.push(envelope);
        }
    }
}

/// More answers than a disk that works lets wait: what is beyond was repeated.
const MOST_HELD: usize = 4096;

/// What a node cannot work with.
fn check(config: &Config) -> Result<(), ConfigError> {
    let (election, heartbeat) = (config.election_ticks, config.heartbeat_ticks);
    if heartbeat == 0 || election <= heartbeat.saturating_mul(2) {
        return Err(ConfigError::ElectionTooShort { election, heartbeat });
    }
    let most = MOST_ELECTION_TICKS;
    if election > most {
        return Err(ConfigError::ElectionTooLong { election, most });
    }
    let bounds = [
        ("max_applying_bytes", config.limits.max_applying_bytes),
        ("max_inflight_bytes", config.limits.max_inflight_bytes),
    ];
    match bounds.into_iter().find(|(_, bytes)| *bytes == 0) {
        Some((limit, _)) => Err(ConfigError::NoRoom { limit }),
        None => Ok(()),
    }
}

/// Waits are up to 1,024 election timeouts long, and counted in ticks.
const MOST_ELECTION_TICKS: u32 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{GroupId, Session};

    fn refusal(change: impl FnOnce(&mut Config)) -> Option<ConfigError> {
        let mut config = Config {
            id: NodeId(1),
            group: GroupId(1),
            kind: MemberKind::Full,
            session: Session(1),
            seed: 1,
            election_ticks: 10,
            heartbeat_ticks: 2,
            leases: None,
            limits: crate::io::Limits::default(),
        };
        change(&mut config);
        let members = Configuration::new([NodeId(1)], []).unwrap();
        Core::new(config, Stored::new(members)).err()
    }

    #[test]
    fn timeouts_that_no_tick_can_reach_are_refused() {
        assert_eq!(refusal(|_| {}), None);
        let too_short = refusal(|config| config.heartbeat_ticks = 1 << 31);
        assert!(
            matches!(too_short, Some(ConfigError::ElectionTooShort { .. })),
            "{too_short:?}"
        );
        let too_long = refusal(|config| config.election_ticks = u32::MAX);
        assert!(
            matches!(too_long, Some(ConfigError::ElectionTooLong { .. })),
            "{too_long:?}"
        );
    }

    #[test]
    fn bounds_within_which_nothing_moves_are_refused() {
        let none = |limit| Some(ConfigError::NoRoom { limit });
        assert_eq!(
            refusal(|config| config.limits.max_applying_bytes = 0),
            none("max_applying_bytes")
        );
        assert_eq!(
            refusal(|config| config.limits.max_inflight_bytes = 0),
            none("max_inflight_bytes")
        );
    }
}
