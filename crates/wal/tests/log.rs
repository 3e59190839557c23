//! Appending, reading, letting go, and what is refused, without any fault.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::*;
use quorate_wal::{Disk, LogId, MemDisk, OpenError, Options, ReadError, Record, WalError};

#[test]
fn what_was_synced_is_found_again() {
    let disk = MemDisk::new();
    let records = [
        state("v1"),
        entry(1, 1, "a"),
        entry(2, 1, "b"),
        entry(3, 2, ""),
        state("v2"),
    ];
    let (mut wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered, Default::default());
    wal.append(&records).unwrap();
    wal.sync().unwrap();
    drop(wal);
    disk.lose_unsynced();
    let (model, recovered) = recover(&disk).unwrap();
    assert_eq!(model, Model::of(&records));
    assert_eq!(recovered.groups[&1].last, LogId::new(3, 2));
    assert_eq!(recovered.cut, None);
}

#[test]
fn a_reader_sees_what_is_appended_and_stops_at_max_bytes() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let reader = wal.reader();
    wal.append(&[entry(1, 1, body(1, 100)), entry(2, 1, body(2, 100))])
        .unwrap();
    wal.append(&[entry(3, 2, body(3, 100))]).unwrap();
    let indexes = |from, to, max| -> Vec<u64> {
        reader
            .read(1, from, to, max)
            .unwrap()
            .iter()
            .map(|entry| entry.index)
            .collect()
    };
    assert_eq!(indexes(1, 3, 300), [1, 2, 3]);
    assert_eq!(indexes(1, 3, 299), [1, 2]);
    assert_eq!(indexes(2, 3, 0), [2]);
    assert_eq!(indexes(2, 2, 1000), [2]);
    assert_eq!(indexes(3, u64::MAX, u64::MAX), [3]);
    assert_eq!(reader.read(1, 3, 3, 0).unwrap()[0].body, body(3, 100));
    assert!(matches!(
        reader.read(1, 4, 9, 1),
        Err(ReadError::NotFound { index: 4, .. })
    ));
    assert!(matches!(reader.read(7, 1, 1, 1), Err(ReadError::NotFound { .. })));
    wal.append(&[compact(2, 1)]).unwrap();
    let base = LogId::new(2, 1);
    assert!(matches!(reader.read(1, 2, 3, 1), Err(ReadError::Compacted { base: b }) if b == base));
}

#[test]
fn an_entry_replaces_everything_after_it() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let records = [
        entry(1, 1, "a"),
        entry(2, 1, "b"),
        entry(3, 1, "c"),
        entry(2, 2, "B"),
    ];
    wal.append(&records).unwrap();
    assert_eq!(wal.reader().bounds(1).1, LogId::new(2, 2));
    wal.sync().unwrap();
    drop(wal);
    assert_eq!(recover(&disk).unwrap().0, Model::of(&records));
}

#[test]
fn a_batch_with_a_refused_record_leaves_nothing() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[entry(1, 1, "a"), compact(1, 1), entry(2, 1, "b")])
        .unwrap();
    let before = wal.stats();
    let big = body(1, 16 << 10);
    let gap = wal.append(&[entry(3, 1, "c"), entry(5, 1, "e")]);
    assert!(matches!(
        gap,
        Err(WalError::Gap {
            group: 1,
            index: 5,
            ..
        })
    ));
    let low = wal.append(&[entry(1, 1, "a")]);
    assert!(matches!(
        low,
        Err(WalError::BeforeBase {
            group: 1,
            index: 1,
            ..
        })
    ));
    assert!(matches!(
        wal.append(&[state(big)]),
        Err(WalError::TooLarge { .. })
    ));
    assert_eq!(wal.stats(), before);
    wal.append(&[entry(3, 1, "c")]).unwrap();
}

#[test]
fn the_largest_body_fits_and_one_byte_more_does_not() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let limit = match wal.append(&[state(body(1, 16 << 10))]) {
        Err(WalError::TooLarge { limit, .. }) => usize::try_from(limit).unwrap(),
        other => panic!("{other:?}"),
    };
    wal.append(&[entry(1, 1, body(1, limit)), entry(2, 1, body(2, limit))])
        .unwrap();
    assert!(wal.append(&[entry(3, 1, body(3, limit + 1))]).is_err());
    wal.sync().unwrap();
    drop(wal);
    let (model, _) = recover(&disk).unwrap();
    assert_eq!(model.0[&1].entries[&2].1, body(2, limit));
}

