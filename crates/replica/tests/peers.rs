//! What an observer is told of the ways between peers: round trips, losses, and snapshots that travel.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{Cluster, Journal, Node, PATIENCE, eventually};
use quorate::codec::frame::{self, ClusterId, MAX_BODY_BYTES, OLDEST_VERSION, VERSION};
use quorate::codec::{Frame, Hello, Incarnation, StreamKind, Welcome};
use quorate::{Config, Delivery, NodeId, Observer, SnapshotWay};

/// What an observer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Connected(NodeId),
    Disconnected(NodeId),
    RoundTrip(NodeId, Duration),
    NotSent(NodeId),
    NotReceived(NodeId),
    SnapshotBegan(SnapshotWay),
    SnapshotEnded(SnapshotWay, Delivery),
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Seen>>);

impl Recorder {
    fn add(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    fn count(&self, expected: impl Fn(&Seen) -> bool) -> usize {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|seen| expected(seen)).count()
    }

    async fn has(&self, expected: Seen) {
        eventually(&format!("{expected:?}"), || async {
            (self.count(|seen| *seen == expected) > 0).then_some(())
        })
        .await;
    }
}

impl Observer for Recorder {
    fn connected(&self, to: NodeId) {
        self.add(Seen::Connected(to));
    }

    fn disconnected(&self, to: NodeId) {
        self.add(Seen::Disconnected(to));
    }

    fn round_trip(&self, to: NodeId, duration: Duration) {
        self.add(Seen::RoundTrip(to, duration));
    }

    fn not_sent(&self, to: NodeId, _messages: usize) {
        self.add(Seen::NotSent(to));
    }

    fn not_received(&self, from: NodeId, _messages: usize) {
        self.add(Seen::NotReceived(from));
    }

    fn snapshot_began(&self, way: SnapshotWay) {
        self.add(Seen::SnapshotBegan(way));
    }

    fn snapshot_ended(&self, way: SnapshotWay, outcome: Delivery, _duration: Duration) {
        self.add(Seen::SnapshotEnded(way, outcome));
    }
}

/// Node 1 of two, and the test in the place of node 2.
struct Pair {
    node: Node,
    seen: Arc<Recorder>,
    own: TcpListener,
    address: String,
    _directory: tempfile::TempDir,
}

const OTHER: NodeId = NodeId(2);
const INCARNATION: Incarnation = Incarnation(2);

impl Pair {
    fn start() -> Pair {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (listener, own) = (listen(), listen());
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let directory = tempfile::tempdir().unwrap();
        let seen = Arc::new(Recorder::default());
        let (first, second) = (address(&listener), address(&own));
        let mut config = Config::new(1)
            .peers([(1, first.clone()), (2, second)])
            .data_dir(directory.path().join("1"));
        config.listener = Some(Arc::new(listener));
        config.observer = Some(Arc::clone(&seen) as Arc<dyn Observer>);
        Pair {
            node: config.start::<Journal>().unwrap(),
            seen,
            own,
            address: first,
            _directory: directory,
        }
    }

    /// The stream on which node 1 speaks, welcomed with this version of the protocol.
    fn welcome(&self, version: u32) -> Line {
        assert!((OLDEST_VERSION..=VERSION).contains(&version));
        self.welcome_by_any(version)
    }

    /// As [`Self::welcome`], with a version that need not be one.
    fn welcome_by_any(&self, version: u32) -> Line {
        let mut line = Line::on(self.own.accept().unwrap().0);
        let Some(Frame::Hello(hello)) = line.hear() else {
            panic!("no hello");
        };
        assert_eq!((hello.oldest_version, hello.version), (OLDEST_VERSION, VERSION));
        let incarnation = INCARNATION;
        line.say(&Frame::Welcome(Welcome { version, incarnation }));
        line
    }

    /// A stream on which the test speaks to node 1 in this version of the protocol.
    fn dial(&self, version: u32) -> Line {
        let mut line = Line::on(TcpStream::connect(&self.address).unwrap());
        line.say(&Frame::Hello(Hello {
            version,
            oldest_version: 1,
            cluster: ClusterId(1),
            from: OTHER,
            to: NodeId(1),
            incarnation: INCARNATION,
            stream: StreamKind::Messages,
        }));
        match line.hear() {
            Some(Frame::Welcome(welcome)) => assert_eq!(welcome.version, version),
            other => panic!("{other:?}"),
        }
        line
    }
}

/// The test's end of a connection.
struct Line {
    stream: TcpStream,
    inbound: BytesMut,
}

impl Line {
    fn on(stream: TcpStream) -> Line {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let inbound = BytesMut::new();
        Line { stream, inbound }
    }

