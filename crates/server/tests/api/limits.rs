//! Bounds on requests, and starts that cannot be.

use std::net::TcpListener;

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::AutoCompaction;
use quorate_server::{Server, StartError};
use tokio::io::AsyncReadExt;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::harness::{Cluster, check_error, put, range};

#[tokio::test]
async fn a_request_above_the_limit_is_too_large_and_one_below_is_not() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for megabytes in [2, 4] {
        let value = "x".repeat(megabytes << 20);
        check_error(client.kv.put(put("a", &value)).await, EtcdError::RequestTooLarge);
    }
    assert!(client.get("a").await.is_none());
    client.put("a", &"x".repeat(1_500_000)).await;
    assert_eq!(client.get("a").await.unwrap().value.len(), 1_500_000);
}

#[tokio::test]
async fn a_message_far_above_the_limit_is_refused_before_it_is_read() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let status = client.kv.put(put("a", &"x".repeat(8 << 20))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    client.put("a", "1").await;
}

#[tokio::test]
async fn whoever_requires_a_leader_is_refused_without_one() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while cluster.server(0).has_leader() {
        assert!(std::time::Instant::now() < deadline, "a leader without a quorum");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut request = Request::new(range("a", ""));
    request
        .metadata_mut()
        .insert("hasleader", MetadataValue::from_static("true"));
    check_error(cluster.client(0).kv.range(request).await, EtcdError::NoLeader);

    let mut local = range("a", "");
    local.serializable = true;
    assert_eq!(cluster.client(0).range(local).await.count, 0);
    check_error(cluster.client(0).kv.put(put("a", "1")).await, EtcdError::Timeout);
}

/// The error of starting a second server over the first one's configuration, changed.
async fn start_error(change: impl FnOnce(&mut quorate_server::ServerConfig)) -> StartError {
    let mut cluster = Cluster::start(1).await;
    let mut config = cluster.config(0).clone();
    cluster.stop(0).await;
    change(&mut config);
    let error = Server::start(config)
        .await
        .err()
        .expect("the start should have failed");
    assert!(!error.to_string().contains('\n'), "{error}");
    cluster.restart(0).await;
    cluster.server(0).ready().await;
    error
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = start_error(|config| {
        config.listen_client_urls = vec![format!("http://127.0.0.1:{port}").parse().unwrap()];
    })
    .await;
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
}

#[tokio::test]
async fn a_locked_directory_is_named() {
    let cluster = Cluster::start(1).await;
    let mut config = cluster.config(0).clone();
    let host = crate::harness::own_host();
    let port = crate::harness::free_ports(&host, 1)[0];
    config.listen_peer_urls = vec![format!("http://{host}:{port}").parse().unwrap()];
    let error = Server::start(config)
        .await
        .err()
        .expect("two servers over one directory");
    let dir = cluster.config(0).data_dir.display().to_string();
    assert!(error.to_string().contains(&dir), "{error}");
    cluster.client(0).put("a", "1").await;
}

#[tokio::test]
async fn a_directory_of_another_cluster_is_refused() {
    let error = start_error(|config| config.initial_cluster_token = "other".to_owned()).await;
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let error = start_error(|config| config.name = "stranger".to_owned()).await;
    assert!(matches!(error, StartError::Config(_)), "{error}");
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let cluster = Cluster::start_with(1, |config| config.limits.max_connections_per_address = 3).await;
    let addr = cluster.server(0).client_addr();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(tokio::net::TcpStream::connect(addr).await.unwrap());
    }
    // One more is taken by the system, and closed at once.
    let mut fourth = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut nothing = Vec::new();
    let closed = tokio::time::timeout(crate::harness::PATIENCE, fourth.read_to_end(&mut nothing)).await;
    assert!(closed.is_ok() && nothing.is_empty());
    held.clear();
    cluster.client(0).put_again_and_again("a", "1").await;
    let metrics = get_page(addr, "/metrics").await;
    assert!(
        metrics.contains("quorate_connections_refused_total 1"),
        "{metrics}"
    );
}

/// A page by HTTP/1.1.
async fn get_page(addr: std::net::SocketAddr, path: &str) -> String {
    request_page(addr, &format!("GET {path} HTTP/1.1\r\nhost: a\r\n")).await
}

async fn request_page(addr: std::net::SocketAddr, head: &str) -> String {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("{head}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn watch_key(key: &str) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.to_owned().into(),
            ..Default::default()
        })),
    }
}

#[tokio::test]
async fn watchers_are_bounded_by_stream_and_in_all() {
    let cluster = Cluster::start_with(1, |config| {
        config.limits.max_watchers_per_stream = 2;
        config.limits.max_watchers = 3;
    })
    .await;
    let mut client = cluster.client(0);
    let mut open = async |count: usize| {
        let requests: Vec<_> = (0..count).map(|n| watch_key(&format!("{n}"))).collect();
        let requests = futures::stream::iter(requests).chain(futures::stream::pending());
        let mut answers = client.watch.watch(requests).await.unwrap().into_inner();
        let mut reasons = Vec::new();
        for _ in 0..count {
            reasons.push(answers.next().await.unwrap().unwrap().cancel_reason);
        }
        (answers, reasons)
    };
    let (_first, reasons) = open(3).await;
    assert_eq!(reasons[..2], ["", ""]);
    assert!(reasons[2].contains("--max-watchers-per-stream"), "{reasons:?}");
    let (_second, reasons) = open(2).await;
    assert_eq!(reasons[0], "");
    assert!(reasons[1].contains("--max-watchers)"), "{reasons:?}");
    client.put("0", "1").await;
}

