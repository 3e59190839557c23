//! What is looked up when the page is asked for.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::peers::Hex;
use super::register::{add, gauge};
use crate::machine::Figures;
use crate::node::Node;
use crate::translate::alarm_name;
use crate::{CLUSTER_VERSION, ETCD_VERSION};

/// Gauges set when the page is asked for.
pub(super) struct Gauges {
    member: MemberGauges,
    store: StoreGauges,
    watches: WatchGauges,
}

struct MemberGauges {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    proposals_committed: Gauge,
    proposals_applied: Gauge,
    auth_revision: Gauge,
    id: Family<IdLabels, Gauge>,
    cluster_version: Family<ClusterVersionLabels, Gauge>,
}

struct StoreGauges {
    total_size: Gauge,
    in_use_size: Gauge,
    keys: Gauge,
    current_revision: Gauge,
    compact_revision: Gauge,
    alarms: Family<AlarmLabels, Gauge>,
}

struct WatchGauges {
    watchers: Gauge,
    streams: Gauge,
    slow_watchers: Gauge,
    pending_bytes: Gauge,
}

impl Gauges {
    pub(super) fn new(r: &mut Registry) -> Gauges {
        versions(r);
        Gauges {
            member: MemberGauges::new(r),
            store: StoreGauges::new(r),
            watches: WatchGauges::new(r),
        }
    }

    /// Looks at the member as it is. Without new figures, those of the keyspace stay as they were.
    pub(super) fn set(&self, node: &Node, figures: Option<&Figures>) {
        self.member.set(node);
        self.watches.set(node);
        if let Some(figures) = figures {
            self.store.set(figures);
        }
    }
}

/// What does not change while the process runs.
fn versions(r: &mut Registry) {
    let version: Family<VersionLabels, Gauge> = add(
        r,
        "etcd_server_version",
        "The version of etcd whose API this is",
        Family::default(),
    );
    let labels = VersionLabels {
        server_version: ETCD_VERSION,
    };
    version.get_or_create(&labels).set(1);
    let build: Family<BuildLabels, Gauge> = add(
        r,
        "quorate_build_info",
        "The version of Quorate",
        Family::default(),
    );
    let labels = BuildLabels {
        version: env!("CARGO_PKG_VERSION"),
    };
    build.get_or_create(&labels).set(1);
}

impl MemberGauges {
    fn new(r: &mut Registry) -> MemberGauges {
        MemberGauges {
            has_leader: gauge(r, "etcd_server_has_leader", "Whether a leader is known"),
            is_leader: gauge(r, "etcd_server_is_leader", "Whether this member leads"),
            is_learner: gauge(r, "etcd_server_is_learner", "Whether this member has no vote"),
            proposals_committed: gauge(r, "etcd_server_proposals_committed_total", "The commit index"),
            proposals_applied: gauge(r, "etcd_server_proposals_applied_total", "The applied index"),
            auth_revision: gauge(
                r,
                "etcd_debugging_auth_revision",
                "The revision of users and roles",
            ),
            id: add(r, "etcd_server_id", "The member's id", Family::default()),
            cluster_version: add(
                r,
                "etcd_cluster_version",
                "The version of the cluster, once there is a leader",
                Family::default(),
            ),
        }
    }

    fn set(&self, node: &Node) {
        let status = node.raft();
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.is_leader.set(i64::from(node.is_leader()));
        self.is_learner.set(i64::from(node.is_learner()));
        self.proposals_committed.set(signed(status.commit_index.0));
        self.proposals_applied.set(signed(status.applied_index.0));
        self.auth_revision
            .set(signed(node.shared().auth_status().revision.0));
        let server_id = Hex(node.identity().member_id);
        self.id.get_or_create(&IdLabels { server_id }).set(1);
        if status.leader.is_some() {
            // etcd's label has neither a patch level nor a reason for that.
            let cluster_version = CLUSTER_VERSION.trim_end_matches(".0");
            let labels = ClusterVersionLabels { cluster_version };
            self.cluster_version.get_or_create(&labels).set(1);
        }
    }
}

impl StoreGauges {
    fn new(r: &mut Registry) -> StoreGauges {
        let total_size = Gauge::default();
        // Under the name of etcd 3.4 too, which older dashboards ask for.
        for name in [
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_debugging_mvcc_db_total_size_in_bytes",
        ] {
            add(
                r,
                name,
                "Bytes of the keyspace and its history",
                total_size.clone(),
            );
        }
        StoreGauges {
            total_size,
            in_use_size: gauge(
                r,
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of what no compaction can free",
            ),
            keys: gauge(r, "etcd_debugging_mvcc_keys_total", "Keys"),
            current_revision: gauge(r, "etcd_debugging_mvcc_current_revision", "The revision"),
            compact_revision: gauge(
                r,
                "etcd_debugging_mvcc_compact_revision",
                "The last compacted revision",
            ),
            alarms: add(
                r,
                "etcd_debugging_server_alarms",
                "Alarms that are on",
                Family::default(),
            ),
        }
    }

    fn set(&self, figures: &Figures) {
        self.total_size.set(figures.total_bytes);
        self.in_use_size.set(figures.in_use_bytes);
        self.keys.set(figures.keys);
        self.current_revision.set(figures.revision.0);
        self.compact_revision.set(figures.compacted.0);
        self.alarms.clear();
        for alarm in &figures.alarms {
            let labels = AlarmLabels {
                server_id: Hex(alarm.member.0),
                alarm_type: alarm_name(alarm.kind),
            };
            self.alarms.get_or_create(&labels).set(1);
        }
    }
}

impl WatchGauges {
    fn new(r: &mut Registry) -> WatchGauges {
        WatchGauges {
            watchers: gauge(r, "etcd_debugging_mvcc_watcher_total", "Watchers"),
            streams: gauge(r, "etcd_debugging_mvcc_watch_stream_total", "Watch streams"),
            slow_watchers: gauge(
                r,
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that catch up",
            ),
            pending_bytes: gauge(
                r,
                "quorate_watch_pending_bytes",
                "Bytes of events that wait for watch streams",
            ),
        }
    }

    fn set(&self, node: &Node) {
        let stats = node.shared().watches.lock().stats();
        self.watchers.set(count(stats.watchers));
        self.streams.set(count(stats.streams));
        self.slow_watchers.set(count(stats.slow_watchers));
        self.pending_bytes.set(count(stats.pending_bytes));
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VersionLabels {
    server_version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClusterVersionLabels {
    cluster_version: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IdLabels {
    server_id: Hex,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AlarmLabels {
    server_id: Hex,
    alarm_type: &'static str,
}
