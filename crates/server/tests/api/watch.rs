//! Watches: history, order, filters, progress, cancellation.

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use quorate_etcd_api::etcdserverpb::watch_create_request::FilterType;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::mvccpb::event::EventType;
use tonic::Streaming;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::harness::{Client, Cluster, PATIENCE, text};
use crate::http::get;

/// One watch stream.
struct Stream {
    requests: UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(client: &mut Client) -> Stream {
        Stream::open_with(client, |_| {}).await
    }

    /// Opens a stream whose metadata `change` has changed.
    async fn open_with(client: &mut Client, change: impl FnOnce(&mut MetadataMap)) -> Stream {
        let (requests, receiver) = unbounded();
        let mut request = tonic::Request::new(receiver);
        change(request.metadata_mut());
        let responses = client.watch.watch(request).await.unwrap().into_inner();
        Stream { requests, responses }
    }

    fn send(&self, union: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(union),
        };
        self.requests.unbounded_send(request).unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.next()).await;
        next.expect("no response came")
            .expect("the stream ended")
            .unwrap()
    }

    /// Creates a watcher and returns its id.
    async fn create(&mut self, request: WatchCreateRequest) -> i64 {
        self.send(RequestUnion::CreateRequest(request));
        let created = self.next().await;
        assert!(
            created.created && !created.canceled && created.events.is_empty(),
            "{created:?}"
        );
        created.watch_id
    }

    /// The next events, as in "PUT a=1@2", until there are `count`.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await;
            assert!(!response.canceled, "{response:?}");
            events.extend(response.events.iter().map(|event| {
                let kv = event.kv.as_ref().unwrap();
                let (key, value) = (text(&kv.key), text(&kv.value));
                match event.r#type() {
                    EventType::Put => format!("PUT {key}={value}@{}", kv.mod_revision),
                    EventType::Delete => format!("DELETE {key}@{}", kv.mod_revision),
                }
            }));
        }
        events
    }
}

fn watch(key: &str, range_end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

fn watch_from(key: &str, range_end: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..watch(key, range_end)
    }
}

#[tokio::test]
async fn a_watcher_sees_what_comes_after_it() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    client.put("a", "before").await;
    let mut stream = Stream::open(&mut client).await;
    assert_eq!(stream.create(watch("a", "")).await, 0);
    client.put("b", "elsewhere").await;
    client.put("a", "1").await;
    client.delete("a", "").await;
    assert_eq!(stream.events(2).await, ["PUT a=1@4", "DELETE a@5"]);
}

#[tokio::test]
async fn a_watcher_outlives_the_requests_of_its_stream() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch("a", "")).await;
    stream.requests.close_channel();
    // When the first event is here, the server has long had the end of the requests.
    for revision in 2..5 {
        client.put("a", "1").await;
        assert_eq!(stream.events(1).await, [format!("PUT a=1@{revision}")]);
    }
    wait_for_streams(&cluster, 1).await;
    drop(stream);
    wait_for_streams(&cluster, 0).await;
}

/// Waits until the only member counts this many open streams.
async fn wait_for_streams(cluster: &Cluster, count: usize) {
    let line = format!("etcd_debugging_mvcc_watch_stream_total {count}");
    let counted = async {
        while !get(cluster, 0, "/metrics").await.1.lines().any(|has| has == line) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let counted = tokio::time::timeout(PATIENCE, counted).await;
    counted.unwrap_or_else(|_| panic!("the member never said {line:?}"));
}

#[tokio::test]
async fn a_watcher_from_the_past_misses_nothing() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(1);
    for n in 0..50 {
        client.put(&format!("k{n:02}"), "old").await;
    }
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch_from("k", "l", 2)).await;
    for n in 50..100 {
        client.put(&format!("k{n:02}"), "new").await;
    }
    let events = stream.events(100).await;
    for (n, event) in events.iter().enumerate() {
        assert!(event.starts_with(&format!("PUT k{n:02}=")), "{event} at {n}");
        assert!(event.ends_with(&format!("@{}", n + 2)), "{event} at {n}");
    }
}

#[tokio::test]
async fn a_watcher_of_the_future_waits_for_it() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch_from("a", "", 4)).await;
    for value in ["2", "3", "4"] {
        client.put("a", value).await;
    }
    assert_eq!(stream.events(1).await, ["PUT a=4@4"]);
}

#[tokio::test]
async fn events_carry_the_value_before_if_asked() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    let request = WatchCreateRequest {
        prev_kv: true,
        ..watch("a", "")
    };
    stream.create(request).await;
    client.put("a", "1").await;
    client.put("a", "2").await;
    let mut before = Vec::new();
    while before.len() < 2 {
        let response = stream.next().await;
        before.extend(response.events.into_iter().map(|event| event.prev_kv));
    }
    assert!(before[0].is_none());
    assert_eq!(text(&before[1].as_ref().unwrap().value), "1");
}

#[tokio::test]
async fn filters_leave_kinds_of_events_out() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    let request = WatchCreateRequest {
        filters: vec![FilterType::Noput.into()],
        ..watch("a", "")
    };
    stream.create(request).await;
    client.put("a", "1").await;
    client.delete("a", "").await;
    assert_eq!(stream.events(1).await, ["DELETE a@3"]);
}

