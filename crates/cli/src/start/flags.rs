//! The flags of `quorate start`, by subject. Those about certificates are in [`super::security`].
//!
//! Names and meanings are etcd's, except some, which docs/configuration.md marks.

use super::values::{bcrypt_cost, duration};
use super::{DEFAULT_TOKEN, State};
use crate::args::positive;
use crate::logging::{self, Rotation};
use anyhow::ensure;
use clap::Args;
use quorate_server::{BcryptCost, InitialCluster, KeepAlive, TokenKind, Url, WarnAfter, Web};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
#[command(next_help_heading = "Member")]
pub(super) struct Member {
    /// This member's name, unique in the cluster
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) name: String,
    /// Where this member keeps its data [default: NAME.quorate]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Where to listen for the other members
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    pub(super) listen_peer_urls: Vec<Url>,
    /// Where to listen for clients
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    pub(super) listen_client_urls: Vec<Url>,
    /// Where to listen for clients besides, as for those that speak HTTP; what is served is the same
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub(super) listen_client_http_urls: Vec<Url>,
    /// Where to serve metrics and health besides, and nothing else
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub(super) listen_metrics_urls: Vec<Url>,
    /// Where clients reach this member [default: where it listens for them]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub(super) advertise_client_urls: Vec<Url>,
    /// Read all settings from this file in YAML, with etcd's keys, and none from flags and variables
    #[arg(long, value_name = "FILE")]
    pub(super) config_file: Option<PathBuf>,
}

#[derive(Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct Cluster {
    /// Where the other members reach this one [default: where it listens for them]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub(super) initial_advertise_peer_urls: Vec<Url>,
    /// All members, as name=URL,name=URL [default: this member alone]
    #[arg(long, value_name = "MEMBERS")]
    pub(super) initial_cluster: Option<InitialCluster>,
    /// Whether the cluster starts for the first time
    #[arg(long, value_enum, default_value = "new")]
    pub(super) initial_cluster_state: State,
    /// Tells clusters apart that would otherwise have the same members
    #[arg(long, value_name = "TOKEN", default_value = DEFAULT_TOKEN)]
    pub(super) initial_cluster_token: String,
    /// Those of the first members that are witnesses, by name: they vote, and keep no data. All members
    /// of a new cluster are told the same; one that is added later is told by the cluster
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) initial_witnesses: Vec<String>,
    /// Whether learners vote as soon as they have caught up, or when they are promoted
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(super) auto_promote_learners: bool,
    /// Learners in the cluster, newcomers that do not vote yet among them; one more is not added
    #[arg(
        long,
        alias = "experimental-max-learners",
        value_name = "N",
        default_value_t = 1
    )]
    pub(super) max_learners: u32,
    /// Refuse to remove a member if too few others answer for a majority, and to add one if not all answer
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) strict_reconfig_check: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Elections and snapshots")]
pub(super) struct Pace {
    /// Milliseconds between two heartbeats of a leader
    #[arg(long, value_name = "MS", default_value = "100", value_parser = positive)]
    pub(super) heartbeat_interval: NonZeroU64,
    /// Milliseconds without a leader before a member campaigns
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = positive)]
    pub(super) election_timeout: NonZeroU64,
    /// Commands applied between two snapshots
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive)]
    pub(super) snapshot_count: NonZeroU64,
    /// Commands kept behind a snapshot for followers that are a little late
    #[arg(
        long,
        aliases = ["experimental-snapshot-catchup-entries", "experimental-snapshot-catch-up-entries"],
        value_name = "N",
        default_value = "5000",
        value_parser = positive
    )]
    pub(super) snapshot_catchup_entries: NonZeroU64,
}

#[derive(Args)]
#[command(next_help_heading = "History")]
pub(super) struct History {
    /// What --auto-compaction-retention is: how long, or how many revisions
    #[arg(long, value_name = "MODE", default_value = "periodic", value_parser = ["periodic", "revision"])]
    pub(super) auto_compaction_mode: String,
    /// How much of the history is kept: hours, or a duration as in 30m; or a number of revisions. 0 keeps all
    #[arg(long, value_name = "KEPT", default_value = "0")]
    pub(super) auto_compaction_retention: String,
    /// How often a watcher that asked for it is told how far it is, if nothing happens
    #[arg(
        long,
        alias = "experimental-watch-progress-notify-interval",
        value_name = "DURATION",
        default_value = "10m",
        value_parser = duration
    )]
    pub(super) watch_progress_notify_interval: Duration,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct Limits {
    /// Bytes of a request that writes
    #[arg(long, value_name = "BYTES", default_value = "1572864", value_parser = positive)]
    pub(super) max_request_bytes: NonZeroU64,
    /// Compares, or operations of one branch, of a transaction
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    pub(super) max_txn_ops: NonZeroU64,
    /// Requests and streams at one time on one connection; more wait
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_concurrent_streams: u32,
    /// Connections of one address at one time; more are closed
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive)]
    pub(super) max_connections_per_address: NonZeroU64,
    /// TLS handshakes of clients at one time, an eighth of them of one address; more wait
    #[arg(long, value_name = "N", default_value = "1024", value_parser = positive)]
    pub(super) max_handshakes: NonZeroU64,
    /// Connections of other members from one address at one time; more are closed
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    pub(super) max_peer_connections_per_address: NonZeroU64,
    /// Connections to the peer port that have not said yet whose they are, a quarter of them of one address; more are
    /// closed
    #[arg(long, value_name = "N", default_value = "128", value_parser = positive)]
    pub(super) max_pending_peer_connections: NonZeroU64,
    /// Watchers of one stream
    #[arg(long, value_name = "N", default_value = "100000", value_parser = positive)]
    pub(super) max_watchers_per_stream: NonZeroU64,
    /// Watchers of all clients of this member
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = positive)]
    pub(super) max_watchers: NonZeroU64,
    /// Leases in the cluster
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = positive)]
    pub(super) max_leases: NonZeroU64,
}

