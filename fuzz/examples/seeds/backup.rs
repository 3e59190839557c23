//! The backups that the target `bbolt` has, as files and by their entries.

use crate::tagged;
use quorate_bbolt::Database;
use std::path::Path;

pub fn seeds() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/bbolt");
    let names = ["etcd-3.4.23.db", "etcd-3.5.1.db", "quorate-v1.db"];
    let files = names.map(|name| std::fs::read(corpus.join(name)).expect("it is checked in"));
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| tagged(1, steps(file))).collect();
    seeds.push(tagged(0, &files[2]));
    seeds
}

/// All that the target's steps can say of a file.
fn steps(file: &[u8]) -> Vec<u8> {
    let database = Database::open(file, file.len() as u64).expect("it is a database");
    let mut steps = Vec::new();
    for (place, name) in BUCKETS.iter().enumerate().skip(1) {
        let Some(bucket) = database.bucket(name.as_bytes()).expect("it is whole") else {
            continue;
        };
        let mut entries = database.entries(&bucket).expect("it is whole");
        while let Some(entry) = entries.next_entry().expect("it is whole") {
            let lengths = (u8::try_from(entry.key.len()), u8::try_from(entry.value.len()));
            if let (Ok(key), Ok(value)) = lengths {
                steps.extend([u8::try_from(place).expect("there are few buckets"), key, value]);
                steps.extend_from_slice(entry.key);
                steps.extend_from_slice(entry.value);
            }
        }
    }
    steps
}

/// As the target has them.
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
