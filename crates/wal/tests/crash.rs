//! Power failures: every prefix, every torn sector, crashes at every step, and a naive twin.
//!
//! The rule is always the same: what is found is what a prefix of the appended records makes, a prefix
//! that holds at least everything synced. And what was found once is found ever after.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::*;
use proptest::prelude::*;
use quorate_wal::{Disk, DiskOp, MemDisk, OpenMode, Record, Wal};

/// Batches of which the first `synced` were synced together, the others not.
struct Scenario {
    disk: MemDisk,
    batches: Vec<Vec<Record>>,
    synced: usize,
}

impl Scenario {
    fn new(disk: MemDisk, batches: Vec<Vec<Record>>, synced: usize) -> Scenario {
        let (mut wal, _) = open(&disk).unwrap();
        for (number, batch) in batches.iter().enumerate() {
            if number == synced {
                wal.sync().unwrap();
            }
            wal.append(batch).unwrap();
        }
        Scenario {
            disk,
            batches,
            synced,
        }
    }

    /// Checks what is found on `disk`, twice, and that the log goes on.
    fn check(&self, disk: &MemDisk) -> usize {
        let (found, first) = recover(disk).unwrap();
        let models: Vec<Model> = (self.synced..=self.batches.len())
            .map(|batches| Model::of(self.batches[..batches].iter().flatten()))
            .collect();
        let kept = models
            .iter()
            .position(|model| *model == found)
            .expect("a prefix of the batches");
        disk.lose_unsynced();
        let (mut wal, again) = open(disk).unwrap();
        assert_eq!(contents(&wal, &again), found, "what was found must be durable");
        assert_eq!(again.cut, None, "a tail is cut once: {:?}", first.cut);
        self.go_on(&mut wal, disk, &found);
        self.synced + kept
    }

    fn go_on(&self, wal: &mut Wal, disk: &MemDisk, found: &Model) {
        let mut expected = found.clone();
        let next = found
            .0
            .get(&1)
            .map_or(0, |g| g.base.index.max(g.entries.keys().last().map_or(0, |i| *i)));
        for record in [entry(next + 1, 9, body(77, 900)), state("after the crash")] {
            wal.append(std::slice::from_ref(&record)).unwrap();
            wal.sync().unwrap();
            expected.apply(&record);
        }
        disk.lose_unsynced();
        assert_eq!(recover(disk).unwrap().0, expected);
    }
}

/// Synced, then not: one sector, three sectors, two sectors, one sector.
fn small_batches() -> Vec<Vec<Record>> {
    vec![
        vec![state("term 1"), entry(1, 1, body(1, 700))],
        vec![entry(2, 1, "b")],
        vec![
            state("term 2"),
            entry(3, 2, body(3, 500)),
            entry(4, 2, body(4, 500)),
        ],
        vec![entry(5, 2, body(5, 600))],
        vec![entry(4, 3, "replaces")],
    ]
}

/// A disk whose next segments are recycled ones, full of old records.
fn disk_with_spares() -> MemDisk {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    for index in 1..=60 {
        wal.append(&[entry(
            index,
            1,
            body(index, 150 + usize::try_from(index).unwrap() * 9),
        )])
        .unwrap();
        wal.sync().unwrap();
    }
    wal.append(&[reset(0, 0), state("")]).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.stats().spares, 2);
    // Whatever is left of the last segment is used up, so that the next append begins a recycled one.
    let before = wal.stats().reclaimed;
    while wal.stats().reclaimed == before {
        wal.append(&[state("filler")]).unwrap();
        wal.sync().unwrap();
    }
    wal.append(&[state(""), reset(0, 0)]).unwrap();
    wal.sync().unwrap();
    disk
}

#[test]
fn every_set_of_torn_sectors_in_a_fresh_segment_leaves_a_prefix() {
    let scenario = Scenario::new(MemDisk::new(), small_batches(), 1);
    let kept = every_outcome(&scenario);
    assert_eq!(kept, [1, 2, 3, 4, 5].into(), "every prefix comes up");
}

#[test]
fn every_set_of_torn_sectors_in_a_recycled_segment_leaves_a_prefix() {
    let mut batches = small_batches();
    batches[0].splice(0..0, [state(""), reset(0, 0)]);
    let scenario = Scenario::new(disk_with_spares(), batches, 1);
    let kept = every_outcome(&scenario);
    assert_eq!(kept, [1, 2, 3, 4, 5].into(), "every prefix comes up");
}

