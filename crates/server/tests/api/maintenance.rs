//! Status, alarms, hashes.

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_etcd_api::etcdserverpb::downgrade_request::DowngradeAction;
use quorate_etcd_api::etcdserverpb::*;
use tonic::Code;

use crate::harness::{Cluster, check_error, put};

fn alarm(action: AlarmAction, alarm: AlarmType) -> AlarmRequest {
    AlarmRequest {
        action: action.into(),
        member_id: 0,
        alarm: alarm.into(),
    }
}

#[tokio::test]
async fn the_status_has_what_etcdctl_shows() {
    let cluster = Cluster::start(3).await;
    cluster.client(0).put("a", "1").await;
    let leader = cluster.leader().await;
    let mut leaders = Vec::new();
    for member in 0..3 {
        let mut client = cluster.client(member);
        // The status is this member's own: it may be behind until it has served a read.
        client.get("a").await;
        let response = client.maintenance.status(StatusRequest {}).await.unwrap();
        let status = response.into_inner();
        assert_eq!(status.version, "3.5.21");
        assert!(status.db_size > 0 && status.db_size_in_use > 0);
        assert!(status.raft_index > 0 && status.raft_term > 0);
        assert!(status.errors.is_empty() && !status.is_learner);
        if member == leader {
            assert_eq!(status.leader, status.header.unwrap().member_id);
        }
        leaders.push(status.leader);
    }
    assert!(leaders.iter().all(|leader| *leader == leaders[0]));
}

#[tokio::test]
async fn all_members_have_the_same_hash() {
    let cluster = Cluster::start(3).await;
    let mut revision = 0;
    for n in 0..20 {
        revision = cluster.client(n % 3).put(&format!("k{n}"), "v").await;
    }
    cluster.client(0).delete("k1", "").await;
    let mut hashes = Vec::new();
    for member in 0..3 {
        let mut client = cluster.client(member);
        client.get("k0").await;
        let request = HashKvRequest { revision };
        let response = client.maintenance.hash_kv(request).await.unwrap().into_inner();
        assert_eq!(response.hash_revision, revision);
        hashes.push(response.hash);
    }
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0] && *hash != 0),
        "{hashes:?}"
    );
    let future = HashKvRequest { revision: 1000 };
    check_error(
        cluster.client(0).maintenance.hash_kv(future).await,
        EtcdError::FutureRev,
    );
    cluster.client(0).maintenance.hash(HashRequest {}).await.unwrap();
}

#[tokio::test]
async fn an_alarm_of_space_stops_writes_until_it_is_disarmed() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.put("a", "1").await;
    let none = client
        .maintenance
        .alarm(alarm(AlarmAction::Get, AlarmType::None))
        .await
        .unwrap();
    assert!(none.into_inner().alarms.is_empty());

    let activate = alarm(AlarmAction::Activate, AlarmType::Nospace);
    client.maintenance.alarm(activate).await.unwrap();
    check_error(client.kv.put(put("b", "1")).await, EtcdError::NoSpace);
    check_error(
        client
            .lease
            .lease_grant(LeaseGrantRequest { ttl: 10, id: 0 })
            .await,
        EtcdError::NoSpace,
    );
    assert!(client.get("a").await.is_some());
    assert_eq!(client.delete("a", "").await.deleted, 1);
    let listed = client
        .maintenance
        .alarm(alarm(AlarmAction::Get, AlarmType::None))
        .await
        .unwrap();
    assert_eq!(listed.into_inner().alarms[0].alarm(), AlarmType::Nospace);

    let disarm = AlarmRequest {
        member_id: 0,
        ..alarm(AlarmAction::Deactivate, AlarmType::Nospace)
    };
    client.maintenance.alarm(disarm).await.unwrap();
    client.put("b", "1").await;
}

