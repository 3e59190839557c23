//! Members, and what happens when one is gone.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::*;

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

fn add(urls: &[&str]) -> MemberAddRequest {
    MemberAddRequest {
        peer_ur_ls: urls.iter().map(ToString::to_string).collect(),
        is_learner: false,
    }
}

/// A refusal is one: the learner is not promoted later by what was asked too early, whoever was asked.
#[tokio::test]
async fn a_learner_that_lags_is_not_promoted_until_it_is_asked_again() {
    let mut cluster = Cluster::start(3).await;
    let follower = (cluster.leader().await + 1) % 3;
    let mut client = cluster.client(follower);
    let joining = cluster.room("m4");
    let url = joining.initial_advertise_peer_urls[0].to_string();
    let request = MemberAddRequest {
        is_learner: true,
        ..add(&[&url])
    };
    let added = client.cluster.member_add(request).await.unwrap().into_inner();
    let id = added.member.unwrap().id;
    let refused = client.cluster.member_promote(MemberPromoteRequest { id }).await;
    assert_eq!(
        refused.unwrap_err().message(),
        EtcdError::LearnerNotReady.message()
    );

    let place = cluster.join(joining).await;
    cluster.server(place).ready().await;
    for value in 0..20 {
        client.put("a", &value.to_string()).await;
    }
    let request = MemberListRequest { linearizable: true };
    let listed = client.cluster.member_list(request).await.unwrap().into_inner();
    let is_learner = |member: &Member| member.id == id && member.is_learner;
    assert!(listed.members.iter().any(is_learner), "{:?}", listed.members);
    let promoted = client.cluster.member_promote(MemberPromoteRequest { id }).await;
    let members = promoted.unwrap().into_inner().members;
    assert!(!members.iter().any(is_learner), "{members:?}");
}

#[tokio::test]
async fn what_cannot_become_of_the_members_is_refused_as_etcd_does() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0).cluster;
    let taken = cluster.config(1).initial_advertise_peer_urls[0].to_string();
    for (urls, expected) in [
        (vec![], EtcdError::MemberBadURLs),
        (vec!["ftp://127.0.0.1:1"], EtcdError::MemberBadURLs),
        (vec![taken.as_str()], EtcdError::PeerURLExist),
    ] {
        let status = client.member_add(add(&urls)).await.unwrap_err();
        assert_eq!(status.message(), expected.message());
    }
    let update = MemberUpdateRequest {
        id: 1,
        peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
    };
    for status in [
        client
            .member_remove(MemberRemoveRequest { id: 1 })
            .await
            .unwrap_err(),
        client
            .member_promote(MemberPromoteRequest { id: 1 })
            .await
            .unwrap_err(),
        client.member_update(update).await.unwrap_err(),
    ] {
        assert_eq!(status.message(), EtcdError::MemberNotFound.message());
    }
    let id = cluster.server(2).identity().member_id;
    let status = client
        .member_promote(MemberPromoteRequest { id })
        .await
        .unwrap_err();
    assert_eq!(status.message(), EtcdError::MemberNotLearner.message());
}

#[tokio::test]
async fn the_last_member_cannot_be_removed() {
    let cluster = Cluster::start(1).await;
    let id = cluster.server(0).identity().member_id;
    let request = MemberRemoveRequest { id };
    let status = cluster
        .client(0)
        .cluster
        .member_remove(request)
        .await
        .unwrap_err();
    assert_eq!(status.message(), EtcdError::MemberNotEnoughStarted.message());
    cluster.client(0).put("a", "1").await;
}

#[tokio::test]
async fn a_member_is_added_as_etcds_clients_do_it_and_removed() {
    let mut cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    client.put("a", "1").await;
    let joining = cluster.room("m4");
    let url = joining.initial_advertise_peer_urls[0].to_string();
    let added = client
        .cluster
        .member_add(add(&[&url]))
        .await
        .unwrap()
        .into_inner();
    let member = added.member.unwrap();
    assert!(member.name.is_empty() && member.peer_ur_ls == [url] && member.is_learner);
    assert_eq!(added.members.len(), 4);

    let place = cluster.join(joining).await;
    cluster.server(place).ready().await;
    assert_eq!(cluster.server(place).identity().member_id, member.id);
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    loop {
        let request = MemberListRequest { linearizable: true };
        let listed = client.cluster.member_list(request).await.unwrap().into_inner();
        let listed = listed
            .members
            .into_iter()
            .find(|listed| listed.id == member.id)
            .unwrap();
        if !listed.is_learner {
            assert_eq!(listed.name, "m4");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it does not vote");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let kv = cluster.client(place).get("a").await.unwrap();
    assert_eq!(text(&kv.value), "1");

    let first = cluster.server(0).identity().member_id;
    let request = MemberRemoveRequest { id: first };
    let mut other = cluster.client(place);
    let left = other.cluster.member_remove(request).await.unwrap().into_inner();
    assert_eq!(left.members.len(), 3);
    assert!(left.members.iter().all(|left| left.id != first));
    cluster.server(0).failed().await;
    other.put_again_and_again("a", "2").await;
}

#[tokio::test]
async fn the_peer_urls_of_a_member_can_be_changed() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).cluster;
    let id = cluster.server(0).identity().member_id;
    let peer_ur_ls = vec!["http://127.0.0.9:9".to_owned()];
    let request = MemberUpdateRequest {
        id,
        peer_ur_ls: peer_ur_ls.clone(),
    };
    let updated = client.member_update(request).await.unwrap().into_inner();
    assert_eq!(updated.members[0].peer_ur_ls, peer_ur_ls);
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
