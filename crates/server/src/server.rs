//! One member of a cluster: start, stop, and where it is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use quorate::{NodeId, PeerTls, Replica, SnapshotPolicy, Stopped};
use quorate_kv::WatchConfig;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::addresses::{Addresses, Most};
use crate::auth::Tokens;
use crate::backup::SaltError;
use crate::config::{ConfigError, Identity, ServerConfig};
use crate::flag::raised;
use crate::http::Pages;
use crate::identity::{Entrance, EntranceError, entrance};
use crate::listener::{Answers, Door};
use crate::machine::{KvMachine, Shared};
use crate::meter::Meter;
use crate::metrics::{Metrics, max_fds};
use crate::node::{Node, Parts, ReplicaObserver};
use crate::rpc::Methods;
use crate::security::{self, Entry, Security};
use crate::surface::Surface;
use crate::url::{Scheme, Url};
use crate::{compaction, leases, listener, tasks};

/// A running member. Dropping it leaves it to its fate; [`Server::shutdown`] ends it in order.
pub struct Server {
    node: Arc<Node>,
    client_addrs: Vec<SocketAddr>,
    health: HealthReporter,
    ready: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Why a member did not start, in one line that says what to do. Nothing has been changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be listened on.
    #[error("cannot listen on {url}: {source}; {}", listen_advice(source, flag))]
    Listen {
        /// Where it should have listened.
        url: Url,
        /// The flag that says so.
        flag: &'static str,
        /// Why it could not.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(#[from] quorate_tls::TlsError),
    /// The cluster that the member is to join does not say who it is.
    #[error(
        "--initial-cluster-state is existing and the data directory is empty, so this node joins the members in --initial-cluster: {0}"
    )]
    Join(quorate::InquiryError),
    /// What the ids of a restored member are computed from is not known.
    #[error(transparent)]
    Restored(SaltError),
    /// The data is another member's or cluster's.
    #[error(
        "{0}. The ids are computed from --initial-cluster, --initial-cluster-token and --name: these must be those of the first start"
    )]
    Foreign(quorate::StartError),
    /// The data cannot be opened, belongs to another member or cluster, or is in use.
    #[error(transparent)]
    Replica(quorate::StartError),
}

impl From<quorate::StartError> for StartError {
    fn from(error: quorate::StartError) -> StartError {
        use quorate::storage::StorageError;
        if let quorate::StartError::Storage(StorageError::Foreign { .. }) = error {
            return StartError::Foreign(error);
        }
        StartError::Replica(error)
    }
}

impl Server {
    /// Starts a member: binds its ports, opens its data, joins its peers, and serves.
    ///
    /// It serves from here on, but may have to wait for its peers; see [`Server::ready`].
    pub async fn start(config: ServerConfig) -> Result<Server, StartError> {
        let told = config.check()?;
        let tokens = Tokens::load(&config.auth).map_err(ConfigError::from)?;
        // First of all: of a node that runs already, its directory tells more than its ports do.
        quorate::storage::inspect(&config.data_dir).map_err(quorate::StartError::from)?;
        let reuse = config.reuse_port;
        let (clients, client_addrs) = bind_all(&config.listen_client_urls, "--listen-client-urls", reuse)?;
        let (pages, _) = bind_all(&config.listen_metrics_urls, "--listen-metrics-urls", reuse)?;
        let peers = bind_peers(&config)?;
        let security = Security::open(&config)?;
        let entrance = enter(&config, told, security.peers.as_ref()).await?;
        let identity = entrance.identity.clone();
        let mut registry = Registry::default();
        let methods = Methods::new(&mut registry, config.warn_after.unary);
        let metrics = Arc::new(Metrics::new(registry));
        let shared = Arc::new(shared(&config));
        let peer_tls = security.peers.clone();
        let replica = start_replica(&config, &entrance, peers, security.peers, &shared, &metrics).await?;
        let (stop, stopping) = watch::channel(false);
        let (leaderless, is_leaderless) = watch::channel(false);
        let (ready, is_ready) = watch::channel(false);
        let node = Arc::new(Node::new(Parts {
            config,
            identity,
            peer_tls,
            replica,
            shared,
            metrics: Arc::clone(&metrics),
            tokens,
            ready: is_ready.clone(),
            leaderless: is_leaderless,
            stop: stopping,
        }));
        let health = HealthReporter::new();
        let own_pages = Pages::new(&node, &metrics);
        let surface = Surface::new(
            &node,
            methods,
            HealthService::from_health_reporter(health.clone()),
            own_pages.clone(),
        );
        let mut server = Server {
            node,
            client_addrs,
            health,
            ready: is_ready,
            stop,
            tasks: JoinSet::new(),
        };
        server.open(
            clients,
            &Arc::new(surface),
            pages,
            &Arc::new(own_pages),
            security.clients,
        );
        server.begin_chores(ready, leaderless);
        Ok(server)
    }

