//! Exhaustive model checking of the real core: every state that a small cluster can come to.
//!
//! - Breadth first, so that what is found wrong is shown by as few steps as there can be.
//! - A message arrives after any delay, or never; before or after others as [`Order`] says.
//! - A node can die at any moment, with any number of its unfinished writes on the disk. Being down is
//!   nothing of its own: to whom nothing happens is as good as dead.
//! - States are told apart by 64-bit hashes: two that share one would be taken for one.
//!
//! [`Bounds`] keep the space finite: how often time runs out, clients ask and nodes die, and up to
//! which term. Within them nothing is left out, except that the node whose time runs out first is the
//! first one (all are alike), and that every node draws the shortest timeout.
//!
//! Left out: snapshots, reads, leases, and changes of membership.

mod laws;
mod machine;
mod memory;
mod space;

use std::fmt;

use quorate_raft::NodeId;

use crate::invariant::Invariant;

/// How far a model is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many nodes there are.
    pub nodes: u64,
    /// No node campaigns beyond this term.
    pub terms: u64,
    /// How often a node's patience ends, in all.
    pub timeouts: u8,
    /// How often a leader sends heartbeats, in all.
    pub heartbeats: u8,
    /// How many commands clients propose, in all.
    pub proposals: u8,
    /// How often a node dies, in all.
    pub crashes: u8,
    /// How messages overtake each other.
    pub order: Order,
    /// How often a message is lost and a later one of its stream is not, in all. In any order it needs
    /// no step of its own: to be lost is to arrive after the end.
    pub losses: u8,
    /// How often a message arrives once more than it was sent, in all.
    pub repeats: u8,
    /// Where to stop although states are left.
    pub states: usize,
}

/// How messages overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Never on their way from one node to another, like on one connection.
    Streams,
    /// As they like. Of two equal ones under way, one is enough.
    Any,
}

/// What is wrong with a model on purpose, to show that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A disk forgets in a crash whom its node voted for.
    ForgottenVote,
    /// Writes are reported durable when they have only begun.
    EarlyPersist,
}

/// What an exploration found, and how far it went.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Distinct states.
    pub states: usize,
    /// Steps from state to state, those to known states included.
    pub transitions: u64,
    /// The most steps from the start that any state needs.
    pub depth: usize,
    /// Distinct states of a single node, each computed by the real core.
    pub machines: usize,
    /// Distinct messages.
    pub messages: usize,
    /// Whether every state within the bounds was seen.
    pub coverage: Coverage,
    /// The highest commit index that any state reached.
    pub committed: usize,
    /// The nodes that lead in some state, by term.
    pub leaders: Vec<(u64, NodeId)>,
    /// What is wrong, if anything is.
    pub counterexample: Option<Counterexample>,
}

/// Whether an exploration came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Every state within the bounds was seen.
    Whole,
    /// It stopped at [`Bounds::states`], or at something wrong.
    Part,
}

/// Steps from the start to something wrong.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What does not hold.
    pub invariant: Invariant,
    /// How.
    pub detail: String,
    /// A line for each step, and for each thing that a node does in it.
    pub lines: Vec<String>,
}

/// Explores everything within `bounds`.
#[must_use]
pub fn explore(bounds: &Bounds, flaw: Flaw) -> Findings {
    space::Space::new(*bounds, flaw).explore()
}

impl Bounds {
    /// What is explored for every change: less than a minute.
    #[must_use]
    pub fn small() -> Vec<Self> {
        let two_elections = Self::three_nodes();
        let one_election = Self {
            timeouts: 1,
            ..two_elections
        };
        vec![
            two_elections,
            Self {
                proposals: 1,
                crashes: 1,
                losses: 1,
                ..one_election
            },
            Self {
                proposals: 2,
                repeats: 1,
                ..one_election
            },
            Self {
                crashes: 1,
                order: Order::Any,
                ..one_election
            },
        ]
    }

    /// What takes minutes, and some gigabytes.
    #[must_use]
    pub fn full() -> Vec<Self> {
        let two_elections = Self::three_nodes();
        let command = Self {
            proposals: 1,
            ..two_elections
        };
        let crash = Self {
            crashes: 1,
            ..two_elections
        };
        let any_order = Self {
            timeouts: 1,
            proposals: 1,
            order: Order::Any,
            ..two_elections
        };
        vec![command, crash, any_order]
    }

    /// Three nodes, two terms, an entry of each leader's own.
    fn three_nodes() -> Self {
        Self {
            nodes: 3,
            terms: 2,
            timeouts: 2,
            heartbeats: 0,
            proposals: 0,
            crashes: 0,
            losses: 0,
            repeats: 0,
            order: Order::Streams,
            states: 50_000_000,
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} nodes, {} terms, {} timeouts, {} heartbeats, {} proposals, {} crashes, {} losses, {} repeats, {}",
            self.nodes,
            self.terms,
            self.timeouts,
            self.heartbeats,
            self.proposals,
            self.crashes,
            self.losses,
            self.repeats,
            match self.order {
                Order::Streams => "in streams",
                Order::Any => "in any order",
            }
        )
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how_far = match self.coverage {
            Coverage::Whole => "all of them",
            Coverage::Part => "not all",
        };
        write!(
            f,
            "{} states ({how_far}), {} transitions, depth {}; {} states of a node, {} messages, commit index up to {}",
            self.states, self.transitions, self.depth, self.machines, self.messages, self.committed
        )
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}
