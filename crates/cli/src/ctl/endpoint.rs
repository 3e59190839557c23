//! `endpoint`: what each endpoint says of itself.

use super::connection::{Client, Effect, kv, maintenance};
use super::failure::{Failure, code};
use super::flags::Global;
use super::maintenance::alarms;
use super::member;
use super::print::json::{self, Object};
use super::print::table::Table;
use super::print::text::Text;
use super::print::{Printer, Report};
use crate::duration;
use clap::{Args, Subcommand};
use futures::future::join_all;
use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb::{
    AlarmMember, AlarmType, HashKvRequest, HashKvResponse, RangeRequest, StatusRequest, StatusResponse,
};
use std::ffi::OsString;
use std::io::Write;
use std::time::{Duration, Instant};

/// The arguments of `endpoint`.
#[derive(Args)]
pub(crate) struct Endpoints {
    #[command(subcommand)]
    question: Question,
    /// Ask all members of the cluster, wherever they are
    #[arg(long, global = true)]
    cluster: bool,
}

#[derive(Subcommand)]
enum Question {
    /// Whether it can commit, and how long that takes
    #[command(after_help = "Example:\n  quorate ctl endpoint health --cluster")]
    Health {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// Who it is, and how far
    #[command(after_help = "Example:\n  quorate ctl endpoint status --cluster -w table")]
    Status {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// A hash of its history
    #[command(after_help = "Example:\n  quorate ctl endpoint hashkv --cluster")]
    Hashkv {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
        /// The last revision to hash; 0 is all
        #[arg(
            long,
            value_name = "REVISION",
            default_value_t = 0,
            allow_negative_numbers = true
        )]
        rev: i64,
    },
}

impl Endpoints {
    pub(super) async fn run(&self, flags: &Global, printer: Printer) -> Result<(), Failure> {
        let client = Client::new(flags)?;
        let endpoints = named(&client, self.cluster).await?;
        match &self.question {
            Question::Health { .. } => health(&client, endpoints, printer).await,
            Question::Status { .. } => {
                let ask = async |client: &Client| {
                    let status = async |service| maintenance(service).status(StatusRequest {}).await;
                    client.ask(Effect::Reads, status).await
                };
                let (answers, failures) = each(&client, endpoints, ask).await?;
                for (endpoint, failure) in &failures {
                    say(&format!(
                        "Failed to get the status of endpoint {endpoint} ({failure})"
                    ));
                }
                printer.print(&Statuses(answers))?;
                match failures.is_empty() {
                    true => Ok(()),
                    false => Err(Failure::Silent(code::ERROR)),
                }
            }
            Question::Hashkv { rev, .. } => {
                let request = HashKvRequest { revision: *rev };
                let ask = async |client: &Client| {
                    let hash = async |service| maintenance(service).hash_kv(request).await;
                    client.ask(Effect::Reads, hash).await
                };
                let (answers, failures) = each(&client, endpoints, ask).await?;
                for (endpoint, failure) in &failures {
                    say(&format!(
                        "Failed to get the hash of endpoint {endpoint} ({failure})"
                    ));
                }
                printer.print(&Hashes(answers))?;
                match failures.into_iter().next_back() {
                    None => Ok(()),
                    Some((_, failure)) => Err(failure),
                }
            }
        }
    }
}

/// The endpoints that were given; or those of all members, if `cluster`.
///
/// # Errors
///
/// If the members cannot be asked for.
pub(super) async fn named(client: &Client, cluster: bool) -> Result<Vec<String>, Failure> {
    if !cluster {
        return Ok(client.endpoints());
    }
    let members = member::list(client, true).await;
    let wrap = |text: &str| format!("failed to fetch endpoints from etcd cluster member list: {text}");
    let members = members.map_err(|failure| failure.within(wrap))?.members;
    let mut endpoints = Vec::new();
    for url in members.into_iter().flat_map(|member| member.client_ur_ls) {
        if !endpoints.contains(&url) {
            endpoints.push(url);
        }
    }
    Ok(endpoints)
}

/// Answers and failures, each with the endpoint that it is of.
type Outcomes<T> = (Vec<(String, T)>, Vec<(String, Failure)>);

