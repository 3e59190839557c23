//! `quorate-diff`: the same calls to a real etcd and to Quorate, and the answers side by side.
//!
//! - A sequence of calls is drawn from a seed (`generate`), made of two fresh servers in step (`pair`), and
//!   each pair of outcomes is compared field by field (`outcome`).
//! - Watchers are compared by what each was told, in order; how a server puts events into responses is its
//!   own business.
//! - Where two outcomes differ, the sequence is made short (`shrink`) and printed.
//! - Differences that are meant are listed in `known`, by version of etcd, and counted.
//!
//! It leaves out what depends on time, when leases end above all, and clusters of more than one member:
//! those are for the simulator and the torture runs.

mod ask;
mod ask_auth;
mod call;
mod gateway;
mod generate;
mod known;
mod outcome;
mod pair;
mod rng;
mod server;
mod shrink;
mod subject;
mod token;
mod watches;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use call::Call;
use clap::Parser;
use known::known;
use pair::{Divergence, Pair, Report, Watches};
use server::{Kind, Server};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  quorate-diff --etcd /usr/bin/etcd --quorate target/release/quorate --calls 5000
  quorate-diff --etcd /usr/bin/etcd --quorate target/release/quorate --seed 7 --only 12
  quorate-diff --etcd /usr/bin/etcd --quorate target/release/quorate --auth --calls 5000
  quorate-diff --etcd /usr/bin/etcd --quorate target/release/quorate --gateway --calls 5000
  quorate-diff --endpoints-a http://127.0.0.1:2379 --endpoints-b http://127.0.0.1:12379";

/// Sends the same calls to a real etcd and to Quorate, and compares the answers field by field.
///
/// Both are started for each sequence of calls, alone, with empty directories. A difference is made short
/// and printed; the last line is `N passed, N failed`, calls that were answered alike and sequences that
/// were not.
#[derive(Parser)]
#[command(name = "quorate-diff", version, after_help = EXAMPLES)]
struct Options {
    /// The etcd to compare with
    #[arg(long, value_name = "FILE", required_unless_present = "endpoints_a")]
    etcd: Option<PathBuf>,
    /// The Quorate to compare
    #[arg(long, value_name = "FILE", required_unless_present = "endpoints_a")]
    quorate: Option<PathBuf>,
    /// An etcd that runs and holds nothing, in place of --etcd; there is one sequence then
    #[arg(long, value_name = "URL", requires = "endpoints_b", conflicts_with = "etcd")]
    endpoints_a: Option<String>,
    /// A Quorate that runs and holds nothing, in place of --quorate
    #[arg(
        long,
        value_name = "URL",
        requires = "endpoints_a",
        conflicts_with = "quorate"
    )]
    endpoints_b: Option<String>,
    /// What the calls are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many calls are made
    #[arg(long, value_name = "N", default_value_t = 5000)]
    calls: usize,
    /// How many calls a sequence has
    #[arg(long, value_name = "N", default_value_t = 500)]
    length: usize,
    /// Makes the sequence of this number only
    #[arg(long, value_name = "N")]
    only: Option<u64>,
    /// Compares users, roles and rights: authentication is on, and who calls changes
    #[arg(long)]
    auth: bool,
    /// Compares the JSON gateways, and through them locks and elections
    #[arg(long, conflicts_with_all = ["auth", "endpoints_a"])]
    gateway: bool,
    /// Ends after so many sequences that failed
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_failures: usize,
}

