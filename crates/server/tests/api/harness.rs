//! Servers in this process, and clients for them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use quorate_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::lease_client::LeaseClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::watch_client::WatchClient;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::mvccpb::KeyValue;
use quorate_server::{ClusterState, InitialCluster, Server, ServerConfig, Url};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// Servers of one cluster, in this process, over directories that go with it.
pub(crate) struct Cluster {
    configs: Vec<ServerConfig>,
    servers: Vec<Option<Server>>,
    dir: TempDir,
}

impl Cluster {
    /// Starts `size` members and waits until each serves.
    pub(crate) async fn start(size: usize) -> Cluster {
        Cluster::start_with(size, |_| {}).await
    }

    /// Starts members whose configuration `change` has changed.
    pub(crate) async fn start_with(size: usize, change: impl Fn(&mut ServerConfig)) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut configs = configs(size, &dir);
        configs.iter_mut().for_each(change);
        let mut servers = Vec::new();
        for config in &configs {
            servers.push(Some(Server::start(config.clone()).await.unwrap()));
        }
        let cluster = Cluster {
            configs,
            servers,
            dir,
        };
        for member in 0..size {
            cluster.server(member).ready().await;
        }
        cluster
    }

    /// A running member.
    pub(crate) fn server(&self, member: usize) -> &Server {
        self.servers[member].as_ref().unwrap()
    }

    /// What a member was told at its start.
    pub(crate) fn config(&self, member: usize) -> &ServerConfig {
        &self.configs[member]
    }

    /// Stops a member and leaves its data.
    pub(crate) async fn stop(&mut self, member: usize) {
        let server = self.servers[member].take().unwrap();
        server.shutdown().await;
    }

    /// Starts a stopped member again, without waiting until it serves.
    pub(crate) async fn restart(&mut self, member: usize) {
        let server = Server::start(self.configs[member].clone()).await.unwrap();
        self.servers[member] = Some(server);
    }

    /// The configuration of one more member, which is none yet.
    pub(crate) fn room(&self, name: &str) -> ServerConfig {
        let mut config = self.configs[0].clone();
        let host = own_host();
        let port = free_ports(&host, 1)[0];
        config.name = name.to_owned();
        config.data_dir = self.dir.path().join(name);
        config.listen_peer_urls = vec![Url::new(&host, port)];
        config.initial_advertise_peer_urls = config.listen_peer_urls.clone();
        config.initial_cluster.insert(name, Url::new(&host, port));
        config.initial_cluster_state = ClusterState::Existing;
        config
    }

    /// Starts a member that was added; its place.
    pub(crate) async fn join(&mut self, config: ServerConfig) -> usize {
        let server = Server::start(config.clone()).await.unwrap();
        self.configs.push(config);
        self.servers.push(Some(server));
        self.servers.len() - 1
    }

    /// A client of one member.
    pub(crate) fn client(&self, member: usize) -> Client {
        let addr = self.server(member).client_addr();
        let channel = Endpoint::from_shared(format!("http://{addr}"))
            .unwrap()
            .connect_lazy();
        Client::new(channel)
    }

    /// The place of the leader, once there is one.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (place, server) in self.servers.iter().enumerate() {
                if let Some(server) = server
                    && server.is_leader()
                {
                    return place;
                }
            }
            assert!(Instant::now() < deadline, "no leader within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn configs(size: usize, dir: &TempDir) -> Vec<ServerConfig> {
    let mut initial_cluster = InitialCluster::default();
    let names: Vec<String> = (1..=size).map(|n| format!("m{n}")).collect();
    let host = own_host();
    let ports = free_ports(&host, size);
    for (name, &port) in names.iter().zip(&ports) {
        initial_cluster.insert(name.as_str(), Url::new(&host, port));
    }
    let config = |(name, &port): (&String, &u16)| {
        let mut config = ServerConfig::new(name.as_str(), dir.path().join(name));
        config.listen_peer_urls = vec![Url::new(&host, port)];
        config.initial_advertise_peer_urls = config.listen_peer_urls.clone();
        config.listen_client_urls = vec![Url::new("127.0.0.1", 0)];
        config.initial_cluster = initial_cluster.clone();
        config.heartbeat_interval = Duration::from_millis(50);
        config.election_timeout = Duration::from_millis(500);
        config
    };
    names.iter().zip(&ports).map(config).collect()
}

/// A loopback address that no other cluster, test process or outgoing connection uses: a port that is free
/// there stays free.
pub(crate) fn own_host() -> String {
    static CLUSTERS: AtomicU32 = AtomicU32::new(1);
    let (process, cluster) = (
        std::process::id() % 0xffff,
        CLUSTERS.fetch_add(1, Ordering::Relaxed),
    );
    format!("127.{}.{}.{cluster}", 1 + process / 256 % 254, process % 256)
}

/// Ports that nobody listens on at `host`; all held at once, so that they differ.
pub(crate) fn free_ports(host: &str, count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((host, 0)).unwrap())
        .collect();
    held.iter()
        .map(|held| held.local_addr().unwrap().port())
        .collect()
}

/// The generated clients over one connection, with the calls that tests make most.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) watch: WatchClient<Channel>,
    pub(crate) lease: LeaseClient<Channel>,
    pub(crate) cluster: ClusterClient<Channel>,
    pub(crate) maintenance: MaintenanceClient<Channel>,
    pub(crate) channel: Channel,
}

impl Client {
    /// The clients over this channel.
    pub(crate) fn new(channel: Channel) -> Client {
        Client {
            kv: KvClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            channel,
        }
    }

    pub(crate) async fn put(&mut self, key: &str, value: &str) -> i64 {
        let response = self.kv.put(put(key, value)).await.unwrap().into_inner();
        response.header.unwrap().revision
    }

    /// Puts until it is acknowledged: while leadership changes, a put may end with an unknown outcome.
    pub(crate) async fn put_again_and_again(&mut self, key: &str, value: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(status) = self.kv.put(put(key, value)).await {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            assert!(Instant::now() < deadline, "writes have not resumed: {status}");
        }
    }

    /// The hash of all keys and values, and the revision it is of.
    pub(crate) async fn hash(&mut self, revision: i64) -> HashKvResponse {
        let request = HashKvRequest { revision };
        self.maintenance.hash_kv(request).await.unwrap().into_inner()
    }

    pub(crate) async fn delete(&mut self, key: &str, range_end: &str) -> DeleteRangeResponse {
        let request = DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            prev_kv: true,
        };
        self.kv.delete_range(request).await.unwrap().into_inner()
    }

    pub(crate) async fn range(&mut self, request: RangeRequest) -> RangeResponse {
        self.kv.range(request).await.unwrap().into_inner()
    }

    pub(crate) async fn get(&mut self, key: &str) -> Option<KeyValue> {
        self.range(range(key, "")).await.kvs.pop()
    }

    pub(crate) async fn compact(&mut self, revision: i64) {
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        self.kv.compact(request).await.unwrap();
    }

    pub(crate) async fn grant(&mut self, ttl: i64, id: i64) -> LeaseGrantResponse {
        let request = LeaseGrantRequest { ttl, id };
        self.lease.lease_grant(request).await.unwrap().into_inner()
    }
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn keys(response: &RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| text(&kv.key)).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that a call failed with one of etcd's errors, code and text.
#[track_caller]
pub(crate) fn check_error<T>(result: Result<Response<T>, Status>, error: quorate_etcd_api::EtcdError) {
    let status = result.map(|_| ()).expect_err("the call should have failed");
    assert_eq!((status.code(), status.message()), (error.code(), error.message()));
}

/// Longer than anything here takes on a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
