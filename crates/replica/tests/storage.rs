//! What is written is what is found, crash or not; what does not fit is refused with a reason.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate::codec::Incarnation;
use quorate::codec::frame::ClusterId;
use quorate::storage::{Contradiction, Identity, Opened, Options, Snapshots, Storage, StorageError};
use quorate_raft::{
    Configuration, Entry, EntryId, GroupId, HardState, Index, LogReadError, NodeId, Payload, Purpose,
    ReadLog, SnapshotMeta, Term, Write, WriteSeq,
};
use quorate_wal::{Disk, MemDisk, OpenMode};

const GROUP: GroupId = GroupId(1);

fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(Index(index), Term(term))
}

fn configuration() -> Configuration {
    Configuration::new([NodeId(1), NodeId(2), NodeId(3)], []).unwrap()
}

fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta {
        id: id(index, term),
        configuration: Arc::new(configuration()),
    }
}

fn options(incarnation: u128) -> Options {
    Options {
        directory: "data".to_owned(),
        identity: Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            incarnation: Incarnation(incarnation),
        },
        group: GROUP,
        configuration: configuration(),
        wal: quorate_wal::Options {
            segment_bytes: 16 << 10,
            ..quorate_wal::Options::new(incarnation)
        },
    }
}

fn open(disk: &MemDisk) -> (Storage, Opened) {
    Storage::open(Arc::new(disk.clone()), options(7)).unwrap()
}

fn refused(disk: &MemDisk) -> StorageError {
    Storage::open(Arc::new(disk.clone()), options(7)).unwrap_err()
}

fn command(index: u64, term: u64) -> Entry {
    Entry {
        id: id(index, term),
        payload: Payload::Command(Bytes::from(format!("command {index}"))),
    }
}

fn write(seq: u64, entries: Vec<Entry>) -> Write {
    Write {
        seq: WriteSeq(seq),
        reset: None,
        hard_state: None,
        entries,
    }
}

fn durably(storage: &mut Storage, writes: &[Write]) {
    storage.append(writes).unwrap();
    assert_eq!(storage.sync().unwrap(), writes.last().unwrap().seq);
}

/// A log of entries 1 to `last` of term 1, and a vote.
fn with_entries(disk: &MemDisk, last: u64) -> Storage {
    let (mut storage, _) = open(disk);
    let mut first = write(1, (1..=last).map(|index| command(index, 1)).collect());
    first.hard_state = Some(HardState {
        term: Term(1),
        vote: Some(NodeId(2)),
    });
    durably(&mut storage, &[first]);
    storage
}

fn save_snapshot(snapshots: &Snapshots, meta: &SnapshotMeta, chunks: &[&str]) {
    let mut writer = snapshots.create(meta).unwrap();
    for chunk in chunks {
        writer.write_chunk(chunk.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

fn read(storage: &Storage, from: u64, to: u64) -> Result<Vec<Entry>, LogReadError> {
    let request = ReadLog {
        purpose: Purpose::Apply,
        from: Index(from),
        to: Index(to),
        max_bytes: 1 << 20,
    };
    storage.reader().read(&request).unwrap()
}

#[test]
fn a_new_directory_is_an_empty_log_with_the_first_members() {
    let (_, opened) = open(&MemDisk::new());
    assert_eq!(opened.identity.incarnation, Incarnation(7));
    assert_eq!(opened.stored.hard_state, HardState::default());
    assert_eq!(opened.stored.snapshot, meta(0, 0));
    assert_eq!(opened.stored.last, EntryId::ZERO);
}

#[test]
fn a_group_keeps_the_members_it_began_with() {
    let disk = MemDisk::new();
    drop(open(&disk));
    disk.lose_unsynced();
    let mut others = options(7);
    others.configuration = Configuration::new([NodeId(1)], []).unwrap();
    let (_, opened) = Storage::open(Arc::new(disk), others).unwrap();
    assert_eq!(opened.stored.snapshot, meta(0, 0));
}

#[test]
fn what_was_synced_is_found_after_a_crash() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 3);
    durably(&mut storage, &[write(2, vec![command(4, 2), command(5, 2)])]);
    drop(storage);
    disk.lose_unsynced();

    let (storage, opened) = open(&disk);
    let stored = opened.stored;
    assert_eq!(stored.hard_state.vote, Some(NodeId(2)));
    assert_eq!((stored.base, stored.last), (EntryId::ZERO, id(5, 2)));
    assert_eq!(stored.terms, [id(1, 1), id(4, 2)]);
    assert_eq!(
        read(&storage, 3, 5),
        Ok(vec![command(3, 1), command(4, 2), command(5, 2)])
    );
}

#[test]
fn what_was_only_appended_may_be_lost() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 3);
    storage.append(&[write(2, vec![command(4, 1)])]).unwrap();
    drop(storage);
    disk.lose_unsynced();
    assert_eq!(open(&disk).1.stored.last, id(3, 1));
}