#[tokio::test]
async fn alarms_are_listed_by_a_majority() {
    let mut cluster = Cluster::start(3).await;
    let activate = alarm(AlarmAction::Activate, AlarmType::Nospace);
    cluster.client(0).maintenance.alarm(activate).await.unwrap();
    let list = alarm(AlarmAction::Get, AlarmType::None);
    for member in 0..3 {
        let listed = cluster.client(member).maintenance.alarm(list).await.unwrap();
        assert_eq!(listed.into_inner().alarms.len(), 1, "member {member}");
    }
    cluster.stop(0).await;
    cluster.stop(1).await;
    let listed = cluster.client(2).maintenance.alarm(list).await;
    check_error(listed, EtcdError::Timeout);
    let status = cluster.client(2).maintenance.status(StatusRequest {}).await;
    let errors = status.unwrap().into_inner().errors;
    assert!(errors.iter().any(|error| error.contains("NOSPACE")), "{errors:?}");
}

#[tokio::test]
async fn status_tells_alarms_as_etcd_does() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for member_id in [0, 7] {
        let activate = AlarmRequest {
            member_id,
            ..alarm(AlarmAction::Activate, AlarmType::Nospace)
        };
        client.maintenance.alarm(activate).await.unwrap();
    }
    let status = client.maintenance.status(StatusRequest {}).await.unwrap();
    let expected = ["alarm:NOSPACE ", "memberID:7 alarm:NOSPACE "];
    assert_eq!(status.into_inner().errors, expected);
}

#[tokio::test]
async fn there_is_no_alarm_of_no_kind() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let deactivate = alarm(AlarmAction::Deactivate, AlarmType::None);
    let ended = client.maintenance.alarm(deactivate).await.unwrap();
    assert!(ended.into_inner().alarms.is_empty());
    let activate = alarm(AlarmAction::Activate, AlarmType::None);
    let raised = client.maintenance.alarm(activate).await;
    assert_eq!(raised.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn defragmentation_has_nothing_to_do_and_no_header() {
    let cluster = Cluster::start(1).await;
    let response = cluster
        .client(0)
        .maintenance
        .defragment(DefragmentRequest {})
        .await
        .unwrap();
    assert!(response.into_inner().header.is_none());
}

#[tokio::test]
async fn leadership_moves_from_the_leader_only_and_to_members_only() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let request = MoveLeaderRequest { target_id: 404 };
    let bad_target = cluster.client(leader).maintenance.move_leader(request).await;
    check_error(bad_target, EtcdError::BadLeaderTransferee);
    let not_leader = cluster
        .client((leader + 1) % 3)
        .maintenance
        .move_leader(request)
        .await;
    check_error(not_leader, EtcdError::NotLeader);
}

#[tokio::test]
async fn there_is_no_version_to_go_back_to() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0).maintenance;
    let mut downgrade = async |action: i32, version: &str| {
        let version = version.to_owned();
        client.downgrade(DowngradeRequest { action, version }).await
    };
    for action in [DowngradeAction::Validate, DowngradeAction::Enable] {
        for version in ["3.4", "3.4.0", "3.5", "9.9.9-rc.1"] {
            let refused = downgrade(action.into(), version).await;
            check_error(refused, EtcdError::InvalidDowngradeTargetVersion);
        }
        for version in ["", "x", "3", "v3.4"] {
            let refused = downgrade(action.into(), version).await;
            check_error(refused, EtcdError::WrongDowngradeVersionFormat);
        }
    }
    let cancel = downgrade(DowngradeAction::Cancel.into(), "").await;
    check_error(cancel, EtcdError::NoInflightDowngrade);
    let unknown = downgrade(7, "3.4").await.unwrap_err();
    let etcds = (Code::Unknown, "etcdserver: unknown method");
    assert_eq!((unknown.code(), unknown.message()), etcds);
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    let mut auth = auth_client::AuthClient::new(client.channel.clone());
    let status = auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert!(!status.enabled);
    let login = AuthenticateRequest {
        name: "root".to_owned(),
        password: "x".to_owned(),
    };
    check_error(auth.authenticate(login).await, EtcdError::AuthNotEnabled);
}
