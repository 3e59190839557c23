//! What state machines were made to do, by the index that did it (H4, H5).
//!
//! - Clients never want the same value twice, so a value names what a client wants once, however often it
//!   has to be asked for. Whatever tells retries apart, here it is held to its word.
//! - All nodes apply the same commands at the same indexes, so the first that applies one speaks for all.
//! - A local read may be late: it must find a state that was, and a node goes forward through them.

use std::collections::BTreeMap;

use quorate_raft::{Index, NodeId};

use crate::history::{Action, Answer, Ending, History, Key, Value};
use crate::invariant::{Invariant, Violation, require};
use crate::server::Life;

/// A command that a state machine carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) index: Index,
    pub(crate) key: Key,
    /// What was to be written: the name of the request.
    pub(crate) wanted: Value,
    /// What is there since.
    pub(crate) left: Option<Value>,
}

/// Every command carried out, and every state that was.
#[derive(Debug, Default)]
pub(crate) struct Executions {
    done: BTreeMap<Value, Index>,
    /// Each value of a key, with the index that brought it, in order.
    versions: BTreeMap<Key, Vec<(Index, Value)>>,
    /// The oldest state that the next local read at a node, in one life, may find.
    floors: BTreeMap<(NodeId, Life), Index>,
}

impl Executions {
    /// A node's state machine has carried out a command.
    pub(crate) fn ran(&mut self, node: NodeId, execution: Execution) -> Result<(), Violation> {
        let Execution {
            index,
            key,
            wanted,
            left,
        } = execution;
        let first = *self.done.entry(wanted).or_insert(index);
        require(first == index, Invariant::OnceOnly, || {
            format!(
                "{node} carries out the request for {} at {index}, it was at {first}",
                wanted.0
            )
        })?;
        let versions = self.versions.entry(key).or_default();
        let is_news = versions.last().is_none_or(|(last, _)| *last < index);
        if let Some(value) = left.filter(|value| *value == wanted && is_news) {
            versions.push((index, value));
        }
        Ok(())
    }

    /// A client read a key locally at a node, in one of its lives.
    pub(crate) fn read_locally(
        &mut self,
        (node, life): (NodeId, Life),
        key: Key,
        found: Option<Value>,
    ) -> Result<(), Violation> {
        let span = self.lifetime(key, found);
        let floor = self.floors.entry((node, life)).or_default();
        let goes_forward = span.is_some_and(|(_, end)| end.is_none_or(|end| end > *floor));
        require(goes_forward, Invariant::PastState, || {
            format!(
                "{node} reads {found:?} of key {} locally, which was there in {span:?}, after a state of {floor}",
                key.0
            )
        })?;
        let (begin, _) = span.unwrap_or_default();
        *floor = begin.max(*floor);
        Ok(())
    }

    /// A client is told what came of its request, which is what the entry at `index` did.
    pub(crate) fn answered(&self, wanted: Value, index: Index) -> Result<(), Violation> {
        let done = self.done.get(&wanted);
        require(done == Some(&index), Invariant::OnceOnly, || {
            format!(
                "the request for {} is answered by {index}, it was carried out at {done:?}",
                wanted.0
            )
        })
    }

    /// Whatever a client was told was done, was done.
    pub(crate) fn check_answers(&self, history: &History) -> Result<(), Violation> {
        for operation in history.operations() {
            let Ending::Answered {
                answer: Answer::Written | Answer::Swapped | Answer::Kept(_),
                ..
            } = operation.ending
            else {
                continue;
            };
            let (Action::Write(wanted) | Action::Swap { new: wanted, .. }) = operation.action else {
                continue;
            };
            require(self.done.contains_key(&wanted), Invariant::OnceOnly, || {
                format!("no state machine carried out: {operation}")
            })?;
        }
        Ok(())
    }

