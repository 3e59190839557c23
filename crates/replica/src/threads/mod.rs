//! The threads of a running node, and the queues between them.
//!
//! | thread | owns | takes | gives |
//! |---|---|---|---|
//! | loop | the driver with the core | inbox: requests, messages, completions | work to all others |
//! | log | [`Storage`] | writes | `Persisted` |
//! | log reader | a reader of the log | requests of the core | `LogRead` |
//! | apply | [`Applier`] with the machine | tasks, local reads | answers, `Applied`, `Restored` |
//! | snapshots | the file being written | chunks | `SnapshotSaved` |
//! | transport | all sockets | messages | messages, `SnapshotSent`, `PeerGone` |
//!
//! - Only the inbox is ever waited for by the loop: it never waits for a disk, a socket or the machine.
//! - The first that fails seals the node's [`Fate`]; the loop then ends, fails all who wait, and ends the rest.
//! - A thread that panics ends the node the same way.

mod inbox;
mod loops;
mod ports;
mod requests;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_raft::{
    Configuration, Envelope, Leases, MemberKind, Node, NodeId, ReadLog, Session, SnapshotMeta, SnapshotSent,
    Status, Stored,
};
use quorate_wal::{DirLock, Disk, MemDisk, OsDisk};
use tokio::sync::watch;

pub(crate) use inbox::{Fate, Inbox};
pub(crate) use ports::ApplyWork;
pub(crate) use requests::{Asker, Operator};

use crate::apply::Applier;
use crate::codec::Incarnation;
use crate::config::{Config, FIRST_GROUP, Observer, Start};
use crate::driver::{Driver, DriverInput};
use crate::error::{StartError, Stopped};
use crate::local::{LocalCourier, LocalNetwork, LocalStopper, MemoryLog};
use crate::machine::Machine;
use crate::queue::{Bound, Queue};
use crate::storage::{self, Identity, KnownPeers, Opened, Options, Snapshots, Storage, StorageError};
use crate::transport::{self, Deliver, Door, Transport};
use loops::{ApplyLoop, LogLoop, MainLoop, ReadLoop, SnapshotLoop, Ticker, UpkeepTimer};
use ports::{Log, LogWork, Post, SnapshotWork, ThreadPorts};

/// What the handles of a running node share. Dropping it ends the node.
pub(crate) struct Running<M: Machine> {
    pub(crate) inbox: Arc<Inbox<M>>,
    pub(crate) apply: Arc<Queue<ApplyWork<M>>>,
    pub(crate) status: watch::Receiver<Arc<Status>>,
    pub(crate) fate: Arc<Fate<M>>,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) peer_address: Option<SocketAddr>,
    pub(crate) request_timeout: Duration,
    pub(crate) election_timeout: Duration,
    ended: watch::Receiver<bool>,
}

impl<M: Machine> Running<M> {
    pub(crate) fn stop(&self) {
        self.fate.seal(Stopped::Shutdown);
    }

    /// Waits until all threads have ended and the directory is free.
    pub(crate) async fn closed(&self) -> Stopped {
        let mut ended = self.ended.clone();
        // The sender goes with the loop's thread: that it is gone means the same.
        let _ = ended.wait_for(|ended| *ended).await;
        self.fate.reason().unwrap_or(Stopped::Shutdown)
    }
}

impl<M: Machine> Drop for Running<M> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a node keeps its data and meets its peers.
pub(crate) enum Place {
    /// In its directory and at its address.
    Directory,
    /// On this disk and at its address.
    Disk(Arc<dyn Disk>),
    /// In memory and in this network.
    Memory(LocalNetwork),
}

/// A place that is a node's from here on.
struct Site {
    disk: Arc<dyn Disk>,
    /// Keeps other processes out of the directory.
    lock: Option<DirLock>,
    meeting: Meeting,
}

/// Where a node meets its peers.
enum Meeting {
    Sockets(Door),
    Local(LocalNetwork),
}

