//! Histories known good and known bad, by name.
//!
//! A line is an operation on one key: `write V`, `read V`, `swap EXPECTED NEW` with what it answered, and
//! when it was asked and answered: `1..4`. `-` is nothing, `?` for the end is an unknown outcome.

use super::{Search, relevant, second};
use crate::history::{Action, Answer, Ending, Key, Moment, Operation, Value};

const GOOD: &[(&str, &str)] = &[
    ("nothing happened", ""),
    (
        "one after the other",
        "write 1 1..2; read 1 3..4; write 2 5..6; read 2 7..8",
    ),
    (
        "a read beside a write sees the value before",
        "write 1 1..4; read - 2..3",
    ),
    (
        "a read beside a write sees the value after",
        "write 1 1..4; read 1 2..3",
    ),
    (
        "two reads beside a write see it come",
        "write 1 1..8; read - 2..3; read 1 4..5",
    ),
    (
        "writes beside each other take effect in either order",
        "write 1 1..4; write 2 2..3; read 1 5..6",
    ),
    (
        "an unknown write is seen late",
        "write 9 1..?; write 1 2..3; read 1 4..5; read 9 6..7",
    ),
    (
        "an unknown write is never seen",
        "write 9 1..?; write 1 2..3; read 1 4..5; read 1 6..7",
    ),
    (
        "two unknown writes are seen in the other order",
        "write 8 1..?; write 9 2..?; read 9 3..4; read 8 5..6",
    ),
    (
        "a swap sees what is there",
        "write 1 1..2; swap 1 2 done 3..4; read 2 5..6",
    ),
    (
        "of two swaps of nothing one is refused",
        "swap - 1 done 1..2; swap - 2 kept 1 3..4; read 1 5..6",
    ),
    (
        "swaps beside each other form a chain",
        "swap 1 2 done 1..9; swap - 1 done 2..8; read 2 10..11",
    ),
    (
        "an unknown swap explains a refusal",
        "swap - 1 unknown 1..?; swap - 2 kept 1 2..3",
    ),
    (
        "an unknown swap waits for what it expects",
        "swap 1 2 unknown 1..?; write 1 2..3; read 1 4..5; read 2 6..7",
    ),
    (
        "reads of one moment differ while the write is under way",
        "write 1 1..2; write 2 3..10; read 1 4..5; read 2 6..7; read 2 8..9",
    ),
];

const BAD: &[(&str, &str)] = &[
    ("a stale read", "write 1 1..2; write 2 3..4; read 1 5..6"),
    ("a lost write", "write 1 1..2; read - 3..4"),
    ("a value from nowhere", "read 7 1..2"),
    ("a value from the future", "read 1 1..2; write 1 3..4"),
    (
        "time goes back between two readers",
        "write 1 1..9; read 1 2..3; read - 4..5",
    ),
    (
        "two readers see two writes in different orders",
        "write 1 1..9; write 2 2..8; read 1 3..4; read 2 5..6; read 1 7..10",
    ),
    (
        "an unknown write takes effect twice",
        "write 9 1..?; read 9 2..3; write 1 4..5; read 1 6..7; read 9 8..9",
    ),
    (
        "two swaps both find nothing",
        "swap - 1 done 1..2; swap - 2 done 3..4",
    ),
    ("a swap refuses what it asked for", "swap - 1 kept - 1..2"),
    (
        "a swap finds what was gone",
        "write 1 1..2; write 2 3..4; swap 1 3 done 5..6",
    ),
    ("a swap is lost", "write 1 1..2; swap 1 2 done 3..4; read 1 5..6"),
    (
        "an unknown swap takes effect before it was asked",
        "write 1 1..2; read 2 3..4; swap 1 2 unknown 5..?",
    ),
    (
        "split brain: two leaders take writes and serve them",
        "write 1 1..2; write 2 3..4; read 1 5..6; read 2 7..8",
    ),
    (
        "a deposed leader serves a read after the new one has written",
        "write 1 1..2; write 2 3..6; read 2 4..5; read 1 7..8",
    ),
    (
        "three swaps in a circle",
        "swap 1 2 done 1..9; swap 2 3 done 2..8; swap 3 1 done 3..7",
    ),
];

#[test]
fn known_histories_are_judged_rightly() {
    for (name, text) in GOOD {
        assert_eq!(verdicts(text), (true, true), "good, says everyone: {name}");
    }
    for (name, text) in BAD {
        assert_eq!(verdicts(text), (false, false), "bad, says everyone: {name}");
    }
}

/// What the checker and the second opinion say.
fn verdicts(text: &str) -> (bool, bool) {
    let operations: Vec<Operation> = text
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(parse)
        .collect();
    let first = Search::new(relevant(operations.clone())).run(Key(0)).is_ok();
    (first, second::is_linearizable(&operations))
}

fn parse(line: &str) -> Operation {
    let words: Vec<&str> = line.split(' ').collect();
    let (invoked, end) = words[words.len() - 1].split_once("..").expect("from and to");
    let (action, answer) = match words[..words.len() - 1] {
        ["write", new] => (Action::Write(value(new).expect("a value")), Some(Answer::Written)),
        ["read", found] => (Action::Read, Some(Answer::Found(value(found)))),
        ["swap", expected, new, ref answer @ ..] => {
            let new = value(new).expect("a value");
            let expected = value(expected);
            (Action::Swap { expected, new }, swap_answer(answer))
        }
        _ => panic!("no operation: {line}"),
    };
    let ending = match (end, answer) {
        ("?", _) => Ending::Unknown,
        (end, Some(answer)) => Ending::Answered {
            at: Moment(end.parse().unwrap()),
            answer,
        },
        (_, None) => panic!("an answer is due: {line}"),
    };
    Operation {
        client: 0,
        key: Key(0),
        action,
        invoked: Moment(invoked.parse().unwrap()),
        ending,
    }
}

fn swap_answer(words: &[&str]) -> Option<Answer> {
    match words {
        ["done"] => Some(Answer::Swapped),
        ["kept", kept] => Some(Answer::Kept(value(kept))),
        ["unknown"] => None,
        _ => panic!("no answer to a swap: {words:?}"),
    }
}

fn value(word: &str) -> Option<Value> {
    (word != "-").then(|| Value(word.parse().unwrap()))
}
