//! Members, and what happens when one is gone.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::*;
use quorate_server::{ClusterState, LearnerPromotion, Server, ServerConfig};
use tonic::Code;
use tonic::transport::Endpoint;

use crate::harness::{Client, Cluster, check_error, put, range, text};

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

/// A name that is empty is etcd's for "unstarted", which whoever answers is not.
#[tokio::test]
async fn a_member_that_is_not_published_yet_lists_itself_by_its_name() {
    let room = Cluster::start(1).await;
    let mut config = room.room("m2");
    config.initial_cluster = Default::default();
    config
        .initial_cluster
        .insert("m2", config.initial_advertise_peer_urls[0].clone());
    config
        .initial_cluster
        .insert("absent", "http://127.0.0.1:9".parse().unwrap());
    config.initial_cluster_state = ClusterState::New;
    config.initial_cluster_token = "without a quorum".to_owned();
    config.advertise_client_urls = vec!["http://m2:2379".parse().unwrap()];
    let server = Server::start(config).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", server.client_addr())).unwrap();
    let mut client = Client::new(endpoint.connect().await.unwrap());
    let request = MemberListRequest { linearizable: false };
    let listed = client.cluster.member_list(request).await.unwrap().into_inner();
    let is_own = |member: &&Member| member.id == server.identity().member_id;
    let (own, others): (Vec<_>, Vec<_>) = listed.members.iter().partition(is_own);
    assert_eq!(
        (own[0].name.as_str(), own[0].client_ur_ls.as_slice()),
        ("m2", &["http://m2:2379".to_owned()][..])
    );
    assert!(others.len() == 1 && others[0].name.is_empty(), "{others:?}");
    server.shutdown().await;
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
        (vec!["zzz"], EtcdError::MemberBadURLs),
        (vec!["ftp://127.0.0.1:1"], EtcdError::MemberBadURLs),
        (vec!["unix:///a/b"], EtcdError::MemberBadURLs),
        (vec!["http://h"], EtcdError::MemberBadURLs),
        (vec!["http://h:x"], EtcdError::MemberBadURLs),
        (vec!["http://h:1/path"], EtcdError::MemberBadURLs),
        (vec!["http://[::1:5"], EtcdError::MemberBadURLs),
        (vec!["http://a b:3"], EtcdError::MemberBadURLs),
        (vec![taken.as_str()], EtcdError::PeerURLExist),
    ] {
        check_error(client.member_add(add(&urls)).await, expected);
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
    let update = MemberUpdateRequest {
        id,
        peer_ur_ls: vec!["zzz".to_owned()],
    };
    check_error(client.member_update(update).await, EtcdError::MemberBadURLs);
    let status = client
        .member_promote(MemberPromoteRequest { id })
        .await
        .unwrap_err();
    assert_eq!(status.message(), EtcdError::MemberNotLearner.message());
}

/// Whoever is asked: the leader, who hears of all members, or a follower, who does not.
#[tokio::test]
async fn a_member_that_works_is_not_removed_while_another_is_dead() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (follower, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    let ids = [0, 1, 2].map(|place| cluster.server(place).identity().member_id);
    cluster.stop(dead).await;
    for asked in [leader, follower] {
        let mut client = cluster.client(asked);
        for removed in [leader, follower] {
            let request = MemberRemoveRequest { id: ids[removed] };
            check_error(client.cluster.member_remove(request).await, EtcdError::Unhealthy);
        }
        for is_learner in [false, true] {
            let request = MemberAddRequest {
                is_learner,
                ..add(&["http://127.0.0.1:9"])
            };
            check_error(client.cluster.member_add(request).await, EtcdError::Unhealthy);
        }
        let nobody = MemberRemoveRequest { id: 404 };
        check_error(
            client.cluster.member_remove(nobody).await,
            EtcdError::MemberNotFound,
        );
        client.put("a", "1").await;
    }
    let mut client = cluster.client(follower);
    let request = MemberRemoveRequest { id: ids[dead] };
    let left = client.cluster.member_remove(request).await.unwrap().into_inner();
    assert_eq!(left.members.len(), 2, "{:?}", left.members);
    client.put("a", "2").await;
}

