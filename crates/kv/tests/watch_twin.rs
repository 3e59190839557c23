//! Watching against the plain list of all events: whatever streams do, nothing is lost, told twice, told
//! out of order or split, and every header's promise is kept.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use quorate_kv::*;
use support::*;

const STREAMS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// Applies some commands and publishes what they changed at once.
    Apply(Vec<Command>),
    Create(usize, WatchSpec),
    Cancel(usize, i64),
    Progress(usize),
    Tick,
    /// A client reads what its stream has.
    Poll(usize),
    /// The owner reads history once; the answer is handed over after so many more steps.
    Read,
    HandOver,
    Sweep,
    /// A snapshot with these commands in it replaces the keyspace.
    Restore(Vec<Command>),
}

fn arb_write() -> impl Strategy<Value = Command> {
    prop_oneof![
        12 => arb_put().prop_map(Command::Put),
        4 => arb_range().prop_map(delete_command),
        6 => arb_txn().prop_map(Command::Txn),
        1 => arb_revision().prop_map(|revision| Command::Compact { revision }),
    ]
}

fn arb_spec() -> impl Strategy<Value = WatchSpec> {
    let start = prop_oneof![
        2 => Just(WatchStart::Now),
        3 => arb_revision().prop_map(WatchStart::At),
    ];
    let id = prop::option::weighted(0.2, (1i64..4).prop_map(WatchId));
    (arb_range(), start, id, any::<[bool; 3]>(), 0u8..6).prop_map(
        |(keys, start, id, [prev_kv, fragment, progress_notify], filter)| WatchSpec {
            id,
            keys,
            start,
            skip_puts: filter == 0,
            skip_deletes: filter == 1,
            prev_kv,
            fragment,
            progress_notify,
        },
    )
}

fn arb_step() -> impl Strategy<Value = Step> {
    let writes = || prop::collection::vec(arb_write(), 1..6);
    let stream = || 0..STREAMS;
    prop_oneof![
        8 => writes().prop_map(Step::Apply),
        4 => (stream(), arb_spec()).prop_map(|(stream, spec)| Step::Create(stream, spec)),
        1 => (stream(), 0i64..5).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        2 => stream().prop_map(Step::Progress),
        1 => Just(Step::Tick),
        4 => stream().prop_map(Step::Poll),
        4 => Just(Step::Read),
        4 => Just(Step::HandOver),
        1 => Just(Step::Sweep),
        1 => writes().prop_map(Step::Restore),
    ]
}

/// What a client has seen of one watcher.
#[derive(Debug)]
struct Seen {
    spec: WatchSpec,
    /// The first revision it must be told.
    start: Revision,
    events: Vec<Event>,
    /// The revision the last response belonged to, if more of it may come.
    open: Option<Revision>,
    last_revision: Revision,
    /// What the headers have promised: everything up to here was told.
    promised: Revision,
    ended: bool,
}

/// A client that checks what it is told as it comes.
#[derive(Default)]
struct Client {
    /// Specs of watchers whose creation it has not seen answered.
    asked: std::collections::VecDeque<(WatchSpec, Revision)>,
    watchers: BTreeMap<WatchId, Seen>,
    finished: Vec<Seen>,
}

struct Run {
    keyspace: Keyspace,
    /// Never compacted: the list of all events.
    plain: Keyspace,
    hub: WatchHub,
    streams: Vec<StreamId>,
    clients: Vec<Client>,
    reading: Option<(CatchUp, Result<HistoryBatch, Compacted>)>,
    now: Duration,
}

