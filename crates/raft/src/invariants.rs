//! What must be true of a node at any moment, and of any two moments of one life.
//!
//! Checked after every step in tests and simulations. The properties of the paper's figure 3 that
//! speak of several nodes are checked by the simulator, which sees them all.

use std::fmt;

use crate::node::Node;
use crate::status::RoleKind;
use crate::types::{EntryId, Index, NodeId, Term};

/// What invariants compare between two steps of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// This node.
    pub id: NodeId,
    /// Its term.
    pub term: Term,
    /// Who got its vote in that term.
    pub vote: Option<NodeId>,
    /// What it is.
    pub role: RoleKind,
    /// Whom it follows; itself when it leads.
    pub leader: Option<NodeId>,
    /// The highest index known to be committed.
    pub commit_index: Index,
    /// The highest index applied.
    pub applied_index: Index,
    /// The last entry of its log.
    pub last: EntryId,
}

/// True of a node at any moment.
///
/// # Panics
/// When it is not. Costs a pass over the entries in memory.
pub fn check_state(node: &Node) {
    node.check();
    let view = node.view();
    assert!(
        view.last.term <= view.term,
        "an entry of a term that the node has not seen: {view}"
    );
    match view.role {
        RoleKind::Leader => assert_eq!(
            view.leader,
            Some(view.id),
            "a leader that follows another: {view}"
        ),
        RoleKind::Candidate => assert_eq!(
            view.vote,
            Some(view.id),
            "a candidate that voted for another: {view}"
        ),
        RoleKind::PreCandidate => assert_eq!(view.leader, None, "a pre-candidate that follows: {view}"),
        RoleKind::Follower => assert_ne!(view.leader, Some(view.id), "a follower of itself: {view}"),
    }
}

/// True of any two states of a node in the order of time (restarts excepted).
///
/// # Panics
/// When it is not.
pub fn check_step(before: &View, after: &View) {
    assert!(
        before.term <= after.term,
        "I6 the term went back: {before} -> {after}"
    );
    assert!(
        before.commit_index <= after.commit_index,
        "I6 the commit index went back: {before} -> {after}"
    );
    assert!(
        before.applied_index <= after.applied_index,
        "I6 the applied index went back: {before} -> {after}"
    );
    if before.term == after.term {
        assert!(
            before.vote.is_none() || before.vote == after.vote,
            "I6 a second vote in a term: {before} -> {after}"
        );
        if before.role == RoleKind::Leader && after.role == RoleKind::Leader {
            assert!(
                before.last.index <= after.last.index,
                "I2 a leader shortened its log: {before} -> {after}"
            );
        }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {:?}", self.id, self.term, self.role)?;
        match self.vote {
            Some(vote) => write!(f, " vote={vote}")?,
            None => write!(f, " vote=none")?,
        }
        write!(
            f,
            " commit={} applied={} last={}",
            self.commit_index, self.applied_index, self.last
        )
    }
}
