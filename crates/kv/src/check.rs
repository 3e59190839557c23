//! Checks of requests that need no state.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{DeleteRange, Error, KeyRange, KeyRanges, Limits, Op, Put, ReadTxn, Txn};

/// The longest time to live of a lease, in seconds.
pub const MAX_TTL_SECS: i64 = 9_000_000_000;

/// How deep transactions nest at most: keeps recursion over them, in decoders too, within any stack.
pub const MAX_TXN_DEPTH: usize = 32;

impl ReadTxn {
    /// Refuses what would fail in every state, like [`crate::Command::check`].
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::TooManyOps`].
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        txn(&self.txn, limits)
    }
}

pub(crate) fn keys(keys: &KeyRange) -> Result<(), Error> {
    if keys.start().is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

pub(crate) fn put(put: &Put) -> Result<(), Error> {
    if put.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

pub(crate) fn ttl(ttl_secs: i64) -> Result<(), Error> {
    if ttl_secs > MAX_TTL_SECS {
        Err(Error::LeaseTtlTooLarge)
    } else {
        Ok(())
    }
}

pub(crate) fn txn(txn: &Txn, limits: &Limits) -> Result<(), Error> {
    ops(txn, limits.max_txn_ops, MAX_TXN_DEPTH)?;
    written(&txn.success)?;
    written(&txn.failure)?;
    Ok(())
}

/// What must hold of any transaction for it to be applied. Limits are the proposer's business.
pub(crate) fn applicable(applied: &Txn) -> Result<(), Error> {
    txn(
        applied,
        &Limits {
            max_txn_ops: usize::MAX,
        },
    )
}

/// Bounds the number of operations; a nested transaction has what its parent leaves.
fn ops(txn: &Txn, allowed: usize, depth: usize) -> Result<(), Error> {
    let most = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    if most > allowed || depth == 0 {
        return Err(Error::TooManyOps);
    }
    txn.compares.iter().try_for_each(|compare| keys(&compare.keys))?;
    txn.success
        .iter()
        .chain(&txn.failure)
        .try_for_each(|op| match op {
            Op::Range(range) => keys(&range.keys),
            Op::Put(one) => put(one),
            Op::DeleteRange(delete) => keys(&delete.keys),
            Op::Txn(nested) => ops(nested, allowed - most, depth - 1),
        })
}

/// The keys that one list of operations may write.
#[derive(Default)]
struct Written {
    puts: BTreeSet<Bytes>,
    deletes: KeyRanges,
}

impl Written {
    fn put(&mut self, key: &Bytes) -> Result<(), Error> {
        let fresh = !self.deletes.contains(key) && self.puts.insert(key.clone());
        if fresh { Ok(()) } else { Err(Error::DuplicateKey) }
    }
}

/// Refuses a list of operations that may put a key twice, or put what it deletes.
///
/// The order is etcd's: this level's deletes, nested transactions, this level's puts. A nested transaction's
/// deletes are compared to what follows them in this order only.
fn written(ops: &[Op]) -> Result<Written, Error> {
    let mut written = Written::default();
    for op in ops {
        match op {
            // Here etcd reads the end "\0" by the letter: a range that ends before it begins, and so
            // deletes nothing. A put beside it is allowed, and happens in its turn.
            Op::DeleteRange(DeleteRange {
                keys: KeyRange::From(_),
                ..
            }) => {}
            Op::DeleteRange(delete) => written.deletes.insert(&delete.keys),
            Op::Range(_) | Op::Put(_) | Op::Txn(_) => {}
        }
    }
    for op in ops {
        if let Op::Txn(nested) = op {
            add_nested(&mut written, nested)?;
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            written.put(&put.key)?;
        }
    }
    Ok(written)
}

/// Only one of a nested transaction's two lists runs, so they may put the same key.
fn add_nested(written_here: &mut Written, nested: &Txn) -> Result<(), Error> {
    let success = written(&nested.success)?;
    let failure = written(&nested.failure)?;
    for key in &success.puts {
        written_here.put(key)?;
    }
    for key in failure.puts.difference(&success.puts) {
        written_here.put(key)?;
    }
    written_here.deletes.append(success.deletes);
    written_here.deletes.append(failure.deletes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, LeaseId};

    fn put(key: &'static str) -> Op {
        Op::Put(Put::new(key, "v"))
    }

    fn delete(keys: KeyRange) -> Op {
        Op::DeleteRange(DeleteRange { keys, prev_kv: false })
    }

    fn then(success: Vec<Op>) -> Txn {
        Txn {
            success,
            ..Txn::default()
        }
    }

    fn check(txn: Txn) -> Result<(), Error> {
        Command::Txn(txn).check(&Limits::default())
    }

    #[test]
    fn the_longest_list_counts_against_the_limit() {
        let puts = |n: usize| (0..n).map(|i| Op::Put(Put::new(i.to_string(), ""))).collect();
        assert_eq!(check(then(puts(128))), Ok(()));
        assert_eq!(check(then(puts(129))), Err(Error::TooManyOps));
        let both = Txn {
            success: puts(100),
            failure: puts(100),
            compares: vec![],
        };
        assert_eq!(check(both), Ok(()));
    }

    #[test]
    fn a_nested_transaction_has_what_its_parent_leaves() {
        let nested = |n: usize| {
            then(
                (0..n)
                    .map(|_| Op::Range(crate::Range::new(KeyRange::all())))
                    .collect(),
            )
        };
        assert_eq!(check(then(vec![Op::Txn(nested(127))])), Ok(()));
        assert_eq!(check(then(vec![Op::Txn(nested(128))])), Err(Error::TooManyOps));
    }

    #[test]
    fn nesting_is_bounded() {
        let nest = |depth| (1..depth).fold(then(vec![]), |inner, _| then(vec![Op::Txn(inner)]));
        assert_eq!(check(nest(MAX_TXN_DEPTH)), Ok(()));
        assert_eq!(check(nest(MAX_TXN_DEPTH + 1)), Err(Error::TooManyOps));
    }

    #[test]
    fn a_key_is_put_once() {
        assert_eq!(check(then(vec![put("a"), put("b")])), Ok(()));
        assert_eq!(check(then(vec![put("a"), put("a")])), Err(Error::DuplicateKey));
        assert_eq!(
            check(then(vec![put("a"), Op::Txn(then(vec![put("a")]))])),
            Err(Error::DuplicateKey)
        );
        let (success, failure) = (vec![put("a")], vec![put("a")]);
        assert_eq!(
            check(Txn {
                success,
                failure,
                compares: vec![]
            }),
            Ok(())
        );
    }

    #[test]
    fn a_put_key_is_not_deleted() {
        let span = || {
            delete(KeyRange::Span {
                start: "a".into(),
                end: "c".into(),
            })
        };
        assert_eq!(check(then(vec![span(), put("b")])), Err(Error::DuplicateKey));
        assert_eq!(check(then(vec![put("b"), span()])), Err(Error::DuplicateKey));
        assert_eq!(check(then(vec![put("c"), span()])), Ok(()));
        assert_eq!(check(then(vec![span(), delete(KeyRange::all())])), Ok(()));
        assert_eq!(
            check(then(vec![put("b"), Op::Txn(then(vec![span()]))])),
            Err(Error::DuplicateKey)
        );
    }

    #[test]
    fn a_key_may_be_put_beside_a_deletion_without_an_end() {
        let rest = || delete(KeyRange::From("a".into()));
        assert_eq!(check(then(vec![rest(), put("b")])), Ok(()));
        assert_eq!(check(then(vec![Op::Txn(then(vec![rest()])), put("b")])), Ok(()));
    }

    #[test]
    fn the_lists_of_a_nested_transaction_exclude_each_other() {
        let nested = Txn {
            success: vec![put("a")],
            failure: vec![put("a")],
            compares: vec![],
        };
        assert_eq!(check(then(vec![Op::Txn(nested.clone())])), Ok(()));
        assert_eq!(
            check(then(vec![Op::Txn(nested.clone()), Op::Txn(nested)])),
            Err(Error::DuplicateKey)
        );
        let crossed = Txn {
            success: vec![put("a")],
            failure: vec![delete(KeyRange::Single("a".into()))],
            compares: vec![],
        };
        assert_eq!(check(then(vec![Op::Txn(crossed)])), Ok(()));
    }

    #[test]
    fn empty_keys_are_refused_wherever_they_are() {
        assert_eq!(
            Command::Put(Put::new("", "")).check(&Limits::default()),
            Err(Error::EmptyKey)
        );
        assert_eq!(check(then(vec![put("")])), Err(Error::EmptyKey));
        assert_eq!(
            check(then(vec![delete(KeyRange::Single("".into()))])),
            Err(Error::EmptyKey)
        );
    }

    #[test]
    fn a_ttl_has_a_bound() {
        let grant = |ttl_secs| {
            Command::LeaseGrant {
                id: LeaseId(1),
                ttl_secs,
            }
            .check(&Limits::default())
        };
        assert_eq!(grant(MAX_TTL_SECS), Ok(()));
        assert_eq!(grant(MAX_TTL_SECS + 1), Err(Error::LeaseTtlTooLarge));
    }
}
