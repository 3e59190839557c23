//! What a member does beside serving: it publishes itself, follows who leads, and tidies up.

use std::sync::Arc;
use std::time::Duration;

use quorate::{RoleKind, Status as RaftStatus};
use quorate_kv::{Caller, Command, Member, MemberId};
use tokio::sync::watch;
use tonic::Status;

use crate::flag::raised;
use crate::machine::{Chores, Query};
use crate::node::{Node, answer};

/// Publishes the member's name and URLs through the log, unless the keyspace has them already.
/// Says so in `ready` once that is done.
pub(crate) async fn publish(node: Arc<Node>, own: Member, ready: watch::Sender<bool>) {
    let mut stop = node.stop();
    if node.is_witness() {
        return publish_witness(&node, stop, ready).await;
    }
    loop {
        let published = tokio::select! {
            published = publish_once(&node, &own) => published,
            () = raised(&mut stop) => return,
        };
        match published {
            Ok(()) => break,
            Err(status) => tracing::warn!(%status, "this member is not published yet"),
        }
        tokio::time::sleep(PUBLISH_PAUSE).await;
    }
    tracing::debug!(name = own.name, "this member is published");
    ready.send_replace(true);
}

/// A witness proposes nothing, and is called what it was added as: it is ready when somebody leads.
async fn publish_witness(node: &Node, mut stop: watch::Receiver<bool>, ready: watch::Sender<bool>) {
    let mut raft = node.watch_raft();
    tokio::select! {
        led = raft.wait_for(|status| status.leader.is_some()) => if led.is_ok() {
            ready.send_replace(true);
        },
        () = raised(&mut stop) => {}
    }
}

/// Waits until it is committed that this member is none any more; for ever if the server stops before.
pub(crate) async fn removed(node: &Node) {
    let is_removed = |status: &Arc<RaftStatus>| status.removed && status.role != RoleKind::Leader;
    let at_start = Arc::clone(&node.watch_raft().borrow());
    if !at_start.configuration.is_unknown() && !at_start.configuration.is_member(at_start.id) {
        tracing::warn!(
            members = %at_start.configuration,
            "the log of this member does not name it: it waits to be told that it is one; if it was removed, delete its data directory"
        );
    }
    if node.watch_raft().wait_for(is_removed).await.is_err() {
        std::future::pending().await
    }
}

async fn publish_once(node: &Node, own: &Member) -> Result<(), Status> {
    let members = answer!(node.read(Query::Members).await?, Members);
    if !members.contains(own) {
        let publish = Command::PublishMember(own.clone());
        node.propose(Caller::Member, publish).await?;
    }
    Ok(())
}

/// The member as it publishes itself.
pub(crate) fn own_member(node: &Node, client_urls: Vec<String>) -> Member {
    let config = node.config();
    let peer_urls = config.initial_advertise_peer_urls.iter();
    Member {
        id: MemberId(node.identity().member_id),
        name: config.name.clone(),
        peer_urls: peer_urls.map(ToString::to_string).collect(),
        client_urls,
    }
}

/// Follows who leads: leases stand still while nobody does, and those who require a leader learn of it
/// when there is none for three election timeouts.
pub(crate) async fn follow_leader(node: Arc<Node>, leaderless: watch::Sender<bool>) {
    let (mut raft, mut stop) = (node.watch_raft(), node.stop());
    let patience = 3 * node.config().election_timeout;
    let mut known = None;
    loop {
        let leader = raft.borrow_and_update().leader;
        if leader != known && leader.is_some() {
            node.metrics().leader_changes.inc();
            known = leader;
        }
        match leader {
            Some(_) => {
                resume_leases(&node);
                leaderless.send_replace(false);
            }
            None => suspend_leases(&node),
        }
        let changed = raft.wait_for(|status| status.leader != leader);
        let overdue = async {
            match leader {
                Some(_) => std::future::pending().await,
                None => tokio::time::sleep(patience).await,
            }
        };
        tokio::select! {
            changed = changed => if changed.is_err() { return },
            () = overdue => { leaderless.send_replace(true); }
            () = raised(&mut stop) => return,
        }
    }
}

/// Lease time stands still while no leader is known: nobody could renew.
fn suspend_leases(node: &Node) {
    let shared = node.shared();
    shared.leases.lock().suspend(shared.now());
}

fn resume_leases(node: &Node) {
    let shared = node.shared();
    shared.leases.lock().resume(shared.now());
}

/// Does what is left to do between commands, whenever something is.
pub(crate) async fn tidy(node: Arc<Node>) {
    let mut stop = node.stop();
    loop {
        tokio::select! {
            () = node.shared().chores.notified() => {}
            () = raised(&mut stop) => return,
        }
        if finish_chores(&node).await.is_err() {
            return;
        }
    }
}

/// Does all that is left to do between commands, in steps that let commands pass.
pub(crate) async fn finish_chores(node: &Node) -> Result<(), Status> {
    while answer!(node.read_local(Query::Chores).await?, Chores) == Chores::Left {}
    Ok(())
}

/// Tells the watchers that want it how far they are, though nothing happens.
pub(crate) async fn tick_watches(node: Arc<Node>) {
    let mut stop = node.stop();
    loop {
        let shared = node.shared();
        let now = shared.now();
        let next = shared.watches.lock().tick(now);
        tokio::select! {
            () = tokio::time::sleep(next.saturating_sub(now).max(MIN_TICK)) => {}
            () = raised(&mut stop) => return,
        }
    }
}

const PUBLISH_PAUSE: Duration = Duration::from_millis(500);
const MIN_TICK: Duration = Duration::from_millis(10);
