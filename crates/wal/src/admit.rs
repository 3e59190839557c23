//! What a batch may contain, checked as a whole before any of it is written.

use std::collections::BTreeMap;

use crate::error::WalError;
use crate::index::Index;
use crate::layout::body;
use crate::record::{LogId, Record};

/// Goes through a batch and keeps, for each group in it, what its log would be.
pub(crate) struct Admission<'a> {
    index: &'a Index,
    max_body: u64,
    heads: BTreeMap<u64, Head>,
}

/// The ends of a group's log.
#[derive(Clone, Copy, Default)]
struct Head {
    base: LogId,
    last: LogId,
}

impl Admission<'_> {
    pub(crate) fn new(index: &Index, max_body: u64) -> Admission<'_> {
        Admission {
            index,
            max_body,
            heads: BTreeMap::new(),
        }
    }

    pub(crate) fn admit(&mut self, record: &Record) -> Result<(), WalError> {
        let bytes = body(record).len() as u64;
        if bytes > self.max_body {
            return Err(WalError::TooLarge {
                bytes,
                limit: self.max_body,
            });
        }
        match *record {
            Record::Entry {
                group, index, term, ..
            } => self.head(group).put(group, LogId::new(index, term)),
            Record::State { .. } => Ok(()),
            Record::Reset { group, index, term } => {
                self.head(group).reset(LogId::new(index, term));
                Ok(())
            }
            Record::Compact { group, index, term } => {
                self.head(group).compact(LogId::new(index, term));
                Ok(())
            }
        }
    }

    fn head(&mut self, group: u64) -> &mut Head {
        let known = self.index.groups.get(&group);
        self.heads.entry(group).or_insert_with(|| {
            known.map_or(Head::default(), |group| Head {
                base: group.base(),
                last: group.last(),
            })
        })
    }
}

impl Head {
    fn put(&mut self, group: u64, id: LogId) -> Result<(), WalError> {
        let index = id.index;
        if index <= self.base.index {
            return Err(WalError::BeforeBase {
                group,
                index,
                base: self.base,
            });
        }
        if index - 1 > self.last.index {
            return Err(WalError::Gap {
                group,
                index,
                last: self.last,
            });
        }
        self.last = id;
        Ok(())
    }

    fn reset(&mut self, base: LogId) {
        *self = Head { base, last: base };
    }

    fn compact(&mut self, base: LogId) {
        if base.index >= self.last.index {
            self.reset(base);
        } else if base.index >= self.base.index {
            self.base = base;
        }
    }
}
