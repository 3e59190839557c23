//! Which keys the watchers of a stream watch, and on whose account: what is looked at again when users or
//! roles change.
//!
//! A watcher's id is chosen by the hub, which says so by its first output for it. The hub answers creations
//! in their order, each by one output: that is how keys and id come together.

use std::collections::{BTreeMap, VecDeque};

use quorate_kv::{Caller, KeyRange, UserName, WatchId, WatchOutput};

/// The watchers of a stream.
#[derive(Default)]
pub(super) struct Watched {
    created: VecDeque<Watcher>,
    living: BTreeMap<WatchId, Watcher>,
    /// Why watchers are about to be canceled that their client has not canceled.
    denied: BTreeMap<WatchId, String>,
}

#[derive(Clone)]
struct Watcher {
    /// None: nobody in particular.
    user: Option<UserName>,
    keys: KeyRange,
}

impl Watched {
    /// Takes note of a watcher that the hub is about to be asked for.
    pub(super) fn create(&mut self, caller: &Caller, keys: KeyRange) {
        let user = match caller {
            Caller::User(credentials) => Some(credentials.user.clone()),
            Caller::Anonymous | Caller::Member => None,
        };
        self.created.push_back(Watcher { user, keys });
    }

    /// Takes note of what the hub says. Answers with the reason of a cancellation that has one.
    pub(super) fn observe(&mut self, output: &WatchOutput) -> Option<String> {
        match output {
            WatchOutput::Created { id, .. } => {
                let watcher = self.created.pop_front()?;
                self.living.insert(*id, watcher);
                None
            }
            WatchOutput::Refused { .. } => {
                self.created.pop_front();
                None
            }
            WatchOutput::Canceled { id, .. } => {
                self.living.remove(id);
                self.denied.remove(id)
            }
            WatchOutput::Events { .. } | WatchOutput::Progress { .. } => None,
        }
    }

    /// How many watchers there are, those that are being created among them.
    pub(super) fn count(&self) -> usize {
        self.created.len() + self.living.len()
    }

    /// What is watched, by user.
    pub(super) fn by_user(&self) -> BTreeMap<Option<UserName>, Vec<KeyRange>> {
        let mut by_user: BTreeMap<_, Vec<KeyRange>> = BTreeMap::new();
        for watcher in self.living.values() {
            let keys = by_user.entry(watcher.user.clone()).or_default();
            keys.push(watcher.keys.clone());
        }
        by_user
    }

    /// The watchers that a user has of these keys; they are to be canceled for this reason.
    pub(super) fn deny(&mut self, user: Option<&UserName>, keys: &KeyRange, reason: &str) -> Vec<WatchId> {
        let is_meant = |watcher: &Watcher| watcher.user.as_ref() == user && watcher.keys == *keys;
        let living = self.living.iter().filter(|(_, watcher)| is_meant(watcher));
        let ids: Vec<WatchId> = living.map(|(id, _)| *id).collect();
        self.denied.extend(ids.iter().map(|id| (*id, reason.to_owned())));
        ids
    }
}
