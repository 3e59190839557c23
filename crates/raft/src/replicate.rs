//! How a leader brings its log to a follower (paper §5.3).
//!
//! - What is sent follows what was sent before, or is compared first; `progress` says which.
//! - A witness is sent what entries are, without the commands.
//! - What is not in memory is read from the disk by way of the caller, who reports it later.

use crate::core::Core;
use crate::entry::{Entry, LogSlice, weight_of};
use crate::io::{Purpose, ReadLog};
use crate::membership::MemberKind;
use crate::message::{AppendEntries, Message};
use crate::progress::Progress;
use crate::types::{EntryId, Index, NodeId};

/// A follower to bring entries to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replica {
    pub(crate) peer: NodeId,
    pub(crate) kind: MemberKind,
    /// How far it is to have the log.
    pub(crate) last: Index,
}

/// Sends the next entries, or sees to it that they can be sent. Says whether more may follow.
pub(crate) fn send_append(core: &mut Core, to: Replica, progress: &mut Progress) -> bool {
    let from = progress.next_index();
    if core.log.term_at(from.prev()).is_none() {
        progress.snapshot(core.log.snapshot().id);
        core.send_snapshot(to.peer, to.kind);
        return false;
    }
    let max_bytes = core.config.limits.max_message_bytes;
    if from > to.last {
        send_entries(core, to, progress, Vec::new());
        return false;
    }
    match core.log.window_entries(from, to.last, max_bytes) {
        Some(entries) => {
            send_entries(core, to, progress, entries);
            true
        }
        None => {
            progress.set_reading(true);
            core.read_log(ReadLog {
                purpose: Purpose::Replicate(to.peer),
                from,
                to: to.last,
                max_bytes,
            });
            false
        }
    }
}

/// Sends `entries`, which follow what it was sent before.
pub(crate) fn send_entries(core: &mut Core, to: Replica, progress: &mut Progress, entries: Vec<Entry>) {
    let prev_index = progress.next_index().prev();
    let Some(prev_term) = core.log.term_at(prev_index) else {
        return;
    };
    let entries = match to.kind {
        MemberKind::Full => entries,
        MemberKind::Witness => entries.iter().map(Entry::stripped).collect(),
    };
    let bytes = weight_of(&entries);
    let slice = LogSlice::new(EntryId::new(prev_index, prev_term), entries)
        .expect("entries that the log contains follow each other");
    let commit = core.log.commit_index();
    progress.on_sent(slice.last().index, bytes);
    progress.tell_commit(commit.min(slice.last().index));
    core.send(to.peer, Message::AppendEntries(AppendEntries { slice, commit }));
}

/// Asks a follower to compare its log with ours up to `index`. Says whether the log still knows that entry.
pub(crate) fn compare(core: &mut Core, peer: NodeId, index: Index) -> bool {
    let Some(term) = core.log.term_at(index) else {
        return false;
    };
    let slice = LogSlice::new(EntryId::new(index, term), Vec::new()).expect("an empty slice has no gap");
    let commit = core.log.commit_index();
    core.send(peer, Message::AppendEntries(AppendEntries { slice, commit }));
    true
}

/// Tells a follower what is committed of what it is known to have, if that is news.
pub(crate) fn tell_commit(core: &mut Core, peer: NodeId, progress: &mut Progress) {
    let commit = core.log.commit_index().min(progress.match_index());
    if progress.is_replicating() && commit > progress.told_commit() {
        progress.tell_commit(commit);
        core.send(peer, Message::Commit(commit));
    }
}
