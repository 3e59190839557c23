//! What goes between this member and its peers.
//!
//! - What is counted of a peer is there from the first page on, at zero: a rate needs a beginning.
//! - Who is a member, and connected, is told as of the page. What has been counted of a member stays when it has left.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use quorate::{Delivery, NodeId, SnapshotWay, Status};

use super::register::{BareCounter, add, counter, round_trip_histogram, transfer_histogram};

/// What goes between this member and its peers.
pub(crate) struct PeerCounts {
    sent: Family<To, Counter>,
    received: Family<From, Counter>,
    not_sent: Family<To, Counter>,
    not_received: Family<From, Counter>,
    round_trip: Family<To, Histogram, fn() -> Histogram>,
    snapshots_sent: Transfers<To>,
    snapshots_received: Transfers<From>,
    connected: Mutex<BTreeSet<NodeId>>,
    known: Family<Pair, Gauge>,
    active: Family<Pair, Gauge>,
    disconnected: Family<Pair, Counter>,
    turned_away: Counter,
}

impl PeerCounts {
    pub(super) fn new(r: &mut Registry) -> PeerCounts {
        PeerCounts {
            sent: add(
                r,
                "etcd_network_peer_sent_bytes",
                "Bytes of messages sent to a peer",
                Family::default(),
            ),
            received: add(
                r,
                "etcd_network_peer_received_bytes",
                "Bytes of messages received from a peer",
                Family::default(),
            ),
            not_sent: add(
                r,
                "etcd_network_peer_sent_failures",
                "Messages and snapshots that could not be sent to a peer",
                Family::default(),
            ),
            not_received: add(
                r,
                "etcd_network_peer_received_failures",
                "Messages and snapshots of a peer that could not be taken",
                Family::default(),
            ),
            round_trip: add(
                r,
                "etcd_network_peer_round_trip_time_seconds",
                "How long the way to a peer and back takes",
                Family::new_with_constructor(round_trip_histogram),
            ),
            snapshots_sent: Transfers::new(r, "send", "sent to a peer"),
            snapshots_received: Transfers::new(r, "receive", "received from a peer"),
            connected: Mutex::default(),
            known: add(
                r,
                "etcd_network_known_peers",
                "The other members",
                Family::default(),
            ),
            active: add(
                r,
                "etcd_network_active_peers",
                "Whether this member is connected to another",
                Family::default(),
            ),
            disconnected: add(
                r,
                "etcd_network_disconnected_peers",
                "Connections to a peer that have ended",
                Family::default(),
            ),
            turned_away: counter(
                r,
                "quorate_peer_connections_refused",
                "Connections to the peer port that were closed because there were too many",
            ),
        }
    }

    /// Counts bytes that were sent to a peer.
    pub(crate) fn count_sent(&self, to: NodeId, bytes: usize) {
        self.sent.get_or_create(&To::node(to)).inc_by(bytes as u64);
    }

    /// Counts bytes that were received from a peer.
    pub(crate) fn count_received(&self, from: NodeId, bytes: usize) {
        self.received
            .get_or_create(&From::node(from))
            .inc_by(bytes as u64);
    }

    /// Counts messages that were not sent to a peer.
    pub(crate) fn count_not_sent(&self, to: NodeId, messages: usize) {
        self.not_sent.get_or_create(&To::node(to)).inc_by(messages as u64);
    }

    /// Counts messages of a peer that were not taken.
    pub(crate) fn count_not_received(&self, from: NodeId, messages: usize) {
        self.not_received
            .get_or_create(&From::node(from))
            .inc_by(messages as u64);
    }

    /// Measures the way to a peer and back.
    pub(crate) fn observe_round_trip(&self, to: NodeId, duration: Duration) {
        self.round_trip
            .get_or_create(&To::node(to))
            .observe(duration.as_secs_f64());
    }

    /// The connection to a peer stands.
    pub(crate) fn connect(&self, to: NodeId) {
        self.connected.lock().insert(to);
    }

    /// The connection of `own` to a peer has ended.
    pub(crate) fn disconnect(&self, own: NodeId, to: NodeId) {
        self.connected.lock().remove(&to);
        self.disconnected.get_or_create(&Pair::of(own, to)).inc();
    }

    /// Counts a connection that was closed because there were too many.
    pub(crate) fn count_turned_away(&self) {
        self.turned_away.inc();
    }

    /// Counts a snapshot on its way.
    pub(crate) fn begin_snapshot(&self, way: SnapshotWay) {
        match way {
            SnapshotWay::To(peer) => self.snapshots_sent.begin(&To::node(peer)),
            SnapshotWay::From(peer) => self.snapshots_received.begin(&From::node(peer)),
        }
    }

