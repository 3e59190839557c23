//! The rules of watching, one test each.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_kv::*;
use support::*;

/// A keyspace, its hub and one stream.
struct Server {
    keyspace: Keyspace,
    hub: WatchHub,
    stream: StreamId,
    woken: Arc<AtomicUsize>,
    catch_up_woken: Arc<AtomicUsize>,
}

fn counter() -> (Waker, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    (
        Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }),
        count,
    )
}

impl Server {
    fn new() -> Self {
        Self::with(WatchConfig::default())
    }

    fn with(config: WatchConfig) -> Self {
        let keyspace = Keyspace::new();
        let (waker, catch_up_woken) = counter();
        let mut hub = WatchHub::new(config, keyspace.revision(), waker);
        let (waker, woken) = counter();
        let stream = hub.open_stream(waker);
        Self {
            keyspace,
            hub,
            stream,
            woken,
            catch_up_woken,
        }
    }

    fn apply(&mut self, command: Command) {
        let applied = self.keyspace.apply(command);
        applied.result.unwrap();
        self.hub.publish(&applied.changes, applied.revision);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.apply(put_command(key, value));
    }

    fn delete(&mut self, key: &str) {
        self.apply(delete_command(single(key)));
    }

    fn watch(&mut self, spec: WatchSpec) {
        self.hub.create(self.stream, spec);
    }

    fn watch_from(&mut self, keys: KeyRange, start: i64) {
        self.watch(WatchSpec {
            start: WatchStart::from_wire(start),
            ..WatchSpec::new(keys)
        });
    }

    fn catch_up(&mut self) {
        while let Some(request) = self.hub.next_catch_up() {
            let history = self
                .keyspace
                .history(request.keys(), request.from(), &HistoryLimits::default());
            self.hub.catch_up(request, history);
        }
    }

    fn poll(&mut self) -> Vec<WatchOutput> {
        self.hub.poll(self.stream)
    }

    /// What there is to send, in short: see [`short`].
    fn told(&mut self) -> Vec<String> {
        self.poll().iter().map(short).collect()
    }
}

/// `0 r4 +a@3 -b@4` is: watcher 0, header revision 4, a put at 3, b deleted at 4.
fn short(output: &WatchOutput) -> String {
    match output {
        WatchOutput::Created { id, revision } => format!("{id} r{revision} created"),
        WatchOutput::Refused { reason, revision } => format!("r{revision} refused: {reason}"),
        WatchOutput::Progress {
            id: Some(id),
            revision,
        } => format!("{id} r{revision} progress"),
        WatchOutput::Progress { id: None, revision } => format!("all r{revision} progress"),
        WatchOutput::Canceled {
            id,
            cause: CancelCause::Compacted { compacted },
            ..
        } => {
            format!("{id} canceled: compacted {compacted}")
        }
        WatchOutput::Canceled { id, .. } => format!("{id} canceled"),
        WatchOutput::Events {
            id,
            revision,
            events,
            fragment,
            ..
        } => {
            let events: Vec<String> = events.iter().map(|event| short_event(event)).collect();
            let more = if *fragment { " ..." } else { "" };
            format!("{id} r{revision} {}{more}", events.join(" "))
        }
    }
}

fn short_event(event: &Event) -> String {
    let sign = match event {
        Event::Put { .. } => '+',
        Event::Delete { .. } => '-',
    };
    format!(
        "{sign}{}@{}",
        String::from_utf8_lossy(event.key()),
        event.revision()
    )
}

#[test]
fn a_watch_from_now_sees_what_comes() {
    let mut server = Server::new();
    server.put("a", "before");
    server.watch(WatchSpec::new(single("a")));
    server.put("a", "1");
    server.put("b", "not watched");
    server.delete("a");
    assert_eq!(server.told(), ["0 r2 created", "0 r5 +a@3 -a@5"]);
}

#[test]
fn a_watch_from_the_past_sees_history_then_what_comes() {
    let mut server = Server::new();
    for value in ["1", "2", "3"] {
        server.put("a", value);
    }
    server.watch_from(KeyRange::all(), 3);
    server.put("b", "while it is behind");
    server.catch_up();
    server.put("b", "when it has caught up");
    assert_eq!(server.told(), ["0 r4 created", "0 r6 +a@3 +a@4 +b@5 +b@6"]);
}