#[derive(Args)]
#[command(next_help_heading = "Connections")]
pub(super) struct Connections {
    /// A silent client is asked after so long whether it is still there; 0 is never
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub(super) grpc_keepalive_interval: Duration,
    /// It is given up after so long without an answer
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub(super) grpc_keepalive_timeout: Duration,
    /// Let other processes listen on the same ports (SO_REUSEPORT)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) socket_reuse_port: bool,
    /// Serve the JSON gateway
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) enable_grpc_gateway: bool,
    /// The origins whose pages may read answers over HTTP; * for all [default: none]
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',')]
    pub(super) cors: Vec<String>,
    /// The names under which HTTP requests without TLS are answered; * for all
    #[arg(long, value_name = "HOSTS", value_delimiter = ',', default_value = "*")]
    pub(super) host_whitelist: Vec<String>,
}

/// Longer than any connection lives.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Connections {
    pub(super) fn keep_alive(&self) -> KeepAlive {
        let or = |duration: Duration, default| if duration.is_zero() { default } else { duration };
        KeepAlive {
            interval: or(self.grpc_keepalive_interval, NEVER),
            timeout: or(self.grpc_keepalive_timeout, KeepAlive::default().timeout),
        }
    }

    pub(super) fn web(&self) -> Web {
        Web {
            hosts: self.host_whitelist.iter().cloned().collect(),
            origins: self.cors.iter().cloned().collect(),
            gateway: self.enable_grpc_gateway,
        }
    }
}

impl From<Limits> for quorate_server::Limits {
    fn from(flags: Limits) -> Self {
        Self {
            max_request_bytes: count(flags.max_request_bytes),
            max_txn_ops: count(flags.max_txn_ops),
            max_concurrent_streams: flags.max_concurrent_streams,
            max_connections_per_address: count(flags.max_connections_per_address),
            max_handshakes: count(flags.max_handshakes),
            max_peer_connections_per_address: count(flags.max_peer_connections_per_address),
            max_pending_peer_connections: count(flags.max_pending_peer_connections),
            max_watchers_per_stream: count(flags.max_watchers_per_stream),
            max_watchers: count(flags.max_watchers),
            max_leases: count(flags.max_leases),
            ..Self::default()
        }
    }
}

fn count(number: NonZeroU64) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

#[derive(Args)]
#[command(next_help_heading = "Authentication")]
pub(super) struct Auth {
    /// What stands for a user that has logged in: simple, or jwt,sign-method=...,pub-key=...,priv-key=...,ttl=...
    #[arg(long, value_name = "KIND", default_value = "simple")]
    pub(super) auth_token: TokenKind,
    /// Seconds that a simple token lives after its last use
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive)]
    pub(super) auth_token_ttl: NonZeroU64,
    /// How much work the hash of a password is, from 4 to 31: each step doubles it
    #[arg(long, value_name = "N", default_value = "10", value_parser = bcrypt_cost)]
    pub(super) bcrypt_cost: BcryptCost,
    /// Bytes that a new password must have
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(super) min_password_bytes: u8,
    /// Logins as a user that may fail from an address before more have to wait
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_failed_logins: u32,
}

#[derive(Args)]
#[command(next_help_heading = "Logging")]
pub(super) struct Log {
    /// The least severe log line that is written
    #[arg(long, value_enum, default_value = "info")]
    pub(super) log_level: logging::Level,
    /// How log lines are written
    #[arg(long, value_enum, default_value = "console")]
    pub(super) log_format: logging::Format,
    /// Where log lines go: stderr, stdout, or the path of a file to which they are added
    #[arg(
        long,
        alias = "log-output",
        value_name = "OUTPUTS",
        value_delimiter = ',',
        default_value = "default"
    )]
    pub(super) log_outputs: Vec<logging::Output>,
    /// A call that is answered once and takes longer is told of in the log, by its method and sizes
    #[arg(
        long,
        alias = "experimental-warning-unary-request-duration",
        value_name = "DURATION",
        default_value = "300ms",
        value_parser = duration
    )]
    pub(super) warning_unary_request_duration: Duration,
    /// A command that takes longer to apply, or a range to read, is told of in the log
    #[arg(
        long,
        alias = "experimental-warning-apply-duration",
        value_name = "DURATION",
        default_value = "100ms",
        value_parser = duration
    )]
    pub(super) warning_apply_duration: Duration,
    /// Give a log file another name when it is full, and begin a new one
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) enable_log_rotation: bool,
    /// When a log file is full and which old ones are kept: JSON of maxsize (megabytes), maxage (days) and
    /// maxbackups (files), where 0 is 100 megabytes, and no limit for the others
    #[arg(long, value_name = "JSON", default_value = r#"{"maxsize":100}"#)]
    pub(super) log_rotation_config_json: Rotation,
}

impl Log {
    pub(super) fn warn_after(&self) -> WarnAfter {
        WarnAfter {
            unary: self.warning_unary_request_duration,
            apply: self.warning_apply_duration,
        }
    }

    /// How log files are rotated, if they are.
    ///
    /// # Errors
    ///
    /// If there is no file.
    pub(super) fn rotation(&self) -> anyhow::Result<Option<Rotation>> {
        let is_file = |output: &logging::Output| matches!(output, logging::Output::File(_));
        ensure!(
            !self.enable_log_rotation || self.log_outputs.iter().any(is_file),
            "--enable-log-rotation: there is no file to rotate, give its path with --log-outputs"
        );
        Ok(self.enable_log_rotation.then_some(self.log_rotation_config_json))
    }
}
