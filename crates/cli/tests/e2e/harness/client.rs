//! A client of one node: the generated gRPC client with deadlines.

use anyhow::Context;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::kv_client::KvClient;
use quorate_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::{
    Compare, HashKvRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
    StatusRequest, StatusResponse, TxnRequest,
};
use quorate_etcd_api::mvccpb::KeyValue;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// How long a client waits for an answer. What it then knows is nothing: the request may still be
/// carried out.
const DEADLINE: Duration = Duration::from_secs(3);

/// A client of one node. It reconnects by itself.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

/// What a read may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// The latest acknowledged value.
    Linearizable,
    /// What the asked node has applied.
    Serializable,
}

impl Client {
    /// A client of the node at `address`; it connects when it is first used.
    ///
    /// # Errors
    ///
    /// None that a test can do anything about.
    pub(crate) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_secs(1))
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .tcp_nodelay(true);
        Ok(Self {
            channel: endpoint.connect_lazy(),
        })
    }

    /// Writes `value` under `key`; the revision of the write.
    ///
    /// # Errors
    ///
    /// If the write was not acknowledged; it may have happened all the same.
    pub(crate) async fn put(&self, key: &str, value: &str) -> anyhow::Result<i64> {
        let request = PutRequest {
            key: key.to_string().into(),
            value: value.to_string().into(),
            ..PutRequest::default()
        };
        let response = timeout(DEADLINE, self.kv().put(request)).await??.into_inner();
        revision(response.header.as_ref())
    }

    /// Writes `value` under `key` if there is no such key. Doing it twice changes nothing.
    ///
    /// # Errors
    ///
    /// If the transaction was not acknowledged; it may have happened all the same.
    pub(crate) async fn put_if_missing(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let missing = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            target_union: Some(TargetUnion::Version(0)),
            key: key.to_string().into(),
            ..Compare::default()
        };
        self.txn(missing, vec![put_op(key, value)]).await.map(|_| ())
    }

    /// In one transaction: if the value of `guard` sorts before `value`, puts `value` under both
    /// keys. Says whether it did, and the revision.
    ///
    /// # Errors
    ///
    /// If the transaction was not acknowledged; it may have happened all the same.
    pub(crate) async fn put_both_if_greater(
        &self,
        guard: &str,
        other: &str,
        value: &str,
    ) -> anyhow::Result<(bool, i64)> {
        let less = Compare {
            result: CompareResult::Less.into(),
            target: CompareTarget::Value.into(),
            target_union: Some(TargetUnion::Value(value.to_string().into())),
            key: guard.to_string().into(),
            ..Compare::default()
        };
        self.txn(less, vec![put_op(guard, value), put_op(other, value)])
            .await
    }

    async fn txn(&self, compare: Compare, success: Vec<RequestOp>) -> anyhow::Result<(bool, i64)> {
        let request = TxnRequest {
            compare: vec![compare],
            success,
            failure: Vec::new(),
        };
        let response = timeout(DEADLINE, self.kv().txn(request)).await??.into_inner();
        Ok((response.succeeded, revision(response.header.as_ref())?))
    }

    /// The value of one key.
    ///
    /// # Errors
    ///
    /// If the node does not answer.
    pub(crate) async fn get(&self, key: &str, consistency: Consistency) -> anyhow::Result<Option<String>> {
        let request = RangeRequest {
            key: key.to_string().into(),
            serializable: consistency == Consistency::Serializable,
            ..RangeRequest::default()
        };
        let response = self.range(request).await?;
        Ok(response
            .kvs
            .first()
            .map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }

    /// The revision of the store: of the cluster, or of what this node has applied.
    ///
    /// # Errors
    ///
    /// If the node does not answer.
    pub(crate) async fn revision(&self, consistency: Consistency) -> anyhow::Result<i64> {
        let request = RangeRequest {
            key: "revision".into(),
            serializable: consistency == Consistency::Serializable,
            ..RangeRequest::default()
        };
        revision(self.range(request).await?.header.as_ref())
    }

    /// All that this node has applied as of `revision`, in the order of the keys.
    ///
    /// # Errors
    ///
    /// If the node does not answer, or has not applied `revision` yet.
    pub(crate) async fn everything(&self, revision: i64) -> anyhow::Result<Vec<KeyValue>> {
        let mut found: Vec<KeyValue> = Vec::new();
        loop {
            let request = RangeRequest {
                key: found
                    .last()
                    .map_or(vec![0], |kv| [kv.key.as_ref(), &[0]].concat())
                    .into(),
                range_end: vec![0].into(),
                limit: 2000,
                revision,
                serializable: true,
                ..RangeRequest::default()
            };
            let page = self.range(request).await?;
            found.extend(page.kvs);
            if !page.more {
                return Ok(found);
            }
        }
    }

    /// What the node says of itself.
    ///
    /// # Errors
    ///
    /// If the node does not answer.
    pub(crate) async fn status(&self) -> anyhow::Result<StatusResponse> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        Ok(timeout(DEADLINE, client.status(StatusRequest {}))
            .await??
            .into_inner())
    }

    /// The node's own hash of its history up to `revision`.
    ///
    /// # Errors
    ///
    /// If the node does not answer.
    pub(crate) async fn hash(&self, revision: i64) -> anyhow::Result<u32> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let request = HashKvRequest { revision };
        Ok(timeout(DEADLINE, client.hash_kv(request))
            .await??
            .into_inner()
            .hash)
    }

    async fn range(&self, request: RangeRequest) -> anyhow::Result<RangeResponse> {
        Ok(timeout(DEADLINE, self.kv().range(request)).await??.into_inner())
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    let put = PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

fn revision(header: Option<&ResponseHeader>) -> anyhow::Result<i64> {
    Ok(header.context("the response has no header")?.revision)
}