#[test]
fn entries_replace_all_from_the_first_of_them_on() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 5);
    durably(&mut storage, &[write(2, vec![command(3, 2)])]);
    assert_eq!(read(&storage, 2, 9), Ok(vec![command(2, 1), command(3, 2)]));
    drop(storage);
    assert_eq!(open(&disk).1.stored.last, id(3, 2));
}

#[test]
fn compacted_entries_are_gone_and_stay_so() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 5);
    save_snapshot(&storage.snapshots(), &meta(4, 1), &["state"]);
    storage.compact(id(3, 1)).unwrap();
    durably(&mut storage, &[write(2, vec![command(6, 1)])]);
    assert_eq!(read(&storage, 2, 3), Err(LogReadError::Gone));
    drop(storage);
    let (storage, opened) = open(&disk);
    assert_eq!(opened.stored.base, id(3, 1));
    assert_eq!(opened.stored.snapshot, meta(4, 1));
    assert_eq!(read(&storage, 2, 3), Err(LogReadError::Gone));
    assert_eq!(read(&storage, 4, 4), Ok(vec![command(4, 1)]));
}

#[test]
fn configurations_in_the_log_after_the_snapshot_are_found() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 2);
    let joint = Arc::new(Configuration::joint([NodeId(1)], [NodeId(2)], []).unwrap());
    let change = Entry {
        id: id(3, 1),
        payload: Payload::Configuration(Arc::clone(&joint)),
    };
    durably(&mut storage, &[write(2, vec![change, command(4, 1)])]);
    drop(storage);
    assert_eq!(open(&disk).1.stored.configurations, [(Index(3), joint)]);
}

/// The crash came between the received snapshot's being durable and the log's reset.
#[test]
fn a_snapshot_ahead_of_the_log_resets_it() {
    let disk = MemDisk::new();
    let storage = with_entries(&disk, 3);
    save_snapshot(&storage.snapshots(), &meta(9, 4), &["state"]);
    drop(storage);
    for _ in 0..2 {
        let (storage, opened) = open(&disk);
        let stored = opened.stored;
        assert_eq!(stored.snapshot, meta(9, 4));
        assert_eq!((stored.base, stored.last), (id(9, 4), id(9, 4)));
        assert_eq!(stored.terms, []);
        let unvoted = HardState {
            term: Term(4),
            vote: None,
        };
        assert_eq!(
            stored.hard_state, unvoted,
            "no vote was given in a term that was never heard of"
        );
        assert_eq!(read(&storage, 1, 3), Err(LogReadError::Gone));
    }
}

#[test]
fn a_snapshot_that_contradicts_the_log_resets_it() {
    let disk = MemDisk::new();
    let storage = with_entries(&disk, 5);
    save_snapshot(&storage.snapshots(), &meta(3, 2), &["state"]);
    drop(storage);
    assert_eq!(open(&disk).1.stored.last, id(3, 2), "S14");
}

#[test]
fn a_snapshot_within_the_log_keeps_what_follows() {
    let disk = MemDisk::new();
    let storage = with_entries(&disk, 5);
    save_snapshot(&storage.snapshots(), &meta(3, 1), &["state"]);
    drop(storage);
    let stored = open(&disk).1.stored;
    assert_eq!(
        (stored.snapshot.id, stored.base, stored.last),
        (id(3, 1), EntryId::ZERO, id(5, 1))
    );
    assert_eq!(stored.hard_state.vote, Some(NodeId(2)));
}

