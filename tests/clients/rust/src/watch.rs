//! Watches while the cluster is well.

use crate::{Cluster, Outcome, ensure, equal};
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use std::collections::BTreeSet;

pub async fn next(stream: &mut WatchStream) -> Outcome<WatchResponse> {
    Ok(stream.message().await?.ok_or("the stream has ended")?)
}

async fn created(stream: &mut WatchStream) -> Outcome<i64> {
    let response = next(stream).await?;
    ensure(response.created(), || format!("not created: {response:?}"))?;
    Ok(response.watch_id())
}

pub async fn from_an_old_revision(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let put = client.put("old/a", "1", None).await?;
    let revision = put.header().ok_or("no header")?.revision();
    client.put("old/a", "2", None).await?;
    client.delete("old/a", None).await?;
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(revision)
        .with_prev_key();
    let mut stream = client.watch("old/", Some(options)).await?;
    created(&mut stream).await?;
    let mut found = Vec::new();
    while found.len() < 3 {
        for event in next(&mut stream).await?.events() {
            let before = event.prev_kv().map(|kv| kv.value().to_vec());
            let value = event.kv().map(|kv| kv.value().to_vec()).unwrap_or_default();
            found.push((event.event_type(), value, before));
        }
    }
    let expected = [
        (EventType::Put, b"1".to_vec(), None),
        (EventType::Put, b"2".to_vec(), Some(b"1".to_vec())),
        (EventType::Delete, Vec::new(), Some(b"2".to_vec())),
    ];
    equal("events", found, expected)
}

pub async fn cancel(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let mut stream = client.watch("cancel", None).await?;
    let id = created(&mut stream).await?;
    stream.cancel(id).await?;
    let response = next(&mut stream).await?;
    equal("canceled", (response.watch_id(), response.canceled()), (id, true))
}

pub async fn progress(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    let mut stream = client.watch("progress", None).await?;
    created(&mut stream).await?;
    let put = client.put("another", "1", None).await?;
    let revision = put.header().ok_or("no header")?.revision();
    loop {
        stream.request_progress().await?;
        let response = next(&mut stream).await?;
        ensure(response.events().is_empty(), || {
            format!("an event of another key: {response:?}")
        })?;
        // The node that is asked may not have applied the write yet.
        if response.header().ok_or("no header")?.revision() >= revision {
            return Ok(());
        }
    }
}

pub async fn many_on_one_stream(cluster: &Cluster) -> Outcome {
    const WATCHERS: i64 = 200;
    let mut client = cluster.client().await?;
    let named = |id| Some(WatchOptions::new().with_watch_id(id));
    let mut stream = client.watch("many/1", named(1)).await?;
    for id in 2..=WATCHERS {
        stream.watch(format!("many/{id}"), named(id)).await?;
    }
    for _ in 0..WATCHERS {
        created(&mut stream).await?;
    }
    for id in (1..=WATCHERS).rev() {
        client.put(format!("many/{id}"), id.to_string(), None).await?;
    }
    // Watchers of one stream are in no order among each other.
    let mut seen = BTreeSet::new();
    while seen.len() < usize::try_from(WATCHERS)? {
        let response = next(&mut stream).await?;
        for event in response.events() {
            let kv = event.kv().ok_or("no key")?;
            let id = response.watch_id();
            equal(
                "key and value",
                (kv.key_str()?, kv.value_str()?),
                (&*format!("many/{id}"), &*id.to_string()),
            )?;
            ensure(seen.insert(id), || {
                format!("watcher {id} has seen its event twice")
            })?;
        }
    }
    Ok(())
}