#[test]
fn an_event_between_reading_history_and_handing_it_over_comes_once() {
    let mut server = Server::new();
    server.put("a", "1");
    server.watch_from(KeyRange::all(), 2);
    let request = server.hub.next_catch_up().unwrap();
    let read = |server: &Server, request: &CatchUp| {
        server
            .keyspace
            .history(request.keys(), request.from(), &HistoryLimits::default())
    };
    let history = read(&server, &request);
    server.put("a", "after the reading");
    server.hub.catch_up(request, history);
    server.catch_up();
    assert_eq!(server.told(), ["0 r2 created", "0 r3 +a@2 +a@3"]);

    // History that was read before its publication is not told twice either.
    server.watch_from(KeyRange::all(), 2);
    let request = server.hub.next_catch_up().unwrap();
    let applied = server
        .keyspace
        .apply(put_command("a", "read before it is published"));
    let history = read(&server, &request);
    server.hub.catch_up(request, history);
    server.hub.publish(&applied.changes, applied.revision);
    assert_eq!(
        server.told(),
        ["1 r3 created", "1 r4 +a@2 +a@3 +a@4", "0 r4 +a@4"]
    );
}

#[test]
fn a_watch_from_the_future_sees_nothing_older_and_no_progress_before() {
    let mut server = Server::new();
    server.watch_from(KeyRange::all(), 4);
    server.hub.request_progress(server.stream);
    server.put("a", "2");
    server.put("a", "3");
    assert_eq!(server.told(), ["0 r1 created"]);
    server.put("a", "4");
    assert_eq!(server.told(), ["0 r4 +a@4", "all r4 progress"]);
}

#[test]
fn a_negative_start_is_refused() {
    let mut server = Server::new();
    server.watch_from(KeyRange::all(), -1);
    assert_eq!(
        server.told(),
        ["r1 refused: etcdserver: mvcc: required revision has been compacted"]
    );
}

#[test]
fn a_compacted_start_is_created_then_canceled() {
    let mut server = Server::new();
    (0..4).for_each(|_| server.put("a", "x"));
    server.apply(compact(4));
    server.watch_from(KeyRange::all(), 3);
    server.watch_from(KeyRange::all(), 4);
    server.catch_up();
    let told = server.told();
    assert_eq!(
        told,
        [
            "0 r5 created",
            "1 r5 created",
            "0 canceled: compacted 4",
            "1 r5 +a@4 +a@5"
        ]
    );
}

#[test]
fn ids_are_counted_per_stream_and_skip_those_in_use() {
    let mut server = Server::new();
    let chosen = |id| WatchSpec {
        id: Some(WatchId(id)),
        ..WatchSpec::new(single("a"))
    };
    server.watch(WatchSpec::new(single("a")));
    server.watch(chosen(1));
    server.watch(WatchSpec::new(single("a")));
    server.watch(chosen(2));
    let refused = "r1 refused: mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(
        server.told(),
        ["0 r1 created", "1 r1 created", "2 r1 created", refused]
    );
    let (waker, _) = counter();
    server.stream = server.hub.open_stream(waker);
    server.watch(chosen(1));
    assert_eq!(server.told(), ["1 r1 created"]);
}

#[test]
fn an_empty_range_is_refused() {
    let mut server = Server::new();
    server.watch(WatchSpec::new(span("b", "b")));
    assert_eq!(server.told(), ["r1 refused: mvcc: watcher range is empty"]);
}

#[test]
fn canceling_is_answered_and_unknown_ids_are_ignored() {
    let mut server = Server::new();
    server.watch(WatchSpec::new(single("a")));
    server.put("a", "1");
    server.hub.cancel(server.stream, WatchId(0));
    server.hub.cancel(server.stream, WatchId(0));
    server.hub.cancel(server.stream, WatchId(9));
    server.put("a", "2");
    assert_eq!(server.told(), ["0 r1 created", "0 r2 +a@2", "0 canceled"]);
}

#[test]
fn a_response_emptied_by_filters_is_not_sent_but_progress_is() {
    let mut server = Server::new();
    server.watch(WatchSpec {
        skip_puts: true,
        ..WatchSpec::new(single("a"))
    });
    server.watch(WatchSpec {
        skip_deletes: true,
        ..WatchSpec::new(single("a"))
    });
    server.put("a", "1");
    server.delete("a");
    server.put("a", "2");
    server.hub.request_progress(server.stream);
    let told = server.told();
    assert_eq!(
        told[2..],
        ["1 r2 +a@2", "0 r3 -a@3", "1 r4 +a@4", "all r4 progress"]
    );
}

#[test]
fn prev_kv_comes_with_those_who_ask() {
    let mut server = Server::new();
    server.put("a", "1");
    server.watch(WatchSpec {
        prev_kv: true,
        ..WatchSpec::new(single("a"))
    });
    server.put("a", "2");
    let outputs = server.poll();
    let WatchOutput::Events {
        events,
        prev_kv: true,
        ..
    } = &outputs[1]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(events[0].prev().unwrap().value, "1");
}