/// One of its addresses takes connections and says nothing: that is no reason to take the member for dead.
#[tokio::test]
async fn a_member_takes_part_if_it_answers_at_any_of_its_addresses() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (asked, updated) = ((leader + 1) % 3, (leader + 2) % 3);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    let real_url = cluster.config(updated).initial_advertise_peer_urls[0].to_string();
    let mut client = cluster.client(asked).cluster;
    let request = MemberUpdateRequest {
        id: cluster.server(updated).identity().member_id,
        peer_ur_ls: vec![silent_url, real_url],
    };
    client.member_update(request).await.unwrap();
    let added = client.member_add(add(&["http://127.0.0.1:9"])).await.unwrap();
    assert_eq!(added.into_inner().members.len(), 4);
}

#[tokio::test]
async fn without_the_check_a_member_comes_while_another_is_dead() {
    let mut cluster = Cluster::start_with(3, |config| config.strict_reconfig_check = false).await;
    let leader = cluster.leader().await;
    cluster.stop((leader + 1) % 3).await;
    let mut client = cluster.client((leader + 2) % 3).cluster;
    let added = client.member_add(add(&["http://127.0.0.1:9"])).await.unwrap();
    assert_eq!(added.into_inner().members.len(), 4);
}

#[tokio::test]
async fn there_are_no_more_learners_than_the_limit_says() {
    for promotion in [LearnerPromotion::Automatic, LearnerPromotion::ByHand] {
        for max_learners in [0, 1, 2] {
            let cluster = Cluster::start_with(1, |config| {
                config.learner_promotion = promotion;
                config.limits.max_learners = max_learners;
            })
            .await;
            let mut client = cluster.client(0).cluster;
            let mut learner = async |n: usize| {
                let url = format!("http://127.0.0.1:{}", n + 1);
                let request = MemberAddRequest {
                    is_learner: true,
                    ..add(&[&url])
                };
                client.member_add(request).await
            };
            for n in 0..max_learners {
                learner(n).await.unwrap();
            }
            check_error(learner(max_learners).await, EtcdError::TooManyLearners);
        }
    }
}

/// Where etcd's learner refuses whatever may change or must be current, one of ours asks the leader: a client that
/// goes from one endpoint to the next is served by all.
#[tokio::test]
async fn a_learner_serves_its_clients() {
    let by_hand = |config: &mut ServerConfig| config.learner_promotion = LearnerPromotion::ByHand;
    let mut cluster = Cluster::start_with(1, by_hand).await;
    let joining = cluster.room("m2");
    let request = MemberAddRequest {
        is_learner: true,
        ..add(&[&joining.initial_advertise_peer_urls[0].to_string()])
    };
    cluster.client(0).cluster.member_add(request).await.unwrap();
    let place = cluster.join(joining).await;
    cluster.server(place).ready().await;
    let mut learner = cluster.client(place);
    let status = learner.maintenance.status(StatusRequest {}).await.unwrap();
    assert!(status.into_inner().is_learner);
    learner.put("a", "1").await;
    assert_eq!(text(&learner.get("a").await.unwrap().value), "1");
    learner.grant(1000, 7).await;
    let request = MemberListRequest { linearizable: true };
    let listed = learner.cluster.member_list(request).await.unwrap().into_inner();
    assert_eq!(listed.members.len(), 2);
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
    // That etcd's code for it is this one was seen on the wire of 3.4.23 and 3.5.1.
    assert_eq!(status.code(), Code::Unknown);
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
    let id = member.id;
    let promoted = client.cluster.member_promote(MemberPromoteRequest { id }).await;
    check_error(promoted, EtcdError::MemberNotLearner);

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
        // etcd takes no notice of the space either.
        peer_ur_ls: vec![" http://127.0.0.9:9 ".to_owned()],
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
