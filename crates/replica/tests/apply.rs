//! The apply side: each entry once, each answer to whom it belongs, snapshots between batches.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quorate::apply::{Applier, ApplyTask, Reading, Respond, SnapshotPolicy};
use quorate::codec::Incarnation;
use quorate::codec::frame::ClusterId;
use quorate::machine::{ApplyError, EncodeError, Machine, RestoreError, SnapshotError};
use quorate::storage::{Identity, Options, Snapshots, Storage};
use quorate_raft::{Configuration, Entry, EntryId, GroupId, Index, NodeId, Payload, SnapshotMeta, Term};
use quorate_wal::MemDisk;

fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(Index(index), Term(term))
}

fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta {
        id: id(index, term),
        configuration: Arc::new(Configuration::new([NodeId(1)], []).unwrap()),
    }
}

fn command(index: u64, term: u64) -> Entry {
    Entry {
        id: id(index, term),
        payload: Payload::Command(Bytes::from(format!("command {index}"))),
    }
}

/// The snapshots of a new directory.
fn snapshots() -> Snapshots {
    let options = Options {
        directory: "data".to_owned(),
        identity: Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            incarnation: Incarnation(7),
        },
        group: GroupId(1),
        configuration: Configuration::new([NodeId(1)], []).unwrap(),
        wal: quorate_wal::Options::new(7),
    };
    Storage::open(Arc::new(MemDisk::new()), options)
        .unwrap()
        .0
        .snapshots()
}

