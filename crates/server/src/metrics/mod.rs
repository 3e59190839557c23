//! What a member counts and measures, under etcd's names, so that its dashboards and alerts work.
//!
//! - Counters are added to where things happen; gauges are set when the page is asked for.
//! - Nothing is made up: what etcd has and this member cannot know is not on the page. docs/metrics.md says what
//!   is, and a test holds it to the page.
//! - The encoder adds `_total` to counters by itself; etcd's gauges that end so are named in full.

mod applied;
mod gauges;
mod health;
mod peers;
mod process;
mod register;
mod text;

pub(crate) use applied::{Applied, RemovalStep};
pub(crate) use health::HealthCounts;
pub(crate) use peers::PeerCounts;
pub(crate) use process::max_fds;
pub(crate) use register::{add, counter};
pub(crate) use text::Format;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text as encoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::gauges::Gauges;
use self::process::Process;
use self::register::{BareCounter, disk_histogram, gauge};
use crate::machine::Figures;
use crate::node::Node;

/// What a member counts and measures.
pub(crate) struct Metrics {
    /// Locked while a page is made, so that no page sees gauges of which another has set only some.
    registry: Mutex<Registry>,
    gauges: Gauges,
    /// What the keyspace does.
    pub(crate) applied: Applied,
    /// What goes between this member and its peers.
    pub(crate) peers: PeerCounts,
    /// What the health pages have answered.
    pub(crate) health: HealthCounts,
    /// Proposals that ended in an error of ours, not in one of the client's making.
    pub(crate) proposals_failed: Counter,
    /// Proposals that wait for their outcome.
    pub(crate) proposals_pending: Gauge,
    /// Changes of leader seen since the start, the first one among them.
    pub(crate) leader_changes: Counter,
    /// Reads that could not be confirmed to be current.
    pub(crate) read_indexes_failed: Counter,
    /// Reads that took long: until they were known to be current, and answered.
    pub(crate) slow_read_indexes: Counter,
    /// Leases revoked because they had expired.
    pub(crate) leases_expired: Counter,
    /// Events sent to watchers.
    pub(crate) events: Counter,
    /// Connections closed because their address had too many.
    pub(crate) connections_refused: Counter,
    /// How long the log's syncs take, in seconds.
    pub(crate) wal_fsync: Histogram,
    /// How long it takes to write a snapshot of the keyspace, in seconds.
    pub(crate) snapshot_save: Histogram,
    promoted: BareCounter,
    not_promoted: Family<ReasonLabels, BareCounter>,
}

impl Metrics {
    /// All metrics, registered beside those that `registry` has.
    pub(crate) fn new(mut registry: Registry) -> Metrics {
        let r = &mut registry;
        r.register_collector(Box::new(Process));
        Metrics {
            gauges: Gauges::new(r),
            applied: Applied::new(r),
            peers: PeerCounts::new(r),
            health: HealthCounts::new(r),
            proposals_failed: counter(r, "etcd_server_proposals_failed", "Proposals that failed"),
            proposals_pending: gauge(r, "etcd_server_proposals_pending", "Proposals that wait"),
            leader_changes: counter(r, "etcd_server_leader_changes_seen", "Changes of leader seen"),
            read_indexes_failed: counter(r, "etcd_server_read_indexes_failed", "Reads that failed"),
            slow_read_indexes: counter(
                r,
                "etcd_server_slow_read_indexes",
                "Reads that took longer than 500 ms, or failed after that",
            ),
            leases_expired: counter(
                r,
                "etcd_debugging_server_lease_expired",
                "Leases that expired while this member led",
            ),
            events: counter(r, "etcd_debugging_mvcc_events", "Events sent to watchers"),
            connections_refused: counter(
                r,
                "quorate_connections_refused",
                "Connections closed because their address had too many",
            ),
            wal_fsync: add(
                r,
                "etcd_disk_wal_fsync_duration_seconds",
                "How long the log's syncs take",
                disk_histogram(),
            ),
            snapshot_save: add(
                r,
                "etcd_debugging_snap_save_total_duration_seconds",
                "How long writing a snapshot of the keyspace takes, from its beginning",
                disk_histogram(),
            ),
            promoted: add(
                r,
                "etcd_server_learner_promote_successes",
                "Learners promoted by a call to this member",
                BareCounter::default(),
            ),
            not_promoted: add(
                r,
                "etcd_server_learner_promote_failures",
                "Calls to this member that promoted no learner",
                Family::default(),
            ),
            registry: Mutex::new(registry),
        }
    }

    /// Counts a call that was to promote a learner.
    pub(crate) fn count_promotion<T>(&self, outcome: &Result<T, tonic::Status>) {
        match outcome {
            Ok(_) => self.promoted.inc(),
            Err(status) => {
                let labels = ReasonLabels {
                    Reason: status.message().to_owned(),
                };
                self.not_promoted.get_or_create(&labels).inc();
            }
        }
    }

    /// The page, with the gauges as they are; those of the keyspace as they were if there are no figures.
    pub(crate) fn page(&self, node: &Node, figures: Option<&Figures>, format: Format) -> String {
        let registry = self.registry.lock();
        self.gauges.set(node, figures);
        self.peers.set_known(&node.raft());
        let mut page = String::new();
        encoder::encode(&mut page, &registry).expect("writing to a String does not fail");
        drop(registry);
        format.page(page)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the label is etcd's")]
struct ReasonLabels {
    Reason: String,
}
