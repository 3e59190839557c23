//! What a core says of itself, held against what its log, its disk and its peers' disks are (I9, I12, I14, I15).

use std::collections::BTreeMap;

use quorate_raft::{EntryId, Index, NodeId, RoleKind, Status, Term};

use super::{Safety, Watched};
use crate::invariant::{Invariant, Violation, require};

/// What a leader knew its followers to hold when it was looked at last.
#[derive(Debug)]
pub(super) struct Matched {
    term: Term,
    /// The entry that said who the members are.
    members: Index,
    indexes: BTreeMap<NodeId, Index>,
}

impl Safety {
    /// A look at a node's core, after a step.
    pub(crate) fn looked(&mut self, status: &Status) -> Result<(), Violation> {
        let node = status.id;
        let watched = &self.nodes[&node];
        require(
            watched.has_on_disk(status.durable_index),
            Invariant::DurablePromise,
            || {
                format!(
                    "{node} takes {} for durable, its disk holds {:?}",
                    status.durable_index, watched.durable
                )
            },
        )?;
        let (index, members) = watched.members.latest();
        require(
            status.configuration == *members,
            Invariant::ConfigurationOfLog,
            || {
                format!(
                    "{node} goes by {}, its log says {members} at {index}",
                    status.configuration
                )
            },
        )?;
        require(
            watched.leads == leads(status),
            Invariant::StateTransitions,
            || {
                format!(
                    "{node} is {:?} in term {}, it was seen to lead {:?}",
                    status.role, status.term, watched.leads
                )
            },
        )?;
        self.check_load(status)?;
        if status.role == RoleKind::Leader {
            self.check_matches(status)?;
            self.check_matches_grow(status)?;
        }
        Ok(())
    }

    /// A bound may be passed by what was taken in last, never by more.
    fn check_load(&mut self, status: &Status) -> Result<(), Violation> {
        let unevictable = self.watched(status.id).unevictable.looked(status.durable_index);
        let (load, limits) = (status.load, &self.limits);
        let message = limits.max_message_bytes + LARGEST;
        let within = load.uncommitted_bytes <= limits.max_uncommitted_bytes + message
            && load.inflight_bytes <= limits.max_inflight_bytes + message
            && load.window_bytes <= limits.window_bytes + unevictable
            && load.applying_bytes <= 2 * limits.max_applying_bytes + message
            && load.pending_reads <= limits.max_pending_reads;
        require(within, Invariant::Bounded, || {
            format!(
                "{} holds {load:?} with {unevictable} bytes that may not be on its disk, its limits are {limits:?}",
                status.id
            )
        })
    }

    /// What a leader counts as replicated is on the follower's disk, as long as both are of one term. What of it
    /// is committed stays there, and one that has never started holds nothing.
    fn check_matches(&self, status: &Status) -> Result<(), Violation> {
        let leader = &self.nodes[&status.id];
        for (peer, progress) in &status.progress {
            let index = progress.match_index;
            let follower = self.nodes.get(peer);
            let is_on_disk = follower.map_or(index == Index::ZERO, |follower| {
                holds_match(leader, follower, index)
            });
            let has_moved_on = follower
                .is_some_and(|follower| follower.written.hard_state().term > status.term)
                && !self.is_committed_in(leader, index);
            require(is_on_disk || has_moved_on, Invariant::MatchIsDurable, || {
                format!(
                    "{} leads term {} and counts {peer} up to {index}, whose disk holds {:?}",
                    status.id,
                    status.term,
                    follower.map(|follower| &follower.durable)
                )
            })?;
        }
        Ok(())
    }

    /// Whether the entry at `index` of a node's log is the one that is committed there.
    fn is_committed_in(&self, watched: &Watched, index: Index) -> bool {
        self.committed_id(index)
            .is_some_and(|id| watched.written.holds(id))
    }

    fn check_matches_grow(&mut self, status: &Status) -> Result<(), Violation> {
        let (node, term) = (status.id, status.term);
        let is_member = |peer: &NodeId| status.configuration.is_member(*peer);
        let matches = status.progress.iter().filter(|(peer, _)| is_member(peer));
        let indexes: BTreeMap<NodeId, Index> = matches
            .map(|(peer, peer_status)| (*peer, peer_status.match_index))
            .collect();
        let earlier = self.watched(node).matched.take();
        if let Some(earlier) = earlier.filter(|earlier| earlier.term == term) {
            let members = &self.nodes[&node].members;
            // Who was left out and came back is counted anew.
            let stayed = |peer: NodeId| members.always_since(earlier.members, peer);
            let shrunk = indexes.iter().find(|(peer, index)| {
                stayed(**peer) && earlier.indexes.get(peer).is_some_and(|before| before > *index)
            });
            require(shrunk.is_none(), Invariant::MonotonicMatch, || {
                format!(
                    "{node} leads term {term} and counts {shrunk:?} after {:?}",
                    earlier.indexes
                )
            })?;
        }
        let members = self.nodes[&node].members.latest().0;
        self.watched(node).matched = Some(Matched {
            term,
            members,
            indexes,
        });
        Ok(())
    }
}

