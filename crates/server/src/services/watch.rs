//! `etcdserverpb.Watch`: one stream, many watchers.
//!
//! What a watcher is given and when is the hub's business; here it is fetched and translated. The
//! client's pace drives it: a response is made when the connection has room for it, so a slow client
//! leaves its events in the hub, where they are bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::watch_server::Watch as WatchRpc;
use quorate_etcd_api::etcdserverpb::{WatchRequest, WatchResponse};
use quorate_kv::{StreamId, WatchId, WatchOutput};
use tokio::sync::Notify;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::node::Node;
use crate::services::Ending;
use crate::translate;

/// The service.
pub(crate) struct Watch {
    node: Arc<Node>,
}

impl Watch {
    /// The service of `node`.
    pub(crate) fn new(node: &Arc<Node>) -> Watch {
        let node = Arc::clone(node);
        Watch { node }
    }
}

#[tonic::async_trait]
impl WatchRpc for Watch {
    type WatchStream = BoxStream<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let ending = Ending::of(&self.node, request.metadata());
        let watching = Watching::open(&self.node, request.into_inner());
        let responses = futures::stream::unfold(watching, async |mut watching| {
            let response = watching.next().await;
            Some((response, watching))
        });
        Ok(Response::new(Box::pin(ending.end(responses))))
    }
}

/// One client's stream.
struct Watching {
    node: Arc<Node>,
    /// None once the client has said that it asks no more.
    requests: Option<Streaming<WatchRequest>>,
    stream: StreamId,
    /// Woken when the hub has something to fetch.
    woken: Arc<Notify>,
    fetched: VecDeque<WatchOutput>,
}

impl Watching {
    fn open(node: &Arc<Node>, requests: Streaming<WatchRequest>) -> Watching {
        let woken = Arc::new(Notify::new());
        let waker = Arc::clone(&woken);
        let mut hub = node.shared().watches.lock();
        let stream = hub.open_stream(Arc::new(move || waker.notify_one()));
        drop(hub);
        Watching {
            node: Arc::clone(node),
            requests: Some(requests),
            stream,
            woken,
            fetched: VecDeque::new(),
        }
    }

    /// The next response, or why there are no more. A client that asks no more is still answered: its
    /// watchers live until it leaves, and then the stream is dropped.
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            if let Some(output) = self.fetched.pop_front() {
                return Ok(translate::watch_response(&self.node, output));
            }
            tokio::select! {
                request = next_request(&mut self.requests) => self.take(request?),
                () = self.woken.notified() => {}
            }
            self.fetched = self.node.shared().watches.lock().poll(self.stream).into();
        }
    }

    fn take(&self, request: WatchRequest) {
        let mut hub = self.node.shared().watches.lock();
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => hub.create(self.stream, translate::watch(create)),
            Some(RequestUnion::CancelRequest(cancel)) => hub.cancel(self.stream, WatchId(cancel.watch_id)),
            Some(RequestUnion::ProgressRequest(_)) => hub.request_progress(self.stream),
            // An unset union is how a newer client's request looks: etcd ignores it.
            None => {}
        }
    }
}

/// The client's next request; never ready once it has said that it asks no more.
async fn next_request(requests: &mut Option<Streaming<WatchRequest>>) -> Result<WatchRequest, Status> {
    if let Some(open) = requests
        && let Some(request) = open.message().await?
    {
        return Ok(request);
    }
    *requests = None;
    std::future::pending().await
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.node.shared().watches.lock().close_stream(self.stream);
    }
}
