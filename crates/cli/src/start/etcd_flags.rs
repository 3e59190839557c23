//! What etcd's users bring along that `quorate start` does not serve: flags and variables.
//!
//! - A flag without a meaning here is accepted, with a note in the log. One that asks for what is not given is
//!   refused, unless its value says not to.
//! - A variable that nobody reads is only warned of: Kubernetes, for one, gives a process variables
//!   that begin like etcd's for a service of that name.

use clap::{Arg, ArgAction, ArgMatches};

use self::Takes::{Switch, Value};

/// A flag of etcd's that is not served.
pub(crate) struct Unserved {
    /// Its name without dashes.
    pub(crate) name: &'static str,
    takes: Takes,
    pub(crate) verdict: Verdict,
    /// Why, as the rest of a sentence.
    pub(crate) why: &'static str,
}

/// Whether a flag can stand without a value.
#[derive(Clone, Copy)]
enum Takes {
    Switch,
    Value,
}

/// What becomes of a flag that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is accepted, and the log says that it has no effect.
    Noted,
    /// The node does not start with it, unless its value is one of [`HARMLESS`].
    Refused,
}

impl Unserved {
    /// The flag for the parser, which is not in the help.
    pub(crate) fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .hide(true)
            .action(ArgAction::Set);
        match self.takes {
            Takes::Value => arg.num_args(1).allow_hyphen_values(true),
            Takes::Switch => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
        }
    }
}

/// What is to be said of the flags among `matches` that are not served: notes for the log.
///
/// # Errors
///
/// If one of them is refused.
pub(crate) fn notes(matches: &ArgMatches) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for flag in UNSERVED {
        let Some(value) = matches.get_one::<String>(flag.name) else {
            continue;
        };
        let (name, why) = (flag.name, flag.why);
        match flag.verdict {
            Verdict::Noted => notes.push(format!("--{name} has no effect: {why}")),
            Verdict::Refused if HARMLESS.contains(&value.as_str()) => {}
            Verdict::Refused => {
                return Err(format!(
                    "--{name} is a flag of etcd's that Quorate does not serve: {why}"
                ));
            }
        }
    }
    Ok(notes)
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

/// Values by which a flag asks for nothing.
const HARMLESS: [&str; 4] = ["", "false", "off", "write-only"];

const fn noted(name: &'static str, takes: Takes, why: &'static str) -> Unserved {
    Unserved {
        name,
        takes,
        verdict: Verdict::Noted,
        why,
    }
}

const fn refused(name: &'static str, takes: Takes, why: &'static str) -> Unserved {
    Unserved {
        name,
        takes,
        verdict: Verdict::Refused,
        why,
    }
}

