//! Files of format version 1, as a release wrote them: every later release must read them.
//!
//! The test also writes the same again and compares, so that no change to the format goes unnoticed.
//! After a deliberate change of version, write new files with
//! `QUORATE_WRITE_GOLDEN=1 cargo test -p quorate-wal --test golden` under new names.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use quorate_wal::{CheckpointReader, CheckpointWriter, Disk, MemDisk, OpenMode, Record};

fn records() -> Vec<Record> {
    vec![
        state("term 3, vote 2"),
        entry(1, 1, "first"),
        entry(2, 1, ""),
        entry(3, 3, body(3, 600)),
        Record::Entry {
            group: u64::MAX,
            index: 1,
            term: 9,
            body: "another group".into(),
        },
        Record::Reset {
            group: 7,
            index: 40,
            term: 2,
        },
        Record::Entry {
            group: 7,
            index: 41,
            term: 2,
            body: "after a snapshot".into(),
        },
        entry(3, 4, "replaced"),
        compact(1, 1),
    ]
}

fn check_golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("QUORATE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, written).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert!(golden == written, "{name} is not what is written today");
    golden
}

/// A disk that holds these bytes in a file of this name.
fn disk_with(file: &str, bytes: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    let file = disk.open(Path::new(file), OpenMode::CreateNew).unwrap();
    file.write_at(0, bytes).unwrap();
    disk
}

#[test]
fn a_segment_of_version_1_is_read() {
    let disk = MemDisk::new();
    let options = quorate_wal::Options {
        segment_bytes: 8 << 10,
        ..options()
    };
    let (mut wal, _) = open_with(&disk, options).unwrap();
    let records = records();
    for batch in [&records[..4], &records[4..7], &records[7..]] {
        wal.append(batch).unwrap();
        wal.sync().unwrap();
    }
    let golden = check_golden("v1.wal", &disk.contents(Path::new(FIRST)).unwrap());
    let (model, recovered) = recover(&disk_with(FIRST, &golden)).unwrap();
    assert_eq!(model, Model::of(&records));
    assert_eq!(recovered.cut, None);
}

#[test]
fn a_checkpoint_of_version_1_is_read() {
    let disk = MemDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = CheckpointWriter::create(shared, Path::new(DIR), "v1", b"index 9, term 4").unwrap();
    for chunk in [&b"one"[..], &body(2, 300), &[]] {
        writer.write_chunk(chunk).unwrap();
    }
    writer.finish().unwrap();
    let golden = check_golden("v1.ckpt", &disk.contents(Path::new("log/v1.ckpt")).unwrap());
    let disk = disk_with("log/v1.ckpt", &golden);
    let reader = CheckpointReader::open(&disk, Path::new(DIR), "v1").unwrap();
    reader.verify().unwrap();
    assert_eq!(&reader.meta()[..], b"index 9, term 4");
    assert_eq!((reader.chunks(), reader.bytes()), (3, 303));
    assert_eq!(reader.chunk(1).unwrap(), body(2, 300));
}
