//! The one list of what is served.

use super::{Demand, Kind, ServiceName};

/// A service, its name on the wire and its methods.
type ServiceEntry = (ServiceName, &'static str, &'static [(&'static str, Kind, Demand)]);

pub(super) const METHODS: &[ServiceEntry] = &[
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
