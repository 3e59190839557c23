//! Messages that no correct peer sends: they are ignored, and the node goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use bytes::Bytes;
use quorate_raft::entry::{Entry, LogSlice, Payload};
use quorate_raft::message::AppendEntries;
use quorate_raft::{
    Config, Configuration, EntryId, Envelope, Event, GroupId, Index, Input, Limits, MemberKind, Message,
    Node, NodeId, Session, SnapshotMeta, Stored, Term, invariants,
};

fn node() -> Node {
    let config = Config {
        id: NodeId(1),
        group: GroupId(1),
        kind: MemberKind::Full,
        session: Session(1),
        seed: 1,
        election_ticks: 10,
        heartbeat_ticks: 1,
        leases: None,
        limits: Limits::default(),
    };
    let members = Configuration::new([1, 2, 3].map(NodeId), []).unwrap();
    Node::new(config, Stored::new(members)).unwrap()
}

fn check(term: u64, message: Message) {
    let mut node = node();
    node.ready();
    let before = node.view();
    let (group, from, to, term) = (GroupId(1), NodeId(2), NodeId(1), Term(term));
    node.step(Input::Receive(Envelope {
        group,
        from,
        to,
        term,
        message: message.clone(),
    }));
    let events = node.ready().map(|ready| ready.events).unwrap_or_default();
    assert!(
        matches!(events[..], [Event::Ignored { .. }]),
        "{message}: {events:?}"
    );
    assert_eq!(node.view(), before, "{message}");
    invariants::check_state(&node);
    assert!(node.ready().is_none(), "{message}: nothing is left to do");
}

fn snapshot(index: u64, term: u64) -> Message {
    let configuration = Configuration::new([1, 2, 3].map(NodeId), []).unwrap().into();
    let id = EntryId::new(Index(index), Term(term));
    Message::InstallSnapshot(SnapshotMeta { id, configuration })
}

fn append(prev: u64, term: u64) -> Message {
    let prev = EntryId::new(Index(prev), Term(0));
    let id = EntryId::new(prev.index.next(), Term(term));
    let entry = Entry {
        id,
        payload: Payload::Command(Bytes::new()),
    };
    let slice = LogSlice::new(prev, vec![entry]).unwrap();
    Message::AppendEntries(AppendEntries {
        slice,
        commit: Index(0),
    })
}

#[test]
fn terms_and_indexes_beyond_all_that_is_ever_reached_are_ignored() {
    check(u64::MAX, Message::TimeoutNow);
    check(u64::MAX, append(0, 1));
    check(5, snapshot(u64::MAX, 5));
    check(5, append(u64::MAX - 2, 5));
}

#[test]
fn what_is_of_a_later_term_than_its_sender_is_ignored() {
    check(5, snapshot(7, 6));
    check(5, append(0, 6));
}
