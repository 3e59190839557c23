//! A second opinion, which shares nothing with the search: writes down every order and replays it.
//!
//! Nothing is left out, nothing is remembered, nothing is clever: for up to eight operations.

use crate::history::{Action, Answer, Ending, Operation, Value};

/// Whether some order of the answered operations and of some of the unknown ones explains every answer.
pub(super) fn is_linearizable(operations: &[Operation]) -> bool {
    assert!(operations.len() <= 8, "orders grow as the factorial");
    let unknown: Vec<usize> = (0..operations.len())
        .filter(|n| operations[*n].ending == Ending::Unknown)
        .collect();
    (0_u32..1 << unknown.len()).any(|set| {
        let happened = |n: &usize| match unknown.iter().position(|other| other == n) {
            Some(place) => set & (1 << place) != 0,
            None => true,
        };
        let mut order: Vec<usize> = (0..operations.len()).filter(happened).collect();
        loop {
            if respects_time(operations, &order) && explains(operations, &order) {
                return true;
            }
            if !next_order(&mut order) {
                return false;
            }
        }
    })
}

/// Nobody comes after one that was only asked for when it had its answer.
fn respects_time(operations: &[Operation], order: &[usize]) -> bool {
    order.iter().enumerate().all(|(place, late)| {
        order[..place].iter().all(|early| match operations[*late].ending {
            Ending::Answered { at, .. } => operations[*early].invoked < at,
            Ending::Unknown => true,
        })
    })
}

/// Plays the operations on a register and compares what it says.
fn explains(operations: &[Operation], order: &[usize]) -> bool {
    let mut register: Option<Value> = None;
    order.iter().all(|n| {
        let said = play(&mut register, operations[*n].action);
        match operations[*n].ending {
            Ending::Answered { answer, .. } => answer == said,
            // One that did nothing is as good as one that did not happen, and that is another set.
            Ending::Unknown => !matches!(said, Answer::Kept(_)),
        }
    })
}

fn play(register: &mut Option<Value>, action: Action) -> Answer {
    let found = *register;
    if let Action::Write(new) = action {
        *register = Some(new);
        return Answer::Written;
    }
    let Action::Swap { expected, new } = action else {
        return Answer::Found(found);
    };
    if found != expected {
        return Answer::Kept(found);
    }
    *register = Some(new);
    Answer::Swapped
}

/// The next order in the dictionary's sense; false after the last.
fn next_order(order: &mut [usize]) -> bool {
    let Some(pivot) = (1..order.len()).rev().find(|n| order[n - 1] < order[*n]) else {
        return false;
    };
    let last_above = (pivot..order.len()).rev().find(|n| order[*n] > order[pivot - 1]);
    order.swap(pivot - 1, last_above.expect("the pivot is above"));
    order[pivot..].reverse();
    true
}
