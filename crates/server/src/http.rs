//! The HTTP pages beside gRPC: health, version and metrics, as etcd serves them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query as UrlQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use quorate_kv::{Alarm, AlarmKind};
use serde::Deserialize;
use serde_json::json;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::listener::Answers;
use crate::machine::Query;
use crate::metrics::Metrics;
use crate::node::{Node, answer};
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
        Pages(
            Router::new()
                .route("/health", get(health))
                .route("/livez", get(livez))
                .route("/readyz", get(readyz))
                .route("/version", get(version))
                .route("/metrics", get(metrics_page))
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

#[derive(Clone)]
struct PageState {
    node: Arc<Node>,
    metrics: Arc<Metrics>,
}

#[derive(Deserialize)]
struct HealthQuery {
    /// Kinds of alarms that do not make the member unhealthy.
    #[serde(default)]
    exclude: String,
    /// Whether a local read suffices.
    #[serde(default)]
    serializable: String,
}

#[derive(Deserialize)]
struct ProbeQuery {
    /// Whether the check is to be named; only that it is there counts.
    verbose: Option<String>,
}

async fn health(State(state): State<PageState>, UrlQuery(query): UrlQuery<HealthQuery>) -> Response {
    match unhealthy_because(&state.node, &query).await {
        None => health_answer(StatusCode::OK, "true", ""),
        Some(reason) => health_answer(StatusCode::SERVICE_UNAVAILABLE, "false", &reason),
    }
}

fn health_answer(status: StatusCode, health: &str, reason: &str) -> Response {
    let body = json!({"health": health, "reason": reason});
    (status, axum::Json(body)).into_response()
}

async fn unhealthy_because(node: &Node, query: &HealthQuery) -> Option<String> {
    let alarms = match alarms(node).await {
        Ok(alarms) => alarms,
        Err(status) => return Some(format!("RANGE ERROR:{}", status.message())),
    };
    for alarm in alarms {
        let name = alarm_name(alarm.kind);
        if query.exclude != name {
            return Some(format!("ALARM {name}"));
        }
    }
    if query.serializable == "true" {
        return None;
    }
    if !node.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    if node.is_witness() {
        // It knows a leader, and has nothing to read.
        return None;
    }
    let read = node.confirm_current().await;
    read.err()
        .map(|status| format!("RANGE ERROR:{}", status.message()))
}

async fn alarms(node: &Node) -> Result<Vec<Alarm>, tonic::Status> {
    Ok(answer!(node.read_local(Query::Alarms).await?, Alarms))
}

fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// The process works: peers are not asked, so that no probe restarts a healthy member.
async fn livez(State(state): State<PageState>, UrlQuery(query): UrlQuery<ProbeQuery>) -> Response {
    probe(alarms(&state.node).await.map(drop), "serializable_read", &query)
}

/// The member serves linearizable requests.
async fn readyz(State(state): State<PageState>, UrlQuery(query): UrlQuery<ProbeQuery>) -> Response {
    // Nothing to wait for: a probe is asked again.
    let outcome = match state.node.has_leader() {
        true if state.node.is_witness() => Ok(()),
        true => state.node.confirm_current().await,
        false => Err(quorate_etcd_api::EtcdError::NoLeader.into()),
    };
    probe(outcome, "linearizable_read", &query)
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

/// `ok` or what is wrong; with `verbose`, the check by its name and sign.
fn probe(outcome: Result<(), tonic::Status>, check: &str, query: &ProbeQuery) -> Response {
    let verbose = query.verbose.is_some();
    match outcome {
        Ok(()) if verbose => (StatusCode::OK, format!("[+]{check} ok\nok\n")).into_response(),
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(status) if verbose => unavailable(format!("[-]{check} failed: {}\n", status.message())),
        Err(status) => unavailable(format!("{}\n", status.message())),
    }
}

fn unavailable(text: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
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

async fn metrics_page(State(state): State<PageState>) -> Response {
    let figures = match state.node.read_local(Query::Figures).await {
        Ok(answer) => answer!(answer, Figures),
        Err(status) => return unavailable(format!("{}\n", status.message())),
    };
    let text = state.metrics.encode(&state.node, &figures);
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