#[test]
fn prev_kv_is_left_out_where_it_is_compacted() {
    let mut server = Server::new();
    (1..=3).for_each(|value| server.put("a", &value.to_string()));
    server.apply(compact(3));
    server.watch_from(single("a"), 3);
    server.catch_up();
    let outputs = server.poll();
    let WatchOutput::Events { events, .. } = &outputs[1] else {
        panic!("{outputs:?}")
    };
    let prevs: Vec<_> = events
        .iter()
        .map(|event| event.prev().map(|kv| kv.value.clone()))
        .collect();
    assert_eq!(prevs, [None, Some("2".into())]);
}

#[test]
fn requested_progress_waits_until_all_watchers_have_everything() {
    let mut server = Server::new();
    server.put("a", "1");
    server.watch(WatchSpec::new(single("b")));
    server.watch_from(single("a"), 2);
    server.hub.request_progress(server.stream);
    server.hub.request_progress(server.stream);
    assert_eq!(server.told(), ["0 r2 created", "1 r2 created"]);
    server.catch_up();
    assert_eq!(server.told(), ["1 r2 +a@2", "all r2 progress"]);
}

#[test]
fn requested_progress_waits_no_longer_for_a_canceled_watcher() {
    let mut server = Server::new();
    server.put("a", "1");
    server.watch(WatchSpec::new(single("b")));
    server.watch_from(single("a"), 2);
    server.hub.request_progress(server.stream);
    server.hub.cancel(server.stream, WatchId(1));
    assert_eq!(server.told()[2..], ["1 canceled", "all r2 progress"]);
}

