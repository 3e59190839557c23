//! What leases need beside the keyspace: ids, renewals in batches, and expiry.
//!
//! - A renewal is a command. Those that wait on one member travel together in one.
//! - Only a leader proposes that a lease has expired, and names the epoch it saw expire: a renewal
//!   that was committed before makes the proposal void.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_kv::{Caller, Command, LeaseEpoch, LeaseId, Response, RevokeCause};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::flag::raised;
use crate::node::Node;

/// Picks ids for leases whose clients left that to the server.
///
/// An id is the member, the time of the member's start and a count, so that members never pick the same
/// one and a restarted member goes on above those it picked before.
pub(crate) struct LeaseIds(AtomicU64);

impl LeaseIds {
    /// Ids of a member that starts at this moment.
    pub(crate) fn new(member_id: u64) -> LeaseIds {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(0);
        LeaseIds(AtomicU64::new(member_id << 48 | (millis << 8 & 0xffff_ffff_ffff)))
    }

    /// The next id: positive.
    pub(crate) fn next(&self) -> LeaseId {
        let next = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        LeaseId((next & i64::MAX as u64).max(1).cast_signed())
    }
}

/// Renews leases, those that wait at the same time by one command.
#[derive(Clone)]
pub(crate) struct Renewals(mpsc::Sender<Asked>);

struct Asked {
    caller: Caller,
    id: LeaseId,
    answer: oneshot::Sender<Renewed>,
}

/// The lease's time to live in seconds; none if there is no such lease.
type Renewed = Result<Option<i64>, Status>;

impl Renewals {
    /// Renewals through `node`, by a task that ends when the last handle is gone.
    pub(crate) fn start(node: &Arc<Node>) -> Renewals {
        let (sender, receiver) = mpsc::channel(MAX_WAITING_RENEWALS);
        tokio::spawn(renew_batches(Arc::clone(node), receiver));
        Renewals(sender)
    }

    /// Renews one lease.
    pub(crate) async fn renew(&self, caller: Caller, id: LeaseId) -> Renewed {
        let (answer, renewed) = oneshot::channel();
        let asked = self.0.send(Asked { caller, id, answer }).await;
        asked.map_err(|_| Status::from(EtcdError::Stopped))?;
        renewed.await.unwrap_or_else(|_| Err(EtcdError::Stopped.into()))
    }
}

async fn renew_batches(node: Arc<Node>, mut receiver: mpsc::Receiver<Asked>) {
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, MAX_RENEWALS).await > 0 {
        let mut by_caller: BTreeMap<Caller, Vec<Asked>> = BTreeMap::new();
        for asked in batch.drain(..) {
            by_caller.entry(asked.caller.clone()).or_default().push(asked);
        }
        let renewals = by_caller
            .into_iter()
            .map(|(caller, asked)| renew_for(&node, caller, asked));
        futures::future::join_all(renewals).await;
    }
}

/// Renews what one caller has asked for.
async fn renew_for(node: &Node, caller: Caller, asked: Vec<Asked>) {
    let ids: Vec<LeaseId> = asked.iter().map(|asked| asked.id).collect();
    let renewed = renew_all(node, caller.clone(), ids).await;
    let is_denied = |status: &Status| status.message() == EtcdError::PermissionDenied.message();
    let some_are_denied = asked.len() > 1 && renewed.as_ref().is_err_and(is_denied);
    for Asked { id, answer, .. } in asked {
        let renewed = match some_are_denied {
            // The others' keep-alives are none of the worse for one that is not allowed.
            true => renew_all(node, caller.clone(), vec![id]).await,
            false => renewed.as_ref().map_err(Status::clone).cloned(),
        };
        // Whoever has gone away needs no answer.
        let _ = answer.send(renewed.map(|ttls| ttls.get(&id).copied()));
    }
}

async fn renew_all(
    node: &Node,
    caller: Caller,
    mut ids: Vec<LeaseId>,
) -> Result<BTreeMap<LeaseId, i64>, Status> {
    ids.sort_unstable();
    ids.dedup();
    let (_, response) = node.propose(caller, Command::LeaseRenew { ids }).await?;
    let Response::LeaseRenew(renewals) = response else {
        return Err(Status::internal("quorate: the answer belongs to another command"));
    };
    let living = renewals.into_iter();
    Ok(living
        .filter_map(|renewal| Some((renewal.id, renewal.ttl_secs?)))
        .collect())
}

/// Proposes the end of leases whose time is up, while this member leads.
pub(crate) async fn expire(node: Arc<Node>) {
    let mut stop = node.stop();
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = raised(&mut stop) => return,
        }
        if node.is_leader() {
            tokio::select! {
                () = revoke_expired(&node) => {}
                () = raised(&mut stop) => return,
            }
        }
    }
}

async fn revoke_expired(node: &Node) {
    let shared = node.shared();
    let expired = shared.leases.lock().expired(shared.now(), MAX_REVOKED);
    let revocations = futures::stream::iter(expired);
    revocations
        .for_each_concurrent(MAX_REVOKING, |(id, epoch)| revoke(node, id, epoch))
        .await;
}

async fn revoke(node: &Node, id: LeaseId, epoch: LeaseEpoch) {
    let cause = RevokeCause::Expired { epoch };
    match node
        .propose(Caller::Member, Command::LeaseRevoke { id, cause })
        .await
    {
        Ok(_) => {
            node.metrics().leases_expired.inc();
        }
        // It was renewed or revoked in the meantime, or it is tried again after the next tick.
        Err(status) => tracing::debug!(lease = %id, %status, "an expired lease was not revoked"),
    }
}

/// With [`MAX_REVOKED`], bounds revocations to 1000 in a second, as etcd does.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);
const MAX_REVOKED: usize = 250;
const MAX_REVOKING: usize = 64;
const MAX_RENEWALS: usize = 4096;
const MAX_WAITING_RENEWALS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picked_ids_are_positive_and_differ() {
        for member in [0, 1, u64::MAX] {
            let ids = LeaseIds::new(member);
            let (a, b) = (ids.next(), ids.next());
            assert!(a.0 > 0 && b.0 > 0 && a != b, "{a} {b}");
        }
        assert_ne!(LeaseIds::new(1).next(), LeaseIds::new(2).next());
    }
}
