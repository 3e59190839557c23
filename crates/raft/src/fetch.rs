//! How the only node that reaches a quorum gets the log that it lacks to win it.
//!
//! With some links cut, the one node that a quorum can talk to may hold a shorter log than a voter that it
//! needs: it is denied for ever, and whoever has the longer log reaches too few. So a pre-candidate that
//! is denied for its log alone asks the voter with the most up-to-date one for what follows.
//! `docs/adr/0008-partial-connectivity.md` has the argument why that is safe.
//!
//! - Entries are taken only while this node is a pre-candidate, and only if its log is more up to date after
//!   it than before. Until enough has come, what has come waits here.
//! - Committed entries are never replaced.
//! - What waits to be promised is dropped: it was about a log that has changed. If this node told a
//!   leader of its term of entries that go, it leaves that term first.
//! - A question changes nothing at whom it is asked.
//!
//! Left out: a log that was compacted beyond what this node has. It is not fetched; see the decision.

use crate::candidate::PreCandidate;
use crate::core::Core;
use crate::entry::{Entry, LogSlice, weight_of};
use crate::event::Event;
use crate::io::{LogReadError, Purpose, ReadLog};
use crate::log::Splice;
use crate::membership::MemberKind;
use crate::message::{LogSuffix, Message, PreVerdict};
use crate::node::{Next, Node, Role};
use crate::types::{EntryId, NodeId};

/// A log on its way to a pre-candidate.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    from: NodeId,
    /// Where that log ended when its owner denied.
    goal: EntryId,
    /// The entry whose successors were asked for last.
    asked: EntryId,
    /// An entry of both logs, and what has come of those after it in the other.
    agreed: EntryId,
    entries: Vec<Entry>,
}

impl PreCandidate {
    /// Asks for a log if that is all that this node lacks, from its second attempt on: usually one whose log is
    /// more up to date campaigns by itself.
    pub(crate) fn fetch_if_behind(&mut self, core: &mut Core) {
        let denied_for_log_alone = self.attempt.is_repeated()
            && self.fetch.is_none()
            && !self
                .answers
                .values()
                .any(|answer| *answer == PreVerdict::HasLeader)
            && core.configuration().has_quorum(|node| {
                let answer = self.answers.get(&node);
                answer
                    .is_some_and(|answer| matches!(answer, PreVerdict::Granted | PreVerdict::MoreUpToDate(_)))
            });
        if denied_for_log_alone && let Some((goal, from)) = self.best_denier(core) {
            let last = core.log.last();
            self.ask_after(core, from, goal, last);
        }
    }

    /// Something of the log that was asked for has come.
    pub(crate) fn on_log_suffix(&mut self, core: &mut Core, from: NodeId, suffix: LogSuffix) -> Next {
        let Some(fetch) = self.fetch.as_ref().filter(|fetch| fetch.from == from) else {
            return Next::Stay;
        };
        match suffix {
            LogSuffix::Unknown { prev, hint } if prev == fetch.asked => self.go_back(core, prev, hint),
            LogSuffix::Entries(slice) if slice.prev() == fetch.asked && !slice.is_stripped() => {
                self.take(core, slice)
            }
            LogSuffix::Unknown { .. } | LogSuffix::Entries(_) => Next::Stay,
        }
    }

    fn best_denier(&self, core: &Core) -> Option<(EntryId, NodeId)> {
        let configuration = core.configuration();
        let longer = |(node, answer): (&NodeId, &PreVerdict)| match answer {
            PreVerdict::MoreUpToDate(last) if configuration.kind(*node) == MemberKind::Full => {
                Some((*last, *node))
            }
            PreVerdict::MoreUpToDate(_)
            | PreVerdict::Granted
            | PreVerdict::HasLeader
            | PreVerdict::TermPassed => None,
        };
        self.answers.iter().filter_map(longer).max()
    }

    fn ask_after(&mut self, core: &mut Core, from: NodeId, goal: EntryId, agreed: EntryId) {
        core.send(from, Message::FetchLog(agreed));
        self.fetch = Some(Fetch {
            from,
            goal,
            asked: agreed,
            agreed,
            entries: Vec::new(),
        });
    }

    /// The logs do not agree at `prev`: tries an entry before it, but none before the last committed one.
    fn go_back(&mut self, core: &mut Core, prev: EntryId, hint: EntryId) -> Next {
        let commit = core.log.commit_index();
        let term = core.log.term_at(commit).unwrap_or_default();
        let agreed = core.log.last_id_not_after(hint).max(EntryId::new(commit, term));
        match self.fetch.take() {
            Some(fetch) if agreed.index < prev.index && fetch.entries.is_empty() => {
                self.ask_after(core, fetch.from, fetch.goal, agreed);
            }
            Some(_) | None => {}
        }
        Next::Stay
    }