#[test]
fn groups_do_not_mix_and_a_batch_goes_on_in_the_next_segment() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let mut records = Vec::new();
    for index in 1..=60 {
        for group in [1, 2, 9] {
            records.push(Record::Entry {
                group,
                index,
                term: group,
                body: body(index * group, 300),
            });
        }
    }
    wal.append(&records).unwrap();
    assert!(wal.stats().segments > 3);
    wal.sync().unwrap();
    drop(wal);
    disk.lose_unsynced();
    assert_eq!(recover(&disk).unwrap().0, Model::of(&records));
}

#[test]
fn one_sync_covers_all_appends_and_none_is_done_for_nothing() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[entry(1, 1, "a")]).unwrap();
    wal.append(&[entry(2, 1, "b")]).unwrap();
    wal.sync().unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.stats().syncs, 1);
}

#[test]
fn compaction_frees_segments_and_carries_what_is_still_needed() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let mut records = vec![
        state("the vote"),
        Record::State {
            group: 2,
            body: "of another group".into(),
        },
        Record::Reset {
            group: 3,
            index: 70,
            term: 7,
        },
    ];
    wal.append(&records).unwrap();
    for index in 1..=200 {
        records.push(entry(index, 1, body(index, 300)));
        wal.append(&records[records.len() - 1..]).unwrap();
        wal.sync().unwrap();
    }
    let before = wal.stats();
    records.push(compact(150, 1));
    wal.append(&records[records.len() - 1..]).unwrap();
    wal.sync().unwrap();
    let after = wal.stats();
    assert!(after.segments < before.segments / 2, "{before:?} {after:?}");
    assert_eq!(after.spares, 2);
    drop(wal);
    disk.lose_unsynced();
    let (model, recovered) = recover(&disk).unwrap();
    assert_eq!(model, Model::of(&records));
    assert_eq!(recovered.groups[&3].base, LogId::new(70, 7));
}

#[test]
fn a_log_that_is_compacted_for_long_stays_small() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let mut records = vec![state("kept through a hundred segments")];
    wal.append(&records).unwrap();
    for index in 1..=4000 {
        records.push(entry(index, index / 100, body(index, 200)));
        let mut from = records.len() - 1;
        if index % 10 == 0 {
            records.push(compact(index - 5, (index - 5) / 100));
            from = records.len() - 2;
        }
        wal.append(&records[from..]).unwrap();
        wal.sync().unwrap();
    }
    let stats = wal.stats();
    assert!(
        stats.reclaimed > 100 && stats.segments <= 3 && stats.spares <= 2,
        "{stats:?}"
    );
    drop(wal);
    disk.lose_unsynced();
    assert_eq!(recover(&disk).unwrap().0, Model::of(&records));
}

#[test]
fn the_old_bytes_of_a_recycled_segment_are_not_records() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let mut records = Vec::new();
    for index in 1..=120 {
        records.push(entry(index, 1, body(index, 300)));
        wal.append(&records[records.len() - 1..]).unwrap();
        wal.sync().unwrap();
    }
    records.push(compact(120, 1));
    wal.append(&records[120..]).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.stats().spares, 2);
    // Each recycled segment gets one short frame at most before the process is gone.
    for index in 121..=150 {
        records.push(entry(index, 2, body(index, 5000)));
        wal.append(&records[records.len() - 1..]).unwrap();
        wal.sync().unwrap();
        let recovered = recover(&disk.fork()).unwrap();
        assert_eq!(recovered.0, Model::of(&records));
        assert_eq!(recovered.1.cut, None);
    }
}

