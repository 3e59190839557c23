//! Ranges, puts, deletions, transactions and compactions.

use bytes::Bytes;

use super::{lease, revision};
use crate::call::{Call, Compare, Delete, Keys, LeaseRef, Op, Operand, Put, Range, Rev, Txn, Value};
use crate::rng::Rng;

pub(super) fn range(rng: &mut Rng) -> Range {
    let sort_target = rng.pick(&[0, 0, 0, 1, 2, 3, 4]);
    Range {
        keys: match sort_target {
            0 => keys(rng),
            _ => few_keys(rng),
        },
        limit: rng.pick(&[0, 0, 0, 1, 2, 3, 5, 1000, i64::MAX, -1, i64::MIN]),
        revision: revision(rng),
        sort_order: rng.pick(&[0, 0, 0, 1, 2, 1, 2]),
        sort_target,
        serializable: rng.one_in(4),
        keys_only: rng.one_in(6),
        count_only: rng.one_in(8),
        min_mod: bound(rng),
        max_mod: bound(rng),
        min_create: bound(rng),
        max_create: bound(rng),
    }
}

/// A range whose order or target may not exist. It is in no transaction, since etcd may take it.
pub(super) fn range_alone(rng: &mut Rng) -> Range {
    let range = range(rng);
    match rng.one_in(40) {
        true => Range {
            sort_order: rng.pick(&[3, -1, 0, 2]),
            sort_target: rng.pick(&[5, -1, 3, i32::MAX]),
            ..range
        },
        false => range,
    }
}

pub(super) fn put(rng: &mut Rng) -> Put {
    let ignore_value = rng.one_in(10);
    let ignore_lease = rng.one_in(10);
    Put {
        key: key(rng),
        value: match ignore_value && !rng.one_in(4) {
            true => Value::Text(Bytes::new()),
            false => value(rng),
        },
        lease: match ignore_lease && !rng.one_in(4) || !rng.one_in(4) {
            true => LeaseRef::Id(0),
            false => lease::any(rng),
        },
        prev_kv: rng.one_in(3),
        ignore_value,
        ignore_lease,
    }
}

pub(super) fn delete(rng: &mut Rng) -> Delete {
    Delete {
        keys: keys(rng),
        prev_kv: rng.one_in(2),
    }
}

pub(super) fn txn(rng: &mut Rng) -> Txn {
    let mut txn = match rng.below(60) {
        0 => wide(rng),
        1 => deep(rng),
        2 => strange_compare(rng),
        _ => nested(rng, 3),
    };
    if deletes_without_end(&txn) {
        keep_nothing(&mut txn);
    }
    txn
}

/// Whether anything in it deletes all keys from one on. A put beside that which keeps what a deleted key
/// had ends etcd with a panic.
fn deletes_without_end(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Delete(delete) => delete.keys.range_end == b"\0"[..],
        Op::Txn(within) => deletes_without_end(within),
        Op::Empty | Op::Range(_) | Op::Put(_) => false,
    })
}

fn keep_nothing(txn: &mut Txn) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match op {
            Op::Put(put) => (put.ignore_value, put.ignore_lease) = (false, false),
            Op::Txn(within) => keep_nothing(within),
            Op::Empty | Op::Range(_) | Op::Delete(_) => {}
        }
    }
}

pub(super) fn compact(rng: &mut Rng) -> Call {
    let near = i64::try_from(rng.below(30)).unwrap_or(0);
    Call::Compact {
        revision: match rng.below(8) {
            0 => Rev::Compacted(-near),
            1 => Rev::Current(1 + near),
            2 => Rev::Exactly(rng.pick(&[0, -1, 1, i64::MIN, i64::MAX])),
            3 => Rev::Current(0),
            _ => Rev::Current(-near),
        },
        physical: rng.one_in(3),
    }
}

/// Requests near the limits of size: one is refused by etcd, one before it gets there.
pub(super) fn huge(rng: &mut Rng) -> Call {
    let long = |key: &'static str, bytes| Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Value::Long { bytes },
        lease: LeaseRef::Id(0),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    match rng.below(4) {
        0 => Call::Put(long("a", rng.pick(&[1_500_000, 1_572_864, 1_600_000]))),
        1 => Call::Put(long("a", 3_000_000)),
        // Twice this revision, with what was there before, is more than a watch response holds.
        _ => Call::Txn(Txn {
            success: vec![Op::Put(long("a", 700_000)), Op::Put(long("b", 700_000))],
            ..Txn::default()
        }),
    }
}

fn nested(rng: &mut Rng, depth: u64) -> Txn {
    Txn {
        compares: rng.some(0, 2, compare),
        success: rng.some(0, 3, |rng| op(rng, depth)),
        failure: rng.some(0, 2, |rng| op(rng, depth)),
    }
}

