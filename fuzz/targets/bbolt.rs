//! A backup that anybody may have made: any bytes are read to their end or refused by name. What was read of
//! a file whose buckets are as the writer makes them can be written, and comes back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_bbolt::{Bucket, Database, ReadError, Writer};

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn entries(database: &Database<&[u8]>, bucket: &Bucket, depth: usize) -> Result<Entries, ReadError> {
    let mut found = Vec::new();
    let mut entries = database.entries(bucket)?;
    while let Some(entry) = entries.next_entry()? {
        match entry.bucket()? {
            Some(inner) if depth < 4 => drop(self::entries(database, &inner, depth + 1)?),
            Some(_) => {}
            None => found.push((entry.key.to_vec(), entry.value.to_vec())),
        }
    }
    Ok(found)
}

fn read(data: &[u8]) -> Result<Entries, ReadError> {
    let database = Database::open(data, data.len() as u64)?;
    entries(&database, &database.root(), 0)?;
    match database.bucket(b"key")? {
        Some(bucket) => entries(&database, &bucket, 3),
        None => Ok(Vec::new()),
    }
}

fn put_all<W: std::io::Write>(mut writer: Writer<W>, entries: &Entries) -> Option<quorate_bbolt::Plan> {
    writer.bucket(b"key").ok()?;
    for (key, value) in entries {
        writer.put(key, value).ok()?;
    }
    writer.finish().ok()
}

fuzz_target!(|data: &[u8]| {
    let Ok(found) = read(data) else { return };
    // Keys that the writer does not take are refused by it, alike both times.
    let Some(plan) = put_all(Writer::measure(), &found) else {
        return;
    };
    let mut file = Vec::new();
    let writer = Writer::new(&mut file, plan).expect("a vector takes all bytes");
    assert_eq!(put_all(writer, &found), Some(plan));
    assert_eq!(read(&file).expect("what was written is read"), found);
});
