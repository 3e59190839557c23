//! Whether a history could have come from one copy of the data, asked by one client at a time.
//!
//! The search is Wing and Gong's with Lowe's memory: take any operation that may be the next to
//! take effect, and go back when no order can go on from there; a set of operations that took
//! effect and the value they left is tried once.
//!
//! - Keys are checked apart, since linearizability is a local property (Herlihy and Wing).
//! - An operation of unknown outcome may take effect at any time after it was asked for, or never.
//! - Values are distinct, so an unknown operation whose value nobody saw can be left out: whoever
//!   took effect after it overwrote it unseen. That keeps the search close to linear.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::history::{Action, Answer, Ending, History, Key, Operation, Value};

/// Why a history is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotLinearizable {
    /// No order explains what the clients of a key were told.
    NoOrder {
        /// The key.
        key: Key,
        /// The first operation that no order reached, with those that overlap it.
        stuck: Vec<Operation>,
    },
    /// The search was given up: the history has too much concurrency to be judged.
    TooHard {
        /// The key.
        key: Key,
    },
}

/// Checks a whole history.
///
/// # Errors
/// When it is not linearizable, or the search was given up.
pub fn check(history: &History) -> Result<(), NotLinearizable> {
    let mut keys: BTreeMap<Key, Vec<Operation>> = BTreeMap::new();
    for operation in history.operations() {
        keys.entry(operation.key).or_default().push(*operation);
    }
    keys.into_iter()
        .try_for_each(|(key, operations)| Search::new(relevant(operations)).run(key))
}

/// Leaves out the operations of unknown outcome that nobody can have noticed.
fn relevant(mut operations: Vec<Operation>) -> Vec<Operation> {
    loop {
        let seen: BTreeSet<Value> = operations.iter().flat_map(values_seen).collect();
        let before = operations.len();
        operations.retain(|operation| match (operation.ending, operation.action) {
            (Ending::Answered { .. }, _) => true,
            (Ending::Unknown, Action::Read) => false,
            (Ending::Unknown, Action::Write(new) | Action::Swap { new, .. }) => seen.contains(&new),
        });
        if operations.len() == before {
            return operations;
        }
    }
}

/// The values whose presence the operation depends on.
fn values_seen(operation: &Operation) -> impl Iterator<Item = Value> + use<> {
    let answered = match operation.ending {
        Ending::Answered {
            answer: Answer::Found(value) | Answer::Kept(value),
            ..
        } => value,
        Ending::Answered { .. } | Ending::Unknown => None,
    };
    let expected = match operation.action {
        Action::Swap { expected, .. } => expected,
        Action::Write(_) | Action::Read => None,
    };
    answered.into_iter().chain(expected)
}

/// What is there after `operation` takes effect on `value`; none if it cannot take effect there.
fn effect(operation: &Operation, value: Option<Value>) -> Option<Option<Value>> {
    let answer = match operation.ending {
        Ending::Answered { answer, .. } => Some(answer),
        Ending::Unknown => None,
    };
    match (operation.action, answer) {
        (Action::Write(new), None | Some(Answer::Written)) => Some(Some(new)),
        (Action::Read, Some(Answer::Found(found))) => (found == value).then_some(value),
        (Action::Swap { expected, new }, None | Some(Answer::Swapped)) => {
            (expected == value).then_some(Some(new))
        }
        (Action::Swap { expected, .. }, Some(Answer::Kept(kept))) => {
            (kept == value && expected != value).then_some(value)
        }
        // An answer of another kind than the question: no state explains it.
        (Action::Write(_) | Action::Read | Action::Swap { .. }, _) => None,
    }
}

/// One end of an operation, in the order of moments.
#[derive(Clone, Copy)]
enum Edge {
    Call(usize),
    Return(usize),
}

/// The edges still in play form a doubly linked list; taken operations are unlinked and linked again.
struct Search {
    operations: Vec<Operation>,
    edges: Vec<Edge>,
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Where the return of each operation is among the edges; none when it has no end.
    returns: Vec<Option<usize>>,
    taken: Vec<u64>,
    /// Who must take effect on the value that each operation brings.
    observers: Vec<Vec<usize>>,
    /// Answered operations that have not taken effect yet.
    missing: usize,
    deepest: (usize, Option<usize>),
}

