//! Queues of clients, of which the first has what the others wait for. Locks and elections are this.
//!
//! - A queue is a name. A place in it is the key `name/lease`, attached to its lease, and its rank is the
//!   revision that created the key: the oldest key is first, and who waits, waits for the one before.
//!   That is the layout of etcd's own recipes, so their clients may stand in the same queues.
//! - All is done by the services for keys and leases, as the caller and with the caller's rights.
//! - Whoever goes away before it is told that it is first loses its place.

mod requests;

use std::sync::Arc;

use bytes::Bytes;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::kv_server::Kv as KvRpc;
use quorate_etcd_api::etcdserverpb::lease_server::Lease as LeaseRpc;
use quorate_etcd_api::etcdserverpb::request_op::Request as OpRequest;
use quorate_etcd_api::etcdserverpb::*;
use quorate_etcd_api::mvccpb::KeyValue;
use quorate_etcd_api::mvccpb::event::EventType;
use quorate_kv::{KeyRange, LeaseId, Revision};
use tokio::sync::oneshot;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use requests::{first_of, found, last_before, op, place_key, prefix, prefix_end, was_created_at};

use crate::node::Node;
use crate::services::follow::Following;
use crate::services::{Ending, Kv, Lease, unexpected};

/// All queues.
#[derive(Clone)]
pub(crate) struct Queues {
    node: Arc<Node>,
    kv: Arc<Kv>,
    lease: Arc<Lease>,
}

/// On whose behalf something is done.
#[derive(Clone)]
pub(crate) struct Caller {
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Caller {
    /// Who sent a request, and what it asks for.
    pub(crate) fn of<T>(request: Request<T>) -> (Caller, T) {
        let (metadata, extensions, message) = request.into_parts();
        let caller = Caller { metadata, extensions };
        (caller, message)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }
}

/// Who enters a queue, and with what.
pub(crate) struct Entry {
    /// The queue.
    pub(crate) name: Bytes,
    /// The lease that the place ends with.
    pub(crate) lease: LeaseId,
    /// What the key holds.
    pub(crate) value: Bytes,
}

/// A place in a queue.
#[derive(Clone)]
pub(crate) struct Place {
    /// The header of the answer that gave the place.
    pub(crate) header: ResponseHeader,
    /// The key.
    pub(crate) key: Bytes,
    /// The revision that created the key.
    pub(crate) rank: Revision,
    origin: Origin,
    /// Who had the first place at that time.
    first: Revision,
}

/// Where a place comes from.
#[derive(Clone, PartialEq, Eq)]
enum Origin {
    /// This call has made it.
    Made,
    /// The lease had it already, with this value.
    Found { value: Bytes },
}

/// A place that has become the first.
pub(crate) struct Turn {
    /// The header of the answer by which that was known.
    pub(crate) header: ResponseHeader,
    /// The place.
    pub(crate) place: Place,
}

/// A turn did not come.
pub(crate) enum NoTurn {
    /// The place was lost meanwhile: its lease has ended, or somebody deleted the key.
    Lost,
    /// The request failed.
    Failed(Status),
}

impl From<Status> for NoTurn {
    fn from(status: Status) -> NoTurn {
        NoTurn::Failed(status)
    }
}

impl Queues {
    /// The queues of `node`.
    pub(crate) fn new(node: &Arc<Node>, lease: &Arc<Lease>) -> Queues {
        Queues {
            node: Arc::clone(node),
            kv: Arc::new(Kv::new(node)),
            lease: Arc::clone(lease),
        }
    }

    /// The lease that a request names; a new one if it names none.
    pub(crate) async fn session(&self, caller: &Caller, id: i64) -> Result<LeaseId, Status> {
        if let Some(id) = LeaseId::from_wire(id) {
            return Ok(id);
        }
        let grant = caller.request(LeaseGrantRequest {
            ttl: SESSION_TTL_SECS,
            id: 0,
        });
        let granted = self.lease.lease_grant(grant).await?.into_inner();
        Ok(LeaseId(granted.id))
    }

