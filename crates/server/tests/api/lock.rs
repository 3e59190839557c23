//! The lock service: who holds a lock, who waits, and who has gone away.

use std::time::{Duration, Instant};

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::v3lockpb::lock_client::LockClient;
use quorate_etcd_api::v3lockpb::*;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Client, Cluster, PATIENCE, check_error, keys, range, text};

fn locks(cluster: &Cluster, member: usize) -> LockClient<Channel> {
    LockClient::new(cluster.client(member).channel)
}

fn request(name: &str, lease: i64) -> LockRequest {
    LockRequest {
        name: name.to_owned().into(),
        lease,
    }
}

/// Waits for a lock in the background; gives back its key.
fn wait(cluster: &Cluster, member: usize, lease: i64) -> JoinHandle<Result<String, Status>> {
    let mut locks = locks(cluster, member);
    tokio::spawn(async move {
        let locked = locks.lock(request("l", lease)).await?.into_inner();
        Ok(text(&locked.key))
    })
}

async fn unlock(cluster: &Cluster, key: &str) {
    let key = key.to_owned().into();
    locks(cluster, 0).unlock(UnlockRequest { key }).await.unwrap();
}

/// Waits until the queue has these keys, in key order.
async fn queue(client: &mut Client, expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = keys(&client.range(range("l/", "l0")).await);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_lock_is_a_key_of_the_lease_and_free_again_without_it() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.grant(100, 0xabc).await;
    let locked = locks(&cluster, 0)
        .lock(request("l", 0xabc))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(locked.key, "l/abc");
    let kv = client.get("l/abc").await.unwrap();
    assert_eq!((kv.lease, kv.value.len()), (0xabc, 0));
    assert_eq!(locked.header.unwrap().revision, kv.create_revision);

    let again = locks(&cluster, 0)
        .lock(request("l", 0xabc))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.key, "l/abc");
    assert_eq!(
        client.get("l/abc").await.unwrap().version,
        1,
        "its holder has it already"
    );

    let unlocked = locks(&cluster, 0)
        .unlock(UnlockRequest { key: locked.key })
        .await
        .unwrap();
    assert_eq!(
        unlocked.into_inner().header.unwrap().revision,
        kv.create_revision + 1
    );
    assert!(client.get("l/abc").await.is_none());
}

#[tokio::test]
async fn those_who_wait_get_the_lock_in_turn() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    let mut waiting = Vec::new();
    // The later in the queue, the smaller the key: their order is not that of the keys.
    let names = ["l/3", "l/2", "l/1"];
    for (place, lease) in [3, 2, 1].into_iter().enumerate() {
        client.grant(100, lease).await;
        waiting.push(wait(&cluster, place, lease));
        let mut expected = names[..=place].to_vec();
        expected.reverse();
        queue(&mut client, &expected).await;
    }
    for (place, waiter) in waiting.iter_mut().enumerate() {
        let key = waiter.await.unwrap().unwrap();
        assert_eq!(key, names[place]);
        let left = keys(&client.range(range("l/", "l0")).await);
        assert_eq!(
            left.len(),
            3 - place,
            "{key} is held by one and waited for by the others: {left:?}"
        );
        unlock(&cluster, &key).await;
    }
}

