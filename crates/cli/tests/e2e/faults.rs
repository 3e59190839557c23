//! Three processes under load while nodes are killed and left behind.

use crate::binary;
use crate::harness::block_on;
use crate::harness::cluster::{Cluster, Place};
use crate::harness::eventually;
use crate::harness::faults::{kill, roll};
use crate::harness::verify::{agreement, check_record};
use crate::harness::workload::Workload;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Short, so that elections do not make the tests long.
pub(crate) const TIMING: [&str; 4] = ["--heartbeat-interval", "50", "--election-timeout", "500"];

/// One test at a time: three of them would starve each other's elections on a small machine.
pub(crate) static TURN: Mutex<()> = Mutex::new(());

#[test]
fn acknowledged_writes_survive_kill_9_of_every_node() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &TIMING)?;
        cluster.leader().await?;
        let workload = Workload::start(&cluster.clients(), 2).await?;
        for turn in 0..6 {
            kill(&mut cluster, turn % 3, Duration::from_millis(200)).await?;
        }
        let record = workload.stop().await;
        cluster.check_running()?;
        let state = agreement(&cluster.clients()).await?;
        ensure!(
            record.acknowledged() > 0 && record.reads > 0,
            "the workload did nothing"
        );
        check_record(&record, &state)
    });
}

#[test]
fn nodes_restarted_one_after_the_other_lose_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &TIMING)?;
        let leader = cluster.leader().await?;
        let workload = Workload::start(&cluster.clients(), 2).await?;
        for node in cluster.others(leader).into_iter().chain([leader]) {
            roll(&mut cluster, node, &workload).await?;
        }
        let record = workload.stop().await;
        let state = agreement(&cluster.clients()).await?;
        ensure!(record.acknowledged() > 0, "the workload did nothing");
        check_record(&record, &state)
    });
}

#[test]
fn all_killed_at_once_find_their_data() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &TIMING)?;
        cluster.leader().await?;
        let workload = Workload::start(&cluster.clients(), 2).await?;
        eventually("some writes", async || enough(&workload, 100)).await?;
        for node in 0..3 {
            cluster.kill(node)?;
        }
        let record = workload.stop().await;
        for node in 0..3 {
            cluster.restart(node)?;
        }
        cluster.leader().await?;
        let state = agreement(&cluster.clients()).await?;
        check_record(&record, &state)
    });
}

#[test]
fn a_follower_whose_log_is_gone_catches_up_by_snapshot_while_writes_go_on() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let flags = [TIMING.as_slice(), &["--snapshot-count", "50"]].concat();
        let mut cluster = Cluster::start(binary(), 3, Place::Loopback, &flags)?;
        let leader = cluster.leader().await?;
        let follower = (leader + 1) % 3;
        let workload = Workload::start(&cluster.clients(), 2).await?;
        cluster.kill(follower)?;
        let before = workload.acknowledged();
        eventually("writes without the follower", async || {
            enough(&workload, before + 2000)
        })
        .await?;
        let snapshots = snapshots(&cluster, follower)?;
        // It takes none of its own: what is new there came from the leader.
        cluster.restart_with(follower, &["--snapshot-count", "1000000000"])?;
        cluster.caught_up(follower).await?;
        let received = self::snapshots(&cluster, follower)?;
        ensure!(
            !received.is_subset(&snapshots),
            "no snapshot was received: {received:?}"
        );
        let record = workload.stop().await;
        cluster.check_running()?;
        let state = agreement(&cluster.clients()).await?;
        check_record(&record, &state)
    });
}

/// The names of the snapshots that a node has.
fn snapshots(cluster: &Cluster, node: usize) -> anyhow::Result<BTreeSet<OsString>> {
    let entries = std::fs::read_dir(cluster.data_dir(node).join("snapshots"))?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

fn enough(workload: &Workload, goal: usize) -> anyhow::Result<()> {
    let acknowledged = workload.acknowledged();
    ensure!(acknowledged >= goal, "{acknowledged} writes of {goal}");
    Ok(())
}
