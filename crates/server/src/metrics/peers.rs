//! What goes between this member and its peers.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quorate::{NodeId, Status};

use super::register::add;

/// What goes between this member and its peers.
pub(crate) struct PeerCounts {
    sent: Family<To, Counter>,
    received: Family<From, Counter>,
    known: Family<Pair, Gauge>,
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
            known: add(
                r,
                "etcd_network_known_peers",
                "The other members",
                Family::default(),
            ),
        }
    }

    /// Counts bytes that were sent to a peer.
    pub(crate) fn count_sent(&self, to: NodeId, bytes: usize) {
        self.sent
            .get_or_create(&To { To: Hex(to.0) })
            .inc_by(bytes as u64);
    }

    /// Counts bytes that were received from a peer.
    pub(crate) fn count_received(&self, from: NodeId, bytes: usize) {
        let labels = From { From: Hex(from.0) };
        self.received.get_or_create(&labels).inc_by(bytes as u64);
    }

    /// Who the peers are.
    pub(super) fn set_known(&self, status: &Status) {
        self.known.clear();
        let members = status.configuration.members();
        for peer in members.into_iter().filter(|peer| *peer != status.id) {
            let labels = Pair {
                Local: Hex(status.id.0),
                Remote: Hex(peer.0),
            };
            self.known.get_or_create(&labels).set(1);
        }
    }
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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the label is etcd's")]
struct From {
    From: Hex,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(non_snake_case, reason = "the labels are etcd's")]
struct Pair {
    Local: Hex,
    Remote: Hex,
}
