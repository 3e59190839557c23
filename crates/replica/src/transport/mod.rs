//! How nodes reach each other: framed TCP, all sockets on one thread.
//!
//! - Each node dials every peer and keeps one stream of messages to it, on which only the dialer speaks.
//!   A snapshot travels on a connection of its own, so that it never holds up a heartbeat.
//! - That the other end answers, and how fast, is measured by pings on the stream of messages.
//! - What is sent may be lost: a queue that is full, or has no connection, drops. Within a connection
//!   order is kept.
//! - A connection begins with a handshake. Whoever is of another cluster, means another node, or speaks
//!   no common version is refused with a sentence that says so.
//! - Whatever a peer sends, the worst that happens is that its connection is closed. Only if most of the other voters say
//!   that this node was removed does it end.
//!
//! - The members are those of the configuration in effect: they are dialed, and they may connect.
//!   Whoever is none is refused, except that it may ask who the members are, to become one.
//! - With TLS, both ends show certificates, and each is held to being who it says (see `security`).

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a frame that is not expected ends the connection, whichever it is"
)]

mod accept;
mod bulk;
mod complaints;
mod connection;
mod crowd;
mod dial;
mod inquiry;
mod lane;
mod lines;
mod ping;
mod quorum;
mod roster;
mod security;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_raft::{Configuration, Envelope, NodeId, SendSnapshot, SnapshotSent};
use tokio::sync::{mpsc, oneshot, watch};

use crate::codec::Incarnation;
use crate::codec::frame::Hello;
use crate::codec::{Refusal, StreamKind, frame};
use crate::config::{Config, Observer};
use crate::error::StartError;
use crate::storage::{Identity, KnownPeers, Snapshots, StorageError};
use bulk::Receiving;
use complaints::Complaints;
use crowd::Most;
pub use inquiry::{InquiryError, Introduced, inquire, inquire_securely};
pub(crate) use lane::weight;
use lines::Lanes;
use roster::{Contact, Roster};
use security::Security;

/// Where the transport delivers what it brings. No method may wait.
pub(crate) trait Deliver: Send + Sync + 'static {
    /// Messages came from a peer. Takes all of them out; says how many were too many, and are lost.
    fn receive(&self, envelopes: &mut Vec<Envelope>) -> usize;
    /// A transfer of a snapshot has ended.
    fn snapshot_sent(&self, sent: SnapshotSent);
    /// A peer's host refuses connections.
    fn peer_gone(&self, peer: NodeId);
    /// The node cannot go on.
    fn fail(&self, why: &dyn std::fmt::Display);
}

/// Where the loop puts what is to be sent, and says to whom.
pub(crate) struct Outbox {
    own: NodeId,
    lanes: Arc<Lanes>,
    snapshots: mpsc::UnboundedSender<SendSnapshot>,
    settings: BTreeMap<NodeId, Contact>,
    roster: watch::Sender<Arc<Roster>>,
}

impl Outbox {
    /// Sends a message, unless its peer is unknown, not connected, or far behind in taking them.
    pub(crate) fn send(&self, envelope: Envelope) {
        self.lanes.send(envelope);
    }

    /// Brings a snapshot to a peer.
    pub(crate) fn send_snapshot(&self, request: SendSnapshot) {
        // The transport ends only when the node does.
        let _ = self.snapshots.send(request);
    }

    /// These are the members from here on.
    pub(crate) fn configure(&self, members: Arc<Configuration>) {
        let roster = Roster::new(self.own, members, &self.settings);
        self.roster.send_replace(Arc::new(roster));
    }
}

/// What all connections of a node share.
struct Office {
    identity: Identity,
    /// Drawn by each start.
    life: u64,
    roster: watch::Receiver<Arc<Roster>>,
    complaints: Complaints,
    /// None if peers speak plain TCP.
    security: Option<Arc<Security>>,
    /// A peer that has acknowledged nothing for so long is taken to be gone.
    patience: Duration,
    snapshots: Snapshots,
    deliver: Arc<dyn Deliver>,
    observer: Option<Arc<dyn Observer>>,
    /// The snapshot being received, or half received when its connection broke.
    receiving: tokio::sync::Mutex<Option<Receiving>>,
    /// The directory that each peer was first seen to have.
    known: Mutex<KnownPeers>,
    /// The peers that say that this node is no member any more.
    removed_by: Mutex<BTreeSet<NodeId>>,
}

