//! Who waits for which ticket.
//!
//! - Tickets are numbered in the order of the requests and never used again.
//! - Each is taken out once, in any order.

use std::collections::VecDeque;

use quorate_raft::Ticket;

/// Those who wait, by ticket. Costs one slot for each ticket since the oldest still waiting.
#[derive(Debug)]
pub(crate) struct Ledger<W> {
    /// The ticket of the first slot.
    first: u64,
    slots: VecDeque<Option<W>>,
}

impl<W> Ledger<W> {
    pub(crate) fn new() -> Self {
        Self {
            first: 1,
            slots: VecDeque::new(),
        }
    }

    /// Gives `waiting` a ticket.
    pub(crate) fn insert(&mut self, waiting: W) -> Ticket {
        let ticket = Ticket(self.first + self.slots.len() as u64);
        self.slots.push_back(Some(waiting));
        ticket
    }

    /// Takes out who waits for `ticket`; none if it was taken or never given.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<W> {
        let slot = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        let waiting = self.slots.get_mut(slot)?.take();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        waiting
    }

    /// Takes out everyone, in the order of the tickets.
    pub(crate) fn drain(&mut self) -> Vec<W> {
        self.first += self.slots.len() as u64;
        self.slots.drain(..).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
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
    fn slots_before_the_oldest_waiting_are_given_back() {
        let mut ledger = Ledger::new();
        for n in 0..1000 {
            let ticket = ledger.insert(n);
            assert_eq!(ledger.take(ticket), Some(n));
        }
        assert!(ledger.slots.is_empty());
    }
}