#[test]
fn a_stream_without_watchers_has_no_progress() {
    let mut server = Server::new();
    server.hub.request_progress(server.stream);
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn periodic_progress_is_for_those_who_asked_and_heard_nothing() {
    let mut server = Server::new();
    let notify = |key| WatchSpec {
        progress_notify: true,
        ..WatchSpec::new(single(key))
    };
    server.watch(notify("a"));
    server.watch(notify("b"));
    server.watch(WatchSpec::new(single("c")));
    let secs = Duration::from_secs;
    assert_eq!(server.hub.tick(secs(0)), secs(600));
    server.put("a", "1");
    assert_eq!(server.hub.tick(secs(599)), secs(600));
    assert_eq!(server.told()[3..], ["0 r2 +a@2"]);
    assert_eq!(server.hub.tick(secs(600)), secs(1200));
    assert_eq!(server.told(), ["1 r2 progress"]);
    server.hub.tick(secs(1200));
    assert_eq!(server.told(), ["0 r2 progress", "1 r2 progress"]);
}

/// Ten puts of ten bytes fill a stream.
fn small() -> WatchConfig {
    WatchConfig {
        stream_bytes: 800,
        response_bytes: 400,
        ..WatchConfig::default()
    }
}

#[test]
fn a_slow_stream_is_bounded_and_misses_nothing() {
    let mut server = Server::with(small());
    server.watch(WatchSpec::new(KeyRange::all()));
    let (waker, _) = counter();
    let fast = server.hub.open_stream(waker);
    server.hub.create(fast, WatchSpec::new(KeyRange::all()));
    let mut fast_events = 0;
    for i in 0..200 {
        server.put("a", &i.to_string());
        server.catch_up();
        fast_events += server.hub.poll(fast).iter().map(events_in).sum::<usize>();
        assert!(
            server.hub.stats().pending_bytes < 1000,
            "{:?}",
            server.hub.stats()
        );
    }
    assert_eq!(server.hub.stats().slow_watchers, 1);
    let mut slow_events = 0;
    while server.hub.stats().pending_bytes > 0 {
        slow_events += server.poll().iter().map(events_in).sum::<usize>();
        server.catch_up();
    }
    assert_eq!((fast_events, slow_events), (200, 200));
    assert_eq!(server.hub.stats().slow_watchers, 0);
}

fn events_in(output: &WatchOutput) -> usize {
    match output {
        WatchOutput::Events { events, .. } => events.len(),
        WatchOutput::Created { .. }
        | WatchOutput::Refused { .. }
        | WatchOutput::Progress { .. }
        | WatchOutput::Canceled { .. } => 0,
    }
}

fn wide_txn(count: usize) -> Command {
    let puts = (0..count).map(|i| Op::Put(Put::new(format!("{i:02}"), "x")));
    Command::Txn(Txn {
        success: puts.collect(),
        ..Txn::default()
    })
}

#[test]
fn a_revision_is_not_split() {
    let mut server = Server::with(small());
    server.watch(WatchSpec::new(KeyRange::all()));
    server.apply(wide_txn(20));
    server.put("next", "1");
    server.catch_up();
    let outputs = server.poll();
    assert_eq!(outputs.iter().map(events_in).collect::<Vec<_>>(), [0, 20]);
    server.catch_up();
    assert_eq!(server.told(), ["0 r3 +next@3"]);
}

#[test]
fn a_revision_is_split_into_fragments_for_those_who_ask() {
    let mut server = Server::with(small());
    server.watch(WatchSpec {
        fragment: true,
        ..WatchSpec::new(KeyRange::all())
    });
    server.apply(wide_txn(11));
    let outputs = server.poll();
    let fragments: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            WatchOutput::Events { fragment, events, .. } => Some((*fragment, events.len())),
            WatchOutput::Created { .. } => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(fragments, [(true, 5), (true, 5), (false, 1)]);
}

#[test]
fn a_single_event_is_never_a_fragment() {
    let mut server = Server::with(small());
    server.watch(WatchSpec {
        fragment: true,
        ..WatchSpec::new(KeyRange::all())
    });
    server.put("a", &"x".repeat(5000));
    let outputs = server.poll();
    assert!(matches!(&outputs[1], WatchOutput::Events { fragment: false, events, .. } if events.len() == 1));
}

#[test]
fn wakers_are_called_once_until_there_is_more() {
    let mut server = Server::new();
    server.watch(WatchSpec::new(single("a")));
    server.put("a", "1");
    server.put("a", "2");
    assert_eq!(server.woken.load(Ordering::Relaxed), 1);
    server.poll();
    server.put("b", "not watched");
    assert_eq!(server.woken.load(Ordering::Relaxed), 1);
    server.put("a", "3");
    assert_eq!(server.woken.load(Ordering::Relaxed), 2);
}

#[test]
fn the_owner_is_woken_for_history() {
    let mut server = Server::new();
    server.put("a", "1");
    server.watch(WatchSpec::new(single("a")));
    assert_eq!(server.catch_up_woken.load(Ordering::Relaxed), 0);
    server.watch_from(single("a"), 2);
    server.watch_from(single("a"), 2);
    assert_eq!(server.catch_up_woken.load(Ordering::Relaxed), 1);
    server.catch_up();
    server.watch_from(single("a"), 2);
    assert_eq!(server.catch_up_woken.load(Ordering::Relaxed), 2);
}

#[test]
fn a_restored_keyspace_is_read_for_what_was_missed() {
    let mut server = Server::new();
    server.watch(WatchSpec::new(KeyRange::all()));
    server.put("a", "1");
    let mut ahead = restore(snapshot(&mut server.keyspace, 100)).unwrap();
    put(&mut ahead, "b", "2");
    put(&mut ahead, "c", "3");
    server.keyspace = restore(snapshot(&mut ahead, 100)).unwrap();
    server.hub.restored(server.keyspace.revision());
    server.catch_up();
    server.put("d", "4");
    assert_eq!(server.told(), ["0 r1 created", "0 r5 +a@2 +b@3 +c@4 +d@5"]);
}

#[test]
fn a_watcher_that_misses_what_a_restored_keyspace_has_compacted_is_canceled() {
    let mut server = Server::new();
    server.watch(WatchSpec::new(KeyRange::all()));
    let mut ahead = Keyspace::new();
    for _ in 0..5 {
        put(&mut ahead, "a", "1");
    }
    ok(&mut ahead, compact(5));
    server.keyspace = restore(snapshot(&mut ahead, 100)).unwrap();
    server.hub.restored(server.keyspace.revision());
    server.catch_up();
    assert_eq!(server.told(), ["0 r1 created", "0 canceled: compacted 5"]);
}

#[test]
fn a_closed_stream_leaves_nothing_behind() {
    let mut server = Server::new();
    server.put("a", "1");
    server.watch(WatchSpec::new(KeyRange::all()));
    server.watch_from(single("a"), 2);
    server.hub.request_progress(server.stream);
    let request = server.hub.next_catch_up().unwrap();
    server.hub.close_stream(server.stream);
    let history = server
        .keyspace
        .history(request.keys(), request.from(), &HistoryLimits::default());
    server.hub.catch_up(request, history);
    server.put("a", "2");
    assert_eq!(server.hub.stats(), WatchStats::default());
    server.watch(WatchSpec::new(KeyRange::all()));
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn many_watchers_of_the_past_share_readings() {
    let mut server = Server::new();
    (0..50).for_each(|i| server.put(&format!("{i}"), "x"));
    for i in 0..1500 {
        server.watch_from(single(&format!("{}", i % 50)), 2);
    }
    let mut readings = 0;
    while let Some(request) = server.hub.next_catch_up() {
        readings += 1;
        let history = server
            .keyspace
            .history(request.keys(), request.from(), &HistoryLimits::default());
        server.hub.catch_up(request, history);
    }
    assert_eq!(readings, 3);
    assert_eq!(server.poll().iter().map(events_in).sum::<usize>(), 1500);
}
