//! What a member is told at its start, and what follows from it.
//!
//! - [`ServerConfig`] has a field for each of etcd's flags that mean the same here.
//! - [`ServerConfig::check`] turns it into [`Identity`]: nothing is opened or bound before it passes.
//! - Ids are drawn from the peer URLs and the token by a hash, so that every member computes the
//!   same ones without asking another.
//!
//! It leaves out flags, environment and files, which are the command line's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::auth::{AuthConfig, AuthTokenError};
use crate::backup::Salt;
use crate::security::{self, ClientTls, MemberTls, SecurityError};
use crate::url::{Scheme, Url, UrlError};

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
    /// How often a leader shows that it is alive.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for a leader before it campaigns. At least five heartbeats.
    pub election_timeout: Duration,
    /// Commands applied between two snapshots of the state.
    pub snapshot_count: u64,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// How often a watcher that asked for it is told how far it is, if nothing happens.
    pub watch_progress_interval: Duration,
    /// Passwords and tokens. Whether they are needed is part of the data.
    pub auth: AuthConfig,
}

/// Bounds on what clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request that goes to the log.
    pub max_request_bytes: usize,
    /// Compares, or operations of one branch, of a transaction.
    pub max_txn_ops: usize,
    /// Requests and streams at one time on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes of events that may wait for a slow watch stream before it has to catch up from history.
    pub watch_buffer_bytes: usize,
}

impl Limits {
    /// Bytes of an encoded gRPC message: above the limit on requests, so that a request which is
    /// somewhat too large is read and answered by etcd's own error.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes.saturating_mul(4)
    }

    /// Bytes of a watch response above which it is sent in fragments to those who asked for it.
    pub fn watch_fragment_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(512 * 1024)
    }
}

/// Whether a cluster starts for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// All members start with empty directories.
    New,
    /// The member has been here before and finds its data, or was added and has an empty directory.
    Existing,
}

/// When a learner becomes a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnerPromotion {
    /// As soon as it has caught up.
    Automatic,
    /// When somebody says so.
    ByHand,
}

impl FromStr for ClusterState {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<ClusterState, ConfigError> {
        match text {
            "new" => Ok(ClusterState::New),
            "existing" => Ok(ClusterState::Existing),
            _ => Err(ConfigError::ClusterState(text.to_owned())),
        }
    }
}

/// The members of a cluster by name, each with its peer URLs.
///
/// It reads and prints as etcd's flag does: `a=http://10.0.0.1:2380,b=http://10.0.0.2:2380`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster(BTreeMap<String, BTreeSet<Url>>);

impl InitialCluster {
    /// Adds a peer URL of a member.
    pub fn insert(&mut self, name: impl Into<String>, url: Url) {
        self.0.entry(name.into()).or_default().insert(url);
    }

    /// The peer URLs of a member.
    pub fn urls(&self, name: &str) -> Option<&BTreeSet<Url>> {
        self.0.get(name)
    }

    /// The members in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<Url>)> {
        self.0.iter().map(|(name, urls)| (name.as_str(), urls))
    }
}

impl FromStr for InitialCluster {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<InitialCluster, ConfigError> {
        let mut cluster = InitialCluster::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, url) = part
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| ConfigError::ClusterForm(part.to_owned()))?;
            cluster.insert(name, url.parse()?);
        }
        Ok(cluster)
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
            .collect();
        f.write_str(&parts.join(","))
    }
}

/// Who a member is and who its peers are, computed alike by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// The members by id, as far as they are known before the log says who they are.
    pub members: BTreeMap<u64, MemberConfig>,
    /// Those of them that are witnesses.
    pub witnesses: Vec<u64>,
}

/// A member as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its name.
    pub name: String,
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<Url>,
}

