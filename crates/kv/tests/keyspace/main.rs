//! The rules of the keyspace, one test each: revisions, ranges, transactions, compaction, leases, alarms.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod alarms;
mod compaction;
mod leases;
mod ranges;
mod revisions;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;
mod transactions;

use bytes::Bytes;
use quorate_kv::*;
use support::*;

fn prefix_of_three() -> Keyspace {
    let mut keyspace = Keyspace::new();
    put(&mut keyspace, "a", "3"); // 2
    put(&mut keyspace, "b", "2"); // 3
    put(&mut keyspace, "c", "1"); // 4
    put(&mut keyspace, "b", "2"); // 5
    keyspace
}

fn range(keys: KeyRange) -> Range {
    Range::new(keys)
}

fn limited(limit: usize) -> Range {
    Range {
        limit: limit.try_into().ok(),
        ..range(KeyRange::all())
    }
}

fn then(success: Vec<Op>) -> Txn {
    Txn {
        success,
        ..Txn::default()
    }
}

fn put_op(key: &str) -> Op {
    Op::Put(Put::new(key.to_owned(), "v"))
}

fn delete_op(keys: KeyRange) -> Op {
    Op::DeleteRange(DeleteRange { keys, prev_kv: false })
}

fn compare(keys: KeyRange, relation: Relation, operand: Operand) -> Compare {
    Compare {
        keys,
        relation,
        operand,
    }
}

fn holds(keyspace: &mut Keyspace, condition: Compare) -> bool {
    txn(
        keyspace,
        Txn {
            compares: vec![condition],
            ..Txn::default()
        },
    )
    .succeeded
}
