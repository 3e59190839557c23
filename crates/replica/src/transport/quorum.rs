//! Tells the operator which peers a node waits for while it reaches no majority.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use quorate_raft::NodeId;

use super::Office;
use super::complaints::PERIOD;
use super::lane::Lane;

/// Looks at the connections for ever.
pub(super) async fn watch(office: Arc<Office>, lanes: BTreeMap<NodeId, Arc<Lane>>) {
    let mut told: Option<Instant> = None;
    loop {
        // The first look comes when there was time to connect.
        tokio::time::sleep(office.patience).await;
        let missing = missing(&lanes);
        if is_majority(lanes.len() - missing.len(), lanes.len()) {
            if told.take().is_some() {
                tracing::info!("a majority of the members is connected again");
            }
        } else if told.is_none_or(|at| at.elapsed() >= PERIOD) {
            let names: Vec<String> = missing.iter().map(|peer| office.describe(*peer)).collect();
            let not_connected = names.join(", ");
            tracing::warn!(%not_connected, "waits for a majority of the members: nothing is served without it");
            told = Some(Instant::now());
        }
    }
}

fn missing(lanes: &BTreeMap<NodeId, Arc<Lane>>) -> Vec<NodeId> {
    let missing = lanes.iter().filter(|(_, lane)| !lane.is_connected());
    missing.map(|(peer, _)| *peer).collect()
}

/// Whether this node and the `connected` of its `peers` are more than half of all.
fn is_majority(connected: usize, peers: usize) -> bool {
    (connected + 1) * 2 > peers + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        assert!(is_majority(0, 0));
        assert!(!is_majority(0, 1) && is_majority(1, 1));
        assert!(!is_majority(0, 2) && is_majority(1, 2));
        assert!(!is_majority(1, 3) && is_majority(2, 3));
    }

    #[test]
    fn peers_without_a_connection_are_missing() {
        let lane = |_| Arc::new(Lane::new(1));
        let lanes: BTreeMap<NodeId, Arc<Lane>> = [2, 3].map(|id| (NodeId(id), lane(id))).into();
        lanes[&NodeId(3)].connect();
        assert_eq!(missing(&lanes), [NodeId(2)]);
    }
}
