//! The pages on the gRPC port.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::Cluster;

/// The status and body of a page, asked for as a plain HTTP/1.1 client does.
pub(crate) async fn get(cluster: &Cluster, member: usize, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(cluster.server(member).client_addr())
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    let body = response.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

#[tokio::test]
async fn a_healthy_member_says_so() {
    let cluster = Cluster::start(3).await;
    for member in 0..3 {
        for path in ["/health", "/health?serializable=true"] {
            let (status, body) = get(&cluster, member, path).await;
            assert_eq!((status, body.as_str()), (200, r#"{"health":"true","reason":""}"#));
        }
        assert_eq!(get(&cluster, member, "/livez").await, (200, "ok\n".to_owned()));
        assert_eq!(get(&cluster, member, "/readyz").await, (200, "ok\n".to_owned()));
        let verbose = get(&cluster, member, "/readyz?verbose").await;
        assert_eq!(verbose, (200, "[+]linearizable_read ok\nok\n".to_owned()));
    }
}

#[tokio::test]
async fn a_member_without_a_leader_is_alive_but_not_healthy() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let (status, body) = get(&cluster, 0, "/health").await;
        if status == 503 {
            assert!(body.contains("\"health\":\"false\""), "{body}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still healthy: {body}");
    }
    assert_eq!(get(&cluster, 0, "/health?serializable=true").await.0, 200);
    assert_eq!(get(&cluster, 0, "/livez").await.0, 200);
    while cluster.server(0).has_leader() {
        assert!(std::time::Instant::now() < deadline, "it still knows a leader");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let asked = std::time::Instant::now();
    assert_eq!(get(&cluster, 0, "/readyz").await.0, 503);
    assert!(asked.elapsed() < std::time::Duration::from_secs(2), "it waited");
}

#[tokio::test]
async fn the_version_is_one_that_clients_parse() {
    let cluster = Cluster::start(1).await;
    let (status, body) = get(&cluster, 0, "/version").await;
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(version["etcdserver"], "3.5.21");
    assert_eq!(version["etcdcluster"], "3.5.0");
}

#[tokio::test]
async fn metrics_have_etcds_names() {
    let cluster = Cluster::start(1).await;
    cluster.client(0).put("a", "1").await;
    let (status, body) = get(&cluster, 0, "/metrics").await;
    assert_eq!(status, 200);
    let lines = [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_mvcc_put_total 1",
        "etcd_server_proposals_failed_total 0",
        r#"grpc_server_started_total{grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put"} 1"#,
        r#"grpc_server_handled_total{grpc_type="unary",grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_code="OK"} 1"#,
    ];
    for line in lines {
        assert!(body.lines().any(|l| l == line), "{line} is missing in:\n{body}");
    }
    let names = [
        "etcd_server_proposals_committed_total ",
        "etcd_server_proposals_applied_total ",
        "etcd_server_proposals_pending ",
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_mvcc_db_total_size_in_use_in_bytes ",
        "etcd_disk_wal_fsync_duration_seconds_bucket{",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ];
    for name in names {
        assert!(
            body.lines().any(|l| l.starts_with(name)),
            "{name} is missing in:\n{body}"
        );
    }
}

#[tokio::test]
async fn grpc_health_is_served() {
    let cluster = Cluster::start(1).await;
    let mut health = HealthClient::new(cluster.client(0).channel);
    let response = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn an_unknown_page_is_not_found() {
    let cluster = Cluster::start(1).await;
    let nothing = get(&cluster, 0, "/nothing").await;
    assert_eq!(nothing, (404, "404 page not found\n".to_owned()));
    let mut stream = TcpStream::connect(cluster.server(0).client_addr()).await.unwrap();
    stream
        .write_all(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 405"), "{response}");
}
