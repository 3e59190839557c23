//! While the leader is killed.

use crate::watch::next;
use crate::{Cluster, Outcome, ensure, equal};
use etcd_client::{Client, GetOptions, LockOptions, WatchOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// This client leaves it to its user to open a cut stream again, from the last revision + 1: then nothing is lost,
/// doubled or out of order.
pub async fn watch_across_changes(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let begin = client.put("across/begin", "", None).await?;
    let begin = begin.header().ok_or("no header")?.revision();
    // One goes from node to node. The others have one each, so that some streams are cut for sure.
    let apart = cluster.endpoints.iter().map(|endpoint| vec![endpoint.clone()]);
    let followers: Vec<_> = std::iter::once(cluster.endpoints.clone())
        .chain(apart)
        .map(|endpoints| tokio::spawn(follow(endpoints, begin + 1)))
        .collect();
    let counts = Arc::new(Counts::default());
    let writer = tokio::spawn(write(client.clone(), counts.clone()));
    for _ in 0..KILLS {
        let before = counts.acknowledged.load(Ordering::Relaxed);
        progress(&counts, before + 100).await;
        cluster.call("kill-leader").await?;
        sleep(Duration::from_secs(1)).await;
        cluster.call("restart").await?;
    }
    progress(&counts, counts.acknowledged.load(Ordering::Relaxed) + 100).await;
    counts.stopping.store(true, Ordering::Relaxed);
    writer.await?;
    while let Err(error) = client.put("across/end", "", None).await {
        ensure(is_about_connecting(&error), || format!("the last write: {error}"))?;
        sleep(Duration::from_millis(50)).await;
    }
    let (history, _) = follow(cluster.endpoints.clone(), begin + 1).await?;
    let mut cuts = 0;
    for follower in followers {
        let (seen, own_cuts) = follower.await??;
        cuts += own_cuts;
        let first_wrong = seen
            .iter()
            .zip(&history)
            .position(|(seen, history)| seen != history);
        equal(
            "the first event that is not as in the history",
            first_wrong,
            None::<usize>,
        )?;
        equal("events", seen.len(), history.len())?;
    }
    let (acknowledged, unknown) = (
        counts.acknowledged.load(Ordering::Relaxed),
        counts.unknown.load(Ordering::Relaxed),
    );
    let events = history.len();
    println!(
        "  {acknowledged} writes acknowledged, {unknown} of unknown outcome, {events} events, {cuts} streams cut"
    );
    ensure(cuts >= KILLS, || format!("only {cuts} streams were cut"))?;
    let written = events as u64 - 1;
    ensure((acknowledged..=acknowledged + unknown).contains(&written), || {
        format!("{written} writes are events")
    })
}

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    stopping: AtomicBool,
}

async fn progress(counts: &Counts, goal: u64) {
    while counts.acknowledged.load(Ordering::Relaxed) < goal {
        sleep(Duration::from_millis(10)).await;
    }
}

async fn write(mut client: Client, counts: Arc<Counts>) {
    let mut number = 0;
    while !counts.stopping.load(Ordering::Relaxed) {
        number += 1;
        let put = client.put(format!("across/k{}", number % 10), number.to_string(), None);
        let count = match timeout(Duration::from_secs(3), put).await {
            Ok(Ok(_)) => &counts.acknowledged,
            _ => &counts.unknown,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// All events from a revision until the key "end" is written; how often the stream was cut.
async fn follow(endpoints: Vec<String>, mut from: i64) -> Outcome<(Vec<(i64, String, String)>, usize)> {
    let (mut seen, mut cuts) = (Vec::new(), 0);
    let mut client = Client::connect(endpoints, Some(crate::options())).await?;
    loop {
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        if let Ok(mut stream) = client.watch("across/", Some(options)).await {
            while let Ok(response) = next(&mut stream).await {
                ensure(!response.canceled(), || format!("canceled: {response:?}"))?;
                for event in response.events() {
                    let kv = event.kv().ok_or("an event without a key")?;
                    let key = kv.key_str()?.to_owned();
                    let ended = key == "across/end";
                    seen.push((kv.mod_revision(), key, kv.value_str()?.to_owned()));
                    from = kv.mod_revision() + 1;
                    if ended {
                        return Ok((seen, cuts));
                    }
                }
            }
            cuts += 1;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

pub async fn lease_and_lock_across_changes(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let lease = client.lease_grant(5, None).await?.id();
    let held = client
        .lock("kept", Some(LockOptions::new().with_lease(lease)))
        .await?;
    let keeping = tokio::spawn(keep_alive(client.clone(), lease));
    for _ in 0..KILLS {
        cluster.call("kill-leader").await?;
        cluster.call("restart").await?;
        sleep(Duration::from_secs(2)).await;
    }
    // The first call by way of a node that was away fails: the client tells of the last try to connect, or that the
    // connection was closed under it.
    let found = loop {
        match client
            .get(held.key(), Some(GetOptions::new().with_keys_only()))
            .await
        {
            Err(error) if is_about_connecting(&error) => sleep(Duration::from_millis(50)).await,
            answer => break answer?,
        }
    };
    keeping.abort();
    equal("the lock is held", found.count(), 1)?;
    // Nobody keeps it alive any more.
    let mut other = cluster.client().await?;
    let taken = other.lock("kept", None).await?;
    other.unlock(taken.key()).await?;
    Ok(())
}

fn is_about_connecting(error: &etcd_client::Error) -> bool {
    let texts = ["connect", "operation was canceled"];
    matches!(error, etcd_client::Error::GRpcStatus(status) if texts.iter().any(|text| status.message().contains(text)))
}

async fn keep_alive(mut client: Client, lease: i64) {
    loop {
        if let Ok((mut keeper, mut answers)) = client.lease_keep_alive(lease).await {
            while keeper.keep_alive().await.is_ok() && matches!(answers.message().await, Ok(Some(_))) {
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

const KILLS: usize = 3;
