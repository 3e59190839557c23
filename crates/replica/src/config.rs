//! How a node is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_raft::{
    Configuration, Delivery, DriftBound, Event, GroupId, Limits, MemberInfo, MemberKind, NodeId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apply::SnapshotPolicy;
use crate::codec::MemberContext;
use crate::codec::frame::{self, ClusterId};
use crate::error::StartError;
use crate::machine::{StateMachine, Typed};
use crate::replica::Replica;
use crate::sessions::{SessionLimits, Sessions};
use crate::tls::PeerTls;

/// How a node is set up. [`Config::new`] has a default for all but the members and the directory.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// This node. Never given to another node of the cluster, not even after this one is gone.
    pub node: NodeId,
    /// Keeps clusters apart: nodes of different clusters refuse each other.
    pub cluster: ClusterId,
    /// The address of every member for its peers, this node included, as `host:port`: those that a new
    /// group begins with, or whom a node that joins may turn to. Once the node knows its group, what the
    /// group says of its members counts.
    pub peers: BTreeMap<NodeId, String>,
    /// What members are called in the log, beside their ids; those without a name have only an id there.
    pub names: BTreeMap<NodeId, String>,
    /// Those of the members that are witnesses: they vote, and keep neither commands nor state. All
    /// members of a new group must be told the same.
    pub witnesses: BTreeSet<NodeId>,
    /// What a node with an empty directory is to be.
    pub start: Start,
    /// Where to listen for peers, as `host:port`; this node's own address in `peers` unless set.
    pub listen: Option<String>,
    /// A socket that listens already, used in place of `listen`.
    pub listener: Option<Arc<TcpListener>>,
    /// How connections between peers are secured; plain TCP unless set. Nodes of a `LocalNetwork` have none.
    pub tls: Option<PeerTls>,
    /// Where the node keeps its data. Made if it is not there. One process at a time uses it.
    pub data_dir: PathBuf,
    /// The unit of the two timeouts below.
    pub tick: Duration,
    /// A node campaigns when it has not heard of a leader for between this and 1.5 times this.
    pub election_ticks: u32,
    /// How often a leader is heard of.
    pub heartbeat_ticks: u32,
    /// Whether leaders hold leases, so that [`Consistency::Lease`](crate::Consistency::Lease) reads ask
    /// nobody, and by how much faster one node's clock may run than another's. None unless set. All members
    /// must say the same, with equal election timeouts: a leader counts on what they promise. A node that
    /// restarts then cannot vote for an election timeout, and a dead leader is replaced only after one.
    pub leases: Option<DriftBound>,
    /// What bounds the memory of the consensus core. A command must fit into a file of the log, and a
    /// message into a frame between peers; [`Config::start`] refuses larger limits.
    pub limits: Limits,
    /// When the state is written to a snapshot, so that the log before it can go.
    pub snapshots: SnapshotPolicy,
    /// How long a proposal or a read is tried before it fails.
    pub request_timeout: Duration,
    /// How many requests may wait for the loop, and as many messages of peers; more requests are refused
    /// as overload, and more messages dropped.
    pub max_waiting: usize,
    /// How many bytes of requests may wait for the loop, and as many of messages; as above.
    pub max_waiting_bytes: u64,
    /// How many bytes may wait for one peer; what is more is dropped, and sent again by the protocol.
    pub max_unsent_bytes: u64,
    /// How many connections of peers may come from one address, or one IPv6 network of 64 bits; more are
    /// closed. Each peer has one for messages, and one for each snapshot that it brings.
    pub max_peer_connections_per_address: usize,
    /// How many connections may not have said yet whose they are, a quarter of them of one address; more are
    /// closed.
    pub max_pending_peer_connections: usize,
    /// How large a file of the log is, in bytes: a multiple of 512 between 8 KiB and 1 GiB. It bounds
    /// the size of a command.
    pub segment_bytes: u64,
    /// Is told what the node does, for metrics. Events of the core are then its to log: a node without
    /// an observer logs them by itself.
    pub observer: Option<Arc<dyn Observer>>,
}

/// What a node with an empty directory is to be; one that has been here before goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// One of the first members of a new group: [`Config::peers`] has all of them.
    #[default]
    Found,
    /// A member that is being added to a group. It does nothing by itself until a leader tells it.
    Join,
}

