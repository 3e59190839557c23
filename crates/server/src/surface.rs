//! What a client reaches: each request goes by its path to the gRPC service or HTTP page it names.
//!
//! - Calls are counted here, and nowhere else; those of the gateway come back here as if they had come by gRPC.
//! - A call passes the gate before its service sees it: see [`crate::rpc::Demand`].
//! - A call that requires a leader is refused here while there is none.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::auth_server::AuthServer;
use quorate_etcd_api::etcdserverpb::cluster_server::ClusterServer;
use quorate_etcd_api::etcdserverpb::kv_server::KvServer;
use quorate_etcd_api::etcdserverpb::lease_server::LeaseServer;
use quorate_etcd_api::etcdserverpb::maintenance_server::MaintenanceServer;
use quorate_etcd_api::etcdserverpb::watch_server::WatchServer;
use quorate_etcd_api::v3electionpb::election_server::ElectionServer;
use quorate_etcd_api::v3lockpb::lock_server::LockServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::auth::{Ended, Record, Session, Who, is_audited};
use crate::call::{Call, status_of};
use crate::gateway::{BodyLimits, Gateway};
use crate::http::Pages;
use crate::node::Node;
use crate::reflection::Reflection;
use crate::rpc::{Method, Methods, ServiceName};
use crate::services::{Auth, Cluster, Election, Kv, Lease, Lock, Maintenance, Queues, Watch};
use crate::web::allow_origin;

/// All services of the client port.
pub(crate) struct Surface {
    node: Arc<Node>,
    methods: Methods,
    kv: KvServer<Kv>,
    watch: WatchServer<Watch>,
    lease: LeaseServer<Lease>,
    cluster: ClusterServer<Cluster>,
    maintenance: MaintenanceServer<Maintenance>,
    auth: AuthServer<Auth>,
    lock: LockServer<Lock>,
    election: ElectionServer<Election>,
    health: HealthServer<HealthService>,
    reflection: Reflection,
    gateway: Gateway,
    pages: Pages,
}

impl Surface {
    /// The services over `node`.
    pub(crate) fn new(node: &Arc<Node>, methods: Methods, health: HealthService, pages: Pages) -> Surface {
        let limit = node.config().limits.max_message_bytes();
        let node = Arc::clone(node);
        let lease = Arc::new(Lease::new(&node));
        let queues = Queues::new(&node, &lease);
        Surface {
            kv: KvServer::new(Kv::new(&node)).max_decoding_message_size(limit),
            watch: WatchServer::new(Watch::new(&node)).max_decoding_message_size(limit),
            lease: LeaseServer::from_arc(lease),
            cluster: ClusterServer::new(Cluster::new(&node)),
            maintenance: MaintenanceServer::new(Maintenance::new(&node)),
            auth: AuthServer::new(Auth::new(&node)),
            lock: LockServer::new(Lock::new(queues.clone())).max_decoding_message_size(limit),
            election: ElectionServer::new(Election::new(&node, queues)).max_decoding_message_size(limit),
            health: HealthServer::new(health),
            reflection: Reflection::new(),
            // Bytes are longer in base64 by a third, and there are names around them.
            gateway: Gateway::new(BodyLimits {
                max_bytes: limit.saturating_mul(2),
                patience: node.config().client_patience,
            }),
            pages,
            methods,
            node,
        }
    }

    /// Answers one request.
    pub(crate) fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering {
        let path = request.uri().path();
        if request.version() < Version::HTTP_2 {
            // gRPC is spoken by HTTP/2 only: over another, etcd has no such page.
            return Answering::uncounted(self.answer_web(request));
        }
        if let Some(method) = self.methods.find(path) {
            return self.answer_call(method, request.map(Body::new));
        }
        Answering::uncounted(if is_grpc(request.headers()) {
            unknown_method(path)
        } else {
            self.answer_web(request)
        })
    }

    /// Answers a request that a browser could have made.
    fn answer_web(self: &Arc<Self>, request: Request<Incoming>) -> Inner {
        let web = &self.node.config().web;
        let origin = web.allowed_origin(request.headers());
        let answer: Inner = if let Some(response) = web.turn_away(&request) {
            Box::pin(std::future::ready(Ok(response)))
        } else if web.gateway && self.gateway.is_for(request.uri().path()) {
            self.gateway.answer(InProcess(Arc::clone(self)), request)
        } else {
            self.pages.answer(request)
        };
        match origin {
            None => answer,
            Some(origin) => Box::pin(async move {
                let mut response = answer.await?;
                allow_origin(&mut response, origin);
                Ok(response)
            }),
        }
    }

