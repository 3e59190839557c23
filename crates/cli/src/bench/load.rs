//! The load itself: clients, connections, what each request is and what became of it.

use crate::bench::connection::{Connection, connect};
use crate::endpoint::TlsFlags;
use crate::login::{Identified, LoginFlags};
use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::{PutRequest, RangeRequest};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

/// What is sent, by how many, how often.
pub(super) struct Load {
    pub(super) operation: Operation,
    pub(super) clients: NonZeroU64,
    pub(super) total: NonZeroU64,
    pub(super) connections: NonZeroU64,
    pub(super) endpoints: Vec<String>,
    pub(super) login: LoginFlags,
    pub(super) tls: TlsFlags,
    pub(super) key_size: usize,
    pub(super) key_space: NonZeroU64,
    pub(super) rate: Option<NonZeroU64>,
}

/// One kind of request.
#[derive(Clone)]
pub(super) enum Operation {
    /// Write this value.
    Put { value: Bytes },
    /// Read one key.
    Range { consistency: Consistency },
}

/// What a read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    /// The latest acknowledged value.
    Linearizable,
    /// What the asked node has applied.
    Serializable,
}

impl Operation {
    /// Writes values of `size` bytes.
    pub(super) fn put(size: usize) -> Self {
        // Not all bytes equal, so that a store that compresses does not look faster than it is.
        let bytes = (0u8..=255).map(|byte| byte.wrapping_mul(167).wrapping_add(13));
        Self::Put {
            value: bytes.cycle().take(size).collect(),
        }
    }

    /// Reads single keys.
    pub(super) fn range(serializable: bool) -> Self {
        let consistency = if serializable {
            Consistency::Serializable
        } else {
            Consistency::Linearizable
        };
        Self::Range { consistency }
    }

    async fn send(&self, client: &mut KvClient<Identified>, key: Bytes) -> Result<Answer, tonic::Status> {
        match self {
            Self::Put { value } => {
                let request = PutRequest {
                    key,
                    value: value.clone(),
                    ..PutRequest::default()
                };
                client.put(request).await.map(|_| Answer::Done)
            }
            Self::Range { consistency } => {
                let serializable = *consistency == Consistency::Serializable;
                let request = RangeRequest {
                    key,
                    serializable,
                    ..RangeRequest::default()
                };
                let response = client.range(request).await?.into_inner();
                Ok(if response.kvs.is_empty() {
                    Answer::Missing
                } else {
                    Answer::Done
                })
            }
        }
    }
}

enum Answer {
    Done,
    /// A read found no such key.
    Missing,
}

