//! The JSON gateway of both servers, and through it the services that only it and gRPC share: locks and
//! elections. The same bodies are sent to the same paths; the HTTP status and the JSON that comes back are
//! compared.
//!
//! - Bodies hold symbols ([`symbols`]) for revisions, picked leases, held locks and led elections.
//! - A body may be wrong: cut short, of a wrong type, with fields that nobody knows. How a parser words its
//!   complaint is its own business, the status is not.
//! - A sequence ends early when one server has done what the other is known to refuse: from there on they hold
//!   different things. Sequences are drawn until there were as many requests as are asked for.
//! - Streams that go on (watch, observe, snapshot) are not asked for.

mod answer;
mod client;
mod draw;
mod known;
mod logins;
mod methods;
pub(crate) mod run;
mod sessions;
mod symbols;

use anyhow::{Context, Result};

use self::answer::Answer;
use self::client::{Client, Question};
use self::known::{KNOWN, Known, NotAsked};
use self::symbols::Symbols;
use crate::rng::Rng;

/// A request by HTTP.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    path: String,
    /// Whether letters of the path are sent as `%65`.
    is_escaped: bool,
    /// What goes with it to say who asks, or a symbol for it.
    token: Option<&'static str>,
    /// With symbols in it.
    body: String,
}

impl Request {
    /// By whoever has this token.
    fn post(path: &str, token: Option<&'static str>, body: String) -> Request {
        Request {
            method: "POST",
            path: format!("/v3/{path}"),
            is_escaped: false,
            token,
            body,
        }
    }

    /// The path as it is sent.
    fn sent_path(&self) -> String {
        match self.is_escaped {
            true => self.path.replace('e', "%65").replacen("v3/", "%763%2F", 1),
            false => self.path.clone(),
        }
    }

    /// The path without a query.
    fn plain_path(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// Whether it may change what a server holds.
    fn writes(&self) -> bool {
        let reads = [
            "range",
            "hash",
            "hashkv",
            "status",
            "list",
            "get",
            "leases",
            "timetolive",
            "leader",
        ];
        let last = self.plain_path().trim_end_matches('/').rsplit('/').next();
        self.method == "POST" && !last.is_some_and(|last| reads.contains(&last))
    }

    /// Whether it is proposed as a change of members, whatever comes of it.
    fn changes_members(&self) -> bool {
        let changes = ["/member/remove", "/member/update", "/member/promote"];
        changes.iter().any(|it| self.path.contains(it))
    }
}

/// The requests of the sequence `number` under `seed`.
fn sequence(seed: u64, number: u64, length: usize) -> Vec<Request> {
    let mut rng = Rng::new(seed, number);
    let mut requests = Vec::new();
    while requests.len() < length {
        match rng.below(120) {
            0..10 => requests.extend(sessions::draw(&mut rng)),
            10 => requests.extend(logins::draw(&mut rng)),
            _ => {
                let request = draw::request(&mut rng);
                let mut before = requests.iter().rev().take(MEMBERS_APART);
                if !request.changes_members() || !before.any(Request::changes_members) {
                    requests.push(request);
                }
            }
        }
    }
    requests
}

/// How many requests there are between two changes of members: etcd may leave one unanswered that follows another
/// at once.
const MEMBERS_APART: usize = 8;

/// How a sequence went.
#[derive(Debug, Default)]
struct Report {
    /// Requests that were answered alike.
    equal: usize,
    /// Requests whose answers differ as is known and said.
    known: Vec<&'static str>,
    /// The first request whose answers differ otherwise.
    divergence: Option<Divergence>,
}

/// A request that was answered in two ways.
#[derive(Clone, Debug)]
struct Divergence {
    /// The place of the request in its sequence.
    place: usize,
    etcd: String,
    quorate: String,
}

/// Two servers that have been asked the same.
struct Pair {
    etcd: Side,
    quorate: Side,
}

struct Side {
    client: Client,
    symbols: Symbols,
}

impl Pair {
    /// Asks two servers that hold nothing, and serve.
    async fn connect(etcd: &str, quorate: &str) -> Result<Pair> {
        Ok(Pair {
            etcd: Side::connect(etcd).await.context("etcd")?,
            quorate: Side::connect(quorate).await.context("quorate")?,
        })
    }

    /// Sends requests until two answers differ.
    async fn run(&mut self, requests: &[Request], version: &str) -> Result<Report> {
        let mut report = Report::default();
        for (place, request) in requests.iter().enumerate() {
            let (etcd, quorate) = if NotAsked::may_be(request) {
                let quorate = self.quorate.ask(request).await.context("quorate")?;
                if let Some(name) = NotAsked::of(request, &quorate, version) {
                    report.known.push(name);
                    continue;
                }
                (self.etcd.ask(request).await.context("etcd")?, quorate)
            } else {
                let (etcd, quorate) = tokio::join!(self.etcd.ask(request), self.quorate.ask(request));
                (etcd.context("etcd")?, quorate.context("quorate")?)
            };
            if etcd == quorate && quorate.is_one() {
                report.equal += 1;
                continue;
            }
            let covers = |known: &&Known| known.covers(request, [&etcd, &quorate], version);
            let known = KNOWN.iter().find(covers).filter(|_| quorate.is_one());
            let Some(known) = known else {
                let (etcd, quorate) = (etcd.text(), quorate.text());
                report.divergence = Some(Divergence { place, etcd, quorate });
                break;
            };
            report.known.push(known.name);
            if etcd.is_success() != quorate.is_success() && request.writes() {
                // One has done what the other has not: from here on they hold different things.
                break;
            }
        }
        Ok(report)
    }
}

impl Side {
    async fn connect(endpoint: &str) -> Result<Side> {
        let client = Client::new(endpoint)?;
        let question = Question {
            method: "POST",
            path: "/v3/cluster/member/list",
            token: None,
            body: "{}".to_owned(),
        };
        let list = client.send(&question).await?;
        let symbols = Symbols::of(&Answer::new(&list)).context("no member list came")?;
        Ok(Side { client, symbols })
    }

    async fn ask(&mut self, request: &Request) -> Result<Answer> {
        let question = Question {
            method: request.method,
            path: &request.sent_path(),
            token: request.token.and_then(|token| self.symbols.token(token)),
            body: self.symbols.fill(&request.body),
        };
        let mut answer = Answer::new(&self.client.send(&question).await?);
        self.symbols.learn(request.plain_path(), &question.body, &answer);
        answer.normalize(request.plain_path(), &self.symbols);
        Ok(answer)
    }
}

/// A request on a line.
fn brief(request: &Request) -> String {
    let token = request
        .token
        .map(|token| format!(" ({token})"))
        .unwrap_or_default();
    format!(
        "{}{token} {} {}",
        request.method,
        request.sent_path(),
        request.body
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_the_same_each_time_it_is_drawn() {
        let text = |seed, number| format!("{:?}", sequence(seed, number, 200));
        assert_eq!(text(1, 1), text(1, 1));
        assert_ne!(text(1, 1), text(1, 2));
    }

    #[test]
    fn every_method_is_asked() {
        let requests = sequence(1, 1, 10_000);
        for path in methods::paths().chain(sessions::PATHS.iter().copied()) {
            assert!(requests.iter().any(|request| request.path == path), "{path}");
        }
    }
}
