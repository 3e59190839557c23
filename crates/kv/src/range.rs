//! Reading keys: what is in a range at a revision, filtered, sorted, cut and trimmed as asked.

use std::cmp::Ordering;
use std::num::NonZeroUsize;

use crate::record::Record;
use crate::store::Store;
use crate::{
    Error, KeyValue, Projection, Range, RangeResponse, Revision, RevisionFilter, SortOrder, SortTarget,
};

impl Range {
    /// Refuses a range that cannot be read in a state.
    pub(crate) fn check(&self, store: &Store) -> Result<(), Error> {
        crate::check::keys(&self.keys)?;
        self.at.map_or(Ok(()), |revision| store.check_readable(revision))
    }

    /// Reads from a store; `revision` is the newest one, for the answer.
    pub(crate) fn read(&self, store: &Store, revision: Revision) -> RangeResponse {
        // No revision is that low: what passes the check is a wish for the newest.
        let at = self.at.filter(|at| *at > Revision(0));
        let mut found = store.range(&self.keys, at);
        if self.projection == Projection::CountOnly {
            return RangeResponse {
                revision,
                kvs: Vec::new(),
                more: false,
                count: found.count(),
            };
        }
        let wanted = self.wanted_in_key_order();
        let mut records: Vec<&Record> = found.by_ref().take(wanted).collect();
        let count = records.len() + found.count();
        records.retain(|record| self.filter.passes(record));
        self.sort(&mut records);
        let limit = self.limit.map_or(usize::MAX, NonZeroUsize::get);
        let more = records.len() > limit;
        records.truncate(limit);
        let kvs = records.into_iter().map(|record| self.project(record)).collect();
        RangeResponse {
            revision,
            kvs,
            more,
            count,
        }
    }

    /// How many keys to take before filtering and sorting: one above the limit, if neither changes what
    /// comes first. The one above tells whether there are more.
    ///
    /// Like etcd, this looks at the order only: a target other than the key, unordered, sorts what is left.
    fn wanted_in_key_order(&self) -> usize {
        let cut_early = self.order == SortOrder::Unsorted && self.filter == RevisionFilter::default();
        let limit = self.limit.filter(|_| cut_early);
        limit.map_or(usize::MAX, |limit| limit.get().saturating_add(1))
    }

    fn sort(&self, records: &mut [&Record]) {
        match (self.order, self.target) {
            // They come in key order.
            (SortOrder::Unsorted | SortOrder::Ascend, SortTarget::Key) => {}
            (SortOrder::Descend, SortTarget::Key) => records.reverse(),
            (SortOrder::Unsorted | SortOrder::Ascend, target) => {
                records.sort_by(|a, b| target.compare(a, b));
            }
            (SortOrder::Descend, target) => records.sort_by(|a, b| target.compare(b, a)),
        }
    }

    fn project(&self, record: &Record) -> KeyValue {
        match self.projection {
            Projection::KeysAndValues => record.to_key_value(),
            Projection::KeysOnly | Projection::CountOnly => record.to_key_only(),
        }
    }
}

impl SortTarget {
    fn compare(self, a: &Record, b: &Record) -> Ordering {
        match self {
            Self::Key => a.key().cmp(b.key()),
            Self::Version => a.version().cmp(&b.version()),
            Self::Create => a.create().cmp(&b.create()),
            Self::Mod => a.revision().cmp(&b.revision()),
            Self::Value => a.value().cmp(b.value()),
        }
    }
}

impl RevisionFilter {
    fn passes(&self, record: &Record) -> bool {
        let within = |revision: Revision, min: Option<Revision>, max: Option<Revision>| {
            min.is_none_or(|min| min <= revision) && max.is_none_or(|max| revision <= max)
        };
        within(record.revision(), self.min_mod, self.max_mod)
            && within(record.create(), self.min_create, self.max_create)
    }
}
