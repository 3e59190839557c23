//! What members count and measure, and that docs/metrics.md lists it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate_etcd_api::etcdserverpb::*;

use crate::exposition::Exposition;
use crate::harness::{Client, Cluster, PATIENCE, put, range};
use crate::http::{fetch, get};

/// What a series is expected to have grown by.
type Grown<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Calls of many kinds, one after another.
async fn work(client: &mut Client) {
    client.put("a", "one").await;
    client.put("b", "three").await;
    client.get("a").await;
    client.delete("b", "").await;
    let two = TxnRequest {
        success: ["c", "d"].map(|key| request_op(put(key, "x"))).into(),
        ..Default::default()
    };
    client.kv.txn(two).await.unwrap();
    client.grant(100, 7).await;
    client
        .lease
        .lease_revoke(LeaseRevokeRequest { id: 7 })
        .await
        .unwrap();
    let missing = client.lease.lease_revoke(LeaseRevokeRequest { id: 8 }).await;
    assert_eq!(missing.unwrap_err().code(), tonic::Code::NotFound);
    client.compact(5).await;
    client.hash(0).await;
    watch_one_event(client).await;
}

fn request_op(put: PutRequest) -> RequestOp {
    let request = Some(request_op::Request::RequestPut(put));
    RequestOp { request }
}

