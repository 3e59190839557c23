//! What is owned for a time: leases, locks, elections.

use crate::{Cluster, Outcome, ensure, equal, refusal};
use etcd_client::{
    GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions,
    ResignOptions, WatchOptions,
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub async fn leases(cluster: &Cluster) -> Outcome {
    const ID: i64 = 77_001;
    let mut client = cluster.client().await?;
    let granted = client
        .lease_grant(60, Some(LeaseGrantOptions::new().with_id(ID)))
        .await?;
    equal("granted", (granted.id(), granted.ttl()), (ID, 60))?;
    client
        .put("lease/a", "1", Some(PutOptions::new().with_lease(ID)))
        .await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(ID).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = answers.message().await?.ok_or("the stream has ended")?;
        equal("kept alive", (answer.id(), answer.ttl()), (ID, 60))?;
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(ID, Some(options)).await?;
    equal("keys", left.keys(), [b"lease/a".to_vec()])?;
    ensure((1..=60).contains(&left.ttl()), || {
        format!("{} s left of 60", left.ttl())
    })?;
    let listed = client.leases().await?;
    ensure(listed.leases().iter().any(|lease| lease.id() == ID), || {
        "it is not listed".to_owned()
    })?;
    client.lease_revoke(ID).await?;
    equal("its key is gone", client.get("lease/a", None).await?.count(), 0)?;
    let refused = refusal(client.lease_revoke(ID).await);
    equal(
        "twice",
        refused.as_str(),
        "NotFound: etcdserver: requested lease not found",
    )?;
    ensure(client.lease_keep_alive(ID).await.is_err(), || {
        "what is revoked is kept alive".to_owned()
    })
}

pub async fn lease_that_ends(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let lease = client.lease_grant(1, None).await?.id();
    let put = client
        .put("ends", "1", Some(PutOptions::new().with_lease(lease)))
        .await?;
    let revision = put.header().ok_or("no header")?.revision();
    let options = WatchOptions::new().with_start_revision(revision + 1);
    let mut stream = client.watch("ends", Some(options)).await?;
    crate::watch::next(&mut stream).await?;
    let response = crate::watch::next(&mut stream).await?;
    equal(
        "event",
        response.events()[0].event_type(),
        etcd_client::EventType::Delete,
    )?;
    equal(
        "time to live",
        client.lease_time_to_live(lease, None).await?.ttl(),
        -1,
    )
}

pub async fn lock(cluster: &Cluster) -> Outcome {
    let (mut holder, mut waiter) = (cluster.client().await?, cluster.client().await?);
    let lease = holder.lease_grant(60, None).await?.id();
    let held = holder
        .lock("lock", Some(LockOptions::new().with_lease(lease)))
        .await?;
    ensure(held.key().starts_with(b"lock/"), || format!("{held:?}"))?;
    let waiting = tokio::spawn(async move {
        let key = waiter.lock("lock", None).await?.key().to_vec();
        waiter.unlock(key).await
    });
    sleep(Duration::from_millis(500)).await;
    ensure(!waiting.is_finished(), || "two hold the lock".to_owned())?;
    // One that gives up leaves the queue.
    let mut hasty = cluster.client().await?;
    let gave_up = timeout(Duration::from_millis(300), hasty.lock("lock", None)).await;
    ensure(gave_up.is_err(), || "two hold the lock".to_owned())?;
    // The lock goes with its lease.
    holder.lease_revoke(lease).await?;
    waiting.await??;
    loop {
        let queued = holder.get("lock/", Some(GetOptions::new().with_prefix())).await?;
        if queued.count() == 0 {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub async fn election(cluster: &Cluster) -> Outcome {
    let (mut client, mut other) = (cluster.client().await?, cluster.client().await?);
    let lease = client.lease_grant(60, None).await?.id();
    let refused = refusal(client.leader("office").await);
    equal("nobody", refused.as_str(), "Unknown: election: no leader")?;
    let won = client.campaign("office", "a", lease).await?;
    let leader = won.leader().ok_or("no leader")?.clone();
    equal("lease", leader.lease(), lease)?;
    let mut observed = other.observe("office").await?;
    let mut seen = Vec::new();
    let rival_lease = other.lease_grant(60, None).await?.id();
    let rival = tokio::spawn(async move { other.campaign("office", "b", rival_lease).await });
    let mut observe = async || -> Outcome<String> {
        let response = observed.message().await?.ok_or("the stream has ended")?;
        Ok(response.kv().ok_or("no key")?.value_str()?.to_owned())
    };
    seen.push(observe().await?);
    client
        .proclaim("a2", Some(ProclaimOptions::new().with_leader(leader.clone())))
        .await?;
    seen.push(observe().await?);
    ensure(!rival.is_finished(), || "there are two leaders".to_owned())?;
    client
        .resign(Some(ResignOptions::new().with_leader(leader.clone())))
        .await?;
    let heir = rival.await??;
    seen.push(observe().await?);
    equal("observed", seen, ["a", "a2", "b"])?;
    let now = client.leader("office").await?;
    equal(
        "leader",
        now.kv().map(|kv| kv.key().to_vec()),
        heir.leader().map(|key| key.key().to_vec()),
    )?;
    let late = client
        .proclaim("a3", Some(ProclaimOptions::new().with_leader(leader)))
        .await;
    equal(
        "one that has resigned",
        refusal(late).as_str(),
        "Unknown: election: not leader",
    )
}
