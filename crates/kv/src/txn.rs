//! Transactions: decide, check, then act.
//!
//! - Every comparison, of nested transactions too, sees the state before the transaction.
//! - Everything that can fail is checked, against that state, before anything is written.
//! - All writes share one revision; reads see the writes before them in the transaction.

use crate::keyspace::{Keyspace, Writer};
use crate::record::Record;
use crate::store::Store;
use crate::{
    Compare, Error, LeaseId, Op, OpResponse, Operand, ReadTxn, Relation, Revision, Txn, TxnResponse,
};

/// A transaction whose comparisons have been made: what is left to do.
pub(crate) struct Decided<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Plain(&'a Op),
    Nested(Decided<'a>),
}

impl Txn {
    /// Makes all comparisons that matter.
    fn decide<'a>(&'a self, store: &Store) -> Decided<'a> {
        let succeeded = self.compares.iter().all(|compare| compare.holds(store));
        let ops = if succeeded { &self.success } else { &self.failure };
        let step = |op: &'a Op| match op {
            Op::Txn(nested) => Step::Nested(nested.decide(store)),
            Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => Step::Plain(op),
        };
        Decided {
            succeeded,
            steps: ops.iter().map(step).collect(),
        }
    }

    /// Whether it could put something, whatever the comparisons say.
    pub(crate) fn may_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Txn(nested) => nested.may_put(),
            Op::Range(_) | Op::DeleteRange(_) => false,
        })
    }
}

impl Decided<'_> {
    /// Refuses the transaction if one of its steps would fail: for a put first, of nested transactions
    /// too, as etcd does.
    fn check(&self, keyspace: &Keyspace) -> Result<(), Error> {
        self.check_puts(keyspace)?;
        self.check_ranges(keyspace)
    }

    fn check_puts(&self, keyspace: &Keyspace) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Plain(Op::Put(put)) => keyspace.check_put_within(put),
            Step::Plain(Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_)) => Ok(()),
            Step::Nested(nested) => nested.check_puts(keyspace),
        })
    }

    fn check_ranges(&self, keyspace: &Keyspace) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Plain(Op::Range(range)) => range.check(&keyspace.store),
            Step::Plain(Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_)) => Ok(()),
            Step::Nested(nested) => nested.check_ranges(keyspace),
        })
    }

    fn run(self, writer: &mut Writer<'_>) -> TxnResponse {
        let run = |step| match step {
            Step::Nested(nested) => Some(OpResponse::Txn(nested.run(writer))),
            Step::Plain(Op::Range(range)) => Some(OpResponse::Range(writer.range(range))),
            Step::Plain(Op::Put(put)) => Some(OpResponse::Put(writer.put(put))),
            Step::Plain(Op::DeleteRange(delete)) => {
                Some(OpResponse::DeleteRange(writer.delete_range(delete)))
            }
            Step::Plain(Op::Txn(_)) => None,
        };
        let responses = self.steps.into_iter().filter_map(run).collect();
        TxnResponse {
            revision: writer.visible_revision(),
            succeeded: self.succeeded,
            responses,
        }
    }
}

impl Keyspace {
    /// Runs a transaction that only reads, at the current state.
    ///
    /// # Errors
    /// As [`Keyspace::range`], for any of its ranges.
    pub fn read_txn(&self, read: &ReadTxn) -> Result<TxnResponse, Error> {
        crate::check::applicable(&read.txn)?;
        let decided = read.txn.decide(&self.store);
        decided.check(self)?;
        let revision = self.store.revision();
        let ranges = decided.steps.iter().filter_map(|step| match step {
            Step::Plain(Op::Range(range)) => Some(range.read(&self.store, revision)),
            Step::Plain(Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_)) | Step::Nested(_) => None,
        });
        let responses = ranges.map(OpResponse::Range).collect();
        Ok(TxnResponse {
            revision,
            succeeded: decided.succeeded,
            responses,
        })
    }

    /// Runs a transaction whose shape has been checked.
    pub(crate) fn run_txn<'a>(&'a mut self, txn: &Txn) -> Result<(TxnResponse, Writer<'a>), Error> {
        let decided = txn.decide(&self.store);
        decided.check(self)?;
        let mut writer = self.writer();
        let response = decided.run(&mut writer);
        Ok((response, writer))
    }
}

impl Compare {
    /// Whether every key of the range has the property.
    fn holds(&self, store: &Store) -> bool {
        let mut found = store.range(&self.keys, None).peekable();
        if found.peek().is_none() {
            return self.holds_without_keys();
        }
        found.all(|record| self.holds_for(record))
    }

    /// A missing key has all numbers 0, and no value: not even an empty one.
    fn holds_without_keys(&self) -> bool {
        match &self.operand {
            Operand::Version(operand) => self.relation.holds(&0, operand),
            Operand::Create(operand) | Operand::Mod(operand) => self.relation.holds(&Revision(0), operand),
            Operand::Lease(operand) => self.relation.holds(&0, &number(*operand)),
            Operand::Value(_) => false,
        }
    }

    fn holds_for(&self, record: &Record) -> bool {
        match &self.operand {
            Operand::Version(operand) => self.relation.holds(&record.version(), operand),
            Operand::Create(operand) => self.relation.holds(&record.create(), operand),
            Operand::Mod(operand) => self.relation.holds(&record.revision(), operand),
            Operand::Value(operand) => self.relation.holds(record.value(), operand),
            Operand::Lease(operand) => self.relation.holds(&number(record.lease()), &number(*operand)),
        }
    }
}

impl Relation {
    fn holds<T: Ord + ?Sized>(self, property: &T, operand: &T) -> bool {
        match self {
            Self::Equal => property == operand,
            Self::Greater => property > operand,
            Self::Less => property < operand,
            Self::NotEqual => property != operand,
        }
    }
}

/// Leases compare as the numbers they are on the wire.
fn number(lease: Option<LeaseId>) -> i64 {
    lease.map_or(0, |lease| lease.0)
}
