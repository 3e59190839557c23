//! Backups that anybody may have made: any file is a state or refused, and of a state that was read a member
//! can be made.
//!
//! The input is a byte that says what it is: a file, or the entries of one. An entry is a byte for its bucket,
//! two that count, and as many bytes for its key and its value as they count.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_bbolt::{Plan, Writer};
use quorate_kv::Keyspace;
use quorate_server::fuzzing::import;
use std::collections::BTreeMap;
use std::io::Write;
use tempfile::NamedTempFile;

fuzz_target!(|data: &[u8]| {
    let [form, rest @ ..] = data else { return };
    let file = match form % 2 {
        0 => Some(rest.to_vec()),
        _ => file_of(&entries(rest)),
    };
    if let Some(file) = file {
        restore(&file);
    }
});

type Buckets = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

fn entries(mut steps: &[u8]) -> Buckets {
    let mut buckets = Buckets::new();
    while let [bucket, key, value, tail @ ..] = steps {
        let (key, tail) = tail.split_at(tail.len().min(usize::from(*key)));
        let (value, tail) = tail.split_at(tail.len().min(usize::from(*value)));
        steps = tail;
        let name = BUCKETS[usize::from(*bucket) % BUCKETS.len()];
        buckets
            .entry(name)
            .or_default()
            .insert(key.to_vec(), value.to_vec());
    }
    buckets
}

/// None if there can be no such file.
fn file_of(buckets: &Buckets) -> Option<Vec<u8>> {
    let plan = write(Writer::measure(), buckets)?;
    let mut file = Vec::new();
    write(
        Writer::new(&mut file, plan).expect("a vector takes all bytes"),
        buckets,
    );
    Some(file)
}

fn write<W: Write>(mut writer: Writer<W>, buckets: &Buckets) -> Option<Plan> {
    for (name, entries) in buckets {
        writer.bucket(name.as_bytes()).ok()?;
        for (key, value) in entries {
            writer.put(key, value).ok()?;
        }
    }
    writer.finish().ok()
}

fn restore(file: &[u8]) {
    let mut on_disk = NamedTempFile::new_in(directory()).expect("there is room for a file");
    on_disk.write_all(file).expect("there is room for a file");
    let Ok(imported) = import(on_disk.path()) else {
        return;
    };
    let mut keyspace = imported.keyspace;
    let mut snapshot = keyspace.begin_snapshot();
    let chunks = std::iter::from_fn(|| keyspace.snapshot_chunk(&mut snapshot, 4096)).map(Ok);
    let restored = Keyspace::restore(&mut Box::new(chunks)).expect("a member can start from it");
    assert_eq!(restored.hash_kv(None), keyspace.hash_kv(None));
    assert_eq!(restored.revision(), keyspace.revision());
    assert!(restored.leases().eq(keyspace.leases()));
}

/// In memory, where there is such a place.
fn directory() -> &'static str {
    match std::path::Path::new("/dev/shm").is_dir() {
        true => "/dev/shm",
        false => "/tmp",
    }
}

const BUCKETS: [&str; 8] = [
    "key",
    "key",
    "lease",
    "meta",
    "auth",
    "authUsers",
    "authRoles",
    "alarm",
];
