//! `etcdserverpb.Watch`: one stream, many watchers.
//!
//! What a watcher is given and when is the hub's business; here it is fetched and translated. The
//! client's pace drives it: a response is made when the connection has room for it, so a slow client
//! leaves its events in the hub, where they are bounded.
//!
//! - Who may not read keys may not watch them: a watcher is asked for its right when it is created, and again
//!   whenever users or roles have changed. It is canceled when it has none any more.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::watch_request::RequestUnion;
use quorate_etcd_api::etcdserverpb::watch_server::Watch as WatchRpc;
use quorate_etcd_api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use quorate_kv::{AuthStatus, Caller, KeyRange, StreamId, WatchId};
use tokio::sync::{Notify, watch};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::{AuthAnswer, AuthQuestion, Session, session};
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::services::watched::Watched;
use crate::services::{Ending, unexpected};
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
        let session = session(&request);
        let watching = Watching::open(&self.node, session, request.into_inner());
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
    session: Session,
    /// None once the client has said that it asks no more.
    requests: Option<Streaming<WatchRequest>>,
    stream: StreamId,
    /// Woken when the hub has something to fetch.
    woken: Arc<Notify>,
    fetched: VecDeque<WatchResponse>,
    /// Tells when users or roles have changed.
    auth: watch::Receiver<AuthStatus>,
    watched: Watched,
}

/// What a stream has to do next.
enum Next {
    Request(Result<WatchRequest, Status>),
    AuthChanged,
    Fetch,
}

impl Watching {
    fn open(node: &Arc<Node>, session: Session, requests: Streaming<WatchRequest>) -> Watching {
        let woken = Arc::new(Notify::new());
        let waker = Arc::clone(&woken);
        let mut hub = node.shared().watches.lock();
        let stream = hub.open_stream(Arc::new(move || waker.notify_one()));
        drop(hub);
        Watching {
            node: Arc::clone(node),
            session,
            requests: Some(requests),
            stream,
            woken,
            fetched: VecDeque::new(),
            auth: node.shared().watch_auth(),
            watched: Watched::default(),
        }
    }

    /// The next response, or why there are no more. A client that asks no more is still answered: its
    /// watchers live until it leaves, and then the stream is dropped.
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            if self.auth.has_changed().unwrap_or(false) {
                // Before anything is sent that it may forbid.
                self.auth.mark_unchanged();
                self.recheck().await?;
            }
            if let Some(response) = self.fetched.pop_front() {
                return Ok(response);
            }
            let next = tokio::select! {
                request = next_request(&mut self.requests) => Next::Request(request),
                Ok(()) = self.auth.changed() => Next::AuthChanged,
                () = self.woken.notified() => Next::Fetch,
            };
            match next {
                Next::Request(request) => self.take(request?).await?,
                Next::AuthChanged => self.recheck().await?,
                Next::Fetch => {}
            }
            self.fetch();
        }
    }

    fn fetch(&mut self) {
        let outputs = self.node.shared().watches.lock().poll(self.stream);
        for output in outputs {
            let reason = self.watched.observe(&output);
            let mut response = translate::watch_response(&self.node, output);
            self.node.metrics().events.inc_by(response.events.len() as u64);
            if let Some(reason) = reason {
                response.cancel_reason = reason;
            }
            self.fetched.push_back(response);
        }
    }

    async fn take(&mut self, request: WatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => return self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                let id = WatchId(cancel.watch_id);
                self.node.shared().watches.lock().cancel(self.stream, id);
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.node.shared().watches.lock().request_progress(self.stream);
            }
            // An unset union is how a newer client's request looks: etcd ignores it.
            None => {}
        }
        Ok(())
    }

    /// Creates a watcher if the client may read its keys. A change of users in between is noticed by
    /// [`Self::recheck`], which looks at the new watcher as well.
    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Status> {
        let spec = translate::watch(request);
        if let Err(status) = self.room() {
            self.refuse(&status);
            return Ok(());
        }
        let check = |caller| self.check_watch(caller, &spec.keys);
        match self.session.act_now(&self.node, check).await {
            Ok(caller) => {
                self.session.log_watcher(&caller, &spec.keys, Ok(()));
                self.watched.create(&caller, spec.keys.clone());
                self.node.shared().watches.lock().create(self.stream, spec);
            }
            Err(status) if status.message() == EtcdError::Stopped.message() => return Err(status),
            Err(status) => {
                let caller = self.session.caller_now(&self.node).await;
                let caller = caller.unwrap_or_else(|_| self.session.caller());
                self.session.log_watcher(&caller, &spec.keys, Err(&status));
                self.refuse(&status);
            }
        }
        Ok(())
    }

    /// Gives back the caller, if it may watch these keys.
    async fn check_watch(&self, caller: Caller, keys: &KeyRange) -> Result<Caller, Status> {
        let question = AuthQuestion::MayWatch(caller.clone(), keys.clone());
        let AuthAnswer::May(may) = self.ask(question).await? else {
            return Err(unexpected());
        };
        may.map(|()| caller).map_err(|error| translate::refused(&error))
    }

    /// Answers that a watcher is not created, after whatever there is to say of others.
    fn refuse(&mut self, status: &Status) {
        self.fetch();
        let refusal = translate::watch_denied(&self.node, status);
        self.fetched.push_back(refusal);
    }

    /// Whether there is room for one more watcher.
    fn room(&self) -> Result<(), Status> {
        let limits = &self.node.config().limits;
        if self.watched.count() >= limits.max_watchers_per_stream {
            return Err(Status::resource_exhausted(format!(
                "quorate: this stream has {} watchers, and may not have more (--max-watchers-per-stream)",
                limits.max_watchers_per_stream
            )));
        }
        if self.node.shared().watches.lock().watchers() >= limits.max_watchers {
            return Err(Status::resource_exhausted(format!(
                "quorate: this member has {} watchers, and may not have more (--max-watchers)",
                limits.max_watchers
            )));
        }
        Ok(())
    }

    /// Cancels the watchers of keys that the client may not read any more.
    async fn recheck(&mut self) -> Result<(), Status> {
        self.fetch();
        for (user, keys) in self.watched.by_user() {
            let question = AuthQuestion::Unwatchable(user.clone(), keys);
            let AuthAnswer::Unwatchable(unwatchable) = self.ask(question).await? else {
                return Err(unexpected());
            };
            for (keys, error) in unwatchable {
                let reason = translate::go_error(&translate::refused(&error));
                for id in self.watched.deny(user.as_ref(), &keys, &reason) {
                    self.node.shared().watches.lock().cancel(self.stream, id);
                    // What was fetched before is of a time when it was allowed; it is late all the same.
                    self.fetched
                        .retain(|response| response.watch_id != id.0 || response.created);
                }
            }
        }
        self.fetch();
        Ok(())
    }

    async fn ask(&self, question: AuthQuestion) -> Result<AuthAnswer, Status> {
        Ok(answer!(self.node.read_local(Query::Auth(question)).await?, Auth))
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
