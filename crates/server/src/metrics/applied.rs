//! What the keyspace does on this member, as the thread that applies commands and answers queries sees it.
//!
//! Every member counts every command, whoever it was sent to, as in etcd; reads are counted where they are answered.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use quorate_kv::{Change, Event, OpResponse, Response, StoreSize, TxnResponse};

use super::register::{add, counter, disk_histogram, gauge, memory_histogram};

/// What the keyspace does on this member.
pub(crate) struct Applied {
    puts: Counter,
    put_bytes: Gauge,
    deletes: Counter,
    ranges: Counter,
    txns: Counter,
    leases_granted: Counter,
    leases_revoked: Counter,
    leases_renewed: Counter,
    lease_ttl: Histogram,
    commands: Family<CommandLabels, Histogram, fn() -> Histogram>,
    queries: Family<QueryLabels, Histogram, fn() -> Histogram>,
    batches: Histogram,
    slow: Counter,
    hashes: Histogram,
    /// Whether a snapshot is being taken over.
    pub(crate) restoring: Gauge,
    removal: Removal,
}

/// Removal of compacted history.
struct Removal {
    versions: Counter,
    steps: Histogram,
    whole: Histogram,
    last: Gauge,
}

impl Applied {
    pub(super) fn new(r: &mut Registry) -> Applied {
        let (puts, deletes) = (Counter::default(), Counter::default());
        let (ranges, txns) = (Counter::default(), Counter::default());
        // Under the names of etcd 3.4 too, which older dashboards ask for.
        for space in ["etcd_mvcc", "etcd_debugging_mvcc"] {
            let mut register = |name: &str, help: &str, counter: &Counter| {
                r.register(format!("{space}_{name}"), help, counter.clone());
            };
            register("put", "Puts", &puts);
            register("delete", "Deletions", &deletes);
            register("range", "Ranges", &ranges);
            register("txn", "Transactions of more than one operation", &txns);
        }
        Applied {
            puts,
            deletes,
            ranges,
            txns,
            put_bytes: gauge(
                r,
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of the keys and values that were put",
            ),
            leases_granted: counter(r, "etcd_debugging_lease_granted", "Leases granted"),
            leases_revoked: counter(r, "etcd_debugging_lease_revoked", "Leases revoked"),
            leases_renewed: counter(r, "etcd_debugging_lease_renewed", "Leases renewed"),
            lease_ttl: add(
                r,
                "etcd_debugging_lease_ttl_total",
                "Time to live of granted leases, in seconds",
                Histogram::new(exponential_buckets(1.0, 2.0, 24)),
            ),
            commands: add(
                r,
                "etcd_server_apply_duration_seconds",
                "How long applying a command takes",
                Family::new_with_constructor(memory_histogram as fn() -> Histogram),
            ),
            queries: add(
                r,
                "etcd_server_range_duration_seconds",
                "How long answering a range takes",
                Family::new_with_constructor(memory_histogram as fn() -> Histogram),
            ),
            batches: add(
                r,
                "etcd_disk_backend_commit_duration_seconds",
                "How long it takes until a batch of commands is applied and published; no disk is involved",
                disk_histogram(),
            ),
            slow: counter(
                r,
                "etcd_server_slow_apply",
                "Commands and ranges that took longer than --warning-apply-duration",
            ),
            hashes: add(
                r,
                "etcd_mvcc_hash_rev_duration_seconds",
                "How long hashing the keyspace takes",
                Histogram::new(exponential_buckets(0.01, 2.0, 15)),
            ),
            restoring: gauge(
                r,
                "etcd_server_snapshot_apply_in_progress_total",
                "Whether a snapshot is being taken over",
            ),
            removal: Removal::new(r),
        }
    }

    /// Counts a command that was applied.
    pub(crate) fn count_command(&self, op: &'static str, took: Duration, response: Option<&Response>) {
        let labels = CommandLabels {
            version: "v3",
            op,
            success: success(response.is_some()),
        };
        self.commands.get_or_create(&labels).observe(took.as_secs_f64());
        let Some(response) = response else {
            return;
        };
        match response {
            Response::Put(_) => {
                self.puts.inc();
            }
            Response::DeleteRange(_) => {
                self.deletes.inc();
            }
            Response::Txn(txn) => self.count_txn(txn),
            Response::LeaseGrant { ttl_secs, .. } => {
                self.leases_granted.inc();
                self.lease_ttl.observe(seconds(*ttl_secs));
            }
            Response::LeaseRevoke => {
                self.leases_revoked.inc();
            }
            Response::LeaseRenew(renewals) => {
                let renewed = renewals.iter().filter(|renewal| renewal.ttl_secs.is_some());
                self.leases_renewed.inc_by(renewed.count() as u64);
            }
            Response::Compact | Response::PublishMember | Response::Alarm(_) | Response::Auth => {}
        }
    }