    /// Waits until the member has reached a majority and is known to it by name.
    pub async fn ready(&self) {
        raised(&mut self.ready.clone()).await;
    }

    /// Where the member listens for clients, the first of its addresses.
    pub fn client_addr(&self) -> SocketAddr {
        self.client_addrs[0]
    }

    /// Who the member and its peers are.
    pub fn identity(&self) -> &Identity {
        self.node.identity()
    }

    /// Whether the member knows a leader.
    pub fn has_leader(&self) -> bool {
        self.node.has_leader()
    }

    /// Whether the member leads.
    pub fn is_leader(&self) -> bool {
        self.node.is_leader()
    }

    /// Waits until the member has stopped by itself, because it could not go on without risking what it
    /// has acknowledged, and says why.
    pub async fn failed(&self) -> Stopped {
        tokio::select! {
            stopped = self.node.replica().closed() => stopped,
            () = tasks::removed(&self.node) => Stopped::Failed(REMOVED.into()),
        }
    }

    /// Stops: another member leads if one can, running requests are finished or refused, what is logged is
    /// written, all ports and files are free.
    pub async fn shutdown(mut self) {
        let not_serving = ServingStatus::NotServing;
        self.health.set_service_status("", not_serving).await;
        // While requests are still served here: those that come meanwhile are passed on.
        self.node.replica().hand_over().await;
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.node.replica().shutdown().await;
    }

    fn addresses(&self) -> Arc<Addresses> {
        let limits = &self.node.config().limits;
        let most = Most {
            connections: within_files(limits.max_connections_per_address, max_fds().unwrap_or(0)),
            handshakes: limits.max_handshakes_per_address(),
        };
        let refused = self.node.metrics().connections_refused.clone();
        Arc::new(Addresses::new(most, refused))
    }

    /// On which terms connections are taken at a URL.
    fn door(&self, url: &Url, entry: Option<&Arc<Entry>>, addresses: &Arc<Addresses>) -> Door {
        let config = self.node.config();
        Door {
            entry: match url.scheme() {
                Scheme::Http => None,
                Scheme::Https => entry.cloned(),
            },
            addresses: Arc::clone(addresses),
            max_concurrent_streams: config.limits.max_concurrent_streams,
            keep_alive: config.keep_alive,
            patience: config.client_patience,
        }
    }

    /// Takes connections: of clients, and of those who want pages alone.
    fn open(
        &mut self,
        clients: Vec<TcpListener>,
        surface: &Arc<Surface>,
        pages: Vec<TcpListener>,
        own_pages: &Arc<Pages>,
        entry: Option<Arc<Entry>>,
    ) {
        let (addresses, config) = (self.addresses(), self.node.config());
        let doors = |urls: &[Url]| -> Vec<Door> {
            let doors = urls.iter().map(|url| self.door(url, entry.as_ref(), &addresses));
            doors.collect()
        };
        let (client_doors, page_doors) = (
            doors(&config.listen_client_urls),
            doors(&config.listen_metrics_urls),
        );
        self.serve(clients, client_doors, surface);
        self.serve(pages, page_doors, own_pages);
        if let Some(entry) = entry {
            let refreshing = security::keep_fresh(entry, self.node.stop());
            self.tasks.spawn(refreshing);
        }
    }

    fn serve<A: Answers>(&mut self, listeners: Vec<TcpListener>, doors: Vec<Door>, surface: &Arc<A>) {
        for (listener, door) in listeners.into_iter().zip(doors) {
            let (surface, stop) = (Arc::clone(surface), self.node.stop());
            self.tasks.spawn(listener::serve(listener, door, surface, stop));
        }
    }

