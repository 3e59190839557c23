//! Members that come and go, over real TCP and real files.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Cluster, Journal, eventually};
use quorate::{
    ChangeStage, Config, MemberContext, MemberInfo, MemberKind, NodeId, ProposeError, ReadError,
    ReconfigureError, Rejection, inquire,
};

fn info(cluster: &Cluster, node: u64) -> MemberInfo {
    MemberContext::at(format!("node{node}"), cluster.address(node)).into_info()
}

/// Starts a node that is told nothing but who it is and whom to ask.
fn join(cluster: &mut Cluster, node: u64) {
    let asked = vec![cluster.address(1), cluster.address(2)];
    let introduced = inquire(&asked, &cluster.address(node)).unwrap();
    assert_eq!(introduced.node, NodeId(node));
    let mut config = cluster.config(node).join();
    config.peers.retain(|peer, _| introduced.members.is_member(*peer));
    config.witnesses = match introduced.kind {
        MemberKind::Witness => [introduced.node].into(),
        MemberKind::Full => [].into(),
    };
    let started = config.start::<Journal>().unwrap();
    cluster.nodes.insert(node, started);
}

/// Snapshots after few entries, and a log that keeps almost nothing before them.
fn small_snapshots(mut config: Config) -> Config {
    config.snapshots.every_entries = 20;
    config.limits.retained_entries = 2;
    config
}

async fn voters(cluster: &Cluster, node: u64) -> Vec<u64> {
    let status = cluster.node(node).status().await.unwrap();
    let members = &status.configuration;
    assert!(members.pending().is_none(), "{members}");
    members.voters().iter().map(|node| node.0).collect()
}

