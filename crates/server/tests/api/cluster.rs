//! Members, and what happens when one is gone.

use quorate_etcd_api::etcdserverpb::*;
use tonic::Code;

use crate::harness::{Cluster, put, range, text};

#[tokio::test]
async fn members_are_listed_with_their_urls() {
    let cluster = Cluster::start(3).await;
    let request = MemberListRequest { linearizable: true };
    let response = cluster
        .client(1)
        .cluster
        .member_list(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(response.members.len(), 3);
    for (place, member) in (0..3).map(|place| (place, format!("m{}", place + 1))) {
        let listed = response
            .members
            .iter()
            .find(|listed| listed.name == member)
            .unwrap();
        let peer = cluster.config(place).initial_advertise_peer_urls[0].to_string();
        assert_eq!(listed.peer_ur_ls, [peer]);
        let client = format!("http://{}", cluster.server(place).client_addr());
        assert_eq!(listed.client_ur_ls, [client]);
        assert!(listed.id != 0 && !listed.is_learner);
    }
}

#[tokio::test]
async fn changes_of_members_are_refused() {
    let cluster = Cluster::start(1).await;
    let add = MemberAddRequest {
        peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
        is_learner: false,
    };
    let status = cluster.client(0).cluster.member_add(add).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn writes_go_on_without_the_leader() {
    let mut cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    client.put("a", "1").await;
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    let mut other = cluster.client((leader + 1) % 3);
    other.put_again_and_again("a", "2").await;
    cluster.restart(leader).await;
    cluster.server(leader).ready().await;
    let kv = cluster.client(leader).get("a").await.unwrap();
    assert_eq!(text(&kv.value), "2");
}

#[tokio::test]
async fn leadership_is_handed_over_on_request() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader);
    let status = |_| StatusRequest {};
    let target = cluster
        .client((leader + 1) % 3)
        .maintenance
        .status(status(()))
        .await
        .unwrap();
    let target_id = target.into_inner().header.unwrap().member_id;
    client
        .maintenance
        .move_leader(MoveLeaderRequest { target_id })
        .await
        .unwrap();
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !cluster.server((leader + 1) % 3).is_leader() {
        assert!(std::time::Instant::now() < deadline, "leadership has not moved");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_member_whose_log_is_gone_catches_up_by_a_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::start_with(3, |config| config.snapshot_count = 50).await;
    let behind = (cluster.leader().await + 1) % 3;
    let mut client = cluster.client((behind + 1) % 3);
    let lease = client.grant(1000, 7).await;
    cluster.stop(behind).await;
    for n in 0..400 {
        let request = PutRequest {
            lease: lease.id,
            ..put(&format!("k{n}"), "v")
        };
        client.kv.put(request).await.unwrap();
    }
    cluster.restart(behind).await;
    let mut revision = 0;
    for n in 0..100 {
        revision = client.put(&format!("l{n}"), "v").await;
    }
    cluster.server(behind).ready().await;
    let mut late = cluster.client(behind);
    assert_eq!(late.range(range("\0", "\0")).await.count, 500);
    assert_eq!(late.hash(revision).await.hash, client.hash(revision).await.hash);
    let request = LeaseTimeToLiveRequest { id: 7, keys: true };
    let lease = late.lease.lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!((lease.granted_ttl, lease.keys.len()), (1000, 400));
}

#[tokio::test]
async fn all_members_find_what_was_acknowledged_after_they_all_stopped() {
    let mut cluster = Cluster::start_with(3, |config| config.snapshot_count = 40).await;
    let mut client = cluster.client(0);
    let mut revision = 0;
    for n in 0..100 {
        revision = client.put(&format!("k{n}"), "v").await;
    }
    let hash = client.hash(revision).await.hash;
    for member in 0..3 {
        cluster.stop(member).await;
    }
    for member in 0..3 {
        cluster.restart(member).await;
    }
    for member in 0..3 {
        cluster.server(member).ready().await;
        let mut client = cluster.client(member);
        assert_eq!(client.range(range("k", "l")).await.count, 100);
        assert_eq!(client.hash(revision).await.hash, hash);
    }
}