    /// Counts a snapshot that is on its way no more. One that failed is a failure of the peer's, too, as in etcd.
    pub(crate) fn end_snapshot(&self, way: SnapshotWay, outcome: Delivery, duration: Duration) {
        match way {
            SnapshotWay::To(peer) => self.snapshots_sent.end(&To::node(peer), outcome, duration),
            SnapshotWay::From(peer) => self.snapshots_received.end(&From::node(peer), outcome, duration),
        }
        match (way, outcome) {
            (_, Delivery::Delivered) => {}
            (SnapshotWay::To(peer), Delivery::Failed) => self.count_not_sent(peer, 1),
            (SnapshotWay::From(peer), Delivery::Failed) => self.count_not_received(peer, 1),
        }
    }

    /// Who the peers are, and which of them are connected.
    pub(super) fn set_known(&self, status: &Status) {
        let connected = self.connected.lock().clone();
        self.known.clear();
        self.active.clear();
        let members = status.configuration.members();
        for peer in members.into_iter().filter(|peer| *peer != status.id) {
            let pair = Pair::of(status.id, peer);
            self.known.get_or_create(&pair).set(1);
            let is_active = connected.contains(&peer);
            self.active.get_or_create(&pair).set(is_active.into());
            from_zero(&self.disconnected, &pair);
            self.begin_at_zero(peer);
        }
    }

    fn begin_at_zero(&self, peer: NodeId) {
        let (to, from) = (To::node(peer), From::node(peer));
        from_zero(&self.sent, &to);
        from_zero(&self.received, &from);
        from_zero(&self.not_sent, &to);
        from_zero(&self.not_received, &from);
        from_zero(&self.round_trip, &to);
        self.snapshots_sent.begin_at_zero(&to);
        self.snapshots_received.begin_at_zero(&from);
    }
}

/// The snapshots that travel one way, by the peer at its end.
struct Transfers<L> {
    inflight: Family<L, Gauge>,
    success: Family<L, BareCounter>,
    failures: Family<L, BareCounter>,
    duration: Family<L, Histogram, fn() -> Histogram>,
}

impl<L: EncodeLabelSet + Debug + Clone + Eq + Hash + Send + Sync + 'static> Transfers<L> {
    fn new(r: &mut Registry, way: &str, what: &str) -> Transfers<L> {
        let name = |what| format!("etcd_network_snapshot_{way}_{what}");
        Transfers {
            inflight: add(
                r,
                &name("inflights_total"),
                &format!("Snapshots that are being {what}"),
                Family::default(),
            ),
            success: add(
                r,
                &name("success"),
                &format!("Snapshots {what}"),
                Family::default(),
            ),
            failures: add(
                r,
                &name("failures"),
                &format!("Snapshots that could not be {what}"),
                Family::default(),
            ),
            duration: add(
                r,
                &name("total_duration_seconds"),
                &format!("How long snapshots took that were {what}"),
                Family::new_with_constructor(transfer_histogram),
            ),
        }
    }

    fn begin(&self, peer: &L) {
        self.inflight.get_or_create(peer).inc();
    }

    fn end(&self, peer: &L, outcome: Delivery, duration: Duration) {
        self.inflight.get_or_create(peer).dec();
        match outcome {
            Delivery::Delivered => {
                self.success.get_or_create(peer).inc();
                self.duration.get_or_create(peer).observe(duration.as_secs_f64());
            }
            Delivery::Failed => self.failures.get_or_create(peer).inc(),
        }
    }

    fn begin_at_zero(&self, peer: &L) {
        from_zero(&self.inflight, peer);
        from_zero(&self.success, peer);
        from_zero(&self.failures, peer);
        from_zero(&self.duration, peer);
    }
}

/// Has `family` show these labels, if it does not yet.
fn from_zero<L: Clone + Eq + Hash, M, C: MetricConstructor<M>>(family: &Family<L, M, C>, labels: &L) {
    drop(family.get_or_create(labels));
}

/// A member's id as etcd writes it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Hex(pub(super) u64);

impl EncodeLabelValue for Hex {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        use std::fmt::Write;
        write!(encoder, "{:x}", self.0)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the label is etcd's")]
struct To {
    To: Hex,
}

impl To {
    fn node(node: NodeId) -> To {
        To { To: Hex(node.0) }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the label is etcd's")]
struct From {
    From: Hex,
}

impl From {
    fn node(node: NodeId) -> From {
        From { From: Hex(node.0) }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the labels are etcd's")]
struct Pair {
    Local: Hex,
    Remote: Hex,
}

impl Pair {
    fn of(local: NodeId, remote: NodeId) -> Pair {
        Pair {
            Local: Hex(local.0),
            Remote: Hex(remote.0),
        }
    }
}
