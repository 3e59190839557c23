//! Who waits for which ticket.
//!
//! - Tickets are numbered in the order of the requests and never used again.
//! - Each is taken out once, in any order.

use std::collections::BTreeMap;

use quorate_raft::Ticket;

/// Those who wait, by ticket. Costs memory for each of them, however old the oldest is.
#[derive(Debug)]
pub(crate) struct Ledger<W> {
    /// The next ticket's number.
    next: u64,
    waiting: BTreeMap<Ticket, W>,
}

impl<W> Ledger<W> {
    pub(crate) fn new() -> Self {
        Self {
            next: 1,
            waiting: BTreeMap::new(),
        }
    }

    /// Gives `waiting` a ticket.
    pub(crate) fn insert(&mut self, waiting: W) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, waiting);
        ticket
    }

    /// Takes out who waits for `ticket`; none if it was taken or never given.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<W> {
        self.waiting.remove(&ticket)
    }

    /// Takes out everyone, in the order of the tickets.
    pub(crate) fn drain(&mut self) -> Vec<W> {
        std::mem::take(&mut self.waiting).into_values().collect()
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
    fn one_who_waits_for_long_keeps_nothing_of_the_others() {
        let mut ledger = Ledger::new();
        let oldest = ledger.insert(0);
        for n in 1..1000 {
            let ticket = ledger.insert(n);
            assert_eq!(ledger.take(ticket), Some(n));
        }
        assert_eq!(ledger.waiting.len(), 1);
        assert_eq!(ledger.take(oldest), Some(0));
    }
}