    fn take(&mut self, core: &mut Core, slice: LogSlice) -> Next {
        let Some(mut fetch) = self.fetch.take() else {
            return Next::Stay;
        };
        self.rest();
        let (from, last) = (fetch.from, slice.last());
        let ends = slice.is_empty() || last.index >= fetch.goal.index;
        fetch.entries.extend(slice.into_entries());
        if last > core.log.last() {
            let entries = std::mem::take(&mut fetch.entries);
            let slice = LogSlice::new(fetch.agreed, entries)
                .expect("each slice was asked for after the end of the one before");
            fetch.agreed = last;
            if !self.splice(core, from, slice) {
                return Next::Stay;
            }
        }
        if ends {
            return Next::PreCampaign(self.attempt.next());
        }
        if weight_of(&fetch.entries) <= core.config.limits.max_uncommitted_bytes {
            core.send(from, Message::FetchLog(last));
            fetch.asked = last;
            self.fetch = Some(fetch);
        }
        Next::Stay
    }

    /// Merges entries that make this log more up to date. Says whether they fit.
    fn splice(&mut self, core: &mut Core, from: NodeId, slice: LogSlice) -> bool {
        let last = slice.last();
        let replaces_what_was_told = slice
            .entries()
            .iter()
            .any(|entry| entry.id.index <= core.told() && core.log.conflicts(entry.id));
        if replaces_what_was_told {
            // This term's leader would build on what it was told.
            core.adopt_term(core.term().next());
        }
        match core.log.splice(slice) {
            Splice::ContradictsCommitted => {
                let what = "its entries contradict committed ones";
                core.event(Event::Ignored { from, what });
                false
            }
            Splice::Done { truncated, .. } => {
                core.drop_promises();
                if let Some(from) = truncated {
                    core.event(Event::LogTruncated { from });
                }
                core.event(Event::LogFetched { from, last });
                true
            }
        }
    }
}

impl Node {
    /// A pre-candidate wants what follows `prev` here.
    pub(crate) fn on_fetch_log(&mut self, from: NodeId, prev: EntryId) -> Next {
        let core = &mut self.core;
        let leads = matches!(&self.role, Role::Leader(_));
        if leads || core.config.kind == MemberKind::Witness || !core.configuration().is_member(from) {
            return Next::Stay;
        }
        if !core.log.contains(prev) {
            let hint = core.log.last_id_not_after(prev);
            core.send(from, Message::LogSuffix(LogSuffix::Unknown { prev, hint }));
            return Next::Stay;
        }
        let (first, last) = (prev.index.next(), core.log.last().index);
        let max_bytes = core.config.limits.max_message_bytes;
        if first > last {
            send_suffix(core, from, prev, Vec::new());
        } else if let Some(entries) = core.log.window_entries(first, last, max_bytes) {
            send_suffix(core, from, prev, entries);
        } else if !std::mem::replace(&mut core.supplying, true) {
            core.read_log(ReadLog {
                purpose: Purpose::Supply(from),
                from: first,
                to: last,
                max_bytes,
            });
        }
        Next::Stay
    }

    /// Entries for a pre-candidate were read, unless they are gone: then it asks again or does without.
    pub(crate) fn on_supply_read(
        &mut self,
        to: NodeId,
        request: ReadLog,
        entries: Result<Vec<Entry>, LogReadError>,
    ) {
        let core = &mut self.core;
        core.supplying = false;
        let prev = request.from.prev();
        if let (Some(term), Ok(entries)) = (core.log.term_at(prev), entries)
            && entries.iter().all(|entry| core.log.contains(entry.id))
        {
            send_suffix(core, to, EntryId::new(prev, term), entries);
        }
    }

    pub(crate) fn on_log_suffix(&mut self, from: NodeId, suffix: LogSuffix) -> Next {
        match &mut self.role {
            Role::PreCandidate(candidate) => candidate.on_log_suffix(&mut self.core, from, suffix),
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => Next::Stay,
        }
    }
}

fn send_suffix(core: &mut Core, to: NodeId, prev: EntryId, entries: Vec<Entry>) {
    let slice = LogSlice::new(prev, entries).expect("entries that the log contains follow each other");
    core.send(to, Message::LogSuffix(LogSuffix::Entries(slice)));
}
