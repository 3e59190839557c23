//! What a member is told at its start, and what follows from it.
//!
//! - [`ServerConfig`] has a field for each of etcd's flags that mean the same here.
//! - [`ServerConfig::check`] turns it into [`Identity`]: nothing is opened or bound before it passes.
//!
//! It leaves out flags, environment and files, which are the command line's.

mod check;
mod cluster;
mod error;
mod identity;
mod limits;
#[cfg(test)]
mod tests;

pub use cluster::{ClusterState, InitialCluster, LearnerPromotion};
pub use error::ConfigError;
pub use identity::{Identity, MemberConfig};
pub use limits::Limits;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::AuthConfig;
use crate::compaction::AutoCompaction;
use crate::security::{ClientTls, MemberTls};
use crate::url::{Scheme, Url};
use crate::web::Web;

/// What a member is told at its start. Names and defaults are etcd's.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The member's name, unique in the cluster.
    pub name: String,
    /// Where it keeps its data; made if missing.
    pub data_dir: PathBuf,
    /// Where it listens for its peers: one URL.
    pub listen_peer_urls: Vec<Url>,
    /// Where it listens for clients: one URL or more.
    pub listen_client_urls: Vec<Url>,
    /// Where it serves metrics and health, and nothing else, beside the client URLs.
    pub listen_metrics_urls: Vec<Url>,
    /// Whether other processes may listen on the same ports (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Where its peers reach it. Must equal its own entry in `initial_cluster`.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// Where clients reach it; empty means where it listens.
    pub advertise_client_urls: Vec<Url>,
    /// How connections of clients to `https://` URLs are secured. There are none without it.
    pub client_tls: Option<ClientTls>,
    /// How connections between members are secured; their URLs are `https://` if it is set.
    pub peer_tls: Option<MemberTls>,
    /// All members, this one among them.
    pub initial_cluster: InitialCluster,
    /// Tells clusters apart that would otherwise have the same members.
    pub initial_cluster_token: String,
    /// Whether the cluster starts for the first time.
    pub initial_cluster_state: ClusterState,
    /// The names of those of the first members that are witnesses: they vote and keep no data.
    pub initial_witnesses: BTreeSet<String>,
    /// Whether a learner becomes a voter by itself.
    pub learner_promotion: LearnerPromotion,
    /// Whether changes of members are refused while too few members take part.
    pub strict_reconfig_check: bool,
    /// How often a leader shows that it is alive.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for a leader before it campaigns. At least five heartbeats.
    pub election_timeout: Duration,
    /// Commands applied between two snapshots of the state.
    pub snapshot_count: u64,
    /// Commands kept behind a snapshot, for followers that are a little late; at most `snapshot_count` are.
    pub snapshot_catchup_entries: u64,
    /// What becomes of the history by itself.
    pub auto_compaction: Option<AutoCompaction>,
    /// When connections of clients that say nothing are asked whether they are still there.
    pub keep_alive: KeepAlive,
    /// How long a client may take to begin a request, to send its header by HTTP/1.1, and to go on with its body by the
    /// gateway.
    pub client_patience: Duration,
    /// What browsers are told, and kept from.
    pub web: Web,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// How often a watcher that asked for it is told how far it is, if nothing happens.
    pub watch_progress_interval: Duration,
    /// Passwords and tokens. Whether they are needed is part of the data.
    pub auth: AuthConfig,
    /// What takes longer is told of in the log.
    pub warn_after: WarnAfter,
}

/// How long something may take before it is told of in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarnAfter {
    /// A call that is answered once, from its request until its answer.
    pub unary: Duration,
    /// A command while it is applied, or a range while it is read.
    pub apply: Duration,
}

impl Default for WarnAfter {
    fn default() -> WarnAfter {
        WarnAfter {
            unary: Duration::from_millis(300),
            apply: Duration::from_millis(100),
        }
    }
}

/// When a silent client is asked whether it is still there, and how long it has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// After so long without a word.
    pub interval: Duration,
    /// It is given up after so long more.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    /// etcd waits for two hours; a dead client is noticed sooner here.
    fn default() -> KeepAlive {
        KeepAlive {
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(20),
        }
    }
}

impl ServerConfig {
    /// A cluster of one member with etcd's defaults, listening on loopback.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>) -> ServerConfig {
        let name = name.into();
        let peer = Url::new("localhost", 2380);
        let mut initial_cluster = InitialCluster::default();
        initial_cluster.insert(name.clone(), peer.clone());
        ServerConfig {
            name,
            data_dir: data_dir.into(),
            listen_peer_urls: vec![peer.clone()],
            listen_client_urls: vec![Url::new("localhost", 2379)],
            listen_metrics_urls: Vec::new(),
            reuse_port: false,
            initial_advertise_peer_urls: vec![peer],
            advertise_client_urls: Vec::new(),
            client_tls: None,
            peer_tls: None,
            initial_cluster,
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_state: ClusterState::New,
            initial_witnesses: BTreeSet::new(),
            learner_promotion: LearnerPromotion::Automatic,
            strict_reconfig_check: true,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            auto_compaction: None,
            keep_alive: KeepAlive::default(),
            client_patience: Duration::from_secs(30),
            web: Web::default(),
            limits: Limits::default(),
            watch_progress_interval: Duration::from_secs(600),
            auth: AuthConfig::default(),
            warn_after: WarnAfter::default(),
        }
    }

    /// How long a request may take: etcd's 5 s and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The shortest lease in seconds: one that an election cannot outlast.
    pub fn min_lease_ttl(&self) -> i64 {
        let millis = self.election_timeout.as_millis() * 3 / 2;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }

    /// How all members' peer URLs begin.
    pub(crate) fn peer_scheme(&self) -> Scheme {
        match &self.peer_tls {
            None => Scheme::Http,
            Some(_) => Scheme::Https,
        }
    }
}
