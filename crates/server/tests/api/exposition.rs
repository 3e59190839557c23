//! A strict reader of Prometheus's text format 0.0.4: what it takes, every scraper takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::Cluster;
use crate::http::fetch;

/// The metrics of a page.
pub(crate) struct Exposition {
    /// By name.
    pub(crate) families: BTreeMap<String, Family>,
}

/// A metric: its samples have its name, and some of a histogram's a suffix.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// A value under its name and labels.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Exposition {
    /// The metrics of a member.
    pub(crate) async fn of(cluster: &Cluster, member: usize) -> Exposition {
        let page = fetch(cluster, member, "GET", "/metrics", "").await;
        assert_eq!(page.status, 200);
        let content_type = page.header("content-type");
        assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"));
        Exposition::read(&page.body)
    }

    /// Reads a page.
    pub(crate) fn read(page: &str) -> Exposition {
        assert!(page.ends_with('\n'), "the last line has no end");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut helped, mut current) = (None, String::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.is_empty(), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert_eq!(helped.take().as_deref(), Some(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let family = Family {
                    kind: kind.to_owned(),
                    samples: Vec::new(),
                };
                assert!(
                    families.insert(name.to_owned(), family).is_none(),
                    "twice: {line}"
                );
                current = name.to_owned();
            } else {
                let sample = sample(line);
                let family = families.get_mut(&current).expect(line);
                assert!(family.may_have(&current, &sample), "of another family: {line}");
                family.samples.push(sample);
            }
        }
        for (name, family) in &families {
            family.check(name);
        }
        Exposition { families }
    }

    /// The sum of the samples of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let family = suffixes
            .iter()
            .find_map(|suffix| self.families.get(name.strip_suffix(suffix)?))
            .unwrap_or_else(|| panic!("{name} is missing"));
        let has = |sample: &&Sample| {
            labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|v| v == value))
        };
        let samples = family.samples.iter().filter(|sample| sample.name == name);
        samples.filter(has).map(|sample| sample.value).sum()
    }
}

impl Family {
    fn may_have(&self, name: &str, sample: &Sample) -> bool {
        let suffix = sample.name.strip_prefix(name);
        match self.kind.as_str() {
            "histogram" => match suffix {
                Some("_bucket") => sample.labels.contains_key("le"),
                Some("_sum" | "_count") => true,
                _ => false,
            },
            _ => suffix == Some(""),
        }
    }

    fn check(&self, name: &str) {
        assert!(!self.samples.is_empty(), "{name} has no samples");
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            assert!(
                seen.insert((&sample.name, &sample.labels)),
                "{name} {:?} is there twice",
                sample.labels
            );
            let may_be_less = self.kind == "gauge" || sample.name.ends_with("_sum");
            assert!(sample.value >= 0.0 || may_be_less, "{name} is negative");
        }
        if self.kind == "histogram" {
            self.check_buckets(name);
        }
    }

    /// Each series has buckets that grow, up to one for all.
    fn check_buckets(&self, name: &str) {
        let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self
            .samples
            .iter()
            .filter(|sample| sample.name.ends_with("_bucket"))
        {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().unwrap()
            };
            series.entry(labels).or_default().push((bound, sample.value));
        }
        for (labels, buckets) in series {
            assert!(buckets.is_sorted(), "{name} {labels:?}: {buckets:?}");
            let (last, all) = *buckets.last().unwrap();
            assert!(last.is_infinite(), "{name} {labels:?}");
            let count = format!("{name}_count");
            let count = self
                .samples
                .iter()
                .find(|sample| sample.name == count && sample.labels == labels);
            assert_eq!(count.map(|count| count.value), Some(all), "{name} {labels:?}");
        }
    }

    /// The names of its labels, but for a bucket's bound.
    pub(crate) fn labels(&self) -> BTreeSet<&str> {
        let labels = self.samples.iter().flat_map(|sample| sample.labels.keys());
        labels
            .map(String::as_str)
            .filter(|label| *label != "le")
            .collect()
    }
}

/// `name value`, or `name{label="value",...} value`.
fn sample(line: &str) -> Sample {
    let end = line.find([' ', '{']).expect(line);
    let (name, rest) = line.split_at(end);
    let is_name = |name: &str| {
        let mut chars = name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect(line);
    Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().expect(line),
    }
}

/// A value up to its closing quote, and what is after that.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next().expect("a quote is missing") {
            (at, '"') => return (value, &text[at + 1..]),
            (_, '\\') => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                other => panic!("\\{other} is no escape"),
            }),
            (_, c) => value.push(c),
        }
    }
}
