//! Tells the operator which peers a node waits for while it reaches no majority.

use std::sync::Arc;
use std::time::Instant;

use quorate_raft::NodeId;

use super::Office;
use super::complaints::PERIOD;
use super::lines::Lanes;

/// Looks at the connections for ever.
pub(super) async fn watch(office: Arc<Office>, lanes: Arc<Lanes>) {
    let mut told: Option<Instant> = None;
    loop {
        // The first look comes when there was time to connect.
        tokio::time::sleep(office.patience).await;
        let roster = office.roster();
        let is_connected = |node: NodeId| lanes.is_connected(node);
        if roster.configuration().is_unknown() || roster.has_quorum(is_connected) {
            if told.take().is_some() {
                tracing::info!("a majority of the members is connected again");
            }
        } else if told.is_none_or(|at| at.elapsed() >= PERIOD) {
            let missing = roster.missing(is_connected).into_iter();
            let names: Vec<String> = missing.map(|peer| roster.describe(peer)).collect();
            let not_connected = names.join(", ");
            tracing::warn!(%not_connected, "waits for a majority of the members: nothing is served without it");
            told = Some(Instant::now());
        }
    }
}
