//! How what a client has under way ends: with an answer, for certain without having happened, or neither.

use quorate::driver::Failure;
use quorate_raft::NodeId;

use super::session::Certainty;
use super::{Asker, Caution, Clients, Current, Patience, RETRY_AFTER, RequestId, Wake};
use crate::history::{Action, Answer, OperationId};
use crate::invariant::Violation;

impl Clients {
    /// A request was not served.
    pub(crate) fn failed(&mut self, request: RequestId, failure: Failure) -> Result<Option<Wake>, Violation> {
        let asker = self.close(request)?;
        let Some(client) = self.client_waiting(asker, request) else {
            return Ok(None);
        };
        let never_happened = matches!(failure, Failure::Rejected(_));
        Ok(Some(if never_happened {
            self.try_again(client)
        } else {
            self.give_up(client)
        }))
    }

    /// The node refuses connections: the attempt was never made.
    pub(crate) fn refused(&mut self, request: RequestId) -> Option<Wake> {
        let asker = self.requests.remove(&request)?.asker;
        let client = self.client_waiting(asker, request)?;
        Some(self.try_again(client))
    }

    /// A node died, and with it whatever was under way there.
    pub(crate) fn node_died(&mut self, node: NodeId) -> Vec<Wake> {
        let at_node = self.requests.iter().filter(|(_, request)| request.node == node);
        let lost: Vec<(RequestId, Asker)> = at_node.map(|(id, request)| (*id, request.asker)).collect();
        let mut wakes = Vec::new();
        for (request, asker) in lost {
            self.requests.remove(&request);
            if let Some(client) = self.client_waiting(asker, request) {
                wakes.push(self.give_up(client));
            }
        }
        wakes
    }

    /// A client's patience for an operation has ended.
    pub(crate) fn timed_out(&mut self, client: u64, operation: OperationId) -> Option<Wake> {
        let current = self
            .client(client)
            .current
            .filter(|current| current.operation == operation)?;
        if self.may_repeat(client) && current.repeats > 0 {
            let current = self.client(client).current.as_mut()?;
            current.repeats -= 1;
            current.patience = Patience::Fresh;
            return Some(self.repeat(client));
        }
        let may_be_done = match current.name {
            Some(_) => current.request.is_some() || current.certainty == Certainty::Unknown,
            // All that may be under way of it is the opening of its session.
            None if self.may_repeat(client) => false,
            None => current.request.is_some(),
        };
        if may_be_done {
            return Some(self.abandon(client));
        }
        self.history.refuse(operation);
        self.counts.refused += 1;
        self.put_away(client);
        Some(self.think(client))
    }

    pub(super) fn finish(&mut self, asker: Asker, request: RequestId, answer: Answer) -> Option<Wake> {
        let client = self.client_waiting(asker, request)?;
        let current = self.put_away(client)?;
        self.history.answer(current.operation, answer);
        self.counts.answered += 1;
        let known = match (current.plan.action, answer) {
            (Action::Write(new) | Action::Swap { new, .. }, Answer::Written | Answer::Swapped) => Some(new),
            (_, Answer::Found(value) | Answer::Kept(value)) => value,
            (Action::Read, Answer::Written | Answer::Swapped) => None,
        };
        self.client(client).known.insert(current.plan.key, known);
        Some(self.think(client))
    }

    pub(super) fn try_again(&mut self, client: u64) -> Wake {
        let doer = self.client(client);
        if let Some(current) = &mut doer.current {
            current.request = None;
        }
        let after = doer.rng.span(RETRY_AFTER, RETRY_AFTER * 10);
        Wake { client, after }
    }

    /// What was asked may have happened. Whoever can have it told from its repetition repeats it.
    fn give_up(&mut self, client: u64) -> Wake {
        if self.caution == Caution::Repeat {
            return self.try_again(client);
        }
        if self.may_repeat(client) {
            return self.repeat(client);
        }
        self.abandon(client)
    }

    /// What is under way, if anything is, is not waited for any longer, and asked for again.
    fn repeat(&mut self, client: u64) -> Wake {
        if let Some(current) = &mut self.client(client).current
            && current.request.is_some()
            && current.name.is_some()
        {
            current.certainty = Certainty::Unknown;
        }
        self.try_again(client)
    }

    /// What was asked may have happened, or may yet, and is not asked for again.
    pub(super) fn abandon(&mut self, client: u64) -> Wake {
        self.put_away(client);
        self.counts.unknown += 1;
        self.think(client)
    }

    /// The client is done with what it wanted.
    fn put_away(&mut self, client: u64) -> Option<Current> {
        let doer = self.client(client);
        let current = doer.current.take()?;
        if let (Some(session), Some(name)) = (&mut doer.session, current.name) {
            session.end(name);
        }
        Some(current)
    }
}
