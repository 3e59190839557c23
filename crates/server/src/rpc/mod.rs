//! Every method of the client port, with the counters that etcd keeps for each.
//!
//! - `METHODS` is the one list of what is served: a path that is not in it is no method.
//! - Each declares what it demands of its caller: there is no method without (CVE-2026-33413).
//! - Counters are made once, at start, so that counting a call looks up nothing but what its client says it is.

mod counts;
mod table;

pub(crate) use counts::code_label;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use self::counts::{CODE_LABELS, CODES, ClientLabels, ClientVersion, Common, Families, MethodLabels};
use self::table::METHODS;
use crate::call::Passed;

/// The services of the client port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceName {
    Kv,
    Watch,
    Lease,
    Cluster,
    Maintenance,
    Auth,
    Lock,
    Election,
    Health,
    Reflection,
    ReflectionAlpha,
}

/// Whether a method's messages stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// What is demanded of who calls a method while authentication is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing.
    Nothing,
    /// To have logged in.
    Login,
    /// To have logged in; what else, the keyspace decides by what the request is about.
    Decided,
    /// To be root.
    Root,
}

/// A method as it is served.
pub(crate) struct Method {
    pub(crate) service: ServiceName,
    pub(crate) kind: Kind,
    pub(crate) demand: Demand,
    path: String,
    started: Counter,
    handled: [Counter; CODES],
    duration: Histogram,
    messages_received: Counter,
    messages_sent: Counter,
    common: Arc<Common>,
}

impl Method {
    /// Counts a call that begins, of a request with these headers.
    pub(crate) fn count_started(&self, headers: &HeaderMap) {
        self.started.inc();
        let labels = ClientLabels {
            r#type: match self.kind {
                Kind::Unary => "unary",
                Kind::ServerStream | Kind::BidiStream => "stream",
            },
            client_api_version: ClientVersion::of(headers),
        };
        self.common.clients.get_or_create(&labels).inc();
    }

    /// Counts a call that ended with `code` after so long.
    pub(crate) fn count_handled(&self, code: Code, took: Duration) {
        self.handled[code as usize].inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts what was read of a request.
    pub(crate) fn count_received(&self, passed: Passed) {
        self.messages_received.inc_by(passed.messages);
        self.common.received.inc_by(passed.bytes);
    }

    /// Counts what was written of a response.
    pub(crate) fn count_sent(&self, passed: Passed) {
        self.messages_sent.inc_by(passed.messages);
        self.common.sent.inc_by(passed.bytes);
    }

    /// Whether so long is longer than a call should take. To wait is what calls for locks and elections are for.
    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        let waits = matches!(self.service, ServiceName::Lock | ServiceName::Election);
        !waits && took > self.common.warn_after
    }

    /// Whether the log may be told of a slow call at this time.
    pub(crate) fn may_warn(&self, now: Instant) -> bool {
        self.common.warned.is_due(now)
    }

    /// How long a call may take.
    pub(crate) fn warn_after(&self) -> Duration {
        self.common.warn_after
    }

    /// As in `/etcdserverpb.KV/Put`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// All methods by path, as in `/etcdserverpb.KV/Put`.
pub(crate) struct Methods {
    by_path: HashMap<String, Arc<Method>>,
}

impl Methods {
    /// The methods, their counters registered, which tell of calls that take longer than `warn_after`.
    pub(crate) fn new(registry: &mut Registry, warn_after: Duration) -> Methods {
        let families = Families::new(registry);
        let common = Arc::new(Common::new(registry, warn_after));
        let mut by_path = HashMap::new();
        for &(service, grpc_service, methods) in METHODS {
            for &(grpc_method, kind, demand) in methods {
                let labels = MethodLabels {
                    grpc_type: kind.label(),
                    grpc_service,
                    grpc_method,
                };
                let path = format!("/{grpc_service}/{grpc_method}");
                let method = Method {
                    service,
                    kind,
                    demand,
                    path: path.clone(),
                    started: families.started.get_or_create_owned(&labels),
                    handled: CODE_LABELS.map(|code| families.handled(&labels, code)),
                    duration: families.duration.get_or_create_owned(&labels),
                    messages_received: families.messages_received.get_or_create_owned(&labels),
                    messages_sent: families.messages_sent.get_or_create_owned(&labels),
                    common: Arc::clone(&common),
                };
                by_path.insert(path, Arc::new(method));
            }
        }
        Methods { by_path }
    }

    /// The method at `path`.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Method>> {
        self.by_path.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn kind(method: &prost_types::MethodDescriptorProto) -> Kind {
        match (method.client_streaming(), method.server_streaming()) {
            (false, false) => Kind::Unary,
            (false, true) => Kind::ServerStream,
            (true, _) => Kind::BidiStream,
        }
    }

    #[test]
    fn every_method_of_the_api_is_listed_with_its_kind() {
        let methods = Methods::new(&mut Registry::default(), Duration::MAX);
        let set = prost_types::FileDescriptorSet::decode(quorate_etcd_api::DESCRIPTOR_SET).unwrap();
        let mut count = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let found = methods.find(&path).unwrap_or_else(|| panic!("{path} is missing"));
                    assert_eq!(found.kind, kind(method), "{path}");
                    count += 1;
                }
            }
        }
        assert_eq!(
            methods.by_path.len(),
            count + 4,
            "two of the health service and one of each version of reflection are added"
        );
    }

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let mut registry = Registry::default();
        let methods = Methods::new(&mut registry, Duration::MAX);
        let put = methods.find("/etcdserverpb.KV/Put").unwrap();
        put.count_started(&HeaderMap::new());
        put.count_handled(Code::NotFound, Duration::from_millis(20));
        put.count_handled(Code::NotFound, Duration::from_secs(3));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        let labels = r#"grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put""#;
        assert!(
            page.contains(&format!("grpc_server_started_total{{{labels}}} 1")),
            "{page}"
        );
        let line = format!(r#"grpc_server_handled_total{{{labels},grpc_code="NotFound"}} 2"#);
        assert!(page.contains(&line), "{page}");
        let line = format!(r#"grpc_server_handling_seconds_bucket{{le="0.025",{labels}}} 1"#);
        assert!(page.contains(&line), "{page}");
    }
}
