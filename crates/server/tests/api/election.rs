//! The election service: who leads, what it proclaims, and who follows that.

use std::time::{Duration, Instant};

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::v3electionpb::election_client::ElectionClient;
use quorate_etcd_api::v3electionpb::*;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::harness::{Client, Cluster, PATIENCE, check_error, keys, put, range, text};

fn elections(cluster: &Cluster, member: usize) -> ElectionClient<Channel> {
    ElectionClient::new(cluster.client(member).channel)
}

/// Campaigns in the background.
fn campaign(
    cluster: &Cluster,
    member: usize,
    lease: i64,
    value: &str,
) -> JoinHandle<Result<CampaignResponse, Status>> {
    let mut elections = elections(cluster, member);
    let request = CampaignRequest {
        name: "e".into(),
        lease,
        value: value.to_owned().into(),
    };
    tokio::spawn(async move { Ok(elections.campaign(request).await?.into_inner()) })
}

async fn win(cluster: &Cluster, lease: i64, value: &str) -> LeaderKey {
    let won = campaign(cluster, 0, lease, value).await.unwrap().unwrap();
    won.leader.unwrap()
}

fn name() -> LeaderRequest {
    LeaderRequest { name: "e".into() }
}

async fn proclaim(cluster: &Cluster, leader: &LeaderKey, value: &str) -> Result<(), Status> {
    let request = ProclaimRequest {
        leader: Some(leader.clone()),
        value: value.to_owned().into(),
    };
    elections(cluster, 0).proclaim(request).await.map(drop)
}

async fn resign(cluster: &Cluster, leader: &LeaderKey) {
    let leader = Some(leader.clone());
    elections(cluster, 0)
        .resign(ResignRequest { leader })
        .await
        .unwrap();
}

/// Waits until so many take part.
async fn candidates(client: &mut Client, expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while keys(&client.range(range("e/", "e0")).await) != expected {
        assert!(Instant::now() < deadline, "never {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The key and value that are observed next, under a header whose revision is not older.
async fn observed(stream: &mut Streaming<LeaderResponse>) -> (String, String) {
    let response = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap();
    let LeaderResponse { header, kv } = response.unwrap().unwrap();
    let (header, kv) = (header.unwrap(), kv.unwrap());
    assert!(header.revision >= kv.mod_revision, "{header:?} {kv:?}");
    (text(&kv.key), text(&kv.value))
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[track_caller]
fn check_text<T: std::fmt::Debug>(result: Result<T, Status>, text: &str) {
    let status = result.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, text));
}

#[tokio::test]
async fn a_candidate_leads_proclaims_and_resigns() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    client.grant(100, 0xa1).await;
    let leader = win(&cluster, 0xa1, "one").await;
    assert_eq!(
        (leader.name.as_ref(), leader.key.as_ref(), leader.lease),
        (&b"e"[..], &b"e/a1"[..], 0xa1)
    );
    assert_eq!(client.get("e/a1").await.unwrap().create_revision, leader.rev);
    for (member, value) in [(1, "one"), (2, "two")] {
        proclaim(&cluster, &leader, value).await.unwrap();
        let found = elections(&cluster, member)
            .leader(name())
            .await
            .unwrap()
            .into_inner();
        let kv = found.kv.unwrap();
        assert_eq!(
            (kv.key.as_ref(), kv.value.as_ref(), kv.lease),
            (&b"e/a1"[..], value.as_bytes(), 0xa1)
        );
    }
    // A leader that campaigns again leads already, and with its new value.
    assert_eq!(win(&cluster, 0xa1, "three").await, leader);
    assert_eq!(client.get("e/a1").await.unwrap().value, "three");

    resign(&cluster, &leader).await;
    check_text(elections(&cluster, 0).leader(name()).await, "election: no leader");
    check_text(proclaim(&cluster, &leader, "late").await, "election: not leader");
    resign(&cluster, &leader).await;
}

#[tokio::test]
async fn candidates_lead_in_turn() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    for lease in 1..=3 {
        client.grant(100, lease).await;
    }
    let first = win(&cluster, 1, "one").await;
    let second = campaign(&cluster, 1, 2, "two");
    candidates(&mut client, &["e/1", "e/2"]).await;
    let third = campaign(&cluster, 2, 3, "three");
    candidates(&mut client, &["e/1", "e/2", "e/3"]).await;
    resign(&cluster, &first).await;
    let second = second.await.unwrap().unwrap().leader.unwrap();
    assert_eq!(second.key, "e/2");
    assert!(!third.is_finished());
    // The end of a lease is a resignation.
    client
        .lease
        .lease_revoke(LeaseRevokeRequest { id: 2 })
        .await
        .unwrap();
    assert_eq!(third.await.unwrap().unwrap().leader.unwrap().key, "e/3");
    check_text(proclaim(&cluster, &second, "late").await, "election: not leader");
}