#[test]
fn a_log_that_does_not_reach_back_to_a_snapshot_is_refused() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 5);
    let snapshots = storage.snapshots();
    save_snapshot(&snapshots, &meta(4, 1), &["state"]);
    storage.compact(id(4, 1)).unwrap();
    durably(&mut storage, &[write(2, vec![command(6, 1)])]);
    drop(storage);
    let name = disk.list("snapshots".as_ref()).unwrap().pop().unwrap();
    disk.remove(&Path::new("snapshots").join(name)).unwrap();
    let error = refused(&disk);
    assert!(
        matches!(&error, StorageError::Recovery { source: Contradiction::NoSnapshot { base }, .. } if *base == id(4, 1)),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("data: "),
        "it names the directory: {error}"
    );
}

#[test]
fn a_directory_whose_log_was_taken_away_is_refused() {
    let disk = MemDisk::new();
    drop(with_entries(&disk, 5));
    for name in disk.list("wal".as_ref()).unwrap() {
        disk.remove(&Path::new("wal").join(name)).unwrap();
    }
    let error = refused(&disk);
    let no_log = |error: &StorageError| {
        matches!(
            error,
            StorageError::Recovery {
                source: Contradiction::NoLog { .. },
                ..
            }
        )
    };
    assert!(no_log(&error), "it would vote a second time: {error}");
}

#[test]
fn a_reset_survives_and_the_log_goes_on_after_it() {
    let disk = MemDisk::new();
    let mut storage = with_entries(&disk, 3);
    save_snapshot(&storage.snapshots(), &meta(9, 4), &["state"]);
    let mut reset = write(2, vec![command(10, 4)]);
    reset.reset = Some(meta(9, 4));
    durably(&mut storage, &[reset]);
    drop(storage);
    let (storage, opened) = open(&disk);
    assert_eq!((opened.stored.base, opened.stored.last), (id(9, 4), id(10, 4)));
    assert_eq!(read(&storage, 10, 10), Ok(vec![command(10, 4)]));
}

#[test]
fn a_directory_keeps_its_incarnation() {
    let disk = MemDisk::new();
    drop(open(&disk));
    disk.lose_unsynced();
    let (_, opened) = Storage::open(Arc::new(disk), options(8)).unwrap();
    assert_eq!(opened.identity.incarnation, Incarnation(7));
}

#[test]
fn a_directory_of_another_cluster_or_node_is_refused_by_name() {
    let disk = MemDisk::new();
    drop(open(&disk));
    let mut other = options(7);
    other.identity.cluster = ClusterId(2);
    let error = Storage::open(Arc::new(disk.clone()), other)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cluster 0000000000000001, this is cluster 0000000000000002"),
        "{error}"
    );
    let mut other = options(7);
    other.identity.node = NodeId(2);
    let error = Storage::open(Arc::new(disk), other).unwrap_err().to_string();
    assert!(error.contains("node 1, this is node 2"), "{error}");
}

#[test]
fn an_identity_that_is_damaged_or_newer_is_refused() {
    let disk = MemDisk::new();
    drop(open(&disk));
    let file = disk.open("IDENTITY".as_ref(), OpenMode::ReadWrite).unwrap();
    let mut text = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut text).unwrap();
    for at in 0..text.len() {
        for bit in 0..8 {
            file.write_at(at as u64, &[text[at] ^ (1 << bit)]).unwrap();
            let error = refused(&disk);
            assert!(
                matches!(
                    error,
                    StorageError::Identity { .. } | StorageError::Foreign { .. }
                ),
                "bit {bit} of byte {at}: {error}"
            );
        }
        file.write_at(at as u64, &text[at..=at]).unwrap();
    }
    file.write_at(0, b"quorate data directory\nformat 2\n").unwrap();
    assert!(
        refused(&disk)
            .to_string()
            .contains("its format is 2, this program's is 1")
    );
}

