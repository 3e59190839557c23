//! Queues of keys, as locks and elections have them: who wrote first is at the head.
//!
//! Each who waits has a key below the queue's name, attached to a lease of its own, so that whoever dies leaves
//! the queue. It is etcd's recipe: waiting beside its clients is safe.

use super::args::Keys;
use super::connection::{Client, Effect, kv};
use super::failure::Failure;
use super::lease;
use super::watch::Changes;
use bytes::Bytes;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use quorate_etcd_api::mvccpb::event::EventType;
use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A lease that is renewed, until it is ended or lost.
pub(super) struct Session<'a> {
    client: &'a Client,
    pub(super) lease: i64,
}

/// The signals that ask a process to end.
pub(super) struct Interrupts(Signal, Signal);

impl Interrupts {
    /// From now on these signals do not end the process by themselves.
    ///
    /// # Errors
    ///
    /// If the system does not allow it.
    pub(super) fn catch() -> Result<Self, Failure> {
        let caught =
            |kind| signal(kind).map_err(|error| Failure::error(format!("cannot catch signals: {error}")));
        Ok(Self(
            caught(SignalKind::interrupt())?,
            caught(SignalKind::terminate())?,
        ))
    }

    /// Waits for one of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

impl<'a> Session<'a> {
    /// Begins a session whose lease lives for `ttl` seconds without renewal.
    ///
    /// # Errors
    ///
    /// As the server refuses it.
    pub(super) async fn begin(client: &'a Client, ttl: i64) -> Result<Self, Failure> {
        let lease = lease::grant(client, ttl).await?.id;
        Ok(Self { client, lease })
    }

    /// Does some work while the lease is renewed.
    ///
    /// # Errors
    ///
    /// As the work fails; or with `lost` if the lease is lost before the work is done.
    pub(super) async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
        lost: &str,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done,
            renewed = self.lost() => {
                renewed?;
                Err(Failure::error(lost))
            }
        }
    }

    /// Renews the lease until it is lost.
    ///
    /// # Errors
    ///
    /// If it may not be renewed.
    pub(super) async fn lost(&self) -> Result<(), Failure> {
        lease::keep_alive(self.client, self.lease, |_| Ok(())).await
    }

    /// Ends the session: its keys are deleted.
    ///
    /// # Errors
    ///
    /// As the server refuses it; the lease then ends by itself in time.
    pub(super) async fn end(self) -> Result<(), Failure> {
        match lease::revoke(self.client, self.lease).await {
            // It was ended by a request whose answer was lost with its server.
            Err(failure) if failure.message() == EtcdError::LeaseNotFound.message() => Ok(()),
            ended => ended,
        }
    }

    /// Writes the session's key into a queue, and waits until it is at the head.
    ///
    /// # Errors
    ///
    /// As the server refuses it.
    pub(super) async fn queue_up(&self, queue: &[u8], value: Bytes) -> Result<Head, Failure> {
        let prefix = prefix(queue);
        let key: Bytes = [&prefix, format!("{:x}", self.lease).as_bytes()].concat().into();
        let request = enter(key.clone(), value, self.lease);
        // The same key of the same lease again changes nothing.
        let txn = async |service| kv(service).txn(request.clone()).await;
        let entered = self.client.ask(Effect::Reads, txn).await?;
        let own = created(&entered).ok_or_else(|| Failure::error("the server's answer names no revision"))?;
        let mut revision = revision_of(entered.header.as_ref().map(|header| header.revision));
        loop {
            let earlier = self.latest_before(&prefix, own).await?;
            let at = revision_of(earlier.header.as_ref().map(|header| header.revision));
            revision = revision.max(at);
            match earlier.kvs.first() {
                None => return Ok(Head { key, revision }),
                Some(other) => gone(self.client, other.key.clone(), at).await?,
            }
        }
    }

    async fn latest_before(&self, prefix: &[u8], own: i64) -> Result<RangeResponse, Failure> {
        let Keys { key, range_end } = Keys::prefixed(prefix.to_vec());
        let request = RangeRequest {
            key,
            range_end,
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: own - 1,
            keys_only: true,
            ..RangeRequest::default()
        };
        let range = async |service| kv(service).range(request.clone()).await;
        self.client.ask(Effect::Reads, range).await
    }
}

/// The head of a queue: our key.
pub(super) struct Head {
    pub(super) key: Bytes,
    /// At which it was seen to be there.
    pub(super) revision: i64,
}

/// The prefix of the keys of a queue.
pub(super) fn prefix(queue: &[u8]) -> Vec<u8> {
    [queue, b"/"].concat()
}

fn revision_of(header: Option<i64>) -> i64 {
    header.unwrap_or_default()
}

/// Writes a key that is not there yet; else reads it.
fn enter(key: Bytes, value: Bytes, lease: i64) -> TxnRequest {
    let operation = |request| {
        vec![RequestOp {
            request: Some(request),
        }]
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::CreateRevision(0)),
        }],
        success: operation(Request::RequestPut(PutRequest {
            key: key.clone(),
            value,
            lease,
            ..PutRequest::default()
        })),
        failure: operation(Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        })),
    }
}

/// The revision that created the key which [`enter`] was about.
fn created(entered: &TxnResponse) -> Option<i64> {
    match entered.responses.first()?.response.as_ref()? {
        Response::ResponsePut(_) => entered.header.as_ref().map(|header| header.revision),
        Response::ResponseRange(range) => range.kvs.first().map(|kv| kv.create_revision),
        Response::ResponseDeleteRange(_) | Response::ResponseTxn(_) => None,
    }
}

/// Waits until a key that was there at a revision may be gone.
async fn gone(client: &Client, key: Bytes, revision: i64) -> Result<(), Failure> {
    let Some(mut changes) = Changes::of(client, Keys::one(key), revision + 1).await? else {
        return Ok(());
    };
    while let Some(response) = changes.next().await? {
        let is_delete = |event: &quorate_etcd_api::mvccpb::Event| event.r#type() == EventType::Delete;
        if response.events.iter().any(is_delete) {
            return Ok(());
        }
    }
    Ok(())
}

/// The key at the head of our queue as it is, with its lease.
///
/// # Errors
///
/// If it cannot be read.
pub(super) async fn read(client: &Client, key: Bytes) -> Result<RangeResponse, Failure> {
    let request = RangeRequest {
        key,
        ..RangeRequest::default()
    };
    let range = async |service| kv(service).range(request.clone()).await;
    client.ask(Effect::Reads, range).await
}
