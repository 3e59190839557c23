//! `v3electionpb.Election`: an election is a queue, and whoever is first in it leads.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use quorate_etcd_api::etcdserverpb::{ResponseHeader, WatchResponse};
use quorate_etcd_api::mvccpb::KeyValue;
use quorate_etcd_api::mvccpb::event::EventType;
use quorate_etcd_api::v3electionpb::election_server::Election as ElectionRpc;
use quorate_etcd_api::v3electionpb::*;
use quorate_kv::{LeaseId, Revision};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::services::follow::Following;
use crate::services::queue::{Caller, Entry, Held, NoTurn, PlaceKey};
use crate::services::{Ending, Queues};

/// The service.
pub(crate) struct Election {
    node: Arc<Node>,
    queues: Queues,
}

impl Election {
    /// The service over these queues.
    pub(crate) fn new(node: &Arc<Node>, queues: Queues) -> Election {
        let node = Arc::clone(node);
        Election { node, queues }
    }
}

#[tonic::async_trait]
impl ElectionRpc for Election {
    type ObserveStream = BoxStream<LeaderResponse>;

    /// Answers when the candidate leads. etcd would answer so even to one whose lease ended on the way;
    /// here it is told.
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let (caller, request) = Caller::of(request);
        let lease = self.queues.session(&caller, request.lease).await?;
        let entry = Entry {
            name: request.name.clone(),
            lease,
            value: request.value,
        };
        let turn = self.queues.enter(caller, entry).await;
        let turn = turn.map_err(|no_turn| match no_turn {
            NoTurn::Lost => not_leader(),
            NoTurn::Failed(status) => status,
        })?;
        let place = turn.place.key();
        Ok(Response::new(CampaignResponse {
            header: Some(turn.header),
            leader: Some(LeaderKey {
                name: request.name,
                key: place.key,
                rev: place.rank.0,
                lease: lease.0,
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let (caller, request) = Caller::of(request);
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let lease = LeaseId::from_wire(leader.lease);
        let set = self
            .queues
            .set_value(&caller, place_of(leader), lease, request.value);
        match set.await? {
            (header, Held::Yes) => Ok(Response::new(ProclaimResponse { header: Some(header) })),
            (_, Held::No) => Err(not_leader()),
        }
    }

    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let (caller, LeaderRequest { name }) = Caller::of(request);
        match self.queues.first(&caller, &name).await? {
            (header, Some(kv)) => Ok(Response::new(leader_response(header, kv))),
            (_, None) => Err(Status::unknown("election: no leader")),
        }
    }

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let ending = Ending::of(&self.node, request.metadata());
        let (caller, LeaderRequest { name }) = Caller::of(request);
        let observing = Observing {
            queues: self.queues.clone(),
            caller,
            name,
            known: Known::Nobody,
        };
        Ok(Response::new(Box::pin(ending.end(observing.stream()))))
    }

    /// Succeeds if the place was lost before: what the caller wants is so.
    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignResponse>, Status> {
        let (caller, request) = Caller::of(request);
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let (header, _) = self.queues.leave(&caller, place_of(leader)).await?;
        let header = Some(header);
        Ok(Response::new(ResignResponse { header }))
    }
}

/// A client that follows who leads, and what the leader proclaims.
struct Observing {
    queues: Queues,
    caller: Caller,
    name: Bytes,
    known: Known,
}

/// What is known of the leader.
enum Known {
    /// Nothing: it is to be looked up.
    Nobody,
    /// It leads until its key is deleted.
    Leader {
        following: Following,
        happened: VecDeque<Happened>,
    },
}

/// What has happened to a leader and is yet to be told.
enum Happened {
    /// It has proclaimed a value.
    Proclaimed(LeaderResponse),
    /// It leads no more.
    Deposed,
}

impl Observing {
    fn stream(self) -> impl Stream<Item = Result<LeaderResponse, Status>> {
        futures::stream::unfold(Some(self), async |observing| {
            let mut observing = observing?;
            let next = observing.next().await;
            let observing = next.is_ok().then_some(observing);
            Some((next, observing))
        })
    }

    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            let told = match &mut self.known {
                Known::Nobody => Some(self.find().await?),
                Known::Leader { following, happened } => next_proclaimed(following, happened).await,
            };
            match told {
                Some(response) => return Ok(response),
                None => self.known = Known::Nobody,
            }
        }
    }

    /// The leader, as soon as there is one. It is followed from there on.
    async fn find(&mut self) -> Result<LeaderResponse, Status> {
        let response = loop {
            let (header, first) = self.queues.first(&self.caller, &self.name).await?;
            if let Some(kv) = first {
                break leader_response(header, kv);
            }
            let from = Revision(header.revision).next();
            if let Some(response) = first_put(self.queues.follow(&self.name, from)).await {
                break response;
            }
        };
        let (Some(header), Some(kv)) = (&response.header, &response.kv) else {
            return Err(super::unexpected());
        };
        self.known = Known::Leader {
            following: self.queues.follow_key(&kv.key, Revision(header.revision).next()),
            happened: VecDeque::new(),
        };
        Ok(response)
    }
}

/// The next value that the leader has put; none once its key was deleted, or may have been.
async fn next_proclaimed(
    following: &mut Following,
    happened: &mut VecDeque<Happened>,
) -> Option<LeaderResponse> {
    loop {
        match happened.pop_front() {
            Some(Happened::Proclaimed(response)) => return Some(response),
            Some(Happened::Deposed) => return None,
            None => {}
        }
        let WatchResponse { header, events, .. } = following.next().await?;
        happened.extend(events.into_iter().map(|event| match event.r#type() {
            EventType::Put => Happened::Proclaimed(LeaderResponse { header, kv: event.kv }),
            EventType::Delete => Happened::Deposed,
        }));
    }
}

/// The first key that is put, under a header of that revision.
async fn first_put(mut following: Following) -> Option<LeaderResponse> {
    loop {
        let response = following.next().await?;
        let mut puts = response
            .events
            .into_iter()
            .filter(|event| event.r#type() == EventType::Put);
        if let (Some(header), Some(kv)) = (response.header, puts.find_map(|event| event.kv)) {
            let revision = kv.mod_revision;
            return Some(leader_response(ResponseHeader { revision, ..header }, kv));
        }
    }
}

fn leader_response(header: ResponseHeader, kv: KeyValue) -> LeaderResponse {
    LeaderResponse {
        header: Some(header),
        kv: Some(kv),
    }
}

fn place_of(leader: LeaderKey) -> PlaceKey {
    PlaceKey {
        key: leader.key,
        rank: Revision(leader.rev),
    }
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

fn no_leader_key() -> Status {
    Status::unknown("\"leader\" field must be provided")
}
