//! `quorate start`: one node of a real cluster, told what to do by etcd's flags and variables.
//!
//! Names and defaults are etcd's where they mean the same. Two differ: the data directory defaults
//! to `NAME.quorate`, since it does not hold etcd's files, and what a node advertises defaults to
//! where it listens.

use crate::args::positive;
use crate::{etcd_flags, logging, security};
use anyhow::{Context, anyhow, ensure};
use clap::{Arg, Args, ValueEnum};
use quorate_server::{AuthConfig, BcryptCost, ClusterState, InitialCluster, LearnerPromotion};
use quorate_server::{Server, ServerConfig, TokenKind, Url};
use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::num::NonZeroU64;
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

Every flag can be given as an environment variable too: --data-dir as QUORATE_DATA_DIR or
ETCD_DATA_DIR. A flag wins over QUORATE_, which wins over ETCD_. Flags of etcd's that are not listed
here are refused; variables that are not are ignored, with a warning.";

const DEFAULT_TOKEN: &str = "etcd-cluster";

/// The arguments of `quorate start`.
#[derive(Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Options {
    /// This member's name, unique in the cluster
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) name: String,
    /// Where this member keeps its data [default: NAME.quorate]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen for the other members
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    listen_peer_urls: Vec<Url>,
    /// Where to listen for clients
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    listen_client_urls: Vec<Url>,
    /// Where the other members reach this one [default: where it listens for them]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    initial_advertise_peer_urls: Vec<Url>,
    /// Where clients reach this member [default: where it listens for them]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    advertise_client_urls: Vec<Url>,
    #[command(flatten)]
    security: security::Flags,
    /// All members, as name=URL,name=URL [default: this member alone]
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<InitialCluster>,
    /// Whether the cluster starts for the first time
    #[arg(long, value_enum, default_value = "new")]
    initial_cluster_state: State,
    /// Those of the first members that are witnesses, by name: they vote, and keep no data. All members
    /// of a new cluster are told the same; one that is added later is told by the cluster
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    initial_witnesses: Vec<String>,
    /// Whether learners vote as soon as they have caught up, or when they are promoted
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    auto_promote_learners: bool,
    /// Tells clusters apart that would otherwise have the same members
    #[arg(long, value_name = "TOKEN", default_value = DEFAULT_TOKEN)]
    initial_cluster_token: String,
    /// Milliseconds between two heartbeats of a leader
    #[arg(long, value_name = "MS", default_value = "100", value_parser = positive)]
    heartbeat_interval: NonZeroU64,
    /// Milliseconds without a leader before a member campaigns
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = positive)]
    election_timeout: NonZeroU64,
    /// Commands applied between two snapshots
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive)]
    snapshot_count: NonZeroU64,
    /// What stands for a user that has logged in: simple, or jwt,sign-method=...,pub-key=...,priv-key=...,ttl=...
    #[arg(long, value_name = "KIND", default_value = "simple")]
    auth_token: TokenKind,
    /// Seconds that a simple token lives after its last use
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = positive)]
    auth_token_ttl: NonZeroU64,
    /// How much work the hash of a password is, from 4 to 31: each step doubles it
    #[arg(long, value_name = "N", default_value = "10", value_parser = bcrypt_cost)]
    bcrypt_cost: BcryptCost,
    /// The least severe log line that is written
    #[arg(long, value_enum, default_value = "info")]
    log_level: logging::Level,
    /// How log lines are written, on standard error
    #[arg(long, value_enum, default_value = "console")]
    log_format: logging::Format,
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
    logging::start(options.log_level, options.log_format)?;
    let stop = stop_signal()?;
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
    let set = env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    let command = Options::augment_args(clap::Command::new("start"));
    let flags = command.get_arguments().filter_map(Arg::get_long);
    let unread = etcd_flags::unread_variables(set, flags);
    if !unread.is_empty() {
        let names = unread.join(", ");
        tracing::warn!("ignoring environment variables that are no setting of this version: {names}");
    }
}