    /// Enters a queue and waits until the place is the first. A place that exists is gone on with, and gets
    /// the entry's value.
    ///
    /// If this future is dropped, the place is given up.
    pub(crate) async fn enter(&self, caller: Caller, entry: Entry) -> Result<Turn, NoTurn> {
        let (answer, answered) = oneshot::channel();
        // A task, so that a place which is being made when the caller leaves is found and given up.
        tokio::spawn(enter_for(self.clone(), caller, entry, answer));
        let stopped = |_| Err(NoTurn::Failed(EtcdError::Stopped.into()));
        answered.await.unwrap_or_else(stopped)
    }

    /// The header of the current state, and the first of the queue.
    pub(crate) async fn first(
        &self,
        caller: &Caller,
        name: &[u8],
    ) -> Result<(ResponseHeader, Option<KeyValue>), Status> {
        self.one(caller, first_of(name)).await
    }

    /// Puts a value into a place, if there is one. Without a lease, the place keeps the one it has.
    pub(crate) async fn set_value(
        &self,
        caller: &Caller,
        place: PlaceKey,
        lease: Option<LeaseId>,
        value: Bytes,
    ) -> Result<(ResponseHeader, Held), Status> {
        let put = PutRequest {
            key: place.key.clone(),
            value,
            lease: lease.map_or(0, |LeaseId(id)| id),
            ignore_lease: lease.is_none(),
            ..Default::default()
        };
        self.if_held(caller, place, OpRequest::RequestPut(put)).await
    }

    /// Gives up a place, if there is one.
    pub(crate) async fn leave(
        &self,
        caller: &Caller,
        place: PlaceKey,
    ) -> Result<(ResponseHeader, Held), Status> {
        let delete = DeleteRangeRequest {
            key: place.key.clone(),
            ..Default::default()
        };
        self.if_held(caller, place, OpRequest::RequestDeleteRange(delete))
            .await
    }

    /// Deletes a key, whatever place it is.
    pub(crate) async fn delete(&self, caller: &Caller, key: Bytes) -> Result<ResponseHeader, Status> {
        let delete = DeleteRangeRequest {
            key,
            ..Default::default()
        };
        let deleted = self.kv.delete_range(caller.request(delete)).await?;
        deleted.into_inner().header.ok_or_else(unexpected)
    }

    /// Follows what happens to a key.
    pub(super) fn follow_key(&self, key: &Bytes, from: Revision) -> Following {
        Following::start(&self.node, KeyRange::parse_watch(key.clone(), Bytes::new()), from)
    }

    /// Follows what happens in a queue.
    pub(super) fn follow(&self, name: &[u8], from: Revision) -> Following {
        let keys = KeyRange::parse_watch(prefix(name), prefix_end(name));
        Following::start(&self.node, keys, from)
    }

    /// Makes the place of an entry, or finds it.
    async fn place(&self, caller: &Caller, entry: &Entry) -> Result<Place, Status> {
        let key = place_key(entry);
        let put = PutRequest {
            key: key.clone(),
            value: entry.value.clone(),
            lease: entry.lease.0,
            ..Default::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..Default::default()
        };
        let first = op(OpRequest::RequestRange(first_of(&entry.name)));
        let txn = TxnRequest {
            compare: vec![was_created_at(&key, Revision(0))],
            success: vec![op(OpRequest::RequestPut(put)), first.clone()],
            failure: vec![op(OpRequest::RequestRange(get)), first],
        };
        let txn = self.kv.txn(caller.request(txn)).await?.into_inner();
        let header = txn.header.ok_or_else(unexpected)?;
        let mut answers = txn.responses.into_iter();
        let (own, first) = (answers.next().and_then(found), answers.next().and_then(found));
        let first = first.ok_or_else(unexpected)?;
        let (origin, rank) = match own {
            Some(kv) => (Origin::Found { value: kv.value }, kv.create_revision),
            None => (Origin::Made, header.revision),
        };
        Ok(Place {
            header,
            key,
            rank: Revision(rank),
            origin,
            first: Revision(first.create_revision),
        })
    }