impl Options {
    fn watches(&self) -> Watches {
        if self.auth || self.gateway {
            Watches::Not
        } else {
            Watches::Compared
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    // The servers end when what owns them is dropped.
    tokio::select! {
        outcome = compare(&options) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// What has been found so far.
#[derive(Default)]
struct Totals {
    passed: usize,
    failed: usize,
    known: BTreeMap<&'static str, usize>,
    version: String,
}

async fn compare(options: &Options) -> Result<ExitCode> {
    if options.gateway {
        return gateway::run::compare(options).await;
    }
    let started = Instant::now();
    let length = match options.endpoints_a {
        Some(_) => options.calls,
        None => options.length.clamp(1, options.calls.max(1)),
    };
    let count = u64::try_from(options.calls.div_ceil(length.max(1)))?;
    let numbers = match options.only {
        Some(only) => only..only + 1,
        None => 0..count,
    };
    let mut totals = Totals::default();
    for number in numbers {
        let calls = if options.auth {
            generate::auth::sequence(options.seed, number, length)
        } else {
            generate::sequence(options.seed, number, length)
        };
        let report = run(options, &calls, &mut totals.version).await?;
        totals.passed += report.equal;
        for name in report.known {
            *totals.known.entry(name).or_default() += 1;
        }
        if let Some(divergence) = report.divergence {
            totals.failed += 1;
            explain(options, number, calls, divergence).await?;
            if totals.failed >= options.max_failures {
                break;
            }
        }
        let seconds = started.elapsed().as_secs();
        eprintln!(
            "sequence {number}: {} calls alike, {} failed, {seconds} s",
            totals.passed, totals.failed
        );
    }
    print(&totals);
    Ok(match totals.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Makes calls of two servers that hold nothing.
async fn run(options: &Options, calls: &[Call], version: &mut String) -> Result<Report> {
    let (_servers, mut pair) = match (&options.endpoints_a, &options.endpoints_b) {
        (Some(etcd), Some(quorate)) => (None, Pair::connect(etcd, quorate, options.watches()).await?),
        _ => {
            let (servers, pair) = start(options).await?;
            (Some(servers), pair)
        }
    };
    pair.etcd_version().clone_into(version);
    Ok(pair.run(calls).await)
}

/// Starts both servers; again, if one of them ends at once, since another process may have taken a port
/// that was free.
async fn start(options: &Options) -> Result<([Server; 2], Pair)> {
    let (Some(etcd), Some(quorate)) = (&options.etcd, &options.quorate) else {
        bail!("name two binaries, or two endpoints");
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let mut servers = [
            Server::start(Kind::Etcd, etcd)?,
            Server::start(Kind::Quorate, quorate)?,
        ];
        let pair = Pair::connect(servers[0].endpoint(), servers[1].endpoint(), options.watches()).await;
        let ended = servers.iter_mut().try_for_each(Server::check_running);
        match (pair, ended) {
            (Ok(pair), Ok(())) => return Ok((servers, pair)),
            (_, Err(error)) | (Err(error), _) if tries >= MAX_TRIES => return Err(error),
            _ => {}
        }
    }
}

/// Prints a divergence, after the calls that it needs.
async fn explain(options: &Options, number: u64, calls: Vec<Call>, first: Divergence) -> Result<()> {
    let place = first.place.min(calls.len().saturating_sub(1));
    say(&format!(
        "DIFFERENT: seed {}, sequence {number}, call {place}: {}",
        options.seed,
        brief(&calls[place])
    ));
    if options.endpoints_a.is_some() {
        say(&sides(&first));
        return Ok(());
    }
    let mut last = None;
    // Who may do what is settled by the first calls: they stay.
    let stage = if options.auth { generate::auth::stage() } else { 0 };
    let (stage, until) = calls[..=place].split_at(stage.min(place));
    let short = shrink::shrink(until.to_vec(), MAX_ATTEMPTS, async |calls: &[Call]| {
        let report = run(options, &[stage, calls].concat(), &mut String::new()).await;
        let divergence = report.ok().and_then(|report| report.divergence);
        let fails = divergence.is_some();
        last = divergence.or(last.take());
        fails
    })
    .await;
    match &last {
        Some(_) if stage.is_empty() => say(&format!("It needs these {} calls:", short.len())),
        Some(_) => say(&format!(
            "It needs these {} calls, after the first {}:",
            short.len(),
            stage.len()
        )),
        None => say(&format!(
            "It did not come again with fewer than these {} calls:",
            short.len()
        )),
    }
    if last.is_some() || short.len() < 50 {
        short.iter().for_each(|call| say(&format!("  {}", brief(call))));
    }
    say(&sides(&last.unwrap_or(first)));
    Ok(())
}

/// Both sides, with only those lines of long ones that differ.
fn sides(divergence: &Divergence) -> String {
    let (etcd, quorate): (Vec<&str>, Vec<&str>) = (
        divergence.etcd.lines().collect(),
        divergence.quorate.lines().collect(),
    );
    let same = etcd.iter().zip(&quorate).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(CONTEXT_LINES);
    let show = |lines: &[&str]| {
        let shown = lines.iter().skip(from).take(SHOWN_LINES);
        shown.map(|line| format!("    {line}\n")).collect::<String>()
    };
    let skipped = match from {
        0 => String::new(),
        _ => format!("  the first {from} lines are equal\n"),
    };
    format!("{skipped}  etcd:\n{}  quorate:\n{}", show(&etcd), show(&quorate))
}

/// A call on a line, without the fields that say nothing.
fn brief(call: &Call) -> String {
    let text = SILENT
        .iter()
        .fold(format!("{call:?}"), |text, silent| text.replace(silent, ""));
    match text.char_indices().nth(2000) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn print(totals: &Totals) {
    say(&format!("Known differences to etcd {}:", totals.version));
    for known in known().filter(|known| known.is_of(&totals.version)) {
        let count = totals.known.get(known.name).copied().unwrap_or(0);
        say(&format!("  {}, {count} calls: {}", known.name, known.what));
    }
    say(&format!("{} passed, {} failed", totals.passed, totals.failed));
}

#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}

/// How fields look that have their defaults.
const SILENT: &[&str] = &[
    ", limit: 0",
    ", revision: Exactly(0)",
    ", sort_order: 0",
    ", sort_target: 0",
    ", serializable: false",
    ", keys_only: false",
    ", count_only: false",
    ", min_mod: Exactly(0)",
    ", max_mod: Exactly(0)",
    ", min_create: Exactly(0)",
    ", max_create: Exactly(0)",
    ", range_end: b\"\"",
    ", lease: Id(0)",
    ", prev_kv: false",
    ", ignore_value: false",
    ", ignore_lease: false",
];

/// How often two servers are started before it is given up.
const MAX_TRIES: usize = 5;

/// How many shorter sequences are tried for a failure.
const MAX_ATTEMPTS: usize = 150;

const CONTEXT_LINES: usize = 8;
const SHOWN_LINES: usize = 40;
