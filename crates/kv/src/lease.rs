//! Leases as part of the replicated state: who exists, in which epoch, with which keys.
//!
//! - A key is attached to a lease exactly when its newest version names it.
//! - There is no time here. When a lease ends is a command; see [`crate::LeaseClock`] for who sends it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{Error, LeaseEpoch, LeaseEvent, LeaseId, RevokeCause};

/// A lease: keys attached to it are deleted when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its time to live from grant or renewal, in seconds.
    pub ttl_secs: i64,
    /// The period since its grant or last renewal.
    pub epoch: LeaseEpoch,
    /// The keys attached to it.
    pub keys: BTreeSet<Bytes>,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    last_epoch: LeaseEpoch,
}

impl Leases {
    /// Takes over the leases of a snapshot, without keys.
    pub(crate) fn restored(
        leases: impl Iterator<Item = (LeaseId, i64, LeaseEpoch)>,
        last_epoch: LeaseEpoch,
    ) -> Self {
        let lease = |ttl_secs, epoch| Lease {
            ttl_secs,
            epoch,
            keys: BTreeSet::new(),
        };
        Self {
            leases: leases.map(|(id, ttl, epoch)| (id, lease(ttl, epoch))).collect(),
            last_epoch,
        }
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    pub(crate) fn last_epoch(&self) -> LeaseEpoch {
        self.last_epoch
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl_secs: i64) -> Result<LeaseEvent, Error> {
        if id.0 == 0 {
            return Err(Error::LeaseNotFound(id));
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists(id));
        }
        let epoch = self.next_epoch();
        self.leases.insert(
            id,
            Lease {
                ttl_secs,
                epoch,
                keys: BTreeSet::new(),
            },
        );
        Ok(LeaseEvent::Started { id, ttl_secs, epoch })
    }

    /// Begins a new epoch; none if there is no such lease.
    pub(crate) fn renew(&mut self, id: LeaseId) -> Option<LeaseEvent> {
        let epoch = LeaseEpoch(self.last_epoch.0 + 1);
        let lease = self.leases.get_mut(&id)?;
        lease.epoch = epoch;
        self.last_epoch = epoch;
        Some(LeaseEvent::Started {
            id,
            ttl_secs: lease.ttl_secs,
            epoch,
        })
    }

    /// Ends a lease. Answers with it, so that its keys can be deleted.
    pub(crate) fn revoke(&mut self, id: LeaseId, cause: RevokeCause) -> Result<Lease, Error> {
        let lease = self.leases.get(&id).ok_or(Error::LeaseNotFound(id))?;
        match cause {
            // Whoever saw it expire did not know of the renewal: a deposed leader, or one that is slow.
            RevokeCause::Expired { epoch } if epoch != lease.epoch => Err(Error::LeaseRenewed(id)),
            RevokeCause::Expired { .. } | RevokeCause::Requested => {
                self.leases.remove(&id).ok_or(Error::LeaseNotFound(id))
            }
        }
    }

    /// Moves a key from one lease to another.
    pub(crate) fn reattach(&mut self, key: &[u8], from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(lease) = from.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    fn next_epoch(&mut self) -> LeaseEpoch {
        self.last_epoch = LeaseEpoch(self.last_epoch.0 + 1);
        self.last_epoch
    }
}
