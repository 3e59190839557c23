//! `quorate bench`: how fast a running cluster answers, over the same gRPC API that clients use.
//!
//! - Closed loop by default: each client sends its next request when the last one was answered.
//!   With `--rate` requests are due at fixed instants and latency counts from the instant a
//!   request was due, so that a stall is not hidden by the requests it kept from being sent.
//! - A failed request is counted and reported, never part of the latencies, never sent again; one is
//!   enough for exit code 1.
//! - A connection whose node is gone moves on to the next endpoint.
//!
//! It leaves out warming up and comparing runs: quote ratios of figures from one machine and hour.

mod connection;
mod load;
mod report;

use crate::args::positive;
use crate::bench::load::{Load, Operation, Outcome};
use crate::endpoint::TlsFlags;
use crate::login::LoginFlags;
use crate::output;
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use std::num::NonZeroU64;

/// The arguments of `quorate bench`.
#[derive(Args)]
#[command(after_help = "Example:\n  quorate bench put --clients 100 --total 100000")]
pub(crate) struct Options {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// Write values
    #[command(after_help = "Example:\n  quorate bench put --clients 100 --conns 10 --total 100000")]
    Put {
        #[command(flatten)]
        common: Common,
        /// Bytes in each value
        #[arg(long, value_name = "BYTES", default_value = "256", value_parser = parse_value_size)]
        val_size: usize,
    },
    /// Read single keys, as `bench put` with the same --key-size and --key-space wrote them
    #[command(after_help = "Example:\n  quorate bench range --clients 100 --total 100000 --serializable")]
    Range {
        #[command(flatten)]
        common: Common,
        /// Let each node answer from what it has applied, instead of linearizable reads
        #[arg(long)]
        serializable: bool,
    },
}

#[derive(Args)]
struct Common {
    /// Clients that send requests at the same time
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    clients: NonZeroU64,
    /// Requests in all
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive)]
    total: NonZeroU64,
    /// TCP connections that the clients share, dealt over the endpoints that can be reached
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    conns: NonZeroU64,
    /// Client endpoints, separated by commas
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS",
        default_value = "127.0.0.1:2379"
    )]
    endpoints: Vec<String>,
    #[command(flatten)]
    login: LoginFlags,
    #[command(flatten)]
    tls: TlsFlags,
    /// Bytes in each key; at least 8
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = parse_key_size)]
    key_size: usize,
    /// Different keys, used in turn
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive)]
    key_space: NonZeroU64,
    /// Requests due in a second, over all clients; as fast as they are answered if left out
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<NonZeroU64>,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Runs the load and prints its figures.
///
/// # Errors
///
/// If an endpoint cannot be parsed or reached, or if any request failed.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let (operation, common) = match options.workload {
        Workload::Put { common, val_size } => (Operation::put(val_size), common),
        Workload::Range { common, serializable } => (Operation::range(serializable), common),
    };
    let load = Load {
        operation,
        clients: common.clients,
        total: common.total,
        connections: common.conns,
        endpoints: common.endpoints,
        login: common.login,
        tls: common.tls,
        key_size: common.key_size,
        key_space: common.key_space,
        rate: common.rate,
    };
    let outcome = load.run().await.context("the benchmark could not run")?;
    let figures = match common.output {
        Output::Text => report::to_text(&load, &outcome),
        Output::Json => format!("{}\n", report::to_json(&load, &outcome)),
    };
    let printed = output::print(&figures);
    // A reader that saw enough of the figures does not make the run a good one.
    check(&outcome)?;
    printed
}

/// Fails if any request did, with how many did and what most of them were answered.
fn check(outcome: &Outcome) -> anyhow::Result<()> {
    let Some((error, count)) = outcome.commonest_error() else {
        return Ok(());
    };
    let (failed, all) = (outcome.failed(), outcome.failed() + outcome.answered());
    bail!("{failed} of {all} requests failed, {count} of them with {error}")
}

/// A key holds the number of its place in the key space, in 8 bytes at least.
fn parse_key_size(text: &str) -> Result<usize, String> {
    size_from(8, text)
}

fn parse_value_size(text: &str) -> Result<usize, String> {
    size_from(0, text)
}

fn size_from(least: usize, text: &str) -> Result<usize, String> {
    let size = text
        .parse()
        .ok()
        .filter(|size| (least..=MAX_BYTES).contains(size));
    size.ok_or_else(|| format!("it must be a number of bytes from {least} to {MAX_BYTES}"))
}

/// Clients or connections: each takes memory before the first request is sent.
fn parse_count(text: &str) -> Result<NonZeroU64, String> {
    let count = text.parse().ok().filter(|count| *count <= MAX_COUNT);
    count.ok_or_else(|| format!("it must be a whole number from 1 to {MAX_COUNT}"))
}

/// More than any server takes in one request.
const MAX_BYTES: usize = 64 << 20;
const MAX_COUNT: NonZeroU64 = NonZeroU64::new(1_000_000).expect("it is not 0");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_take_all_memory_is_refused() {
        assert_eq!(parse_key_size("70000"), Ok(70_000));
        assert_eq!(parse_value_size("0"), Ok(0));
        assert_eq!(parse_count("1000000").map(NonZeroU64::get), Ok(1_000_000));
        for text in ["7", "67108865", "18446744073709551615", "-1", "x", ""] {
            let error = parse_key_size(text).unwrap_err();
            assert_eq!(error, "it must be a number of bytes from 8 to 67108864", "{text}");
        }
        assert!(parse_value_size("67108865").is_err());
        for text in ["0", "1000001", "18446744073709551615"] {
            let error = parse_count(text).unwrap_err();
            assert_eq!(error, "it must be a whole number from 1 to 1000000", "{text}");
        }
    }
}
