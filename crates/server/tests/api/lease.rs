//! Leases: grant, keep-alive, expiry, revocation.

use std::time::{Duration, Instant};

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::*;

use crate::harness::{Client, Cluster, PATIENCE, check_error, put, range, text};

async fn put_leased(client: &mut Client, key: &str, lease: i64) {
    let request = PutRequest {
        lease,
        ..put(key, "leased")
    };
    client.kv.put(request).await.unwrap();
}

async fn keep_alive(client: &mut Client, id: i64) -> i64 {
    let requests = futures::stream::iter([LeaseKeepAliveRequest { id }]);
    let mut responses = client
        .lease
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    let response = responses.next().await.unwrap().unwrap();
    assert_eq!(response.id, id);
    assert!(response.header.is_some());
    response.ttl
}

async fn time_to_live(client: &mut Client, id: i64) -> LeaseTimeToLiveResponse {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    client
        .lease
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn a_lease_is_granted_listed_and_revoked_with_its_keys() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(2);
    let granted = client.grant(100, 0).await;
    assert!(granted.id > 0 && granted.ttl == 100 && granted.error.is_empty());
    put_leased(&mut client, "b", granted.id).await;
    put_leased(&mut client, "a", granted.id).await;

    let lease = time_to_live(&mut client, granted.id).await;
    assert_eq!(lease.granted_ttl, 100);
    assert!((90..=100).contains(&lease.ttl), "{}", lease.ttl);
    let keys: Vec<String> = lease.keys.iter().map(|key| text(key)).collect();
    assert_eq!(keys, ["a", "b"]);
    let leases = client.lease.lease_leases(LeaseLeasesRequest {}).await.unwrap();
    let ids: Vec<i64> = leases.into_inner().leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids, [granted.id]);

    let before = client.range(range("a", "")).await.header.unwrap().revision;
    let revoke = LeaseRevokeRequest { id: granted.id };
    let revoked = client.lease.lease_revoke(revoke).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, before + 1);
    assert_eq!(client.range(range("\0", "\0")).await.count, 0);
}

#[tokio::test]
async fn bad_lease_requests_get_etcds_errors() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let revoke = LeaseRevokeRequest { id: 404 };
    check_error(client.lease.lease_revoke(revoke).await, EtcdError::LeaseNotFound);
    client.grant(100, 7).await;
    let again = LeaseGrantRequest { ttl: 100, id: 7 };
    check_error(client.lease.lease_grant(again).await, EtcdError::LeaseExist);
    let endless = LeaseGrantRequest {
        ttl: 9_000_000_001,
        id: 8,
    };
    check_error(
        client.lease.lease_grant(endless).await,
        EtcdError::LeaseTtlTooLarge,
    );
}

#[tokio::test]
async fn an_unknown_lease_has_no_time_to_live() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    assert_eq!(keep_alive(&mut client, 404).await, 0);
    let lease = time_to_live(&mut client, 404).await;
    assert_eq!((lease.ttl, lease.granted_ttl), (-1, 0));
}

#[tokio::test]
async fn a_short_lease_is_made_to_outlast_an_election() {
    let cluster = Cluster::start(1).await;
    let min = cluster.config(0).min_lease_ttl();
    for ttl in [0, -5] {
        assert_eq!(cluster.client(0).grant(ttl, 0).await.ttl, min);
    }
}

#[tokio::test]
async fn an_expired_lease_takes_its_keys_along() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    let lease = client.grant(1, 0).await;
    put_leased(&mut client, "a", lease.id).await;
    let deadline = Instant::now() + PATIENCE;
    while client.get("a").await.is_some() {
        assert!(Instant::now() < deadline, "the lease has not expired");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(time_to_live(&mut client, lease.id).await.ttl, -1);
}

#[tokio::test]
async fn a_lease_that_is_kept_alive_lives() {
    let cluster = Cluster::start(3).await;
    let mut clients = [cluster.client(0), cluster.client(1), cluster.client(2)];
    let lease = clients[0].grant(2, 0).await;
    put_leased(&mut clients[0], "a", lease.id).await;
    let started = Instant::now();
    let mut turn = 0;
    while started.elapsed() < Duration::from_secs(5) {
        turn += 1;
        assert_eq!(keep_alive(&mut clients[turn % 3], lease.id).await, 2);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(clients[1].get("a").await.is_some());
}

#[tokio::test]
async fn a_lease_outlives_the_leader() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client((leader + 1) % 3);
    let lease = client.grant(1000, 0).await;
    put_leased(&mut client, "a", lease.id).await;
    cluster.stop(leader).await;
    let left = time_to_live(&mut client, lease.id).await;
    assert!((900..=1000).contains(&left.ttl), "{}", left.ttl);
    assert!(client.get("a").await.is_some());
}
