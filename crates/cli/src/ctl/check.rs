//! `check perf`: a minute of writes at a fixed rate, and whether the cluster keeps up.

use super::args::Keys;
use super::connection::{Client, Effect, kv};
use super::datascale::Datascale;
use super::failure::{Failure, code};
use super::flags::Global;
use super::kv::compact;
use super::maintenance::defragment;
use crate::output;
use bytes::Bytes;
use clap::{Args, Subcommand};
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_etcd_api::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};
use tokio::time::{interval, sleep_until};

/// What can be checked.
#[derive(Subcommand)]
pub(crate) enum Check {
    /// Write for a minute, and say whether the cluster keeps up
    #[command(after_help = "Example:\n  quorate ctl check perf --load m")]
    Perf(Perf),
    /// Write many keys, and say how much memory the first endpoint uses for them
    #[command(after_help = "Example:\n  quorate ctl check datascale --load m")]
    Datascale(Datascale),
}

/// The arguments of `check perf`.
#[derive(Args)]
pub(crate) struct Perf {
    /// Ignored
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// How much to write: s (small), m (medium), l (large), xl (very large)
    #[arg(long, value_name = "LOAD", default_value = "s")]
    load: String,
    /// What the keys to write begin with
    #[arg(long, value_name = "PREFIX", default_value = "/etcdctl-check-perf/")]
    prefix: String,
    /// Compact the history when the check is done
    #[arg(long)]
    auto_compact: bool,
    /// Defragment all endpoints when the check is done
    #[arg(long)]
    auto_defrag: bool,
}

/// How much to write.
#[derive(Clone, Copy)]
struct Load {
    /// Writes a second.
    rate: u32,
    clients: u32,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    seconds: Vec<f64>,
    failures: BTreeMap<String, u64>,
}

impl Check {
    pub(super) async fn run(&self, flags: &Global, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Perf(perf) => perf.run(client).await,
            Self::Datascale(datascale) => datascale.run(flags, client).await,
        }
    }
}

impl Perf {
    async fn run(&self, client: &Client) -> Result<(), Failure> {
        let load = match self.load.to_lowercase().as_str() {
            "s" | "small" => Load {
                rate: 150,
                clients: 50,
            },
            "m" | "medium" => Load {
                rate: 1000,
                clients: 200,
            },
            "l" | "large" => Load {
                rate: 8000,
                clients: 500,
            },
            "xl" | "xlarge" => Load {
                rate: 15_000,
                clients: 1000,
            },
            other => {
                let message = format!("unknown load option {other}");
                return Err(Failure::with(code::BAD_FEATURE, message));
            }
        };
        refuse_existing(client, &self.prefix).await?;
        let started = Instant::now();
        let outcome = measure(client, load, &self.prefix).await;
        let took = started.elapsed();
        self.cleaning().clean_up(client).await?;
        let (text, is_good) = verdict(load, &outcome, took);
        output::print(&text)?;
        match is_good {
            true => Ok(()),
            false => Err(Failure::Silent(code::ERROR)),
        }
    }

    fn cleaning(&self) -> Cleaning<'_> {
        Cleaning {
            prefix: &self.prefix,
            steps: steps(self.auto_compact, self.auto_defrag),
        }
    }
}

/// Refuses a prefix that keys have: they would be deleted in the end.
///
/// # Errors
///
/// If there is one.
pub(super) async fn refuse_existing(client: &Client, prefix: &str) -> Result<(), Failure> {
    let Keys { key, range_end } = Keys::prefixed(prefix.to_owned());
    let request = RangeRequest {
        key,
        range_end,
        limit: 1,
        ..RangeRequest::default()
    };
    let range = async |service| kv(service).range(request.clone()).await;
    match client.ask(Effect::Reads, range).await?.kvs.is_empty() {
        true => Ok(()),
        false => Err(Failure::with(
            code::INVALID_INPUT,
            format!("prefix {prefix:?} has keys. Delete with 'quorate ctl del --prefix {prefix}' first."),
        )),
    }
}

/// What is done when a check is over: its keys are deleted, and then more.
pub(super) struct Cleaning<'a> {
    pub(super) prefix: &'a str,
    pub(super) steps: Vec<Step>,
}

/// A part of [`Cleaning`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The history is forgotten.
    Compact,
    /// Endpoints give back what they do not use.
    Defragment,
}

/// The steps that flags ask for.
pub(super) fn steps(compact: bool, defragment: bool) -> Vec<Step> {
    let asked = [(compact, Step::Compact), (defragment, Step::Defragment)];
    asked
        .into_iter()
        .filter_map(|(is_asked, step)| is_asked.then_some(step))
        .collect()
}

impl Cleaning<'_> {
    /// Cleans up.
    ///
    /// # Errors
    ///
    /// As the server refuses a part of it.
    pub(super) async fn clean_up(self, client: &Client) -> Result<(), Failure> {
        let deleted = delete(client, self.prefix).await?;
        for step in self.steps {
            match step {
                Step::Compact => {
                    let revision = deleted.header.as_ref().map_or(0, |header| header.revision);
                    compact(client, revision, true).await?;
                    output::print(&format!("Compacted with revision {revision}\n"))?;
                }
                Step::Defragment => {
                    for endpoint in client.endpoints() {
                        defragment(&client.at(vec![endpoint.clone()])?).await?;
                        output::print(&format!("Defragmented {endpoint:?}\n"))?;
                    }
                }
            }
        }
        Ok(())
    }
}

async fn delete(client: &Client, prefix: &str) -> Result<DeleteRangeResponse, Failure> {
    let Keys { key, range_end } = Keys::prefixed(prefix.to_string());
    let request = DeleteRangeRequest {
        key,
        range_end,
        prev_kv: false,
    };
    // Deleted twice is deleted.
    let delete = async |service| kv(service).delete_range(request.clone()).await;
    client.ask_within(CLEANING, Effect::Reads, delete).await
}

