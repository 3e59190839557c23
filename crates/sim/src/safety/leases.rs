//! Who may serve reads without asking, and who commits meanwhile (I13).

use std::collections::BTreeMap;

use quorate_raft::{Index, NodeId};

use super::Safety;
use crate::invariant::{Invariant, Violation, require};
use crate::schedule::Time;

/// The leases that leaders hold, by true time.
#[derive(Debug, Default)]
pub(super) struct Leases {
    now: Time,
    /// By its own clock a node serves reads without asking until then. A node that has died does not;
    /// what was promised to it is kept all the same.
    until: BTreeMap<NodeId, Time>,
}

impl Safety {
    /// At `now` a node may serve reads by a lease until then; none if it may not.
    pub(crate) fn holds_lease(&mut self, node: NodeId, now: Time, until: Option<Time>) {
        self.leases.now = now;
        match until {
            Some(until) => self.leases.until.insert(node, until),
            None => self.leases.until.remove(&node),
        };
    }

    /// What a leader commits was committed before by every other that serves reads by a lease, or those
    /// reads would miss it.
    pub(super) fn check_leases(&self, node: NodeId, index: Index) -> Result<(), Violation> {
        let leads = self.nodes[&node].leads.is_some();
        let held = self.leases.until.iter();
        for (holder, until) in
            held.filter(|(holder, until)| leads && **holder != node && **until > self.leases.now)
        {
            let known = self.nodes[holder].commit;
            require(index <= known, Invariant::LeaseExcludes, || {
                format!(
                    "{node} commits {index}, and {holder} serves reads at {known} by a lease until {until}"
                )
            })?;
        }
        Ok(())
    }
}
