//! What a log's directory may hold: any bytes open as a log or are refused with a named error, and
//! what opens can be read, and is what was written or was never there.
//!
//! A small log is made of known records. The input is a list of damages to its files, each of eight
//! bytes: which file, what to do, where, how much. The rest is the content of one more file.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate_wal::{Disk, MemDisk, OpenMode, Options, ReadError, Record, Wal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

fuzz_target!(|data: &[u8]| {
    static LOG: LazyLock<MemDisk> = LazyLock::new(small_log);
    let disk = Arc::new(LOG.fork());
    let (damages, rest) = data.split_at(data.len().min(8 * MAX_DAMAGES));
    for damage in damages.chunks_exact(8) {
        apply(disk.as_ref(), damage);
    }
    if !rest.is_empty() {
        replace_last(disk.as_ref(), rest);
    }
    if let Ok((wal, recovered)) = Wal::open(disk, Path::new(DIR), options()) {
        for (group, found) in &recovered.groups {
            read_all(&wal, *group, found.base.index, found.last.index);
        }
    }
});

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        ..Options::new(7)
    }
}

/// Two groups, several batches, more than one segment.
fn small_log() -> MemDisk {
    let disk = MemDisk::new();
    let (mut wal, _) =
        Wal::open(Arc::new(disk.clone()), Path::new(DIR), options()).expect("an empty disk opens");
    for batch in 1..=BATCHES {
        let records = [entry(1, batch), state(batch), entry(2, batch)];
        wal.append(&records)
            .and_then(|()| wal.sync())
            .expect("the disk works");
    }
    disk
}

fn entry(group: u64, index: u64) -> Record {
    Record::Entry {
        group,
        index,
        term: 1 + index / 5,
        body: body(group, index),
    }
}

fn state(number: u64) -> Record {
    Record::State {
        group: 1,
        body: Bytes::copy_from_slice(&number.to_le_bytes()),
    }
}

fn body(group: u64, index: u64) -> Bytes {
    let byte = u8::try_from(group * 16 + index).expect("groups and indexes are small");
    Bytes::from(vec![byte; 700])
}

/// Every entry that is said to be there is the one that was written.
fn read_all(wal: &Wal, group: u64, base: u64, last: u64) {
    let reader = wal.reader();
    let mut next = base + 1;
    while next <= last {
        match reader.read(group, next, last, 4096) {
            Ok(entries) => {
                for entry in &entries {
                    assert_eq!(entry.index, next, "entries without a gap");
                    assert_eq!(entry.body, body(group, entry.index), "the entry that was written");
                    next += 1;
                }
            }
            Err(ReadError::Damaged { .. }) => return,
            Err(error) => panic!("group {group}, {next} of {last}: {error}"),
        }
    }
}

fn apply(disk: &MemDisk, damage: &[u8]) {
    let Some(path) = file(disk, damage[0]) else { return };
    let offset = u64::from(u16::from_le_bytes([damage[2], damage[3]]));
    let bytes = &damage[4..8];
    match damage[1] % 4 {
        0 => overwrite(disk, &path, offset, bytes),
        1 => overwrite(
            disk,
            &path,
            offset & !511,
            &vec![0; 512 * usize::from(damage[4] % 8)],
        ),
        2 => cut(disk, &path, offset),
        _ => disk.remove(&path).expect("the file is there"),
    }
}

fn file(disk: &MemDisk, choice: u8) -> Option<PathBuf> {
    let names = disk.list(Path::new(DIR)).expect("the directory is there");
    let name = names.get(usize::from(choice) % names.len().max(1))?;
    Some(Path::new(DIR).join(name))
}

fn overwrite(disk: &MemDisk, path: &Path, offset: u64, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::ReadWrite).expect("the file is there");
    let length = file.len().expect("it has a length");
    if offset + bytes.len() as u64 <= length {
        file.write_at(offset, bytes).expect("the disk works");
    }
}

fn cut(disk: &MemDisk, path: &Path, offset: u64) {
    let file = disk.open(path, OpenMode::ReadWrite).expect("the file is there");
    let length = file.len().expect("it has a length").min(offset);
    file.set_len(length).expect("the disk works");
}

/// The last file becomes these bytes.
fn replace_last(disk: &MemDisk, bytes: &[u8]) {
    let Some(path) = file(disk, u8::MAX) else { return };
    let file = disk.open(&path, OpenMode::ReadWrite).expect("the file is there");
    file.set_len(0)
        .and_then(|()| file.write_at(0, bytes))
        .expect("the disk works");
}

const DIR: &str = "wal";
const BATCHES: u64 = 14;
const MAX_DAMAGES: usize = 4;