#[test]
fn a_log_goes_on_in_its_last_segment_when_the_rest_of_it_is_blank() {
    let disk = MemDisk::new();
    let mut records = Vec::new();
    for index in 1..=20 {
        let (mut wal, recovered) = open(&disk).unwrap();
        assert_eq!(contents(&wal, &recovered), Model::of(&records));
        records.push(entry(index, index, "x"));
        wal.append(&records[records.len() - 1..]).unwrap();
        wal.sync().unwrap();
        assert_eq!(wal.stats().segments, 1);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for segment_bytes in [0, 512, 4096, 8191, 8193, 2 << 30] {
        let options = Options {
            segment_bytes,
            ..options()
        };
        assert!(matches!(
            open_with(&MemDisk::new(), options),
            Err(OpenError::BadOptions(_))
        ));
    }
}

#[test]
fn segments_of_another_size_are_read_and_new_ones_have_the_new_size() {
    let disk = MemDisk::new();
    let mut records = Vec::new();
    for (start, segment_bytes) in [(0, 16 << 10), (50, 32 << 10), (100, 8 << 10)] {
        let (mut wal, recovered) = open_with(
            &disk,
            Options {
                segment_bytes,
                ..options()
            },
        )
        .unwrap();
        assert_eq!(contents(&wal, &recovered), Model::of(&records));
        for index in start + 1..=start + 50 {
            records.push(entry(index, 1, body(index, 700)));
            wal.append(&records[records.len() - 1..]).unwrap();
        }
        records.push(compact(start + 30, 1));
        wal.append(&records[records.len() - 1..]).unwrap();
        wal.sync().unwrap();
    }
    assert_eq!(recover(&disk).unwrap().0, Model::of(&records));
}

#[test]
fn segments_that_a_crash_kept_from_being_let_go_are_let_go_at_the_next_open() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    for index in 1..=80 {
        wal.append(&[entry(index, 1, body(index, 900))]).unwrap();
    }
    wal.append(&[compact(60, 1)]).unwrap();
    wal.sync().unwrap();
    let spare = disk
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .find(|name| name.starts_with("spare"))
        .unwrap();
    disk.rename(&Path::new(DIR).join(spare), Path::new(FIRST))
        .unwrap();
    drop(wal);
    let (wal, _) = open(&disk).unwrap();
    assert_eq!(wal.reader().read(1, 61, 80, u64::MAX).unwrap().len(), 20);
    let names = disk.list(Path::new(DIR)).unwrap();
    assert!(!names.contains(&"00000001.wal".to_owned()), "{names:?}");
}

#[test]
fn a_segment_gives_back_its_room_when_its_tail_is_cut() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[entry(1, 1, "a")]).unwrap();
    wal.sync().unwrap();
    wal.append(&[entry(2, 1, body(2, 600))]).unwrap();
    let mut sectors = 0;
    disk.crash_choosing(&mut |_| {
        sectors += 1;
        usize::from(sectors == 1)
    });
    let (wal, recovered) = open(&disk).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!(
        (cut.file.as_path(), cut.offset, cut.bytes),
        (Path::new(FIRST), DATA + SECTOR, SECTOR)
    );
    assert_eq!(wal.stats().segments, 2);
    assert_eq!(
        disk.contents(Path::new(FIRST)).unwrap().len() as u64,
        DATA + SECTOR
    );
}

#[test]
fn a_reader_in_another_thread_never_sees_wrong_entries_while_segments_are_recycled() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    let reader = wal.reader();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reading = std::thread::spawn(move || {
        let (mut numbers, mut read) = (Numbers(3), 0);
        while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            let from = reader.bounds(1).0.index + 1 + numbers.below(5);
            match reader.read(1, from, from + numbers.below(10), 5000) {
                Ok(entries) => {
                    for (entry, index) in entries.iter().zip(from..) {
                        assert_eq!((entry.index, entry.term), (index, index / 100));
                        assert_eq!(entry.body, body(index, 300));
                    }
                    read += entries.len();
                }
                Err(ReadError::Compacted { .. } | ReadError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        read
    });
    for index in 1..=3000 {
        wal.append(&[entry(index, index / 100, body(index, 300))])
            .unwrap();
        if index % 20 == 0 {
            wal.append(&[compact(index - 10, (index - 10) / 100)]).unwrap();
        }
        wal.sync().unwrap();
    }
    drop(stop);
    assert!(reading.join().unwrap() > 0);
    assert!(wal.stats().reclaimed > 50);
}