/// etcd's flags that are not served, by name.
pub(crate) const UNSERVED: &[Unserved] = &[
    noted(
        "backend-batch-interval",
        Value,
        "there is no database whose writes would be batched",
    ),
    noted(
        "backend-batch-limit",
        Value,
        "there is no database whose writes would be batched",
    ),
    noted(
        "backend-bbolt-freelist-type",
        Value,
        "there is no database whose writes would be batched",
    ),
    noted(
        "bootstrap-defrag-threshold-megabytes",
        Value,
        "nothing is ever defragmented",
    ),
    noted(
        "client-cert-file",
        Value,
        "etcd's gateway uses it to reach etcd, ours is within the process",
    ),
    noted(
        "client-key-file",
        Value,
        "etcd's gateway uses it to reach etcd, ours is within the process",
    ),
    noted(
        "compact-hash-check-enabled",
        Switch,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted(
        "compact-hash-check-time",
        Value,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted(
        "compaction-batch-limit",
        Value,
        "compaction goes in small steps of its own",
    ),
    noted(
        "compaction-sleep-interval",
        Value,
        "compaction goes in small steps of its own",
    ),
    noted(
        "corrupt-check-time",
        Value,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted("debug", Switch, "give --log-level debug"),
    refused("discovery", Value, "members are named by --initial-cluster"),
    refused(
        "discovery-cacert",
        Value,
        "members are named by --initial-cluster",
    ),
    refused("discovery-cert", Value, "members are named by --initial-cluster"),
    refused(
        "discovery-dial-timeout",
        Value,
        "members are named by --initial-cluster",
    ),
    refused(
        "discovery-endpoints",
        Value,
        "members are named by --initial-cluster",
    ),
    noted("discovery-fallback", Value, "there is no discovery"),
    refused(
        "discovery-insecure-skip-tls-verify",
        Switch,
        "members are named by --initial-cluster",
    ),
    refused(
        "discovery-insecure-transport",
        Switch,
        "members are named by --initial-cluster",
    ),
    refused(
        "discovery-keepalive-time",
        Value,
        "members are named by --initial-cluster",
    ),
    refused(
        "discovery-keepalive-timeout",
        Value,
        "members are named by --initial-cluster",
    ),
    refused("discovery-key", Value, "members are named by --initial-cluster"),
    refused(
        "discovery-password",
        Value,
        "members are named by --initial-cluster",
    ),
    noted("discovery-proxy", Value, "there is no discovery"),
    refused(
        "discovery-request-timeout",
        Value,
        "members are named by --initial-cluster",
    ),
    refused("discovery-srv", Value, "members are named by --initial-cluster"),
    noted("discovery-srv-name", Value, "there is no discovery"),
    refused("discovery-token", Value, "members are named by --initial-cluster"),
    refused("discovery-user", Value, "members are named by --initial-cluster"),
    noted("distributed-tracing-address", Value, "there is no tracing"),
    noted("distributed-tracing-instance-id", Value, "there is no tracing"),
    noted("distributed-tracing-sampling-rate", Value, "there is no tracing"),
    noted("distributed-tracing-service-name", Value, "there is no tracing"),
    noted("downgrade-check-time", Value, "versions are not lowered"),
    noted("enable-distributed-tracing", Switch, "there is no tracing"),
    refused(
        "enable-log-rotation",
        Switch,
        "a log file is rotated by programs made for that, as logrotate",
    ),
    noted("enable-pprof", Switch, "there are no profiles to serve"),
    noted("enable-v2", Switch, "there is no v2 API"),
    noted(
        "experimental-backend-bbolt-freelist-type",
        Value,
        "there is no database whose writes would be batched",
    ),
    noted(
        "experimental-bootstrap-defrag-threshold-megabytes",
        Value,
        "nothing is ever defragmented",
    ),
    noted(
        "experimental-compact-hash-check-enabled",
        Switch,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted(
        "experimental-compact-hash-check-time",
        Value,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted(
        "experimental-compaction-batch-limit",
        Value,
        "compaction goes in small steps of its own",
    ),
    noted(
        "experimental-compaction-sleep-interval",
        Value,
        "compaction goes in small steps of its own",
    ),
    noted(
        "experimental-corrupt-check-time",
        Value,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted(
        "experimental-distributed-tracing-address",
        Value,
        "there is no tracing",
    ),
    noted(
        "experimental-distributed-tracing-instance-id",
        Value,
        "there is no tracing",
    ),
    noted(
        "experimental-distributed-tracing-sampling-rate",
        Value,
        "there is no tracing",
    ),
    noted(
        "experimental-distributed-tracing-service-name",
        Value,
        "there is no tracing",
    ),
    noted(
        "experimental-downgrade-check-time",
        Value,
        "versions are not lowered",
    ),
    noted(
        "experimental-enable-distributed-tracing",
        Switch,
        "there is no tracing",
    ),
    noted(
        "experimental-enable-lease-checkpoint",
        Switch,
        "leases are kept through the log, and their time does not begin anew with a leader",
    ),
    noted(
        "experimental-enable-lease-checkpoint-persist",
        Switch,
        "leases are kept through the log, and their time does not begin anew with a leader",
    ),
    refused("experimental-enable-v2v3", Value, "there is no v2 API"),
    noted(
        "experimental-initial-corrupt-check",
        Switch,
        "corruption is looked for where data is read: everything is checksummed",
    ),
    noted(
        "experimental-memory-mlock",
        Switch,
        "what etcd tries out in its own insides is not here",
    ),
    noted(
        "experimental-peer-skip-client-san-verification",
        Switch,
        "who dials is always checked against the member that it speaks for",
    ),
    noted(
        "experimental-set-member-localaddr",
        Switch,
        "what etcd tries out in its own insides is not here",
    ),
    noted(
        "experimental-stop-grpc-service-on-defrag",
        Switch,
        "nothing is ever defragmented",
    ),
    noted(
        "experimental-txn-mode-write-with-shared-buffer",
        Switch,
        "what etcd tries out in its own insides is not here",
    ),
    noted(
        "experimental-wait-cluster-ready-timeout",
        Value,
        "a node is ready when it serves",
    ),
    noted(
        "feature-gates",
        Value,
        "what etcd tries out in its own insides is not here",
    ),
    refused(
        "force-new-cluster",
        Switch,
        "a member that lost its quorum is replaced: see quorate member replace",
    ),
    noted(
        "grpc-keepalive-min-time",
        Value,
        "pings are cheap here, and nobody is cut off for them",
    ),
    noted(
        "initial-election-tick-advance",
        Switch,
        "elections are as fast as is safe at the first start already",
    ),
    refused(
        "listen-client-http-urls",
        Value,
        "HTTP is served at --listen-client-urls",
    ),
    noted(
        "log-package-levels",
        Value,
        "give the environment variable RUST_LOG",
    ),
    noted(
        "log-rotation-config-json",
        Value,
        "log files are not rotated here",
    ),
    noted("logger", Value, "lines are in the form of --log-format"),
    noted("max-snapshots", Value, "two snapshots are kept"),
    noted(
        "max-wals",
        Value,
        "the log goes as far back as the older snapshot",
    ),
    noted(
        "metrics",
        Value,
        "all metrics are there, those of etcd's extensive too",
    ),
    noted(
        "peer-client-cert-file",
        Value,
        "one certificate serves both ends of a connection between members",
    ),
    noted(
        "peer-client-key-file",
        Value,
        "one certificate serves both ends of a connection between members",
    ),
    noted(
        "peer-skip-client-san-verification",
        Switch,
        "who dials is always checked against the member that it speaks for",
    ),
    noted("pre-vote", Switch, "elections always begin with a pre-vote"),
    refused("proxy", Value, "there is no proxy"),
    noted("proxy-dial-timeout", Value, "there is no proxy"),
    noted("proxy-failure-wait", Value, "there is no proxy"),
    noted("proxy-read-timeout", Value, "there is no proxy"),
    noted("proxy-refresh-interval", Value, "there is no proxy"),
    noted("proxy-write-timeout", Value, "there is no proxy"),
    noted(
        "quota-backend-bytes",
        Value,
        "there is no quota: bound the history with --auto-compaction-retention, and memory from outside",
    ),
    noted(
        "self-signed-cert-validity",
        Value,
        "self-signed certificates are valid for ten years",
    ),
    noted(
        "socket-reuse-address",
        Switch,
        "ports are always taken over from connections that are closing",
    ),
    refused(
        "unsafe-no-fsync",
        Switch,
        "what is acknowledged is on the disk, always",
    ),
    refused("v2-deprecation", Value, "there is no v2 API"),
    refused(
        "wal-dir",
        Value,
        "the log is in the data directory: put that on the faster disk",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn notes_of(words: &str) -> Result<Vec<String>, String> {
        let command = clap::Command::new("start").args(UNSERVED.iter().map(Unserved::arg));
        let words = ["start"].into_iter().chain(words.split_whitespace());
        notes(&command.try_get_matches_from(words).unwrap())
    }

    #[test]
    fn the_list_is_sorted_and_has_no_name_twice() {
        assert!(UNSERVED.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_flag_without_a_meaning_is_noted_with_the_reason() {
        let notes = notes_of("--max-wals 5 --pre-vote --socket-reuse-address=false").unwrap();
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].starts_with("--max-wals has no effect: "), "{notes:?}");
        assert_eq!(notes_of(""), Ok(Vec::new()));
    }

    #[test]
    fn a_flag_that_asks_for_what_is_not_given_is_refused() {
        for words in [
            "--unsafe-no-fsync",
            "--force-new-cluster=true",
            "--discovery http://a",
            "--wal-dir w",
        ] {
            let error = notes_of(words).expect_err(words);
            assert!(error.contains("is a flag of etcd's"), "{error}");
        }
        for words in [
            "--unsafe-no-fsync=false",
            "--proxy off",
            "--discovery-insecure-transport=false",
        ] {
            assert_eq!(notes_of(words), Ok(Vec::new()), "{words}");
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
