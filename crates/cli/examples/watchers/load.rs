//! Writes at a steady rate, whatever becomes of them.

use super::harness::client::Client;
use super::harness::eventually;
use anyhow::Context;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What is written, and to whom.
pub(crate) struct Load {
    clients: Vec<Client>,
    keys: usize,
}

/// Writes that go on.
pub(crate) struct Writing {
    shared: Arc<Shared>,
    writers: JoinSet<Written>,
}

/// What became of writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// These happened.
    pub(crate) acknowledged: u64,
    /// These may have.
    pub(crate) unknown: u64,
}

struct Shared {
    clients: Vec<Client>,
    keys: usize,
    rate: u32,
    started: Instant,
    next: AtomicU64,
    stopping: AtomicBool,
}

impl Load {
    /// Writes to `keys` keys by way of `clients`, one for each node.
    pub(crate) fn new(clients: Vec<Client>, keys: usize) -> Self {
        Self { clients, keys }
    }

    /// Writes every key once and is sure of it; the revision after that.
    ///
    /// # Errors
    ///
    /// If one of the writes fails for long.
    pub(crate) async fn write_each_key(&self) -> anyhow::Result<i64> {
        let mut last = 0;
        for number in 0..self.keys {
            let client = &self.clients[number % self.clients.len()];
            let revision = eventually("a write", async || client.put(&key(number), &now()).await).await?;
            last = last.max(revision);
        }
        Ok(last)
    }

    /// Starts to write `rate` keys a second, in turn. What is late because nobody leads is caught up with.
    pub(crate) fn start(&self, rate: u32) -> Writing {
        let shared = Arc::new(Shared {
            clients: self.clients.clone(),
            keys: self.keys,
            rate,
            started: Instant::now(),
            next: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            writers.spawn(write(shared.clone(), number));
        }
        Writing { shared, writers }
    }
}

impl Writing {
    /// Waits for the answers that are due, and sends no more.
    ///
    /// # Errors
    ///
    /// If a writer has panicked.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Written> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        while let Some(part) = self.writers.join_next().await {
            let part = part.context("a writer died")?;
            all.acknowledged += part.acknowledged;
            all.unknown += part.unknown;
        }
        Ok(all)
    }
}

async fn write(shared: Arc<Shared>, number: usize) -> Written {
    let mut written = Written::default();
    let mut node = number;
    while !shared.stopping.load(Ordering::Relaxed) {
        let turn = shared.next.fetch_add(1, Ordering::Relaxed);
        sleep_until(shared.started + Duration::from_secs(turn) / shared.rate).await;
        let place = usize::try_from(turn % shared.keys as u64).expect("it is less than a usize");
        let client = &shared.clients[node % shared.clients.len()];
        match client.put(&key(place), &now()).await {
            Ok(_) => written.acknowledged += 1,
            Err(_) => {
                written.unknown += 1;
                node += 1;
            }
        }
    }
    written
}

/// The name of a key.
pub(crate) fn key(number: usize) -> String {
    format!("watched/{number:06}")
}

/// Microseconds since the epoch, as a value.
fn now() -> String {
    micros().to_string()
}

/// Microseconds since a value was made by [`now`]; none if it was not.
pub(crate) fn micros_since(value: &[u8]) -> Option<u64> {
    let then: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(micros().saturating_sub(then))
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

const WRITERS: usize = 64;