/// Asks each endpoint; at the same time, so that one that is dead does not keep the others waiting.
///
/// # Errors
///
/// If one of them is no endpoint.
pub(super) async fn each<T>(
    client: &Client,
    endpoints: Vec<String>,
    ask: impl AsyncFn(&Client) -> Result<T, Failure>,
) -> Result<Outcomes<T>, Failure> {
    let clients = endpoints.iter().map(|endpoint| client.at(vec![endpoint.clone()]));
    let clients: Vec<Client> = clients.collect::<Result<_, Failure>>()?;
    let answers = join_all(clients.iter().map(|client| ask(client))).await;
    let mut outcomes = (Vec::new(), Vec::new());
    for (endpoint, answer) in endpoints.into_iter().zip(answers) {
        match answer {
            Ok(answer) => outcomes.0.push((endpoint, answer)),
            Err(failure) => outcomes.1.push((endpoint, failure)),
        }
    }
    Ok(outcomes)
}

/// A line on standard error.
pub(super) fn say(line: &str) {
    // There is no other place to say that standard error is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How one endpoint is.
struct Health {
    endpoint: String,
    took: Duration,
    /// Empty if it is healthy.
    error: String,
}

async fn health(client: &Client, endpoints: Vec<String>, printer: Printer) -> Result<(), Failure> {
    let clients = endpoints.iter().map(|endpoint| client.at(vec![endpoint.clone()]));
    let clients: Vec<Client> = clients.collect::<Result<_, Failure>>()?;
    let healths = join_all(
        clients
            .iter()
            .zip(endpoints)
            .map(|(client, endpoint)| examine(client, endpoint)),
    );
    let healths = Healths(healths.await);
    let unhealthy = || healths.0.iter().filter(|health| !health.error.is_empty());
    if printer.is_simple() {
        for health in unhealthy() {
            let Health { endpoint, error, .. } = health;
            say(&format!(
                "{endpoint} is unhealthy: failed to commit proposal: {error}"
            ));
        }
    }
    printer.print(&healths)?;
    match unhealthy().next() {
        None => Ok(()),
        Some(_) => Err(Failure::error("unhealthy cluster")),
    }
}

async fn examine(client: &Client, endpoint: String) -> Health {
    let started = Instant::now();
    let request = RangeRequest {
        key: "health".into(),
        ..RangeRequest::default()
    };
    let range = async |service| kv(service).range(request.clone()).await;
    let answer = client.ask(Effect::Reads, range).await;
    let took = started.elapsed();
    let error = match answer {
        // Who may not read the key was told so by a leader.
        Err(failure) if failure.message() != EtcdError::PermissionDenied.message() => failure.to_string(),
        Ok(_) | Err(_) => match alarms(client).await {
            Ok(response) if response.alarms.is_empty() => String::new(),
            Ok(response) => {
                let named = response
                    .alarms
                    .iter()
                    .map(alarm_name)
                    .map(|name| format!("{name} "));
                format!("Active Alarm(s): {}", named.collect::<String>())
            }
            Err(_) => "Unable to fetch the alarm list".to_string(),
        },
    };
    Health {
        endpoint,
        took,
        error,
    }
}

/// What an alarm is called.
pub(super) fn alarm_name(alarm: &AlarmMember) -> &'static str {
    AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |alarm| alarm.as_str_name())
}

struct Healths(Vec<Health>);

impl Report for Healths {
    fn simple(&self, text: &mut Text) {
        for health in self.0.iter().filter(|health| health.error.is_empty()) {
            let took = duration::show(health.took);
            let endpoint = &health.endpoint;
            text.line(format_args!(
                "{endpoint} is healthy: successfully committed proposal: took = {took}"
            ));
        }
    }

    fn fields(&self, text: &mut Text) {
        for health in &self.0 {
            text.quoted("Endpoint", health.endpoint.as_bytes());
            text.field("Health", health.error.is_empty());
            text.field("Took", duration::show(health.took));
            text.field("Error", &health.error);
            text.line("");
        }
    }

    fn json(&self, _: bool) -> String {
        json::list(self.0.iter().map(|health| {
            Object::new()
                .always("endpoint", json::text(&health.endpoint))
                .always("health", health.error.is_empty())
                .always("took", json::text(&duration::show(health.took)))
                .text("error", &health.error)
                .end()
        }))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        None
    }

    fn table(&self) -> Option<Table> {
        let row = |health: &Health| {
            vec![
                health.endpoint.clone(),
                health.error.is_empty().to_string(),
                duration::show(health.took),
                health.error.clone(),
            ]
        };
        Some(Table {
            header: vec!["ENDPOINT", "HEALTH", "TOOK", "ERROR"],
            rows: self.0.iter().map(row).collect(),
        })
    }
}

struct Statuses(Vec<(String, StatusResponse)>);