    /// Waits until no older place is left.
    async fn turn(&self, caller: &Caller, name: &[u8], place: &Place) -> Result<ResponseHeader, NoTurn> {
        if place.first == place.rank {
            return Ok(place.header);
        }
        while let (header, Some(before)) = self.one(caller, last_before(name, place.rank)).await? {
            let from = Revision(header.revision).next();
            self.deletion(&before.key, from).await;
        }
        let own = RangeRequest {
            key: place.key.clone(),
            ..Default::default()
        };
        match self.one(caller, own).await? {
            (header, Some(kv)) if kv.create_revision == place.rank.0 => Ok(header),
            _ => Err(NoTurn::Lost),
        }
    }

    /// Waits until a key is deleted, or may have been.
    async fn deletion(&self, key: &Bytes, from: Revision) {
        let mut following = self.follow_key(key, from);
        while let Some(response) = following.next().await {
            let mut types = response.events.iter().map(|event| event.r#type());
            if types.any(|event| event == EventType::Delete) {
                return;
            }
        }
    }

    async fn one(
        &self,
        caller: &Caller,
        range: RangeRequest,
    ) -> Result<(ResponseHeader, Option<KeyValue>), Status> {
        let mut range = self.kv.range(caller.request(range)).await?.into_inner();
        Ok((range.header.ok_or_else(unexpected)?, range.kvs.pop()))
    }

    async fn if_held(
        &self,
        caller: &Caller,
        place: PlaceKey,
        then: OpRequest,
    ) -> Result<(ResponseHeader, Held), Status> {
        let txn = TxnRequest {
            compare: vec![was_created_at(&place.key, place.rank)],
            success: vec![op(then)],
            failure: Vec::new(),
        };
        let txn = self.kv.txn(caller.request(txn)).await?.into_inner();
        let held = if txn.succeeded { Held::Yes } else { Held::No };
        Ok((txn.header.ok_or_else(unexpected)?, held))
    }
}

/// What tells a place from all that ever had the same key.
#[derive(Clone)]
pub(crate) struct PlaceKey {
    /// The key.
    pub(crate) key: Bytes,
    /// The revision that created it.
    pub(crate) rank: Revision,
}

impl Place {
    /// What tells the place from others.
    pub(crate) fn key(&self) -> PlaceKey {
        PlaceKey {
            key: self.key.clone(),
            rank: self.rank,
        }
    }
}

/// Whether a place was still there when something was to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It was, and it was done.
    Yes,
    /// It was not, and nothing was done.
    No,
}

type Answer = oneshot::Sender<Result<Turn, NoTurn>>;

/// Enters a queue for a caller who may go away at any time: `answer` is closed then.
async fn enter_for(queues: Queues, caller: Caller, entry: Entry, mut answer: Answer) {
    let place = match queues.place(&caller, &entry).await {
        Ok(place) => place,
        Err(status) => {
            // Whoever has gone away needs no answer.
            let _ = answer.send(Err(status.into()));
            return;
        }
    };
    let ending = Ending::of(&queues.node, &caller.metadata);
    let turn = tokio::select! {
        turn = wait(&queues, &caller, &entry, &place) => turn,
        status = ending.0 => Err(status.into()),
        () = answer.closed() => Err(Status::from(EtcdError::Canceled).into()),
    };
    if matches!(turn, Err(NoTurn::Failed(_))) {
        give_up(&queues, &caller, place.key()).await;
    }
    let (key, is_new) = (place.key(), place.origin == Origin::Made);
    let unheard = answer.send(turn.map(|header| Turn { header, place }));
    if let Err(Ok(_)) = unheard
        && is_new
    {
        give_up(&queues, &caller, key).await;
    }
}

async fn wait(
    queues: &Queues,
    caller: &Caller,
    entry: &Entry,
    place: &Place,
) -> Result<ResponseHeader, NoTurn> {
    if let Origin::Found { value } = &place.origin
        && *value != entry.value
    {
        let value = entry.value.clone();
        let set = queues.set_value(caller, place.key(), Some(entry.lease), value);
        if let (_, Held::No) = set.await? {
            return Err(NoTurn::Lost);
        }
    }
    queues.turn(caller, &entry.name, place).await
}

async fn give_up(queues: &Queues, caller: &Caller, place: PlaceKey) {
    if let Err(status) = queues.leave(caller, place).await {
        tracing::debug!(%status, "a place in a queue stays until its lease ends");
    }
}

/// What etcd's sessions live without being renewed, unless told otherwise.
const SESSION_TTL_SECS: i64 = 60;
