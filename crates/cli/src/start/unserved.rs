//! etcd's flags that are not served, by what is said of them.
//!
//! They are those of etcd 3.4.0 to 3.6, deprecated and hidden ones among them. A flag is refused only if a node that
//! starts without what it asks for would do harm: be a cluster of its own, or one of another make than was meant.

use super::etcd_flags::Verdict::{self, Noted, Refused};

/// Flags of which the same is said.
pub(super) struct Group {
    pub(super) verdict: Verdict,
    /// Why, as the rest of a sentence.
    pub(super) why: &'static str,
    /// Those that can stand without a value.
    pub(super) switches: &'static [&'static str],
    /// Those that take a value.
    pub(super) values: &'static [&'static str],
}

const fn noted(
    why: &'static str,
    switches: &'static [&'static str],
    values: &'static [&'static str],
) -> Group {
    Group {
        verdict: Noted,
        why,
        switches,
        values,
    }
}

const fn refused(
    why: &'static str,
    switches: &'static [&'static str],
    values: &'static [&'static str],
) -> Group {
    Group {
        verdict: Refused,
        why,
        switches,
        values,
    }
}

pub(super) const GROUPS: &[Group] = &[
    noted(
        "there is no database whose writes would be batched",
        &[],
        &[
            "backend-batch-interval",
            "backend-batch-limit",
            "backend-bbolt-freelist-type",
            "experimental-backend-bbolt-freelist-type",
        ],
    ),
    noted(
        "nothing is ever defragmented",
        &["experimental-stop-grpc-service-on-defrag"],
        &[
            "bootstrap-defrag-threshold-megabytes",
            "experimental-bootstrap-defrag-threshold-megabytes",
        ],
    ),
    noted(
        "etcd's gateway uses it to reach etcd, ours is within the process",
        &[],
        &["client-cert-file", "client-key-file"],
    ),
    noted(
        "etcd ignores it too",
        &[
            "cluster-active-size",
            "cluster-remove-delay",
            "cluster-sync-interval",
            "config",
            "force",
            "max-result-buffer",
            "max-retry-attempts",
            "peer-election-timeout",
            "peer-heartbeat-interval",
            "retry-interval",
            "snapshot",
            "v",
            "vv",
        ],
        &[],
    ),
    noted(
        "corruption is looked for where data is read: everything is checksummed",
        &[
            "compact-hash-check-enabled",
            "experimental-compact-hash-check-enabled",
            "experimental-initial-corrupt-check",
        ],
        &[
            "compact-hash-check-time",
            "corrupt-check-time",
            "experimental-compact-hash-check-time",
            "experimental-corrupt-check-time",
        ],
    ),
    noted(
        "compaction goes in small steps of its own",
        &[],
        &[
            "compaction-batch-limit",
            "compaction-sleep-interval",
            "experimental-compaction-batch-limit",
            "experimental-compaction-sleep-interval",
        ],
    ),
    noted("give --log-level debug", &["debug"], &[]),
    refused(
        "members are named by --initial-cluster",
        &[],
        &[
            "discovery",
            "discovery-endpoints",
            "discovery-srv",
            "discovery-token",
        ],
    ),
    noted(
        "there is no discovery",
        &[
            "discovery-insecure-skip-tls-verify",
            "discovery-insecure-transport",
            "enable-v2-discovery",
        ],
        &[
            "discovery-cacert",
            "discovery-cert",
            "discovery-dial-timeout",
            "discovery-fallback",
            "discovery-keepalive-time",
            "discovery-keepalive-timeout",
            "discovery-key",
            "discovery-password",
            "discovery-proxy",
            "discovery-request-timeout",
            "discovery-srv-name",
            "discovery-user",
        ],
    ),
    noted(
        "there is no tracing",
        &[
            "enable-distributed-tracing",
            "experimental-enable-distributed-tracing",
        ],
        &[
            "distributed-tracing-address",
            "distributed-tracing-instance-id",
            "distributed-tracing-sampling-rate",
            "distributed-tracing-service-name",
            "experimental-distributed-tracing-address",
            "experimental-distributed-tracing-instance-id",
            "experimental-distributed-tracing-sampling-rate",
            "experimental-distributed-tracing-service-name",
        ],
    ),
    noted(
        "versions are not lowered",
        &[],
        &["downgrade-check-time", "experimental-downgrade-check-time"],
    ),
    noted("there are no profiles to serve", &["enable-pprof"], &[]),
    noted(
        "there is no v2 API",
        &["enable-v2"],
        &["experimental-enable-v2v3", "v2-deprecation"],
    ),
    noted(
        "leases are kept through the log, and their time does not begin anew with a leader",
        &[
            "experimental-enable-lease-checkpoint",
            "experimental-enable-lease-checkpoint-persist",
        ],
        &[],
    ),
    noted(
        "what etcd tries out in its own insides is not here",
        &[
            "experimental-memory-mlock",
            "experimental-set-member-localaddr",
            "experimental-txn-mode-write-with-shared-buffer",
            "memory-mlock",
        ],
        &["feature-gates"],
    ),
    noted(
        "who dials is always checked against the member that it speaks for",
        &[
            "experimental-peer-skip-client-san-verification",
            "peer-skip-client-san-verification",
        ],
        &[],
    ),
    noted(
        "a node is ready when it serves",
        &[],
        &["experimental-wait-cluster-ready-timeout"],
    ),
    refused(
        "after the loss of a majority, save a backup at a member that is left, and restore it: see quorate snapshot",
        &["force-new-cluster"],
        &[],
    ),
    noted(
        "pings are cheap here, and nobody is cut off for them",
        &[],
        &["grpc-keepalive-min-time"],
    ),
    noted(
        "elections are as fast as is safe at the first start already",
        &["initial-election-tick-advance"],
        &[],
    ),
    noted(
        "give the environment variable RUST_LOG",
        &[],
        &["log-package-levels"],
    ),
    noted("lines are in the form of --log-format", &[], &["logger"]),
    noted("two snapshots are kept", &[], &["max-snapshots"]),
    noted(
        "the log goes as far back as the older snapshot",
        &[],
        &["max-wals"],
    ),
    noted(
        "all metrics are there, those of etcd's extensive too",
        &[],
        &["metrics"],
    ),
    noted(
        "one certificate serves both ends of a connection between members",
        &[],
        &["peer-client-cert-file", "peer-client-key-file"],
    ),
    noted("elections always begin with a pre-vote", &["pre-vote"], &[]),
    refused("there is no proxy", &[], &["proxy"]),
    noted(
        "there is no proxy",
        &[],
        &[
            "proxy-dial-timeout",
            "proxy-failure-wait",
            "proxy-read-timeout",
            "proxy-refresh-interval",
            "proxy-write-timeout",
        ],
    ),
    noted(
        "there is no quota: bound the history with --auto-compaction-retention, and memory from outside",
        &[],
        &["quota-backend-bytes"],
    ),
    noted(
        "connections between members have limits of their own",
        &[],
        &["raft-read-timeout", "raft-write-timeout"],
    ),
    noted(
        "self-signed certificates are valid for ten years",
        &[],
        &["self-signed-cert-validity"],
    ),
    noted(
        "ports are always taken over from connections that are closing",
        &["socket-reuse-address"],
        &[],
    ),
    noted(
        "what is acknowledged is on the disk, always",
        &["unsafe-no-fsync"],
        &[],
    ),
    noted(
        "the log is in the data directory: put that on the faster disk",
        &[],
        &["wal-dir"],
    ),
];
