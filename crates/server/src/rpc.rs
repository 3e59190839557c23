//! Every method of the client port, with the counters that etcd keeps for each.
//!
//! - [`METHODS`] is the one list of what is served: a path that is not in it is no method.
//! - Each declares what it demands of its caller: there is no method without (CVE-2026-33413).
//! - Counters are made once, at start, so that counting a call is two atomic additions.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tonic::Code;

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
    labels: MethodLabels,
    started: Counter,
    handled: [OnceLock<Counter>; CODES],
    handled_family: Family<HandledLabels, Counter>,
}

impl Method {
    /// Counts a call that begins.
    pub(crate) fn count_started(&self) {
        self.started.inc();
    }

    /// Counts a call that ended with `code`.
    pub(crate) fn count_handled(&self, code: Code) {
        let slot = &self.handled[code as usize];
        slot.get_or_init(|| self.handled_counter(code)).inc();
    }

    fn handled_counter(&self, code: Code) -> Counter {
        let MethodLabels {
            grpc_type,
            grpc_service,
            grpc_method,
        } = self.labels;
        self.handled_family.get_or_create_owned(&HandledLabels {
            grpc_type,
            grpc_service,
            grpc_method,
            grpc_code: code_label(code),
        })
    }
}

/// All methods by path, as in `/etcdserverpb.KV/Put`.
pub(crate) struct Methods {
    by_path: HashMap<String, Arc<Method>>,
}

impl Methods {
    /// The methods, their counters registered.
    pub(crate) fn new(registry: &mut Registry) -> Methods {
        let started = Family::<MethodLabels, Counter>::default();
        let handled = Family::<HandledLabels, Counter>::default();
        registry.register("grpc_server_started", "RPCs begun", started.clone());
        registry.register("grpc_server_handled", "RPCs ended", handled.clone());
        let mut by_path = HashMap::new();
        for &(service, grpc_service, methods) in METHODS {
            for &(grpc_method, kind, demand) in methods {
                let labels = MethodLabels {
                    grpc_type: kind.label(),
                    grpc_service,
                    grpc_method,
                };
                let method = Method {
                    service,
                    kind,
                    demand,
                    started: started.get_or_create_owned(&labels),
                    labels,
                    handled: Default::default(),
                    handled_family: handled.clone(),
                };
                by_path.insert(format!("/{grpc_service}/{grpc_method}"), Arc::new(method));
            }
        }
        Methods { by_path }
    }