impl Place {
    /// Takes the place. The address first: a port in use is found out before anything on the disk is touched.
    fn open(self, config: &Config) -> Result<Site, StartError> {
        let (disk, lock, meeting) = match self {
            Self::Directory => {
                let door = transport::listen(config)?;
                let (disk, lock) = open_directory(config)?;
                (disk, Some(lock), Meeting::Sockets(door))
            }
            Self::Disk(disk) => (disk, None, Meeting::Sockets(transport::listen(config)?)),
            Self::Memory(network) => {
                let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
                (disk, None, Meeting::Local(network))
            }
        };
        Ok(Site { disk, lock, meeting })
    }
}

/// Opens and locks the data directory.
fn open_directory(config: &Config) -> Result<(Arc<dyn Disk>, DirLock), StartError> {
    // Before the lock's file is made: what is not a node's stays as it is.
    storage::examine(&config.data_dir)?;
    let disk = OsDisk::open(&config.data_dir).map_err(|source| StorageError::Io {
        path: config.data_dir.display().to_string(),
        source,
    })?;
    let lock = DirLock::acquire(&config.data_dir).map_err(StorageError::from)?;
    Ok((Arc::new(disk), lock))
}

/// Starts a node. Its directory is opened once its address is known to be free, and stays locked
/// until the node has ended.
pub(crate) fn start<M: Machine>(config: Config, machine: M, place: Place) -> Result<Running<M>, StartError> {
    let configuration = first_members(&config)?;
    // Wrong settings are found out before anything is touched.
    let alone = Stored::new(configuration.clone());
    Node::new(core_config(&config, config.kind())?, alone)?;
    let Site { disk, lock, meeting } = place.open(&config)?;
    let (storage, opened) = open_storage(&config, configuration, Arc::clone(&disk))?;
    let (identity, stored) = (opened.identity, opened.stored);
    let kind = kind_of(&config, &stored);
    let applier = restore(&config, kind, machine, storage.snapshots(), &stored.snapshot)?;
    let node = Node::new(core_config(&config, kind)?, stored)?;
    let members = node.status().configuration;
    note_members(&config, &members);

    let inbox = Arc::new(Inbox::new(Bound {
        items: config.max_waiting,
        bytes: config.max_waiting_bytes,
    }));
    let directory = config.data_dir.display().to_string();
    let fate = Arc::new(Fate::new(Arc::clone(&inbox), directory));
    let mailroom = Mailroom {
        inbox: Arc::clone(&inbox),
        fate: Arc::clone(&fate),
    };
    let own = Own {
        identity,
        members,
        snapshots: storage.snapshots(),
        disk,
    };
    let connection = match meeting {
        Meeting::Sockets(door) => Connection::by_sockets(&config, own, door, mailroom)?,
        Meeting::Local(network) => Connection::local(&network, config.node, own.snapshots, mailroom),
    };
    let peer_address = connection.address;
    let mut workers = Workers::new(lock);
    let apply = Arc::clone(&workers.queues.apply);
    let ports = workers
        .queues
        .ports(connection.post, config.observer.clone(), &fate);
    let driver = Driver::new(node, ports);
    let (status_sender, status) = watch::channel(Arc::new(driver.status()));
    let (ended_sender, ended) = watch::channel(false);

    let running = Running {
        inbox: Arc::clone(&inbox),
        apply,
        status,
        fate: Arc::clone(&fate),
        node: config.node,
        incarnation: identity.incarnation,
        peer_address,
        request_timeout: config.request_timeout,
        election_timeout: config.tick * config.election_ticks,
        ended,
    };
    workers.start(&config, storage, applier, connection.carrier, &inbox, &fate)?;
    let main = MainLoop {
        driver,
        inbox,
        status: status_sender,
        upkeep: UpkeepTimer::new(M::UPKEEP_EVERY),
        apply: Arc::clone(&workers.queues.apply),
        ticker: Ticker::new(config.tick, Instant::now()),
        leases_since: config.leases.map(|_| Instant::now()),
    };
    let life = Life {
        main,
        workers,
        fate,
        ended: ended_sender,
    };
    spawn(&config, "loop", move || life.run())?;
    Ok(running)
}