    fn say(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame::encode(frame, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next frame; none when the node has closed the connection.
    fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.inbound, MAX_BODY_BYTES).unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.inbound.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// The number of the next ping; messages before it are passed over.
    fn ping(&mut self) -> u64 {
        loop {
            match self.hear() {
                Some(Frame::Ping { number }) => return number,
                Some(Frame::Message(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_is_as_long_as_the_other_end_takes_to_answer() {
    let pair = Pair::start();
    let mut line = pair.welcome(2);
    let pause = Duration::from_millis(300);
    for round in 1..=2 {
        let number = line.ping();
        tokio::time::sleep(pause).await;
        line.say(&Frame::Pong { number });
        let expected = pause..pause + Duration::from_secs(2);
        let measured =
            |seen: &Seen| matches!(seen, Seen::RoundTrip(OTHER, taken) if expected.contains(taken));
        eventually("the round trip is measured", || async {
            (pair.seen.count(measured) == round).then_some(())
        })
        .await;
    }
    assert_eq!(pair.seen.count(|seen| *seen == Seen::Connected(OTHER)), 1);
    assert_eq!(pair.seen.count(|seen| *seen == Seen::Disconnected(OTHER)), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_welcome_in_a_version_that_was_not_offered_is_none() {
    let pair = Pair::start();
    for version in [OLDEST_VERSION - 1, VERSION + 1] {
        let mut line = pair.welcome_by_any(version);
        assert_eq!(line.hear(), None, "version {version}");
    }
    assert_eq!(pair.seen.count(|seen| *seen == Seen::Connected(OTHER)), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_no_ping_ends_the_stream() {
    let pair = Pair::start();
    let mut line = pair.welcome(2);
    let number = line.ping() + 1;
    line.say(&Frame::Pong { number });
    pair.seen.has(Seen::Disconnected(OTHER)).await;
    while line.hear().is_some() {}
}

/// A member of the version before knows no pings: one would end its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_first_version_is_sent_messages_and_no_pings() {
    let pair = Pair::start();
    let mut line = pair.welcome(1);
    let (begun, mut messages) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(5) || messages < 2 {
        match line.hear() {
            Some(Frame::Message(_)) => messages += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pair.seen.count(|seen| *seen == Seen::Disconnected(OTHER)), 0);
    assert_eq!(pair.seen.count(|seen| matches!(seen, Seen::RoundTrip(..))), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_in_a_version_that_has_them() {
    let pair = Pair::start();
    let mut line = pair.dial(2);
    for number in [7, u64::MAX] {
        line.say(&Frame::Ping { number });
        assert_eq!(line.hear(), Some(Frame::Pong { number }));
    }
    let mut old = pair.dial(1);
    old.say(&Frame::Ping { number: 7 });
    assert_eq!(old.hear(), None);
    pair.seen.has(Seen::NotReceived(OTHER)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_told() {
    let pair = Pair::start();
    // It wants a vote before there is a connection on which it could ask for one.
    pair.seen.has(Seen::NotSent(OTHER)).await;
    let line = pair.welcome(1);
    pair.seen.has(Seen::Connected(OTHER)).await;
    assert_eq!(pair.seen.count(|seen| *seen == Seen::Disconnected(OTHER)), 0);
    drop(line);
    pair.seen.has(Seen::Disconnected(OTHER)).await;
    assert!(pair.node.status().await.is_ok());
}

/// What the nodes of the cluster below have seen.
static SEEN: LazyLock<Mutex<BTreeMap<NodeId, Arc<Recorder>>>> = LazyLock::new(Mutex::default);

fn seen(node: u64) -> Arc<Recorder> {
    Arc::clone(SEEN.lock().unwrap().entry(NodeId(node)).or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_told_of_at_either_end() {
    let mut cluster = Cluster::start_with(3, |mut config| {
        config.snapshots.every_entries = 20;
        config.limits.retained_entries = 2;
        config.observer = Some(seen(config.node.0));
        config
    });
    let follower = cluster.follower().await;
    let missed = cluster.node(follower).status().await.unwrap().last.index;
    cluster.stop_node(follower).await;
    let leader = cluster.leader().await;
    let mut next = 0;
    while cluster.node(leader).status().await.unwrap().base.index <= missed {
        cluster.write(leader, next).await;
        next += 1;
    }
    cluster.start_node(follower);
    cluster.all_hold(&(0..next).collect::<Vec<_>>()).await;

    let (to, from) = (
        SnapshotWay::To(NodeId(follower)),
        SnapshotWay::From(NodeId(leader)),
    );
    for (node, way) in [(leader, to), (follower, from)] {
        let seen = seen(node);
        seen.has(Seen::SnapshotEnded(way, Delivery::Delivered)).await;
        let began = seen.count(|seen| *seen == Seen::SnapshotBegan(way));
        let ended = seen.count(|seen| matches!(seen, Seen::SnapshotEnded(ended, _) if *ended == way));
        assert_eq!(began, ended);
    }
}
