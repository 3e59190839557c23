//! One fault at a time, and how long the cluster took to accept writes again.

use super::client::Client;
use super::cluster::{Cluster, Cut};
use super::eventually;
use super::workload::Workload;
use std::fmt;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What one fault did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// The node that was killed or cut off.
    pub(crate) node: usize,
    /// What it was at that moment.
    pub(crate) role: Role,
    /// From the fault until one of the other nodes acknowledged a write that was sent after it; when a
    /// node is stopped in good order, the longest time between two acknowledged writes.
    pub(crate) until_write: Duration,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            role,
            until_write,
        } = self;
        write!(
            f,
            "node {node}, {role:?}: writes resumed after {} ms",
            until_write.as_millis()
        )
    }
}

/// What a node was when it was struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It led.
    Leader,
    /// It followed.
    Follower,
}

/// Kills `node` with `kill -9`, waits until the others accept writes, leaves them alone for
/// `pause`, starts the node again and waits until it has caught up.
///
/// # Errors
///
/// If any of that does not happen.
pub(crate) async fn kill(cluster: &mut Cluster, node: usize, pause: Duration) -> anyhow::Result<Outage> {
    let role = role(cluster, node).await?;
    let started = Instant::now();
    cluster.kill(node)?;
    let until_write = until_write(cluster, node, started).await?;
    tokio::time::sleep(pause).await;
    cluster.restart(node)?;
    cluster.caught_up(node).await?;
    Ok(Outage {
        node,
        role,
        until_write,
    })
}

/// Drops packets of the leader, waits until the others have another one and accept writes, leaves
/// them alone for `pause`, heals the network and waits until the node has caught up.
///
/// # Errors
///
/// If any of that does not happen.
pub(crate) async fn cut_leader(cluster: &mut Cluster, cut: Cut, pause: Duration) -> anyhow::Result<Outage> {
    let node = cluster.leader().await?;
    let started = Instant::now();
    cluster.cut(node, cut)?;
    let until_write = until_write(cluster, node, started).await?;
    let others = cluster.others(node);
    cluster.leader_among(&others).await?;
    tokio::time::sleep(pause).await;
    cluster.heal(node)?;
    cluster.caught_up(node).await?;
    Ok(Outage {
        node,
        role: Role::Leader,
        until_write,
    })
}

/// Stops and starts `node` as an operator does who installs a new version, and waits until it has
/// caught up. Says how long nobody's write was acknowledged meanwhile, at most.
///
/// # Errors
///
/// If any of that does not happen.
pub(crate) async fn roll(cluster: &mut Cluster, node: usize, load: &Workload) -> anyhow::Result<Outage> {
    let role = role(cluster, node).await?;
    load.watch_gap();
    cluster.terminate(node)?;
    cluster.restart(node)?;
    cluster.caught_up(node).await?;
    cluster.leader().await?;
    Ok(Outage {
        node,
        role,
        until_write: load.longest_gap(),
    })
}

async fn role(cluster: &mut Cluster, node: usize) -> anyhow::Result<Role> {
    let leader = cluster.leader().await?;
    Ok(if leader == node {
        Role::Leader
    } else {
        Role::Follower
    })
}

/// Sends writes to the other nodes, again and again, until one is acknowledged.
async fn until_write(cluster: &Cluster, struck: usize, started: Instant) -> anyhow::Result<Duration> {
    let clients: Vec<Client> = cluster
        .others(struck)
        .into_iter()
        .map(|node| cluster.client(node))
        .collect();
    eventually("a write after the fault", || first_acknowledged(&clients)).await?;
    Ok(started.elapsed())
}

/// Sends a write to each node every few milliseconds, so that none waits behind one that is lost,
/// until one is acknowledged.
async fn first_acknowledged(clients: &[Client]) -> anyhow::Result<()> {
    let mut probes = JoinSet::new();
    for _ in 0..PROBES {
        for client in clients {
            let client = client.clone();
            probes.spawn(async move { client.put("probe", "x").await.is_ok() });
        }
        if timeout(PROBE_INTERVAL, success(&mut probes)).await.is_ok() {
            return Ok(());
        }
    }
    anyhow::bail!("none of {PROBES} writes to each node was acknowledged")
}

/// Waits for a probe that succeeds; for ever if all that were sent have failed.
async fn success(probes: &mut JoinSet<bool>) {
    while let Some(outcome) = probes.join_next().await {
        if matches!(outcome, Ok(true)) {
            return;
        }
    }
    std::future::pending().await
}

const PROBE_INTERVAL: Duration = Duration::from_millis(10);
const PROBES: usize = 1000;
