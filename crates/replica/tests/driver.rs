//! The driver over ports that only take notes: who is answered, by whom, and when.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::time::Duration;

use bytes::Bytes;
use quorate::apply::ApplyTask;
use quorate::clock::ClockReading;
use quorate::driver::{Driver, DriverInput, Failure, Ports};
use quorate_raft::message::{AppendEntriesResponse, HeartbeatResponse, PreVerdict, PreVoteResponse, Verdict};
use quorate_raft::{
    Config, Configuration, Consistency, DriftBound, EntryId, Envelope, Event, GroupId, Index, Leases, Limits,
    MemberKind, Message, Node, NodeId, ReadLog, Rejection, RoleKind, Round, SendSnapshot, Session, Stored,
    Term, Transferee, Write, WriteSeq,
};

/// Everything handed over, in order. Clients are named by text.
#[derive(Debug, Default)]
struct Notes {
    sent: Vec<Envelope>,
    writes: Vec<Write>,
    tasks: Vec<ApplyTask<&'static str, &'static str>>,
    failed: Vec<(&'static str, Failure)>,
    transfers: Vec<(&'static str, Result<(), Failure>)>,
    events: Vec<Event>,
}

impl Ports for Notes {
    type Proposer = &'static str;
    type Reader = &'static str;
    type Operator = &'static str;

    fn send(&mut self, envelope: Envelope) {
        self.sent.push(envelope);
    }
    fn write(&mut self, write: Write) {
        self.writes.push(write);
    }
    fn apply(&mut self, task: ApplyTask<&'static str, &'static str>) {
        self.tasks.push(task);
    }
    fn read_log(&mut self, request: ReadLog) {
        panic!("nothing is old enough to be read from the log: {request:?}");
    }
    fn send_snapshot(&mut self, request: SendSnapshot) {
        panic!("there is no snapshot: {request:?}");
    }
    fn compact(&mut self, upto: EntryId) {
        panic!("there is no snapshot that would let {upto} go");
    }
    fn observe(&mut self, event: &Event) {
        self.events.push(event.clone());
    }
    fn proposal_failed(&mut self, proposer: &'static str, failure: Failure) {
        self.failed.push((proposer, failure));
    }
    fn read_failed(&mut self, reader: &'static str, failure: Failure) {
        self.failed.push((reader, failure));
    }
    fn operation_ended(&mut self, operator: &'static str, result: Result<(), Failure>) {
        self.transfers.push((operator, result));
    }
}

fn driver_of(members: u64) -> Driver<Notes> {
    driver_with(members, None)
}

fn driver_with(members: u64, leases: Option<Leases>) -> Driver<Notes> {
    let config = Config {
        id: NodeId(1),
        group: GroupId(1),
        kind: MemberKind::Full,
        session: Session(1),
        seed: 1,
        election_ticks: 10,
        heartbeat_ticks: 1,
        leases,
        limits: Limits::default(),
    };
    let configuration = Configuration::new((1..=members).map(NodeId), []).unwrap();
    Driver::new(
        Node::new(config, Stored::new(configuration)).unwrap(),
        Notes::default(),
    )
}

fn persist(driver: &mut Driver<Notes>) {
    let last = driver
        .ports()
        .writes
        .last()
        .map_or(WriteSeq(0), |write| write.seq);
    driver.handle(DriverInput::Persisted(last));
    driver.flush();
}

/// A group of one, led by its only member.
fn leader() -> Driver<Notes> {
    let mut driver = driver_of(1);
    while driver.status().role != RoleKind::Leader {
        driver.handle(DriverInput::Tick);
        driver.flush();
        persist(&mut driver);
    }
    persist(&mut driver);
    let applied = driver.status().commit_index;
    driver.handle(DriverInput::Applied(applied));
    driver.flush();
    driver.ports_mut().writes.clear();
    driver.ports_mut().tasks.clear();
    driver
}

fn propose(driver: &mut Driver<Notes>, proposer: &'static str) {
    driver.handle(DriverInput::Propose {
        command: Bytes::from(proposer),
        proposer,
    });
}

#[test]
fn what_is_beyond_the_limits_is_refused_in_the_same_flush_and_not_held() {
    let mut driver = leader();
    let limits = Limits::default();
    let command = Bytes::from(vec![0; usize::try_from(limits.max_command_bytes).unwrap()]);
    let fit = limits.max_uncommitted_bytes / limits.max_command_bytes;
    for _ in 0..fit + 3 {
        let command = command.clone();
        driver.handle(DriverInput::Propose {
            command,
            proposer: "a",
        });
    }
    driver.flush();
    let overloaded = Failure::Rejected(Rejection::Overloaded);
    let failed = std::mem::take(&mut driver.ports_mut().failed);
    assert!((3..=4).contains(&failed.len()), "{} were refused", failed.len());
    assert!(failed.iter().all(|(_, failure)| *failure == overloaded));
    let written: usize = driver
        .ports()
        .writes
        .iter()
        .map(|write| write.entries.len())
        .sum();
    assert_eq!(written + failed.len(), usize::try_from(fit + 3).unwrap());

    // The log has answered: there is room again.
    persist(&mut driver);
    propose(&mut driver, "b");
    driver.flush();
    assert!(driver.ports().failed.is_empty());
}

#[test]
fn proposals_between_two_flushes_are_one_write() {
    let mut driver = leader();
    for proposer in ["a", "b", "c"] {
        propose(&mut driver, proposer);
    }
    driver.flush();
    let [write] = driver.ports().writes.as_slice() else {
        panic!("one write, not {:?}", driver.ports().writes);
    };
    assert_eq!(write.entries.len(), 3);
}

#[test]
fn a_proposer_goes_to_the_apply_side_with_its_entry_once_that_is_durable() {
    let mut driver = leader();
    propose(&mut driver, "a");
    propose(&mut driver, "b");
    driver.flush();
    assert!(
        driver.ports().tasks.is_empty(),
        "S18: nothing is committed before it is durable"
    );

    persist(&mut driver);
    let [task] = driver.ports().tasks.as_slice() else {
        panic!("one task, not {:?}", driver.ports().tasks);
    };
    let entries: Vec<EntryId> = task.entries.iter().map(|entry| entry.id).collect();
    let proposers: Vec<(EntryId, &str)> = task.proposers.clone();
    assert_eq!(proposers, [(entries[0], "a"), (entries[1], "b")]);
    assert!(driver.ports().failed.is_empty());
}

#[test]
fn a_reader_goes_to_the_apply_side_with_the_index_to_wait_for() {
    let mut driver = leader();
    let commit = driver.status().commit_index;
    driver.handle(DriverInput::Read {
        reader: "a",
        consistency: Consistency::Linearizable,
    });
    driver.flush();
    let reads: Vec<(Index, &str)> = driver
        .ports()
        .tasks
        .iter()
        .flat_map(|task| task.reads.iter().copied())
        .collect();
    assert_eq!(reads, [(commit, "a")]);
}

#[test]
fn without_a_leader_requests_fail_by_way_of_the_ports() {
    let mut driver = driver_of(3);
    propose(&mut driver, "proposer");
    driver.handle(DriverInput::Read {
        reader: "reader",
        consistency: Consistency::Linearizable,
    });
    driver.handle(DriverInput::TransferLeadership {
        to: Transferee::Node(NodeId(2)),
        operator: "operator",
    });
    driver.flush();
    let no_leader = Failure::Rejected(Rejection::NoLeader);
    let mut failed = driver.ports().failed.clone();
    failed.sort_by_key(|(who, _)| *who);
    assert_eq!(failed, [("proposer", no_leader), ("reader", no_leader)]);
    let transfers = driver.ports().transfers.as_slice();
    assert!(
        matches!(transfers, [("operator", Err(Failure::Rejected(_)))]),
        "{transfers:?}"
    );
}

#[test]
fn all_who_wait_are_told_when_the_node_stops() {
    let mut driver = leader();
    propose(&mut driver, "given to the core");
    driver.flush();
    propose(&mut driver, "not yet given");
    driver.stop();
    let stopped = Failure::Stopped;
    let expected = [("given to the core", stopped), ("not yet given", stopped)];
    assert_eq!(driver.ports().failed, expected);
}

#[test]
fn votes_are_asked_for_through_the_ports() {
    let mut driver = driver_of(3);
    for _ in 0..16 {
        driver.handle(DriverInput::Tick);
        driver.flush();
    }
    let asked: Vec<NodeId> = driver
        .ports()
        .sent
        .iter()
        .filter(|envelope| matches!(envelope.message, Message::RequestPreVote(_)))
        .map(|envelope| envelope.to)
        .collect();
    assert!(asked.contains(&NodeId(2)) && asked.contains(&NodeId(3)));
    assert!(
        driver
            .ports()
            .events
            .iter()
            .any(|event| matches!(event, Event::BecamePreCandidate { .. }))
    );
}

/// What clocks show that agree.
fn at(millis: u64) -> ClockReading {
    let time = Duration::from_millis(millis);
    ClockReading {
        monotonic: time,
        boot: time,
        real: time,
    }
}

fn hear(driver: &mut Driver<Notes>, term: u64, message: Message) {
    driver.handle(DriverInput::Receive(Envelope {
        group: GroupId(1),
        from: NodeId(2),
        to: NodeId(1),
        term: Term(term),
        message,
    }));
    driver.flush();
}

/// The leader of three, whose first heartbeats n2 has answered; they were sent when the clock showed 5 ms.
fn leader_with_lease() -> Driver<Notes> {
    let leases = Leases {
        promise: Duration::from_secs(1),
        drift: DriftBound(250_000),
    };
    let mut driver = driver_with(3, Some(leases));
    driver.tell_time(at(5));
    while driver.status().role == RoleKind::Follower {
        driver.handle(DriverInput::Tick);
        driver.flush();
    }
    let (term, verdict) = (Term(1), PreVerdict::Granted);
    hear(
        &mut driver,
        0,
        Message::PreVoteResponse(PreVoteResponse { term, verdict }),
    );
    persist(&mut driver);
    hear(&mut driver, 1, Message::VoteResponse(Verdict::Granted));
    persist(&mut driver);
    let match_index = Index(1);
    hear(
        &mut driver,
        1,
        Message::AppendEntriesResponse(AppendEntriesResponse::Accepted { match_index }),
    );
    driver.tell_time(at(400));
    let (round, verified) = (Round(1), Index(1));
    hear(
        &mut driver,
        1,
        Message::HeartbeatResponse(HeartbeatResponse { round, verified }),
    );
    assert_eq!(driver.status().commit_index, Index(1));
    driver.ports_mut().tasks.clear();
    driver.ports_mut().sent.clear();
    driver
}

/// Asks at this moment. Says whether it is answered without a word to the others.
fn reads_at(driver: &mut Driver<Notes>, reading: ClockReading, consistency: Consistency) -> bool {
    driver.tell_time(reading);
    driver.handle(DriverInput::Read {
        reader: "a",
        consistency,
    });
    driver.flush();
    let tasks = std::mem::take(&mut driver.ports_mut().tasks);
    let asked = !std::mem::take(&mut driver.ports_mut().sent).is_empty();
    let served = tasks.iter().any(|task| task.reads == [(Index(1), "a")]);
    assert_ne!(
        asked, served,
        "either it is answered at once, or a quorum is asked"
    );
    served
}

#[test]
fn a_leader_with_a_lease_asks_nobody_for_those_who_are_content_with_it() {
    let mut driver = leader_with_lease();
    assert!(reads_at(&mut driver, at(804), Consistency::Lease));
    assert!(!reads_at(&mut driver, at(804), Consistency::Linearizable));
    let mut driver = leader_with_lease();
    assert!(
        !reads_at(&mut driver, at(805), Consistency::Lease),
        "S28: the lease ends 800 ms after the heartbeats were sent"
    );
}

#[test]
fn a_lease_ends_when_the_clocks_disagree() {
    let suspended = ClockReading {
        monotonic: Duration::from_millis(401),
        ..at(501)
    };
    let mut driver = leader_with_lease();
    assert!(!reads_at(&mut driver, suspended, Consistency::Lease));
    let set = ClockReading {
        real: Duration::from_secs(3600),
        ..at(501)
    };
    let mut driver = leader_with_lease();
    assert!(!reads_at(&mut driver, set, Consistency::Lease));
}
