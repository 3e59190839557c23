//! What etcd's users bring along that `quorate start` does not have: flags and variables.
//!
//! - A flag of etcd's that is not served is told from a typing error, and refused.
//! - A variable that nobody reads is only warned of: Kubernetes, for one, gives a process variables
//!   that begin like etcd's for a service of that name.

/// Whether etcd has this long flag and we do not. `flag` is as typed: `--quota-backend-bytes`.
pub(crate) fn is_unserved(flag: &str) -> bool {
    let name = flag.trim_start_matches('-');
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    FLAGS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The variables among `set` that look like settings of a node but belong to none of its `flags`,
/// sorted. An empty variable counts as unset.
pub(crate) fn unread_variables<'a>(
    set: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let read: Vec<String> = flags.into_iter().map(suffix).collect();
    let is_unread = |name: &str| {
        let rest = VARIABLES
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix('_'));
        rest.is_some_and(|rest| !read.iter().any(|suffix| suffix == rest))
    };
    let mut unread: Vec<String> = set
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && is_unread(name))
        .map(|(name, _)| name)
        .collect();
    unread.sort();
    unread
}

/// How the variable of a long flag ends: `DATA_DIR` for `data-dir`.
pub(crate) fn suffix(flag: &str) -> String {
    flag.to_uppercase().replace('-', "_")
}

/// How the variables of flags begin, the one that wins first.
pub(crate) const VARIABLES: [&str; 2] = ["QUORATE", "ETCD"];

/// Families of etcd's flags of which none is served.
const PREFIXES: [&str; 6] = [
    "auto-compaction-",
    "bootstrap-defrag-",
    "compaction-",
    "discovery",
    "experimental-",
    "grpc-keepalive-",
];

/// etcd's other flags that are not served.
const FLAGS: &[&str] = &[
    "backend-batch-interval",
    "backend-batch-limit",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "client-cert-file",
    "client-crl-file",
    "client-key-file",
    "compact-hash-check-enabled",
    "config-file",
    "cors",
    "corrupt-check-time",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-log-rotation",
    "enable-pprof",
    "feature-gates",
    "force-new-cluster",
    "host-whitelist",
    "initial-election-tick-advance",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "log-outputs",
    "log-rotation-config-json",
    "logger",
    "max-concurrent-streams",
    "max-learners",
    "max-request-bytes",
    "max-snapshots",
    "max-txn-ops",
    "max-wals",
    "metrics",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-crl-file",
    "peer-skip-client-san-verification",
    "pre-vote",
    "quota-backend-bytes",
    "self-signed-cert-validity",
    "snapshot-catchup-entries",
    "socket-reuse-address",
    "socket-reuse-port",
    "strict-reconfig-check",
    "tls-max-version",
    "tls-min-version",
    "unsafe-no-fsync",
    "wal-dir",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_flags_are_told_from_typing_errors() {
        for flag in [
            "--quota-backend-bytes",
            "--peer-crl-file",
            "--max-wals=5",
            "--wal-dir",
        ] {
            assert!(is_unserved(flag), "{flag}");
        }
        for flag in ["--nmae", "--peers", "--quota"] {
            assert!(!is_unserved(flag), "{flag}");
        }
    }

    #[test]
    fn a_variable_that_nobody_reads_is_found() {
        let set = [
            ("ETCD_QUOTA_BACKEND_BYTES", "1"),
            ("QUORATE_NMAE", "a"),
            ("ETCD_DATA_DIR", "d"),
            ("QUORATE_DATA_DIR", "d"),
            ("ETCD_EMPTY", ""),
            ("ETCDCTL_API", "3"),
        ];
        let set = set.map(|(name, value)| (name.to_string(), value.to_string()));
        let unread = unread_variables(set, ["data-dir", "name"]);
        assert_eq!(unread, ["ETCD_QUOTA_BACKEND_BYTES", "QUORATE_NMAE"]);
    }
}