#[tokio::test]
async fn only_the_first_of_many_holds_a_lock() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    let mut tasks = Vec::new();
    for (place, lease) in (1..=12).enumerate() {
        client.grant(100, lease).await;
        let (mut locks, mut client) = (locks(&cluster, place % 3), cluster.client(0));
        tasks.push(tokio::spawn(async move {
            let key = locks.lock(request("l", lease)).await.unwrap().into_inner().key;
            // Whoever reads and writes alone loses nothing.
            let count: i64 = match client.get("count").await {
                Some(kv) => text(&kv.value).parse().unwrap(),
                None => 0,
            };
            client.put("count", &(count + 1).to_string()).await;
            locks.unlock(UnlockRequest { key }).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(client.get("count").await.unwrap().value, "12");
}

#[tokio::test]
async fn a_lock_whose_lease_ends_goes_to_the_next() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    client.grant(1, 1).await;
    client.grant(100, 2).await;
    wait(&cluster, 0, 1).await.unwrap().unwrap();
    let waiter = wait(&cluster, 1, 2);
    queue(&mut client, &["l/1", "l/2"]).await;
    assert_eq!(waiter.await.unwrap().unwrap(), "l/2");
    assert!(client.get("l/1").await.is_none());
}

#[tokio::test]
async fn a_lock_without_a_lease_gets_one() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let key = wait(&cluster, 0, 0).await.unwrap().unwrap();
    let id = client.get(&key).await.unwrap().lease;
    assert_eq!(key, format!("l/{id:x}"));
    let lease = LeaseTimeToLiveRequest { id, keys: false };
    let lease = client.lease.lease_time_to_live(lease).await.unwrap().into_inner();
    assert_eq!(lease.granted_ttl, 60);
}

#[tokio::test]
async fn a_waiter_that_goes_away_leaves_the_queue() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    for lease in 1..=3 {
        client.grant(100, lease).await;
    }
    let first = wait(&cluster, 0, 1).await.unwrap().unwrap();
    let gone = wait(&cluster, 1, 2);
    queue(&mut client, &["l/1", "l/2"]).await;
    let last = wait(&cluster, 2, 3);
    queue(&mut client, &["l/1", "l/2", "l/3"]).await;
    gone.abort();
    queue(&mut client, &["l/1", "l/3"]).await;
    unlock(&cluster, &first).await;
    assert_eq!(last.await.unwrap().unwrap(), "l/3");
}

#[tokio::test]
async fn a_waiter_that_goes_away_at_once_leaves_nothing() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.grant(100, 1).await;
    wait(&cluster, 0, 1).await.unwrap().unwrap();
    // However far each call has come when it is given up.
    for (lease, micros) in (2..32).zip((0..).step_by(300)) {
        client.grant(100, lease).await;
        let mut locks = locks(&cluster, 0);
        let call = locks.lock(request("l", lease));
        let patience = Duration::from_micros(micros);
        assert!(tokio::time::timeout(patience, call).await.is_err());
    }
    queue(&mut client, &["l/1"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    queue(&mut client, &["l/1"]).await;
}

#[tokio::test]
async fn a_waiter_whose_lease_has_ended_is_told() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.grant(100, 1).await;
    client.grant(100, 2).await;
    let first = wait(&cluster, 0, 1).await.unwrap().unwrap();
    let waiter = wait(&cluster, 0, 2);
    queue(&mut client, &["l/1", "l/2"]).await;
    client
        .lease
        .lease_revoke(LeaseRevokeRequest { id: 2 })
        .await
        .unwrap();
    unlock(&cluster, &first).await;
    let status = waiter.await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unknown, "mutex: session is expired")
    );
}

#[tokio::test]
async fn a_waiter_outlives_the_leader_and_compaction() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let mut client = cluster.client(other);
    client.grant(1000, 1).await;
    client.grant(1000, 2).await;
    let first = wait(&cluster, other, 1).await.unwrap().unwrap();
    let waiter = wait(&cluster, other, 2);
    queue(&mut client, &["l/1", "l/2"]).await;
    cluster.stop(leader).await;
    client.put_again_and_again("a", "1").await;
    let revision = client.put("a", "2").await;
    client.compact(revision).await;
    client.delete(&first, "").await;
    assert_eq!(waiter.await.unwrap().unwrap(), "l/2");
}

#[tokio::test]
async fn bad_requests_get_etcds_errors() {
    let cluster = Cluster::start(1).await;
    let locked = locks(&cluster, 0).lock(request("l", 404)).await;
    check_error(locked, EtcdError::LeaseNotFound);
    let unlocked = locks(&cluster, 0).unlock(UnlockRequest::default()).await;
    check_error(unlocked, EtcdError::EmptyKey);
    // To unlock what is not locked is done.
    unlock(&cluster, "l/404").await;
}
