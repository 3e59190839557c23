//! After the first error of the disk nothing more is written, whatever the error was.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::*;
use quorate_wal::{DiskOp, MemDisk, OpenError, Wal, WalError};

/// What the disk does.
fn writes(disk: &MemDisk) -> Vec<u64> {
    let ops = [
        DiskOp::Write,
        DiskOp::Sync,
        DiskOp::Allocate,
        DiskOp::Rename,
        DiskOp::SyncDir,
        DiskOp::Create,
    ];
    ops.into_iter().map(|op| disk.count(op)).collect()
}

/// Appends, syncs and compacts until something fails.
fn run(wal: &mut Wal) -> WalError {
    for index in 1..1000 {
        let mut batch = vec![entry(index, 1, body(index, 600)), state("s")];
        if index % 60 == 0 {
            batch.push(compact(index - 1, 1));
        }
        if let Err(error) = wal.append(&batch).and_then(|()| wal.sync()) {
            return error;
        }
    }
    panic!("nothing failed: {:?}", wal.stats());
}

#[test]
fn every_kind_of_error_stops_the_log_for_good() {
    for (op, nth) in [
        (DiskOp::Write, 5),
        (DiskOp::Sync, 5),
        (DiskOp::Allocate, 2),
        (DiskOp::Create, 1),
        (DiskOp::Rename, 1),
        (DiskOp::SyncDir, 1),
        (DiskOp::Remove, 1),
    ] {
        let disk = MemDisk::new();
        let (mut wal, _) = open(&disk).unwrap();
        disk.fail_nth(op, nth);
        let first = run(&mut wal);
        assert!(matches!(first, WalError::Io { .. }), "{op:?}: {first}");
        let done = writes(&disk);
        for result in [
            wal.append(&[state("more")]),
            wal.sync(),
            wal.append(&[]),
            wal.sync(),
        ] {
            let Err(WalError::Poisoned { first: told }) = result else {
                panic!("{op:?}: {result:?}")
            };
            assert!(first.to_string().contains(&told), "{told} is not in {first}");
        }
        assert_eq!(writes(&disk), done, "{op:?}: nothing more was tried");
        assert!(
            wal.reader()
                .read(1, wal.reader().bounds(1).0.index + 1, 9999, 1)
                .is_ok()
        );
    }
}

#[test]
fn a_full_disk_stops_the_log_between_segments_and_loses_nothing() {
    let disk = MemDisk::new();
    let (mut wal, _) = open(&disk).unwrap();
    disk.set_capacity(3 * options().segment_bytes);
    let mut synced = Vec::new();
    let error = loop {
        let index = synced.len() as u64 + 1;
        let record = entry(index, 1, body(index, 600));
        match wal
            .append(std::slice::from_ref(&record))
            .and_then(|()| wal.sync())
        {
            Ok(()) => synced.push(record),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("no storage space"), "{error}");
    assert!(matches!(wal.sync(), Err(WalError::Poisoned { .. })));
    disk.lose_unsynced();
    let (model, _) = recover(&disk).unwrap();
    assert_eq!(model, Model::of(&synced));
}

#[test]
fn an_error_while_opening_is_told_and_opening_again_works() {
    let disk = MemDisk::new();
    disk.fail_nth(DiskOp::Allocate, 1);
    assert!(matches!(open(&disk).map(|_| ()), Err(OpenError::Io { .. })));
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[state("x")]).unwrap();
    wal.sync().unwrap();
    disk.fail_nth(DiskOp::Read, 1);
    let Err(OpenError::Io { file, .. }) = open(&disk).map(|_| ()) else {
        panic!("a read failed")
    };
    assert_eq!(file, Path::new(FIRST));
    assert_eq!(recover(&disk).unwrap().0, Model::of(&[state("x")]));
}