/// What a peer takes this node for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Membership {
    Member,
    /// It was a member, and is none any more.
    Removed,
}

impl Office {
    fn hello(&self, to: NodeId, stream: StreamKind) -> Hello {
        Hello {
            version: frame::VERSION,
            oldest_version: frame::OLDEST_VERSION,
            cluster: self.identity.cluster,
            from: self.identity.node,
            to,
            incarnation: self.identity.incarnation,
            stream,
        }
    }

    /// Tells the observer, if there is one.
    fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            tell(observer.as_ref());
        }
    }

    /// Passes on what a peer sent, and leaves `envelopes` empty.
    fn take_in(&self, from: NodeId, envelopes: &mut Vec<Envelope>) {
        let lost = self.deliver.receive(envelopes);
        if lost > 0 {
            self.observe(|observer| observer.not_received(from, lost));
        }
    }

    /// Who the members are at this moment.
    fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.borrow())
    }

    /// As [`Self::roster`], and tells of changes.
    fn rosters(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.clone()
    }

    /// A node as the log names it.
    fn describe(&self, node: NodeId) -> String {
        self.roster.borrow().describe(node)
    }

    /// Notes what a peer takes this node for; ends it once most of the other voters say that it was removed.
    fn note_membership(&self, peer: NodeId, membership: Membership) {
        let mut removed_by = self.removed_by.lock();
        match membership {
            Membership::Member => removed_by.remove(&peer),
            Membership::Removed => removed_by.insert(peer),
        };
        if membership == Membership::Removed && self.roster().was_removed(|node| removed_by.contains(&node)) {
            self.deliver.fail(&REMOVED);
        }
    }

    /// Whether `node` still has the directory it was first seen with.
    ///
    /// One with another has forgotten its votes and its log, and must not take part under its old name:
    /// the directories of members that have left are kept too, since an id is never used again.
    /// A first contact is written to the disk here, on the transport's thread: it happens once for each peer.
    fn recognize(&self, node: NodeId, incarnation: Incarnation) -> Result<(), Refusal> {
        let known = self.known.lock().first_seen(node, incarnation);
        let known = known.map_err(|error| {
            let reason = match error {
                StorageError::TooManyPeers { .. } => error.to_string(),
                error => {
                    self.deliver.fail(&error);
                    "this node's disk has failed".to_owned()
                }
            };
            Refusal::because(reason)
        })?;
        match known == incarnation {
            true => Ok(()),
            false => Err(lost_directory(node, known)),
        }
    }
}

const REMOVED: &str = "it was removed from the cluster, as most of the other voters say: remove its data directory; it can \
                       come back only as a new member, which is added first";

fn lost_directory(node: NodeId, known: Incarnation) -> Refusal {
    let node = node.0;
    Refusal::because(format!(
        "node {node:x} had data directory {known} and has another now: it has forgotten its votes; give it back its \
         directory, or replace the member by a new one"
    ))
}

/// The transport before its thread runs.
pub(crate) struct Transport {
    office: Arc<Office>,
    listener: TcpListener,
    address: SocketAddr,
    most: Most,
    lanes: Arc<Lanes>,
    snapshots: mpsc::UnboundedReceiver<SendSnapshot>,
    stop: oneshot::Receiver<()>,
    stopper: Option<Stopper>,
}

/// Ends a transport when it is dropped.
pub(crate) struct Stopper {
    _stop: oneshot::Sender<()>,
}

/// Where peers come in, and how they prove who they are.
pub(crate) struct Door {
    listener: TcpListener,
    security: Option<Arc<Security>>,
}