impl Run {
    fn new() -> Self {
        let config = WatchConfig {
            stream_bytes: 700,
            response_bytes: 300,
            progress_interval: Duration::from_secs(1),
        };
        let mut hub = WatchHub::new(config, Revision::FIRST, Arc::new(|| {}));
        let streams = (0..STREAMS).map(|_| hub.open_stream(Arc::new(|| {}))).collect();
        Self {
            keyspace: Keyspace::new(),
            plain: Keyspace::new(),
            hub,
            streams,
            clients: (0..STREAMS).map(|_| Client::default()).collect(),
            reading: None,
            now: Duration::ZERO,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(commands) => {
                let changes = self.apply(commands);
                self.hub.publish(&changes, self.keyspace.revision());
            }
            Step::Create(stream, spec) => {
                self.clients[stream]
                    .asked
                    .push_back((spec.clone(), self.hub.revision()));
                self.hub.create(self.streams[stream], spec);
            }
            Step::Cancel(stream, id) => self.hub.cancel(self.streams[stream], WatchId(id)),
            Step::Progress(stream) => self.hub.request_progress(self.streams[stream]),
            Step::Tick => {
                self.now += Duration::from_secs(1);
                self.hub.tick(self.now);
            }
            Step::Poll(stream) => self.poll(stream),
            Step::Read => self.read(),
            Step::HandOver => self.hand_over(),
            Step::Sweep => drop(self.keyspace.compact_step(3)),
            Step::Restore(commands) => {
                self.apply(commands);
                self.keyspace = restore(snapshot(&mut self.keyspace, 1000)).unwrap();
                self.hub.restored(self.keyspace.revision());
            }
        }
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Change> {
        let mut changes = Vec::new();
        for command in commands {
            if !matches!(command, Command::Compact { .. }) {
                // A read of a compacted revision fails here and not there: such transactions are left out.
                let mut trial = restore(snapshot(&mut self.keyspace, 1 << 20)).unwrap();
                if trial.apply(command.clone()).result.is_err() {
                    continue;
                }
                self.plain.apply(command.clone());
            }
            changes.extend(self.keyspace.apply(command).changes);
        }
        assert_eq!(self.keyspace.revision(), self.plain.revision());
        changes
    }

    fn read(&mut self) {
        if self.reading.is_none()
            && let Some(request) = self.hub.next_catch_up()
        {
            let limits = HistoryLimits {
                revisions: 3,
                bytes: 400,
                scanned: 8,
            };
            let history = self.keyspace.history(request.keys(), request.from(), &limits);
            self.reading = Some((request, history));
        }
    }

    fn hand_over(&mut self) {
        if let Some((request, history)) = self.reading.take() {
            self.hub.catch_up(request, history);
        }
    }

    fn poll(&mut self, stream: usize) {
        for output in self.hub.poll(self.streams[stream]) {
            self.clients[stream].take(output, &self.plain);
        }
    }

    /// Lets everything come to rest, then checks that everybody has been told everything.
    fn finish(&mut self) {
        self.hand_over();
        for _ in 0..1000 {
            (0..STREAMS).for_each(|stream| self.poll(stream));
            self.read();
            self.hand_over();
        }
        (0..STREAMS).for_each(|stream| self.hub.request_progress(self.streams[stream]));
        (0..STREAMS).for_each(|stream| self.poll(stream));
        assert_eq!(
            (self.hub.stats().slow_watchers, self.hub.stats().pending_bytes),
            (0, 0)
        );
        let all = all_events(&self.plain);
        for client in &self.clients {
            assert!(client.asked.is_empty(), "every creation is answered");
            for seen in client.watchers.values() {
                assert_same(&seen.events, &seen.expected(&all, self.plain.revision()));
            }
            for seen in &client.finished {
                let expected = seen.expected(&all, self.plain.revision());
                assert!(seen.events.len() <= expected.len());
                assert_same(&seen.events, &expected[..seen.events.len()]);
            }
        }
    }
}

impl Client {
    fn take(&mut self, output: WatchOutput, plain: &Keyspace) {
        match output {
            WatchOutput::Created { id, revision } => {
                let (spec, published) = self.asked.pop_front().unwrap();
                assert_eq!(revision, published);
                assert!(spec.id.is_none_or(|chosen| chosen == id));
                let start = match spec.start {
                    WatchStart::Now => revision.next(),
                    WatchStart::At(start) => start,
                };
                let seen = Seen {
                    spec,
                    start,
                    events: vec![],
                    open: None,
                    last_revision: Revision(0),
                    promised: Revision(0),
                    ended: false,
                };
                assert!(self.watchers.insert(id, seen).is_none(), "the id was in use");
            }
            WatchOutput::Refused { reason, .. } => {
                let (spec, _) = self.asked.pop_front().unwrap();
                match reason {
                    WatchRefusal::DuplicateId => assert!(self.watchers.contains_key(&spec.id.unwrap())),
                    WatchRefusal::EmptyRange => assert!(spec.keys.is_empty()),
                    WatchRefusal::Compacted => assert_eq!(spec.start, WatchStart::At(Revision(-1))),
                    other => panic!("{other:?}"),
                }
            }
            WatchOutput::Events {
                id,
                revision,
                events,
                fragment,
                prev_kv,
            } => {
                let seen = self.watchers.get_mut(&id).expect("created before, not canceled");
                assert_eq!(prev_kv, seen.spec.prev_kv);
                seen.take_events(&events, revision, fragment);
                if !fragment {
                    seen.promise(revision, plain);
                }
            }
            WatchOutput::Progress {
                id: Some(id),
                revision,
            } => {
                let seen = self.watchers.get_mut(&id).expect("created before, not canceled");
                assert!(seen.spec.progress_notify);
                seen.promise_progress(revision, plain);
            }
            WatchOutput::Progress { id: None, revision } => {
                assert!(!self.watchers.is_empty());
                self.watchers
                    .values_mut()
                    .for_each(|seen| seen.promise_progress(revision, plain));
            }
            WatchOutput::Canceled { id, .. } => {
                let mut seen = self.watchers.remove(&id).expect("created before, not canceled");
                seen.ended = true;
                self.finished.push(seen);
            }
        }
    }
}

impl Seen {
    fn take_events(&mut self, events: &[Arc<Event>], revision: Revision, fragment: bool) {
        let first = events.first().expect("a response has events").revision();
        let last = events.last().unwrap().revision();
        match self.open {
            Some(open) => assert_eq!(first, open, "fragments belong together"),
            None => assert!(first > self.last_revision, "a revision was split"),
        }
        assert!(!fragment || self.spec.fragment);
        assert!(last <= revision);
        self.open = fragment.then_some(last);
        self.last_revision = last;
        self.events.extend(events.iter().map(|event| Event::clone(event)));
    }

