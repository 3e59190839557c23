//! Ranges of keys, parsed once from the wire's pair of `key` and `range_end`.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::Error;

/// The end of a range, on the wire, that has no end; and the least key there is.
const ZERO: &[u8] = b"\0";

/// A set of neighbouring keys. Keys are ordered byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRange {
    /// One key.
    Single(Bytes),
    /// From `start` to before `end`. Holds nothing when `start >= end`.
    Span {
        /// The first key.
        start: Bytes,
        /// The first key after it.
        end: Bytes,
    },
    /// Every key from this one on.
    From(Bytes),
}

impl KeyRange {
    /// Reads etcd's pair: no `range_end` means one key, `"\0"` every key from `key` on.
    ///
    /// # Errors
    /// [`Error::EmptyKey`] when `key` is empty.
    pub fn parse(key: Bytes, range_end: Bytes) -> Result<Self, Error> {
        if key.is_empty() {
            return Err(Error::EmptyKey);
        }
        Ok(Self::from_pair(key, range_end))
    }

    /// Reads the pair of a watch request, where an empty `key` means the least key.
    ///
    /// The range may be empty: [`crate::WatchHub::create`] refuses it.
    #[must_use]
    pub fn parse_watch(key: Bytes, range_end: Bytes) -> Self {
        let key = if key.is_empty() {
            Bytes::from_static(ZERO)
        } else {
            key
        };
        Self::from_pair(key, range_end)
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> Self {
        Self::From(Bytes::from_static(ZERO))
    }

    /// The keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        let Some(last) = prefix.iter().rposition(|&byte| byte != u8::MAX) else {
            return if prefix.is_empty() {
                Self::all()
            } else {
                Self::From(prefix)
            };
        };
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        Self::Span {
            start: prefix,
            end: end.into(),
        }
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Single(only) => only == key,
            Self::Span { start, end } => &start[..] <= key && key < &end[..],
            Self::From(start) => &start[..] <= key,
        }
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Span { start, end } => start >= end,
            Self::Single(_) | Self::From(_) => false,
        }
    }

    /// The range as the wire writes it: `key` and `range_end`.
    #[must_use]
    pub fn to_pair(&self) -> (Bytes, Bytes) {
        match self {
            Self::Single(key) => (key.clone(), Bytes::new()),
            Self::Span { start, end } => (start.clone(), end.clone()),
            Self::From(start) => (start.clone(), Bytes::from_static(ZERO)),
        }
    }

    /// What is left of the range from one of its keys on.
    pub(crate) fn starting_at(&self, key: Bytes) -> Self {
        match self {
            Self::Single(_) => Self::Single(key),
            Self::Span { end, .. } => Self::Span {
                start: key,
                end: end.clone(),
            },
            Self::From(_) => Self::From(key),
        }
    }

    /// The first key that may be in the range.
    pub(crate) fn start(&self) -> &Bytes {
        match self {
            Self::Single(key) | Self::Span { start: key, .. } | Self::From(key) => key,
        }
    }

    /// The bounds of a range that is not empty.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::Single(key) => (Bound::Included(key), Bound::Included(key)),
            Self::Span { start, end } => (Bound::Included(start), Bound::Excluded(end)),
            Self::From(start) => (Bound::Included(start), Bound::Unbounded),
        }
    }

    /// The least key after the range, none if the range has no end.
    pub(crate) fn end(&self) -> Option<Bytes> {
        match self {
            Self::Single(key) => Some([&key[..], ZERO].concat().into()),
            Self::Span { end, .. } => Some(end.clone()),
            Self::From(_) => None,
        }
    }

    fn from_pair(key: Bytes, range_end: Bytes) -> Self {
        if range_end.is_empty() {
            Self::Single(key)
        } else if range_end == ZERO {
            Self::From(key)
        } else {
            Self::Span {
                start: key,
                end: range_end,
            }
        }
    }
}

/// The union of key ranges: answers whether a key is in any of them in logarithmic time.
#[derive(Clone, Debug, Default)]
pub struct KeyRanges {
    /// Start to end (none: no end) of intervals that neither overlap nor touch.
    intervals: BTreeMap<Bytes, Option<Bytes>>,
}

impl KeyRanges {
    /// Adds a range.
    pub fn insert(&mut self, range: &KeyRange) {
        if !range.is_empty() {
            self.insert_interval(range.start().clone(), range.end());
        }
    }

    /// Adds all of another union.
    pub fn append(&mut self, other: Self) {
        for (start, end) in other.intervals {
            self.insert_interval(start, end);
        }
    }

