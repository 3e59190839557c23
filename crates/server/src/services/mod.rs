//! The services of the client port: each method checks, asks the node, and translates the answer.

mod auth;
mod census;
mod cluster;
mod election;
mod extras;
mod follow;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod queue;
mod range_stream;
mod snapshot;
mod watch;
mod watched;

pub(crate) use auth::Auth;
pub(crate) use cluster::Cluster;
pub(crate) use election::Election;
pub(crate) use kv::Kv;
pub(crate) use lease::Lease;
pub(crate) use lock::Lock;
pub(crate) use maintenance::Maintenance;
pub(crate) use queue::Queues;
pub(crate) use watch::Watch;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use quorate_etcd_api::EtcdError;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::flag::raised;
use crate::node::Node;

/// What a client is told when applying a command gave back another command's answer: our bug.
fn unexpected() -> Status {
    Status::internal("quorate: the answer belongs to another command")
}

/// Why a stream ends that neither side has ended: the server stops, or there is no leader for long and
/// the client has asked not to wait for one.
struct Ending(Pin<Box<dyn Future<Output = Status> + Send>>);

impl Ending {
    /// The ending of a stream with these metadata.
    fn of(node: &Arc<Node>, metadata: &MetadataMap) -> Ending {
        let requires_leader = metadata.get("hasleader").is_some_and(|value| value == "true");
        let (mut stop, mut leaderless) = (node.stop(), node.leaderless());
        Ending(Box::pin(async move {
            let no_leader = async {
                match requires_leader {
                    true => raised(&mut leaderless).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = raised(&mut stop) => EtcdError::Stopped.into(),
                () = no_leader => EtcdError::NoLeader.into(),
            }
        }))
    }

    /// The stream with this ending.
    fn end<T>(self, stream: impl Stream<Item = Result<T, Status>>) -> impl Stream<Item = Result<T, Status>> {
        let state = (Box::pin(stream), Some(self.0));
        futures::stream::unfold(state, async |(mut stream, ending)| {
            let mut ending = ending?;
            tokio::select! {
                biased;
                status = &mut ending => Some((Err(status), (stream, None))),
                item = stream.next() => item.map(|item| (item, (stream, Some(ending)))),
            }
        })
    }
}
