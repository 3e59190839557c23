//! Which path is which method.
//!
//! Paths follow from the names by a rule, in which a new method takes part: see [`derived`]. Where etcd has
//! given another path, or several, it is in [`NAMED`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use quorate_etcd_api::DESCRIPTOR_SET;

use super::json::Shape;

/// All methods of the gateway, by their paths after `/v3/`.
pub(super) struct Routes(HashMap<String, Arc<Route>>);

/// A method that the gateway calls.
pub(super) struct Route {
    /// Where it is on the surface, as in `/etcdserverpb.KV/Put`.
    pub(super) grpc_path: PathAndQuery,
    /// How its messages travel.
    pub(super) streams: Streams,
    /// What it is asked with.
    pub(super) request: Shape,
    /// What it answers with.
    pub(super) response: Shape,
}

/// Which messages of a method are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    /// One request, one response.
    Neither,
    /// One request, many responses.
    Responses,
    /// Many of both.
    Both,
}

impl Routes {
    /// The routes of the API.
    pub(super) fn new() -> Routes {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("the descriptor set is checked in");
        let mut routes = HashMap::new();
        for service in pool.services() {
            for method in service.methods() {
                let route = Arc::new(Route::new(&method));
                for path in paths(&service, &method) {
                    routes.insert(path, Arc::clone(&route));
                }
            }
        }
        Routes(routes)
    }

    /// The method at a path.
    pub(super) fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.0.get(&*relative(path)?)
    }
}

impl Route {
    fn new(method: &MethodDescriptor) -> Route {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        Route {
            grpc_path: path
                .parse()
                .expect("names of services and methods are fit for a path"),
            streams: match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => Streams::Neither,
                (false, true) => Streams::Responses,
                (true, _) => Streams::Both,
            },
            request: Shape::of(method.input()),
            response: Shape::of(method.output()),
        }
    }
}

/// What a path of the gateway says after its version. The API is the same under the name that it had before
/// it was stable. Letters may be escaped, as in `/v3/kv%2Frange`.
pub(super) fn relative(path: &str) -> Option<Cow<'_, str>> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let start = VERSIONS.iter().find(|version| path.starts_with(**version))?.len();
    Some(match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[start..]),
        Cow::Owned(path) => Cow::Owned(path[start..].to_owned()),
    })
}

const VERSIONS: [&str; 2] = ["/v3/", "/v3beta/"];

fn paths(service: &ServiceDescriptor, method: &MethodDescriptor) -> Vec<String> {
    let named = NAMED.iter().find(|(name, _)| *name == method.full_name());
    match named {
        Some((_, paths)) => paths.iter().map(|&path| path.to_owned()).collect(),
        None => vec![derived(service.name(), method.name())],
    }
}

/// The service, then the method, all in lower case: `maintenance/hashkv`. The service's name is not said
/// twice (`LeaseGrant` is `lease/grant`), and what the method is about stands alone (`MemberAdd` is
/// `cluster/member/add`).
fn derived(service: &str, method: &str) -> String {
    let (subject, verb) = match method.char_indices().skip(1).find(|(_, c)| c.is_uppercase()) {
        Some((at, _)) => method.split_at(at),
        None => ("", method),
    };
    let path = if subject == service {
        format!("{service}/{verb}")
    } else if SUBJECTS.contains(&subject) {
        format!("{service}/{subject}/{verb}")
    } else {
        format!("{service}/{subject}{verb}")
    };
    path.to_lowercase()
}

const SUBJECTS: [&str; 3] = ["Member", "User", "Role"];

