//! Sessions of clients of real nodes: a counter that counts each command once, whoever is killed.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

mod common;

use common::{PATIENCE, eventually};
use quorate::sessions::{Command, Refusal, Reply, Seq, TimeToLive};
use quorate::{
    Config, NodeId, OpenError, Replica, RoleKind, SessionError, SessionLimits, Sessions, StateMachine, Typed,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;

    fn apply(&mut self, amount: u64) -> u64 {
        self.0 += amount;
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }
}

type Node = Replica<Sessions<Typed<Counter>>>;

struct Cluster {
    listeners: BTreeMap<u64, Arc<TcpListener>>,
    directory: tempfile::TempDir,
    limits: SessionLimits,
    nodes: BTreeMap<u64, Node>,
}

impl Cluster {
    fn start(size: u64, limits: SessionLimits) -> Self {
        let listener = |node| (node, Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()));
        let mut cluster = Self {
            listeners: (1..=size).map(listener).collect(),
            directory: tempfile::tempdir().unwrap(),
            limits,
            nodes: BTreeMap::new(),
        };
        (1..=size).for_each(|node| cluster.start_node(node));
        cluster
    }

    fn start_node(&mut self, node: u64) {
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let peers = self
            .listeners
            .iter()
            .map(|(node, listener)| (*node, address(listener)));
        let mut config = Config::new(node).peers(peers);
        config.data_dir = self.directory.path().join(node.to_string());
        config.listener = Some(Arc::clone(&self.listeners[&node]));
        config.request_timeout = PATIENCE;
        config.snapshots.every_entries = 50;
        config.limits.retained_entries = 2;
        let started = config.start_with_sessions::<Counter>(self.limits).unwrap();
        self.nodes.insert(node, started);
    }

    async fn leader(&self) -> u64 {
        eventually("a running node leads and all know it", || async {
            let leaders = self
                .nodes
                .values()
                .map(|node| node.watch_status().borrow().leader);
            let leaders: BTreeSet<Option<NodeId>> = leaders.collect();
            match leaders.into_iter().collect::<Vec<_>>()[..] {
                [Some(NodeId(leader))] if self.nodes.contains_key(&leader) => Some(leader),
                _ => None,
            }
        })
        .await
    }

    async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|node| **node != leader).unwrap()
    }

    async fn all_count(&self, expected: u64) {
        for (id, node) in &self.nodes {
            eventually(&format!("n{id} counts {expected}"), || async {
                (node.read_local(()).await.unwrap() == expected).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_is_exact_while_leaders_are_killed_between_and_during_proposals() {
    let mut cluster = Cluster::start(3, SessionLimits::default());
    let entry = cluster.follower().await;
    let session = cluster.nodes[&entry].open_session().await.unwrap();
    let mut expected = 0;
    for round in 0..4 {
        assert_eq!(
            session.propose(1).await,
            Ok(expected + 1),
            "one by one, each is the next"
        );
        expected += 1;
        let mut requests = JoinSet::new();
        for _ in 0..60 {
            let session = session.clone();
            requests.spawn(async move { session.propose(1).await });
        }
        // Some of them are answered, some are on their way.
        requests.join_next().await.unwrap().unwrap().unwrap();
        let leader = cluster.leader().await;
        match leader == entry {
            // The client's own node must stay: it loses its leadership only.
            true => {
                let other = NodeId(*cluster.nodes.keys().find(|node| **node != entry).unwrap());
                let _ = cluster.nodes[&entry].transfer_leadership(other).await;
            }
            false => {
                cluster.nodes.remove(&leader).unwrap().shutdown().await;
            }
        }
        let counts = requests.join_all().await;
        assert!(counts.iter().all(Result::is_ok), "round {round}: {counts:?}");
        expected += 60;
        assert_eq!(cluster.nodes[&entry].read(()).await.unwrap(), expected);
        if leader != entry {
            cluster.start_node(leader);
        }
    }
    cluster.all_count(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_repeated_after_a_snapshot_by_a_restarted_node_is_applied_once() {
    let mut cluster = Cluster::start(1, SessionLimits::default());
    let node = &cluster.nodes[&1];
    let Reply::Opened(session) = node
        .propose(Command::Open {
            ttl: TimeToLive::new(PATIENCE),
        })
        .await
        .unwrap()
    else {
        panic!("it is opened");
    };
    let request = Command::Apply {
        session,
        seq: Seq(1),
        acknowledged_below: Seq(1),
        command: 5,
    };
    assert_eq!(node.propose(request.clone()).await.unwrap(), Reply::Applied(5));
    for _ in 0..120 {
        node.propose(Command::Plain(1)).await.unwrap();
    }
    eventually("a snapshot is saved", || async {
        (node.status().await.unwrap().snapshot.index.0 > 50).then_some(())
    })
    .await;
    cluster.nodes.remove(&1).unwrap().shutdown().await;
    cluster.start_node(1);
    let node = &cluster.nodes[&1];
    assert_eq!(
        node.propose(request).await.unwrap(),
        Reply::Applied(5),
        "as it was said at first"
    );
    assert_eq!(node.read(()).await.unwrap(), 125);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lives_as_long_as_its_handle_and_no_longer() {
    let limits = SessionLimits {
        max_sessions: 1,
        ..SessionLimits::default()
    };
    let cluster = Cluster::start(3, limits);
    let node = &cluster.nodes[&cluster.follower().await];
    let ttl = TimeToLive::new(Duration::from_secs(2));
    // The leader's limits come to hold soon after it leads.
    let session = node.open_session_for(ttl).await.unwrap();
    eventually("the limit holds", || async {
        match node.open_session().await {
            Ok(_dropped) => None,
            Err(OpenError::Refused(Refusal::TooManySessions { max: 1 })) => Some(()),
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    // Far longer than it lives without a sign of life.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(session.propose(1).await, Ok(1));
    drop(session);
    let second = eventually("there is room for another", || async {
        node.open_session_for(ttl).await.ok()
    })
    .await;
    assert_eq!(second.propose(1).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_sign_of_life_expires_and_says_so() {
    let cluster = Cluster::start(3, SessionLimits::default());
    let node = &cluster.nodes[&cluster.follower().await];
    let ttl = TimeToLive::MIN;
    let Reply::Opened(session) = node.propose(Command::Open { ttl }).await.unwrap() else {
        panic!("it is opened");
    };
    let request = Command::Apply {
        session,
        seq: Seq(1),
        acknowledged_below: Seq(1),
        command: 1,
    };
    assert_eq!(node.propose(request.clone()).await.unwrap(), Reply::Applied(1));
    // Each question is a sign of life, so each waits longer for the end.
    let mut silence = Duration::from_secs(4);
    loop {
        tokio::time::sleep(silence).await;
        let reply = node.propose(request.clone()).await.unwrap();
        if reply == Reply::Refused(Refusal::UnknownSession(session)) {
            break;
        }
        assert_eq!(reply, Reply::Applied(1));
        silence *= 2;
        assert!(silence < PATIENCE, "it does not expire");
    }
    assert_eq!(node.read(()).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_refuses_its_client() {
    let cluster = Cluster::start(1, SessionLimits::default());
    let node = &cluster.nodes[&1];
    let session = node.open_session().await.unwrap();
    assert_eq!(
        node.propose(Command::Close {
            session: session.id()
        })
        .await
        .unwrap(),
        Reply::Done
    );
    let refused = session.propose(1).await;
    assert_eq!(
        refused,
        Err(SessionError::Refused(Refusal::UnknownSession(session.id())))
    );
    let stopped = node.shutdown().await;
    assert_eq!(session.propose(1).await, Err(SessionError::Stopped(stopped)));
    assert_eq!(
        node.open_session().await.map(|session| session.id()),
        Err(OpenError::Stopped(node.closed().await))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_log_does_not_grow() {
    let cluster = Cluster::start(1, SessionLimits::default());
    let node = &cluster.nodes[&1];
    eventually("it leads", || async {
        (node.status().await.unwrap().role == RoleKind::Leader).then_some(())
    })
    .await;
    let before = node.status().await.unwrap().last;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(node.status().await.unwrap().last, before);
    let _session = node.open_session().await.unwrap();
    eventually("time passes", || async {
        (node.status().await.unwrap().last.index.0 >= before.index.0 + 3).then_some(())
    })
    .await;
}
