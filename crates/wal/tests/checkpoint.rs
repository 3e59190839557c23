//! Checkpoints: whole or not there, and every changed byte noticed.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Numbers, body};
use quorate_wal::{
    CheckpointError, CheckpointReader, CheckpointWriter, Disk, DiskOp, MemDisk, OpenMode, list_checkpoints,
    remove_checkpoint, remove_unfinished_checkpoints,
};

fn dir() -> &'static Path {
    Path::new("checkpoints")
}

fn writer(disk: &MemDisk, name: &str) -> CheckpointWriter {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    CheckpointWriter::create(disk, dir(), name, b"meta").unwrap()
}

fn chunks() -> Vec<Vec<u8>> {
    vec![
        b"first".to_vec(),
        body(2, 700).to_vec(),
        Vec::new(),
        body(4, 5).to_vec(),
    ]
}

fn write_all(disk: &MemDisk, name: &str) {
    let mut writer = writer(disk, name);
    chunks()
        .iter()
        .for_each(|chunk| writer.write_chunk(chunk).unwrap());
    writer.finish().unwrap();
}

fn read_all(disk: &MemDisk, name: &str) -> Result<Vec<Vec<u8>>, CheckpointError> {
    let reader = CheckpointReader::open(disk, dir(), name)?;
    reader.verify()?;
    assert_eq!(&reader.meta()[..], b"meta");
    (0..reader.chunks())
        .map(|index| Ok(reader.chunk(index)?.to_vec()))
        .collect()
}

#[test]
fn what_was_written_is_read_in_any_order() {
    let disk = MemDisk::new();
    write_all(&disk, "a");
    disk.lose_unsynced();
    assert_eq!(read_all(&disk, "a").unwrap(), chunks());
    let reader = CheckpointReader::open(&disk, dir(), "a").unwrap();
    for index in [3, 1, 2, 0] {
        assert_eq!(
            reader.chunk(index).unwrap().to_vec(),
            chunks()[usize::try_from(index).unwrap()]
        );
    }
    assert_eq!(reader.bytes(), 710);
    assert!(matches!(
        reader.chunk(4),
        Err(CheckpointError::NoSuchChunk { index: 4, chunks: 4 })
    ));
}

#[test]
fn an_empty_checkpoint_is_one() {
    let disk = MemDisk::new();
    writer(&disk, "none").finish().unwrap();
    assert!(read_all(&disk, "none").unwrap().is_empty());
}

#[test]
fn a_crash_at_any_point_leaves_the_old_one_or_the_new_one() {
    let old = vec![b"old".to_vec()];
    let mut seen = [0, 0];
    for seed in 0..300 {
        let disk = MemDisk::new();
        let mut numbers = Numbers(seed);
        let mut first = writer(&disk, "a");
        first.write_chunk(&old[0]).unwrap();
        first.finish().unwrap();
        let op = [DiskOp::Write, DiskOp::Sync, DiskOp::Rename, DiskOp::SyncDir]
            [usize::try_from(seed % 4).unwrap()];
        disk.fail_nth(op, 1 + numbers.below(6));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let done = CheckpointWriter::create(shared, dir(), "a", b"meta").and_then(|mut writer| {
            chunks().iter().try_for_each(|chunk| writer.write_chunk(chunk))?;
            writer.finish()
        });
        disk.crash(&mut || numbers.next());
        let found = read_all(&disk, "a").unwrap();
        assert!(found == old || found == chunks());
        assert!(done.is_err() || found == chunks(), "what was finished is durable");
        seen[usize::from(found == old)] += 1;
        remove_unfinished_checkpoints(&disk, dir()).unwrap();
        assert_eq!(disk.list(dir()).unwrap(), ["a.ckpt"]);
    }
    assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let disk = MemDisk::new();
    write_all(&disk, "a");
    let path = dir().join("a.ckpt");
    let length = disk.contents(&path).unwrap().len() as u64;
    for offset in 0..length {
        for mask in [1, 0x80, 0xff] {
            let disk = disk.fork();
            disk.flip(&path, offset, mask).unwrap();
            let error = read_all(&disk, "a").expect_err("the flip must be noticed");
            assert!(
                matches!(error, CheckpointError::Damaged { .. }),
                "byte {offset}: {error}"
            );
        }
        let cut = disk.fork();
        cut.open(&path, OpenMode::ReadWrite)
            .unwrap()
            .set_len(offset)
            .unwrap();
        assert!(
            matches!(read_all(&cut, "a"), Err(CheckpointError::Damaged { .. })),
            "cut to {offset}"
        );
    }
    disk.open(&path, OpenMode::ReadWrite)
        .unwrap()
        .set_len(length + 1)
        .unwrap();
    assert!(matches!(
        read_all(&disk, "a"),
        Err(CheckpointError::Damaged { .. })
    ));
}