    fn answer_call(self: &Arc<Self>, method: &Arc<Method>, request: Request<Body>) -> Answering {
        let call = Call::begin(method, request.headers());
        let request = call.receive(request);
        let inner = if self.lacks_required_leader(request.headers()) {
            refusal(EtcdError::NoLeader.into())
        } else if needs_data(method.service) && self.node.is_witness() {
            refusal(Status::failed_precondition(
                "quorate: this member is a witness: it votes and keeps no data; ask another member",
            ))
        } else if self
            .node
            .guards(method.demand, request.headers(), request.extensions())
            || is_audited(method.demand)
        {
            self.guarded(method, request)
        } else {
            self.call(method.service, request)
        };
        Answering {
            inner,
            call: Some(call),
        }
    }

    /// Calls a service on behalf of somebody, if that will do for the method.
    fn guarded(self: &Arc<Self>, method: &Method, mut request: Request<Body>) -> Inner {
        let (surface, service, demand) = (Arc::clone(self), method.service, method.demand);
        Box::pin(async move {
            let evidence = surface.node.evidence(request.headers(), request.extensions());
            let admitted = surface.node.admit(demand, &evidence).await;
            let call = request.uri().path().to_owned();
            let who = Who::of(admitted.as_ref().ok(), request.extensions());
            let record = Arc::new(Record::new(call, who, demand));
            let caller = match admitted {
                Ok(caller) => caller,
                Err(status) => {
                    record.end(Ended::Refused(status.code()));
                    return Ok(status.into_http());
                }
            };
            let session = Session::new(caller, evidence, Arc::clone(&record));
            request.extensions_mut().insert(session);
            let response = surface.call(service, request).await?;
            let code = status_of(response.headers()).unwrap_or(Code::Ok);
            record.end(Ended::Served(code));
            Ok(response)
        })
    }

    fn call(&self, service: ServiceName, request: Request<Body>) -> Inner {
        match service {
            ServiceName::Kv => self.kv.clone().call(request),
            ServiceName::Watch => self.watch.clone().call(request),
            ServiceName::Lease => self.lease.clone().call(request),
            ServiceName::Cluster => self.cluster.clone().call(request),
            ServiceName::Maintenance => self.maintenance.clone().call(request),
            ServiceName::Auth => self.auth.clone().call(request),
            ServiceName::Lock => self.lock.clone().call(request),
            ServiceName::Election => self.election.clone().call(request),
            ServiceName::Health => self.health.clone().call(request),
            ServiceName::Reflection => self.reflection.answer_v1(request),
            ServiceName::ReflectionAlpha => self.reflection.answer_v1alpha(request),
        }
    }

    /// Clients that would rather fail than wait for a leader say so (`WithRequireLeader`).
    fn lacks_required_leader(&self, headers: &HeaderMap) -> bool {
        headers.get("hasleader").is_some_and(|value| value == "true") && !self.node.has_leader()
    }
}

/// The surface as it is called from within this process.
#[derive(Clone)]
pub(crate) struct InProcess(Arc<Surface>);

impl Service<Request<Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let path = request.uri().path();
        match self.0.methods.find(path) {
            Some(method) => self.0.answer_call(method, request),
            None => Answering::uncounted(unknown_method(path)),
        }
    }
}

/// How tonic's services answer.
pub(crate) type Inner = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// A response on its way, counted when it is there.
pub(crate) struct Answering {
    inner: Inner,
    call: Option<Call>,
}

impl Answering {
    pub(crate) fn uncounted(inner: Inner) -> Answering {
        Answering { inner, call: None }
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match ready!(self.inner.as_mut().poll(context)) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        Poll::Ready(Ok(match self.call.take() {
            Some(call) => call.respond(response),
            None => response,
        }))
    }
}

/// Whether a service is about what a witness does not keep.
fn needs_data(service: ServiceName) -> bool {
    match service {
        ServiceName::Kv | ServiceName::Watch | ServiceName::Lease | ServiceName::Auth => true,
        ServiceName::Lock | ServiceName::Election => true,
        ServiceName::Cluster | ServiceName::Maintenance | ServiceName::Health => false,
        ServiceName::Reflection | ServiceName::ReflectionAlpha => false,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn unknown_method(path: &str) -> Inner {
    refusal(Status::unimplemented(format!("unknown method {path}")))
}

fn refusal(status: Status) -> Inner {
    Box::pin(std::future::ready(Ok(status.into_http())))
}
