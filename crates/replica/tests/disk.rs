//! A disk that fails: the node stops before it acknowledges anything more.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Cluster, Journal};
use quorate::{ProposeError, Replica, Stopped, Typed};
use quorate_wal::{Disk, DiskFile, OpenMode, OsDisk};

/// A disk whose syncs fail from some moment on.
struct Failing {
    disk: OsDisk,
    fails: Arc<AtomicBool>,
}

struct FailingFile {
    file: Arc<dyn DiskFile>,
    fails: Arc<AtomicBool>,
}

fn sync(fails: &AtomicBool, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match fails.load(Ordering::SeqCst) {
        true => Err(io::Error::other("this disk has died")),
        false => sync(),
    }
}

impl Disk for Failing {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        let fails = Arc::clone(&self.fails);
        Ok(Arc::new(FailingFile { file, fails }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync(&self.fails, || self.disk.sync_dir(dir))
    }
}

impl DiskFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, buf)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        sync(&self.fails, || self.file.sync_data())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_the_node_before_it_acknowledges() {
    let mut cluster = Cluster::start(1);
    cluster.stop_node(1).await;
    let fails = Arc::new(AtomicBool::new(false));
    let disk = Failing {
        disk: OsDisk::open(cluster.data_dir(1)).unwrap(),
        fails: Arc::clone(&fails),
    };
    let machine = Typed::<Journal>::default();
    let node = Replica::start_on_disk(cluster.config(1), machine, Arc::new(disk)).unwrap();
    node.propose(1).await.unwrap();

    fails.store(true, Ordering::SeqCst);
    let proposed = node.propose(2).await;
    let Err(ProposeError::Stopped(Stopped::Failed(why))) = &proposed else {
        panic!("2 was answered by {proposed:?}");
    };
    assert!(why.contains("this disk has died"), "{why}");
    assert!(matches!(node.closed().await, Stopped::Failed(_)));
    assert!(matches!(node.failure(), Some(Stopped::Failed(_))));
    assert!(node.read(()).await.is_err());

    cluster.start_node(1);
    let values = cluster.node(1).read(()).await.unwrap();
    assert_eq!(values.first(), Some(&1), "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_a_node_whose_disk_died() {
    let mut cluster = Cluster::start(3);
    cluster.node(1).propose(1).await.unwrap();
    let leader = cluster.leader().await;
    cluster.stop_node(leader).await;
    let fails = Arc::new(AtomicBool::new(false));
    let disk = Failing {
        disk: OsDisk::open(cluster.data_dir(leader)).unwrap(),
        fails: Arc::clone(&fails),
    };
    let machine = Typed::<Journal>::default();
    let dying = Replica::start_on_disk(cluster.config(leader), machine, Arc::new(disk)).unwrap();
    cluster.nodes.insert(leader, dying.clone());
    assert_eq!(dying.read(()).await.unwrap(), [1]);

    fails.store(true, Ordering::SeqCst);
    cluster.nodes.remove(&leader);
    let survivor = *cluster.nodes.keys().next().unwrap();
    cluster.write(survivor, 2).await;
    cluster.write(survivor, 3).await;
    cluster.all_hold(&[1, 2, 3]).await;
    assert!(matches!(dying.closed().await, Stopped::Failed(_)));
}