#[test]
fn chunks_that_changed_places_are_noticed() {
    let disk = MemDisk::new();
    let mut writer = writer(&disk, "a");
    writer.write_chunk(&[1; 64]).unwrap();
    writer.write_chunk(&[2; 64]).unwrap();
    writer.finish().unwrap();
    let path = dir().join("a.ckpt");
    let bytes = disk.contents(&path).unwrap();
    let start = bytes.windows(64).position(|window| window == [1; 64]).unwrap();
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.write_at(start as u64, &[2; 64]).unwrap();
    file.write_at(start as u64 + 64, &[1; 64]).unwrap();
    let reader = CheckpointReader::open(&disk, dir(), "a").unwrap();
    assert!(reader.chunk(0).is_err() && reader.chunk(1).is_err() && reader.verify().is_err());
}

#[test]
fn only_finished_checkpoints_are_listed_and_the_newest_is_last() {
    let disk = MemDisk::new();
    assert!(list_checkpoints(&disk, dir()).unwrap().is_empty());
    for name in ["0002-0009", "0001-0003", "0010-0100"] {
        write_all(&disk, name);
    }
    let mut unfinished = writer(&disk, "0011-0200");
    unfinished.write_chunk(b"half").unwrap();
    writer(&disk, "0012-0300").abandon().unwrap();
    assert_eq!(
        list_checkpoints(&disk, dir()).unwrap(),
        ["0001-0003", "0002-0009", "0010-0100"]
    );
    remove_checkpoint(&disk, dir(), "0002-0009").unwrap();
    assert!(matches!(
        remove_checkpoint(&disk, dir(), "0002-0009"),
        Err(CheckpointError::NotFound { .. })
    ));
    remove_unfinished_checkpoints(&disk, dir()).unwrap();
    assert_eq!(disk.list(dir()).unwrap(), ["0001-0003.ckpt", "0010-0100.ckpt"]);
    assert!(matches!(
        CheckpointReader::open(&disk, dir(), "0011-0200"),
        Err(CheckpointError::NotFound { .. })
    ));
}

#[test]
fn bad_names_and_sizes_are_refused() {
    let disk = MemDisk::new();
    for name in ["", "../a", "a.b", "a/b", "ü"] {
        assert!(matches!(
            CheckpointReader::open(&disk, dir(), name),
            Err(CheckpointError::BadName(_))
        ));
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let meta = vec![0; (1 << 20) + 1];
    let refused = CheckpointWriter::create(shared, dir(), "a", &meta);
    assert!(matches!(refused, Err(CheckpointError::TooLarge { .. })));
    let chunk = vec![0; (16 << 20) + 1];
    let mut writer = writer(&disk, "a");
    assert!(matches!(
        writer.write_chunk(&chunk),
        Err(CheckpointError::TooLarge { .. })
    ));
    writer.write_chunk(b"the writer goes on").unwrap();
}

#[test]
fn a_writer_that_failed_installs_nothing() {
    let disk = MemDisk::new();
    let mut writer = writer(&disk, "a");
    disk.fail_nth(DiskOp::Write, 1);
    assert!(matches!(
        writer.write_chunk(b"x"),
        Err(CheckpointError::Io { .. })
    ));
    assert!(matches!(
        writer.write_chunk(b"y"),
        Err(CheckpointError::Broken { .. })
    ));
    assert!(matches!(writer.finish(), Err(CheckpointError::Broken { .. })));
    assert!(list_checkpoints(&disk, dir()).unwrap().is_empty());
}

#[test]
fn a_newer_version_is_named() {
    let disk = MemDisk::new();
    write_all(&disk, "a");
    let path = dir().join("a.ckpt");
    let mut header = disk.contents(&path).unwrap()[..32].to_vec();
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    disk.open(&path, OpenMode::ReadWrite)
        .unwrap()
        .write_at(0, &header)
        .unwrap();
    let opened = CheckpointReader::open(&disk, dir(), "a").map(|_| ());
    assert!(matches!(
        opened,
        Err(CheckpointError::NewerVersion {
            found: 2,
            supported: 1,
            ..
        })
    ));
}
