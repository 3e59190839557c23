//! Bounds on requests, and starts that cannot be.

use std::net::TcpListener;

use quorate_etcd_api::EtcdError;
use quorate_server::{Server, StartError};
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