    /// The method at `path`.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Method>> {
        self.by_path.get(path)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandledLabels {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

/// The code's name as Go prints it, which is what dashboards filter by.
pub(crate) fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// The codes of gRPC, OK among them.
const CODES: usize = 17;

/// A service, its name on the wire and its methods.
type ServiceEntry = (ServiceName, &'static str, &'static [(&'static str, Kind, Demand)]);

const METHODS: &[ServiceEntry] = &[
    (
        ServiceName::Kv,
        "etcdserverpb.KV",
        &[
            ("Range", Kind::Unary, Demand::Decided),
            ("RangeStream", Kind::ServerStream, Demand::Decided),
            ("Put", Kind::Unary, Demand::Decided),
            ("DeleteRange", Kind::Unary, Demand::Decided),
            ("Txn", Kind::Unary, Demand::Decided),
            ("Compact", Kind::Unary, Demand::Root),
        ],
    ),
    (
        ServiceName::Watch,
        "etcdserverpb.Watch",
        &[("Watch", Kind::BidiStream, Demand::Decided)],
    ),
    (
        ServiceName::Lease,
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", Kind::Unary, Demand::Decided),
            ("LeaseRevoke", Kind::Unary, Demand::Decided),
            ("LeaseKeepAlive", Kind::BidiStream, Demand::Decided),
            ("LeaseTimeToLive", Kind::Unary, Demand::Login),
            ("LeaseLeases", Kind::Unary, Demand::Login),
        ],
    ),
    (
        ServiceName::Cluster,
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", Kind::Unary, Demand::Root),
            ("MemberRemove", Kind::Unary, Demand::Root),
            ("MemberUpdate", Kind::Unary, Demand::Root),
            ("MemberList", Kind::Unary, Demand::Login),
            ("MemberPromote", Kind::Unary, Demand::Root),
        ],
    ),
    (
        ServiceName::Maintenance,
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", Kind::Unary, Demand::Login),
            ("Status", Kind::Unary, Demand::Login),
            ("Defragment", Kind::Unary, Demand::Root),
            ("Hash", Kind::Unary, Demand::Root),
            ("HashKV", Kind::Unary, Demand::Root),
            ("Snapshot", Kind::ServerStream, Demand::Root),
            ("MoveLeader", Kind::Unary, Demand::Root),
            ("Downgrade", Kind::Unary, Demand::Root),
        ],
    ),
    (
        ServiceName::Auth,
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", Kind::Unary, Demand::Root),
            ("AuthDisable", Kind::Unary, Demand::Root),
            ("AuthStatus", Kind::Unary, Demand::Nothing),
            ("Authenticate", Kind::Unary, Demand::Nothing),
            ("UserAdd", Kind::Unary, Demand::Root),
            ("UserGet", Kind::Unary, Demand::Decided),
            ("UserList", Kind::Unary, Demand::Root),
            ("UserDelete", Kind::Unary, Demand::Root),
            ("UserChangePassword", Kind::Unary, Demand::Root),
            ("UserGrantRole", Kind::Unary, Demand::Root),
            ("UserRevokeRole", Kind::Unary, Demand::Root),
            ("RoleAdd", Kind::Unary, Demand::Root),
            ("RoleGet", Kind::Unary, Demand::Decided),
            ("RoleList", Kind::Unary, Demand::Root),
            ("RoleDelete", Kind::Unary, Demand::Root),
            ("RoleGrantPermission", Kind::Unary, Demand::Root),
            ("RoleRevokePermission", Kind::Unary, Demand::Root),
        ],
    ),
    (
        ServiceName::Lock,
        "v3lockpb.Lock",
        &[
            ("Lock", Kind::Unary, Demand::Decided),
            ("Unlock", Kind::Unary, Demand::Decided),
        ],
    ),
    (
        ServiceName::Election,
        "v3electionpb.Election",
        &[
            ("Campaign", Kind::Unary, Demand::Decided),
            ("Proclaim", Kind::Unary, Demand::Decided),
            ("Leader", Kind::Unary, Demand::Decided),
            ("Observe", Kind::ServerStream, Demand::Decided),
            ("Resign", Kind::Unary, Demand::Decided),
        ],
    ),
    (
        ServiceName::Health,
        "grpc.health.v1.Health",
        &[
            ("Check", Kind::Unary, Demand::Nothing),
            ("Watch", Kind::ServerStream, Demand::Nothing),
        ],
    ),
    (
        ServiceName::Reflection,
        "grpc.reflection.v1.ServerReflection",
        &[("ServerReflectionInfo", Kind::BidiStream, Demand::Nothing)],
    ),
    (
        ServiceName::ReflectionAlpha,
        "grpc.reflection.v1alpha.ServerReflection",
        &[("ServerReflectionInfo", Kind::BidiStream, Demand::Nothing)],
    ),
];

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
        let methods = Methods::new(&mut Registry::default());
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
        let methods = Methods::new(&mut registry);
        let put = methods.find("/etcdserverpb.KV/Put").unwrap();
        put.count_started();
        put.count_handled(Code::NotFound);
        put.count_handled(Code::NotFound);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        let labels = r#"grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put""#;
        assert!(
            page.contains(&format!("grpc_server_started_total{{{labels}}} 1")),
            "{page}"
        );
        let line = format!(r#"grpc_server_handled_total{{{labels},grpc_code="NotFound"}} 2"#);
        assert!(page.contains(&line), "{page}");
    }
}
