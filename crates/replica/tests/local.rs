//! Replicas without sockets and files: the same promises, as long as the process lives.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Journal, Node};
use quorate::{
    Config, Consistency, DriftBound, LocalNetwork, NodeId, Replica, SnapshotPolicy, Status, Stopped, Typed,
};

fn start(node: u64, network: &LocalNetwork) -> Node {
    Replica::start_local(config(node), Typed::<Journal>::default(), network).unwrap()
}

fn config(node: u64) -> Config {
    let mut config = Config::new(node).peers([1, 2, 3].map(|node| (node, "nowhere")));
    config.tick = Duration::from_millis(10);
    config.limits.retained_entries = 10;
    config.limits.window_bytes = 100;
    config.snapshots = SnapshotPolicy {
        every_entries: 50,
        every_bytes: 1 << 20,
    };
    config
}

async fn applied(node: &Node, index: u64) {
    let mut status = node.watch_status();
    let waited = status.wait_for(|status| status.applied_index.0 >= index);
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_late_has_the_snapshot_and_the_rest() {
    let network = LocalNetwork::new();
    let nodes = [start(1, &network), start(2, &network)];
    for value in 0..200 {
        nodes[0].propose(value).await.unwrap();
    }
    // Both must have let go of the log's beginning: only a snapshot can help the third.
    for node in &nodes {
        let mut status = node.watch_status();
        status.wait_for(|status| status.base.index.0 > 0).await.unwrap();
    }
    let late = start(3, &network);
    late.propose(200).await.unwrap();
    applied(&late, 200).await;
    let expected: Vec<u64> = (0..=200).collect();
    assert_eq!(late.read(()).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_go_on_when_the_third_has_ended() {
    let network = LocalNetwork::new();
    let mut nodes = vec![start(1, &network), start(2, &network), start(3, &network)];
    nodes[0].propose(1).await.unwrap();
    assert_eq!(nodes.remove(0).shutdown().await, Stopped::Shutdown);
    for (node, value) in nodes.iter().zip(2..) {
        // What goes to a leader that has ended is of unknown outcome, and must not be proposed again.
        let lives = |status: &Arc<Status>| status.leader.is_some_and(|leader| leader != NodeId(1));
        node.watch_status().wait_for(lives).await.unwrap();
        node.propose(value).await.unwrap();
    }
    assert_eq!(nodes[1].read(()).await.unwrap(), [1, 2, 3]);
    assert_eq!(nodes[1].peer_address(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_leases_every_node_answers_at_every_consistency() {
    let network = LocalNetwork::new();
    let start = |node| {
        let config = config(node).leases(DriftBound(10_000));
        Replica::start_local(config, Typed::<Journal>::default(), &network).unwrap()
    };
    let mut nodes: Vec<Node> = [1, 2, 3].map(start).into();
    let mut expected = Vec::new();
    for round in 0..2 {
        for value in 10 * round..10 * round + 10 {
            nodes[0].propose(value).await.unwrap();
            expected.push(value);
            for node in &nodes {
                for consistency in [Consistency::Lease, Consistency::Linearizable] {
                    assert_eq!(node.query((), consistency).await.unwrap(), expected);
                }
            }
        }
        let leader = nodes[0].status().await.unwrap().leader.unwrap();
        let place = nodes.iter().position(|node| node.node() == leader).unwrap();
        let local = nodes[place].query((), Consistency::Local).await.unwrap();
        assert_eq!(local, expected, "the leader has applied what it has acknowledged");
        // The next leader must have a lease of its own, and what the one before acknowledged.
        if round == 0 {
            nodes.remove(place).shutdown().await;
            let lives = |status: &Arc<Status>| status.leader.is_some_and(|other| other != leader);
            nodes[0].watch_status().wait_for(lives).await.unwrap();
        }
    }
}
