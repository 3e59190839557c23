//! Writers and readers on every node, and what they saw, so that it can be judged.
//!
//! Each writer counts upwards. Its n-th write is one transaction that puts n under its register
//! and under a key of its own, if the register is smaller than n. So:
//!
//! - a register only grows, whatever becomes of writes whose outcome is unknown;
//! - a transaction that is acknowledged but did nothing was carried out before: it was applied
//!   twice;
//! - a linearizable read of a register lies between what was acknowledged or read by anybody
//!   before it began, and what was attempted before it ended.

use super::client::{Client, Consistency};
use super::eventually;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A workload that runs until it is stopped.
pub(crate) struct Workload {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// What the workload did and saw.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// By writer.
    pub(crate) writers: Vec<Written>,
    /// Linearizable reads that were answered.
    pub(crate) reads: u64,
    /// Requests that were not answered, or with an error: nobody knows what became of them.
    pub(crate) unknown: u64,
    /// What must not happen.
    pub(crate) violations: Vec<String>,
}

/// What one writer did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// The number of its last attempt.
    pub(crate) attempted: u64,
    /// Number and revision of each write that was acknowledged.
    pub(crate) acknowledged: Vec<(u64, i64)>,
}

struct Shared {
    writers: Vec<Writer>,
    stop: AtomicBool,
    reads: AtomicU64,
    unknown: AtomicU64,
    violations: Mutex<Vec<String>>,
    gap: Mutex<Gap>,
}

/// How long nobody's write was acknowledged, at most.
struct Gap {
    last: Instant,
    longest: Duration,
}

#[derive(Default)]
struct Writer {
    attempted: AtomicU64,
    /// No read that begins now may return less than this.
    floor: AtomicU64,
    acknowledged: Mutex<Vec<(u64, i64)>>,
}

impl Workload {
    /// Starts `writers` writers and one reader on each of the clients' nodes.
    ///
    /// # Errors
    ///
    /// If the registers cannot be made.
    pub(crate) async fn start(clients: &[Client], writers: usize) -> anyhow::Result<Self> {
        let total = clients.len() * writers;
        for writer in 0..total {
            let client = &clients[writer % clients.len()];
            let create = || async { client.put_if_missing(&register(writer), &number(0)).await };
            eventually("the registers of the workload", create).await?;
        }
        let shared = Arc::new(Shared {
            writers: (0..total).map(|_| Writer::default()).collect(),
            stop: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            violations: Mutex::default(),
            gap: Mutex::new(Gap::new()),
        });
        let mut tasks = JoinSet::new();
        for writer in 0..total {
            tasks.spawn(write(
                shared.clone(),
                clients[writer % clients.len()].clone(),
                writer,
            ));
        }
        for (place, client) in clients.iter().enumerate() {
            tasks.spawn(read(shared.clone(), client.clone(), place));
        }
        Ok(Self { shared, tasks })
    }

    /// Stops it, waits for the requests under way, and returns what it did and saw.
    pub(crate) async fn stop(mut self) -> Record {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("a task of the workload does not panic");
        }
        let writers = self.shared.writers.iter().map(Writer::written).collect();
        Record {
            writers,
            reads: self.shared.reads.load(Ordering::SeqCst),
            unknown: self.shared.unknown.load(Ordering::SeqCst),
            violations: lock(&self.shared.violations).clone(),
        }
    }

    /// Measures from here on how long nobody's write is acknowledged.
    pub(crate) fn watch_gap(&self) {
        *lock(&self.shared.gap) = Gap::new();
    }

    /// The longest time without an acknowledged write, of anybody, since [`Workload::watch_gap`].
    pub(crate) fn longest_gap(&self) -> Duration {
        let gap = lock(&self.shared.gap);
        gap.longest.max(gap.last.elapsed())
    }

    /// Writes that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared
            .writers
            .iter()
            .map(|writer| lock(&writer.acknowledged).len())
            .sum()
    }
}

impl Record {
    /// Writes that were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.writers.iter().map(|writer| writer.acknowledged.len()).sum()
    }
}

impl Gap {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            longest: Duration::ZERO,
        }
    }

    fn acknowledged(&mut self) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

impl Writer {
    fn written(&self) -> Written {
        Written {
            attempted: self.attempted.load(Ordering::SeqCst),
            acknowledged: lock(&self.acknowledged).clone(),
        }
    }
}

impl Shared {
    fn runs(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    fn violated(&self, what: String) {
        lock(&self.violations).push(what);
    }

    /// What nobody answered is unknown; a short pause keeps a dead node from being asked in a rush.
    async fn failed(&self) {
        self.unknown.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    fn check_read(&self, place: usize, writer: usize, floor: u64, value: Option<&str>) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let ceiling = self.writers[writer].attempted.load(Ordering::SeqCst);
        match value.map(str::parse::<u64>) {
            Some(Ok(value)) if floor <= value && value <= ceiling => {
                self.writers[writer].floor.fetch_max(value, Ordering::SeqCst);
            }
            found => self.violated(format!(
                "stale or invented read at node {place}: register {writer} is {found:?}, \
                 must lie in {floor}..={ceiling}"
            )),
        }
    }
}

async fn write(shared: Arc<Shared>, client: Client, writer: usize) {
    let state = &shared.writers[writer];
    let mut next = 0;
    while shared.runs() {
        next += 1;
        state.attempted.store(next, Ordering::SeqCst);
        let value = number(next);
        match client
            .put_both_if_greater(&register(writer), &log_key(writer, next), &value)
            .await
        {
            Ok((true, revision)) => {
                lock(&state.acknowledged).push((next, revision));
                lock(&shared.gap).acknowledged();
                state.floor.fetch_max(next, Ordering::SeqCst);
            }
            Ok((false, _)) => shared.violated(format!("write {next} of writer {writer} was applied twice")),
            Err(_) => shared.failed().await,
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn read(shared: Arc<Shared>, client: Client, place: usize) {
    let mut turn = place;
    while shared.runs() {
        turn = (turn + 1) % shared.writers.len();
        let floor = shared.writers[turn].floor.load(Ordering::SeqCst);
        match client.get(&register(turn), Consistency::Linearizable).await {
            Ok(value) => shared.check_read(place, turn, floor, value.as_deref()),
            Err(_) => shared.failed().await,
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The key of a writer's register.
pub(crate) fn register(writer: usize) -> String {
    format!("register/{writer:03}")
}

/// The key of one write of a writer.
pub(crate) fn log_key(writer: usize, number: u64) -> String {
    format!("log/{writer:03}/{number:020}")
}

/// A number whose text sorts as it does.
pub(crate) fn number(number: u64) -> String {
    format!("{number:020}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between two requests of one task, so that a long run stays small.
const PACE: Duration = Duration::from_millis(10);