/// Writes for a minute. Each client sends its next write when it is due and the last one was answered.
async fn measure(client: &Client, load: Load, prefix: &str) -> Outcome {
    let outcome = RefCell::new(Outcome::default());
    let started = tokio::time::Instant::now();
    let writers = (0..load.clients).map(|number| {
        let period = Duration::from_secs(1) * load.clients / load.rate;
        let mut due = started + Duration::from_secs(1) * number / load.rate;
        let outcome = &outcome;
        async move {
            let mut writes = 0_u64;
            while due.max(tokio::time::Instant::now()) < started + LENGTH {
                sleep_until(due).await;
                let answer = write(client, format!("{prefix}{number:04}{writes:04x}")).await;
                outcome.borrow_mut().add(answer);
                due += period;
                writes += 1;
            }
        }
    });
    tokio::select! {
        _ = join_all(writers) => {}
        () = show_progress() => {}
    }
    outcome.into_inner()
}

/// Writes a key; how many seconds that took.
async fn write(client: &Client, key: String) -> Result<f64, Failure> {
    let request = PutRequest {
        key: key.into(),
        value: Bytes::from_static(&[b'x'; VALUE_BYTES]),
        ..PutRequest::default()
    };
    let put = async |service| kv(service).put(request.clone()).await;
    let started = Instant::now();
    client.ask(Effect::Writes, put).await?;
    Ok(started.elapsed().as_secs_f64())
}

impl Outcome {
    fn add(&mut self, answer: Result<f64, Failure>) {
        match answer {
            Ok(seconds) => self.seconds.push(seconds),
            Err(failure) => *self.failures.entry(failure.to_string()).or_default() += 1,
        }
    }
}

/// Shows on standard error, if that is a terminal, how much of the time has passed.
async fn show_progress() {
    let bar = ProgressBar::new(LENGTH.as_secs());
    if let Ok(style) = ProgressStyle::with_template(" {pos} / {len} s {bar:50} {percent}%") {
        bar.set_style(style);
    }
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        bar.set_position(bar.elapsed().as_secs());
    }
}

/// What is said of an outcome, and whether it is good.
fn verdict(load: Load, outcome: &Outcome, took: Duration) -> (String, bool) {
    let count = outcome.seconds.len();
    let mut text = String::new();
    let mut is_good = true;
    let mut judge = |good: bool, pass: String, fail: String| {
        is_good &= good;
        text += &match good {
            true => format!("PASS: {pass}\n"),
            false => format!("FAIL: {fail}\n"),
        };
    };
    if !outcome.failures.is_empty() {
        judge(false, String::new(), "too many errors".to_string());
        for (error, times) in &outcome.failures {
            judge(false, String::new(), format!("ERROR({error}) -> {times}"));
        }
    }
    let length = took.max(LENGTH).as_secs_f64();
    let throughput = count as f64 / length;
    judge(
        throughput > f64::from(load.rate) * 0.9,
        format!("Throughput is {throughput:.0} writes/s"),
        format!("Throughput too low: {throughput:.0} writes/s"),
    );
    let slowest = outcome.seconds.iter().copied().fold(0.0, f64::max);
    judge(
        slowest <= 0.5,
        format!("Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    );
    let deviation = deviation(&outcome.seconds);
    judge(
        deviation <= 0.1,
        format!("Stddev is {deviation:.6}s"),
        format!("Stddev too high: {deviation:.6}s"),
    );
    text += if is_good { "PASS\n" } else { "FAIL\n" };
    (text, is_good)
}

fn deviation(seconds: &[f64]) -> f64 {
    let count = seconds.len() as f64;
    if seconds.is_empty() {
        return 0.0;
    }
    let mean = seconds.iter().sum::<f64>() / count;
    let squares = seconds.iter().map(|second| (second - mean) * (second - mean));
    (squares.sum::<f64>() / count).sqrt()
}

const LENGTH: Duration = Duration::from_secs(60);
const VALUE_BYTES: usize = 1024;
/// How long it may take to delete what was written.
const CLEANING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(seconds: Vec<f64>, failures: &[(&str, u64)]) -> (String, bool) {
        let failures = failures.iter().map(|(text, times)| (text.to_string(), *times));
        let outcome = Outcome {
            seconds,
            failures: failures.collect(),
        };
        verdict(Load { rate: 10, clients: 1 }, &outcome, LENGTH)
    }

    #[test]
    fn a_cluster_that_keeps_up_passes() {
        let (text, is_good) = judged(vec![0.25; 600], &[]);
        let expected = "\
PASS: Throughput is 10 writes/s
PASS: Slowest request took 0.250000s
PASS: Stddev is 0.000000s
PASS
";
        assert!(is_good);
        assert_eq!(text, expected);
    }

    #[test]
    fn each_shortcoming_fails_by_itself() {
        assert!(
            judged(vec![0.01; 500], &[])
                .0
                .contains("FAIL: Throughput too low: 8 writes/s")
        );
        let mut slow = vec![0.01; 600];
        slow[0] = 0.6;
        assert!(
            judged(slow, &[])
                .0
                .contains("FAIL: Slowest request took too long: 0.600000s")
        );
        let mut uneven = vec![0.0; 600];
        uneven[..300].fill(0.4);
        assert!(judged(uneven, &[]).0.contains("FAIL: Stddev too high: 0.200000s"));
        let (text, is_good) = judged(vec![0.01; 600], &[("gone", 3)]);
        assert!(!is_good && text.contains("FAIL: ERROR(gone) -> 3\n"), "{text}");
    }
}