fn save_snapshot(snapshots: &Snapshots, meta: &SnapshotMeta, chunks: &[&str]) {
    let mut writer = snapshots.create(meta).unwrap();
    for chunk in chunks {
        writer.write_chunk(chunk.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

/// Remembers what was applied, and counts the batches.
#[derive(Default)]
struct Log {
    applied: Vec<String>,
    batches: u32,
}

impl Machine for Log {
    type Command = Bytes;
    type Response = usize;
    type Query = ();
    type Answer = Vec<String>;
    type Snapshot = Vec<String>;

    fn encode(command: Bytes) -> Result<Bytes, EncodeError> {
        Ok(command)
    }
    fn apply(&mut self, _id: EntryId, command: Bytes) -> Result<usize, ApplyError> {
        if command == "unknown" {
            return Err(ApplyError("unknown".to_owned()));
        }
        self.applied.push(String::from_utf8_lossy(&command).into_owned());
        Ok(self.applied.len())
    }
    fn batch_applied(&mut self) {
        self.batches += 1;
    }
    fn query(&mut self, (): ()) -> Vec<String> {
        self.applied.clone()
    }
    fn begin_snapshot(&mut self) -> Vec<String> {
        self.applied.iter().rev().cloned().collect()
    }
    fn snapshot_chunk(
        &mut self,
        view: &mut Vec<String>,
        _max: usize,
    ) -> Result<Option<Bytes>, SnapshotError> {
        Ok(view.pop().map(Bytes::from))
    }
    fn end_snapshot(&mut self, _view: Vec<String>) {}
    fn restore(
        &mut self,
        chunks: &mut dyn Iterator<Item = std::io::Result<Bytes>>,
    ) -> Result<(), RestoreError> {
        self.applied.clear();
        for chunk in chunks {
            self.applied.push(String::from_utf8_lossy(&chunk?).into_owned());
        }
        Ok(())
    }
}

/// Keeps an answer for the test to look at.
struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Respond<T> for Slot<T> {
    fn respond(self, value: T) {
        let before = self.0.lock().unwrap().replace(value);
        assert!(before.is_none(), "answered twice");
    }
}

type Answer<T> = Arc<Mutex<Option<T>>>;

fn slot<T>() -> (Slot<T>, Answer<T>) {
    let answer = Answer::default();
    (Slot(Arc::clone(&answer)), answer)
}

fn take<T>(answer: &Answer<T>) -> Option<T> {
    answer.lock().unwrap().take()
}

type LogApplier = Applier<Log, Slot<Vec<String>>>;
type Task = ApplyTask<Slot<usize>, Reading<(), Slot<Vec<String>>>>;

fn applier(snapshots: &Snapshots) -> LogApplier {
    let policy = SnapshotPolicy {
        every_entries: 3,
        every_bytes: 1 << 20,
    };
    Applier::new(Log::default(), snapshots.clone(), &meta(0, 0), policy).unwrap()
}

fn entries(range: std::ops::RangeInclusive<u64>) -> Task {
    Task {
        entries: range.map(|index| command(index, 1)).collect(),
        ..Task::default()
    }
}

#[test]
fn proposers_are_answered_with_what_their_own_entry_gave() {
    let snapshots = snapshots();
    let mut applier = applier(&snapshots);
    let (second, second_answer) = slot();
    let (third, third_answer) = slot();
    let mut task = entries(1..=3);
    task.proposers = vec![(id(3, 1), third), (id(2, 1), second)];
    let progress = applier.process(task).unwrap();
    assert_eq!(progress.applied, Index(3));
    assert_eq!((take(&second_answer), take(&third_answer)), (Some(2), Some(3)));
    assert_eq!(applier.machine().batches, 1);
}

#[test]
fn a_query_waits_until_its_index_is_applied() {
    let snapshots = snapshots();
    let mut applier = applier(&snapshots);
    let (responder, answer) = slot();
    let reading = Reading { query: (), responder };
    let mut task = entries(1..=1);
    task.reads = vec![(Index(2), reading)];
    applier.process(task).unwrap();
    assert_eq!(take(&answer), None);
    applier.process(entries(2..=3)).unwrap();
    assert_eq!(take(&answer).unwrap().len(), 3);
}

#[test]
fn an_unknown_command_ends_the_applier_and_answers_nobody() {
    let snapshots = snapshots();
    let mut applier = applier(&snapshots);
    let (proposer, answer) = slot();
    let mut task = entries(1..=1);
    task.entries[0].payload = Payload::Command(Bytes::from_static(b"unknown"));
    task.proposers = vec![(id(1, 1), proposer)];
    assert!(applier.process(task).is_err());
    assert_eq!(take(&answer), None);
}

fn chunks_of(applier: &mut LogApplier) -> Vec<Bytes> {
    std::iter::from_fn(|| applier.snapshot_chunk(100).unwrap()).collect()
}

#[test]
fn a_snapshot_is_of_one_index_while_commands_go_on() {
    let snapshots = snapshots();
    let mut applier = applier(&snapshots);
    applier.process(entries(1..=2)).unwrap();
    assert!(!applier.snapshot_due());
    applier.process(entries(3..=3)).unwrap();
    assert!(applier.snapshot_due());
    assert_eq!(applier.begin_snapshot(), Some(meta(3, 1)));
    applier.process(entries(4..=6)).unwrap();
    assert_eq!(applier.begin_snapshot(), None, "one at a time");
    assert!(
        applier.snapshot_due(),
        "V23: the wish is not lost while one is made"
    );
    assert_eq!(chunks_of(&mut applier), ["command 1", "command 2", "command 3"]);
    applier.snapshot_ended();
    assert_eq!(applier.begin_snapshot(), Some(meta(6, 1)));
}

#[test]
fn a_received_snapshot_takes_the_place_of_the_state_and_of_one_being_made() {
    let snapshots = snapshots();
    let mut applier = applier(&snapshots);
    applier.process(entries(1..=3)).unwrap();
    applier.begin_snapshot().unwrap();
    save_snapshot(&snapshots, &meta(9, 1), &["received"]);

    let (proposer, answer) = slot();
    let mut task = entries(4..=4);
    task.entries.push(command(10, 1));
    task.proposers = vec![(id(4, 1), proposer)];
    task.restore = Some(meta(9, 1));
    let progress = applier.process(task).unwrap();
    assert_eq!((progress.restored, progress.applied), (Some(id(9, 1)), Index(10)));
    assert_eq!(
        take(&answer),
        Some(4),
        "what came before the snapshot was applied for its proposer"
    );
    assert_eq!(applier.machine().applied, ["received", "command 10"]);
    assert!(
        applier.snapshot_chunk(100).is_err(),
        "the one being made is given up"
    );
    assert_eq!(applier.begin_snapshot(), None, "until its writer knows");
    applier.snapshot_ended();
    assert_eq!(applier.begin_snapshot(), Some(meta(10, 1)));
}

#[test]
fn a_restart_goes_on_from_the_snapshot() {
    let snapshots = snapshots();
    save_snapshot(&snapshots, &meta(4, 1), &["a", "b"]);
    let policy = SnapshotPolicy::default();
    let mut applier = LogApplier::new(Log::default(), snapshots, &meta(4, 1), policy).unwrap();
    assert_eq!(applier.applied(), id(4, 1));
    applier.process(entries(5..=5)).unwrap();
    assert_eq!(applier.machine().applied, ["a", "b", "command 5"]);
}

#[test]
fn a_large_state_is_not_written_again_for_a_few_entries() {
    let snapshots = snapshots();
    let mut applier = applier(&snapshots);
    applier.process(entries(1..=30)).unwrap();
    applier.begin_snapshot().unwrap();
    let bytes: usize = chunks_of(&mut applier).iter().map(|chunk| chunk.len()).sum();
    applier.snapshot_ended();
    let half = u64::try_from(bytes).unwrap() / 2;
    let mut since = 0;
    for index in 31.. {
        since += command(index, 1).weight();
        applier.process(entries(index..=index)).unwrap();
        assert_eq!(
            applier.snapshot_due(),
            index >= 33 && since >= half,
            "after entry {index}"
        );
        if applier.snapshot_due() {
            assert!(index > 33, "the state is large enough to show the difference");
            break;
        }
    }
}