#[tokio::test]
async fn leases_are_bounded() {
    let cluster = Cluster::start_with(1, |config| config.limits.max_leases = 2).await;
    let mut client = cluster.client(0);
    client.grant(60, 1).await;
    client.grant(60, 2).await;
    let third = LeaseGrantRequest { ttl: 60, id: 3 };
    let status = client.lease.lease_grant(third).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("--max-leases"), "{status}");
    client
        .lease
        .lease_revoke(LeaseRevokeRequest { id: 1 })
        .await
        .unwrap();
    client.grant(60, 3).await;
}

#[tokio::test]
async fn bounds_on_requests_and_transactions_are_those_configured() {
    let cluster = Cluster::start_with(1, |config| {
        config.limits.max_request_bytes = 8 << 20;
        config.limits.max_txn_ops = 1;
    })
    .await;
    let mut client = cluster.client(0);
    client.put("a", &"x".repeat(7 << 20)).await;
    check_error(
        client.kv.put(put("a", &"x".repeat(9 << 20))).await,
        EtcdError::RequestTooLarge,
    );
    let op = || RequestOp {
        request: Some(request_op::Request::RequestPut(put("b", "1"))),
    };
    let txn = TxnRequest {
        success: vec![op(), op()],
        ..Default::default()
    };
    check_error(client.kv.txn(txn).await, EtcdError::TooManyOps);
}

#[tokio::test]
async fn history_is_compacted_by_itself() {
    let kept = std::time::Duration::from_millis(300);
    let cluster = Cluster::start_with(1, |config| {
        config.auto_compaction = Some(AutoCompaction::Periodic(kept));
    })
    .await;
    let mut client = cluster.client(0);
    let old = client.put("a", "1").await;
    client.put("a", "2").await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let mut request = range("a", "");
        request.revision = old;
        match client.kv.range(request).await {
            Err(status) if status.message() == EtcdError::Compacted.message() => break,
            outcome => assert!(std::time::Instant::now() < deadline, "{outcome:?}"),
        }
        client.put("a", "3").await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(client.get("a").await.is_some());
}

#[tokio::test]
async fn metrics_have_a_port_of_their_own_that_serves_nothing_else() {
    let host = crate::harness::own_host();
    let port = crate::harness::free_ports(&host, 1)[0];
    let cluster = Cluster::start_with(1, |config| {
        config.listen_metrics_urls = vec![format!("http://{host}:{port}").parse().unwrap()];
    })
    .await;
    let addr = format!("{host}:{port}").parse().unwrap();
    assert!(
        get_page(addr, "/metrics")
            .await
            .contains("etcd_server_has_leader")
    );
    assert!(get_page(addr, "/health").await.contains(r#"{"health":"true""#));
    assert!(get_page(addr, "/v3/kv/range").await.starts_with("HTTP/1.1 404"));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let mut grpc = crate::harness::Client::new(endpoint.connect_lazy());
    assert!(grpc.kv.put(put("a", "1")).await.is_err());
    cluster.client(0).put("a", "1").await;
}

#[tokio::test]
async fn browsers_are_told_who_may_read_and_foreign_names_are_not_answered() {
    let cluster = Cluster::start_with(1, |config| {
        config.web.origins = ["http://a.example".to_owned()].into();
        config.web.hosts = ["a.example".to_owned()].into();
    })
    .await;
    let addr = cluster.server(0).client_addr();
    let ask = async |host: &str, origin: &str| {
        let head = format!("GET /version HTTP/1.1\r\nhost: {host}:1\r\norigin: {origin}\r\n");
        request_page(addr, &head).await
    };
    let known = ask("a.example", "http://a.example").await;
    assert!(
        known.contains("access-control-allow-origin: http://a.example"),
        "{known}"
    );
    let unknown = ask("a.example", "http://b.example").await;
    assert!(
        unknown.starts_with("HTTP/1.1 200") && !unknown.contains("access-control"),
        "{unknown}"
    );
    let foreign = ask("b.example", "http://a.example").await;
    assert!(
        foreign.starts_with("HTTP/1.1 421") && foreign.contains("--host-whitelist"),
        "{foreign}"
    );
    let question = "OPTIONS /v3/kv/put HTTP/1.1\r\nhost: a.example\r\norigin: http://b.example\r\n";
    let refused = request_page(addr, question).await;
    assert!(
        refused.starts_with("HTTP/1.1 200") && !refused.contains("access-control"),
        "{refused}"
    );
    // gRPC is no browser's.
    cluster.client(0).put("a", "1").await;
}

#[tokio::test]
async fn the_gateway_can_be_left_out() {
    let cluster = Cluster::start_with(1, |config| config.web.gateway = false).await;
    let addr = cluster.server(0).client_addr();
    let head = "POST /v3/kv/range HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n";
    assert!(request_page(addr, head).await.starts_with("HTTP/1.1 404"));
    assert!(get_page(addr, "/version").await.contains("etcdserver"));
}

#[tokio::test]
async fn a_port_is_shared_only_if_that_was_asked_for() {
    for reuse in [true, false] {
        let cluster = Cluster::start_with(1, |config| config.reuse_port = reuse).await;
        let addr = cluster.server(0).client_addr();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        assert_eq!(socket.bind(addr).is_ok(), reuse);
    }
}

#[tokio::test]
async fn there_are_no_pages_for_debugging() {
    let cluster = Cluster::start(1).await;
    let addr = cluster.server(0).client_addr();
    for path in [
        "/debug/pprof/",
        "/debug/requests",
        "/debug/events",
        "/debug/vars",
        "/config",
        "/v2/keys",
    ] {
        let page = get_page(addr, path).await;
        assert!(page.starts_with("HTTP/1.1 404"), "{path}: {page}");
    }
}