/// What is wrong with a configuration, in one line that says what to do.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A URL cannot be read.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// What is said of TLS makes no sense.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The name is empty.
    #[error("the member has no name: give it one with --name")]
    NoName,
    /// A part of `--initial-cluster` is not `name=URL`.
    #[error("--initial-cluster: {0:?} must have the form name=http://host:port")]
    ClusterForm(String),
    /// The member is not in its own cluster.
    #[error("--initial-cluster has no member named {0:?}: add {0}=<its peer URL>, or correct --name")]
    NotAMember(String),
    /// The advertised peer URLs are not those in the cluster.
    #[error(
        "--initial-advertise-peer-urls {advertised} differs from --initial-cluster, which has {listed} for {name:?}: make them equal"
    )]
    PeerUrlsDiffer {
        /// The member's name.
        name: String,
        /// What it advertises.
        advertised: String,
        /// What the cluster says of it.
        listed: String,
    },
    /// Two members share a peer URL.
    #[error("--initial-cluster: members {0:?} and {1:?} share the peer URL {2}: give each its own")]
    SharedPeerUrl(String, String, Url),
    /// A list of URLs to listen on has the wrong length.
    #[error("{0} needs {1}")]
    ListenUrls(&'static str, &'static str),
    /// Clients and peers are to be listened to at one address.
    #[error("--listen-client-urls and --listen-peer-urls both name {0}: give each its own port")]
    SharedListenUrl(Url),
    /// `--initial-cluster-state` is neither of its two values.
    #[error("--initial-cluster-state {0:?} must be \"new\" or \"existing\"")]
    ClusterState(String),
    /// A node that is to join has nobody to ask.
    #[error(
        "--initial-cluster-state is existing and {0} has no data, so this node joins a cluster: name its members in --initial-cluster, or give the directory the member had"
    )]
    NobodyToJoin(String),
    /// A witness is no member.
    #[error("--initial-witnesses: {0:?} is not in --initial-cluster: add it there, or correct the name")]
    UnknownWitness(String),
    /// Nobody would keep the data.
    #[error("--initial-witnesses names all members: at least one must keep the data")]
    OnlyWitnesses,
    /// The timing cannot work.
    #[error(
        "--election-timeout {election:?} must be at least 5 times --heartbeat-interval {heartbeat:?} and at most 50s"
    )]
    Timing {
        /// The election timeout.
        election: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// Tokens cannot be made or read as configured.
    #[error(transparent)]
    AuthToken(#[from] AuthTokenError),
    /// A number that must be positive is not.
    #[error("{0} must be greater than 0")]
    NotPositive(&'static str),
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
            initial_advertise_peer_urls: vec![peer],
            advertise_client_urls: Vec::new(),
            client_tls: None,
            peer_tls: None,
            initial_cluster,
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_state: ClusterState::New,
            initial_witnesses: BTreeSet::new(),
            learner_promotion: LearnerPromotion::Automatic,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 10_000,
            limits: Limits::default(),
            watch_progress_interval: Duration::from_secs(600),
            auth: AuthConfig::default(),
        }
    }

    /// Who this member and its peers are, if the configuration makes sense.
    pub fn check(&self) -> Result<Identity, ConfigError> {
        self.check_urls()?;
        self.check_numbers()?;
        self.check_cluster()?;
        self.check_existing()?;
        self.check_witnesses()?;
        security::check(self)?;
        Ok(self.identity(None))
    }

    /// Whether the members of a cluster make sense, and this is one of them.
    pub(crate) fn check_members(&self) -> Result<(), ConfigError> {
        self.check_cluster()?;
        self.check_witnesses()
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

    fn check_urls(&self) -> Result<(), ConfigError> {
        if self.listen_peer_urls.len() != 1 {
            return Err(ConfigError::ListenUrls("--listen-peer-urls", "one URL"));
        }
        if self.listen_client_urls.is_empty() {
            return Err(ConfigError::ListenUrls("--listen-client-urls", "a URL"));
        }
        let peers = &self.listen_peer_urls[0];
        if peers.port() != 0 && self.listen_client_urls.contains(peers) {
            return Err(ConfigError::SharedListenUrl(peers.clone()));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        if self.heartbeat_interval.is_zero() {
            return Err(ConfigError::NotPositive("--heartbeat-interval"));
        }
        if self.auth.simple_ttl.is_zero() {
            return Err(ConfigError::NotPositive("--auth-token-ttl"));
        }
        if self.snapshot_count == 0 {
            return Err(ConfigError::NotPositive("--snapshot-count"));
        }
        let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
        if election < heartbeat * 5 || election > MAX_ELECTION_TIMEOUT {
            return Err(ConfigError::Timing { election, heartbeat });
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(ConfigError::NoName);
        }
        let listed = self
            .initial_cluster
            .urls(&self.name)
            .ok_or_else(|| ConfigError::NotAMember(self.name.clone()))?;
        let advertised: BTreeSet<Url> = self.initial_advertise_peer_urls.iter().cloned().collect();
        if advertised != *listed {
            return Err(ConfigError::PeerUrlsDiffer {
                name: self.name.clone(),
                advertised: join(&advertised),
                listed: join(listed),
            });
        }
        self.check_shared_urls()
    }

    fn check_shared_urls(&self) -> Result<(), ConfigError> {
        let mut owners: BTreeMap<&Url, &str> = BTreeMap::new();
        for (name, urls) in self.initial_cluster.iter() {
            for url in urls {
                if let Some(other) = owners.insert(url, name) {
                    let (other, name) = (other.to_owned(), name.to_owned());
                    return Err(ConfigError::SharedPeerUrl(other, name, url.clone()));
                }
            }
        }
        Ok(())
    }

    fn check_existing(&self) -> Result<(), ConfigError> {
        let is_empty = std::fs::read_dir(&self.data_dir)
            .map(|mut entries| entries.next().is_none())
            .unwrap_or(true);
        let is_alone = self.initial_cluster.0.len() < 2;
        match self.initial_cluster_state {
            ClusterState::Existing if is_empty && is_alone => {
                Err(ConfigError::NobodyToJoin(self.data_dir.display().to_string()))
            }
            ClusterState::Existing | ClusterState::New => Ok(()),
        }
    }

    fn check_witnesses(&self) -> Result<(), ConfigError> {
        let is_unknown = |name: &&String| self.initial_cluster.urls(name).is_none();
        if let Some(name) = self.initial_witnesses.iter().find(is_unknown) {
            return Err(ConfigError::UnknownWitness(name.clone()));
        }
        match self.initial_witnesses.len() < self.initial_cluster.0.len() {
            true => Ok(()),
            false => Err(ConfigError::OnlyWitnesses),
        }
    }

    /// Who this member and its peers are. In a cluster that was restored from a backup, its salt counts too.
    pub(crate) fn identity(&self, salt: Option<&Salt>) -> Identity {
        let salted = |text: String| match salt {
            None => text,
            Some(salt) => format!("{text}\n{}", salt.as_str()),
        };
        let mut members = BTreeMap::new();
        let mut witnesses = Vec::new();
        let mut member_id = 0;
        for (name, urls) in self.initial_cluster.iter() {
            let text = format!("{}\n{}", join(urls), self.initial_cluster_token);
            let id = hash_id(&salted(text));
            if name == self.name {
                member_id = id;
            }
            if self.initial_witnesses.contains(name) {
                witnesses.push(id);
            }
            let member = MemberConfig {
                name: name.to_owned(),
                peer_urls: urls.iter().cloned().collect(),
            };
            members.insert(id, member);
        }
        let ids: Vec<String> = members.keys().map(|id| format!("{id:016x}")).collect();
        Identity {
            cluster_id: hash_id(&ids.join("\n")),
            member_id,
            members,
            witnesses,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: 20_000,
            watch_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}

fn join(urls: &BTreeSet<Url>) -> String {
    let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.join(",")
}

/// The first eight bytes of the text's SHA-256, and never 0, which means "none" on the wire.
fn hash_id(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(head).max(1)
}

const MAX_ELECTION_TIMEOUT: Duration = Duration::from_secs(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn three(name: &str) -> ServerConfig {
        let cluster = "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380";
        let mut config = ServerConfig::new(name, "nowhere");
        config.initial_cluster = cluster.parse().unwrap();
        let own = config.initial_cluster.urls(name);
        config.initial_advertise_peer_urls = own.into_iter().flatten().cloned().collect();
        config
    }

    fn error(change: impl FnOnce(&mut ServerConfig)) -> String {
        let mut config = three("a");
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn members_compute_the_same_ids() {
        let (a, b) = (three("a").check().unwrap(), three("b").check().unwrap());
        assert_eq!((a.cluster_id, &a.members), (b.cluster_id, &b.members));
        assert_ne!(a.member_id, b.member_id);
        assert_eq!(a.members[&b.member_id].name, "b");
    }

    #[test]
    fn another_token_makes_another_cluster() {
        let mut other = three("a");
        other.initial_cluster_token = "other".to_owned();
        let (a, other) = (three("a").check().unwrap(), other.check().unwrap());
        assert_ne!(a.cluster_id, other.cluster_id);
        assert_ne!(a.member_id, other.member_id);
    }

    #[test]
    fn defaults_make_a_cluster_of_one() {
        let identity = ServerConfig::new("default", "nowhere").check().unwrap();
        assert_eq!(identity.members.len(), 1);
    }

    #[test]
    fn a_member_that_is_not_in_its_cluster_is_told_so() {
        let text = error(|config| config.name = "d".to_owned());
        assert!(text.contains("no member named \"d\""), "{text}");
    }

    #[test]
    fn advertised_urls_must_be_those_of_the_cluster() {
        let text = error(|config| {
            config.initial_advertise_peer_urls = vec!["http://10.0.0.9:2380".parse().unwrap()];
        });
        assert!(text.contains("10.0.0.9") && text.contains("10.0.0.1"), "{text}");
    }

    #[test]
    fn two_members_cannot_share_a_url() {
        let text = error(|config| {
            let url = "http://10.0.0.2:2380".parse().unwrap();
            config.initial_cluster.insert("c", url);
        });
        assert!(text.contains("share"), "{text}");
    }

    #[test]
    fn clients_and_peers_have_a_port_each() {
        let text = error(|config| config.listen_client_urls = config.listen_peer_urls.clone());
        assert!(
            text.contains("--listen-client-urls") && text.contains("--listen-peer-urls"),
            "{text}"
        );
    }

    #[test]
    fn urls_and_certificates_must_agree() {
        let secured = |config: &mut ServerConfig| {
            let text = config.initial_cluster.to_string().replace("http:", "https:");
            config.initial_cluster = text.parse().unwrap();
            for url in config
                .initial_advertise_peer_urls
                .iter_mut()
                .chain(&mut config.listen_peer_urls)
            {
                *url = url.clone().with_scheme(Scheme::Https);
            }
        };
        let text = error(secured);
        assert!(text.contains("--peer-cert-file"), "{text}");
        let text = error(|config| config.peer_tls = Some(MemberTls::Automatic));
        assert!(
            text.contains("would not be secured") && text.contains("--listen-peer-urls"),
            "{text}"
        );
        let text = error(|config| {
            config
                .initial_cluster
                .insert("d", "https://10.0.0.4:2380".parse().unwrap());
        });
        assert!(text.contains("differ in http:// and https://"), "{text}");
        let text = error(|config| config.client_tls = Some(ClientTls::Automatic));
        assert!(
            text.contains("would not be secured") && text.contains("--listen-client-urls"),
            "{text}"
        );
        let text = error(|config| config.listen_client_urls = vec!["https://h:1".parse().unwrap()]);
        assert!(text.contains("https://h:1 needs a certificate"), "{text}");
        let mut config = three("a");
        secured(&mut config);
        config.peer_tls = Some(MemberTls::Automatic);
        config.listen_client_urls.push("https://h:1".parse().unwrap());
        config.client_tls = Some(ClientTls::Automatic);
        assert!(config.check().is_ok(), "a client URL in clear may stand beside");
    }

    #[test]
    fn an_election_lasts_five_heartbeats() {
        let text = error(|config| config.election_timeout = Duration::from_millis(499));
        assert!(text.contains("5 times"), "{text}");
        let text = error(|config| config.election_timeout = Duration::from_secs(51));
        assert!(text.contains("50s"), "{text}");
    }

    #[test]
    fn who_joins_names_somebody_to_ask() {
        let mut config = ServerConfig::new("a", "nowhere");
        config.initial_cluster_state = ClusterState::Existing;
        let text = config.check().unwrap_err().to_string();
        assert!(
            text.contains("nowhere") && text.contains("--initial-cluster"),
            "{text}"
        );
        let mut config = three("a");
        config.initial_cluster_state = ClusterState::Existing;
        assert!(config.check().is_ok());
    }

    #[test]
    fn witnesses_are_members_and_leave_somebody_with_the_data() {
        let witnesses = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let text = error(|config| config.initial_witnesses = witnesses(&["d"]));
        assert!(text.contains("\"d\""), "{text}");
        let text = error(|config| config.initial_witnesses = witnesses(&["a", "b", "c"]));
        assert!(text.contains("keep the data"), "{text}");
        let mut config = three("a");
        config.initial_witnesses = witnesses(&["c"]);
        let identity = config.check().unwrap();
        assert_eq!(identity.members[&identity.witnesses[0]].name, "c");
    }

    #[test]
    fn the_shortest_lease_outlasts_an_election() {
        let mut config = three("a");
        assert_eq!(config.min_lease_ttl(), 2);
        config.election_timeout = Duration::from_millis(500);
        assert_eq!(config.min_lease_ttl(), 1);
    }

    #[test]
    fn a_cluster_prints_as_it_was_read() {
        let text = "a=http://h:1,a=http://h:2,b=http://h:3";
        assert_eq!(text.parse::<InitialCluster>().unwrap().to_string(), text);
        assert!("a".parse::<InitialCluster>().is_err());
        assert!("=http://h:1".parse::<InitialCluster>().is_err());
    }
}
