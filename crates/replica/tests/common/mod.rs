//! Clusters of real nodes in one process: real TCP on loopback, real files in a temporary directory.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use quorate::{Config, ProposeError, Replica, StateMachine, Typed};
use serde::{Deserialize, Serialize};

/// Every value that was ever appended, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Journal {
    values: Vec<u64>,
}

impl StateMachine for Journal {
    type Command = u64;
    type Response = usize;
    type Query = ();
    type Answer = Vec<u64>;

    fn apply(&mut self, value: u64) -> usize {
        self.values.push(value);
        self.values.len()
    }

    fn query(&self, (): ()) -> Vec<u64> {
        self.values.clone()
    }
}

pub(crate) type Node = Replica<Typed<Journal>>;

/// The addresses and directories of a cluster, and the nodes that run.
pub(crate) struct Cluster {
    listeners: BTreeMap<u64, Arc<TcpListener>>,
    directory: tempfile::TempDir,
    /// How many nodes the cluster began with.
    first: u64,
    settings: fn(Config) -> Config,
    pub(crate) nodes: BTreeMap<u64, Node>,
}

impl Cluster {
    pub(crate) fn start(size: u64) -> Self {
        Self::start_with(size, |config| config)
    }

    /// A cluster whose nodes are set up as `settings` says.
    pub(crate) fn start_with(size: u64, settings: fn(Config) -> Config) -> Self {
        Self::start_of(size, size, settings)
    }

    /// The first `size` nodes of a cluster, with addresses for `room` of them.
    pub(crate) fn start_of(room: u64, size: u64, settings: fn(Config) -> Config) -> Self {
        // The sockets stay open while a node is down, so that nobody else is given its port.
        let listener = |node| (node, Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()));
        let mut cluster = Self {
            listeners: (1..=room).map(listener).collect(),
            first: size,
            directory: tempfile::tempdir().unwrap(),
            settings,
            nodes: BTreeMap::new(),
        };
        (1..=size).for_each(|node| cluster.start_node(node));
        cluster
    }

    pub(crate) fn address(&self, node: u64) -> String {
        self.address_of(node).unwrap()
    }

    /// Where a node is; none once it has gone for good.
    fn address_of(&self, node: u64) -> Option<String> {
        Some(self.listeners.get(&node)?.local_addr().unwrap().to_string())
    }

    pub(crate) fn data_dir(&self, node: u64) -> PathBuf {
        self.directory.path().join(node.to_string())
    }

    pub(crate) fn config(&self, node: u64) -> Config {
        let mut config = Config::new(node)
            .peers((1..=self.first).filter_map(|node| Some((node, self.address_of(node)?))))
            .data_dir(self.data_dir(node));
        config.listener = Some(Arc::clone(&self.listeners[&node]));
        config.request_timeout = PATIENCE;
        (self.settings)(config)
    }

    pub(crate) fn start_node(&mut self, node: u64) {
        let started = self.config(node).start::<Journal>().unwrap();
        self.nodes.insert(node, started);
    }

    pub(crate) async fn stop_node(&mut self, node: u64) {
        self.nodes.remove(&node).unwrap().shutdown().await;
    }

    /// Stops a node for good: where it listened, connections are refused.
    #[allow(dead_code, reason = "each test program uses its own part of this")]
    pub(crate) async fn end_node(&mut self, node: u64) {
        self.listeners.remove(&node);
        // As if its process were killed: it hands nothing over.
        let running = self.nodes.remove(&node).unwrap();
        let status = running.watch_status();
        drop(running);
        while status.has_changed().is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn node(&self, node: u64) -> &Node {
        &self.nodes[&node]
    }

    /// Appends `value` once, whatever becomes of the leader meanwhile.
    pub(crate) async fn write(&self, node: u64, value: u64) {
        let node = self.node(node);
        loop {
            match node.propose(value).await {
                Ok(_) => return,
                Err(ProposeError::Unknown) => {}
                Err(error) => panic!("{value} was not appended: {error}"),
            }
            // What was lost with its leader is not found by a later read; what was not lost is.
            if node.read(()).await.unwrap().contains(&value) {
                return;
            }
        }
    }

    /// The node that leads, as soon as all that run agree on one.
    pub(crate) async fn leader(&self) -> u64 {
        let agreed = || {
            let leaders: Vec<_> = self
                .nodes
                .values()
                .map(|node| node.watch_status().borrow().leader)
                .collect();
            let first = leaders.first().copied().flatten()?;
            let is_running = self.nodes.contains_key(&first.0);
            (is_running && leaders.iter().all(|leader| *leader == Some(first))).then_some(first.0)
        };
        eventually("all agree on a leader", || async { agreed() }).await
    }

    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|node| **node != leader).unwrap()
    }

    /// Waits until every node that runs holds exactly these values.
    pub(crate) async fn all_hold(&self, expected: &[u64]) {
        for (id, node) in &self.nodes {
            eventually(&format!("n{id} holds all values"), || async {
                (node.read_local(()).await.unwrap() == expected).then_some(())
            })
            .await;
        }
    }
}

/// Waits until `condition` gives something. How long that takes decides nothing.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What all nodes of this process have logged.
pub(crate) fn log_contains(words: &[&str]) -> bool {
    let log = LOG.0.lock().unwrap();
    let text = String::from_utf8_lossy(&log);
    text.lines()
        .any(|line| words.iter().all(|word| line.contains(word)))
}

/// Waits until a line with all these words is logged; [`LOG`] must have been begun.
pub(crate) async fn logged(words: &[&str]) {
    eventually(&format!("{words:?} is logged"), || async {
        log_contains(words).then_some(())
    })
    .await;
}

/// Takes down what is logged from when it is first used.
pub(crate) static LOG: LazyLock<Log> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| &*LOG);
    let _ = subscriber.try_init();
    Log(Mutex::default())
});

pub(crate) struct Log(Mutex<Vec<u8>>);

impl Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
