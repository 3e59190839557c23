//! What clients ask for, in types that cannot say a contradiction.

use std::num::NonZeroUsize;

use bytes::Bytes;

use crate::{Error, KeyRange, LeaseId, Revision};

/// A field of a put: a new content, or what the key has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assign<T> {
    /// Give it this content.
    Set(T),
    /// Leave it as it is; the key must exist.
    Keep,
}

/// Creates or overwrites one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key; empty ones are refused.
    pub key: Bytes,
    /// Its value.
    pub value: Assign<Bytes>,
    /// The lease it will end with; `Set(None)` detaches it from the one it has.
    pub lease: Assign<Option<LeaseId>>,
    /// Whether the answer carries the key as it was before.
    pub prev_kv: bool,
}

/// A put as the wire has it, where fields may contradict each other. See [`Put::parse`].
#[derive(Clone, Debug, Default)]
pub struct PutParts {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease, 0 for none.
    pub lease: i64,
    /// Answer with the key as it was before.
    pub prev_kv: bool,
    /// Keep the value the key has.
    pub ignore_value: bool,
    /// Keep the lease the key has.
    pub ignore_lease: bool,
}

impl Put {
    /// A plain put: no lease, nothing kept.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: Assign::Set(value.into()),
            lease: Assign::Set(None),
            prev_kv: false,
        }
    }

    /// The put with its key attached to a lease.
    #[must_use]
    pub fn with_lease(self, lease: LeaseId) -> Self {
        Self {
            lease: Assign::Set(Some(lease)),
            ..self
        }
    }

    /// Reads a put from the wire's fields.
    ///
    /// # Errors
    /// [`Error::EmptyKey`]; [`Error::ValueProvided`] and [`Error::LeaseProvided`] when a field is both given
    /// and to be kept.
    pub fn parse(parts: PutParts) -> Result<Self, Error> {
        if parts.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        if parts.ignore_value && !parts.value.is_empty() {
            return Err(Error::ValueProvided);
        }
        if parts.ignore_lease && parts.lease != 0 {
            return Err(Error::LeaseProvided);
        }
        let value = if parts.ignore_value {
            Assign::Keep
        } else {
            Assign::Set(parts.value)
        };
        let lease = if parts.ignore_lease {
            Assign::Keep
        } else {
            Assign::Set(LeaseId::from_wire(parts.lease))
        };
        Ok(Self {
            key: parts.key,
            value,
            lease,
            prev_kv: parts.prev_kv,
        })
    }
}

/// Deletes every key of a range that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys.
    pub keys: KeyRange,
    /// Whether the answer carries the keys as they were before.
    pub prev_kv: bool,
}

/// Reads the keys of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The keys.
    pub keys: KeyRange,
    /// The revision to read at; none: the newest. So is one below 1, unless it is compacted, which etcd
    /// minds in a transaction only.
    pub at: Option<Revision>,
    /// The most keys to answer with.
    pub limit: Option<NonZeroUsize>,
    /// In which direction to sort.
    pub order: SortOrder,
    /// What to sort by.
    pub target: SortTarget,
    /// Which keys to leave out of the answer, though not out of its count.
    pub filter: RevisionFilter,
    /// How much of each key to answer with.
    pub projection: Projection,
}

impl Range {
    /// Everything in a range, at the newest revision, in key order.
    #[must_use]
    pub fn new(keys: KeyRange) -> Self {
        Self {
            keys,
            at: None,
            limit: None,
            order: SortOrder::default(),
            target: SortTarget::default(),
            filter: RevisionFilter::default(),
            projection: Projection::default(),
        }
    }
}

/// How much of each key an answer carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Projection {
    /// All of it.
    #[default]
    KeysAndValues,
    /// All but the value. The lease is there, as in etcd before 3.7.
    KeysOnly,
    /// Only how many there are.
    CountOnly,
}

/// The direction of a sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// Key order; or, with a target other than the key, ascending *after* the limit has cut by key order.
    #[default]
    Unsorted,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What to sort by. Equals stay in key order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last change.
    Mod,
    /// The value.
    Value,
}

impl TryFrom<i32> for SortOrder {
    type Error = Error;

    /// Reads the wire's number.
    fn try_from(order: i32) -> Result<Self, Error> {
        match order {
            0 => Ok(Self::Unsorted),
            1 => Ok(Self::Ascend),
            2 => Ok(Self::Descend),
            _ => Err(Error::InvalidSortOption),
        }
    }
}

impl TryFrom<i32> for SortTarget {
    type Error = Error;