    fn begin_chores(&mut self, ready: watch::Sender<bool>, leaderless: watch::Sender<bool>) {
        let node = || Arc::clone(&self.node);
        let own = tasks::own_member(&self.node, self.advertised());
        self.tasks.spawn(tasks::publish(node(), own, ready));
        self.tasks.spawn(tasks::follow_leader(node(), leaderless));
        self.tasks.spawn(tasks::tidy(node()));
        self.tasks.spawn(tasks::tick_watches(node()));
        self.tasks.spawn(leases::expire(node()));
        if let Some(policy) = self.node.config().auto_compaction {
            self.tasks.spawn(compaction::compact(node(), policy));
        }
    }

    /// Where clients reach this member: as configured, else where it listens.
    fn advertised(&self) -> Vec<String> {
        let configured = &self.node.config().advertise_client_urls;
        if configured.is_empty() {
            let urls = self.node.config().listen_client_urls.iter();
            let listening = self.client_addrs.iter().zip(urls);
            let listening = listening.map(|(addr, url)| Url::from_addr(*addr).with_scheme(url.scheme()));
            listening.map(|url| url.to_string()).collect()
        } else {
            configured.iter().map(Url::to_string).collect()
        }
    }
}

fn shared(config: &ServerConfig) -> Shared {
    let watches = WatchConfig {
        stream_bytes: config.limits.watch_buffer_bytes,
        response_bytes: config.limits.watch_fragment_bytes(),
        progress_interval: config.watch_progress_interval,
    };
    Shared::new(watches, config.auth.simple_ttl)
}

/// So many connections that one address leaves half of the open files to the others; as many as asked for if it is not
/// known how many there may be.
fn within_files(connections: usize, files: u64) -> usize {
    let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
    if half == 0 || connections <= half {
        return connections;
    }
    tracing::warn!(
        "an address may have {half} connections, not {connections} (--max-connections-per-address): this process may open {files} files (ulimit -n)"
    );
    half
}

/// Listens on all of these URLs, which `flag` has named.
fn bind_all(
    urls: &[Url],
    flag: &'static str,
    reuse_port: bool,
) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let mut listeners = Vec::new();
    let mut addrs = Vec::new();
    for url in urls {
        let listener = bind(url, flag, reuse_port)?;
        let addr = listener.local_addr();
        addrs.push(addr.map_err(|source| not_bound(url, flag, source))?);
        listeners.push(listener);
    }
    Ok((listeners, addrs))
}

fn bind_peers(config: &ServerConfig) -> Result<std::net::TcpListener, StartError> {
    // The configuration has exactly one: its check has seen to that.
    let url = &config.listen_peer_urls[0];
    let listener = bind(url, "--listen-peer-urls", config.reuse_port)?.into_std();
    listener.map_err(|source| not_bound(url, "--listen-peer-urls", source))
}