/// Lets every sector that was not synced reach the disk or not, in all combinations.
fn every_outcome(scenario: &Scenario) -> std::collections::BTreeSet<usize> {
    let mut questions = 0;
    scenario.disk.fork().crash_choosing(&mut |choices| {
        questions += 1;
        assert_eq!(choices, 2, "a sector that was not synced is not written twice");
        0
    });
    assert!((7..16).contains(&questions), "{questions} sectors");
    let outcomes = (0..1_u32 << questions).map(|subset| {
        let disk = scenario.disk.fork();
        let mut asked = 0;
        disk.crash_choosing(&mut |_| {
            asked += 1;
            usize::from(subset >> (asked - 1) & 1 == 1)
        });
        scenario.check(&disk)
    });
    outcomes.collect()
}

#[test]
fn every_prefix_of_the_bytes_leaves_a_prefix_of_the_batches() {
    let scenario = Scenario::new(MemDisk::new(), small_batches(), 0);
    scenario.disk.kill_process();
    let file = scenario.disk.contents(Path::new(FIRST)).unwrap();
    let end = file.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let mut most = 0;
    for length in DATA..=end {
        let disk = scenario.disk.fork();
        let handle = disk.open(Path::new(FIRST), OpenMode::ReadWrite).unwrap();
        handle
            .write_at(length, &vec![0; usize::try_from(end - length).unwrap()])
            .unwrap();
        handle.sync_data().unwrap();
        let kept = scenario.check(&disk);
        assert!(kept >= most, "a longer prefix of {length} bytes keeps no less");
        most = kept;
    }
    assert_eq!(most, scenario.batches.len());
}

/// A log of several segments whose calls of `op` fail one after the other; after each failure the
/// power fails too.
fn fail_every(op: DiskOp) {
    for nth in 1.. {
        let disk = MemDisk::new();
        disk.fail_nth(op, nth);
        let (records, synced, failed) = run_until_failure(&disk);
        let mut numbers = Numbers(nth);
        for outcome in 0..5 {
            let disk = disk.fork();
            match outcome {
                0 => disk.lose_unsynced(),
                1 => disk.kill_process(),
                2 => {
                    // Nothing but the process is gone, but what the disk was asked for it did.
                    disk.crash_choosing(&mut |choices| choices - 1);
                }
                _ => disk.crash(&mut || numbers.next()),
            }
            check_prefix(&disk, &records, synced);
        }
        if !failed {
            return;
        }
    }
}

/// Appends, syncs and compacts until something fails; returns what was appended, how much of it was
/// synced, and whether something failed.
fn run_until_failure(disk: &MemDisk) -> (Vec<Record>, usize, bool) {
    let (mut records, mut synced) = (Vec::new(), 0);
    for start in [1, 41] {
        let Ok((mut wal, _)) = open(disk) else {
            return (records, synced, true);
        };
        for index in start..start + 40 {
            records.push(entry(index, index / 7, body(index, 600)));
            let mut batch = 1;
            if index % 8 == 0 {
                records.push(state(body(index, 20)));
                records.push(compact(index - 2, (index - 2) / 7));
                batch = 3;
            }
            let done = wal.append(&records[records.len() - batch..]);
            if done.is_err() {
                return (records, synced, true);
            }
            if index % 3 == 0 {
                if wal.sync().is_err() {
                    return (records, synced, true);
                }
                synced = records.len();
            }
        }
    }
    (records, synced, false)
}

/// Whatever the log holds is what a prefix of `records` makes, with at least those that were synced.
/// Returns its length.
fn check_prefix(disk: &MemDisk, records: &[Record], synced: usize) -> usize {
    let (found, _) = recover(disk).unwrap();
    disk.lose_unsynced();
    assert_eq!(recover(disk).unwrap().0, found, "what was found must be durable");
    let mut model = Model::of(&records[..synced]);
    for kept in synced..=records.len() {
        if model == found {
            return kept;
        }
        if let Some(record) = records.get(kept) {
            model.apply(record);
        }
    }
    panic!(
        "not a prefix with {synced} or more of {} records: {found:?}",
        records.len()
    );
}

#[test]
fn a_crash_after_any_failed_call_leaves_a_prefix() {
    let ops = [
        DiskOp::Create,
        DiskOp::Write,
        DiskOp::Allocate,
        DiskOp::SetLen,
        DiskOp::Sync,
        DiskOp::Rename,
        DiskOp::Remove,
        DiskOp::SyncDir,
    ];
    ops.into_iter().for_each(fail_every);
}

