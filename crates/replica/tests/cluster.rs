//! Three nodes over real TCP and real files, as an embedding program has them.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::{Cluster, eventually};
use quorate::{Config, Event, NodeId, Observer, ProposeError, Rejection, RoleKind, StartError, Stopped};

#[tokio::test(flavor = "multi_thread")]
async fn commands_from_every_node_are_read_at_every_node() {
    let cluster = Cluster::start(3);
    let mut expected = Vec::new();
    for round in 0..5 {
        for (id, node) in &cluster.nodes {
            let value = round * 10 + id;
            let length = node.propose(value).await.unwrap();
            expected.push(value);
            assert_eq!(
                length,
                expected.len(),
                "the response is that of applying it in its place"
            );
        }
        for node in cluster.nodes.values() {
            assert_eq!(
                node.read(()).await.unwrap(),
                expected,
                "a read sees all that was acknowledged"
            );
        }
    }
    cluster.all_hold(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_at_once_from_all_nodes_are_each_applied_once() {
    let cluster = Cluster::start(3);
    let mut tasks = tokio::task::JoinSet::new();
    for value in 0..300 {
        let node = cluster.node(value % 3 + 1).clone();
        tasks.spawn(async move { node.propose(value).await });
    }
    let mut lengths: Vec<usize> = tasks.join_all().await.into_iter().map(Result::unwrap).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (1..=300).collect::<Vec<_>>());
    let mut values = cluster.node(1).read(()).await.unwrap();
    values.sort_unstable();
    assert_eq!(values, (0..300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_restarts_in_turn_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3);
    let mut expected = Vec::new();
    for node in 1..=3 {
        cluster.leader().await;
        cluster.stop_node(node).await;
        cluster.write(node % 3 + 1, node).await;
        expected.push(node);
        cluster.start_node(node);
        assert_eq!(cluster.node(node).read(()).await.unwrap(), expected);
    }
    cluster.all_hold(&expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_stop_and_start_again_with_their_data() {
    let mut cluster = Cluster::start_with(3, small_snapshots);
    for value in 0..50 {
        cluster.node(1).propose(value).await.unwrap();
    }
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    (1..=3).for_each(|node| cluster.start_node(node));
    assert_eq!(
        cluster.node(2).read(()).await.unwrap(),
        (0..50).collect::<Vec<_>>()
    );
}

/// The nodes that were reported gone to their followers.
static GONE: Mutex<BTreeSet<NodeId>> = Mutex::new(BTreeSet::new());

struct SeesGone;

impl Observer for SeesGone {
    fn event(&self, event: &Event) {
        if let Event::LeaderGone { leader } = event {
            GONE.lock().unwrap().insert(*leader);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_hear_that_the_process_of_their_leader_is_gone() {
    let mut cluster = Cluster::start_with(3, |mut config| {
        config.observer = Some(Arc::new(SeesGone));
        config
    });
    let leader = cluster.leader().await;
    cluster.write(leader, 1).await;
    cluster.end_node(leader).await;
    cluster.write(leader % 3 + 1, 2).await;
    assert!(GONE.lock().unwrap().contains(&NodeId(leader)));
}

/// Snapshots after few entries, and a log that keeps almost nothing before them.
fn small_snapshots(mut config: Config) -> Config {
    config.snapshots.every_entries = 20;
    config.limits.retained_entries = 2;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_log_is_gone_catches_up_by_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::start_with(3, small_snapshots);
    let follower = cluster.follower().await;
    let missed = cluster.node(follower).status().await.unwrap().last.index;
    cluster.stop_node(follower).await;
    let leader = cluster.node(cluster.leader().await).clone();
    let mut next = 0;
    while leader.status().await.unwrap().base.index <= missed {
        leader.propose(next).await.unwrap();
        next += 1;
    }

    cluster.start_node(follower);
    let going_on = Arc::new(AtomicBool::new(true));
    let writer = {
        let (leader, going_on) = (leader.clone(), Arc::clone(&going_on));
        tokio::spawn(async move {
            while going_on.load(Ordering::Relaxed) {
                leader.propose(next).await.unwrap();
                next += 1;
            }
            next
        })
    };
    eventually("the follower has what it missed", || async {
        let status = cluster.node(follower).status().await.unwrap();
        (status.snapshot.index > missed).then_some(())
    })
    .await;
    going_on.store(false, Ordering::Relaxed);
    let written = writer.await.unwrap();
    cluster.all_hold(&(0..written).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_sent_and_writes_go_on() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.node(1).propose(1).await.unwrap();
    cluster
        .node(leader)
        .transfer_leadership(NodeId(follower))
        .await
        .unwrap();
    eventually("the follower leads", || async {
        let status = cluster.node(follower).status().await.unwrap();
        (status.role == RoleKind::Leader).then_some(())
    })
    .await;
    cluster.node(leader).propose(2).await.unwrap();
    cluster.all_hold(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_serves_nothing_and_says_so() {
    let mut cluster = Cluster::start(3);
    cluster.node(1).propose(1).await.unwrap();
    cluster.stop_node(2).await;
    cluster.stop_node(3).await;
    let soon = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
    let proposed = cluster.node(1).propose_until(2, soon).await;
    assert!(
        matches!(proposed, Err(ProposeError::Unknown | ProposeError::Rejected(_))),
        "{proposed:?}"
    );
    assert!(cluster.node(1).read_until((), soon).await.is_err());
    assert_eq!(cluster.node(1).read_local(()).await.unwrap(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_too_large_is_refused_at_once() {
    let cluster = Cluster::start_with(1, |mut config| {
        config.limits.max_command_bytes = 2;
        config.limits.max_message_bytes = 2;
        config
    });
    assert_eq!(cluster.node(1).propose(1).await, Ok(1));
    let refused = cluster.node(1).propose(u64::MAX).await;
    assert_eq!(refused, Err(ProposeError::Rejected(Rejection::TooLarge)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_can_be_asked_for() {
    let cluster = Cluster::start(1);
    let node = cluster.node(1);
    node.propose(1).await.unwrap();
    let begun = node.trigger_snapshot().await.unwrap().unwrap();
    eventually("the snapshot is saved", || async {
        (node.status().await.unwrap().snapshot == begun).then_some(())
    })
    .await;
    assert_eq!(
        node.trigger_snapshot().await.unwrap(),
        None,
        "nothing was applied since"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_shut_down_says_so_and_frees_its_directory() {
    let mut cluster = Cluster::start(1);
    let node = cluster.node(1).clone();
    node.propose(1).await.unwrap();
    assert_eq!(node.failure(), None);
    assert_eq!(node.shutdown().await, Stopped::Shutdown);
    assert_eq!(
        node.propose(2).await,
        Err(ProposeError::Stopped(Stopped::Shutdown))
    );
    assert_eq!(node.read_local(()).await, Err(Stopped::Shutdown));
    cluster.start_node(1);
    assert_eq!(cluster.node(1).read(()).await.unwrap(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_when_its_last_handle_is_dropped() {
    let mut cluster = Cluster::start(1);
    cluster.node(1).propose(1).await.unwrap();
    drop(cluster.nodes.remove(&1));
    eventually("the directory is free", || async {
        match cluster.config(1).start::<common::Journal>() {
            Ok(node) => Some(node),
            Err(StartError::Storage(_)) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_or_in_use_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(2);
    let refused = |config: Config| match config.start::<common::Journal>() {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    let in_use = refused(cluster.config(1));
    assert!(
        in_use.contains(&cluster.data_dir(1).display().to_string()),
        "{in_use}"
    );

    cluster.stop_node(1).await;
    let identity = || std::fs::read(cluster.data_dir(1).join("IDENTITY")).unwrap();
    let before = identity();
    let other_cluster = refused(cluster.config(1).cluster(7));
    assert!(
        other_cluster.contains("cluster 0000000000000007"),
        "{other_cluster}"
    );
    let other_node = refused(cluster.config(2).data_dir(cluster.data_dir(1)));
    assert!(
        other_node.contains("belongs to node 1, this is node 2"),
        "{other_node}"
    );
    assert_eq!(identity(), before);

    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("letter.txt"), "dear").unwrap();
    let not_ours = refused(cluster.config(1).data_dir(elsewhere.path()));
    assert!(not_ours.contains("letter.txt"), "{not_ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_right_are_refused_before_anything_is_touched() {
    let cluster = Cluster::start(1);
    let nowhere = cluster.data_dir(9);
    let mut hasty = cluster.config(1).data_dir(&nowhere);
    hasty.election_ticks = 1;
    assert!(matches!(
        hasty.start::<common::Journal>(),
        Err(StartError::Core(_))
    ));
    let stranger = Config::new(5).peers([(1, "127.0.0.1:0")]).data_dir(&nowhere);
    let refused = stranger.start::<common::Journal>();
    assert!(matches!(
        refused,
        Err(StartError::Config { setting: "peers", .. })
    ));
    assert!(!nowhere.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_are_those_that_the_directory_knows() {
    let mut cluster = Cluster::start(1);
    cluster.stop_node(1).await;
    let mut config = cluster.config(1);
    config.peers.insert(NodeId(2), "127.0.0.1:1".to_owned());
    let node = config.start::<common::Journal>().unwrap();
    assert_eq!(node.propose(1).await, Ok(1), "one voter is a majority of one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named() {
    let cluster = Cluster::start(1);
    let mut config = cluster.config(1);
    config.listener = None;
    let Err(error) = config.start::<common::Journal>() else {
        panic!("it started");
    };
    assert!(error.to_string().contains(&cluster.address(1)), "{error}");
}