/// Listens for peers, before anything on the disk is touched: a port in use and certificates that cannot
/// be used are found out first.
pub(crate) fn listen(config: &Config) -> Result<Door, StartError> {
    let security = config.tls.as_ref().map(Security::open).transpose()?;
    let own = config.peers.get(&config.node);
    let address = config.listen.as_ref().or(own).cloned().unwrap_or_default();
    let listener = match &config.listener {
        Some(listener) => listener.try_clone(),
        None => TcpListener::bind(&address),
    };
    let listening = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    Ok(Door {
        listener: listening.map_err(|source| StartError::Listen { address, source })?,
        security: security.map(Arc::new),
    })
}

impl Transport {
    pub(crate) fn new(
        config: &Config,
        identity: Identity,
        life: u64,
        door: Door,
        storage: (Snapshots, KnownPeers),
        members: Arc<Configuration>,
        deliver: Arc<dyn Deliver>,
    ) -> Result<(Self, Outbox), StartError> {
        let Door { listener, security } = door;
        let address = listener.local_addr().map_err(StartError::System)?;
        let (snapshots, known) = storage;
        let lanes = Arc::new(Lanes::new(config.max_unsent_bytes, config.observer.clone()));
        let settings = roster::settings(config);
        let first = Roster::new(config.node, members, &settings);
        let (roster_sender, roster) = watch::channel(Arc::new(first));
        let (snapshot_sender, snapshot_receiver) = mpsc::unbounded_channel();
        let (stop_sender, stop) = oneshot::channel();
        let outbox = Outbox {
            own: config.node,
            lanes: Arc::clone(&lanes),
            snapshots: snapshot_sender,
            settings,
            roster: roster_sender,
        };
        let office = Office {
            identity,
            life,
            roster,
            complaints: Complaints::default(),
            security,
            patience: (config.tick * config.election_ticks * 2).max(LEAST_PATIENCE),
            snapshots,
            deliver,
            observer: config.observer.clone(),
            receiving: tokio::sync::Mutex::default(),
            known: Mutex::new(known),
            removed_by: Mutex::default(),
        };
        let transport = Self {
            office: Arc::new(office),
            listener,
            address,
            most: Most {
                per_address: config.max_peer_connections_per_address,
                pending: config.max_pending_peer_connections,
            },
            lanes,
            snapshots: snapshot_receiver,
            stop,
            stopper: Some(Stopper { _stop: stop_sender }),
        };
        Ok((transport, outbox))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// By which it is ended; there is one.
    pub(crate) fn stopper(&mut self) -> Option<Stopper> {
        self.stopper.take()
    }

    /// Runs until it is stopped.
    pub(crate) fn run(self) {
        let deliver = Arc::clone(&self.office.deliver);
        // Built here: a runtime must not be dropped by an async caller of a start that fails.
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return deliver.fail(&error),
        };
        if let Err(error) = runtime.block_on(self.serve()) {
            deliver.fail(&error);
        }
        // Writes of a snapshot's chunk that are under way are waited for.
        runtime.shutdown_timeout(LAST_WRITES);
    }

    async fn serve(mut self) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        tokio::spawn(accept::accept(Arc::clone(&self.office), listener, self.most));
        if let Some(security) = &self.office.security {
            tokio::spawn(security::keep_fresh(Arc::clone(security)));
        }
        tokio::spawn(quorum::watch(Arc::clone(&self.office), Arc::clone(&self.lanes)));
        tokio::spawn(lines::keep(Arc::clone(&self.office), self.lanes));
        let senders = async {
            while let Some(request) = self.snapshots.recv().await {
                tokio::spawn(bulk::send(Arc::clone(&self.office), request));
            }
        };
        tokio::select! {
            // That the stopper is gone is the signal.
            _ = self.stop => {}
            () = senders => {}
        }
        Ok(())
    }
}

const LEAST_PATIENCE: Duration = Duration::from_secs(1);
const LAST_WRITES: Duration = Duration::from_secs(10);