async fn watch_one_event(client: &mut Client) {
    let create = WatchCreateRequest {
        key: "a".into(),
        ..Default::default()
    };
    let request = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
    };
    let requests = futures::StreamExt::chain(futures::stream::iter([request]), futures::stream::pending());
    let mut responses = client.watch.watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    client.put("a", "two").await;
    assert_eq!(responses.message().await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn what_is_done_is_counted() {
    let cluster = Cluster::start_with(1, |config| config.warn_after.apply = Duration::MAX).await;
    let mut client = cluster.client(0);
    let before = Exposition::of(&cluster, 0).await;
    work(&mut client).await;
    get(&cluster, 0, "/health").await;
    get(&cluster, 0, "/readyz").await;
    let after = Exposition::of(&cluster, 0).await;

    for &(name, labels, grown) in GROWN {
        let (before, after) = (before_or_zero(&before, name, labels), after.sum(name, labels));
        assert!(
            (after - before - grown).abs() < 1e-9,
            "{name} {labels:?}: {before} -> {after}, not {grown}"
        );
    }
    for name in [
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_committed_total",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_debugging_mvcc_db_compaction_last",
    ] {
        let (before, after) = (before.sum(name, &[]), after.sum(name, &[]));
        assert!(after > before, "{name}: {before} -> {after}");
    }
}

const PUT: [(&str, &str); 2] = [("grpc_service", "etcdserverpb.KV"), ("grpc_method", "Put")];
const REVOKE: [(&str, &str); 1] = [("grpc_method", "LeaseRevoke")];
const WATCH: [(&str, &str); 1] = [("grpc_method", "Watch")];

/// What the work makes grow, and by how much.
const GROWN: &[Grown<'static>] = &[
    // Two alone, two in a transaction, and one that was watched.
    ("etcd_mvcc_put_total", &[], 5.0),
    ("etcd_debugging_mvcc_put_total", &[], 5.0),
    ("etcd_mvcc_delete_total", &[], 1.0),
    ("etcd_mvcc_range_total", &[], 1.0),
    ("etcd_mvcc_txn_total", &[], 1.0),
    ("etcd_debugging_mvcc_total_put_size_in_bytes", &[], 18.0),
    ("etcd_debugging_mvcc_events_total", &[], 1.0),
    ("etcd_debugging_mvcc_keys_total", &[], 3.0),
    ("etcd_debugging_mvcc_db_compaction_keys_total", &[], 2.0),
    (
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
        &[],
        1.0,
    ),
    ("etcd_debugging_lease_granted_total", &[], 1.0),
    ("etcd_debugging_lease_revoked_total", &[], 1.0),
    ("etcd_debugging_lease_ttl_total_sum", &[], 100.0),
    ("etcd_debugging_lease_ttl_total_bucket", &[("le", "64")], 0.0),
    ("etcd_debugging_lease_ttl_total_bucket", &[("le", "128")], 1.0),
    ("etcd_mvcc_hash_rev_duration_seconds_count", &[], 1.0),
    (
        "etcd_server_range_duration_seconds_count",
        &[("success", "true")],
        1.0,
    ),
    (
        "etcd_server_apply_duration_seconds_count",
        &[("version", "v3"), ("op", "Put"), ("success", "true")],
        3.0,
    ),
    (
        "etcd_server_apply_duration_seconds_count",
        &[("op", "LeaseRevoke"), ("success", "false")],
        1.0,
    ),
    ("etcd_server_health_success", &[], 1.0),
    (
        "etcd_server_healthchecks_total",
        &[("type", "readyz"), ("name", "non_learner"), ("status", "success")],
        1.0,
    ),
    ("grpc_server_started_total", &PUT, 3.0),
    ("grpc_server_handled_total", &PUT, 3.0),
    ("grpc_server_handling_seconds_count", &PUT, 3.0),
    (
        "grpc_server_handling_seconds_bucket",
        &[("grpc_method", "Put"), ("le", "+Inf")],
        3.0,
    ),
    ("grpc_server_msg_received_total", &PUT, 3.0),
    ("grpc_server_msg_sent_total", &PUT, 3.0),
    (
        "grpc_server_handled_total",
        &[REVOKE[0], ("grpc_code", "OK")],
        1.0,
    ),
    (
        "grpc_server_handled_total",
        &[REVOKE[0], ("grpc_code", "NotFound")],
        1.0,
    ),
    ("grpc_server_msg_sent_total", &REVOKE, 1.0),
    ("grpc_server_msg_received_total", &WATCH, 1.0),
    ("grpc_server_msg_sent_total", &WATCH, 2.0),
    (
        "etcd_server_client_requests_total",
        &[("type", "stream"), ("client_api_version", "unknown")],
        1.0,
    ),
    ("etcd_server_slow_apply_total", &[], 0.0),
];

/// Some series are there only once there is something to say.
fn before_or_zero(before: &Exposition, name: &str, labels: &[(&str, &str)]) -> f64 {
    let is_there = before
        .families
        .keys()
        .any(|family| name.starts_with(family.as_str()));
    if is_there { before.sum(name, labels) } else { 0.0 }
}

#[tokio::test]
async fn the_bytes_of_messages_are_those_on_the_wire() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let before = Exposition::of(&cluster, 0).await;
    let request = put("key", &"v".repeat(100_000));
    let size = prost::Message::encoded_len(&request);
    let response = client.kv.put(request).await.unwrap().into_inner();
    let after = Exposition::of(&cluster, 0).await;
    for (name, size) in [
        ("etcd_network_client_grpc_received_bytes_total", size),
        (
            "etcd_network_client_grpc_sent_bytes_total",
            prost::Message::encoded_len(&response),
        ),
    ] {
        let grown = after.sum(name, &[]) - before.sum(name, &[]);
        assert!(
            (grown - size as f64).abs() < 0.5,
            "{name} grew by {grown}, not {size}"
        );
    }
}

#[tokio::test]
async fn what_alerts_ask_for_is_told_of_each_member() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.client(leader).put("a", "1").await;
    let mut leaders = 0.0;
    for member in 0..3 {
        let told = Exposition::of(&cluster, member).await;
        let id = format!("{:x}", cluster.server(member).identity().member_id);
        assert_eq!(told.sum("etcd_server_has_leader", &[]), 1.0);
        assert_eq!(told.sum("etcd_server_is_learner", &[]), 0.0);
        assert_eq!(told.sum("etcd_server_id", &[("server_id", &id)]), 1.0);
        assert_eq!(
            told.sum("etcd_server_version", &[("server_version", "3.5.21")]),
            1.0
        );
        assert_eq!(
            told.sum("etcd_cluster_version", &[("cluster_version", "3.5")]),
            1.0
        );
        assert_eq!(told.sum("etcd_network_known_peers", &[("Local", &id)]), 2.0);
        leaders += told.sum("etcd_server_is_leader", &[]);
        // The ratio that etcdDatabaseQuotaLowSpace is about.
        let quota = told.sum("etcd_server_quota_backend_bytes", &[]);
        assert!(
            told.sum("etcd_mvcc_db_total_size_in_bytes", &[]) < quota && quota < 1e15,
            "{quota}"
        );
        let other = format!("{:x}", cluster.server((member + 1) % 3).identity().member_id);
        if member == leader {
            assert!(told.sum("etcd_network_peer_sent_bytes_total", &[("To", &other)]) > 0.0);
            assert!(told.sum("etcd_network_peer_received_bytes_total", &[("From", &other)]) > 0.0);
        }
    }
    assert_eq!(leaders, 1.0);
}

