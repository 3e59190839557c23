//! How many connections each address has.
//!
//! - One that is too many is closed before a byte is read from it: nothing is spoken yet in which it could be told
//!   why. It is counted, and logged once in a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use crate::seldom::Seldom;

/// The connections of all clients, by address.
pub(crate) struct Addresses {
    most: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
    refused: Counter,
    told: Seldom,
}

impl Addresses {
    /// Takes so many of each; counts the others in `refused`.
    pub(crate) fn new(most: usize, refused: Counter) -> Addresses {
        Addresses {
            most,
            counts: Mutex::default(),
            refused,
            told: Seldom::new(),
        }
    }

    /// Takes one more connection of `address`, for as long as the answer lives.
    pub(crate) fn enter(self: &Arc<Addresses>, address: IpAddr) -> Option<Entered> {
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.most {
            drop(counts);
            self.refuse(address);
            return None;
        }
        *count += 1;
        let addresses = Arc::clone(self);
        Some(Entered { addresses, address })
    }

    fn refuse(&self, address: IpAddr) {
        self.refused.inc();
        if self.told.is_due(Instant::now()) {
            let most = self.most;
            tracing::warn!(%address, "a connection was closed: its address has {most} already (--max-connections-per-address)");
        }
    }
}

/// A connection that is counted.
pub(crate) struct Entered {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_those_that_leave_make_room() {
        let refused = Counter::default();
        let addresses = Arc::new(Addresses::new(2, refused.clone()));
        let enter = |last| addresses.enter([10, 0, 0, last].into());
        let (first, _second) = (enter(1), enter(1));
        assert!(first.is_some() && enter(1).is_none());
        assert!(enter(2).is_some());
        drop(first);
        assert!(enter(1).is_some());
        assert_eq!(refused.get(), 1);
        drop(_second);
        assert!(addresses.counts.lock().is_empty());
    }
}
