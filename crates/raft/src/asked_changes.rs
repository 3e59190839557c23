//! The changes of members that a node was asked for, and what becomes of each.
//!
//! - A change that is asked for while another is under way may take its place: who decides that is the
//!   leader. So a node keeps all that it was asked for, up to a bound, and tells each asker by the entries
//!   that are committed.

use crate::configuration::Configuration;
use crate::io::{Outcome, Rejection, Resolved};
use crate::membership::Target;
use crate::types::{EntryId, Term, Ticket};

/// Those that wait for an end, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct AskedChanges {
    waiting: Vec<Asked>,
}

#[derive(Clone, Debug)]
struct Asked {
    ticket: Ticket,
    target: Target,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// It is on its way to the leader of a term.
    Forwarded { term: Term, seq: u64, age: u32 },
    /// It begins with this entry, which is not committed yet.
    Appended(EntryId),
    /// Its first entry is committed: whoever leads completes it.
    UnderWay,
}

impl AskedChanges {
    /// Whether one more may be asked for.
    pub(crate) fn have_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    /// It goes to the leader of `term` under the number `seq`.
    pub(crate) fn forwarded(&mut self, term: Term, seq: u64, ticket: Ticket, target: Target) {
        let state = State::Forwarded { term, seq, age: 0 };
        self.waiting.push(Asked {
            ticket,
            target,
            state,
        });
    }

    /// This node, which leads, has begun a change with the entry `first`. It takes the place of any other once that
    /// entry is committed: until then it may be replaced, and an older change be completed.
    pub(crate) fn begun(
        &mut self,
        ticket: Ticket,
        first: EntryId,
        target: Target,
        ended: &mut Vec<Resolved>,
    ) {
        if !self.have_room() {
            // Refusing the new one would leave no way to give up one that never ends.
            let ticket = self.waiting.remove(0).ticket;
            let outcome = Outcome::Unknown;
            ended.push(Resolved { ticket, outcome });
        }
        let state = State::Appended(first);
        self.waiting.push(Asked {
            ticket,
            target,
            state,
        });
    }

    /// The leader said what became of the change with the number `seq`; `is_past` says whether an entry is past being
    /// matched.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        outcome: &Result<EntryId, Rejection>,
        is_past: impl Fn(EntryId) -> bool,
        ended: &mut Vec<Resolved>,
    ) {
        self.end_where(ended, |asked| {
            let State::Forwarded { term, seq, .. } = asked.state else {
                return None;
            };
            if seq != number {
                return None;
            }
            match outcome {
                Err(rejection) => Some(Outcome::Rejected(*rejection)),
                // An answer that speaks of another term is of no Raft leader.
                Ok(first) if is_past(*first) || first.term != term => Some(Outcome::Unknown),
                Ok(first) => {
                    asked.state = State::Appended(*first);
                    None
                }
            }
        });
    }

    /// The entry `id` is committed, which may bring members.
    pub(crate) fn committed(
        &mut self,
        id: EntryId,
        members: Option<&Configuration>,
        ended: &mut Vec<Resolved>,
    ) {
        self.end_where(ended, |asked| {
            match asked.state {
                State::Forwarded { .. } => return None,
                State::Appended(first) if id.index < first.index => return None,
                State::Appended(first) if id != first => return Some(NEVER_BEGUN),
                State::Appended(_) | State::UnderWay => asked.state = State::UnderWay,
            }
            let members = members?;
            if members.is_at(&asked.target) {
                Some(Outcome::Committed(id))
            } else if members.pending() != Some(&asked.target) {
                Some(Outcome::Rejected(Rejection::Superseded))
            } else {
                None
            }
        });
    }

    /// After a committed entry of `term`, none of an earlier one is ever committed.
    pub(crate) fn end_before(&mut self, term: Term, ended: &mut Vec<Resolved>) {
        self.end_where(ended, |asked| match asked.state {
            State::Appended(first) if first.term < term => Some(NEVER_BEGUN),
            State::Forwarded { .. } | State::Appended(_) | State::UnderWay => None,
        });
    }

    /// Entries up to `last` came in a snapshot: what they completed cannot be told.
    pub(crate) fn overtaken(&mut self, last: EntryId, ended: &mut Vec<Resolved>) {
        self.end_where(ended, |asked| match asked.state {
            State::Appended(first) if first.index > last.index => None,
            State::Forwarded { .. } => None,
            State::Appended(_) | State::UnderWay => Some(Outcome::Unknown),
        });
    }

    /// A tick has passed: no answer comes to what was forwarded more than `patience` ticks ago.
    pub(crate) fn on_tick(&mut self, patience: u32, ended: &mut Vec<Resolved>) {
        self.end_where(ended, |asked| {
            let State::Forwarded { age, .. } = &mut asked.state else {
                return None;
            };
            *age += 1;
            (*age > patience).then_some(Outcome::Unknown)
        });
    }

    /// Nobody will tell this node what became of any.
    pub(crate) fn left_alone(&mut self, ended: &mut Vec<Resolved>) {
        self.end_where(ended, |_| Some(Outcome::Unknown));
    }

    fn end_where(
        &mut self,
        ended: &mut Vec<Resolved>,
        mut outcome_of: impl FnMut(&mut Asked) -> Option<Outcome>,
    ) {
        self.waiting.retain_mut(|asked| {
            let Some(outcome) = outcome_of(asked) else {
                return true;
            };
            let ticket = asked.ticket;
            ended.push(Resolved { ticket, outcome });
            false
        });
    }
}

/// Its entry was replaced by another leader's.
const NEVER_BEGUN: Outcome = Outcome::Rejected(Rejection::NotLeader { leader: None });

/// How many may wait at one node. An operator has one, and those that were given up on.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::MemberInfo;
    use crate::types::{Index, NodeId};

    #[test]
    fn changes_that_never_end_are_forgotten_oldest_first() {
        let target = Target::new([(NodeId(1), MemberInfo::default())], []).unwrap();
        let learning = Configuration::new([NodeId(1)], [NodeId(2)])
            .unwrap()
            .with_pending(Some(target.clone()));
        let (mut asked, mut ended) = (AskedChanges::default(), Vec::new());
        let most = MOST as u64;
        for number in 1..=most + 2 {
            let first = EntryId::new(Index(number), Term(1));
            asked.begun(Ticket(number), first, target.clone(), &mut ended);
            asked.committed(first, Some(&learning), &mut ended);
        }
        let forgotten = [1, 2].map(|ticket| Resolved {
            ticket: Ticket(ticket),
            outcome: Outcome::Unknown,
        });
        assert_eq!(ended, forgotten);
        assert_eq!(asked.waiting.len(), MOST);
    }
}
