//! `quorate start`: one node of a real cluster, told what to do by etcd's flags and variables.
//!
//! Names and defaults are etcd's where they mean the same. Two differ: the data directory defaults
//! to `NAME.quorate`, since it does not hold etcd's files, and what a node advertises defaults to
//! where it listens.

mod config_blocks;
pub(crate) mod config_file;
pub(crate) mod etcd_flags;
mod flags;
mod security;
#[cfg(test)]
mod table;
mod unserved;
mod values;

use crate::logging;
use crate::process;
use anyhow::{Context, anyhow, ensure};
use clap::{Arg, Args, ValueEnum};
use etcd_flags::unserved;
use quorate_server::{AuthConfig, ClusterState, InitialCluster, LearnerPromotion, Server, ServerConfig, Url};
use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  quorate start --name a --data-dir a.data
  quorate start --name a --listen-client-urls http://10.0.0.1:2379 \\
    --listen-peer-urls http://10.0.0.1:2380 \\
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380
  quorate start --name a --listen-client-urls https://10.0.0.1:2379 \\
    --cert-file server.pem --key-file server-key.pem --trusted-ca-file client-ca.pem

  quorate start --config-file /etc/quorate.yml

Every flag can be given as an environment variable too: --data-dir as QUORATE_DATA_DIR or
ETCD_DATA_DIR. A flag wins over QUORATE_, which wins over ETCD_. With --config-file, the file alone counts.
Flags of etcd's that mean nothing here are accepted, with a note in the log; those that ask for what
Quorate does not give are refused. docs/configuration.md lists them all.";

const DEFAULT_TOKEN: &str = "etcd-cluster";

/// The arguments of `quorate start`.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Options {
    #[command(flatten)]
    member: flags::Member,
    #[command(flatten)]
    cluster: flags::Cluster,
    #[command(flatten)]
    pace: flags::Pace,
    #[command(flatten)]
    history: flags::History,
    #[command(flatten)]
    limits: flags::Limits,
    #[command(flatten)]
    connections: flags::Connections,
    #[command(flatten)]
    security: security::Flags,
    #[command(flatten)]
    auth: flags::Auth,
    #[command(flatten)]
    log: flags::Log,
    /// What the log is to say of settings without effect.
    #[arg(skip)]
    pub(crate) notes: Vec<String>,
}

/// Whether the cluster starts for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// All members start with empty directories
    New,
    /// This member was here before and finds its data, or was added and has an empty directory
    Existing,
}

/// Runs the node until a signal or a fatal error stops it.
///
/// # Errors
///
/// If the configuration makes no sense, if the node cannot start, or if it had to stop by itself.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let log = &options.log;
    let rotation = log.rotation()?;
    logging::start_to(log.log_level, log.log_format, &log.log_outputs, rotation)?;
    process::settle();
    let stop = stop_signal()?;
    if let Some(note) = rotation.and_then(|rotation| rotation.note()) {
        tracing::warn!("{note}");
    }
    for note in &options.notes {
        tracing::warn!("{note}");
    }
    warn_of_unread_variables();
    let config = options.into_config()?;
    introduce(&config)?;
    let name = config.name.clone();
    let server = Server::start(config).await?;
    let identity = server.identity();
    tracing::info!(
        %name,
        cluster_id = format_args!("{:016x}", identity.cluster_id),
        member_id = format_args!("{:016x}", identity.member_id),
        "opened its data"
    );
    let announce = async {
        server.ready().await;
        tracing::info!(%name, clients = %server.client_addr(), "ready to serve client requests");
        pending::<Infallible>().await
    };
    let outcome = tokio::select! {
        never = announce => match never {},
        () = stop => Ok(()),
        reason = server.failed() => Err(anyhow!("{name} stopped: {reason}")),
    };
    tracing::info!(%name, "stopping");
    server.shutdown().await;
    outcome
}

/// Logs what runs here, before it is ready or fails to be.
fn introduce(config: &ServerConfig) -> anyhow::Result<()> {
    config.check()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        name = %config.name,
        data_dir = %config.data_dir.display(),
        listen_peer_urls = %join(&config.listen_peer_urls),
        listen_client_urls = %join(&config.listen_client_urls),
        "starting Quorate"
    );
    Ok(())
}

fn join(urls: &[Url]) -> String {
    let urls: Vec<String> = urls.iter().map(Url::to_string).collect();
    urls.join(",")
}

