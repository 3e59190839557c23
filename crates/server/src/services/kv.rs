//! `etcdserverpb.KV`: ranges, puts, deletions, transactions, compaction.

use std::sync::Arc;

use quorate_etcd_api::etcdserverpb::kv_server::Kv as KvRpc;
use quorate_etcd_api::etcdserverpb::{self as pb, RangeStreamResponse};
use quorate_kv::{Command, ReadTxn, Response as Applied, Revision};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::auth::{Session, session};
use crate::machine::{Answer, Query};
use crate::node::{Node, answer};
use crate::services::{Ending, range_stream, unexpected};
use crate::translate;

/// The service.
pub(crate) struct Kv {
    node: Arc<Node>,
}

impl Kv {
    /// The service of `node`.
    pub(crate) fn new(node: &Arc<Node>) -> Kv {
        let node = Arc::clone(node);
        Kv { node }
    }

    async fn propose(
        &self,
        session: &Session,
        command: Command,
    ) -> Result<(pb::ResponseHeader, Applied), Status> {
        session.note(&command);
        session
            .act(&self.node, |caller| self.node.propose(caller, command.clone()))
            .await
    }

    async fn read(&self, query: Query, is_serializable: IsSerializable) -> Result<Answer, Status> {
        match is_serializable {
            IsSerializable::Yes => self.node.read_local(query).await,
            IsSerializable::No => self.node.read(query).await,
        }
    }

    async fn read_txn(
        &self,
        session: &Session,
        txn: ReadTxn,
        is_serializable: IsSerializable,
    ) -> Result<pb::TxnResponse, Status> {
        txn.check(self.node.limits())
            .map_err(|error| translate::refused(&error))?;
        session.note(&txn);
        let read = |caller| {
            let answer = self.read(Query::Txn(caller, txn.clone()), is_serializable);
            async { answer!(answer.await?, Txn).map_err(|error| translate::refused(&error)) }
        };
        let response = session.act(&self.node, read).await?;
        Ok(translate::txn_response(
            self.node.header(response.revision),
            response,
        ))
    }
}

#[tonic::async_trait]
impl KvRpc for Kv {
    type RangeStreamStream = BoxStream<RangeStreamResponse>;

    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let session = session(&request);
        let request = request.into_inner();
        let is_serializable = IsSerializable::from(request.serializable);
        let range = translate::range(request)?;
        session.note(&range);
        let read = |caller| {
            let answer = self.read(Query::Range(caller, range.clone()), is_serializable);
            async { answer!(answer.await?, Range).map_err(|error| translate::refused(&error)) }
        };
        let response = session.act(&self.node, read).await?;
        let header = self.node.header(response.revision);
        Ok(Response::new(translate::range_response(header, response)))
    }

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let ending = Ending::of(&self.node, request.metadata());
        let session = session(&request);
        let pieces = range_stream::begin(&self.node, session, request.into_inner()).await?;
        Ok(Response::new(Box::pin(ending.end(pieces))))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let session = session(&request);
        let command = Command::Put(translate::put(request.into_inner())?);
        let (header, Applied::Put(response)) = self.propose(&session, command).await? else {
            return Err(unexpected());
        };
        Ok(Response::new(translate::put_response(header, response)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let session = session(&request);
        let command = Command::DeleteRange(translate::delete_range(request.into_inner())?);
        let (header, Applied::DeleteRange(response)) = self.propose(&session, command).await? else {
            return Err(unexpected());
        };
        Ok(Response::new(translate::delete_range_response(header, response)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let session = session(&request);
        let request = request.into_inner();
        let is_serializable = is_serializable(&request);
        let txn = match translate::txn(request, self.node.limits().max_txn_ops)?.into_read_only() {
            Ok(txn) => {
                return self
                    .read_txn(&session, txn, is_serializable)
                    .await
                    .map(Response::new);
            }
            Err(txn) => txn,
        };
        let (header, Applied::Txn(response)) = self.propose(&session, Command::Txn(txn)).await? else {
            return Err(unexpected());
        };
        Ok(Response::new(translate::txn_response(header, response)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let session = session(&request);
        let request = request.into_inner();
        let revision = Revision(request.revision);
        let (header, _) = self.propose(&session, Command::Compact { revision }).await?;
        if request.physical {
            crate::tasks::finish_chores(&self.node).await?;
        }
        let header = Some(header);
        Ok(Response::new(pb::CompactionResponse { header }))
    }
}

/// Whether a range or a transaction may be read from this member as it is.
#[derive(Clone, Copy)]
enum IsSerializable {
    Yes,
    No,
}

impl From<bool> for IsSerializable {
    fn from(is_serializable: bool) -> IsSerializable {
        match is_serializable {
            true => IsSerializable::Yes,
            false => IsSerializable::No,
        }
    }
}

/// It is when each of its ranges is.
fn is_serializable(request: &pb::TxnRequest) -> IsSerializable {
    let mut ops = request.success.iter().chain(&request.failure);
    let all = ops.all(|op| match &op.request {
        Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    });
    all.into()
}