    /// Whether `key` is in any of the ranges.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let before = self
            .intervals
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &end[..]))
    }

    /// Whether every key of a range is in the union. A range that holds nothing is looked at as its start.
    #[must_use]
    pub fn covers(&self, range: &KeyRange) -> bool {
        if range.is_empty() {
            return self.contains(range.start());
        }
        let up_to = (Bound::Unbounded, Bound::Included(&range.start()[..]));
        let Some((_, end)) = self.intervals.range::<[u8], _>(up_to).next_back() else {
            return false;
        };
        // Intervals do not touch, so that no two of them can share a range.
        match (end, range.end()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(end), Some(wanted)) => wanted <= *end,
        }
    }

    fn insert_interval(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        while let Some((left, right)) = self.touching(&start, end.as_ref()) {
            self.intervals.remove(&left);
            start = start.min(left);
            end = end.zip(right).map(|(a, b)| a.max(b));
        }
        self.intervals.insert(start, end);
    }

    /// An interval that overlaps or touches the given one.
    fn touching(&self, start: &Bytes, end: Option<&Bytes>) -> Option<(Bytes, Option<Bytes>)> {
        let upper = end.map_or(Bound::Unbounded, Bound::Included);
        let (left, right) = self
            .intervals
            .range::<Bytes, _>((Bound::Unbounded, upper))
            .next_back()?;
        let touches = right.as_ref().is_none_or(|right| right >= start);
        touches.then(|| (left.clone(), right.clone()))
    }
}

impl<'a> FromIterator<&'a KeyRange> for KeyRanges {
    fn from_iter<I: IntoIterator<Item = &'a KeyRange>>(ranges: I) -> Self {
        let mut union = Self::default();
        ranges.into_iter().for_each(|range| union.insert(range));
        union
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::parse(Bytes::from(key), Bytes::from(end)).unwrap()
    }

    #[test]
    fn no_end_is_one_key_and_zero_is_no_end() {
        assert_eq!(parse("a", ""), KeyRange::Single("a".into()));
        assert_eq!(parse("a", "\0"), KeyRange::From("a".into()));
        assert_eq!(parse("\0", "\0"), KeyRange::all());
        assert_eq!(
            parse("a", "b"),
            KeyRange::Span {
                start: "a".into(),
                end: "b".into()
            }
        );
    }

    #[test]
    fn an_empty_key_is_refused_but_not_by_watch() {
        assert_eq!(KeyRange::parse(Bytes::new(), "b".into()), Err(Error::EmptyKey));
        assert_eq!(
            KeyRange::parse_watch(Bytes::new(), Bytes::new()),
            KeyRange::Single("\0".into())
        );
        assert_eq!(KeyRange::parse_watch(Bytes::new(), "\0".into()), KeyRange::all());
    }

    #[test]
    fn the_end_of_a_prefix_carries() {
        let end = |prefix: &'static [u8]| KeyRange::prefix(prefix).to_pair().1;
        assert_eq!(end(b"ab"), "ac");
        assert_eq!(end(b"a\xff"), "b");
        assert_eq!(end(b"\xff\xff"), "\0");
        assert_eq!(end(b""), "\0");
    }

    fn ranges() -> impl Strategy<Value = Vec<KeyRange>> {
        let key = || proptest::collection::vec(0u8..3, 1..3).prop_map(Bytes::from);
        let range = prop_oneof![
            key().prop_map(KeyRange::Single),
            (key(), key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
            key().prop_map(KeyRange::From),
        ];
        proptest::collection::vec(range, 0..6)
    }

    #[test]
    fn one_key_does_not_cover_what_follows_it() {
        let union: KeyRanges = [&parse("a", "")].into_iter().collect();
        assert!(union.covers(&parse("a", "")));
        assert!(!union.covers(&parse("a", "\0")));
        assert!(!union.covers(&parse("a", "b")));
        assert!(
            !KeyRanges::default().covers(&parse("b", "a")),
            "nothing of nothing"
        );
    }

    /// All keys of up to three bytes 0, 1, 2: more than the ends of the ranges can tell apart.
    fn all_keys() -> Vec<Vec<u8>> {
        let longer = |keys: &[Vec<u8>]| -> Vec<Vec<u8>> {
            let longer = keys
                .iter()
                .flat_map(|key| (0..3).map(|byte| [&key[..], &[byte]].concat()));
            longer.collect()
        };
        let one = longer(&[Vec::new()]);
        let two = longer(&one);
        let three = longer(&two);
        [one, two, three].concat()
    }

    proptest! {
        #[test]
        fn a_union_covers_what_it_holds_every_key_of(ranges in ranges(), wanted in ranges()) {
            let union: KeyRanges = ranges.iter().collect();
            for wanted in wanted.iter().filter(|wanted| !wanted.is_empty()) {
                let mut keys = all_keys().into_iter().filter(|key| wanted.contains(key));
                let in_reach = keys.all(|key| union.contains(&key));
                // Beyond the keys that are tried there are others.
                let endless = !matches!(wanted, KeyRange::From(_)) || union.contains(b"\xff");
                prop_assert_eq!(union.covers(wanted), in_reach && endless, "{:?}", wanted);
            }
        }

        #[test]
        fn a_union_holds_what_any_of_its_ranges_holds(
            ranges in ranges(),
            keys in proptest::collection::vec(proptest::collection::vec(0u8..3, 1..4), 20),
        ) {
            let union: KeyRanges = ranges.iter().collect();
            for key in keys {
                prop_assert_eq!(union.contains(&key), ranges.iter().any(|range| range.contains(&key)));
            }
        }
    }
}