fn warn_of_unread_variables() {
    let unread = etcd_flags::unread_variables(variables(), flag_names().iter().map(String::as_str));
    if !unread.is_empty() {
        let names = unread.join(", ");
        tracing::warn!("ignoring environment variables that are no setting of this version: {names}");
    }
}

/// The environment of this process.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// The command's flags by their long names, those among them that have no effect.
pub(crate) fn flag_names() -> Vec<String> {
    let command = Options::augment_args(clap::Command::new("start"));
    let served = command.get_arguments().flat_map(names);
    let unserved = unserved();
    let unserved = unserved.iter().map(|flag| flag.name);
    served.chain(unserved).map(str::to_owned).collect()
}

/// The long names of a flag: its own, then what else it is called.
pub(crate) fn names(flag: &Arg) -> Vec<&str> {
    let aliases = flag.get_all_aliases().unwrap_or_default();
    flag.get_long().into_iter().chain(aliases).collect()
}

impl Options {
    #[cfg(test)]
    pub(crate) fn name(&self) -> &str {
        &self.member.name
    }

    #[cfg(test)]
    pub(crate) fn log_outputs(&self) -> &[logging::Output] {
        &self.log.log_outputs
    }

    /// The server's configuration, with what was left out filled in.
    pub(crate) fn into_config(self) -> anyhow::Result<ServerConfig> {
        let (member, cluster) = (self.member, self.cluster);
        let peer_urls = advertised(
            cluster.initial_advertise_peer_urls,
            &member.listen_peer_urls,
            "--initial-advertise-peer-urls",
        )?;
        let client_urls = advertised(
            member.advertise_client_urls,
            &member.listen_client_urls,
            "--advertise-client-urls",
        )?;
        let data_dir = member
            .data_dir
            .unwrap_or_else(|| PathBuf::from(format!("{}.quorate", member.name)));
        let is_told = cluster.initial_cluster.is_some() || cluster.initial_cluster_token != DEFAULT_TOKEN;
        let state = match cluster.initial_cluster_state {
            // A node that was here before knows its cluster: nothing need be said of it again.
            State::New if !is_told && data_dir.join("IDENTITY").exists() => ClusterState::Existing,
            given @ (State::New | State::Existing) => given.into(),
        };
        let alone = || alone(&member.name, &peer_urls);
        let initial_cluster = cluster.initial_cluster.unwrap_or_else(alone);
        let history = self.history;
        Ok(ServerConfig {
            listen_peer_urls: member.listen_peer_urls,
            listen_client_urls: [member.listen_client_urls, member.listen_client_http_urls].concat(),
            listen_metrics_urls: member.listen_metrics_urls,
            reuse_port: self.connections.socket_reuse_port,
            initial_advertise_peer_urls: peer_urls,
            advertise_client_urls: client_urls,
            client_tls: self.security.client_tls()?,
            peer_tls: self.security.peer_tls()?,
            initial_cluster,
            initial_cluster_token: cluster.initial_cluster_token,
            initial_cluster_state: state,
            initial_witnesses: cluster.initial_witnesses.into_iter().collect(),
            learner_promotion: match cluster.auto_promote_learners {
                true => LearnerPromotion::Automatic,
                false => LearnerPromotion::ByHand,
            },
            strict_reconfig_check: cluster.strict_reconfig_check,
            heartbeat_interval: Duration::from_millis(self.pace.heartbeat_interval.get()),
            election_timeout: Duration::from_millis(self.pace.election_timeout.get()),
            snapshot_count: self.pace.snapshot_count.get(),
            snapshot_catchup_entries: self.pace.snapshot_catchup_entries.get(),
            auto_compaction: values::auto_compaction(
                &history.auto_compaction_mode,
                &history.auto_compaction_retention,
            )?,
            watch_progress_interval: history.watch_progress_notify_interval,
            keep_alive: self.connections.keep_alive(),
            web: self.connections.web(),
            limits: quorate_server::Limits {
                max_learners: usize::try_from(cluster.max_learners).unwrap_or(usize::MAX),
                ..self.limits.into()
            },
            auth: AuthConfig {
                tokens: self.auth.auth_token,
                simple_ttl: Duration::from_secs(self.auth.auth_token_ttl.get()),
                bcrypt_cost: self.auth.bcrypt_cost,
                min_password_bytes: self.auth.min_password_bytes.into(),
                max_failed_logins: self.auth.max_failed_logins,
            },
            warn_after: self.log.warn_after(),
            ..ServerConfig::new(member.name, data_dir)
        })
    }
}