    /// Reads the wire's number.
    fn try_from(target: i32) -> Result<Self, Error> {
        match target {
            0 => Ok(Self::Key),
            1 => Ok(Self::Version),
            2 => Ok(Self::Create),
            3 => Ok(Self::Mod),
            4 => Ok(Self::Value),
            _ => Err(Error::InvalidSortOption),
        }
    }
}

/// Inclusive bounds on the revisions of the keys in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionFilter {
    /// Changed at this revision or later.
    pub min_mod: Option<Revision>,
    /// Changed at this revision or before.
    pub max_mod: Option<Revision>,
    /// Created at this revision or later.
    pub min_create: Option<Revision>,
    /// Created at this revision or before.
    pub max_create: Option<Revision>,
}

/// A comparison, then one of two lists of operations: all in one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must all hold in the state before the transaction.
    pub compares: Vec<Compare>,
    /// What to do when they hold.
    pub success: Vec<Op>,
    /// What to do when they don't.
    pub failure: Vec<Op>,
}

/// A transaction that only reads. Made by [`Txn::into_read_only`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadTxn {
    pub(crate) txn: Txn,
}

impl ReadTxn {
    /// The transaction.
    #[must_use]
    pub fn txn(&self) -> &Txn {
        &self.txn
    }
}

impl Txn {
    /// Tells transactions that can be served as reads (nothing but ranges, none nested) from those that
    /// must be proposed.
    ///
    /// # Errors
    /// Gives the transaction back when it must be proposed.
    pub fn into_read_only(self) -> Result<ReadTxn, Self> {
        let mut ops = self.success.iter().chain(&self.failure);
        if ops.all(|op| matches!(op, Op::Range(_))) {
            Ok(ReadTxn { txn: self })
        } else {
            Err(self)
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read keys; sees what earlier operations of the transaction wrote.
    Range(Range),
    /// Write a key.
    Put(Put),
    /// Delete keys.
    DeleteRange(DeleteRange),
    /// A transaction within; its comparisons see the state before the outermost one.
    Txn(Txn),
}

/// One condition of a transaction: every key of the range has the property.
///
/// If no key of the range exists, the property is tested against a key whose numbers are all 0; a condition
/// on the value then fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The keys it is about.
    pub keys: KeyRange,
    /// How the key's property must relate to the operand.
    pub relation: Relation,
    /// The property and what to compare it to.
    pub operand: Operand,
}

/// How a key's property must relate to an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Be equal.
    Equal,
    /// Be greater.
    Greater,
    /// Be less.
    Less,
    /// Differ.
    NotEqual,
}

/// A property of a key and what to compare it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The version: 0 for a key that does not exist.
    Version(i64),
    /// The revision of creation.
    Create(Revision),
    /// The revision of the last change.
    Mod(Revision),
    /// The value.
    Value(Bytes),
    /// The lease.
    Lease(Option<LeaseId>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> PutParts {
        PutParts {
            key: "k".into(),
            ..PutParts::default()
        }
    }

    #[test]
    fn a_put_keeps_or_gives_a_field_but_not_both() {
        let both = PutParts {
            ignore_value: true,
            value: "v".into(),
            ..parts()
        };
        assert_eq!(Put::parse(both), Err(Error::ValueProvided));
        let both = PutParts {
            ignore_lease: true,
            lease: 7,
            ..parts()
        };
        assert_eq!(Put::parse(both), Err(Error::LeaseProvided));
        let keep = Put::parse(PutParts {
            ignore_value: true,
            ignore_lease: true,
            ..parts()
        })
        .unwrap();
        assert_eq!((keep.value, keep.lease), (Assign::Keep, Assign::Keep));
    }

    #[test]
    fn a_put_without_a_key_is_refused() {
        assert_eq!(Put::parse(PutParts::default()), Err(Error::EmptyKey));
    }

    #[test]
    fn unknown_sort_options_are_refused() {
        assert_eq!(SortOrder::try_from(3), Err(Error::InvalidSortOption));
        assert_eq!(SortTarget::try_from(-1), Err(Error::InvalidSortOption));
        assert_eq!(SortTarget::try_from(4), Ok(SortTarget::Value));
    }

    #[test]
    fn only_plain_ranges_make_a_transaction_a_read() {
        let range = Op::Range(Range::new(KeyRange::all()));
        let read = Txn {
            success: vec![range.clone()],
            ..Txn::default()
        };
        assert!(read.into_read_only().is_ok());
        let nested = Txn {
            failure: vec![range, Op::Txn(Txn::default())],
            ..Txn::default()
        };
        assert!(nested.into_read_only().is_err());
    }
}
