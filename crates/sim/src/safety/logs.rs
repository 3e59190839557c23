//! What nodes write to their logs (I2, I3, I6, I9, I15).

use std::sync::Arc;

use quorate_raft::{Entry, EntryId, NodeId, Payload, Stored, Term, Write};

use super::Safety;
use crate::digest::Digest;
use crate::invariant::{Invariant, Violation, require};
use crate::mirror::{Mirror, changes};

impl Safety {
    /// A node's core makes this write, leading `leads` before it; what a later leader adds, if anything, follows
    /// what this one did.
    pub(super) fn wrote(
        &mut self,
        node: NodeId,
        write: &Write,
        leads: Option<Term>,
    ) -> Result<(), Violation> {
        self.check_hard_state(node, write)?;
        self.check_append_only(node, write, leads)?;
        self.check_permitted(node, write)?;
        let watched = self.watched(node);
        for change in changes(write) {
            watched.written.change(change);
            watched.pending.push_back(change);
        }
        watched.unevictable.wrote(write);
        let mut changes = watched.members.write(write);
        self.check_changes(node, &changes)?;
        if leads.is_some() {
            let written = &self.nodes[&node].written;
            changes.retain(|(_, (index, _))| written.term_at(*index) == leads);
            self.check_newcomers(node, &changes)?;
        }
        self.check_log_matching(node, &write.entries)
    }

    fn check_hard_state(&self, node: NodeId, write: &Write) -> Result<(), Violation> {
        let Some(after) = write.hard_state else {
            return Ok(());
        };
        let before = self.nodes[&node].written.hard_state();
        require(before.term <= after.term, Invariant::Monotone, || {
            format!("{node} goes back from term {} to {}", before.term, after.term)
        })?;
        let keeps = before.term < after.term || before.vote.is_none() || before.vote == after.vote;
        require(keeps, Invariant::Monotone, || {
            format!(
                "{node} changes its vote in term {} from {:?} to {:?}",
                after.term, before.vote, after.vote
            )
        })
    }

    fn check_append_only(&self, node: NodeId, write: &Write, leads: Option<Term>) -> Result<(), Violation> {
        let (Some(term), Some(first)) = (leads, write.entries.first()) else {
            return Ok(());
        };
        let last = self.nodes[&node].written.last();
        require(first.id.index > last.index, Invariant::LeaderAppendOnly, || {
            format!(
                "{node} leads term {term} and replaces {last} from {} on",
                first.id
            )
        })
    }

    /// What is committed is never replaced, but by a snapshot of something committed later.
    fn check_permitted(&self, node: NodeId, write: &Write) -> Result<(), Violation> {
        let log = &self.nodes[&node].written;
        if let Some(meta) = &write.reset {
            let committed = self.committed_id(meta.id.index);
            require(committed == Some(meta.id), Invariant::PermittedLogChanges, || {
                format!(
                    "{node} replaces its log by snapshot {}, committed is {committed:?}",
                    meta.id
                )
            })?;
            let members = self.committed_configuration(meta.id.index);
            let is_of_then = members.is_some_and(|(_, members)| *members == meta.configuration);
            require(is_of_then, Invariant::ConfigurationOfLog, || {
                format!(
                    "{node} takes snapshot {} of {}, committed was {members:?}",
                    meta.id, meta.configuration
                )
            })?;
            return require(
                meta.id.index > log.base().index,
                Invariant::PermittedLogChanges,
                || {
                    format!(
                        "{node} goes back from base {} to snapshot {}",
                        log.base(),
                        meta.id
                    )
                },
            );
        }
        let Some(first) = write.entries.first() else {
            return Ok(());
        };
        let index = first.id.index;
        let loses = self
            .committed_id(index)
            .is_some_and(|id| log.term_at(index) == Some(id.term));
        require(!loses, Invariant::PermittedLogChanges, || {
            format!("{node} replaces committed entry {index} by {}", first.id)
        })
    }

    fn check_log_matching(&mut self, node: NodeId, entries: &[Entry]) -> Result<(), Violation> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let mut prev = self.nodes[&node].written.term_at(first.id.index.prev());
        for entry in entries {
            let id = entry.id;
            let found = (prev.unwrap_or_default(), digest_of(entry));
            let known = *self.entries.entry((id.index, id.term)).or_insert(found);
            // A witness is sent what an entry is, and not what it says.
            let is_bare = is_stripped(entry) && self.witnesses.contains(&node);
            let is_same = known == found || (is_bare && known.0 == found.0);
            require(is_same && prev.is_some(), Invariant::LogMatching, || {
                format!("{node} writes {id} after term {prev:?}: {found:?}, another wrote {known:?}")
            })?;
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations
                    .insert((id.index, id.term), Arc::clone(configuration));
            }
            prev = Some(id.term);
        }
        Ok(())
    }

    /// A starting node names the members exactly as the entries that it found say.
    pub(super) fn check_members_found(
        &self,
        node: NodeId,
        found: &Mirror,
        stored: &Stored,
    ) -> Result<(), Violation> {
        let snapshot = stored.snapshot.id;
        let in_log = self
            .configurations
            .iter()
            .filter(|((index, term), _)| *index > snapshot.index && found.term_at(*index) == Some(*term));
        let expected = in_log.map(|((index, _), members)| (*index, Arc::clone(members)));
        let expected: Vec<_> = expected.collect();
        require(
            expected == stored.configurations,
            Invariant::ConfigurationOfLog,
            || {
                format!(
                    "{node} finds the configurations {:?} after snapshot {snapshot}, its log has {expected:?}",
                    stored.configurations
                )
            },
        )?;
        let before = self.committed_configuration(snapshot.index);
        let in_snapshot = &stored.snapshot.configuration;
        require(
            in_snapshot.is_unknown() || before.is_none_or(|(_, members)| members == in_snapshot),
            Invariant::ConfigurationOfLog,
            || format!("{node} finds snapshot {snapshot} of {in_snapshot}, committed was {before:?}"),
        )
    }
}

/// What an entry says, whatever its place.
pub(crate) fn digest_of(entry: &Entry) -> Digest {
    match &entry.payload {
        Payload::Noop => Digest::EMPTY.number(1),
        Payload::Stripped => Digest::EMPTY.number(4),
        Payload::Command(command) => Digest::EMPTY.number(2).bytes(command),
        Payload::Configuration(members) => Digest::EMPTY.number(3).display(&format_args!("{members:?}")),
    }
}

/// Whether the entry has been taken its data.
pub(super) fn is_stripped(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Stripped)
}

/// The id of `entry`'s place, for maps that are ordered by place.
pub(super) fn place_of(id: EntryId) -> (quorate_raft::Index, Term) {
    (id.index, id.term)
}
