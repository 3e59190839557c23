//! Compares the gateways of two servers, sequence by sequence, and prints what differs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::{Divergence, Pair, Report, Request, brief, known, sequence};
use crate::shrink::shrink;
use crate::{MAX_ATTEMPTS, Options, say, start};

/// What `main` compares with `--gateway`.
pub(crate) async fn compare(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let length = options.length.clamp(1, options.calls.max(1));
    let (mut made, mut passed, mut failed, mut version) = (0, 0, 0, String::new());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut number = options.only.unwrap_or(0);
    while made < options.calls {
        let requests = sequence(options.seed, number, length);
        let report = run(options, &requests, &mut version).await?;
        passed += report.equal;
        made += report.equal + report.known.len();
        for name in report.known {
            *counts.entry(name).or_default() += 1;
        }
        if let Some(divergence) = report.divergence {
            failed += 1;
            let place = divergence.place;
            let head = format!("seed {}, sequence {number}, request {place}", options.seed);
            say(&format!("DIFFERENT: {head}: {}", brief(&requests[place])));
            explain(options, &requests[..=place], divergence).await;
        }
        let seconds = started.elapsed().as_secs();
        eprintln!("sequence {number}: {passed} of {made} requests alike, {failed} failed, {seconds} s");
        if options.only.is_some() || failed >= options.max_failures {
            break;
        }
        number += 1;
    }
    say(&format!("Known differences to the gateway of etcd {version}:"));
    for (name, what) in known::of_version(&version) {
        let count = counts.get(name).copied().unwrap_or(0);
        say(&format!("  {name}, {count} requests: {what}"));
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Sends requests to two fresh servers.
async fn run(options: &Options, requests: &[Request], version: &mut String) -> Result<Report> {
    let (servers, pair) = start(options).await?;
    pair.etcd_version().clone_into(version);
    let mut gateways = Pair::connect(servers[0].endpoint(), servers[1].endpoint()).await?;
    gateways.run(requests, version).await
}

/// Prints the requests that a difference needs, and both answers.
async fn explain(options: &Options, requests: &[Request], first: Divergence) {
    let mut last = None;
    let wanted = requests.last().map(brief);
    let short = shrink(requests.to_vec(), MAX_ATTEMPTS, async |requests: &[Request]| {
        let report = run(options, requests, &mut String::new()).await;
        let divergence = report.ok().and_then(|report| report.divergence);
        // Another request may differ where what came before it is left out.
        let found = divergence.filter(|found| requests.get(found.place).map(brief) == wanted);
        let fails = found.is_some();
        last = found.or(last.take());
        fails
    })
    .await;
    match last.is_some() {
        true => say(&format!("It needs these {} requests:", short.len())),
        false => say("It did not come again with fewer requests."),
    }
    if last.is_some() {
        let skipped = short.len().saturating_sub(SHOWN_REQUESTS);
        if skipped > 0 {
            say(&format!("  ... {skipped} that are not shown"));
        }
        for request in &short[skipped..] {
            say(&format!("  {}", brief(request)));
        }
    }
    let Divergence { etcd, quorate, .. } = last.unwrap_or(first);
    say(&format!("  etcd:    {etcd}\n  quorate: {quorate}"));
}

/// How many requests are printed, the last ones, when a difference needs more.
const SHOWN_REQUESTS: usize = 40;