impl From<State> for ClusterState {
    fn from(state: State) -> Self {
        match state {
            State::New => Self::New,
            State::Existing => Self::Existing,
        }
    }
}

/// What is advertised: what was given, or else where it listens, if others can reach that.
fn advertised(given: Vec<Url>, listen: &[Url], flag: &str) -> anyhow::Result<Vec<Url>> {
    if !given.is_empty() {
        return Ok(given);
    }
    let everywhere = listen.iter().find(|url| is_everywhere(url));
    ensure!(
        everywhere.is_none(),
        "nobody can reach a node at {}: give the address that others use with {flag}",
        everywhere.map(ToString::to_string).unwrap_or_default(),
    );
    Ok(listen.to_vec())
}

/// Whether the URL means all addresses of the machine.
fn is_everywhere(url: &Url) -> bool {
    let authority = url.authority();
    authority.starts_with("0.0.0.0:") || authority.starts_with("[::]:")
}

fn alone(name: &str, peer_urls: &[Url]) -> InitialCluster {
    let mut cluster = InitialCluster::default();
    for url in peer_urls {
        cluster.insert(name, url.clone());
    }
    cluster
}

/// Completes when the process is asked to stop: by Ctrl-C or by SIGTERM.
///
/// # Errors
///
/// If the signals cannot be listened for.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use quorate_server::{AutoCompaction, BcryptCost};

    #[derive(Parser)]
    struct Start {
        #[command(flatten)]
        options: Options,
    }

    fn config(line: &str) -> anyhow::Result<ServerConfig> {
        let words = ["start"].into_iter().chain(line.split_whitespace());
        Start::try_parse_from(words)?.options.into_config()
    }

    #[test]
    fn without_flags_it_is_a_cluster_of_one() {
        let config = config("").unwrap();
        assert_eq!(config.data_dir, PathBuf::from("default.quorate"));
        assert_eq!(
            config.initial_cluster.to_string(),
            "default=http://localhost:2380"
        );
        assert_eq!(config.advertise_client_urls, config.listen_client_urls);
        assert!(config.check().is_ok());
    }

    #[test]
    fn every_flag_arrives() {
        let config = config(
            "--name b --data-dir /d --listen-peer-urls http://0.0.0.0:1 --listen-client-urls http://0.0.0.0:2 \
             --initial-advertise-peer-urls http://b:1 --advertise-client-urls http://b:2 \
             --initial-cluster a=http://a:1,b=http://b:1 --initial-cluster-state existing \
             --initial-cluster-token t --heartbeat-interval 20 --election-timeout 200 --snapshot-count 7 \
             --auth-token jwt,sign-method=ES256,pub-key=p --auth-token-ttl 9 --bcrypt-cost 12 \
             --snapshot-catchup-entries 5 --auto-compaction-mode revision --auto-compaction-retention 9 \
             --watch-progress-notify-interval 3s --listen-metrics-urls http://b:3,http://b:4 \
             --strict-reconfig-check=false --max-learners 3 --listen-client-http-urls http://b:5 \
             --experimental-warning-unary-request-duration 2s --warning-apply-duration 1s",
        )
        .unwrap();
        assert_eq!(
            (config.name.as_str(), config.data_dir),
            ("b", PathBuf::from("/d"))
        );
        assert_eq!(config.listen_peer_urls[0].to_string(), "http://0.0.0.0:1");
        let clients: Vec<String> = config.listen_client_urls.iter().map(Url::to_string).collect();
        assert_eq!(clients, ["http://0.0.0.0:2", "http://b:5"]);
        assert_eq!(config.initial_advertise_peer_urls[0].to_string(), "http://b:1");
        assert_eq!(config.advertise_client_urls[0].to_string(), "http://b:2");
        assert_eq!(config.initial_cluster.to_string(), "a=http://a:1,b=http://b:1");
        assert_eq!(config.initial_cluster_state, ClusterState::Existing);
        assert_eq!(config.initial_cluster_token, "t");
        assert_eq!(config.heartbeat_interval, Duration::from_millis(20));
        assert_eq!(config.election_timeout, Duration::from_millis(200));
        assert_eq!((config.snapshot_count, config.snapshot_catchup_entries), (7, 5));
        assert_eq!(config.auto_compaction, Some(AutoCompaction::Revisions(9)));
        assert_eq!(config.watch_progress_interval, Duration::from_secs(3));
        assert_eq!(config.listen_metrics_urls.len(), 2);
        assert!(!config.strict_reconfig_check);
        assert_eq!(config.limits.max_learners, 3);
        assert_eq!(config.warn_after.unary, Duration::from_secs(2));
        assert_eq!(config.warn_after.apply, Duration::from_secs(1));
        assert_eq!(config.auth.tokens.to_string(), "jwt,sign-method=ES256");
        assert_eq!(config.auth.simple_ttl, Duration::from_secs(9));
        assert_eq!(config.auth.bcrypt_cost, BcryptCost::new(12).unwrap());
    }

    #[test]
    fn every_limit_and_what_is_said_of_connections_arrive() {
        let config = config(
            "--max-request-bytes 1 --max-txn-ops 2 --max-concurrent-streams 3 --max-connections-per-address 4 \
             --max-handshakes 5 --max-watchers-per-stream 6 --max-watchers 7 --max-leases 8 \
             --max-peer-connections-per-address 9 --max-pending-peer-connections 10 \
             --grpc-keepalive-interval 9s --grpc-keepalive-timeout 10s --socket-reuse-port \
             --enable-grpc-gateway=false --cors http://a,http://b --host-whitelist c",
        )
        .unwrap();
        let limits = config.limits;
        assert_eq!((limits.max_request_bytes, limits.max_txn_ops), (1, 2));
        assert_eq!(
            (limits.max_concurrent_streams, limits.max_connections_per_address),
            (3, 4)
        );
        assert_eq!((limits.max_handshakes, limits.max_watchers_per_stream), (5, 6));
        assert_eq!((limits.max_watchers, limits.max_leases), (7, 8));
        let peers = (
            limits.max_peer_connections_per_address,
            limits.max_pending_peer_connections,
        );
        assert_eq!(peers, (9, 10));
        assert_eq!(config.keep_alive.interval, Duration::from_secs(9));
        assert_eq!(config.keep_alive.timeout, Duration::from_secs(10));
        assert!(config.reuse_port && !config.web.gateway);
        assert_eq!(config.web.origins.len(), 2);
        assert!(config.web.hosts.contains("c"));
    }

    #[test]
    fn defaults_of_flags_are_those_of_the_server() {
        let (flags, server) = (config("").unwrap(), ServerConfig::new("a", "a"));
        assert_eq!(format!("{:?}", flags.limits), format!("{:?}", server.limits));
        assert_eq!(flags.keep_alive, server.keep_alive);
        assert_eq!(flags.auto_compaction, None);
        assert_eq!(flags.snapshot_catchup_entries, server.snapshot_catchup_entries);
        assert_eq!(flags.watch_progress_interval, server.watch_progress_interval);
        assert_eq!(flags.warn_after, server.warn_after);
    }

    #[test]
    fn a_client_is_never_asked_if_the_interval_is_zero() {
        let config = config("--grpc-keepalive-interval 0 --grpc-keepalive-timeout 0s").unwrap();
        assert!(config.keep_alive.interval > Duration::from_secs(1_000_000));
        assert_eq!(config.keep_alive.timeout, Duration::from_secs(20));
    }

    #[test]
    fn a_log_is_rotated_only_if_there_is_a_file() {
        let rotation = |line: &str| {
            let words = ["start"].into_iter().chain(line.split_whitespace());
            Start::try_parse_from(words).unwrap().options.log.rotation()
        };
        let on = "--enable-log-rotation --log-rotation-config-json {\"maxsize\":3}";
        assert!(
            rotation(&format!("{on} --log-outputs stderr,a.log"))
                .unwrap()
                .is_some()
        );
        assert_eq!(rotation("--log-outputs a.log").unwrap(), None);
        let error = rotation(on).unwrap_err().to_string();
        assert!(error.contains("--log-outputs"), "{error}");
    }

    #[test]
    fn a_flag_given_twice_counts_the_second_time() {
        assert_eq!(config("--name a --name b").unwrap().name, "b");
    }

    #[test]
    fn an_address_nobody_can_reach_is_not_advertised() {
        let error = config("--listen-client-urls http://0.0.0.0:2379")
            .unwrap_err()
            .to_string();
        assert!(error.contains("--advertise-client-urls"), "{error}");
        let error = config("--listen-peer-urls http://[::]:2380")
            .unwrap_err()
            .to_string();
        assert!(error.contains("--initial-advertise-peer-urls"), "{error}");
    }
}