/// The apply side as it is when the node begins.
fn restore<M: Machine>(
    config: &Config,
    kind: MemberKind,
    machine: M,
    snapshots: Snapshots,
    newest: &SnapshotMeta,
) -> Result<Applier<M, Asker<M>>, StartError> {
    let keep = match kind {
        MemberKind::Full => Applier::new,
        MemberKind::Witness => Applier::new_witness,
    };
    keep(machine, snapshots, newest, config.snapshots).map_err(|source| StartError::State {
        directory: config.data_dir.clone(),
        source,
    })
}

/// The two ends of what connects a node to its peers.
struct Connection {
    post: Post,
    carrier: Carrier,
    /// Where it listens, if it does.
    address: Option<SocketAddr>,
}

/// What brings messages, or snapshots, on a thread of its own.
enum Carrier {
    Sockets(Box<Transport>),
    Local(LocalCourier, LocalStopper),
}

/// Ends a carrier when it is dropped.
enum Stopper {
    Sockets { _stopper: Option<transport::Stopper> },
    Local { _stopper: LocalStopper },
}

/// What a node brings to its first meeting with its peers.
struct Own {
    identity: Identity,
    members: Arc<Configuration>,
    snapshots: Snapshots,
    disk: Arc<dyn Disk>,
}

impl Connection {
    fn by_sockets<M: Machine>(
        config: &Config,
        own: Own,
        door: Door,
        mailroom: Mailroom<M>,
    ) -> Result<Self, StartError> {
        let directory = config.data_dir.display().to_string();
        let known = KnownPeers::open(own.disk, &directory).map_err(|error| error.within(&directory))?;
        let storage = (own.snapshots, known);
        let (transport, outbox) = Transport::new(
            config,
            own.identity,
            random()?,
            door,
            storage,
            own.members,
            Arc::new(mailroom),
        )?;
        Ok(Self {
            post: Post::Sockets(outbox),
            address: Some(transport.address()),
            carrier: Carrier::Sockets(Box::new(transport)),
        })
    }

    fn local<M: Machine>(
        network: &LocalNetwork,
        node: NodeId,
        snapshots: Snapshots,
        mailroom: Mailroom<M>,
    ) -> Self {
        let (outbox, courier, stopper) = network.join(node, Arc::new(mailroom), snapshots);
        Self {
            post: Post::Local(outbox),
            carrier: Carrier::Local(courier, stopper),
            address: None,
        }
    }
}

/// A node from its first input to its last thread's end.
struct Life<M: Machine> {
    main: MainLoop<M>,
    workers: Workers<M>,
    fate: Arc<Fate<M>>,
    ended: watch::Sender<bool>,
}

impl<M: Machine> Life<M> {
    fn run(mut self) {
        // What the loop owns is only dropped after a panic, never used.
        let body = std::panic::AssertUnwindSafe(|| self.main.run());
        if std::panic::catch_unwind(body).is_err() {
            self.fate
                .fail(&"its loop panicked, which is a bug; the log says where");
        }
        self.main.inbox.abandon();
        self.workers.end();
        self.ended.send_replace(true);
    }
}

/// Seals the node's fate if the thread that holds it panics.
struct Sentinel<M: Machine> {
    thread: &'static str,
    fate: Arc<Fate<M>>,
}

impl<M: Machine> Drop for Sentinel<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = self.thread;
            self.fate.fail(&format!(
                "its {thread} thread panicked, which is a bug; the log says where"
            ));
        }
    }
}

/// The queues that the loop pushes to, and those between the others.
struct Queues<M: Machine> {
    log: Arc<Queue<LogWork>>,
    apply: Arc<Queue<ApplyWork<M>>>,
    reads: Arc<Queue<ReadLog>>,
    snapshots: Arc<Queue<SnapshotWork>>,
}

impl<M: Machine> Queues<M> {
    fn ports(&self, post: Post, observer: Option<Arc<dyn Observer>>, fate: &Arc<Fate<M>>) -> ThreadPorts<M> {
        let log = match &post {
            Post::Sockets(_) => Log::Disk {
                writes: Arc::clone(&self.log),
                reads: Arc::clone(&self.reads),
            },
            Post::Local(_) => Log::Memory(MemoryLog::default()),
        };
        ThreadPorts {
            post,
            log,
            done: Vec::new(),
            apply: Arc::clone(&self.apply),
            observer,
            fate: Arc::clone(fate),
            role_changed: false,
        }
    }
}

