//! What every service works with: proposals and reads through the replica, and the header of answers.
//!
//! - A proposal that was rejected is tried again until its deadline, by the replica; one whose outcome
//!   is unknown never is.
//! - A header has the revision at which its request was served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::{
    Delivery, Event, MemberKind, NodeId, Observer, PeerTls, Replica, RoleKind, SnapshotWay,
    Status as RaftStatus,
};
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::ResponseHeader;
use quorate_kv::{Caller, Command, Proposal, Response, Revision};
use tokio::sync::watch;
use tonic::Status;

use crate::auth::{Attempts, Passwords, Tokens};
use crate::config::{Identity, ServerConfig};
use crate::machine::{Answer, KvMachine, Outcome, Query, Shared};
use crate::metrics::Metrics;
use crate::{security, translate};

/// A member: its replica and what is known beside it.
pub(crate) struct Node {
    config: ServerConfig,
    identity: Identity,
    peer_tls: Option<PeerTls>,
    limits: quorate_kv::Limits,
    replica: Replica<KvMachine>,
    raft: watch::Receiver<Arc<RaftStatus>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    tokens: Tokens,
    passwords: Passwords,
    attempts: Attempts,
    /// Whether whoever shows no token is the user that its certificate names.
    names_are_users: bool,
    /// Whether this member has been told what is current since it started.
    ready: watch::Receiver<bool>,
    /// Whether there has been no leader for so long that streams which require one end.
    leaderless: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
}