fn status_row(endpoint: &str, status: &StatusResponse) -> Vec<String> {
    let member = status.header.as_ref().map_or(0, |header| header.member_id);
    vec![
        endpoint.to_string(),
        format!("{member:x}"),
        status.version.clone(),
        size(status.db_size),
        (status.leader == member).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

/// A number of bytes for people: three digits and a unit.
fn size(bytes: i64) -> String {
    let bytes = u64::try_from(bytes).unwrap_or_default();
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 1_u64;
    let mut name = 0;
    while bytes / unit >= 1000 && name + 1 < SIZES.len() {
        unit *= 1000;
        name += 1;
    }
    // To a tenth, rounded half up.
    let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
    match tenths {
        0..100 => format!("{}.{} {}", tenths / 10, tenths % 10, SIZES[name]),
        _ => format!("{} {}", rounded(tenths), SIZES[name]),
    }
}

/// Tenths as a whole number, a half to the even one.
fn rounded(tenths: u128) -> u128 {
    let (whole, rest) = (tenths / 10, tenths % 10);
    match rest {
        0..5 => whole,
        5 => whole + whole % 2,
        _ => whole + 1,
    }
}

const SIZES: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

impl Report for Statuses {
    fn simple(&self, text: &mut Text) {
        for (endpoint, status) in &self.0 {
            text.line(status_row(endpoint, status).join(", "));
        }
    }

    fn fields(&self, text: &mut Text) {
        for (endpoint, status) in &self.0 {
            text.header(status.header.as_ref());
            text.quoted("Version", status.version.as_bytes());
            text.field("DBSize", status.db_size);
            text.field("Leader", status.leader);
            text.field("IsLearner", status.is_learner);
            text.field("RaftIndex", status.raft_index);
            text.field("RaftTerm", status.raft_term);
            text.field("RaftAppliedIndex", status.raft_applied_index);
            text.field("Errors", format_args!("[{}]", status.errors.join(" ")));
            text.quoted("Endpoint", endpoint.as_bytes());
            text.line("");
        }
    }

    fn json(&self, _: bool) -> String {
        json::list(self.0.iter().map(|(endpoint, status)| {
            let status = Object::new()
                .header("header", status.header.as_ref())
                .text("version", &status.version)
                .number("dbSize", status.db_size)
                .number("leader", status.leader)
                .number("raftIndex", status.raft_index)
                .number("raftTerm", status.raft_term)
                .number("raftAppliedIndex", status.raft_applied_index)
                .list("errors", status.errors.iter().map(|error| json::text(error)))
                .number("dbSizeInUse", status.db_size_in_use)
                .flag("isLearner", status.is_learner);
            Object::new()
                .always("Endpoint", json::text(endpoint))
                .always("Status", status.end())
                .end()
        }))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        None
    }

    fn table(&self) -> Option<Table> {
        Some(Table {
            header: vec![
                "ENDPOINT",
                "ID",
                "VERSION",
                "DB SIZE",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
            ],
            rows: self
                .0
                .iter()
                .map(|(endpoint, status)| status_row(endpoint, status))
                .collect(),
        })
    }
}

struct Hashes(Vec<(String, HashKvResponse)>);

impl Report for Hashes {
    fn simple(&self, text: &mut Text) {
        for (endpoint, hash) in &self.0 {
            text.line(format_args!("{endpoint}, {}", hash.hash));
        }
    }

    fn fields(&self, text: &mut Text) {
        for (endpoint, hash) in &self.0 {
            text.header(hash.header.as_ref());
            text.quoted("Endpoint", endpoint.as_bytes());
            text.field("Hash", hash.hash);
            text.line("");
        }
    }

    fn json(&self, _: bool) -> String {
        json::list(self.0.iter().map(|(endpoint, hash)| {
            let hash = Object::new()
                .header("header", hash.header.as_ref())
                .number("hash", hash.hash)
                .number("compact_revision", hash.compact_revision);
            Object::new()
                .always("Endpoint", json::text(endpoint))
                .always("HashKV", hash.end())
                .end()
        }))
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        None
    }

    fn table(&self) -> Option<Table> {
        let row = |(endpoint, hash): &(String, HashKvResponse)| vec![endpoint.clone(), hash.hash.to_string()];
        Some(Table {
            header: vec!["ENDPOINT", "HASH"],
            rows: self.0.iter().map(row).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (114, "114 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (6_230_016, "6.2 MB"),
            (82_854_982, "83 MB"),
            (2_147_483_648, "2.1 GB"),
            (-1, "0 B"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
