//! What is counted of the methods, under the names of Go's gRPC library.

use std::fmt::Write;
use std::time::Duration;

use http::HeaderMap;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use crate::metrics::{add, counter};
use crate::seldom::Seldom;

/// What is counted of each method.
pub(super) struct Families {
    pub(super) started: Family<MethodLabels, Counter>,
    handled: Family<HandledLabels, Counter>,
    pub(super) duration: Family<MethodLabels, Histogram, fn() -> Histogram>,
    pub(super) messages_received: Family<MethodLabels, Counter>,
    pub(super) messages_sent: Family<MethodLabels, Counter>,
}

impl Families {
    pub(super) fn new(r: &mut Registry) -> Families {
        let handling = || Histogram::new(HANDLING_SECONDS);
        Families {
            started: add(r, "grpc_server_started", "Calls begun", Family::default()),
            handled: add(r, "grpc_server_handled", "Calls ended", Family::default()),
            duration: add(
                r,
                "grpc_server_handling_seconds",
                "How long calls took until they ended",
                Family::new_with_constructor(handling as fn() -> Histogram),
            ),
            messages_received: add(
                r,
                "grpc_server_msg_received",
                "Messages received",
                Family::default(),
            ),
            messages_sent: add(r, "grpc_server_msg_sent", "Messages sent", Family::default()),
        }
    }

    pub(super) fn handled(&self, labels: &MethodLabels, grpc_code: &'static str) -> Counter {
        self.handled.get_or_create_owned(&HandledLabels {
            grpc_type: labels.grpc_type,
            grpc_service: labels.grpc_service,
            grpc_method: labels.grpc_method,
            grpc_code,
        })
    }
}

impl Common {
    pub(super) fn new(r: &mut Registry, warn_after: Duration) -> Common {
        Common {
            received: counter(
                r,
                "etcd_network_client_grpc_received_bytes",
                "Bytes of messages received from clients",
            ),
            sent: counter(
                r,
                "etcd_network_client_grpc_sent_bytes",
                "Bytes of messages sent to clients",
            ),
            clients: add(
                r,
                "etcd_server_client_requests",
                "Calls by the version that their clients say they have",
                Family::default(),
            ),
            warn_after,
            warned: Seldom::new(),
        }
    }
}

/// What all methods share.
pub(super) struct Common {
    /// Bytes of messages received.
    pub(super) received: Counter,
    /// Bytes of messages sent.
    pub(super) sent: Counter,
    /// Calls by what their clients say of themselves.
    pub(super) clients: Family<ClientLabels, Counter>,
    /// What takes longer is told of.
    pub(super) warn_after: Duration,
    pub(super) warned: Seldom,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct MethodLabels {
    pub(super) grpc_type: &'static str,
    pub(super) grpc_service: &'static str,
    pub(super) grpc_method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandledLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ClientLabels {
    pub(super) r#type: &'static str,
    pub(super) client_api_version: ClientVersion,
}

/// The version that a client says it has. Whatever is none of etcd 3 counts as unknown, so that strangers cannot
/// fill the page with what they make up.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum ClientVersion {
    Unknown,
    Three { minor: u8 },
}

impl ClientVersion {
    pub(super) fn of(headers: &HeaderMap) -> ClientVersion {
        let version = headers.get("client-api-version");
        let minor = version.and_then(|version| version.to_str().ok()?.strip_prefix("3.")?.parse().ok());
        match minor {
            Some(minor @ 0..100) => ClientVersion::Three { minor },
            _ => ClientVersion::Unknown,
        }
    }
}

impl EncodeLabelValue for ClientVersion {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> std::fmt::Result {
        match self {
            ClientVersion::Unknown => encoder.write_str("unknown"),
            ClientVersion::Three { minor } => write!(encoder, "3.{minor}"),
        }
    }
}

/// The code's name as Go prints it, which is what dashboards filter by.
pub(crate) fn code_label(code: Code) -> &'static str {
    CODE_LABELS[code as usize]
}

/// The codes of gRPC by number, OK among them.
pub(super) const CODES: usize = 17;
pub(super) const CODE_LABELS: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The bounds of buckets that Prometheus's clients have unless told otherwise, as etcd's has.
const HANDLING_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_called_as_go_calls_them() {
        for (code, label) in [
            (Code::Ok, "OK"),
            (Code::Cancelled, "Canceled"),
            (Code::NotFound, "NotFound"),
            (Code::Unavailable, "Unavailable"),
            (Code::Unauthenticated, "Unauthenticated"),
        ] {
            assert_eq!(code_label(code), label);
        }
    }

    #[test]
    fn clients_cannot_make_up_versions() {
        let of = |version: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("client-api-version", version.parse().unwrap());
            ClientVersion::of(&headers)
        };
        assert_eq!(of("3.5"), ClientVersion::Three { minor: 5 });
        for stranger in ["", "3", "3.", "3.100", "3.5.1", "4.0", "3.-1", "x\"y"] {
            assert_eq!(of(stranger), ClientVersion::Unknown, "{stranger}");
        }
        assert_eq!(ClientVersion::of(&HeaderMap::new()), ClientVersion::Unknown);
    }
}