    /// From which index on, and before which, a key had this value; none if it never had.
    fn lifetime(&self, key: Key, value: Option<Value>) -> Option<(Index, Option<Index>)> {
        let none = Vec::new();
        let versions = self.versions.get(&key).unwrap_or(&none);
        let Some(value) = value else {
            return Some((Index::ZERO, versions.first().map(|(index, _)| *index)));
        };
        let place = versions.iter().rposition(|(_, other)| *other == value)?;
        Some((
            versions[place].0,
            versions.get(place + 1).map(|(index, _)| *index),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: (NodeId, Life) = (NodeId(1), Life(1));

    fn write(index: u64, key: u64, value: u64) -> Execution {
        Execution {
            index: Index(index),
            key: Key(key),
            wanted: Value(value),
            left: Some(Value(value)),
        }
    }

    fn broken(result: Result<(), Violation>) -> Option<Invariant> {
        result.err().map(|violation| violation.invariant)
    }

    #[test]
    fn a_request_is_carried_out_at_one_index_only() {
        let mut executions = Executions::default();
        executions.ran(NodeId(1), write(3, 1, 10)).unwrap();
        executions.ran(NodeId(2), write(3, 1, 10)).unwrap();
        let again = executions.ran(NodeId(2), write(5, 1, 10));
        assert_eq!(broken(again), Some(Invariant::OnceOnly));
    }

    #[test]
    fn what_was_answered_was_carried_out() {
        let mut history = History::default();
        let id = history.invoke(1, Key(1), Action::Write(Value(10)));
        history.answer(id, Answer::Written);
        let mut executions = Executions::default();
        assert_eq!(
            broken(executions.check_answers(&history)),
            Some(Invariant::OnceOnly)
        );
        executions.ran(NodeId(1), write(3, 1, 10)).unwrap();
        executions.check_answers(&history).unwrap();
    }

    #[test]
    fn a_swap_that_kept_what_was_there_was_carried_out_too() {
        let mut history = History::default();
        let new = Value(10);
        let id = history.invoke(1, Key(1), Action::Swap { expected: None, new });
        history.answer(id, Answer::Kept(Some(Value(9))));
        let lacking = Executions::default().check_answers(&history);
        assert_eq!(broken(lacking), Some(Invariant::OnceOnly));
    }

    #[test]
    fn an_answer_is_that_of_the_request_it_is_given_to() {
        let mut executions = Executions::default();
        executions.ran(NodeId(1), write(3, 1, 10)).unwrap();
        executions.ran(NodeId(1), write(4, 1, 11)).unwrap();
        executions.answered(Value(10), Index(3)).unwrap();
        for (wanted, index) in [(10, 4), (11, 3), (12, 5)] {
            let swapped = executions.answered(Value(wanted), Index(index));
            assert_eq!(broken(swapped), Some(Invariant::OnceOnly));
        }
    }

    #[test]
    fn local_reads_may_be_late_and_not_go_back() {
        let mut executions = Executions::default();
        for (index, key, value) in [(1, 1, 10), (2, 2, 20), (3, 1, 11)] {
            executions.ran(NodeId(1), write(index, key, value)).unwrap();
        }
        let mut read =
            |at, key, value: Option<u64>| broken(executions.read_locally(at, Key(key), value.map(Value)));
        assert_eq!(read(NODE, 1, None), None);
        assert_eq!(read(NODE, 1, Some(10)), None);
        assert_eq!(read(NODE, 2, None), None, "the state after 1");
        assert_eq!(read(NODE, 1, Some(11)), None);
        assert_eq!(
            read(NODE, 2, None),
            Some(Invariant::PastState),
            "20 was there before 11"
        );
        assert_eq!(read(NODE, 1, Some(10)), Some(Invariant::PastState));
        assert_eq!(
            read(NODE, 1, Some(99)),
            Some(Invariant::PastState),
            "it never was"
        );
        assert_eq!(
            read((NodeId(1), Life(2)), 1, Some(10)),
            None,
            "a new life begins earlier"
        );
        assert_eq!(
            read((NodeId(2), Life(1)), 1, Some(10)),
            None,
            "so may another node"
        );
    }
}