struct Step {
    edge: usize,
    before: Option<Value>,
}

impl Search {
    fn new(operations: Vec<Operation>) -> Self {
        let mut order: Vec<(u64, Edge)> = Vec::new();
        for (n, operation) in operations.iter().enumerate() {
            order.push((operation.invoked.0, Edge::Call(n)));
            if let Ending::Answered { at, .. } = operation.ending {
                order.push((at.0, Edge::Return(n)));
            }
        }
        order.sort_by_key(|(moment, _)| *moment);
        let edges: Vec<Edge> = order.into_iter().map(|(_, edge)| edge).collect();
        let mut returns = vec![None; operations.len()];
        for (at, edge) in edges.iter().enumerate() {
            if let Edge::Return(n) = edge {
                returns[*n] = Some(at);
            }
        }
        // Place `count` is the head and the tail of the list.
        let count = edges.len();
        Self {
            next: (1..=count).chain([0]).collect(),
            prev: [count].into_iter().chain(0..count).collect(),
            taken: vec![0; operations.len().div_ceil(64)],
            missing: returns.iter().flatten().count(),
            deepest: (usize::MAX, None),
            observers: observers(&operations),
            operations,
            edges,
            returns,
        }
    }

    fn run(mut self, key: Key) -> Result<(), NotLinearizable> {
        let head = self.edges.len();
        let mut seen: BTreeSet<(usize, Vec<u64>, Option<Value>)> = BTreeSet::new();
        let mut memory = 0;
        let mut steps: Vec<Step> = Vec::new();
        let mut value = None;
        let mut at = self.next[head];
        while self.missing > 0 {
            if let Some((n, after)) = self.possible(at, value) {
                self.take(at, n);
                let (skipped, rest) = self.taken_set();
                memory += rest.len() * 8 + 64;
                if seen.insert((skipped, rest, after)) {
                    steps.push(Step {
                        edge: at,
                        before: value,
                    });
                    value = after;
                    at = self.next[head];
                } else {
                    self.give_back(at, n);
                    at = self.next[at];
                }
            } else if at != head && matches!(self.edges[at], Edge::Call(_)) {
                at = self.next[at];
            } else {
                self.note_dead_end(at);
                let Some(step) = steps.pop() else {
                    return Err(self.no_order(key));
                };
                let Edge::Call(n) = self.edges[step.edge] else {
                    unreachable!("only calls are taken");
                };
                self.give_back(step.edge, n);
                value = step.before;
                at = self.next[step.edge];
            }
            if memory > MOST_MEMORY {
                return Err(NotLinearizable::TooHard { key });
            }
        }
        Ok(())
    }

    /// The operation called at `at` and what it would leave, if it may be the next to take effect.
    fn possible(&self, at: usize, value: Option<Value>) -> Option<(usize, Option<Value>)> {
        match self.edges.get(at)? {
            Edge::Call(n) => {
                let after = effect(&self.operations[*n], value)?;
                self.is_observed_next(*n).then_some((*n, after))
            }
            Edge::Return(_) => None,
        }
    }

    /// Whether the value that operation `n` brings can be seen by one who must see it, right after.
    ///
    /// Values are distinct, so whoever saw it took effect before any other change: one of them comes next.
    fn is_observed_next(&self, n: usize) -> bool {
        let observers = &self.observers[n];
        let mut at = self.next[self.edges.len()];
        while !observers.is_empty() {
            match self.edges.get(at) {
                Some(Edge::Call(other)) if observers.contains(other) => return true,
                Some(Edge::Return(other)) if *other != n => return false,
                Some(Edge::Call(_) | Edge::Return(_)) => at = self.next[at],
                None => return false,
            }
        }
        true
    }

