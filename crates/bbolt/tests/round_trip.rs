//! What is written is read, and what is damaged is refused by name, never with a panic.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_bbolt::{Database, Plan, ReadError, WriteError, Writer};

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn put_all<W: std::io::Write>(writer: &mut Writer<W>, buckets: &Buckets) -> Result<(), WriteError> {
    for (name, entries) in buckets {
        writer.bucket(name)?;
        for (key, value) in entries {
            writer.put(key, value)?;
        }
    }
    Ok(())
}

fn written(buckets: &Buckets) -> (Vec<u8>, Plan) {
    let mut measure = Writer::measure();
    put_all(&mut measure, buckets).unwrap();
    let plan = measure.finish().unwrap();
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, plan).unwrap();
    put_all(&mut writer, buckets).unwrap();
    assert_eq!(writer.finish().unwrap(), plan);
    assert_eq!(file.len() as u64, plan.bytes());
    (file, plan)
}

/// All that can be read: whole, or an error.
fn read(file: &[u8]) -> Result<Buckets, ReadError> {
    let database = Database::open(file, file.len() as u64)?;
    let mut buckets = Buckets::new();
    let mut names = database.entries(&database.root())?;
    while let Some(entry) = names.next_entry()? {
        let Some(bucket) = entry.bucket()? else { continue };
        let mut found = BTreeMap::new();
        let mut entries = database.entries(&bucket)?;
        while let Some(entry) = entries.next_entry()? {
            found.insert(entry.key.to_vec(), entry.value.to_vec());
        }
        buckets.insert(entry.key.to_vec(), found);
    }
    Ok(buckets)
}

fn sample() -> Buckets {
    let numbered = |count: u32, bytes: usize| {
        let entry = |n: u32| (n.to_be_bytes().to_vec(), vec![(n % 251) as u8; bytes]);
        (0..count).map(entry).collect::<BTreeMap<_, _>>()
    };
    let mut buckets = Buckets::new();
    buckets.insert(b"empty".to_vec(), BTreeMap::new());
    buckets.insert(b"inline".to_vec(), numbered(3, 40));
    buckets.insert(b"leaf".to_vec(), numbered(40, 60));
    buckets.insert(b"deep".to_vec(), numbered(30_000, 20));
    buckets.insert(b"large".to_vec(), numbered(5, 20_000));
    let long = (0..40u8).map(|n| ([vec![n; 30_000], vec![1]].concat(), vec![n]));
    buckets.insert(b"long keys".to_vec(), long.collect());
    buckets
}

#[test]
fn buckets_of_all_shapes_come_back() {
    let buckets = sample();
    let (file, _) = written(&buckets);
    assert_eq!(file.len() % 4096, 0);
    assert_eq!(read(&file).unwrap(), buckets);
}

#[test]
fn either_of_the_first_pages_may_be_lost() {
    let buckets = sample();
    for lost in [0, 4096] {
        let (mut file, _) = written(&buckets);
        file[lost + 20..lost + 60].fill(0);
        assert_eq!(read(&file).unwrap(), buckets);
    }
    let (mut file, _) = written(&buckets);
    file[..8192].fill(0);
    assert!(matches!(read(&file), Err(ReadError::NotADatabase)));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let mut writer = Writer::measure();
    assert!(matches!(writer.put(b"a", b""), Err(WriteError::NoBucket)));
    writer.bucket(b"b").unwrap();
    assert!(matches!(writer.put(b"", b""), Err(WriteError::Key(0))));
    let long = vec![0; quorate_bbolt::MAX_KEY_BYTES + 1];
    assert!(matches!(writer.put(&long, b""), Err(WriteError::Key(_))));
    writer.put(b"k", b"").unwrap();
    assert!(matches!(writer.put(b"k", b""), Err(WriteError::Order)));
    assert!(matches!(writer.put(b"a", b""), Err(WriteError::Order)));
    writer.bucket(b"a").unwrap();
    assert!(matches!(writer.bucket(b"b"), Err(WriteError::Twice)));
}

#[test]
fn a_file_that_is_not_what_was_measured_is_no_success() {
    let plan = Writer::measure().finish().unwrap();
    let mut writer = Writer::new(Vec::new(), plan).unwrap();
    writer.bucket(b"b").unwrap();
    writer.put(b"k", &[0; 5000]).unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Differs)));
}

#[test]
fn a_cut_file_says_so_wherever_it_is_cut() {
    let (file, _) = written(&sample());
    for length in (0..file.len()).step_by(1009) {
        let error = read(&file[..length]).unwrap_err();
        let is_told = matches!(error, ReadError::NotADatabase | ReadError::CutOff { .. });
        assert!(is_told, "{length}: {error}");
    }
}

/// The places in a page that lead to others, each made to lead astray.
#[test]
fn damage_names_its_page() {
    let (file, _) = written(&sample());
    let broken = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        read(&file).unwrap_err().to_string()
    };
    // The first page after the free list is a leaf of the bucket "deep".
    let page = 3 * 4096;
    assert!(broken(page, &[9]).starts_with("page 3 (byte 12288) is damaged: it has the id"));
    assert!(broken(page + 8, &[0xff]).contains("neither a leaf nor a branch"));
    assert!(broken(page + 10, &[0xff, 0xff]).contains("more elements than room"));
    assert!(broken(page + 12, &[0xff; 4]).contains("after the end of the file"));
    assert!(broken(page + 16 + 4, &[0xff; 4]).contains("beyond its end"));
    assert!(broken(page + 16 + 12, &[0xff; 4]).contains("beyond its end"));
    let key = u32::from_le_bytes(file[page + 20..page + 24].try_into().unwrap()) as usize;
    assert!(broken(page + 16 + key, &[0xff]).contains("out of order"));
}

#[test]
fn a_tree_in_circles_ends() {
    let (file, _) = written(&sample());
    let is_branch = |page: &usize| file[page * 4096 + 8] == 1 && usize::from(file[page * 4096]) == page % 256;
    let branch = (3..file.len() / 4096).find(is_branch).unwrap();
    for target in [branch as u64, 3, u64::MAX, 0, 1, 2] {
        let mut file = file.clone();
        let child = branch * 4096 + 16 + 16 + 8;
        file[child..child + 8].copy_from_slice(&target.to_le_bytes());
        let error = read(&file).unwrap_err();
        assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_buckets_come_back(
        buckets in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..20),
            proptest::collection::btree_map(
                proptest::collection::vec(any::<u8>(), 1..40),
                proptest::collection::vec(any::<u8>(), 0..600),
                0..120,
            ),
            0..8,
        )
    ) {
        let (file, _) = written(&buckets);
        prop_assert_eq!(read(&file).unwrap(), buckets);
    }

    /// Flips of bits: read to the end, or a named error; never a panic, never for ever.
    #[test]
    fn a_damaged_file_is_read_or_refused(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0..8u8), 1..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut buckets = sample();
        buckets.remove(&b"long keys"[..]);
        buckets.get_mut(&b"deep"[..]).unwrap().retain(|key, _| key[2] < 8);
        let (mut file, _) = written(&buckets);
        let length = file.len();
        for (at, bit) in flips {
            file[at.index(length)] ^= 1 << bit;
        }
        let _ = read(&file);
        file.truncate(cut.index(length));
        let _ = read(&file);
    }
}
