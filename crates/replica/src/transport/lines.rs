//! The streams to the members: one to each, for as long as it is one, and a little longer.
//!
//! - A member that was left out is still sent to for a while, so that it learns of it.
//! - One whose address has changed is dialed anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use quorate_raft::{Envelope, NodeId};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Office;
use super::dial;
use super::lane::Lane;
use super::roster::Contact;
use crate::config::Observer;

/// The messages that wait for each peer, known to the loop and to the transport.
pub(super) struct Lanes {
    lanes: RwLock<BTreeMap<NodeId, Arc<Lane>>>,
    max_bytes: u64,
    observer: Option<Arc<dyn Observer>>,
}

impl Lanes {
    pub(super) fn new(max_bytes: u64, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            lanes: RwLock::default(),
            max_bytes,
            observer,
        }
    }

    /// Sends a message, unless its peer is unknown, not connected, or far behind in taking them.
    pub(super) fn send(&self, envelope: Envelope) {
        let to = envelope.to;
        let waits = self.lanes.read().get(&to).map(|lane| lane.push(envelope));
        if let (Some(false), Some(observer)) = (waits, &self.observer) {
            observer.not_sent(to, 1);
        }
    }

    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.lanes
            .read()
            .get(&node)
            .is_some_and(|lane| lane.is_connected())
    }

    fn open(&self, node: NodeId) -> Arc<Lane> {
        let lane = Arc::new(Lane::new(self.max_bytes));
        self.lanes.write().insert(node, Arc::clone(&lane));
        lane
    }

    fn close(&self, node: NodeId) {
        self.lanes.write().remove(&node);
    }
}

/// A stream that is being kept.
struct Line {
    contact: Contact,
    task: AbortHandle,
    /// When it ends, since its peer is no member any more.
    ends: Option<Instant>,
}

/// Keeps a stream to each member for ever.
pub(super) async fn keep(office: Arc<Office>, lanes: Arc<Lanes>) {
    let mut rosters = office.rosters();
    let mut lines: BTreeMap<NodeId, Line> = BTreeMap::new();
    loop {
        let roster = Arc::clone(&rosters.borrow_and_update());
        let now = Instant::now();
        lines.retain(|node, line| {
            let stays = goes_on(line, roster.contacts().get(node), now + office.patience, now);
            if !stays {
                line.task.abort();
                lanes.close(*node);
            }
            stays
        });
        for (node, contact) in roster.contacts() {
            lines.entry(*node).or_insert_with(|| {
                let sending =
                    dial::keep_sending(Arc::clone(&office), *node, contact.clone(), lanes.open(*node));
                Line {
                    contact: contact.clone(),
                    task: tokio::spawn(sending).abort_handle(),
                    ends: None,
                }
            });
        }
        let next = lines.values().filter_map(|line| line.ends).min();
        tokio::select! {
            changed = rosters.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next.unwrap_or(now + LONG)) => {}
        }
    }
}

/// Whether a line to a peer that is reached as `contact` says, if it is a member, is to be kept.
fn goes_on(line: &mut Line, contact: Option<&Contact>, end: Instant, now: Instant) -> bool {
    match contact {
        Some(contact) => {
            line.ends = None;
            contact.address == line.contact.address
        }
        None => *line.ends.get_or_insert(end) > now,
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(address: &str) -> Contact {
        Contact {
            name: String::new(),
            address: address.to_owned(),
        }
    }

    #[tokio::test]
    async fn a_line_outlasts_its_member_a_little_and_follows_its_address() {
        let mut line = Line {
            contact: contact("a:1"),
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            ends: None,
        };
        let (start, grace) = (Instant::now(), Duration::from_secs(2));
        let mut goes_on = |contact: Option<&Contact>, after| {
            let now = start + Duration::from_secs(after);
            super::goes_on(&mut line, contact, now + grace, now)
        };
        let (here, there) = (contact("a:1"), contact("a:2"));
        assert!(goes_on(Some(&here), 0));
        assert!(goes_on(None, 1) && goes_on(None, 2));
        assert!(
            goes_on(Some(&here), 3),
            "the entry that left it out was truncated"
        );
        assert!(goes_on(None, 4) && goes_on(None, 5));
        assert!(!goes_on(None, 6));
        assert!(!goes_on(Some(&there), 7));
    }
}
