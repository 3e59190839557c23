//! `etcdserverpb.Lease`: grant, revoke, keep-alive, time to live, list.

use std::sync::Arc;

use futures::StreamExt;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::lease_server::Lease as LeaseRpc;
use quorate_etcd_api::etcdserverpb::*;
use quorate_kv::{Command, LeaseId, RevokeCause};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::{Session, session};
use crate::leases::{LeaseIds, Renewals};
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::services::{Ending, unexpected};
use crate::translate;

/// The service.
pub(crate) struct Lease {
    node: Arc<Node>,
    ids: LeaseIds,
    renewals: Renewals,
}

impl Lease {
    /// The service of `node`.
    pub(crate) fn new(node: &Arc<Node>) -> Lease {
        Lease {
            ids: LeaseIds::new(node.identity().member_id),
            renewals: Renewals::start(node),
            node: Arc::clone(node),
        }
    }

    /// Whether there may be one more lease, as far as this member knows.
    fn room(&self) -> Result<(), Status> {
        let most = self.node.config().limits.max_leases;
        match self.node.shared().leases.lock().count() < most {
            true => Ok(()),
            false => Err(Status::resource_exhausted(format!(
                "quorate: there are {most} leases, and there may not be more (--max-leases)"
            ))),
        }
    }

    async fn grant(
        &self,
        session: &Session,
        id: LeaseId,
        ttl_secs: i64,
    ) -> Result<LeaseGrantResponse, Status> {
        let command = Command::LeaseGrant { id, ttl_secs };
        session.note(&command);
        let propose = |caller| self.node.propose(caller, command.clone());
        let granted = session.act(&self.node, propose).await?;
        let (header, quorate_kv::Response::LeaseGrant { id, ttl_secs }) = granted else {
            return Err(unexpected());
        };
        Ok(LeaseGrantResponse {
            header: Some(header),
            id: id.0,
            ttl: ttl_secs,
            error: String::new(),
        })
    }
}

#[tonic::async_trait]
impl LeaseRpc for Lease {
    type LeaseKeepAliveStream = BoxStream<LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.room()?;
        let session = session(&request);
        let request = request.into_inner();
        let ttl_secs = request.ttl.max(self.node.config().min_lease_ttl());
        if let Some(id) = LeaseId::from_wire(request.id) {
            return self.grant(&session, id, ttl_secs).await.map(Response::new);
        }
        loop {
            let granted = self.grant(&session, self.ids.next(), ttl_secs).await;
            // A client has chosen an id that we would have: the next one is as good.
            match granted {
                Err(status) if is(&status, EtcdError::LeaseExist) => {}
                granted => return granted.map(Response::new),
            }
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let session = session(&request);
        let id = LeaseId(request.into_inner().id);
        let cause = RevokeCause::Requested;
        let command = Command::LeaseRevoke { id, cause };
        session.note(&command);
        let propose = |caller| self.node.propose(caller, command.clone());
        let (header, _) = session.act(&self.node, propose).await?;
        let header = Some(header);
        Ok(Response::new(LeaseRevokeResponse { header }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let ending = Ending::of(&self.node, request.metadata());
        let session = session(&request);
        let (node, renewals) = (Arc::clone(&self.node), self.renewals.clone());
        let answer = move |request: Result<LeaseKeepAliveRequest, Status>| {
            let (node, renewals, session) = (Arc::clone(&node), renewals.clone(), session.clone());
            async move {
                let id = request?.id;
                let renew = |caller| renewals.renew(caller, LeaseId(id));
                let renewed = session.act_now(&node, renew).await?;
                Ok(LeaseKeepAliveResponse {
                    header: Some(node.header_now()),
                    id,
                    ttl: renewed.unwrap_or(0),
                })
            }
        };
        let answers = request.into_inner().map(answer).buffered(MAX_PIPELINED);
        Ok(Response::new(Box::pin(ending.end(answers))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let session = session(&request);
        let request = request.into_inner();
        let id = LeaseId(request.id);
        session.note(&id);
        let read = |caller| {
            let answer = self.node.read(match request.keys {
                true => Query::LeaseWithKeys(caller, id),
                false => Query::Lease(id),
            });
            async { answer!(answer.await?, Lease).map_err(|error| translate::refused(&error)) }
        };
        let (revision, lease) = session.act(&self.node, read).await?;
        let mut response = LeaseTimeToLiveResponse {
            header: Some(self.node.header(revision)),
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(lease) = lease {
            response.ttl = lease.left_secs;
            response.granted_ttl = lease.granted_secs;
            response.keys = if request.keys { lease.keys } else { Vec::new() };
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let (revision, leases) = answer!(self.node.read_local(Query::Leases).await?, Leases);
        let leases = leases.into_iter().map(|LeaseId(id)| LeaseStatus { id });
        Ok(Response::new(LeaseLeasesResponse {
            header: Some(self.node.header(revision)),
            leases: leases.collect(),
        }))
    }
}

fn is(status: &Status, error: EtcdError) -> bool {
    status.message() == error.message()
}

/// Keep-alives of one stream that are on their way at one time.
const MAX_PIPELINED: usize = 1024;
