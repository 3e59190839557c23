//! What clients want next, and what the auditor wants at the end.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use quorate_raft::NodeId;

use super::session::Certainty;
use super::{Clients, Current, Mode, Patience, Plan, Wake};
use crate::history::{Action, Key, Value};
use crate::profile::ClientProfile;

impl Clients {
    /// The auditor writes to each key, and reads it at each of `members`.
    pub(crate) fn audit(&mut self, members: &BTreeSet<NodeId>) -> Wake {
        self.mode = Mode::Auditing;
        let auditor = self.auditor();
        let mut script = VecDeque::new();
        for key in (0..self.profile.keys).map(Key) {
            let at = |node, action| Plan { key, action, node };
            let reads = members.iter().map(|node| at(Some(*node), Action::Read));
            script.extend(reads.clone());
            let writer = members.first().copied();
            script.push_back(at(writer, Action::Write(self.new_value())));
            script.extend(reads);
        }
        self.client(auditor).script = script;
        Wake {
            client: auditor,
            after: Duration::ZERO,
        }
    }

    /// What the client wants to do next.
    pub(super) fn plan(&mut self, client: u64) -> Option<Plan> {
        let is_reader = self.is_reader(client);
        let goes_on = self.mode == Mode::Asking || (is_reader && self.mode == Mode::Finishing);
        if !goes_on {
            return self.client(client).script.pop_front();
        }
        if let Some(left) = &mut self.operations {
            *left = left.checked_sub(1)?;
        }
        let new = self.new_value();
        let ClientProfile { keys, reads, .. } = self.profile;
        let doer = self.client(client);
        let key = Key(doer.rng.below(keys));
        let action = if is_reader || doer.rng.chance(reads) {
            Action::Read
        } else if doer.rng.below(3) > 0 {
            Action::Write(new)
        } else {
            Action::Swap {
                expected: doer.known.get(&key).copied().flatten(),
                new,
            }
        };
        Some(Plan {
            key,
            action,
            node: None,
        })
    }

    pub(super) fn begin(&mut self, client: u64, plan: Plan) -> Current {
        let current = Current {
            operation: self.history.invoke(client, plan.key, plan.action),
            plan,
            request: None,
            floor: self.acknowledged,
            name: None,
            certainty: Certainty::NotDone,
            patience: Patience::Fresh,
            repeats: self.client(client).draw_repeats(),
        };
        self.client(client).current = Some(current);
        current
    }

    fn new_value(&mut self) -> Value {
        self.values += 1;
        Value(self.values)
    }
}
