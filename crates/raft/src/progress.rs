//! What a leader knows of one follower's log, and how much it may send.
//!
//! - `match_index < next_index`, and `match_index` only grows: it comes from verified appends alone.
//! - In `Probe` one append is under way; in `Replicate` as many bytes as the bound allows; in
//!   `Snapshot` none.

use std::collections::VecDeque;

use crate::mutant::mutant;
use crate::status::{PeerMode, PeerStatus};
use crate::types::{EntryId, Index, Round};

/// What a leader knows of one follower.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Highest index known to equal the leader's log (paper: matchIndex). Only grows.
    match_index: Index,
    mode: Mode,
    /// The highest commit index the follower was told of, within what it had been sent.
    told_commit: Index,
    /// The latest round of heartbeats it answered.
    acked_round: Round,
    /// Ticks since it was last heard of.
    silent_ticks: u32,
    /// Whether its process was reported gone, and nothing was heard of it since.
    gone: bool,
    /// Whether entries are being read from the disk for it.
    reading: bool,
    /// Ticks since it acknowledged anything, while there was something to acknowledge.
    behind_ticks: u32,
    /// Whether it has caught up, if it is to vote and does not yet (thesis §4.2.1).
    catching_up: Option<CatchingUp>,
    /// Whether the next answer to a heartbeat is one to a heartbeat of the clock's, not of a read's.
    retry_due: bool,
}

#[derive(Clone, Debug)]
enum Mode {
    /// We do not know where the logs agree: one append in flight.
    Probe { next_index: Index, waiting: bool },
    /// They agree up to `match_index`: appends are pipelined (thesis §10.2.2).
    Replicate { next_index: Index, inflight: Inflight },
    /// It needs entries we compacted: nothing is sent until this snapshot is installed.
    Snapshot {
        sent: EntryId,
        delivered_for: Option<u32>,
    },
}

/// Rounds of bringing a newcomer what was committed when the round began (thesis §4.2.1).
#[derive(Clone, Copy, Debug)]
struct CatchingUp {
    goal: Index,
    elapsed: u32,
    done: bool,
}

/// Appends sent and not yet acknowledged.
#[derive(Clone, Debug, Default)]
struct Inflight {
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
    /// Whether nothing was acknowledged since the last heartbeat response.
    idle: bool,
}

impl Progress {
    /// A follower of whom a new leader knows nothing yet: it tries after its own last entry (paper, figure 2).
    pub(crate) fn new(last: Index) -> Self {
        Self {
            match_index: Index::ZERO,
            mode: Mode::Probe {
                next_index: last.next(),
                waiting: false,
            },
            told_commit: Index::ZERO,
            acked_round: Round(0),
            silent_ticks: 0,
            gone: false,
            reading: false,
            behind_ticks: 0,
            catching_up: None,
            retry_due: false,
        }
    }

    pub(crate) fn match_index(&self) -> Index {
        self.match_index
    }

    pub(crate) fn acked_round(&self) -> Round {
        self.acked_round
    }

    pub(crate) fn told_commit(&self) -> Index {
        self.told_commit
    }

    pub(crate) fn tell_commit(&mut self, index: Index) {
        self.told_commit = self.told_commit.max(index);
    }

    pub(crate) fn is_replicating(&self) -> bool {
        matches!(self.mode, Mode::Replicate { .. })
    }

    /// The snapshot being sent.
    pub(crate) fn snapshot_id(&self) -> Option<EntryId> {
        match &self.mode {
            Mode::Snapshot { sent, .. } => Some(*sent),
            Mode::Probe { .. } | Mode::Replicate { .. } => None,
        }
    }

    /// The next index to send; in `Snapshot`, the one after the snapshot.
    pub(crate) fn next_index(&self) -> Index {
        match &self.mode {
            Mode::Probe { next_index, .. } | Mode::Replicate { next_index, .. } => *next_index,
            Mode::Snapshot { sent, .. } => sent.index.max(self.match_index).next(),
        }
    }

    /// Whether an append may be sent, when the leader's log ends at `last`.
    pub(crate) fn wants_append(&self, last: Index, max_inflight_bytes: u64) -> bool {
        if self.reading {
            return false;
        }
        match &self.mode {
            Mode::Probe { waiting, .. } => !waiting,
            Mode::Replicate { next_index, inflight } => {
                *next_index <= last && inflight.bytes < max_inflight_bytes
            }
            Mode::Snapshot { .. } => false,
        }
    }