/// Clients mostly give up before the server does: without a leader that is how writes fail.
#[tokio::test]
async fn a_write_whose_client_waits_no_longer_has_failed() {
    let mut cluster = Cluster::start(3).await;
    for member in 1..3 {
        cluster.stop(member).await;
    }
    let before = Exposition::of(&cluster, 0).await;
    let mut client = cluster.client(0);
    let write = client.kv.put(put("a", "1"));
    let outcome = tokio::time::timeout(Duration::from_millis(300), write).await;
    assert!(outcome.is_err(), "{outcome:?}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let after = Exposition::of(&cluster, 0).await;
        let name = "etcd_server_proposals_failed_total";
        if after.sum(name, &[]) - before.sum(name, &[]) == 1.0 {
            assert_eq!(after.sum("etcd_server_proposals_pending", &[]), 0.0);
            return;
        }
        assert!(Instant::now() < deadline, "nobody counts it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_slow_is_counted() {
    let cluster = Cluster::start_with(1, |config| config.warn_after.apply = Duration::ZERO).await;
    let before = Exposition::of(&cluster, 0).await;
    cluster.client(0).put("a", "1").await;
    cluster.client(0).range(range("a", "")).await;
    let after = Exposition::of(&cluster, 0).await;
    let name = "etcd_server_slow_apply_total";
    assert_eq!(after.sum(name, &[]) - before.sum(name, &[]), 2.0);
}

#[tokio::test]
async fn open_metrics_is_given_to_those_who_ask() {
    let cluster = Cluster::start(1).await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n";
    let page = fetch(&cluster, 0, "GET", "/metrics", accept).await;
    let content_type = page.header("content-type").unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text; version=1.0.0"),
        "{content_type}"
    );
    assert!(page.body.ends_with("\n# EOF\n"));
    for line in [
        "# TYPE etcd_mvcc_put counter",
        "etcd_mvcc_put_total 0",
        "# TYPE etcd_server_health_success unknown",
        "etcd_server_health_success 0",
    ] {
        assert!(
            page.body.lines().any(|l| l == line),
            "{line} is missing in:\n{}",
            page.body
        );
    }
}

/// A metric as docs/metrics.md lists it: its type and labels.
type Listed = BTreeMap<String, (String, String)>;

fn listed(docs: &str) -> Listed {
    let mut listed = Listed::new();
    for line in docs.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`').to_owned();
        let about = (cells[2].to_owned(), cells[3].replace('`', ""));
        assert!(listed.insert(name, about).is_none(), "listed twice: {line}");
    }
    listed
}

#[tokio::test]
async fn the_docs_list_what_there_is() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader);
    work(&mut client).await;
    let unknown = client
        .cluster
        .member_promote(MemberPromoteRequest { id: 1 })
        .await;
    assert!(unknown.is_err());
    let alarm = AlarmRequest {
        action: alarm_request::AlarmAction::Activate.into(),
        member_id: 1,
        alarm: AlarmType::Corrupt.into(),
    };
    client.maintenance.alarm(alarm).await.unwrap();
    get(&cluster, leader, "/readyz").await;
    let mut printed = Listed::new();
    for (name, family) in Exposition::of(&cluster, leader).await.families {
        let labels = family.labels().into_iter().collect::<Vec<_>>().join(", ");
        printed.insert(name, (family.kind, labels));
    }
    let docs = include_str!("../../../../docs/metrics.md");
    let listed = listed(docs);
    for (name, about) in &printed {
        assert_eq!(listed.get(name), Some(about), "{name} in docs/metrics.md");
    }
    for name in listed.keys() {
        assert!(
            printed.contains_key(name),
            "{name} is in docs/metrics.md, and not on the page"
        );
    }
}
