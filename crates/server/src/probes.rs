//! Whether the member is healthy, as etcd says it: `/health`, and since 3.5.12 `/livez` and `/readyz` with a page for
//! each of their checks.
//!
//! - What is alive is not asked for its peers, so that no probe restarts a member that does what it can.
//! - Unlike etcd's, no check waits for a leader when none is known: a probe is asked again.

use std::fmt::Write;

use axum::Router;
use axum::extract::{Query as UrlQuery, State};
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
use quorate_etcd_api::EtcdError;
use quorate_kv::{Alarm, AlarmKind};
use serde_json::json;
use tonic::Status;

use crate::http::{PageState, error, plain};
use crate::machine::Query;
use crate::node::{Node, answer};
use crate::translate::alarm_name;

/// The pages about health.
pub(crate) fn routes() -> Router<PageState> {
    let mut router = Router::new().route("/health", any(health));
    for page in [LIVEZ, READYZ] {
        let whole = any(
            move |state: State<PageState>, asked: UrlQuery<Vec<Parameter>>| async move {
                let excluded = |check: &&Check| asked.values("exclude").any(|name| name == check.name());
                let checks = page.checks.iter().filter(|check| !excluded(check)).copied();
                page.answer(&state, &asked, checks.collect()).await
            },
        );
        router = router.route(&format!("/{}", page.name), whole);
        for &check in page.checks {
            let one = any(
                move |state: State<PageState>, asked: UrlQuery<Vec<Parameter>>| async move {
                    page.answer(&state, &asked, vec![check]).await
                },
            );
            router = router.route(&format!("/{}/{}", page.name, check.name()), one);
        }
    }
    router
}

/// A name and a value in the query of a URL.
type Parameter = (String, String);

/// What is asked in the query of a URL, where a name may come more than once.
trait Asked {
    /// The values of this name that are not empty.
    fn values(&self, name: &str) -> impl Iterator<Item = &str>;
    /// The first value of this name.
    fn first(&self, name: &str) -> Option<&str>;
}

impl Asked for Vec<Parameter> {
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self
            .iter()
            .filter(move |(n, value)| n == name && !value.is_empty());
        values.map(|(_, value)| value.as_str())
    }

    fn first(&self, name: &str) -> Option<&str> {
        let first = self.iter().find(|(n, _)| n == name);
        first.map(|(_, value)| value.as_str())
    }
}

async fn health(State(state): State<PageState>, UrlQuery(asked): UrlQuery<Vec<Parameter>>) -> Response {
    let (reason, counts) = (
        unhealthy_because(&state.node, &asked).await,
        &state.metrics.health,
    );
    let body = |health: &str, reason: &str| json!({"health": health, "reason": reason}).to_string();
    match reason {
        None => {
            counts.successes.inc();
            plain(StatusCode::OK, body("true", ""))
        }
        Some(reason) => {
            counts.failures.inc();
            error(StatusCode::SERVICE_UNAVAILABLE, &body("false", &reason))
        }
    }
}

async fn unhealthy_because(node: &Node, asked: &Vec<Parameter>) -> Option<String> {
    let failed = |status: Status| format!("RANGE ERROR:{}", status.message());
    let alarms = match alarms(node).await {
        Ok(alarms) => alarms,
        Err(status) => return Some(failed(status)),
    };
    let is_excluded = |name: &str| asked.values("exclude").any(|excluded| excluded == name);
    let names = alarms.iter().map(|alarm| alarm_name(alarm.kind));
    if let Some(name) = names.into_iter().find(|name| !is_excluded(name)) {
        return Some(format!("ALARM {name}"));
    }
    if asked.first("serializable") == Some("true") {
        return None;
    }
    if !node.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    confirm_current(node).await.err().map(failed)
}

/// Whether linearizable reads are answered. A witness has nothing to read: that it knows a leader is all there is.
async fn confirm_current(node: &Node) -> Result<(), Status> {
    if !node.has_leader() {
        return Err(EtcdError::NoLeader.into());
    }
    if node.is_witness() {
        return Ok(());
    }
    node.confirm_current().await
}

async fn alarms(node: &Node) -> Result<Vec<Alarm>, Status> {
    Ok(answer!(node.read_local(Query::Alarms).await?, Alarms))
}

/// A page that says whether some checks are good.
#[derive(Clone, Copy)]
struct Page {
    name: &'static str,
    checks: &'static [Check],
}

/// The process works.
const LIVEZ: Page = Page {
    name: "livez",
    checks: &[Check::SerializableRead],
};

/// The member serves what clients ask for.
const READYZ: Page = Page {
    name: "readyz",
    checks: &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ],
};

impl Page {
    /// What is wrong, if something is; else `ok`, and each check if that is asked for.
    async fn answer(self, state: &PageState, asked: &Vec<Parameter>, checks: Vec<Check>) -> Response {
        let (mut all, mut is_good) = (String::new(), true);
        for check in checks {
            let (name, outcome) = (check.name(), check.run(&state.node).await);
            state.metrics.health.count_check(self.name, name, &outcome);
            let _infallible = match outcome {
                Ok(()) => writeln!(all, "[+]{name} ok"),
                Err(problem) => {
                    is_good = false;
                    writeln!(all, "[-]{name} failed: {problem}")
                }
            };
        }
        if !is_good {
            return error(StatusCode::SERVICE_UNAVAILABLE, &all);
        }
        if asked.first("verbose").is_none() {
            all.clear();
        }
        plain(StatusCode::OK, all + "ok\n")
    }
}

/// Something that is good or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// # Errors
    /// What is wrong.
    async fn run(self, node: &Node) -> Result<(), String> {
        let told = |status: Status| status.message().to_owned();
        match self {
            Check::DataCorruption => {
                let alarms = alarms(node).await.map_err(told)?;
                match alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Check::SerializableRead => node.read_local(Query::Nothing).await.map(drop).map_err(told),
            Check::LinearizableRead => confirm_current(node).await.map_err(told),
            Check::NonLearner if node.is_learner() => Err("not supported for learner".to_owned()),
            Check::NonLearner => Ok(()),
        }
    }
}