fn bind(url: &Url, flag: &'static str, reuse_port: bool) -> Result<TcpListener, StartError> {
    let listen = || {
        let addr = url.resolve()?;
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        // Ports of connections that are closing may be taken over.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(reuse_port)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| not_bound(url, flag, source))
}

fn listen_advice(source: &io::Error, flag: &str) -> String {
    let kind = source.kind();
    if kind == io::ErrorKind::AddrInUse {
        format!("stop what uses it, or choose another with {flag}")
    } else if kind == io::ErrorKind::AddrNotAvailable {
        format!("it is not an address of this machine: give one with {flag}")
    } else {
        format!("correct {flag}")
    }
}

fn not_bound(url: &Url, flag: &'static str, source: io::Error) -> StartError {
    let url = url.clone();
    StartError::Listen { url, flag, source }
}

/// Finds out who the member is: a node that joins has to ask.
async fn enter(
    config: &ServerConfig,
    told: Identity,
    peer_tls: Option<&PeerTls>,
) -> Result<Entrance, StartError> {
    let (config, peer_tls) = (config.clone(), peer_tls.cloned());
    let entering = tokio::task::spawn_blocking(move || entrance(&config, told, peer_tls.as_ref())).await;
    let entered = entering.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    entered.map_err(|error| match error {
        EntranceError::Directory(error) => quorate::StartError::from(error).into(),
        EntranceError::Salt(error) => StartError::Restored(error),
        EntranceError::Inquiry(error) => StartError::Join(error),
    })
}

async fn start_replica(
    config: &ServerConfig,
    entrance: &Entrance,
    peers: std::net::TcpListener,
    peer_tls: Option<PeerTls>,
    shared: &Arc<Shared>,
    metrics: &Arc<Metrics>,
) -> Result<Replica<KvMachine>, StartError> {
    let mut replica_config = replica_config(config, entrance, peers, metrics);
    replica_config.tls = peer_tls;
    let machine = KvMachine::new(Arc::clone(shared), Meter::new(metrics, config.warn_after.apply));
    let start = move || Replica::start(replica_config, machine);
    let started = tokio::task::spawn_blocking(start).await;
    Ok(started.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
}

fn replica_config(
    config: &ServerConfig,
    entrance: &Entrance,
    listener: std::net::TcpListener,
    metrics: &Arc<Metrics>,
) -> quorate::Config {
    let mut replica = group_config(config, &entrance.identity);
    replica.start = entrance.start;
    replica.witnesses = entrance.witnesses.iter().copied().map(NodeId).collect();
    replica.listener = Some(Arc::new(listener));
    replica.tick = (config.heartbeat_interval / HEARTBEAT_TICKS).max(Duration::from_millis(1));
    replica.heartbeat_ticks = HEARTBEAT_TICKS;
    let election_ticks = config.election_timeout.as_millis() / replica.tick.as_millis();
    replica.election_ticks = u32::try_from(election_ticks).unwrap_or(u32::MAX);
    replica.snapshots = SnapshotPolicy {
        every_entries: config.snapshot_count,
        ..SnapshotPolicy::default()
    };
    replica.limits.retained_entries = config.snapshot_catchup_entries.min(config.snapshot_count);
    // A request and what is said of its caller.
    let command = config.limits.max_request_bytes as u64 + CALLER_BYTES;
    replica.limits.max_command_bytes = replica.limits.max_command_bytes.max(command);
    replica.max_peer_connections_per_address = config.limits.max_peer_connections_per_address;
    replica.max_pending_peer_connections = config.limits.max_pending_peer_connections;
    replica.request_timeout = config.request_timeout();
    replica.observer = Some(Arc::new(ReplicaObserver::new(
        &config.name,
        &entrance.identity,
        metrics,
    )));
    replica
}

/// Who the node is, who its peers are, and where it keeps its data.
pub(crate) fn group_config(config: &ServerConfig, identity: &Identity) -> quorate::Config {
    let addresses = identity.members.iter();
    let addresses = addresses.map(|(id, member)| (*id, member.peer_urls[0].authority()));
    let mut replica = quorate::Config::new(identity.member_id)
        .cluster(identity.cluster_id)
        .peers(addresses)
        .data_dir(&config.data_dir);
    let witnesses = identity.witnesses.iter();
    replica.witnesses = witnesses.copied().map(NodeId).collect();
    let names = identity.members.iter();
    replica.names = names
        .map(|(id, member)| (NodeId(*id), member.name.clone()))
        .collect();
    replica
}

const REMOVED: &str = "it was removed from the cluster, for good: remove its data directory; it can come back only as a new member, \
                       which is added first";
/// Timeouts are drawn in ticks: two to a heartbeat spread elections well.
const HEARTBEAT_TICKS: u32 = 2;
const BACKLOG: u32 = 4096;
const CALLER_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_use_up_the_open_files() {
        assert_eq!(within_files(10_000, 1_000_000), 10_000);
        assert_eq!(within_files(10_000, 1024), 512);
        assert_eq!(within_files(10, 1024), 10);
        assert_eq!(within_files(10_000, 0), 10_000);
    }

    fn not_listening(url: &str) -> String {
        let url = url.parse().unwrap();
        bind(&url, "--listen-client-urls", false).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_listened_on_says_why() {
        let text = not_listening("http://192.0.2.1:2379");
        assert!(text.contains("not an address of this machine"), "{text}");
        let text = not_listening("http://nowhere.invalid:2379");
        assert!(text.contains("cannot be resolved"), "{text}");
    }
}