/// What a [`Node`] is made of.
pub(crate) struct Parts {
    pub(crate) config: ServerConfig,
    pub(crate) identity: Identity,
    pub(crate) peer_tls: Option<PeerTls>,
    pub(crate) replica: Replica<KvMachine>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tokens: Tokens,
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) leaderless: watch::Receiver<bool>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Node {
    /// The member made of these parts.
    pub(crate) fn new(parts: Parts) -> Node {
        Node {
            limits: quorate_kv::Limits {
                max_txn_ops: parts.config.limits.max_txn_ops,
            },
            raft: parts.replica.watch_status(),
            passwords: Passwords::new(
                parts.config.auth.bcrypt_cost,
                parts.config.auth.min_password_bytes,
            ),
            attempts: Attempts::new(parts.config.auth.max_failed_logins),
            names_are_users: security::names_are_users(&parts.config),
            tokens: parts.tokens,
            ready: parts.ready,
            config: parts.config,
            identity: parts.identity,
            peer_tls: parts.peer_tls,
            replica: parts.replica,
            shared: parts.shared,
            metrics: parts.metrics,
            leaderless: parts.leaderless,
            stop: parts.stop,
        }
    }

    /// Has a command applied on a majority, if its caller may; gives back the header and what applying it gave
    /// back.
    pub(crate) async fn propose(
        &self,
        caller: Caller,
        command: Command,
    ) -> Result<(ResponseHeader, Response), Status> {
        command
            .check(&self.limits)
            .map_err(|error| translate::refused(&error))?;
        let bytes = Proposal { caller, command }.encode();
        if bytes.len() > self.config.limits.max_request_bytes {
            return Err(EtcdError::RequestTooLarge.into());
        }
        let pending = Pending::begin(&self.metrics);
        let outcome = self.replica.propose(bytes).await;
        if outcome.is_ok() {
            pending.succeeded();
        }
        let Outcome { revision, result } = outcome.map_err(|error| translate::propose_failed(&error))?;
        let response = result.map_err(|error| translate::refused(&error))?;
        Ok((self.header(revision), response))
    }

    /// Asks the state as it is now or later: it has everything acknowledged before this call.
    pub(crate) async fn read(&self, query: Query) -> Result<Answer, Status> {
        let begun = Instant::now();
        let answer = self.replica.read(query).await;
        if begun.elapsed() > SLOW_READ {
            self.metrics.slow_read_indexes.inc();
        }
        answer.map_err(|error| {
            self.metrics.read_indexes_failed.inc();
            translate::read_failed(&error)
        })
    }

    /// Asks this member's own state, however old.
    pub(crate) async fn read_local(&self, query: Query) -> Result<Answer, Status> {
        let answer = self.replica.read_local(query).await;
        answer.map_err(|_stopped| EtcdError::Stopped.into())
    }

    /// The header of an answer at this revision.
    pub(crate) fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision: revision.0,
            raft_term: self.raft.borrow().term.0,
        }
    }

    /// The header of an answer that is about nothing in the keyspace, at the revision applied here.
    pub(crate) fn header_now(&self) -> ResponseHeader {
        self.header(self.shared.revision())
    }

    /// The header of an answer about members, which has no revision.
    pub(crate) fn header_of_members(&self) -> ResponseHeader {
        self.header(Revision(0))
    }

    /// Waits until a majority has confirmed that this member can serve what is current.
    pub(crate) async fn confirm_current(&self) -> Result<(), Status> {
        self.read(Query::Nothing).await.map(drop)
    }

    /// Whether this member has been told what is current since it started: what it knows of users is no older
    /// than its start.
    pub(crate) fn is_current(&self) -> bool {
        *self.ready.borrow()
    }

    /// How tokens are made and read.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whether whoever shows no token is the user that its certificate names.
    pub(crate) fn names_are_users(&self) -> bool {
        self.names_are_users
    }

    /// The logins that were tried here.
    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// How passwords are hashed and checked.
    pub(crate) fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The consensus core's state as of the last tick, or the last change of leader.
    pub(crate) fn raft(&self) -> Arc<RaftStatus> {
        Arc::clone(&self.raft.borrow())
    }

    /// As [`Self::raft`], and tells of changes.
    pub(crate) fn watch_raft(&self) -> watch::Receiver<Arc<RaftStatus>> {
        self.raft.clone()
    }

    /// Whether a leader is known.
    pub(crate) fn has_leader(&self) -> bool {
        self.raft.borrow().leader.is_some()
    }

    /// Whether this member leads.
    pub(crate) fn is_leader(&self) -> bool {
        self.raft.borrow().role == RoleKind::Leader
    }

    /// Whether this member votes only, and keeps no data.
    pub(crate) fn is_witness(&self) -> bool {
        let raft = self.raft.borrow();
        raft.configuration.kind(raft.id) == MemberKind::Witness
    }

    /// Whether this member is to vote one day, and does not yet.
    pub(crate) fn is_learner(&self) -> bool {
        let raft = self.raft.borrow();
        raft.configuration.is_member(raft.id) && !raft.configuration.is_voter(raft.id)
    }

    /// How the member was told to be.
    pub(crate) fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Who the member and its peers are.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How this member speaks to its peers, if not in plain TCP.
    pub(crate) fn peer_tls(&self) -> Option<&PeerTls> {
        self.peer_tls.as_ref()
    }

    /// Bounds on transactions.
    pub(crate) fn limits(&self) -> &quorate_kv::Limits {
        &self.limits
    }

    /// The replica.
    pub(crate) fn replica(&self) -> &Replica<KvMachine> {
        &self.replica
    }

    /// What is shared with the apply thread.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Turns true when there has been no leader for long, and false when there is one.
    pub(crate) fn leaderless(&self) -> watch::Receiver<bool> {
        self.leaderless.clone()
    }

    /// Turns true when the server is to stop.
    pub(crate) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }
}

/// A proposal on its way, for the count of them. It has failed unless it succeeded: also if its client waited no longer.
struct Pending<'a> {
    metrics: &'a Metrics,
    has_succeeded: bool,
}

impl Pending<'_> {
    fn begin(metrics: &Metrics) -> Pending<'_> {
        metrics.proposals_pending.inc();
        Pending {
            metrics,
            has_succeeded: false,
        }
    }

    fn succeeded(mut self) {
        self.has_succeeded = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.metrics.proposals_pending.dec();
        if !self.has_succeeded {
            self.metrics.proposals_failed.inc();
        }
    }
}

