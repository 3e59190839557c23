//! Messages on their way, and which links are cut.

use std::collections::BTreeSet;

use quorate_raft::{Envelope, Message, NodeId};

/// Messages on their way.
#[derive(Debug, Default)]
pub(crate) struct Network {
    in_flight: Vec<Envelope>,
    held: Vec<Envelope>,
    cuts: BTreeSet<(NodeId, NodeId)>,
}

/// Chooses messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// From whom to whom; empty for all.
    pub(crate) links: Vec<(NodeId, NodeId)>,
    /// How the message's text begins; empty for all.
    pub(crate) only: String,
    /// How many at most.
    pub(crate) count: Option<usize>,
}

impl Filter {
    fn accepts(&self, envelope: &Envelope) -> bool {
        let link = (envelope.from, envelope.to);
        (self.links.is_empty() || self.links.contains(&link))
            && envelope.message.to_string().starts_with(&self.only)
    }
}

impl Network {
    /// Puts a message on its way; says whether it was not lost at once.
    pub(crate) fn send(&mut self, envelope: Envelope) -> bool {
        let open = !self.cuts.contains(&(envelope.from, envelope.to));
        if open {
            self.in_flight.push(envelope);
        }
        open
    }

    /// Takes the messages that a filter accepts, in the order of their sending.
    pub(crate) fn take(&mut self, filter: &Filter) -> Vec<Envelope> {
        let mut left = filter.count.unwrap_or(usize::MAX);
        let (mut taken, mut rest) = (Vec::new(), Vec::new());
        for envelope in self.in_flight.drain(..) {
            if left > 0 && filter.accepts(&envelope) {
                left -= 1;
                taken.push(envelope);
            } else {
                rest.push(envelope);
            }
        }
        self.in_flight = rest;
        taken
    }

    pub(crate) fn take_to(&mut self, ids: &[NodeId]) -> Vec<Envelope> {
        let to_them = |envelope: &mut Envelope| ids.contains(&envelope.to);
        self.in_flight.extract_if(.., to_them).collect()
    }

    pub(crate) fn take_at(&mut self, place: usize) -> Envelope {
        self.in_flight.remove(place)
    }

    pub(crate) fn double_at(&mut self, place: usize) {
        let envelope = self.in_flight[place].clone();
        self.in_flight.push(envelope);
    }

    pub(crate) fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Keeps messages back until [`Network::release`].
    pub(crate) fn hold(&mut self, filter: &Filter) -> Vec<Envelope> {
        let taken = self.take(filter);
        self.held.extend(taken.iter().cloned());
        taken
    }

    /// Puts the messages that were held back on their way again, after all others.
    pub(crate) fn release(&mut self) -> Vec<Envelope> {
        let held = std::mem::take(&mut self.held);
        self.in_flight.extend(held.iter().cloned());
        held
    }

    pub(crate) fn put_back(&mut self, envelopes: Vec<Envelope>) {
        self.in_flight.extend(envelopes);
    }

    /// Cuts one direction of a link; what is on its way there is lost.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
        self.in_flight
            .retain(|envelope| (envelope.from, envelope.to) != (from, to));
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// How many requests for pre-votes of `node` are on their way.
    pub(crate) fn asked_by(&self, node: NodeId) -> usize {
        let asks = |envelope: &&Envelope| {
            envelope.from == node && matches!(envelope.message, Message::RequestPreVote(_))
        };
        self.in_flight.iter().filter(asks).count()
    }
}
