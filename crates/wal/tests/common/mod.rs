//! What the tests of the log share: a small log, and everything that can be read from it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_wal::{Disk, LogId, MemDisk, OpenError, Options, Record, Recovered, Wal};

pub const DIR: &str = "log";
pub const FIRST: &str = "log/00000001.wal";
pub const SECOND: &str = "log/00000002.wal";
/// Where the first frame of a segment begins.
pub const DATA: u64 = 4096;
pub const SECTOR: u64 = 512;
pub const WAL_ID: u128 = 0x1234_5678_9abc_def0_0fed_cba9_8765_4321;

pub fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        ..Options::new(WAL_ID)
    }
}

pub fn open(disk: &MemDisk) -> Result<(Wal, Recovered), OpenError> {
    open_with(disk, options())
}

pub fn open_with(disk: &MemDisk, options: Options) -> Result<(Wal, Recovered), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Wal::open(disk, Path::new(DIR), options)
}

pub fn entry(index: u64, term: u64, body: impl Into<Bytes>) -> Record {
    Record::Entry {
        group: 1,
        index,
        term,
        body: body.into(),
    }
}

pub fn state(body: impl Into<Bytes>) -> Record {
    Record::State {
        group: 1,
        body: body.into(),
    }
}

pub fn compact(index: u64, term: u64) -> Record {
    Record::Compact {
        group: 1,
        index,
        term,
    }
}

pub fn reset(index: u64, term: u64) -> Record {
    Record::Reset {
        group: 1,
        index,
        term,
    }
}

/// A body of `len` bytes that are not zero and differ from those of other seeds.
pub fn body(seed: u64, len: usize) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24).to_le_bytes()[0] | 1
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// One group's log with its bodies: the naive twin of what the log keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupModel {
    pub state: Option<Bytes>,
    pub base: LogId,
    pub entries: BTreeMap<u64, (u64, Bytes)>,
}

/// All groups. Applying the records one after the other is all there is to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model(pub BTreeMap<u64, GroupModel>);

impl Model {
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Model {
        let mut model = Model::default();
        records.into_iter().for_each(|record| model.apply(record));
        model
    }

    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry {
                group,
                index,
                term,
                body,
            } => {
                let group = self.0.entry(*group).or_default();
                group.entries.retain(|at, _| at < index);
                group.entries.insert(*index, (*term, body.clone()));
            }
            Record::State { group, body } => self.0.entry(*group).or_default().state = Some(body.clone()),
            Record::Reset { group, index, term } => {
                let group = self.0.entry(*group).or_default();
                group.entries.clear();
                group.base = LogId::new(*index, *term);
            }
            Record::Compact { group, index, term } => {
                let group = self.0.entry(*group).or_default();
                if *index >= group.base.index {
                    group.entries.retain(|at, _| at > index);
                    group.base = LogId::new(*index, *term);
                }
            }
        }
    }
}

/// Everything a log says and everything that can be read from it, which must be the same.
pub fn contents(wal: &Wal, recovered: &Recovered) -> Model {
    let reader = wal.reader();
    let mut model = Model::default();
    for (&number, group) in &recovered.groups {
        assert_eq!(reader.bounds(number), (group.base, group.last));
        let mut read = GroupModel {
            state: group.state.clone(),
            base: group.base,
            ..Default::default()
        };
        if group.last != group.base {
            let entries = reader
                .read(number, group.base.index + 1, u64::MAX, u64::MAX)
                .unwrap();
            read.entries = entries.into_iter().map(|e| (e.index, (e.term, e.body))).collect();
        }
        assert_eq!(last_of(&read), group.last);
        assert_eq!(runs_of(&read), group.terms);
        model.0.insert(number, read);
    }
    model
}

fn last_of(group: &GroupModel) -> LogId {
    let last = group.entries.last_key_value();
    last.map_or(group.base, |(index, (term, _))| LogId::new(*index, *term))
}

fn runs_of(group: &GroupModel) -> Vec<LogId> {
    let mut runs: Vec<LogId> = Vec::new();
    for (index, (term, _)) in &group.entries {
        if runs.last().is_none_or(|run| run.term != *term) {
            runs.push(LogId::new(*index, *term));
        }
    }
    runs
}

/// Opens the log and reads all of it.
pub fn recover(disk: &MemDisk) -> Result<(Model, Recovered), OpenError> {
    let (wal, recovered) = open(disk)?;
    Ok((contents(&wal, &recovered), recovered))
}

/// A small generator of numbers, so that a test is the same every time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