fn op(rng: &mut Rng, depth: u64) -> Op {
    match rng.below(24) {
        0..7 => Op::Range(range(rng)),
        7..15 => Op::Put(put(rng)),
        15..18 => Op::Delete(delete(rng)),
        18..23 if depth > 0 => Op::Txn(nested(rng, depth - 1)),
        23 if rng.one_in(6) => Op::Empty,
        _ => Op::Put(put(rng)),
    }
}

/// As many operations as are allowed, or one more, in one list or in a transaction within.
fn wide(rng: &mut Rng) -> Txn {
    let count = rng.pick(&[126, 127, 128, 129]);
    let ops = (0..count)
        .map(|number: u32| match rng.one_in(3) {
            true => Op::Put(Put {
                key: format!("w{number:03}").into(),
                value: value(rng),
                lease: LeaseRef::Id(0),
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            }),
            false => Op::Range(Range {
                keys: single("a"),
                ..range(rng)
            }),
        })
        .collect();
    let list = Txn {
        success: ops,
        ..Txn::default()
    };
    match rng.below(3) {
        0 => list,
        1 => Txn {
            compares: list.success.iter().map(|_| compare(rng)).collect(),
            ..Txn::default()
        },
        _ => Txn {
            success: vec![Op::Txn(list)],
            ..Txn::default()
        },
    }
}

/// Many levels, to the deepest that Quorate takes.
fn deep(rng: &mut Rng) -> Txn {
    let levels = rng.pick(&[4, 16, 31]);
    (0..levels).fold(nested(rng, 0), |within, _| Txn {
        compares: rng.some(0, 1, compare),
        success: vec![Op::Txn(within)],
        failure: rng.some(0, 1, |rng| op(rng, 0)),
    })
}

/// A compare with a result or a target that does not exist, in a transaction that writes nothing.
fn strange_compare(rng: &mut Rng) -> Txn {
    Txn {
        compares: vec![Compare {
            result: rng.pick(&[0, 4, -1]),
            target: rng.pick(&[5, -1]),
            ..compare(rng)
        }],
        success: vec![Op::Range(range(rng))],
        failure: Vec::new(),
    }
}

fn compare(rng: &mut Rng) -> Compare {
    let target = rng.pick(&[0, 1, 2, 3, 4]);
    let drawn = if rng.one_in(10) {
        rng.pick(&[0, 1, 2, 3, 4, 5])
    } else {
        target
    };
    Compare {
        keys: keys(rng),
        result: rng.pick(&[0, 0, 0, 1, 2, 3]),
        target,
        operand: match drawn {
            0 => Operand::Version(rng.pick(&[0, 1, 2, 3, -1, i64::MAX])),
            1 => Operand::Create(revision(rng)),
            2 => Operand::Mod(revision(rng)),
            3 => Operand::Value(text(rng)),
            4 => Operand::Lease(lease::any(rng)),
            _ => Operand::Unset,
        },
    }
}

/// Half of all ranges are single keys; others have an end before, at, or after their start.
pub(super) fn keys(rng: &mut Rng) -> Keys {
    Keys {
        key: key(rng),
        range_end: match rng.below(8) {
            0..4 => Bytes::new(),
            4 | 5 => Bytes::from_static(b"\0"),
            _ => key(rng),
        },
    }
}

/// A range that holds at most 6 keys: etcd puts more of them in no certain order when they are sorted by
/// something in which they are equal.
fn few_keys(rng: &mut Rng) -> Keys {
    let Keys { key, range_end } = keys(rng);
    let is_wide = !range_end.is_empty() && (range_end == b"\0"[..] || range_end > b"c"[..]);
    Keys {
        key,
        range_end: match is_wide {
            true => Bytes::from_static(b"c"),
            false => range_end,
        },
    }
}

fn key(rng: &mut Rng) -> Bytes {
    let rare: &[&[u8]] = &[b"", b"\0", b"\xff", b"\xff\xff", b"a\0", b"long key with spaces"];
    let common: &[&[u8]] = &[b"a", b"b", b"c", b"aa", b"ab", b"d"];
    Bytes::from_static(match rng.one_in(8) {
        true => rng.pick(rare),
        false => rng.pick(common),
    })
}

fn single(key: &'static str) -> Keys {
    Keys {
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::new(),
    }
}

fn value(rng: &mut Rng) -> Value {
    match rng.one_in(30) {
        true => Value::Long { bytes: 5000 },
        false => Value::Text(text(rng)),
    }
}

fn text(rng: &mut Rng) -> Bytes {
    let texts: &[&[u8]] = &[b"", b"1", b"2", b"10", b"\0\xff", b"value"];
    Bytes::from_static(rng.pick(texts))
}

fn bound(rng: &mut Rng) -> Rev {
    match rng.one_in(12) {
        true => revision(rng),
        false => Rev::Exactly(0),
    }
}