    /// Everything up to the revision must have been told.
    fn promise(&mut self, revision: Revision, plain: &Keyspace) {
        assert!(revision >= self.promised, "a promise was taken back");
        self.promised = revision;
        let expected = self.expected(&all_events(plain), revision).len();
        let told = self
            .events
            .iter()
            .filter(|event| event.revision() <= revision)
            .count();
        assert_eq!(told, expected, "promised {revision}");
    }

    fn promise_progress(&mut self, revision: Revision, plain: &Keyspace) {
        assert!(
            self.spec.start == WatchStart::Now || self.start <= revision,
            "progress before the start"
        );
        assert_eq!(self.open, None);
        self.promise(revision, plain);
    }

    fn expected(&self, all: &[Event], until: Revision) -> Vec<Event> {
        let wanted = all.iter().filter(|event| {
            let kind = match event {
                Event::Put { .. } => !self.spec.skip_puts,
                Event::Delete { .. } => !self.spec.skip_deletes,
            };
            kind && self.spec.keys.contains(event.key()) && (self.start..=until).contains(&event.revision())
        });
        wanted.cloned().collect()
    }
}

/// Equal, but for previous values that may be compacted.
fn assert_same(told: &[Event], expected: &[Event]) {
    let without = |event: &Event| match event.clone() {
        Event::Put { kv, .. } => Event::Put { kv, prev: None },
        Event::Delete { key, revision, .. } => Event::Delete {
            key,
            revision,
            prev: None,
        },
    };
    let bare = |events: &[Event]| events.iter().map(without).collect::<Vec<_>>();
    assert_eq!(bare(told), bare(expected));
    for (told, expected) in told.iter().zip(expected) {
        assert!(
            told.prev().is_none() || told.prev() == expected.prev(),
            "{told:?} {expected:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn everybody_is_told_everything_once(steps in prop::collection::vec(arb_step(), 1..50)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}