    /// Which operations took effect: how many words of the set are full, and those after them that are not empty.
    fn taken_set(&self) -> (usize, Vec<u64>) {
        let full = self.taken.iter().take_while(|word| **word == u64::MAX).count();
        let used = self
            .taken
            .iter()
            .rposition(|word| *word != 0)
            .map_or(0, |last| last + 1);
        (
            full,
            self.taken
                .get(full..used)
                .map(<[u64]>::to_vec)
                .unwrap_or_default(),
        )
    }

    fn take(&mut self, call: usize, n: usize) {
        self.taken[n / 64] |= 1 << (n % 64);
        self.unlink(call);
        if let Some(end) = self.returns[n] {
            self.unlink(end);
            self.missing -= 1;
        }
    }

    fn give_back(&mut self, call: usize, n: usize) {
        self.taken[n / 64] &= !(1 << (n % 64));
        if let Some(end) = self.returns[n] {
            self.link(end);
            self.missing += 1;
        }
        self.link(call);
    }

    fn unlink(&mut self, at: usize) {
        let (prev, next) = (self.prev[at], self.next[at]);
        self.next[prev] = next;
        self.prev[next] = prev;
    }

    fn link(&mut self, at: usize) {
        let (prev, next) = (self.prev[at], self.next[at]);
        self.next[prev] = at;
        self.prev[next] = at;
    }

    fn note_dead_end(&mut self, at: usize) {
        if self.missing < self.deepest.0 {
            self.deepest = (self.missing, Some(at));
        }
    }

    fn no_order(&self, key: Key) -> NotLinearizable {
        let blocked = self.deepest.1.and_then(|at| self.edges.get(at));
        let stuck = match blocked {
            Some(Edge::Return(n) | Edge::Call(n)) => {
                let blocked = self.operations[*n];
                let overlapping = self.operations.iter().filter(|other| overlap(&blocked, other));
                overlapping.copied().collect()
            }
            None => self.operations.clone(),
        };
        NotLinearizable::NoOrder { key, stuck }
    }
}

/// For each operation, those that can only take effect on the value that it brings.
fn observers(operations: &[Operation]) -> Vec<Vec<usize>> {
    let brings = |operation: &Operation| match operation.action {
        Action::Write(new) | Action::Swap { new, .. } => Some(new),
        Action::Read => None,
    };
    let mut by_value: BTreeMap<Value, Vec<usize>> = BTreeMap::new();
    for (n, operation) in operations.iter().enumerate() {
        if let Some(value) = value_needed(operation) {
            by_value.entry(value).or_default().push(n);
        }
    }
    let of = |value: Value| by_value.get(&value).cloned().unwrap_or_default();
    operations
        .iter()
        .map(|operation| brings(operation).map(of).unwrap_or_default())
        .collect()
}

/// The value on which an operation that was answered took effect, if the answer tells.
fn value_needed(operation: &Operation) -> Option<Value> {
    match (operation.ending, operation.action) {
        (
            Ending::Answered {
                answer: Answer::Found(value) | Answer::Kept(value),
                ..
            },
            _,
        ) => value,
        (
            Ending::Answered {
                answer: Answer::Swapped,
                ..
            },
            Action::Swap { expected, .. },
        ) => expected,
        (Ending::Answered { .. } | Ending::Unknown, _) => None,
    }
}

/// Whether neither of two operations ended before the other began.
fn overlap(a: &Operation, b: &Operation) -> bool {
    let ends = |operation: &Operation| match operation.ending {
        Ending::Answered { at, .. } => at.0,
        Ending::Unknown => u64::MAX,
    };
    a.invoked.0 <= ends(b) && b.invoked.0 <= ends(a)
}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOrder { key, stuck } => {
                write!(f, "no order explains key {}; where it is stuck:", key.0)?;
                stuck
                    .iter()
                    .try_for_each(|operation| write!(f, "\n  {operation}"))
            }
            Self::TooHard { key } => write!(f, "key {} has too much concurrency to be judged", key.0),
        }
    }
}

/// Bounds the search's memory, in bytes.
const MOST_MEMORY: usize = 256 << 20;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod second;
#[cfg(test)]
mod tests;
