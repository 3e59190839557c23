//! The search against the definition, on random histories.

use super::*;
use crate::history::Moment;
use crate::rng::{Chance, Rng, Stream};

fn answered(invoked: u64, at: u64, action: Action, answer: Answer) -> Operation {
    let ending = Ending::Answered {
        at: Moment(at),
        answer,
    };
    Operation {
        ending,
        ..unknown(invoked, action)
    }
}

fn unknown(invoked: u64, action: Action) -> Operation {
    Operation {
        client: 0,
        key: Key(0),
        action,
        invoked: Moment(invoked),
        ending: Ending::Unknown,
    }
}

fn is_linearizable(operations: &[Operation]) -> bool {
    Search::new(relevant(operations.to_vec())).run(Key(0)).is_ok()
}

/// The definition itself: tries every order, of every subset of those of unknown outcome.
fn naive(operations: &[Operation], left: u32, value: Option<Value>) -> bool {
    let is_left = |n: usize| left & (1 << n) != 0;
    let end = |operation: &Operation| match operation.ending {
        Ending::Answered { at, .. } => at.0,
        Ending::Unknown => u64::MAX,
    };
    let pending = || {
        operations
            .iter()
            .enumerate()
            .filter(|(n, _)| is_left(*n))
            .map(|(_, o)| o)
    };
    if pending().all(|operation| operation.ending == Ending::Unknown) {
        return true;
    }
    let first_end = pending().map(end).min().unwrap_or(u64::MAX);
    operations.iter().enumerate().any(|(n, operation)| {
        is_left(n)
            && operation.invoked.0 <= first_end
            && effect(operation, value).is_some_and(|after| naive(operations, left & !(1 << n), after))
    })
}

/// Overlapping operations on a true register, with some answers falsified.
fn random_history(rng: &mut Rng) -> Vec<Operation> {
    let mut value = None;
    let mut operations: Vec<Operation> = Vec::new();
    for n in 1..=rng.between(1, 8) {
        let action = match rng.below(3) {
            0 => Action::Write(Value(n)),
            1 => Action::Read,
            _ => Action::Swap {
                expected: value.filter(|_| rng.chance(Chance::percent(80))),
                new: Value(n),
            },
        };
        let answer = match action {
            Action::Write(_) => Answer::Written,
            Action::Read => Answer::Found(value),
            Action::Swap { expected, .. } if expected == value => Answer::Swapped,
            Action::Swap { .. } => Answer::Kept(value),
        };
        let (invoked, at) = (
            100 * n - rng.below(150).min(100 * n - 1),
            100 * n + rng.below(150),
        );
        let operation = answered(2 * invoked, 2 * at + 1, action, answer);
        if rng.chance(Chance::percent(50)) {
            value = effect(&operation, value).unwrap();
        }
        let is_unknown = rng.chance(Chance::percent(20));
        operations.push(if is_unknown {
            unknown(2 * invoked, action)
        } else {
            operation
        });
    }
    operations
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let mut rng = Rng::new(11, Stream::Config);
    let mut accepted = 0;
    for _ in 0..3_000 {
        let history = random_history(&mut rng);
        let expected = naive(&history, (1 << history.len()) - 1, None);
        assert_eq!(is_linearizable(&history), expected, "{history:#?}");
        accepted += u32::from(expected);
    }
    assert!(
        (600..2_400).contains(&accepted),
        "both kinds must be common: {accepted} of 3000"
    );
}

#[test]
fn keys_are_checked_apart_and_the_failure_names_the_key() {
    let mut history = History::default();
    let good = history.invoke(1, Key(1), Action::Write(Value(1)));
    history.answer(good, Answer::Written);
    assert_eq!(check(&history), Ok(()));
    let bad = history.invoke(1, Key(2), Action::Read);
    history.answer(bad, Answer::Found(Some(Value(1))));
    let error = check(&history).unwrap_err();
    assert!(error.to_string().contains("key 2"), "{error}");
    assert!(error.to_string().contains("found 1"), "{error}");
}

#[test]
fn a_long_history_of_many_clients_is_judged_quickly() {
    let mut history = History::default();
    let mut rng = Rng::new(5, Stream::Config);
    let mut value = None;
    for n in 0..4_000 {
        let others: Vec<_> = (0..4).map(|c| history.invoke(c, Key(0), Action::Read)).collect();
        let id = history.invoke(9, Key(0), Action::Write(Value(n)));
        for other in others {
            history.answer(
                other,
                Answer::Found(if rng.coin() { value } else { Some(Value(n)) }),
            );
        }
        value = Some(Value(n));
        history.answer(id, Answer::Written);
    }
    assert_eq!(check(&history), Ok(()));
}

/// Falsifies one answer, or lets one operation end before it could.
fn mutate(rng: &mut Rng, operations: &mut [Operation]) {
    let n = place(rng.below(operations.len() as u64));
    let value = Some(Value(rng.below(9))).filter(|_| rng.coin());
    let operation = &mut operations[n];
    let Ending::Answered { at, answer } = operation.ending else {
        operation.ending = Ending::Unknown;
        return;
    };
    let falsified = match answer {
        Answer::Found(_) => Answer::Found(value),
        Answer::Kept(_) if rng.coin() => Answer::Swapped,
        Answer::Kept(_) | Answer::Swapped => Answer::Kept(value),
        Answer::Written => {
            operation.invoked = Moment(operation.invoked.0 / 6 * 2);
            answer
        }
    };
    operation.ending = Ending::Answered {
        at,
        answer: falsified,
    };
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

#[test]
fn the_search_agrees_with_a_second_opinion_on_true_and_falsified_histories() {
    let mut rng = Rng::new(12, Stream::Config);
    let mut accepted = 0;
    for n in 0..1_500 {
        let mut history = random_history(&mut rng);
        history.truncate(6);
        if n % 2 == 0 {
            mutate(&mut rng, &mut history);
        }
        let expected = second::is_linearizable(&history);
        assert_eq!(is_linearizable(&history), expected, "{history:#?}");
        accepted += u32::from(expected);
    }
    assert!(
        (300..1_300).contains(&accepted),
        "both kinds must be common: {accepted} of 1500"
    );
}