/// What became of the requests.
pub(super) struct Outcome {
    /// Microseconds until the answer, of every answered request.
    pub(super) latencies: Histogram<u64>,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Reads that found no key.
    pub(super) missing: u64,
    /// How often each error was the answer.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Outcome {
    fn new() -> Self {
        let latencies = Histogram::new(3).expect("3 significant digits are within the allowed 0 to 5");
        Self {
            latencies,
            elapsed: Duration::ZERO,
            missing: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Requests that were answered without an error.
    pub(super) fn answered(&self) -> u64 {
        self.latencies.len()
    }

    /// Requests that were not.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The error that was the answer most often, and how often.
    pub(super) fn commonest_error(&self) -> Option<(&str, u64)> {
        let errors = self.errors.iter().map(|(error, count)| (error.as_str(), *count));
        errors.max_by_key(|(_, count)| *count)
    }

    /// Answered requests in a second.
    pub(super) fn throughput(&self) -> f64 {
        count(self.answered()) / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    fn record(&mut self, due: Instant, answer: Result<Answer, tonic::Status>) {
        match answer {
            Ok(answer) => {
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latencies
                    .record(micros)
                    .expect("the histogram grows as needed");
                self.missing += u64::from(matches!(answer, Answer::Missing));
            }
            Err(status) => *self.errors.entry(describe(&status)).or_default() += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.latencies
            .add(&other.latencies)
            .expect("the histogram grows as needed");
        self.missing += other.missing;
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }
}

impl Load {
    /// Sends all requests and waits for their answers.
    ///
    /// # Errors
    ///
    /// If an endpoint cannot be parsed, or none can be reached.
    pub(super) async fn run(&self) -> anyhow::Result<Outcome> {
        let connections = connect(&self.endpoints, &self.login, &self.tls, self.connections).await?;
        let progress = progress_bar(self.total.get());
        let shared = Arc::new(Shared {
            operation: self.operation.clone(),
            next: AtomicU64::new(0),
            total: self.total.get(),
            key_size: self.key_size,
            key_space: self.key_space.get(),
            rate: self.rate,
            started: Instant::now(),
            progress: progress.clone(),
        });
        let mut clients = JoinSet::new();
        for (_, connection) in (0..self.clients.get()).zip(connections.iter().cycle()) {
            clients.spawn(client(shared.clone(), connection.clone()));
        }
        let mut outcome = Outcome::new();
        while let Some(part) = clients.join_next().await {
            outcome.add(&part.context("a client of the benchmark died")?);
        }
        outcome.elapsed = shared.started.elapsed();
        progress.finish_and_clear();
        Ok(outcome)
    }
}

/// What all clients share.
struct Shared {
    operation: Operation,
    next: AtomicU64,
    total: u64,
    key_size: usize,
    key_space: u64,
    rate: Option<NonZeroU64>,
    started: Instant,
    progress: ProgressBar,
}

impl Shared {
    /// Waits until request number `index` is due; the instant from which its latency counts.
    async fn due(&self, index: u64) -> Instant {
        let Some(rate) = self.rate else {
            return Instant::now();
        };
        let due = self.started + Duration::from_secs_f64(count(index) / count(rate.get()));
        sleep_until(due).await;
        due
    }

    /// The number of the request's place in the key space, padded with zeros on the left.
    fn key(&self, index: u64) -> Bytes {
        let place = (index % self.key_space).to_string();
        // A width in a format may be 65,535 at most.
        let mut key = vec![b'0'; self.key_size.saturating_sub(place.len())];
        key.extend(place.into_bytes());
        key.into()
    }
}

async fn client(shared: Arc<Shared>, connection: Arc<Connection>) -> Outcome {
    let mut outcome = Outcome::new();
    let (mut place, mut kv) = connection.current();
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= shared.total {
            return outcome;
        }
        let due = shared.due(index).await;
        let answer = shared.operation.send(&mut kv, shared.key(index)).await;
        if matches!(&answer, Err(status) if status.code() == Code::Unavailable) {
            connection.move_on(place);
            (place, kv) = connection.current();
        }
        outcome.record(due, answer);
        shared.progress.inc(1);
    }
}

fn describe(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

fn progress_bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {human_pos}/{human_len} {rate}/s {eta}")
        .expect("the template is a constant that parses")
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A text buffer takes everything; if not, a progress bar is not worth an error.
            let _ = write!(out, "{:.0}", state.per_sec());
        });
    ProgressBar::new(total).with_style(style)
}

/// A count as a number to calculate rates with.
#[expect(clippy::cast_precision_loss, reason = "rates need no more than 52 bits")]
fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(key_size: usize, key_space: u64) -> Shared {
        Shared {
            operation: Operation::put(1),
            next: AtomicU64::new(0),
            total: 1,
            key_size,
            key_space,
            rate: None,
            started: Instant::now(),
            progress: ProgressBar::hidden(),
        }
    }

    #[test]
    fn keys_have_their_size_and_come_round() {
        let shared = shared(12, 100);
        assert_eq!(shared.key(7), "000000000007");
        assert_eq!(shared.key(107), shared.key(7));
        assert_ne!(shared.key(99), shared.key(100));
        let long = self::shared(70_000, 100).key(7);
        assert_eq!((long.len(), long[69_999]), (70_000, b'7'));
    }

    #[test]
    fn values_have_their_size_and_are_not_constant() {
        let Operation::Put { value } = Operation::put(256) else {
            panic!("put makes a put")
        };
        assert_eq!(value.len(), 256);
        assert!(value.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn latencies_are_microseconds() {
        let mut outcome = Outcome::new();
        let due = Instant::now();
        tokio::time::advance(Duration::from_millis(25)).await;
        outcome.record(due, Ok(Answer::Done));
        let found = outcome.latencies.max();
        assert!((25_000..25_100).contains(&found), "{found}");
    }

    #[test]
    fn an_error_is_counted_and_is_no_latency() {
        let mut outcome = Outcome::new();
        outcome.record(Instant::now(), Ok(Answer::Missing));
        outcome.record(Instant::now(), Err(tonic::Status::unavailable("gone")));
        outcome.record(Instant::now(), Err(tonic::Status::unavailable("gone")));
        let mut sum = Outcome::new();
        sum.add(&outcome);
        sum.add(&outcome);
        assert_eq!((sum.answered(), sum.missing), (2, 2));
        assert_eq!(sum.errors.get("Unavailable: gone"), Some(&4));
    }
}