#[test]
fn a_crash_while_opening_changes_nothing_that_the_next_open_finds() {
    for (base, batches) in [
        (MemDisk::new(), small_batches()),
        (disk_with_spares(), {
            let mut batches = small_batches();
            batches[0].splice(0..0, [state(""), reset(0, 0)]);
            batches
        }),
    ] {
        let scenario = Scenario::new(base, batches, 1);
        let mut numbers = Numbers(5);
        let mut failures = 0;
        for seed in 0..60 {
            for op in [
                DiskOp::Write,
                DiskOp::Sync,
                DiskOp::SyncDir,
                DiskOp::Rename,
                DiskOp::SetLen,
                DiskOp::Create,
            ] {
                let disk = scenario.disk.fork();
                let mut tears = Numbers(seed);
                disk.crash(&mut || tears.next());
                disk.fail_nth(op, 1 + numbers.below(3));
                failures += usize::from(open(&disk).is_err());
                disk.crash(&mut || numbers.next());
                scenario.check(&disk);
            }
        }
        assert!(failures > 100, "only {failures} opens failed");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        group: u64,
        back: u64,
        term: u64,
        len: usize,
    },
    State {
        group: u64,
        len: usize,
    },
    Compact {
        group: u64,
        back: u64,
    },
    Reset {
        group: u64,
        ahead: u64,
    },
    Sync,
    Crash {
        seed: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let group = 1..4_u64;
    prop_oneof![
        12 => (group.clone(), prop_oneof![6 => Just(0), 1 => 1..5_u64], 0..3_u64, 0..1500_usize)
            .prop_map(|(group, back, term, len)| Step::Put { group, back, term, len }),
        2 => (group.clone(), 0..200_usize).prop_map(|(group, len)| Step::State { group, len }),
        2 => (group.clone(), 0..6_u64).prop_map(|(group, back)| Step::Compact { group, back }),
        1 => (group, 0..9_u64).prop_map(|(group, ahead)| Step::Reset { group, ahead }),
        5 => Just(Step::Sync),
        1 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ]
}

/// The record that a step means for the log as it is.
fn record_for(model: &Model, step: &Step, number: u64) -> Option<Record> {
    let nothing = GroupModel::default();
    let head = |group: &u64| {
        let group = model.0.get(group).unwrap_or(&nothing);
        let last = group
            .entries
            .last_key_value()
            .map_or(group.base.index, |(index, _)| *index);
        let term = group
            .entries
            .last_key_value()
            .map_or(group.base.term, |(_, (term, _))| *term);
        (group.base, last, term)
    };
    Some(match step {
        Step::Put {
            group,
            back,
            term,
            len,
        } => {
            let (base, last, last_term) = head(group);
            let index = (last + 1).saturating_sub(*back).max(base.index + 1);
            let term = if *back == 0 {
                last_term + term / 2
            } else {
                last_term + 1
            };
            Record::Entry {
                group: *group,
                index,
                term,
                body: body(number, *len),
            }
        }
        Step::State { group, len } => Record::State {
            group: *group,
            body: body(number, *len),
        },
        Step::Compact { group, back } => {
            let (_, last, term) = head(group);
            let index = last.saturating_sub(*back);
            let known = model.0.get(group).and_then(|group| group.entries.get(&index));
            Record::Compact {
                group: *group,
                index,
                term: known.map_or(term, |(term, _)| *term),
            }
        }
        Step::Reset { group, ahead } => {
            let (_, last, term) = head(group);
            Record::Reset {
                group: *group,
                index: last + ahead,
                term: term + 1,
            }
        }
        Step::Sync | Step::Crash { .. } => return None,
    })
}

fn run_against_twin(steps: &[Step]) {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let (mut records, mut synced) = (Vec::new(), 0);
    let mut model = Model::default();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Sync => {
                wal.sync().unwrap();
                synced = records.len();
            }
            Step::Crash { seed } => {
                let mut numbers = Numbers(*seed);
                disk.crash(&mut || numbers.next());
                records.truncate(check_prefix(&disk, &records, synced));
                synced = records.len();
                model = Model::of(&records);
                wal = open(&disk).unwrap().0;
            }
            Step::Put { .. } | Step::State { .. } | Step::Compact { .. } | Step::Reset { .. } => {
                let record = record_for(&model, step, number as u64).unwrap();
                wal.append(std::slice::from_ref(&record)).unwrap();
                model.apply(&record);
                records.push(record);
            }
        }
    }
    disk.kill_process();
    check_prefix(&disk, &records, records.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_its_naive_twin_through_crashes(steps in prop::collection::vec(step(), 1..120)) {
        run_against_twin(&steps);
    }
}
