//! TLS on the client port and between members, with certificates of all kinds.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::rt::TokioIo;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::authpb::{Permission, permission::Type};
use quorate_etcd_api::etcdserverpb::auth_client::AuthClient;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::{
    ClientTls, Clients, CommonNames, InitialCluster, KeyPairFiles, MemberTls, PeerTls, Scheme, ServerConfig,
    StartError, TlsProtocol, TlsTerms,
};
use quorate_tls::testing::{Authority, Leaf};
use quorate_tls::{Connector, Trust};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::harness::*;

/// An authority for clients and one for peers, and where their certificates are.
struct World {
    clients: Authority,
    peers: Authority,
    directory: TempDir,
}

impl World {
    fn new() -> World {
        World {
            clients: Authority::new("clients"),
            peers: Authority::new("peers"),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Clients must show certificates by the authority for clients.
    fn secure_clients(&self, config: &mut ServerConfig) {
        config.listen_client_urls = https(&config.listen_client_urls);
        config.client_tls = Some(ClientTls::Certificate {
            pair: self.server_pair(),
            clients: Clients::CertifiedBy(self.clients.write(self.path(), "client-ca")),
            terms: TlsTerms::default(),
            names: CommonNames::Users,
        });
    }

    /// The certificate of all servers; issued again at each call.
    fn server_pair(&self) -> KeyPairFiles {
        self.clients
            .issue(self.path(), "server", &Leaf::for_hosts(["127.0.0.1"]))
    }

    /// Members show each other certificates by the authority for peers.
    fn secure_peers(&self, config: &mut ServerConfig) {
        https_peers(config);
        let own = config.listen_peer_urls[0].host().to_owned();
        let pair = self.peers.issue(
            self.path(),
            &format!("peer-{}", config.name),
            &Leaf::for_hosts([own]),
        );
        let ca = self.peers.write(self.path(), "peer-ca");
        config.peer_tls = Some(MemberTls::Certificates(PeerTls::mutual(pair, ca)));
    }

    /// How a client connects that shows `leaf`, if any, by the authority for clients.
    fn connector(&self, leaf: Option<&Leaf>) -> Connector {
        let pair = leaf.map(|leaf| self.clients.issue(self.path(), "client", leaf));
        self.connector_with(pair)
    }

    fn connector_with(&self, pair: Option<KeyPairFiles>) -> Connector {
        let trust = Trust::CertifiedBy(self.clients.write(self.path(), "trusted"));
        Connector::open(pair, &trust, &[b"h2"]).unwrap()
    }
}

fn https(urls: &[quorate_server::Url]) -> Vec<quorate_server::Url> {
    let urls = urls.iter().cloned();
    urls.map(|url| url.with_scheme(Scheme::Https)).collect()
}

fn https_peers(config: &mut ServerConfig) {
    config.listen_peer_urls = https(&config.listen_peer_urls);
    config.initial_advertise_peer_urls = https(&config.initial_advertise_peer_urls);
    let mut cluster = InitialCluster::default();
    for (name, urls) in config.initial_cluster.iter() {
        for url in urls {
            cluster.insert(name, url.clone().with_scheme(Scheme::Https));
        }
    }
    config.initial_cluster = cluster;
}

/// A channel over TLS to a member.
fn channel(cluster: &Cluster, member: usize, connector: Connector) -> Channel {
    let addr = cluster.server(member).client_addr();
    let connector = Arc::new(connector);
    let connect = move |_: Uri| {
        let connector = Arc::clone(&connector);
        async move {
            let stream = TcpStream::connect(addr).await?;
            let connected = connector.connect("127.0.0.1", stream, PATIENCE).await;
            connected.map(TokioIo::new).map_err(std::io::Error::other)
        }
    };
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).unwrap();
    endpoint.connect_with_connector_lazy(tower::service_fn(connect))
}

/// Whether a put is taken; the reasons why not, outermost first.
async fn put_over(channel: Channel, key: &str) -> Result<(), String> {
    let mut client = Client::new(channel);
    let outcome = client.kv.put(put(key, "1")).await;
    outcome.map(drop).map_err(|status| {
        let mut text = status.to_string();
        let mut source = std::error::Error::source(&status);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_clients_by_tls_with_authorities_of_their_own() {
    let world = World::new();
    let cluster = Cluster::start_with(3, |config| {
        world.secure_clients(config);
        world.secure_peers(config);
    })
    .await;
    for member in 0..3 {
        let connector = world.connector(Some(&Leaf::named("alice")));
        put_over(channel(&cluster, member, connector), "key")
            .await
            .unwrap();
    }
    let mut client = Client::new(channel(&cluster, 0, world.connector(Some(&Leaf::named("alice")))));
    let request = quorate_etcd_api::etcdserverpb::MemberListRequest { linearizable: true };
    let members = client
        .cluster
        .member_list(request)
        .await
        .unwrap()
        .into_inner()
        .members;
    for member in &members {
        let urls = member.peer_ur_ls.iter().chain(&member.client_ur_ls);
        assert!(urls.clone().count() == 2, "{member:?}");
        assert!(
            urls.into_iter().all(|url| url.starts_with("https://")),
            "{member:?}"
        );
    }
    // A peer's certificate opens nothing here.
    let pair = world.peers.issue(world.path(), "intruder", &Leaf::named("alice"));
    let error = put_over(channel(&cluster, 0, world.connector_with(Some(pair))), "key").await;
    assert!(error.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_good_certificate_is_refused() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| world.secure_clients(config)).await;
    let strangers = Authority::new("strangers");
    let strange = strangers.issue(world.path(), "strange", &Leaf::named("root"));
    let cases = [
        ("none", world.connector(None)),
        ("expired", world.connector(Some(&Leaf::named("root").expired()))),
        ("another authority's", world.connector_with(Some(strange))),
    ];
    for (what, connector) in cases {
        let refused = put_over(channel(&cluster, 0, connector), "key").await;
        assert!(refused.is_err(), "{what}");
    }
    let addr = cluster.server(0).client_addr();
    let plain = Endpoint::from_shared(format!("http://{addr}"))
        .unwrap()
        .connect_lazy();
    assert!(put_over(plain, "key").await.is_err(), "plain text");
    let good = world.connector(Some(&Leaf::named("root")));
    put_over(channel(&cluster, 0, good), "key").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stalls_is_cut_and_harms_nobody() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| world.secure_clients(config)).await;
    let addr = cluster.server(0).client_addr();
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // The beginning of a handshake.
        stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        stalled.push(stream);
    }
    let good = world.connector(Some(&Leaf::named("alice")));
    put_over(channel(&cluster, 0, good), "key").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    for mut stream in stalled {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(deadline - Instant::now(), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "it was not cut");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_count_while_it_runs() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| world.secure_clients(config)).await;
    let old = channel(&cluster, 0, world.connector(Some(&Leaf::named("alice"))));
    put_over(old.clone(), "key").await.unwrap();

    // From another authority on, in both directions.
    let next = Authority::new("next");
    next.issue(world.path(), "server", &Leaf::for_hosts(["127.0.0.1"]));
    let ca = next.write(world.path(), "client-ca");
    let pair = next.issue(world.path(), "client", &Leaf::named("alice"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let connector = Connector::open(Some(pair.clone()), &Trust::CertifiedBy(ca.clone()), &[b"h2"]);
        match put_over(channel(&cluster, 0, connector.unwrap()), "key").await {
            Ok(()) => break,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let late = world.connector(Some(&Leaf::named("alice")));
    assert!(put_over(channel(&cluster, 0, late), "key").await.is_err());
    put_over(old, "key")
        .await
        .expect("a connection outlives what it began with");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_is_made_for_those_who_want_no_files() {
    let world = World::new();
    let cluster = Cluster::start_with(3, |config| {
        https_peers(config);
        config.peer_tls = Some(MemberTls::Automatic(TlsProtocol::default()));
        config.listen_client_urls = https(&config.listen_client_urls);
        config.client_tls = Some(ClientTls::Automatic(TlsProtocol::default()));
    })
    .await;
    let made = cluster.config(0).data_dir.join("tls/client-cert.pem");
    let connector = Connector::open(None, &Trust::CertifiedBy(made), &[b"h2"]).unwrap();
    put_over(channel(&cluster, 0, connector), "key").await.unwrap();
    let strict = world.connector(None);
    assert!(put_over(channel(&cluster, 0, strict), "key").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_joins_asks_by_tls() {
    let world = World::new();
    let mut cluster = Cluster::start_with(1, |config| world.secure_peers(config)).await;
    let mut config = cluster.room("m2");
    world.secure_peers(&mut config);
    let mut client = cluster.client(0);
    let add = |urls: &[quorate_server::Url]| quorate_etcd_api::etcdserverpb::MemberAddRequest {
        peer_ur_ls: urls.iter().map(ToString::to_string).collect(),
        is_learner: false,
    };
    let plain: Vec<_> = config
        .listen_peer_urls
        .iter()
        .cloned()
        .map(|url| url.with_scheme(Scheme::Http))
        .collect();
    let refused = client.cluster.member_add(add(&plain)).await.unwrap_err();
    assert!(refused.message().contains("https://HOST:PORT"), "{refused}");
    client
        .cluster
        .member_add(add(&config.listen_peer_urls))
        .await
        .unwrap();
    let place = cluster.join(config).await;
    cluster.server(place).ready().await;
    cluster.client(place).put_again_and_again("key", "1").await;
    // Each is asked by TLS whether it takes part before there is a third.
    let third = "https://127.0.0.1:9".parse().unwrap();
    for asked in [0, place] {
        let mut client = cluster.client(asked).cluster;
        let added = client
            .member_add(add(std::slice::from_ref(&third)))
            .await
            .unwrap();
        let id = added.into_inner().member.unwrap().id;
        client
            .member_remove(quorate_etcd_api::etcdserverpb::MemberRemoveRequest { id })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named_before_anything_is_made() {
    let world = World::new();
    let mut config = ServerConfig::new("m1", world.path().join("data"));
    config.listen_client_urls = vec!["https://127.0.0.1:0".parse().unwrap()];
    config.listen_peer_urls = vec![quorate_server::Url::new("127.0.0.1", 0)];
    config.client_tls = Some(ClientTls::Certificate {
        pair: KeyPairFiles {
            cert_file: world.path().join("no-such.pem"),
            ..world.server_pair()
        },
        clients: Clients::Anyone,
        terms: TlsTerms::default(),
        names: CommonNames::Unused,
    });
    let data_dir = config.data_dir.clone();
    match quorate_server::Server::start(config).await {
        Err(error @ StartError::Tls(_)) => assert!(error.to_string().contains("no-such.pem"), "{error}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
    assert!(!data_dir.exists());
}

/// Makes the users root and alice, who may write `a` to `c`, and turns authentication on.
async fn guard(channel: Channel) {
    let mut auth = AuthClient::new(channel);
    for (name, role) in [("root", "root"), ("alice", "writer")] {
        let add = AuthUserAddRequest {
            name: name.to_owned(),
            password: "secret".to_owned(),
            ..Default::default()
        };
        auth.user_add(add).await.unwrap();
        let role = role.to_owned();
        // The role root is there by itself, or is made by whoever enables authentication first.
        let _ = auth.role_add(AuthRoleAddRequest { name: role.clone() }).await;
        let user = name.to_owned();
        auth.user_grant_role(AuthUserGrantRoleRequest { user, role })
            .await
            .unwrap();
    }
    permit(&mut auth, "a", "c").await;
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
}

async fn permit(auth: &mut AuthClient<Channel>, key: &str, end: &str) {
    let permission = Permission {
        perm_type: Type::Readwrite.into(),
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
    };
    let request = AuthRoleGrantPermissionRequest {
        name: "writer".to_owned(),
        perm: Some(permission),
    };
    auth.role_grant_permission(request).await.unwrap();
}

fn cheap(config: &mut ServerConfig) {
    config.auth.bcrypt_cost = quorate_server::BcryptCost::new(4).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_a_certificate_is_the_user_of_who_shows_no_token() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| {
        world.secure_clients(config);
        cheap(config);
    })
    .await;
    let as_who = |leaf: Leaf| channel(&cluster, 0, world.connector(Some(&leaf)));
    let (root, alice) = (as_who(Leaf::named("root")), as_who(Leaf::named("alice")));
    guard(root.clone()).await;

    let mut alices = Client::new(alice.clone());
    alices.put("b", "1").await;
    check_error(alices.kv.put(put("x", "1")).await, EtcdError::PermissionDenied);
    let mut auth = AuthClient::new(alice);
    check_error(
        auth.user_list(AuthUserListRequest {}).await,
        EtcdError::PermissionDenied,
    );
    // Nobody logs in again when users or roles have changed.
    permit(&mut AuthClient::new(root.clone()), "x", "").await;
    alices.put("x", "1").await;

    let mut mallory = Client::new(as_who(Leaf::named("mallory")));
    check_error(mallory.kv.put(put("b", "1")).await, EtcdError::PermissionDenied);
    for leaf in [Leaf::default(), Leaf::named("alice").and_named("root")] {
        let mut nobody = Client::new(as_who(leaf));
        check_error(nobody.kv.put(put("b", "1")).await, EtcdError::UserEmpty);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_before_a_certificate() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| {
        world.secure_clients(config);
        cheap(config);
    })
    .await;
    let root = channel(&cluster, 0, world.connector(Some(&Leaf::named("root"))));
    guard(root.clone()).await;
    let mut auth = AuthClient::new(root.clone());
    let login = AuthenticateRequest {
        name: "alice".to_owned(),
        password: "secret".to_owned(),
    };
    let token = auth.authenticate(login).await.unwrap().into_inner().token;
    let with_token = |key, token: &str| {
        let mut request = tonic::Request::new(put(key, "1"));
        request.metadata_mut().insert("token", token.parse().unwrap());
        request
    };
    let mut client = Client::new(root);
    client.put("x", "1").await;
    check_error(
        client.kv.put(with_token("x", &token)).await,
        EtcdError::PermissionDenied,
    );
    client.kv.put(with_token("b", &token)).await.unwrap();
    let stale = client.kv.put(with_token("b", "no-token")).await;
    check_error(stale, EtcdError::InvalidAuthToken);
}

/// What the gateway says to a put by whoever shows `leaf`.
async fn put_by_gateway(cluster: &Cluster, connector: Connector) -> String {
    let addr = cluster.server(0).client_addr();
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut stream = connector.connect("127.0.0.1", stream, PATIENCE).await.unwrap();
    let body = r#"{"key":"Yg==","value":"MQ=="}"#;
    let request = format!(
        "POST /v3/kv/put HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_makes_nobody_a_user_by_a_certificate() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| {
        world.secure_clients(config);
        cheap(config);
    })
    .await;
    let root = channel(&cluster, 0, world.connector(Some(&Leaf::named("root"))));
    guard(root.clone()).await;
    let http = |leaf: Leaf| {
        let pair = world.clients.issue(world.path(), "http", &leaf);
        let trust = Trust::CertifiedBy(world.clients.write(world.path(), "trusted"));
        Connector::open(Some(pair), &trust, &[b"http/1.1"]).unwrap()
    };
    let answer = put_by_gateway(&cluster, http(Leaf::named("alice"))).await;
    assert!(answer.contains("user name is empty"), "{answer}");

    // Whoever says that it comes by the gateway is believed, as etcd does: it gains nothing by it.
    let mut request = tonic::Request::new(put("b", "1"));
    request
        .metadata_mut()
        .insert("grpcgateway-accept", "*/*".parse().unwrap());
    check_error(Client::new(root).kv.put(request).await, EtcdError::UserEmpty);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_certificates_mean_nothing_unless_they_are_asked_for() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| {
        world.secure_clients(config);
        cheap(config);
        if let Some(ClientTls::Certificate { names, .. }) = &mut config.client_tls {
            *names = CommonNames::Unused;
        }
    })
    .await;
    let root = channel(&cluster, 0, world.connector(Some(&Leaf::named("root"))));
    guard(root.clone()).await;
    check_error(
        Client::new(root).kv.put(put("b", "1")).await,
        EtcdError::UserEmpty,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_revoked_is_refused_at_every_listener() {
    let world = World::new();
    let host = own_host();
    let ports = free_ports(&host, 3);
    let url = |port: &u16| -> quorate_server::Url { format!("https://{host}:{port}").parse().unwrap() };
    let cluster = Cluster::start_with(1, |config| {
        world.secure_clients(config);
        config.listen_client_urls = ports[..2].iter().map(url).collect();
        config.listen_metrics_urls = ports[2..].iter().map(url).collect();
        if let Some(ClientTls::Certificate { terms, .. }) = &mut config.client_tls {
            terms.revoked_file = Some(world.clients.revoke(world.path(), "revoked", &[7]));
        }
    })
    .await;
    let page = async |port: &u16, leaf: &Leaf| {
        let pair = world.clients.issue(world.path(), "client", leaf);
        let connector = Connector::open(Some(pair), &Trust::Anyone, &[b"http/1.1"]).unwrap();
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        let mut stream = connector
            .connect(&host, stream, PATIENCE)
            .await
            .map_err(std::io::Error::other)?;
        let request = b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        stream.flush().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    for port in &ports {
        let good = page(port, &Leaf::named("alice").numbered(8)).await.unwrap();
        assert!(good.starts_with("HTTP/1.1 200"), "{good}");
        assert!(
            page(port, &Leaf::named("alice").numbered(7)).await.is_err(),
            "{port}"
        );
    }
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_when_its_certificate_is_revoked() {
    let world = World::new();
    let cluster = Cluster::start_with(1, |config| {
        world.secure_clients(config);
        if let Some(ClientTls::Certificate { terms, .. }) = &mut config.client_tls {
            terms.revoked_file = Some(world.clients.revoke(world.path(), "revoked", &[9]));
        }
    })
    .await;
    let watch = async |leaf: Leaf| {
        let mut client = Client::new(channel(&cluster, 0, world.connector(Some(&leaf))));
        let create = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
                key: "key".into(),
                ..Default::default()
            })),
        };
        let requests = futures::StreamExt::chain(futures::stream::iter([create]), futures::stream::pending());
        let mut answers = client.watch.watch(requests).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().unwrap().created);
        (client, answers)
    };
    let (_bob, mut bobs) = watch(Leaf::named("bob").numbered(7)).await;
    let (mut alice, mut alices) = watch(Leaf::named("alice").numbered(8)).await;
    world.clients.revoke(world.path(), "revoked", &[9, 7]);
    let ended = tokio::time::timeout(PATIENCE, bobs.message()).await;
    let ended = ended.expect("the connection of a revoked certificate goes on");
    assert!(ended.is_err(), "{ended:?}");
    alice.put("key", "1").await;
    let told = alices.message().await.unwrap().unwrap();
    assert_eq!(told.events.len(), 1, "{told:?}");
}
