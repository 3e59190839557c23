//! More is asked for than can be done: it is refused by name, and memory stays where it is.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate::machine::{ApplyError, EncodeError, Machine, RestoreError, SnapshotError};
use quorate::{Config, EntryId, Limits, ProposeError, Rejection, Replica};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Counts the bytes that the process holds, and the most since it was asked last.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts commands. Each command is a length; in the log it has as many bytes.
#[derive(Default)]
struct Count(u64);

impl Machine for Count {
    type Command = usize;
    type Response = u64;
    type Query = ();
    type Answer = u64;
    type Snapshot = Option<Bytes>;

    fn encode(length: usize) -> Result<Bytes, EncodeError> {
        Ok(Bytes::from(vec![7; length]))
    }

    fn apply(&mut self, _id: EntryId, _command: Bytes) -> Result<u64, ApplyError> {
        self.0 += 1;
        Ok(self.0)
    }

    fn query(&mut self, (): ()) -> u64 {
        self.0
    }

    fn begin_snapshot(&mut self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(&self.0.to_le_bytes()))
    }

    fn snapshot_chunk(
        &mut self,
        view: &mut Option<Bytes>,
        _max: usize,
    ) -> Result<Option<Bytes>, SnapshotError> {
        Ok(view.take())
    }

    fn end_snapshot(&mut self, _view: Option<Bytes>) {}

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError> {
        let chunk = chunks.next().unwrap()?;
        self.0 = u64::from_le_bytes(chunk.as_ref().try_into().unwrap());
        Ok(())
    }
}

fn start(node: u64, listeners: &[Arc<TcpListener>], directory: &tempfile::TempDir) -> Replica<Count> {
    let address = |listener: &Arc<TcpListener>| listener.local_addr().unwrap().to_string();
    let peers = (1..).zip(listeners.iter().map(address));
    let mut config = Config::new(node)
        .peers(peers)
        .data_dir(directory.path().join(node.to_string()));
    config.listener = Some(Arc::clone(&listeners[usize::try_from(node - 1).unwrap()]));
    config.limits = Limits {
        max_command_bytes: COMMAND as u64,
        max_message_bytes: 64 << 10,
        max_inflight_bytes: 256 << 10,
        max_uncommitted_bytes: 512 << 10,
        max_applying_bytes: 512 << 10,
        window_bytes: 256 << 10,
        retained_entries: 16,
        ..Limits::default()
    };
    config.max_waiting = 1000;
    config.max_waiting_bytes = 512 << 10;
    config.max_unsent_bytes = 512 << 10;
    config.segment_bytes = 1 << 20;
    config.snapshots.every_bytes = 2 << 20;
    Replica::start(config, Count::default()).unwrap()
}

#[derive(Debug, Default)]
struct Outcomes {
    applied: u64,
    refused: u64,
    unknown: u64,
}

/// Has many clients propose at once and again and again, each without patience.
async fn flood(nodes: &[Replica<Count>], rounds: usize) -> Outcomes {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let node = nodes[client % nodes.len()].clone();
        clients.spawn(async move {
            let mut outcomes = Outcomes::default();
            for _ in 0..rounds {
                let deadline = Instant::now() + Duration::from_millis(30);
                match node.propose_until(COMMAND, deadline).await {
                    Ok(_) => outcomes.applied += 1,
                    Err(ProposeError::Rejected(Rejection::Overloaded)) => outcomes.refused += 1,
                    Err(ProposeError::Unknown) => outcomes.unknown += 1,
                    Err(ProposeError::Rejected(Rejection::NoLeader | Rejection::NotLeader { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            outcomes
        });
    }
    let mut sum = Outcomes::default();
    for outcomes in clients.join_all().await {
        sum.applied += outcomes.applied;
        sum.refused += outcomes.refused;
        sum.unknown += outcomes.unknown;
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_with_a_follower_cut_off_is_refused_and_memory_stays_flat() {
    let directory = tempfile::tempdir().unwrap();
    // The third's socket is never answered: it is there and hears nothing.
    let listeners = [(); 3].map(|()| Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()));
    let nodes = [1, 2].map(|node| start(node, &listeners, &directory));
    nodes[0].propose(COMMAND).await.unwrap();

    let first = flood(&nodes, ROUNDS).await;
    let (held, peak) = (HELD.load(Ordering::Relaxed), PEAK.swap(0, Ordering::Relaxed));
    let second = flood(&nodes, ROUNDS * 4).await;
    let (held_later, peak_later) = (HELD.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed));
    eprintln!("{first:?}, {held} held, {peak} at most; {second:?}, {held_later} held, {peak_later} at most");

    assert!(
        first.refused > 0 && second.refused > 0,
        "the limits were never reached"
    );
    assert!(second.applied > 0, "nothing was applied under load");
    assert!(peak_later < BOUND, "{peak_later} bytes were held at once");
    assert!(
        peak_later < peak + peak / 2,
        "memory grew from {peak} to {peak_later} bytes"
    );
    assert_eq!(
        nodes[0].propose(COMMAND + 1).await,
        Err(ProposeError::Rejected(Rejection::TooLarge))
    );
    // What was too much is forgotten once it is over.
    let applied = nodes[1].propose(1).await.unwrap();
    assert!(applied > first.applied + second.applied);
}

const COMMAND: usize = 16 << 10;
const CLIENTS: usize = 400;
const ROUNDS: usize = 20;
/// Three times what the limits of two nodes, and the commands in the clients' hands, add up to.
const BOUND: usize = 3 * (2 * (3 << 20) + CLIENTS * COMMAND);