#[tokio::test]
async fn a_transaction_arrives_whole() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch("", "\0")).await;
    let put = |key: &str| RequestOp {
        request: Some(request_op::Request::RequestPut(crate::harness::put(key, "1"))),
    };
    let txn = TxnRequest {
        success: vec![put("b"), put("a")],
        ..Default::default()
    };
    client.kv.txn(txn).await.unwrap();
    let response = stream.next().await;
    let order: Vec<String> = response
        .events
        .iter()
        .map(|event| text(&event.kv.as_ref().unwrap().key))
        .collect();
    assert_eq!(order, ["b", "a"]);
}

#[tokio::test]
async fn a_watcher_of_compacted_history_is_canceled_with_the_revision() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    for value in ["1", "2", "3"] {
        client.put("a", value).await;
    }
    client.compact(3).await;
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch_from("a", "", 2)).await;
    let canceled = stream.next().await;
    assert!(canceled.canceled);
    assert_eq!(canceled.compact_revision, 3);

    stream.create(watch_from("a", "", 3)).await;
    assert_eq!(stream.events(2).await, ["PUT a=2@3", "PUT a=3@4"]);
}

#[tokio::test]
async fn what_cannot_be_watched_is_created_and_canceled_with_a_reason() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    let same_id = WatchCreateRequest {
        watch_id: 5,
        ..watch("a", "")
    };
    assert_eq!(stream.create(same_id.clone()).await, 5);
    let bad = [
        (same_id, "mvcc: duplicate watch ID provided on the WatchStream"),
        (watch("b", "a"), "mvcc: watcher range is empty"),
        (
            watch_from("a", "", -1),
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ];
    for (request, reason) in bad {
        stream.send(RequestUnion::CreateRequest(request));
        let response = stream.next().await;
        assert!(response.created && response.canceled, "{response:?}");
        assert_eq!((response.watch_id, response.cancel_reason.as_str()), (-1, reason));
    }
}

#[tokio::test]
async fn a_canceled_watcher_says_so_and_is_silent() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    let gone = stream.create(watch("a", "")).await;
    let kept = stream.create(watch("b", "")).await;
    for watch_id in [99, gone] {
        stream.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }
    let canceled = stream.next().await;
    assert!(canceled.canceled);
    assert_eq!(canceled.watch_id, gone);
    client.put("a", "1").await;
    client.put("b", "1").await;
    let response = stream.next().await;
    assert_eq!((response.watch_id, response.events.len()), (kept, 1));
}

#[tokio::test]
async fn progress_is_told_when_asked() {
    let cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch("a", "")).await;
    let revision = client.put("b", "1").await;
    stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, revision);
}

#[tokio::test]
async fn progress_is_told_by_itself_to_those_who_want_it() {
    let interval = std::time::Duration::from_millis(100);
    let cluster = Cluster::start_with(1, |config| config.watch_progress_interval = interval).await;
    let mut client = cluster.client(0);
    let revision = client.put("b", "1").await;
    let mut stream = Stream::open(&mut client).await;
    let request = WatchCreateRequest {
        progress_notify: true,
        ..watch("a", "")
    };
    let id = stream.create(request).await;
    let progress = stream.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (id, 0));
    assert_eq!(progress.header.unwrap().revision, revision);
}

#[tokio::test]
async fn every_member_tells_the_same_story() {
    let cluster = Cluster::start(3).await;
    let mut streams = Vec::new();
    for member in 0..3 {
        let mut stream = Stream::open(&mut cluster.client(member)).await;
        stream.create(watch_from("", "\0", 2)).await;
        streams.push(stream);
    }
    for n in 0..30 {
        cluster.client(n % 3).put("a", &n.to_string()).await;
    }
    let story = streams[0].events(30).await;
    for stream in &mut streams[1..] {
        assert_eq!(stream.events(30).await, story);
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_server_does() {
    let mut cluster = Cluster::start(1).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch("a", "")).await;
    cluster.stop(0).await;
    let end = tokio::time::timeout(PATIENCE, stream.responses.next())
        .await
        .unwrap();
    assert!(end.is_none_or(|response| response.is_err()));
}

#[tokio::test]
async fn a_stream_that_requires_a_leader_ends_without_one_and_another_does_not() {
    let mut cluster = Cluster::start(3).await;
    let mut client = cluster.client(0);
    let mut patient = Stream::open(&mut client).await;
    patient.create(watch("a", "")).await;
    let mut strict = Stream::open_with(&mut client, |metadata| {
        metadata.insert("hasleader", MetadataValue::from_static("true"));
    })
    .await;
    strict.create(watch("a", "")).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let end = tokio::time::timeout(PATIENCE, strict.responses.next())
        .await
        .unwrap();
    let status = end.unwrap().unwrap_err();
    assert_eq!(status.message(), "etcdserver: no leader");

    cluster.restart(1).await;
    client.put_again_and_again("a", "1").await;
    assert_eq!(patient.events(1).await, ["PUT a=1@2"]);
}

#[tokio::test]
async fn a_slow_reader_misses_nothing_and_holds_nobody_up() {
    let cluster = Cluster::start_with(1, |config| config.limits.watch_buffer_bytes = 64 << 10).await;
    let mut client = cluster.client(0);
    let mut stream = Stream::open(&mut client).await;
    stream.create(watch("a", "")).await;
    let value = "x".repeat(100 << 10);
    for _ in 0..100 {
        client.put("a", &value).await;
    }
    let events = stream.events(100).await;
    for (n, event) in events.iter().enumerate() {
        assert!(event.ends_with(&format!("@{}", n + 2)), "{n} is missing");
    }
}
