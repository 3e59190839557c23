//! `v3lockpb.Lock`: a lock is a queue, and whoever is first in it holds the lock.

use bytes::Bytes;
use quorate_etcd_api::v3lockpb::lock_server::Lock as LockRpc;
use quorate_etcd_api::v3lockpb::*;
use tonic::{Request, Response, Status};

use crate::services::Queues;
use crate::services::queue::{Caller, Entry, NoTurn};

/// The service.
pub(crate) struct Lock {
    queues: Queues,
}

impl Lock {
    /// The service over these queues.
    pub(crate) fn new(queues: Queues) -> Lock {
        Lock { queues }
    }
}

#[tonic::async_trait]
impl LockRpc for Lock {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (caller, request) = Caller::of(request);
        let entry = Entry {
            lease: self.queues.session(&caller, request.lease).await?,
            name: request.name,
            value: Bytes::new(),
        };
        let turn = self.queues.enter(caller, entry).await;
        let turn = turn.map_err(|no_turn| match no_turn {
            NoTurn::Lost => Status::unknown("mutex: session is expired"),
            NoTurn::Failed(status) => status,
        })?;
        Ok(Response::new(LockResponse {
            header: Some(turn.header),
            key: turn.place.key().key,
        }))
    }

    async fn unlock(&self, request: Request<UnlockRequest>) -> Result<Response<UnlockResponse>, Status> {
        let (caller, UnlockRequest { key }) = Caller::of(request);
        let header = Some(self.queues.delete(&caller, key).await?);
        Ok(Response::new(UnlockResponse { header }))
    }
}