    /// An append up to `last` was sent, of `bytes`.
    pub(crate) fn on_sent(&mut self, last: Index, bytes: u64) {
        match &mut self.mode {
            Mode::Probe { waiting, .. } => *waiting = true,
            Mode::Replicate { next_index, inflight } => {
                *next_index = last.next();
                inflight.push(last, bytes);
            }
            Mode::Snapshot { .. } => {}
        }
    }

    /// Its log equals the leader's up to `index`, whose log begins after `base`; says whether that is news.
    pub(crate) fn on_accepted(&mut self, index: Index, base: Index) -> bool {
        let news = index > self.match_index;
        self.behind_ticks = 0;
        self.match_index = mutant!(M22, index, self.match_index.max(index));
        let match_index = self.match_index;
        match &mut self.mode {
            Mode::Probe { .. } => self.replicate(),
            Mode::Replicate { next_index, inflight } => {
                inflight.free_to(match_index);
                *next_index = (*next_index).max(match_index.next());
            }
            Mode::Snapshot { .. } if match_index >= base => self.replicate(),
            Mode::Snapshot { .. } => {}
        }
        news
    }

    /// A newcomer is to be brought what is committed, up to `goal`.
    pub(crate) fn begin_catching_up(&mut self, goal: Index) {
        self.catching_up = Some(CatchingUp {
            goal,
            elapsed: 0,
            done: false,
        });
    }

    /// Ends the round of a newcomer that has what it was to have; says whether it has caught up by that.
    ///
    /// It has if the round took no longer than an election timeout, since what came meanwhile takes it
    /// less; or if nothing came meanwhile.
    pub(crate) fn note_catching_up(&mut self, commit: Index, election_ticks: u32) -> bool {
        let match_index = self.match_index;
        let Some(round) = &mut self.catching_up else {
            return false;
        };
        if round.done || match_index < round.goal {
            return false;
        }
        if round.elapsed <= election_ticks || match_index >= commit {
            round.done = true;
        } else {
            (round.goal, round.elapsed) = (commit, 0);
        }
        round.done
    }

    pub(crate) fn has_caught_up(&self) -> bool {
        self.catching_up.is_some_and(|round| round.done)
    }

    /// Whether it acknowledges what it is sent, within an election timeout. Who is reported gone does not.
    pub(crate) fn keeps_up(&self, election_ticks: u32) -> bool {
        self.is_there(election_ticks) && self.behind_ticks < election_ticks
    }

    /// It refused an append after `prev`; the logs agree at `agree` at best.
    pub(crate) fn on_rejected(&mut self, prev: Index, agree: Index) {
        let acts = match &self.mode {
            Mode::Probe { next_index, .. } => prev == next_index.prev(),
            Mode::Replicate { next_index, .. } => prev > self.match_index && prev < *next_index,
            Mode::Snapshot { .. } => false,
        };
        if acts {
            self.probe(agree.next().min(prev));
        }
    }

    /// Looks for where the logs agree, from `next_index` down.
    pub(crate) fn probe(&mut self, next_index: Index) {
        let next_index = next_index.max(self.match_index.next());
        self.mode = Mode::Probe {
            next_index,
            waiting: false,
        };
    }

    /// Waits for news before trying again.
    pub(crate) fn pause_probe(&mut self) {
        self.mode = Mode::Probe {
            next_index: self.match_index.next(),
            waiting: true,
        };
    }

    pub(crate) fn snapshot(&mut self, sent: EntryId) {
        self.mode = Mode::Snapshot {
            sent,
            delivered_for: None,
        };
    }

    /// The data of the snapshot arrived: its installation is waited for.
    pub(crate) fn on_snapshot_delivered(&mut self) {
        if let Mode::Snapshot { delivered_for, .. } = &mut self.mode {
            *delivered_for = Some(0);
        }
    }

    /// It was heard of as a follower, whatever it said (docs/scenarios.md V8).
    pub(crate) fn on_heard(&mut self) {
        self.silent_ticks = 0;
        self.gone = false;
    }