#[test]
fn an_identity_whose_writing_was_cut_short_is_written_anew() {
    let disk = MemDisk::new();
    disk.open("IDENTITY.tmp".as_ref(), OpenMode::CreateNew)
        .unwrap()
        .write_at(0, b"quor")
        .unwrap();
    assert_eq!(open(&disk).1.identity.incarnation, Incarnation(7));
}

#[test]
fn the_newest_two_snapshots_are_kept_and_those_being_sent() {
    let disk = MemDisk::new();
    let storage = with_entries(&disk, 9);
    let snapshots = storage.snapshots();
    save_snapshot(&snapshots, &meta(1, 1), &["one"]);
    let sending = snapshots.send(id(1, 1)).unwrap();
    for index in 2..=4 {
        save_snapshot(&snapshots, &meta(index, 1), &["more"]);
        snapshots.prune().unwrap();
    }
    assert_eq!(snapshots.ids().unwrap(), [id(1, 1), id(3, 1), id(4, 1)]);
    assert_eq!(sending.chunk(0).unwrap(), "one");
    drop(sending);
    snapshots.prune().unwrap();
    assert_eq!(snapshots.ids().unwrap(), [id(3, 1), id(4, 1)]);
}

#[test]
fn a_snapshot_is_written_once_at_a_time_and_counts_when_it_is_whole() {
    let disk = MemDisk::new();
    let storage = with_entries(&disk, 9);
    let snapshots = storage.snapshots();
    let mut writer = snapshots.create(&meta(4, 1)).unwrap();
    writer.write_chunk(b"half").unwrap();
    assert!(matches!(
        snapshots.create(&meta(4, 1)),
        Err(StorageError::Busy { .. })
    ));
    assert_eq!(snapshots.newest().unwrap(), Some(meta(0, 0)));
    drop((writer, storage));
    disk.lose_unsynced();
    let (storage, opened) = open(&disk);
    assert_eq!(opened.stored.snapshot, meta(0, 0));
    save_snapshot(&storage.snapshots(), &meta(4, 1), &["whole"]);
    assert_eq!(storage.snapshots().newest().unwrap(), Some(meta(4, 1)));
}

#[test]
fn chunks_that_arrive_are_taken_in_order_and_once() {
    let snapshots = open(&MemDisk::new()).0.snapshots();
    let mut writer = snapshots.create(&meta(5, 1)).unwrap();
    assert!(writer.is_next(0) && !writer.is_next(1));
    writer.write_chunk(b"first").unwrap();
    assert!(!writer.is_next(0) && writer.is_next(1) && !writer.is_next(2));
}

#[test]
fn an_abandoned_snapshot_leaves_no_file() {
    let disk = MemDisk::new();
    let snapshots = open(&disk).0.snapshots();
    let before = disk.list(Path::new("snapshots")).unwrap();
    let mut writer = snapshots.create(&meta(5, 1)).unwrap();
    writer.write_chunk(b"half").unwrap();
    assert_ne!(disk.list(Path::new("snapshots")).unwrap(), before);
    writer.abandon().unwrap();
    assert_eq!(disk.list(Path::new("snapshots")).unwrap(), before);
    save_snapshot(&snapshots, &meta(5, 1), &["whole"]);
}

#[test]
fn a_read_is_bounded_by_what_entries_weigh_in_memory() {
    let (mut storage, _) = open(&MemDisk::new());
    let stripped = |index| Entry {
        id: id(index, 1),
        payload: Payload::Stripped,
    };
    let weight = stripped(1).weight();
    durably(&mut storage, &[write(1, (1..=100).map(stripped).collect())]);
    let bounded = |max_bytes| {
        let request = ReadLog {
            purpose: Purpose::Apply,
            from: Index(1),
            to: Index(100),
            max_bytes,
        };
        storage.reader().read(&request).unwrap().unwrap().len()
    };
    assert_eq!(bounded(10 * weight), 10);
    assert_eq!(bounded(1), 1);
    assert_eq!(bounded(1 << 20), 100);
}