    /// Counts the bytes of changes that put something.
    pub(crate) fn count_changes(&self, changes: &[Change]) {
        let bytes = changes.iter().map(|change| match change.to_event() {
            Event::Put { kv, .. } => kv.key.len() + kv.value.len(),
            Event::Delete { .. } => 0,
        });
        let bytes: usize = bytes.sum();
        self.put_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a range that was answered; also a page of one.
    pub(crate) fn count_range(&self, took: Duration, is_success: bool) {
        self.ranges.inc();
        self.time_range(took, is_success);
    }

    /// Counts a transaction that only read.
    pub(crate) fn count_read_txn(&self, took: Duration, response: Option<&TxnResponse>) {
        self.time_range(took, response.is_some());
        if let Some(txn) = response {
            self.count_txn(txn);
        }
    }

    /// Counts what took longer than it should.
    pub(crate) fn count_slow(&self) {
        self.slow.inc();
    }

    /// Measures hashing the keyspace.
    pub(crate) fn time_hash(&self, took: Duration) {
        self.hashes.observe(took.as_secs_f64());
    }

    /// Measures how long a batch took from its first command until all was published.
    pub(crate) fn time_batch(&self, took: Duration) {
        self.batches.observe(took.as_secs_f64());
    }

    fn time_range(&self, took: Duration, is_success: bool) {
        let success = success(is_success);
        let labels = QueryLabels { success };
        self.queries.get_or_create(&labels).observe(took.as_secs_f64());
    }

    fn count_txn(&self, txn: &TxnResponse) {
        // As in etcd: a transaction of one operation is that operation.
        if self.count_ops(txn) > 1 {
            self.txns.inc();
        }
    }

    fn count_ops(&self, txn: &TxnResponse) -> usize {
        let ops = txn.responses.iter().map(|response| match response {
            OpResponse::Range(_) => one(&self.ranges),
            OpResponse::Put(_) => one(&self.puts),
            OpResponse::DeleteRange(_) => one(&self.deletes),
            OpResponse::Txn(txn) => self.count_ops(txn),
        });
        ops.sum()
    }

    /// Measures a step of removing compacted history.
    pub(crate) fn count_removal(&self, step: &RemovalStep) {
        let removal = &self.removal;
        let removed = step.before.versions.saturating_sub(step.after.versions);
        removal.versions.inc_by(removed as u64);
        removal.steps.observe(millis(step.begun.elapsed()));
    }

    /// Measures how long removing compacted history took in all, now that it is done.
    pub(crate) fn time_removal(&self, took: Duration) {
        self.removal.whole.observe(millis(took));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.removal.last.set(now);
    }
}

/// A step of removing compacted history.
pub(crate) struct RemovalStep {
    pub(crate) before: StoreSize,
    pub(crate) after: StoreSize,
    pub(crate) begun: Instant,
    pub(crate) is_more_left: bool,
}

impl Removal {
    fn new(r: &mut Registry) -> Removal {
        Removal {
            versions: counter(
                r,
                "etcd_debugging_mvcc_db_compaction_keys",
                "Versions of keys that were removed as compacted",
            ),
            steps: add(
                r,
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "How long commands wait for a step of removing compacted history",
                Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            ),
            whole: add(
                r,
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "How long removing compacted history takes in all",
                Histogram::new(exponential_buckets(100.0, 2.0, 14)),
            ),
            last: gauge(
                r,
                "etcd_debugging_mvcc_db_compaction_last",
                "When compacted history was last removed, in Unix time",
            ),
        }
    }
}

fn one(counter: &Counter) -> usize {
    counter.inc();
    1
}

fn success(is_success: bool) -> &'static str {
    if is_success { "true" } else { "false" }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "it goes into a bucket")]
fn seconds(seconds: i64) -> f64 {
    seconds as f64
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CommandLabels {
    version: &'static str,
    op: &'static str,
    success: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueryLabels {
    success: &'static str,
}