/// Measures and logs what the replica's threads do.
pub(crate) struct ReplicaObserver {
    metrics: Arc<Metrics>,
    /// How the core writes each member, and how people know it.
    names: Vec<(String, String)>,
    name: String,
    id: NodeId,
}

impl ReplicaObserver {
    /// The observer of this member.
    pub(crate) fn new(name: &str, identity: &Identity, metrics: &Arc<Metrics>) -> ReplicaObserver {
        let members = identity.members.iter();
        let names =
            members.map(|(id, member)| (NodeId(*id).to_string(), format!("{} ({id:x})", member.name)));
        ReplicaObserver {
            metrics: Arc::clone(metrics),
            names: names.collect(),
            name: name.to_owned(),
            id: NodeId(identity.member_id),
        }
    }

    /// The event in the words of the core, with members by their names and the ids that clients show.
    fn tell(&self, event: &Event) -> String {
        let text = event.to_string();
        let named = |text: String, (id, name): &(String, String)| text.replace(id, name);
        self.names.iter().fold(text, named)
    }
}

impl Observer for ReplicaObserver {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Committed { .. }) {
            return;
        }
        let (name, event_text) = (&self.name, self.tell(event));
        if matches!(event, Event::SecondLeader { .. }) {
            tracing::error!(%name, "this member {event_text}");
        } else if matches!(event, Event::Ignored { .. }) {
            tracing::warn!(%name, "this member {event_text}");
        } else {
            tracing::info!(%name, "this member {event_text}");
        }
    }

    fn synced(&self, duration: Duration) {
        self.metrics.wal_fsync.observe(duration.as_secs_f64());
    }

    fn snapshot_saved(&self, duration: Duration) {
        self.metrics.snapshot_save.observe(duration.as_secs_f64());
    }

    fn sent(&self, to: NodeId, bytes: usize) {
        self.metrics.peers.count_sent(to, bytes);
    }

    fn received(&self, from: NodeId, bytes: usize) {
        self.metrics.peers.count_received(from, bytes);
    }

    fn connected(&self, to: NodeId) {
        self.metrics.peers.connect(to);
    }

    fn disconnected(&self, to: NodeId) {
        self.metrics.peers.disconnect(self.id, to);
    }

    fn round_trip(&self, to: NodeId, duration: Duration) {
        self.metrics.peers.observe_round_trip(to, duration);
    }

    fn not_sent(&self, to: NodeId, messages: usize) {
        self.metrics.peers.count_not_sent(to, messages);
    }

    fn not_received(&self, from: NodeId, messages: usize) {
        self.metrics.peers.count_not_received(from, messages);
    }

    fn turned_away(&self) {
        self.metrics.peers.count_turned_away();
    }

    fn snapshot_began(&self, way: SnapshotWay) {
        self.metrics.peers.begin_snapshot(way);
    }

    fn snapshot_ended(&self, way: SnapshotWay, outcome: Delivery, duration: Duration) {
        self.metrics.peers.end_snapshot(way, outcome, duration);
    }
}

/// etcd asks again for a read index after so long, and counts that.
const SLOW_READ: Duration = Duration::from_millis(500);

/// Takes the answer that belongs to the query.
macro_rules! answer {
    ($answer:expr, $variant:ident) => {
        match $answer {
            crate::machine::Answer::$variant(answer) => answer,
            _ => unreachable!("the machine answers each query by the variant of its name"),
        }
    };
}
pub(crate) use answer;

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use quorate::Term;

    use super::*;

    #[test]
    fn members_are_logged_by_name_and_hexadecimal_id() {
        let identity = ServerConfig::new("m1", "nowhere").check().unwrap();
        let metrics = Arc::new(Metrics::new(Registry::default()));
        let observer = ReplicaObserver::new("m1", &identity, &metrics);
        let leader = NodeId(identity.member_id);
        let event = Event::BecameFollower {
            term: Term(3),
            leader: Some(leader),
        };
        let text = observer.tell(&event);
        assert!(text.contains(&format!("m1 ({:x})", leader.0)), "{text}");
        assert!(!text.contains(&leader.to_string()), "{text}");
    }
}