async fn replaced_while_written_to(settings: fn(Config) -> Config) {
    let mut cluster = Cluster::start_of(4, 3, settings);
    for value in 0..50 {
        cluster.node(1).propose(value).await.unwrap();
    }
    cluster.leader().await;
    cluster.end_node(3).await;
    let writing = Arc::new(AtomicBool::new(true));
    let writer = {
        let (node, writing) = (cluster.node(2).clone(), Arc::clone(&writing));
        tokio::spawn(async move {
            let mut written: Vec<u64> = (0..50).collect();
            let mut next = 50;
            while writing.load(Ordering::Relaxed) {
                match node.propose(next).await {
                    Ok(_) => written.push(next),
                    Err(ProposeError::Unknown) => {}
                    Err(error) => panic!("{error}"),
                }
                next += 1;
            }
            written
        })
    };
    let replacing = {
        let (node, info) = (cluster.node(1).clone(), info(&cluster, 4));
        tokio::spawn(async move { node.replace(NodeId(3), NodeId(4), info).await })
    };
    eventually("node 4 is expected", || async {
        let status = cluster.node(1).status().await.unwrap();
        status
            .reconfiguration()
            .filter(|change| change.stage == ChangeStage::CatchingUp)
    })
    .await;
    join(&mut cluster, 4);
    replacing.await.unwrap().unwrap();
    writing.store(false, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert_eq!(voters(&cluster, 1).await, [1, 2, 4]);

    // One more of the old members goes: the newcomer is needed, and has everything.
    cluster.end_node(1).await;
    cluster.write(4, 1_000_000).await;
    let held = cluster.node(4).read(()).await.unwrap();
    assert!(
        written.iter().all(|value| held.contains(value)),
        "an acknowledged command is lost"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_replaced_while_writes_go_on() {
    replaced_while_written_to(|config| config).await;
}

/// Whoever gives a newcomer up keeps the member whose place it was to take, at whatever node he asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_is_called_off_by_removing_the_newcomer() {
    let cluster = Cluster::start_of(4, 3, |config| config);
    cluster.node(1).propose(1).await.unwrap();
    for asked in 1..=3 {
        let (node, info) = (cluster.node(asked).clone(), info(&cluster, 4));
        let replace = tokio::spawn(async move { node.replace(NodeId(1), NodeId(4), info).await });
        eventually("node 4 is expected", || async {
            let status = cluster.node(asked).status().await.unwrap();
            status.reconfiguration()
        })
        .await;
        cluster.node(asked).remove(NodeId(4)).await.unwrap();
        assert_eq!(voters(&cluster, asked).await, [1, 2, 3]);
        let ended = replace.await.unwrap();
        assert!(ended.is_err(), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_may_need_a_snapshot() {
    replaced_while_written_to(small_snapshots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_needs_no_addresses_but_those_in_the_log() {
    let mut cluster = Cluster::start_of(4, 3, |config| config);
    cluster.node(2).propose(1).await.unwrap();
    let node = cluster.node(1).clone();
    let begun = node
        .change_members(|members| {
            let target = quorate::Target::of(members);
            target
                .with_voter(NodeId(4), info(&cluster, 4))
                .map_err(ReconfigureError::from)
        })
        .await
        .unwrap();
    join(&mut cluster, 4);
    begun.done().await.unwrap();
    for node in 1..=4 {
        cluster.stop_node(node).await;
        let mut config = cluster.config(node);
        config.peers.retain(|peer, _| *peer == NodeId(node));
        let started = config.start::<Journal>().unwrap();
        cluster.nodes.insert(node, started);
    }
    cluster.leader().await;
    cluster.write(4, 2).await;
    cluster.all_hold(&[1, 2]).await;
    assert_eq!(voters(&cluster, 3).await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_learns_of_it_and_a_removed_leader_hands_over() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader().await;
    cluster.node(leader).propose(1).await.unwrap();
    cluster.node(leader).remove(NodeId(leader)).await.unwrap();
    eventually("the removed member knows", || async {
        let status = cluster.node(leader).status().await.unwrap();
        let knows = !status.configuration.is_member(NodeId(leader));
        (knows && status.configuration_index <= status.commit_index).then_some(())
    })
    .await;
    let other = leader % 3 + 1;
    cluster.write(other, 2).await;
    let refused = cluster.node(other).remove(NodeId(leader)).await;
    assert_eq!(refused, Err(ReconfigureError::NotAMember(NodeId(leader))));
    let asked = [cluster.address(other)];
    assert!(inquire(&asked, &cluster.address(leader)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_removed_while_it_was_down_ends_when_it_is_told() {
    let mut cluster = Cluster::start(3);
    cluster.write(3, 1).await;
    cluster.all_hold(&[1]).await;
    cluster.stop_node(3).await;
    cluster.node(1).remove(NodeId(3)).await.unwrap();
    cluster.write(2, 2).await;
    cluster.start_node(3);
    let ended = tokio::time::timeout(Duration::from_secs(20), cluster.node(3).closed()).await;
    let stopped = ended.expect("it dials on, although it was removed");
    assert!(
        stopped.to_string().contains("removed from the cluster"),
        "{stopped}"
    );
    cluster.write(1, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_that_never_comes_can_be_given_up() {
    let cluster = Cluster::start_of(4, 3, |config| config);
    cluster.node(1).propose(1).await.unwrap();
    let node = cluster.node(2);
    let add = |members: &quorate::Configuration| {
        let target = quorate::Target::of(members);
        target
            .with_voter(NodeId(4), info(&cluster, 4))
            .map_err(ReconfigureError::from)
    };
    let begun = node.change_members(add).await.unwrap();
    cluster.node(3).remove(NodeId(4)).await.unwrap();
    let ended = begun.done().await;
    assert_eq!(ended, Err(ReconfigureError::Rejected(Rejection::Superseded)));
    assert_eq!(voters(&cluster, 1).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_another_was_quicker_to_begin_is_waited_for() {
    let mut cluster = Cluster::start_of(4, 3, |config| config);
    cluster.node(1).propose(1).await.unwrap();
    let before = cluster.node(1).status().await.unwrap().configuration;
    let target = quorate::Target::of(&before);
    let target = target.with_voter(NodeId(4), info(&cluster, 4)).unwrap();
    let precondition = || quorate::Precondition::Current(Box::new(before.as_ref().clone()));
    let first = cluster
        .node(1)
        .begin_reconfigure(target.clone(), precondition())
        .await
        .unwrap();
    // Its members are not those before, but it may see that they are to become what it wants, and take that for its own.
    let second = loop {
        match cluster
            .node(2)
            .begin_reconfigure(target.clone(), precondition())
            .await
        {
            Ok(begun) => break begun,
            Err(error) => assert_eq!(error, ReconfigureError::Rejected(Rejection::PreconditionFailed)),
        }
    };
    join(&mut cluster, 4);
    assert_eq!(second.done().await, Ok(()));
    assert_eq!(first.done().await, Ok(()));
    assert_eq!(voters(&cluster, 1).await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_holds_what_the_voters_do_and_is_promoted() {
    let mut cluster = Cluster::start_of(4, 3, |config| config);
    cluster.node(1).propose(1).await.unwrap();
    cluster
        .node(1)
        .add_learner(NodeId(4), info(&cluster, 4))
        .await
        .unwrap();
    join(&mut cluster, 4);
    cluster.all_hold(&[1]).await;
    cluster.node(4).propose(2).await.unwrap();
    assert_eq!(voters(&cluster, 4).await, [1, 2, 3]);
    cluster.node(4).promote(NodeId(4)).await.unwrap();
    cluster.all_hold(&[1, 2]).await;
    assert_eq!(voters(&cluster, 4).await, [1, 2, 3, 4]);
}

fn last_is_witness(config: Config) -> Config {
    let mut config = small_snapshots(config);
    config.witnesses = [NodeId(3)].into();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_keeps_two_going_when_one_of_them_is_gone() {
    let mut cluster = Cluster::start_with(3, last_is_witness);
    let mut expected: Vec<u64> = Vec::new();
    for value in 0..100 {
        cluster.node(value % 2 + 1).propose(value).await.unwrap();
        expected.push(value);
    }
    let refused = cluster.node(3).propose(7).await;
    assert_eq!(refused, Err(ProposeError::Rejected(Rejection::Witness)));
    // A deadline that the test does not live to see.
    let day = tokio::time::Instant::now() + Duration::from_secs(86_400);
    let refused = cluster.node(3).read_until((), day).await;
    assert_eq!(refused, Err(ReadError::Rejected(Rejection::Witness)));
    assert!(cluster.node(3).read_local(()).await.unwrap().is_empty());
    cluster.stop_node(3).await;
    cluster.write(1, 100).await;
    cluster.start_node(3);
    for gone in [1, 2] {
        cluster.stop_node(gone).await;
        let value = 100 + gone;
        cluster.write(3 - gone, value).await;
        cluster.start_node(gone);
        let held = cluster.node(gone).read(()).await.unwrap();
        assert!(held.starts_with(&expected) && held.contains(&value));
    }
}