impl Options {
    /// The server's configuration, with what was left out filled in.
    fn into_config(self) -> anyhow::Result<ServerConfig> {
        let peer_urls = advertised(
            self.initial_advertise_peer_urls,
            &self.listen_peer_urls,
            "--initial-advertise-peer-urls",
        )?;
        let client_urls = advertised(
            self.advertise_client_urls,
            &self.listen_client_urls,
            "--advertise-client-urls",
        )?;
        let data_dir = self
            .data_dir
            .unwrap_or_else(|| PathBuf::from(format!("{}.quorate", self.name)));
        let is_told = self.initial_cluster.is_some() || self.initial_cluster_token != DEFAULT_TOKEN;
        let state = match self.initial_cluster_state {
            // A node that was here before knows its cluster: nothing need be said of it again.
            State::New if !is_told && data_dir.join("IDENTITY").exists() => ClusterState::Existing,
            given @ (State::New | State::Existing) => given.into(),
        };
        let alone = || alone(&self.name, &peer_urls);
        let initial_cluster = self.initial_cluster.unwrap_or_else(alone);
        Ok(ServerConfig {
            listen_peer_urls: self.listen_peer_urls,
            listen_client_urls: self.listen_client_urls,
            initial_advertise_peer_urls: peer_urls,
            advertise_client_urls: client_urls,
            client_tls: self.security.client_tls()?,
            peer_tls: self.security.peer_tls()?,
            initial_cluster,
            initial_cluster_token: self.initial_cluster_token,
            initial_cluster_state: state,
            initial_witnesses: self.initial_witnesses.into_iter().collect(),
            learner_promotion: match self.auto_promote_learners {
                true => LearnerPromotion::Automatic,
                false => LearnerPromotion::ByHand,
            },
            heartbeat_interval: Duration::from_millis(self.heartbeat_interval.get()),
            election_timeout: Duration::from_millis(self.election_timeout.get()),
            snapshot_count: self.snapshot_count.get(),
            auth: AuthConfig {
                tokens: self.auth_token,
                simple_ttl: Duration::from_secs(self.auth_token_ttl.get()),
                bcrypt_cost: self.bcrypt_cost,
            },
            ..ServerConfig::new(self.name, data_dir)
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

fn bcrypt_cost(text: &str) -> Result<BcryptCost, String> {
    let cost = text.parse().ok().and_then(BcryptCost::new);
    cost.ok_or_else(|| "it must be a number from 4 to 31".to_owned())
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
             --auth-token jwt,sign-method=ES256,pub-key=p --auth-token-ttl 9 --bcrypt-cost 12",
        )
        .unwrap();
        assert_eq!(
            (config.name.as_str(), config.data_dir),
            ("b", PathBuf::from("/d"))
        );
        assert_eq!(config.listen_peer_urls[0].to_string(), "http://0.0.0.0:1");
        assert_eq!(config.listen_client_urls[0].to_string(), "http://0.0.0.0:2");
        assert_eq!(config.initial_advertise_peer_urls[0].to_string(), "http://b:1");
        assert_eq!(config.advertise_client_urls[0].to_string(), "http://b:2");
        assert_eq!(config.initial_cluster.to_string(), "a=http://a:1,b=http://b:1");
        assert_eq!(config.initial_cluster_state, ClusterState::Existing);
        assert_eq!(config.initial_cluster_token, "t");
        assert_eq!(config.heartbeat_interval, Duration::from_millis(20));
        assert_eq!(config.election_timeout, Duration::from_millis(200));
        assert_eq!(config.snapshot_count, 7);
        assert_eq!(config.auth.tokens.to_string(), "jwt,sign-method=ES256");
        assert_eq!(config.auth.simple_ttl, Duration::from_secs(9));
        assert_eq!(config.auth.bcrypt_cost, BcryptCost::new(12).unwrap());
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