impl Watched {
    /// Whether the log that this node has written is on its disk up to `index`, and not another's entries.
    pub(super) fn has_on_disk(&self, index: Index) -> bool {
        let is_same = |term| self.durable.holds(EntryId::new(index, term));
        index <= self.durable.last().index && self.written.term_at(index).is_none_or(is_same)
    }
}

fn leads(status: &Status) -> Option<Term> {
    (status.role == RoleKind::Leader).then_some(status.term)
}

fn holds_match(leader: &Watched, follower: &Watched, index: Index) -> bool {
    let is_same = |term| follower.durable.holds(EntryId::new(index, term));
    index <= follower.durable.last().index && leader.written.term_at(index).is_none_or(is_same)
}

/// More bytes than any batch of commands that clients of the simulator have under way at once.
const LARGEST: u64 = 8 << 10;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_raft::{
        Configuration, Entry, Event, HardState, Limits, Load, Payload, PeerMode, PeerStatus, Stored, Write,
        WriteSeq,
    };

    use super::*;
    use crate::safety::Step;

    const LEADER: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);

    /// A cluster of one, which has committed an entry in term 1.
    fn alone() -> Safety {
        let mut safety = Safety::new(Limits::default());
        let members = Configuration::new([LEADER], []).unwrap();
        safety.started(LEADER, &Stored::new(members)).unwrap();
        stands(&mut safety, LEADER, 1);
        let leads = Event::BecameLeader { term: Term(1) };
        append(&mut safety, LEADER, leads);
        let index = Index(1);
        let events = vec![Event::Committed { index }];
        let step = Step {
            events,
            ..Step::default()
        };
        safety.stepped(LEADER, &step).unwrap();
        safety
    }

    /// A candidate whose term and vote are on its disk.
    fn stands(safety: &mut Safety, node: NodeId, term: u64) {
        let (term, vote) = (Term(term), Some(node));
        let step = Step {
            events: vec![Event::BecameCandidate { term }],
            writes: vec![write(Some(HardState { term, vote }), Vec::new())],
            ..Step::default()
        };
        safety.stepped(node, &step).unwrap();
        safety.synced(node, 1);
    }

    /// The entry 1@1 comes to the node's disk.
    fn append(safety: &mut Safety, node: NodeId, event: Event) {
        let (id, payload) = (EntryId::new(Index(1), Term(1)), Payload::Noop);
        let step = Step {
            events: vec![event],
            writes: vec![write(None, vec![Entry { id, payload }])],
            ..Step::default()
        };
        safety.stepped(node, &step).unwrap();
        safety.synced(node, 1);
    }

    fn write(hard_state: Option<HardState>, entries: Vec<Entry>) -> Write {
        Write {
            seq: WriteSeq(1),
            reset: None,
            hard_state,
            entries,
        }
    }

    /// Whether the leader may count [`PEER`] up to `index`.
    fn may_count(safety: &Safety, index: Index) -> bool {
        let watched = &safety.nodes[&LEADER];
        let peer = PeerStatus {
            match_index: index,
            next_index: index.next(),
            mode: PeerMode::Replicate,
            active: true,
        };
        let status = Status {
            id: LEADER,
            term: Term(1),
            role: RoleKind::Leader,
            leader: Some(LEADER),
            commit_index: watched.commit,
            applied_index: watched.applied,
            last: watched.written.last(),
            durable_index: watched.durable.last().index,
            base: EntryId::ZERO,
            snapshot: EntryId::ZERO,
            configuration: Arc::clone(&watched.members.latest().1),
            configuration_index: Index::ZERO,
            removed: false,
            progress: BTreeMap::from([(PEER, peer)]),
            load: Load::default(),
        };
        safety.check_matches(&status).is_ok()
    }

    #[test]
    fn nothing_is_counted_of_a_peer_that_never_started() {
        let safety = alone();
        assert!(may_count(&safety, Index::ZERO));
        assert!(!may_count(&safety, Index(1)));
    }

    #[test]
    fn a_later_term_excuses_no_loss_of_what_is_committed() {
        let mut safety = alone();
        let stored = Stored::new(Configuration::unknown());
        safety.started(PEER, &stored).unwrap();
        assert!(!may_count(&safety, Index(1)));
        stands(&mut safety, PEER, 2);
        assert!(!may_count(&safety, Index(1)));
        assert!(
            may_count(&safety, Index(2)),
            "that was uncommitted, and may be gone"
        );
        let follows = Event::BecameFollower {
            term: Term(2),
            leader: None,
        };
        append(&mut safety, PEER, follows);
        assert!(may_count(&safety, Index(1)));
    }

    #[test]
    fn entries_that_are_to_be_replaced_are_not_on_the_disk() {
        let mut safety = alone();
        let id = EntryId::new(Index(1), Term(2));
        let watched = safety.watched(LEADER);
        assert!(watched.has_on_disk(Index(1)) && !watched.has_on_disk(Index(2)));
        watched.written.change(crate::mirror::Change::Append(id));
        assert!(!watched.has_on_disk(Index(1)));
        watched.durable.change(crate::mirror::Change::Append(id));
        assert!(watched.has_on_disk(Index(1)));
    }
}
