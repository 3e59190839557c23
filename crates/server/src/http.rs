//! The HTTP pages beside gRPC: health, version and metrics, as etcd serves them.
//!
//! All but `/metrics` are for `GET` alone, as in etcd. `/debug/vars` and `/debug/pprof` are not here: they tell of Go's
//! memory, and the first one of the command line.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as PageRequest, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::listener::Answers;
use crate::machine::{Figures, Query};
use crate::metrics::{Format, Metrics};
use crate::node::{Node, answer};
use crate::probes;
use crate::surface::{Answering, Inner};
use crate::{CLUSTER_VERSION, ETCD_VERSION};

/// The HTTP pages.
#[derive(Clone)]
pub(crate) struct Pages(Router);

impl Pages {
    /// The pages of `node`.
    pub(crate) fn new(node: &Arc<Node>, metrics: &Arc<Metrics>) -> Pages {
        let state = PageState {
            node: Arc::clone(node),
            metrics: Arc::clone(metrics),
        };
        let for_get = probes::routes().route("/version", any(version));
        Pages(
            for_get
                .route_layer(from_fn(only_get))
                .route("/metrics", any(metrics_page))
                .fallback(not_found)
                .with_state(state),
        )
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: Request<Incoming>) -> Inner {
        let answer = self.0.clone().call(request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            Ok(response.map(Body::new))
        })
    }
}

/// The pages alone, on a port of their own.
impl Answers for Pages {
    fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering {
        Answering::uncounted(Pages::answer(self, request))
    }
}

/// What pages are made of.
#[derive(Clone)]
pub(crate) struct PageState {
    pub(crate) node: Arc<Node>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A page that is text.
pub(crate) fn plain(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, PLAIN)], text).into_response()
}

/// A page that says what is wrong, as Go writes such pages.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    let headers = [(CONTENT_TYPE, PLAIN), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, format!("{text}\n")).into_response()
}

async fn only_get(request: PageRequest, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    let refusal = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    ([(ALLOW, "GET")], refusal).into_response()
}

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

async fn version(State(state): State<PageState>) -> Response {
    let cluster = if state.node.has_leader() {
        CLUSTER_VERSION
    } else {
        "not_decided"
    };
    let body = json!({
        "etcdserver": ETCD_VERSION,
        "etcdcluster": cluster,
        "quorate": env!("CARGO_PKG_VERSION"),
    });
    axum::Json(body).into_response()
}

async fn metrics_page(State(state): State<PageState>, headers: HeaderMap) -> Response {
    // Several headers of a name are one list (RFC 9110, 5.3).
    let accept = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    // A member that is busy, as with taking over a snapshot, tells at least the rest.
    let figures = tokio::time::timeout(FIGURES_PATIENCE, figures(&state.node)).await;
    let page = state
        .metrics
        .page(&state.node, figures.ok().flatten().as_ref(), format);
    ([(CONTENT_TYPE, format.content_type())], page).into_response()
}

async fn figures(node: &Node) -> Option<Figures> {
    let answer = node.read_local(Query::Figures).await.ok()?;
    Some(answer!(answer, Figures))
}

const PLAIN: &str = "text/plain; charset=utf-8";
const FIGURES_PATIENCE: Duration = Duration::from_secs(1);