#[tokio::test]
async fn an_old_leader_cannot_speak_for_its_successor_under_the_same_key() {
    let cluster = Cluster::start(1).await;
    cluster.client(0).grant(100, 1).await;
    let old = win(&cluster, 1, "old").await;
    resign(&cluster, &old).await;
    let new = win(&cluster, 1, "new").await;
    assert_eq!((&old.key, old.rev < new.rev), (&new.key, true));
    check_text(proclaim(&cluster, &old, "late").await, "election: not leader");
    resign(&cluster, &old).await;
    assert_eq!(cluster.client(0).get("e/1").await.unwrap().value, "new");
}

#[tokio::test]
async fn observers_see_every_leader_and_what_it_proclaims() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    client.grant(100, 1).await;
    client.grant(100, 2).await;
    let early = elections(&cluster, 2).observe(name()).await.unwrap();
    let mut early = early.into_inner();
    let first = win(&cluster, 1, "one").await;
    assert_eq!(observed(&mut early).await, pair("e/1", "one"));
    let second = campaign(&cluster, 1, 2, "two");
    candidates(&mut client, &["e/1", "e/2"]).await;
    for value in ["one again", "one at last"] {
        proclaim(&cluster, &first, value).await.unwrap();
        assert_eq!(observed(&mut early).await, pair("e/1", value));
    }
    let mut late = elections(&cluster, 1).observe(name()).await.unwrap().into_inner();
    assert_eq!(observed(&mut late).await, pair("e/1", "one at last"));
    resign(&cluster, &first).await;
    second.await.unwrap().unwrap();
    for observer in [&mut early, &mut late] {
        assert_eq!(observed(observer).await, pair("e/2", "two"));
    }
}

#[tokio::test]
async fn observers_miss_nothing_that_happens_at_once() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut observer = elections(&cluster, 0).observe(name()).await.unwrap().into_inner();
    for round in 0..20 {
        let value = round.to_string();
        client.kv.put(put("e/1", &value)).await.unwrap();
        client.kv.put(put("e/1", "more")).await.unwrap();
        client.delete("e/1", "").await;
    }
    client.kv.put(put("e/2", "last")).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let next = observed(&mut observer).await;
        let is_last = next.1 == "last";
        seen.push(next);
        if is_last {
            break;
        }
    }
    assert_eq!(seen.first().unwrap(), &pair("e/1", "0"));
    assert_eq!(seen.last().unwrap(), &pair("e/2", "last"));
}

#[tokio::test]
async fn a_candidate_that_goes_away_leaves_the_election() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.grant(100, 1).await;
    client.grant(100, 2).await;
    win(&cluster, 1, "one").await;
    let gone = campaign(&cluster, 0, 2, "two");
    candidates(&mut client, &["e/1", "e/2"]).await;
    gone.abort();
    candidates(&mut client, &["e/1"]).await;
}

#[tokio::test]
async fn a_candidate_whose_lease_has_ended_is_told() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.grant(100, 1).await;
    client.grant(100, 2).await;
    let first = win(&cluster, 1, "one").await;
    let lost = campaign(&cluster, 0, 2, "two");
    candidates(&mut client, &["e/1", "e/2"]).await;
    client
        .lease
        .lease_revoke(LeaseRevokeRequest { id: 2 })
        .await
        .unwrap();
    resign(&cluster, &first).await;
    check_text(lost.await.unwrap(), "election: not leader");
}

#[tokio::test]
async fn an_observation_ends_with_the_server() {
    let mut cluster = Cluster::start(1).await;
    let mut observer = elections(&cluster, 0).observe(name()).await.unwrap().into_inner();
    cluster.stop(0).await;
    let status = observer.message().await.unwrap_err();
    assert_eq!(status.message(), EtcdError::Stopped.message());
}

#[tokio::test]
async fn bad_requests_get_etcds_errors() {
    let cluster = Cluster::start(1).await;
    let missing = "\"leader\" field must be provided";
    check_text(
        elections(&cluster, 0).resign(ResignRequest::default()).await,
        missing,
    );
    check_text(
        elections(&cluster, 0).proclaim(ProclaimRequest::default()).await,
        missing,
    );
    let request = CampaignRequest {
        name: "e".into(),
        lease: 404,
        ..Default::default()
    };
    check_error(
        elections(&cluster, 0).campaign(request).await,
        EtcdError::LeaseNotFound,
    );
}