/// Methods and the paths that etcd gave them against the rule. `RangeStream` has none there.
const NAMED: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV.Compact", &["kv/compaction"]),
    ("etcdserverpb.KV.RangeStream", &[]),
    ("etcdserverpb.Watch.Watch", &["watch"]),
    (
        "etcdserverpb.Lease.LeaseRevoke",
        &["lease/revoke", "kv/lease/revoke"],
    ),
    (
        "etcdserverpb.Lease.LeaseTimeToLive",
        &["lease/timetolive", "kv/lease/timetolive"],
    ),
    (
        "etcdserverpb.Lease.LeaseLeases",
        &["lease/leases", "kv/lease/leases"],
    ),
    (
        "etcdserverpb.Maintenance.MoveLeader",
        &["maintenance/transfer-leadership"],
    ),
    ("etcdserverpb.Auth.UserChangePassword", &["auth/user/changepw"]),
    ("etcdserverpb.Auth.UserGrantRole", &["auth/user/grant"]),
    ("etcdserverpb.Auth.UserRevokeRole", &["auth/user/revoke"]),
    ("etcdserverpb.Auth.RoleGrantPermission", &["auth/role/grant"]),
    ("etcdserverpb.Auth.RoleRevokePermission", &["auth/role/revoke"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of etcd's documentation, by service.
    const DOCUMENTED: &[(&str, &[&str])] = &[
        (
            "etcdserverpb.KV",
            &["kv/compaction", "kv/deleterange", "kv/put", "kv/range", "kv/txn"],
        ),
        ("etcdserverpb.Watch", &["watch"]),
        (
            "etcdserverpb.Lease",
            &[
                "kv/lease/leases",
                "kv/lease/revoke",
                "kv/lease/timetolive",
                "lease/grant",
                "lease/keepalive",
                "lease/leases",
                "lease/revoke",
                "lease/timetolive",
            ],
        ),
        (
            "etcdserverpb.Cluster",
            &[
                "cluster/member/add",
                "cluster/member/list",
                "cluster/member/promote",
                "cluster/member/remove",
                "cluster/member/update",
            ],
        ),
        (
            "etcdserverpb.Maintenance",
            &[
                "maintenance/alarm",
                "maintenance/defragment",
                "maintenance/downgrade",
                "maintenance/hash",
                "maintenance/hashkv",
                "maintenance/snapshot",
                "maintenance/status",
                "maintenance/transfer-leadership",
            ],
        ),
        (
            "etcdserverpb.Auth",
            &[
                "auth/authenticate",
                "auth/disable",
                "auth/enable",
                "auth/role/add",
                "auth/role/delete",
                "auth/role/get",
                "auth/role/grant",
                "auth/role/list",
                "auth/role/revoke",
                "auth/status",
                "auth/user/add",
                "auth/user/changepw",
                "auth/user/delete",
                "auth/user/get",
                "auth/user/grant",
                "auth/user/list",
                "auth/user/revoke",
            ],
        ),
        ("v3lockpb.Lock", &["lock/lock", "lock/unlock"]),
        (
            "v3electionpb.Election",
            &[
                "election/campaign",
                "election/leader",
                "election/observe",
                "election/proclaim",
                "election/resign",
            ],
        ),
    ];

    #[test]
    fn each_service_has_the_paths_that_etcd_documents_and_no_others() {
        let Routes(routes) = Routes::new();
        let mut count = 0;
        for (service, documented) in DOCUMENTED {
            let prefix = format!("/{service}/");
            let of_service = routes
                .iter()
                .filter(|(_, route)| route.grpc_path.path().starts_with(&prefix));
            let mut found: Vec<&str> = of_service.map(|(path, _)| path.as_str()).collect();
            found.sort_unstable();
            assert_eq!(found, *documented, "{service}");
            count += found.len();
        }
        assert_eq!(count, routes.len());
    }

    #[test]
    fn a_path_leads_to_its_method() {
        let routes = Routes::new();
        let cases = [
            ("/v3/kv/range", "/etcdserverpb.KV/Range", Streams::Neither),
            ("/v3/kv/compaction", "/etcdserverpb.KV/Compact", Streams::Neither),
            ("/v3beta/kv/put", "/etcdserverpb.KV/Put", Streams::Neither),
            ("/v3/kv%2Frange", "/etcdserverpb.KV/Range", Streams::Neither),
            ("/%763/kv/r%61nge", "/etcdserverpb.KV/Range", Streams::Neither),
            ("/v3/watch", "/etcdserverpb.Watch/Watch", Streams::Both),
            (
                "/v3/lease/keepalive",
                "/etcdserverpb.Lease/LeaseKeepAlive",
                Streams::Both,
            ),
            (
                "/v3/kv/lease/leases",
                "/etcdserverpb.Lease/LeaseLeases",
                Streams::Neither,
            ),
            (
                "/v3/maintenance/snapshot",
                "/etcdserverpb.Maintenance/Snapshot",
                Streams::Responses,
            ),
            (
                "/v3/auth/user/grant",
                "/etcdserverpb.Auth/UserGrantRole",
                Streams::Neither,
            ),
            (
                "/v3/auth/role/grant",
                "/etcdserverpb.Auth/RoleGrantPermission",
                Streams::Neither,
            ),
            ("/v3/lock/lock", "/v3lockpb.Lock/Lock", Streams::Neither),
            (
                "/v3/election/observe",
                "/v3electionpb.Election/Observe",
                Streams::Responses,
            ),
        ];
        for (path, grpc_path, streams) in cases {
            let route = routes.find(path).unwrap_or_else(|| panic!("{path} is missing"));
            assert_eq!(
                (route.grpc_path.path(), route.streams),
                (grpc_path, streams),
                "{path}"
            );
        }
        for path in [
            "/v3",
            "/v3/",
            "/v3/kv",
            "/v3/kv/put/",
            "/v2/keys",
            "/v3/kv/rangestream",
            "kv/put",
            "/v3/kv%2Fput%",
            "/v3/kv%252Fput",
            "/v3/kv/put%ff",
        ] {
            assert!(routes.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_new_method_gets_a_path_by_itself() {
        assert_eq!(derived("KV", "IncrementBy"), "kv/incrementby");
        assert_eq!(derived("Lease", "LeaseSplit"), "lease/split");
        assert_eq!(derived("Auth", "RoleRename"), "auth/role/rename");
        assert_eq!(derived("Tracing", "Tracing"), "tracing/tracing");
    }
}
