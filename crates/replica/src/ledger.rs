//! Who waits for which ticket.
//!
//! - Tickets are numbered in the order of the requests and never used again.
//! - Each is taken out once, in any order.
//! - Most are taken out in about the order they came: those wait in a queue and cost no search. The few
//!   that wait for longer are moved to a map, so that they keep nothing of the others in memory.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::Ticket;

/// Those who wait, by ticket. Costs memory for each of them, however old the oldest is.
#[derive(Debug)]
pub(crate) struct Ledger<W> {
    /// The ticket's number of the first of `recent`.
    first: u64,
    /// Those who came last; none where one was taken out.
    recent: VecDeque<Option<W>>,
    /// How many of `recent` still wait.
    waiting: usize,
    old: BTreeMap<Ticket, W>,
}

impl<W> Ledger<W> {
    pub(crate) fn new() -> Self {
        Self {
            first: 1,
            recent: VecDeque::new(),
            waiting: 0,
            old: BTreeMap::new(),
        }
    }

    /// Gives `waiting` a ticket.
    pub(crate) fn insert(&mut self, waiting: W) -> Ticket {
        let ticket = Ticket(self.first + self.recent.len() as u64);
        self.recent.push_back(Some(waiting));
        self.waiting += 1;
        self.retire();
        ticket
    }

    /// Takes out who waits for `ticket`; none if it was taken or never given.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<W> {
        let Some(place) = ticket.0.checked_sub(self.first) else {
            return self.old.remove(&ticket);
        };
        let waiting = self.recent.get_mut(usize::try_from(place).ok()?)?.take()?;
        self.waiting -= 1;
        while let Some(None) = self.recent.front() {
            self.recent.pop_front();
            self.first += 1;
        }
        Some(waiting)
    }

    /// Takes out everyone, in the order of the tickets.
    pub(crate) fn drain(&mut self) -> Vec<W> {
        self.first += self.recent.len() as u64;
        self.waiting = 0;
        let old = std::mem::take(&mut self.old).into_values();
        old.chain(std::mem::take(&mut self.recent).into_iter().flatten())
            .collect()
    }

    /// Keeps the queue from being mostly holes.
    fn retire(&mut self) {
        while self.recent.len() > FEW + 2 * self.waiting {
            if let Some(Some(waiting)) = self.recent.pop_front() {
                self.old.insert(Ticket(self.first), waiting);
                self.waiting -= 1;
            }
            self.first += 1;
        }
    }
}

/// Holes that are not worth being rid of.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_ticket_is_taken_once_in_any_order() {
        let mut ledger = Ledger::new();
        let tickets: Vec<Ticket> = (0..4).map(|n| ledger.insert(n)).collect();
        assert_eq!(ledger.take(tickets[2]), Some(2));
        assert_eq!(ledger.take(tickets[0]), Some(0));
        assert_eq!(ledger.take(tickets[0]), None);
        assert_eq!(ledger.take(tickets[2]), None);
        assert_eq!(ledger.take(Ticket(99)), None);
        assert_eq!(ledger.drain(), [1, 3]);
        assert_eq!(ledger.take(tickets[3]), None);
    }

    #[test]
    fn a_ticket_is_never_used_again() {
        let mut ledger = Ledger::new();
        let first = ledger.insert('a');
        ledger.take(first);
        let second = ledger.insert('b');
        ledger.drain();
        let third = ledger.insert('c');
        assert!(first < second && second < third);
    }

    #[test]
    fn one_who_waits_for_long_keeps_nothing_of_the_others() {
        let mut ledger = Ledger::new();
        let oldest = ledger.insert(0);
        for n in 1..1000 {
            let ticket = ledger.insert(n);
            assert_eq!(ledger.take(ticket), Some(n));
        }
        assert!(ledger.recent.len() <= FEW + 2 && ledger.old.len() <= 1);
        assert_eq!(ledger.take(oldest), Some(0));
    }

    proptest! {
        #[test]
        fn it_is_a_map_from_numbers_given_in_order(steps in prop::collection::vec((0..3_u8, 0..400_u64), 1..600)) {
            let (mut ledger, mut plain) = (Ledger::new(), BTreeMap::new());
            for (n, (step, at)) in steps.into_iter().enumerate() {
                if step == 0 {
                    prop_assert_eq!(ledger.take(Ticket(at)), plain.remove(&Ticket(at)));
                } else {
                    let ticket = ledger.insert(n);
                    prop_assert_eq!(plain.insert(ticket, n), None);
                }
                prop_assert!(ledger.recent.len() <= FEW + 2 * ledger.waiting);
            }
            prop_assert_eq!(ledger.drain(), plain.into_values().collect::<Vec<_>>());
        }
    }
}
