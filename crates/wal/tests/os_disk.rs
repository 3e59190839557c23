//! The real disk: the same log over real files, and the lock.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::*;
use quorate_wal::{DirLock, Disk, LockError, OpenMode, OsDisk, Wal};

fn real_disk() -> (tempfile::TempDir, Arc<OsDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(OsDisk::open(dir.path().join("data")).unwrap());
    (dir, disk)
}

#[test]
fn a_log_on_real_files_is_found_again() {
    let (_dir, disk) = real_disk();
    let mut records = vec![state("v")];
    for round in 0..4 {
        let (mut wal, recovered) = Wal::open(disk.clone(), Path::new("node/log"), options()).unwrap();
        if round > 0 {
            assert_eq!(contents(&wal, &recovered), Model::of(&records));
        }
        let mut from = if round == 0 { 0 } else { records.len() };
        for index in round * 50 + 1..=round * 50 + 50 {
            records.push(entry(index, 1, body(index, 500)));
            wal.append(&records[from..]).unwrap();
            wal.sync().unwrap();
            from = records.len();
        }
        records.push(compact(round * 50 + 40, 1));
        wal.append(&records[from..]).unwrap();
        wal.sync().unwrap();
        assert!(wal.stats().reclaimed > 0);
    }
}

#[test]
fn a_file_is_made_read_and_cut_as_the_trait_says() {
    let (dir, disk) = real_disk();
    let path = Path::new("f");
    assert_eq!(
        disk.open(path, OpenMode::Read).map(|_| ()).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    assert_eq!(
        disk.open(path, OpenMode::CreateNew)
            .map(|_| ())
            .unwrap_err()
            .kind(),
        ErrorKind::AlreadyExists
    );
    assert!(file.is_empty().unwrap());
    file.allocate(10_000).unwrap();
    file.write_at(9_998, b"ab").unwrap();
    file.sync_data().unwrap();
    let mut buf = [9; 5];
    assert_eq!(file.read_at(9_997, &mut buf).unwrap(), 3);
    assert_eq!(buf, [0, b'a', b'b', 9, 9]);
    file.set_len(5).unwrap();
    file.allocate(0).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    assert!(
        disk.open(path, OpenMode::Read)
            .unwrap()
            .write_at(0, b"x")
            .is_err()
    );
    disk.rename(path, Path::new("g")).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(disk.list(Path::new("")).unwrap(), ["g"]);
    disk.remove(Path::new("g")).unwrap();
    assert!(disk.list(Path::new("")).unwrap().is_empty());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("data")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_directory_is_locked_once_and_free_again_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let lock = DirLock::acquire(&data).unwrap();
    let Err(error @ LockError::Held { .. }) = DirLock::acquire(&data) else {
        panic!("locked twice")
    };
    let text = error.to_string();
    assert!(
        text.contains(data.to_str().unwrap()) && text.contains("another process"),
        "{text}"
    );
    drop(lock);
    DirLock::acquire(&data).unwrap();
    let file = dir.path().join("not a directory");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(DirLock::acquire(&file), Err(LockError::Io { .. })));
}

/// Not a test by itself: the process that the next test starts and kills.
#[test]
fn child_that_holds_the_lock() {
    let Ok(dir) = std::env::var("QUORATE_TEST_LOCK_DIR") else {
        return;
    };
    let _lock = DirLock::acquire(Path::new(&dir)).unwrap();
    std::fs::write(Path::new(&dir).join("held"), "").unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn a_lock_is_free_again_when_its_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_holds_the_lock"])
        .env("QUORATE_TEST_LOCK_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !dir.path().join("held").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the child has ended");
        std::thread::yield_now();
    }
    assert!(matches!(
        DirLock::acquire(dir.path()),
        Err(LockError::Held { .. })
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    DirLock::acquire(dir.path()).unwrap();
}