/// Is told what a node does, from the threads that do it: its methods must not wait.
pub trait Observer: Send + Sync + 'static {
    /// Something happened in the consensus core.
    fn event(&self, _event: &Event) {}
    /// The log was made durable, which took so long.
    fn synced(&self, _duration: Duration) {}
    /// A snapshot was made durable, which took so long from its beginning.
    fn snapshot_saved(&self, _duration: Duration) {}
    /// Bytes were sent to a peer.
    fn sent(&self, _to: NodeId, _bytes: usize) {}
    /// Bytes were received from a peer.
    fn received(&self, _from: NodeId, _bytes: usize) {}
    /// The stream of messages to a peer stands.
    fn connected(&self, _to: NodeId) {}
    /// The stream of messages to a peer has ended; it stood until then.
    fn disconnected(&self, _to: NodeId) {}
    /// A peer answered a ping on that stream, which took so long. It is behind what was sent before, as a
    /// heartbeat would be.
    fn round_trip(&self, _to: NodeId, _duration: Duration) {}
    /// So many messages to a peer were not sent: there was no connection, too much waited for it already, or
    /// it broke before they were written.
    fn not_sent(&self, _to: NodeId, _messages: usize) {}
    /// So many messages that a peer sent were not taken: they could not be read, or too many waited already.
    fn not_received(&self, _from: NodeId, _messages: usize) {}
    /// A connection was closed as soon as it was there, since there were too many.
    fn turned_away(&self) {}
    /// A transfer of a snapshot has begun; [`Self::snapshot_ended`] tells how it ends.
    fn snapshot_began(&self, _way: SnapshotWay) {}
    /// A transfer of a snapshot has ended, so long after it began.
    fn snapshot_ended(&self, _way: SnapshotWay, _outcome: Delivery, _duration: Duration) {}
}

/// Which way a snapshot travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotWay {
    /// From this node to a peer. A transfer that is resumed after its connection broke is one.
    To(NodeId),
    /// From a peer to this node. A transfer that is resumed after its connection broke is another one.
    From(NodeId),
}

impl Config {
    /// The defaults for node `node`.
    #[must_use]
    pub fn new(node: u64) -> Self {
        Self {
            node: NodeId(node),
            cluster: ClusterId(1),
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            witnesses: BTreeSet::new(),
            start: Start::Found,
            listen: None,
            listener: None,
            tls: None,
            data_dir: PathBuf::new(),
            tick: Duration::from_millis(50),
            election_ticks: 10,
            heartbeat_ticks: 2,
            leases: None,
            limits: Limits::default(),
            snapshots: SnapshotPolicy::default(),
            request_timeout: Duration::from_secs(5),
            max_waiting: 65_536,
            max_waiting_bytes: 64 << 20,
            max_unsent_bytes: 64 << 20,
            max_peer_connections_per_address: 128,
            max_pending_peer_connections: 128,
            segment_bytes: 64 << 20,
            observer: None,
        }
    }

    /// Sets the members: each one's id and address (`host:port`), this node included.
    #[must_use]
    pub fn peers<A: Into<String>>(mut self, peers: impl IntoIterator<Item = (u64, A)>) -> Self {
        let peers = peers
            .into_iter()
            .map(|(node, address)| (NodeId(node), address.into()));
        self.peers = peers.collect();
        self
    }

    /// Sets where the node keeps its data.
    #[must_use]
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = directory.into();
        self
    }

    /// Sets how connections between peers are secured.
    #[must_use]
    pub fn tls(mut self, tls: PeerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the cluster's id.
    #[must_use]
    pub fn cluster(mut self, cluster: u64) -> Self {
        self.cluster = ClusterId(cluster);
        self
    }

    /// Has leaders hold leases; clocks may differ by `drift`.
    #[must_use]
    pub fn leases(mut self, drift: DriftBound) -> Self {
        self.leases = Some(drift);
        self
    }

    /// Starts a node whose state is `S`.
    ///
    /// # Errors
    /// When a setting is wrong, the directory cannot be used, or the address is taken.
    pub fn start<S: StateMachine>(self) -> Result<Replica<Typed<S>>, StartError> {
        Replica::start(self, Typed::default())
    }

    /// Starts a node whose state is `S` and whose clients may have sessions, in which a command that is
    /// repeated is applied once. All nodes of a cluster must be started this way, from the first time on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_sessions<S>(
        self,
        limits: SessionLimits,
    ) -> Result<Replica<Sessions<Typed<S>>>, StartError>
    where
        S: StateMachine<Response: Serialize + DeserializeOwned>,
    {
        Replica::start(self, Sessions::new(Typed::default(), limits))
    }

    /// Sets that the node joins a group that there is.
    #[must_use]
    pub fn join(mut self) -> Self {
        self.start = Start::Join;
        self
    }

    /// Whether this node keeps data.
    pub(crate) fn kind(&self) -> MemberKind {
        self.kind_of(self.node)
    }

    fn kind_of(&self, node: NodeId) -> MemberKind {
        match self.witnesses.contains(&node) {
            true => MemberKind::Witness,
            false => MemberKind::Full,
        }
    }

    /// The members that the group of a node with an empty directory has, as far as it knows.
    pub(crate) fn configuration(&self) -> Result<Configuration, StartError> {
        if self.start == Start::Join {
            return Ok(Configuration::unknown());
        }
        if !self.peers.contains_key(&self.node) {
            return Err(StartError::Config {
                setting: "peers",
                problem: format!("this node, {}, is not among them; add its own address", self.node),
            });
        }
        let info = self.peers.iter().map(|(node, address)| {
            let name = self.names.get(node).cloned().unwrap_or_default();
            let info = MemberInfo {
                kind: self.kind_of(*node),
                ..MemberContext::at(name, address).into_info()
            };
            (*node, info)
        });
        Configuration::new(self.peers.keys().copied(), [])
            .and_then(|members| members.with_info(info))
            .map_err(|error| StartError::Config {
                setting: "peers",
                problem: error.to_string(),
            })
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(StartError::Config {
                setting: "data_dir",
                problem: "it is not set; name a directory of this node's own".to_owned(),
            });
        }
        self.check_limits()
    }

    /// What must be true of a node that has no directory, too.
    pub(crate) fn check_limits(&self) -> Result<(), StartError> {
        for (setting, number) in [
            (
                "max_peer_connections_per_address",
                self.max_peer_connections_per_address,
            ),
            ("max_pending_peer_connections", self.max_pending_peer_connections),
        ] {
            if number == 0 {
                let problem = "it is 0: no peer could connect".to_owned();
                return Err(StartError::Config { setting, problem });
            }
        }
        if self.tick < MIN_TICK {
            return Err(StartError::Config {
                setting: "tick",
                problem: format!("{:?} is shorter than {MIN_TICK:?}", self.tick),
            });
        }
        let election_timeout = self.tick.checked_mul(self.election_ticks.max(1));
        if election_timeout.is_none_or(|timeout| timeout > LONGEST_TIMEOUT) {
            let (ticks, tick) = (self.election_ticks, self.tick);
            return Err(StartError::Config {
                setting: "election_ticks",
                problem: format!("{ticks} times a tick of {tick:?} is longer than {LONGEST_TIMEOUT:?}"),
            });
        }
        if self.request_timeout > LONGEST_TIMEOUT {
            return Err(StartError::Config {
                setting: "request_timeout",
                problem: format!("{:?} is longer than {LONGEST_TIMEOUT:?}", self.request_timeout),
            });
        }
        self.check_sizes()
    }

    /// What is accepted must fit into a file of the log and into a frame: a command that does not would
    /// stop every node, or never reach one.
    fn check_sizes(&self) -> Result<(), StartError> {
        let (command, message) = (self.limits.max_command_bytes, self.limits.max_message_bytes);
        let frame = frame::MAX_BODY_BYTES as u64;
        bounded(
            "limits.max_command_bytes",
            command,
            "a frame",
            frame - FRAME_OVERHEAD_BYTES,
        )?;
        bounded(
            "limits.max_message_bytes",
            message,
            "a frame",
            frame / FRAME_EXPANSION,
        )?;
        let room = self.segment_bytes.saturating_sub(SEGMENT_OVERHEAD_BYTES);
        let holder = "a file of segment_bytes";
        bounded("limits.max_command_bytes", command, holder, room)?;
        // A leader takes a command forwarded by a peer with other limits up to this size.
        bounded("limits.max_message_bytes", message, holder, room)
    }
}

