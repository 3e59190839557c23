//! Rot, missing pieces and foreign files: named with file and offset, or harmless; never wrong data, and
//! nothing on the disk is changed.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use quorate_wal::{Disk, MemDisk, OpenError, OpenMode, Options, ReadError, Record, Wal};

/// Syncs each of the batches.
fn synced(batches: &[Vec<Record>]) -> MemDisk {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    for batch in batches {
        wal.append(batch).unwrap();
        wal.sync().unwrap();
    }
    disk.kill_process();
    disk
}

fn batches() -> Vec<Vec<Record>> {
    vec![
        vec![
            state("term 1"),
            entry(1, 1, body(1, 700)),
            entry(2, 1, body(2, 30)),
        ],
        vec![entry(3, 1, "one sector")],
        vec![state("term 2"), entry(4, 2, body(3, 1200))],
        vec![entry(5, 2, "the last")],
    ]
}

fn damaged_at(result: Result<(Wal, quorate_wal::Recovered), OpenError>) -> (PathBuf, u64) {
    match result.map(|_| ()) {
        Err(OpenError::Damaged { file, offset, .. }) => (file, offset),
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn a_flipped_byte_before_the_last_batch_is_damage_or_harmless() {
    let batches = batches();
    let disk = synced(&batches);
    let full = Model::of(batches.iter().flatten());
    // The last batch is one sector; everything before it had been durable when it was written.
    let last_batch = DATA + 7 * SECTOR;
    // The segment header, and of the frames all but the zeros that fill their last sectors.
    let meaningful = 128 + (64 + 46 + 740 + 70 + 64 + 48) + (64 + 50 + 32 + 48) + (64 + 46 + 1240 + 64 + 48);
    let mut refused = 0;
    for offset in 0..last_batch {
        for mask in [0x01, 0x80, 0xff] {
            let disk = disk.fork();
            disk.flip(Path::new(FIRST), offset, mask).unwrap();
            let before = disk.contents(Path::new(FIRST)).unwrap();
            match recover(&disk) {
                Ok((found, recovered)) => assert_eq!((found, recovered.cut), (full.clone(), None)),
                Err(OpenError::Damaged { file, offset: at, .. }) => {
                    assert_eq!(file, Path::new(FIRST));
                    assert!(at <= offset, "{at} is past the flipped byte at {offset}");
                    assert_eq!(
                        disk.contents(Path::new(FIRST)).unwrap(),
                        before,
                        "nothing was changed"
                    );
                    refused += 1;
                }
                Err(other) => panic!("byte {offset}: {other}"),
            }
        }
    }
    assert_eq!(
        refused,
        3 * meaningful,
        "every flip of a byte that means something was noticed"
    );
}

#[test]
fn a_flipped_byte_in_a_last_batch_of_one_sector_never_loses_it() {
    let disk = synced(&batches());
    let full = Model::of(batches().iter().flatten());
    for within in 0..SECTOR {
        let disk = disk.fork();
        disk.flip(Path::new(FIRST), DATA + 7 * SECTOR + within, 0x10)
            .unwrap();
        match recover(&disk) {
            Ok((found, _)) => assert_eq!(found, full),
            Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
        }
    }
}

/// One test per row of the table in `recovery.rs`: what is done to the file, and the verdict.
mod table {
    use super::*;

    /// Frames: three sectors, one sector, then three sectors and one, all of them in one segment.
    const FRAMES: [u64; 5] = [
        DATA,
        DATA + 3 * SECTOR,
        DATA + 4 * SECTOR,
        DATA + 7 * SECTOR,
        DATA + 8 * SECTOR,
    ];

    fn zero(disk: &MemDisk, from: u64, to: u64) {
        write(disk, FIRST, from, &vec![0; usize::try_from(to - from).unwrap()]);
    }

    fn kept(disk: &MemDisk) -> (Model, Option<(u64, u64)>) {
        let (model, recovered) = recover(disk).unwrap();
        (model, recovered.cut.map(|cut| (cut.offset, cut.bytes)))
    }

    fn model(number: usize) -> Model {
        Model::of(batches()[..number].iter().flatten())
    }

    #[test]
    fn row_1_whole_frames_are_taken() {
        assert_eq!(kept(&synced(&batches())), (model(4), None));
    }

    #[test]
    fn row_2_a_bad_frame_before_another_segment_is_damage() {
        let disk = MemDisk::new();
        let (mut wal, _) = open(&disk).unwrap();
        for index in 1..=20 {
            wal.append(&[entry(index, 1, body(index, 1000))]).unwrap();
        }
        assert_eq!(wal.stats().segments, 3);
        for (file, frame) in [(FIRST, 2), (FIRST, 0), (SECOND, 3)] {
            let disk = disk.fork();
            write(&disk, file, DATA + frame * 3 * SECTOR, &[0; 1536]);
            assert_eq!(damaged_at(open(&disk)), (file.into(), DATA + frame * 3 * SECTOR));
        }
    }

    #[test]
    fn row_3_a_bad_frame_before_one_written_after_its_sync_is_damage() {
        let disk = synced(&batches());
        zero(&disk, FRAMES[2], FRAMES[3]);
        assert_eq!(damaged_at(open(&disk)), (FIRST.into(), FRAMES[2]));
        let disk = synced(&batches());
        zero(&disk, FRAMES[2] + SECTOR, FRAMES[3]);
        assert_eq!(damaged_at(open(&disk)).0, Path::new(FIRST));
    }

    #[test]
    fn row_4_a_frame_that_stands_in_the_place_of_another_is_damage() {
        // The second frame of a log whose first differs: everything about it is right but its chain.
        let mut changed = batches();
        changed[0][0] = state("term X");
        let other = synced(&changed).contents(Path::new(FIRST)).unwrap();
        let disk = synced(&batches());
        let place = usize::try_from(FRAMES[1]).unwrap();
        write(&disk, FIRST, FRAMES[1], &other[place..place + 512]);
        assert_eq!(damaged_at(open(&disk)), (FIRST.into(), FRAMES[1]));
        // The end of one frame behind the beginning of another, as no tear makes it.
        let disk = synced(&batches());
        let end = usize::try_from(FRAMES[1]).unwrap() - 512;
        write(&disk, FIRST, FRAMES[1] - SECTOR, &other[end..end + 512]);
        assert_eq!(damaged_at(open(&disk)).0, Path::new(FIRST));
    }

    #[test]
    fn row_5_rot_in_a_sector_that_was_written_is_damage() {
        // The body of the last frame, its header, and its footer, which share one sector.
        for within in [110, 3, 500] {
            let disk = synced(&batches());
            disk.flip(Path::new(FIRST), FRAMES[3] + within, 4).unwrap();
            let (file, offset) = damaged_at(open(&disk));
            assert_eq!(file, Path::new(FIRST));
            assert!((FRAMES[3]..=FRAMES[3] + within).contains(&offset));
        }
    }

    #[test]
    fn row_6_an_unfinished_tail_is_cut_and_stays_cut() {
        let unsynced = MemDisk::new();
        let (mut wal, _) = open(&unsynced).unwrap();
        wal.append(&batches()[0]).unwrap();
        wal.sync().unwrap();
        batches()[1..].iter().for_each(|batch| wal.append(batch).unwrap());
        unsynced.kill_process();
        for (from, to, left, bytes) in [
            // The middle of the last but one is missing: both go.
            (FRAMES[2] + SECTOR, FRAMES[3] - SECTOR, 2, FRAMES[4] - FRAMES[2]),
            // A whole frame is missing and later ones are there.
            (FRAMES[1], FRAMES[2], 1, FRAMES[4] - FRAMES[1]),
            // Only the end of the last but one is there.
            (FRAMES[2], FRAMES[3] - SECTOR, 2, FRAMES[4] - FRAMES[2]),
        ] {
            let disk = unsynced.fork();
            zero(&disk, from, to);
            assert_eq!(kept(&disk), (model(left), Some((FRAMES[left], bytes))));
            disk.lose_unsynced();
            assert_eq!(kept(&disk), (model(left), None));
        }
    }

    #[test]
    fn row_7_without_a_trace_it_is_the_end() {
        for frames in 0..4 {
            let disk = synced(&batches()[..frames]);
            assert_eq!(kept(&disk), (model(frames), None));
        }
    }
}

fn write(disk: &MemDisk, file: &str, offset: u64, bytes: &[u8]) {
    let file = disk.open(Path::new(file), OpenMode::ReadWrite).unwrap();
    file.write_at(offset, bytes).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_file_that_was_cut_short_is_damage_at_every_length() {
    let disk = synced(&batches());
    let length = disk.contents(Path::new(FIRST)).unwrap().len() as u64;
    for keep in (0..length).step_by(500) {
        let disk = disk.fork();
        disk.open(Path::new(FIRST), OpenMode::ReadWrite)
            .unwrap()
            .set_len(keep)
            .unwrap();
        assert_eq!(damaged_at(open(&disk)).0, Path::new(FIRST), "cut to {keep} bytes");
    }
}

/// A log of several segments whose first has been let go.
fn long_log() -> (MemDisk, Vec<PathBuf>) {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    for index in 1..=80 {
        wal.append(&[entry(index, 1, body(index, 900))]).unwrap();
        wal.sync().unwrap();
    }
    wal.append(&[compact(30, 1)]).unwrap();
    wal.sync().unwrap();
    disk.kill_process();
    let names = disk.list(Path::new(DIR)).unwrap();
    let files = names
        .iter()
        .filter(|name| !name.starts_with("spare"))
        .map(|name| Path::new(DIR).join(name));
    let files: Vec<PathBuf> = files.collect();
    assert!(files.len() >= 4, "{files:?}");
    (disk, files)
}

#[test]
fn a_missing_segment_is_damage_wherever_it_was() {
    let (disk, files) = long_log();
    for (at, file) in files.iter().enumerate() {
        let disk = disk.fork();
        disk.remove(file).unwrap();
        if at == files.len() - 1 {
            // The newest holds the carried base; without it the first entries follow nothing.
            damaged_at(open(&disk));
        } else {
            assert_eq!(damaged_at(open(&disk)).0, *file);
        }
    }
    let disk = disk.fork();
    files.iter().for_each(|file| disk.remove(file).unwrap());
    assert_eq!(damaged_at(open(&disk)).0, Path::new(DIR), "spares without a log");
}

#[test]
fn segments_that_changed_places_are_damage() {
    let (disk, files) = long_log();
    let aside = Path::new(DIR).join("aside");
    disk.rename(&files[0], &aside).unwrap();
    disk.rename(&files[1], &files[0]).unwrap();
    disk.rename(&aside, &files[1]).unwrap();
    damaged_at(open(&disk));
}

#[test]
fn a_segment_of_another_log_is_damage() {
    let (disk, files) = long_log();
    let foreign = MemDisk::new();
    let (mut wal, _) = open_with(
        &foreign,
        Options {
            wal_id: 77,
            ..options()
        },
    )
    .unwrap();
    for index in 1..=80 {
        wal.append(&[entry(index, 1, body(index, 900))]).unwrap();
        wal.sync().unwrap();
    }
    let bytes = foreign.contents(&files[1]).unwrap();
    write(&disk, files[1].to_str().unwrap(), 0, &bytes);
    assert_eq!(damaged_at(open(&disk)), (files[1].clone(), 0));
}

#[test]
fn an_existing_log_keeps_its_id() {
    let disk = synced(&batches());
    let (wal, _) = open_with(
        &disk,
        Options {
            wal_id: 5,
            ..options()
        },
    )
    .unwrap();
    assert_eq!(wal.id(), WAL_ID);
}

#[test]
fn a_newer_version_is_named_with_both_numbers() {
    let disk = synced(&batches());
    let mut header = disk.contents(Path::new(FIRST)).unwrap()[..128].to_vec();
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..124]);
    header[124..].copy_from_slice(&crc.to_le_bytes());
    write(&disk, FIRST, 0, &header);
    match open(&disk).map(|_| ()) {
        Err(
            error @ OpenError::NewerVersion {
                found: 9,
                supported: 1,
                ..
            },
        ) => {
            assert!(error.to_string().contains("use a newer release"));
        }
        other => panic!("{other:?}"),
    }
    // Rot in the version is not a newer version.
    let disk = synced(&batches());
    disk.flip(Path::new(FIRST), 8, 8).unwrap();
    assert_eq!(damaged_at(open(&disk)), (FIRST.into(), 0));
}

#[test]
fn the_message_names_file_offset_and_what_to_do() {
    let disk = synced(&batches());
    disk.flip(Path::new(FIRST), DATA + 200, 1).unwrap();
    let Err(error) = open(&disk).map(|_| ()) else {
        panic!("damage was not noticed")
    };
    let text = error.to_string();
    for part in [
        "log/00000001.wal",
        "at byte 42",
        "had been durable",
        "nothing was changed",
        "a copy taken after the node last stopped",
        "or replace the member by a new one",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn rot_under_a_running_log_is_noticed_by_its_reader() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&batches().concat()).unwrap();
    wal.sync().unwrap();
    let reader = wal.reader();
    assert_eq!(reader.read(1, 1, 5, u64::MAX).unwrap().len(), 5);
    disk.flip(Path::new(FIRST), DATA + 200, 1).unwrap();
    let Err(ReadError::Damaged { file, offset }) = reader.read(1, 1, 5, u64::MAX) else {
        panic!()
    };
    assert_eq!(file, Path::new(FIRST));
    assert!(offset < DATA + 200);
    assert_eq!(
        reader.read(1, 3, 5, u64::MAX).unwrap().len(),
        3,
        "the others can be read"
    );
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    let mut numbers = Numbers(1);
    for round in 0..200 {
        let disk = synced(&batches());
        let offset = numbers.below(DATA + 8 * SECTOR);
        let bytes: Vec<u8> = (0..1 + numbers.below(900))
            .map(|_| numbers.next().to_le_bytes()[0])
            .collect();
        write(
            &disk,
            FIRST,
            if round % 2 == 0 {
                offset
            } else {
                offset / SECTOR * SECTOR
            },
            &bytes,
        );
        if let Ok((found, _)) = recover(&disk) {
            // What is left is a prefix: the last batch may have looked like an unfinished one.
            let prefix = |count: usize| Model::of(batches()[..count].iter().flatten());
            assert!((3..=4).any(|count| found == prefix(count)), "round {round}");
        }
    }
    let disk = MemDisk::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    let file: Arc<dyn quorate_wal::DiskFile> = disk.open(Path::new(FIRST), OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..20_000).map(|_| numbers.next().to_le_bytes()[0]).collect();
    file.write_at(0, &bytes).unwrap();
    assert_eq!(damaged_at(open(&disk)), (FIRST.into(), 0));
}