    /// Its process was reported gone: it is nobody to hand over to or to wait for, but it may be a wrong report.
    pub(crate) fn on_gone(&mut self) {
        self.gone = true;
    }

    /// Whether it was heard of of late and not reported gone since.
    pub(crate) fn is_there(&self, election_ticks: u32) -> bool {
        !self.gone && self.is_active(election_ticks)
    }

    /// A heartbeat of the clock's is sent: its answer tells whether something was lost.
    pub(crate) fn expect_answer(&mut self) {
        self.retry_due = true;
    }

    /// It answered a heartbeat: a probe may be tried again. Says whether a pipelined append seems lost.
    ///
    /// Reads make heartbeats too, far more often than a slow disk acknowledges: those say nothing of loss.
    pub(crate) fn on_heartbeat_response(&mut self, round: Round) -> bool {
        self.acked_round = self.acked_round.max(round);
        if !std::mem::take(&mut self.retry_due) {
            return false;
        }
        match &mut self.mode {
            Mode::Probe { waiting, .. } => {
                *waiting = false;
                false
            }
            Mode::Replicate { inflight, .. } => {
                std::mem::replace(&mut inflight.idle, true) && !inflight.sent.is_empty()
            }
            Mode::Snapshot { .. } => false,
        }
    }

    /// A tick passed. One that has a snapshot and never says so is probed after `patience` ticks.
    pub(crate) fn on_tick(&mut self, patience: u32) {
        self.silent_ticks = self.silent_ticks.saturating_add(1);
        let owes = match &self.mode {
            Mode::Replicate { inflight, .. } => !inflight.sent.is_empty(),
            Mode::Probe { .. } | Mode::Snapshot { .. } => true,
        };
        self.behind_ticks = if owes {
            self.behind_ticks.saturating_add(1)
        } else {
            0
        };
        if let Some(round) = &mut self.catching_up {
            round.elapsed = round.elapsed.saturating_add(1);
        }
        if let Mode::Snapshot {
            sent,
            delivered_for: Some(ticks),
        } = &mut self.mode
        {
            *ticks += 1;
            if *ticks > patience {
                let next_index = sent.index.next();
                self.probe(next_index);
            }
        }
    }

    pub(crate) fn is_active(&self, election_ticks: u32) -> bool {
        self.silent_ticks < election_ticks
    }

    pub(crate) fn set_reading(&mut self, reading: bool) {
        self.reading = reading;
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading
    }

    pub(crate) fn status(&self, election_ticks: u32) -> PeerStatus {
        PeerStatus {
            match_index: self.match_index,
            next_index: self.next_index(),
            mode: match &self.mode {
                Mode::Probe { .. } => PeerMode::Probe,
                Mode::Replicate { .. } => PeerMode::Replicate,
                Mode::Snapshot { .. } => PeerMode::Snapshot,
            },
            active: self.is_active(election_ticks),
        }
    }

    /// Bytes sent and not acknowledged.
    pub(crate) fn inflight_bytes(&self) -> u64 {
        match &self.mode {
            Mode::Replicate { inflight, .. } => inflight.bytes,
            Mode::Probe { .. } | Mode::Snapshot { .. } => 0,
        }
    }

    pub(crate) fn check(&self, last: Index) {
        assert!(
            self.match_index < self.next_index(),
            "progress: match {} is not before next {}",
            self.match_index,
            self.next_index()
        );
        assert!(
            self.match_index <= last,
            "progress: match {} is after the last entry {last}",
            self.match_index
        );
        if let Mode::Replicate { inflight, .. } = &self.mode {
            assert_eq!(
                inflight.bytes,
                inflight.sent.iter().map(|(_, bytes)| bytes).sum::<u64>(),
                "progress: bytes"
            );
        }
    }

    fn replicate(&mut self) {
        let next_index = self.match_index.next();
        self.mode = Mode::Replicate {
            next_index,
            inflight: Inflight::default(),
        };
    }
}

impl Inflight {
    fn push(&mut self, last: Index, bytes: u64) {
        self.idle &= !self.sent.is_empty();
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free_to(&mut self, index: Index) {
        while let Some((last, bytes)) = self.sent.front().copied()
            && last <= index
        {
            self.sent.pop_front();
            self.bytes -= bytes;
            self.idle = false;
        }
    }
}