fn bounded(setting: &'static str, bytes: u64, holder: &str, room: u64) -> Result<(), StartError> {
    if bytes <= room {
        return Ok(());
    }
    Err(StartError::Config {
        setting,
        problem: format!("{bytes} is more than the {room} bytes that {holder} has room for"),
    })
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("node", &self.node)
            .field("cluster", &self.cluster)
            .field("peers", &self.peers)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// The one group that a replica runs; frames and records have room for more.
pub const FIRST_GROUP: GroupId = GroupId(1);
/// 136 years: what can be added to any moment of a clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(u32::MAX as u64);
const MIN_TICK: Duration = Duration::from_millis(1);
/// What a frame holds beside the command in it, in bytes, and more.
const FRAME_OVERHEAD_BYTES: u64 = 4096;
/// How many times more room small entries take in a frame than they weigh, and more.
const FRAME_EXPANSION: u64 = 8;
/// What a file of the log holds beside its largest record's body, in bytes, and more.
const SEGMENT_OVERHEAD_BYTES: u64 = 5120;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> Option<&'static str> {
        let mut config = Config::new(1).peers([(1, "127.0.0.1:0")]).data_dir("unused");
        change(&mut config);
        match config.check() {
            Ok(()) => None,
            Err(StartError::Config { setting, .. }) => Some(setting),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn times_that_no_clock_can_show_are_refused_at_the_start() {
        let forever = |config: &mut Config| config.request_timeout = Duration::MAX;
        assert_eq!(refused(forever), Some("request_timeout"));
        assert_eq!(refused(|config| config.request_timeout = LONGEST_TIMEOUT), None);
        let slow = |config: &mut Config| config.tick = Duration::MAX / 2;
        assert_eq!(refused(slow), Some("election_ticks"));
    }

    #[test]
    fn what_would_fit_nowhere_is_refused_at_the_start() {
        assert_eq!(refused(|_| {}), None);
        let command = Some("limits.max_command_bytes");
        let message = Some("limits.max_message_bytes");
        assert_eq!(
            refused(|config| config.limits.max_command_bytes = 32 << 20),
            command
        );
        assert_eq!(
            refused(|config| config.limits.max_message_bytes = 32 << 20),
            message
        );
        assert_eq!(refused(|config| config.segment_bytes = 2 << 20), command);
        let small = |config: &mut Config| {
            config.segment_bytes = 1 << 20;
            config.limits.max_command_bytes = 1000;
        };
        assert_eq!(refused(small), message);
        assert_eq!(refused(|config| config.limits.max_command_bytes = 31 << 20), None);
    }
}