/// All threads of a node but its loop, and what must outlive them.
struct Workers<M: Machine> {
    queues: Queues<M>,
    carrier: Option<Stopper>,
    threads: Vec<JoinHandle<()>>,
    lock: Option<DirLock>,
}

impl<M: Machine> Workers<M> {
    fn new(lock: Option<DirLock>) -> Self {
        Self {
            queues: Queues {
                log: Arc::new(Queue::new()),
                apply: Arc::new(Queue::new()),
                reads: Arc::new(Queue::new()),
                snapshots: Arc::new(Queue::new()),
            },
            carrier: None,
            threads: Vec::new(),
            lock,
        }
    }

    fn start(
        &mut self,
        config: &Config,
        storage: Storage,
        applier: Applier<M, Asker<M>>,
        carrier: Carrier,
        inbox: &Arc<Inbox<M>>,
        fate: &Arc<Fate<M>>,
    ) -> Result<(), StartError> {
        let snapshots = storage.snapshots();
        let mut reads = ReadLoop {
            reader: storage.reader(),
            work: Arc::clone(&self.queues.reads),
            inbox: Arc::clone(inbox),
            fate: Arc::clone(fate),
        };
        let mut log = LogLoop {
            storage,
            work: Arc::clone(&self.queues.log),
            inbox: Arc::clone(inbox),
            fate: Arc::clone(fate),
            observer: config.observer.clone(),
        };
        let mut apply = ApplyLoop {
            applier,
            work: Arc::clone(&self.queues.apply),
            inbox: Arc::clone(inbox),
            writer: Arc::clone(&self.queues.snapshots),
            snapshots: snapshots.clone(),
            fate: Arc::clone(fate),
            unreported: 0,
        };
        let mut writer = SnapshotLoop {
            snapshots,
            work: Arc::clone(&self.queues.snapshots),
            apply: Arc::clone(&self.queues.apply),
            inbox: Arc::clone(inbox),
            fate: Arc::clone(fate),
            observer: config.observer.clone(),
            writing: None,
        };
        self.watched(config, "apply", fate, move || apply.run())?;
        self.watched(config, "snapshot", fate, move || writer.run())?;
        match carrier {
            Carrier::Sockets(mut transport) => {
                let _stopper = transport.stopper();
                self.carrier = Some(Stopper::Sockets { _stopper });
                self.watched(config, "log", fate, move || log.run())?;
                self.watched(config, "read", fate, move || reads.run())?;
                self.watched(config, "peers", fate, move || transport.run())
            }
            // Its log is in memory and needs no threads.
            Carrier::Local(courier, _stopper) => {
                self.carrier = Some(Stopper::Local { _stopper });
                self.watched(config, "peers", fate, move || courier.run())
            }
        }
    }

    fn watched(
        &mut self,
        config: &Config,
        thread: &'static str,
        fate: &Arc<Fate<M>>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let fate = Arc::clone(fate);
        let handle = spawn(config, thread, move || {
            let _sentinel = Sentinel { thread, fate };
            body();
        })?;
        self.threads.push(handle);
        Ok(())
    }

    /// Ends all threads: what was handed to them before is done first.
    fn end(&mut self) {
        self.carrier = None;
        self.queues.log.close();
        self.queues.reads.abandon();
        self.queues.apply.close();
        self.queues.snapshots.abandon();
        for thread in self.threads.drain(..) {
            // A panic has sealed the node's fate already.
            let _ = thread.join();
        }
        // Tasks that came to the apply thread's queue after it had failed.
        self.queues.apply.abandon();
        self.lock = None;
    }
}

impl<M: Machine> Drop for Workers<M> {
    /// A start that failed half-way ends what it has started.
    fn drop(&mut self) {
        self.end();
    }
}

/// Where the transport delivers.
struct Mailroom<M: Machine> {
    inbox: Arc<Inbox<M>>,
    fate: Arc<Fate<M>>,
}

impl<M: Machine> Deliver for Mailroom<M> {
    fn receive(&self, envelopes: &mut Vec<Envelope>) -> usize {
        self.inbox.receive(envelopes.drain(..))
    }

    fn snapshot_sent(&self, sent: SnapshotSent) {
        self.inbox.complete(DriverInput::SnapshotSent(sent));
    }

