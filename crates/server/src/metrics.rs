//! What a member counts and measures, under etcd's names, so that its dashboards and alerts work.
//!
//! - Counters are added to where things happen; gauges are set when the page is asked for.
//! - The encoder adds `_total` to counters by itself; etcd's gauges that end so are named in full.

use std::fs;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::ETCD_VERSION;
use crate::machine::Figures;
use crate::node::Node;

/// What a member counts and measures.
pub(crate) struct Metrics {
    registry: Registry,
    gauges: Gauges,
    /// Proposals that ended in an error of ours, not in one of the client's making.
    pub(crate) proposals_failed: Counter,
    /// Proposals that wait for their outcome.
    pub(crate) proposals_pending: Gauge,
    /// Changes of leader seen since the start, the first one among them.
    pub(crate) leader_changes: Counter,
    /// Reads that could not be confirmed to be current.
    pub(crate) read_indexes_failed: Counter,
    /// Put operations, those in transactions apart.
    pub(crate) puts: Counter,
    /// Delete operations, those in transactions apart.
    pub(crate) deletes: Counter,
    /// Range operations, those in transactions apart.
    pub(crate) ranges: Counter,
    /// Transactions.
    pub(crate) txns: Counter,
    /// Leases revoked because they had expired.
    pub(crate) leases_expired: Counter,
    /// Connections closed because their address had too many.
    pub(crate) connections_refused: Counter,
    /// How long the log's syncs take, in seconds.
    pub(crate) wal_fsync: Histogram,
}

/// Gauges set when the page is asked for.
struct Gauges {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    proposals_committed: Gauge,
    proposals_applied: Gauge,
    db_total_size: Gauge,
    db_in_use_size: Gauge,
    keys: Gauge,
    current_revision: Gauge,
    compact_revision: Gauge,
    watchers: Gauge,
    watch_streams: Gauge,
    slow_watchers: Gauge,
    resident_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

impl Metrics {
    /// All metrics, registered beside those that `registry` has.
    pub(crate) fn new(mut registry: Registry) -> Metrics {
        let r = &mut registry;
        let gauges = Gauges::new(r);
        let proposals_failed = counter(r, "etcd_server_proposals_failed", "Proposals that failed");
        let proposals_pending = gauge(r, "etcd_server_proposals_pending", "Proposals that wait");
        let leader_changes = counter(r, "etcd_server_leader_changes_seen", "Changes of leader seen");
        let read_indexes_failed = counter(r, "etcd_server_read_indexes_failed", "Read indexes that failed");
        let puts = counter(r, "etcd_mvcc_put", "Puts seen by this member");
        let deletes = counter(r, "etcd_mvcc_delete", "Deletes seen by this member");
        let ranges = counter(r, "etcd_mvcc_range", "Ranges seen by this member");
        let txns = counter(r, "etcd_mvcc_txn", "Transactions seen by this member");
        let leases_expired = counter(r, "etcd_debugging_server_lease_expired", "Leases that expired");
        let connections_refused = counter(
            r,
            "quorate_connections_refused",
            "Connections closed because their address had too many",
        );
        let wal_fsync = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let help = "Latency of the log's syncs";
        r.register("etcd_disk_wal_fsync_duration_seconds", help, wal_fsync.clone());
        let versions = vec![
            ("server_version", ETCD_VERSION),
            ("quorate", env!("CARGO_PKG_VERSION")),
        ];
        r.register(
            "etcd_server_version",
            "Versions of this member",
            Info::new(versions),
        );
        Metrics {
            registry,
            gauges,
            proposals_failed,
            proposals_pending,
            leader_changes,
            read_indexes_failed,
            puts,
            deletes,
            ranges,
            txns,
            leases_expired,
            connections_refused,
            wal_fsync,
        }
    }

    /// The page, with the gauges as they are.
    pub(crate) fn encode(&self, node: &Node, figures: &Figures) -> String {
        self.gauges.set(node, figures);
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("writing to a String does not fail");
        page
    }
}

impl Gauges {
    fn new(r: &mut Registry) -> Gauges {
        Gauges {
            has_leader: gauge(r, "etcd_server_has_leader", "Whether a leader is known"),
            is_leader: gauge(r, "etcd_server_is_leader", "Whether this member leads"),
            is_learner: gauge(r, "etcd_server_is_learner", "Whether this member has no vote"),
            proposals_committed: gauge(r, "etcd_server_proposals_committed_total", "The commit index"),
            proposals_applied: gauge(r, "etcd_server_proposals_applied_total", "The applied index"),
            db_total_size: gauge(
                r,
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes of the keyspace and its history",
            ),
            db_in_use_size: gauge(
                r,
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of what is live in it",
            ),
            keys: gauge(r, "etcd_debugging_mvcc_keys_total", "Keys"),
            current_revision: gauge(r, "etcd_debugging_mvcc_current_revision", "The revision"),
            compact_revision: gauge(
                r,
                "etcd_debugging_mvcc_compact_revision",
                "The last compacted revision",
            ),
            watchers: gauge(r, "etcd_debugging_mvcc_watcher_total", "Watchers"),
            watch_streams: gauge(r, "etcd_debugging_mvcc_watch_stream_total", "Watch streams"),
            slow_watchers: gauge(
                r,
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that catch up",
            ),
            resident_memory: gauge(r, "process_resident_memory_bytes", "Resident memory"),
            open_fds: gauge(r, "process_open_fds", "Open file descriptors"),
            max_fds: gauge(r, "process_max_fds", "The most file descriptors that may be open"),
        }
    }

    fn set(&self, node: &Node, figures: &Figures) {
        let watches = node.shared().watches.lock().stats();
        let status = node.raft();
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.is_leader.set(i64::from(node.is_leader()));
        self.is_learner.set(0);
        self.proposals_committed.set(signed(status.commit_index.0));
        self.proposals_applied.set(signed(status.applied_index.0));
        self.db_total_size.set(figures.total_bytes);
        self.db_in_use_size.set(figures.in_use_bytes);
        self.keys.set(figures.keys);
        self.current_revision.set(figures.revision.0);
        self.compact_revision.set(figures.compacted.0);
        self.watchers.set(count(watches.watchers));
        self.watch_streams.set(count(watches.streams));
        self.slow_watchers.set(count(watches.slow_watchers));
        self.resident_memory.set(signed(resident_bytes()));
        self.open_fds.set(signed(open_fds()));
        self.max_fds.set(signed(max_fds()));
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// 0 where the system does not tell, here and below.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn open_fds() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// How many files, connections among them, this process may have open.
pub(crate) fn max_fds() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(0)
}