    fn peer_gone(&self, peer: NodeId) {
        self.inbox.complete(DriverInput::PeerGone(peer));
    }

    fn fail(&self, why: &dyn std::fmt::Display) {
        self.fate.fail(why);
    }
}

/// Sets up the data directory of a node whose group begins with a state.
pub(crate) fn found(
    config: &Config,
    files: &[(&str, &[u8])],
    state: &mut dyn Iterator<Item = io::Result<Bytes>>,
) -> Result<(), StartError> {
    config.check()?;
    let configuration = config.configuration()?;
    let (disk, _lock) = open_directory(config)?;
    let options = storage_options(config, configuration)?;
    let directory = options.directory.clone();
    let none = &mut std::iter::empty();
    let state = match config.kind() {
        MemberKind::Full => state,
        MemberKind::Witness => none,
    };
    let founded = storage::found(&disk, options, files, state);
    Ok(founded.map_err(|error| error.within(&directory))?)
}

fn open_storage(
    config: &Config,
    configuration: Configuration,
    disk: Arc<dyn Disk>,
) -> Result<(Storage, Opened), StartError> {
    let options = storage_options(config, configuration)?;
    let directory = options.directory.clone();
    let opened = Storage::open(disk, options);
    let (storage, opened) = opened.map_err(|error| error.within(&directory))?;
    if let Some(cut) = &opened.cut {
        tracing::warn!(
            ?cut,
            "the unfinished tail that a crash left in the log was cut off"
        );
    }
    Ok((storage, opened))
}

fn storage_options(config: &Config, configuration: Configuration) -> Result<Options, StartError> {
    let incarnation = Incarnation(u128::from(random()?) << 64 | u128::from(random()?));
    Ok(Options {
        directory: config.data_dir.display().to_string(),
        identity: Identity {
            cluster: config.cluster,
            node: config.node,
            incarnation,
        },
        group: FIRST_GROUP,
        configuration,
        wal: quorate_wal::Options {
            segment_bytes: config.segment_bytes,
            ..quorate_wal::Options::new(incarnation.0)
        },
    })
}

/// What the log says of the members counts. Settings that say something else are old, or wrong.
fn note_members(config: &Config, members: &Configuration) {
    let named: BTreeSet<NodeId> = config.peers.keys().copied().collect();
    let is_told = config.start == Start::Found && !members.is_unknown();
    if is_told && named != members.members() {
        let ids = |nodes: BTreeSet<NodeId>| {
            let ids: Vec<String> = nodes.iter().map(|node| format!("{:x}", node.0)).collect();
            ids.join(", ")
        };
        let (settings, log) = (ids(named), ids(members.members()));
        tracing::info!(%settings, %log, "the members are those of the log, which the settings do not name");
    }
}

/// Those that the settings name. A directory that is in use knows better, and needs none.
fn first_members(config: &Config) -> Result<Configuration, StartError> {
    match config.configuration() {
        Err(_) if storage::is_used(&config.data_dir) => Ok(Configuration::unknown()),
        outcome => outcome,
    }
}

/// What the log says of this node counts; the settings do while it says nothing.
fn kind_of(config: &Config, stored: &Stored) -> MemberKind {
    let newest = stored.configurations.last().map(|(_, members)| members);
    let members = newest.unwrap_or(&stored.snapshot.configuration);
    match members.is_member(config.node) {
        true => members.kind(config.node),
        false => config.kind(),
    }
}

fn core_config(config: &Config, kind: MemberKind) -> Result<quorate_raft::Config, StartError> {
    Ok(quorate_raft::Config {
        id: config.node,
        group: FIRST_GROUP,
        kind,
        session: Session(random()?),
        seed: random()?,
        election_ticks: config.election_ticks,
        heartbeat_ticks: config.heartbeat_ticks,
        leases: config.leases.map(|drift| Leases {
            promise: config.tick * config.election_ticks,
            drift,
        }),
        limits: config.limits.clone(),
    })
}

fn spawn(
    config: &Config,
    thread: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let name = format!("{}-{thread}", config.node);
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(StartError::System)
}

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(|error| StartError::System(io::Error::other(error)))
}
