//! Watches at scale: thousands of watchers on many streams while events come at a steady rate and leaders are killed
//! with `kill -9`. Every watcher must see each event of its key once and in order, resumed from its last revision + 1
//! wherever its stream was cut.
//!
//! ```text
//! cargo run --release -p quorate-cli --example watchers -- --watchers 10000 --streams 100 --seconds 60 --kills 3
//! ```
//!
//! - One watcher more watches all keys, and must see every revision.
//! - Memory is what the kernel counts as resident in the server processes. Between two figures nothing but what is
//!   named between them has happened.

#![allow(clippy::print_stdout, reason = "its figures are what it is run for")]

#[path = "../../tests/e2e/harness/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod harness;
mod load;
mod memory;
mod stream;

use anyhow::{Context, ensure};
use clap::Parser;
use harness::client::Consistency;
use harness::cluster::{Cluster, Place};
use harness::faults::{Outage, kill};
use harness::{eventually, program};
use hdrhistogram::Histogram;
use load::{Load, Written, key};
use memory::Memory;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use stream::{Stream, Watcher};

/// Watch many keys on many streams, under load, while leaders are killed.
#[derive(Parser)]
struct Options {
    /// Watchers, dealt over the streams and over the keys
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Streams, each on a connection of its own, dealt over the nodes
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// Keys that are written in turn
    #[arg(long, default_value_t = 1000)]
    keys: usize,
    /// Writes due in a second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// How long writes go on
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How often the leader is killed in that time
    #[arg(long, default_value_t = 3)]
    kills: u32,
    /// The quorate program [default: the one beside this one]
    #[arg(long)]
    bin: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.keys > 0 && options.rate > 0 && options.streams > 0 && options.watchers >= options.streams,
        "there must be keys, a rate, streams, and a watcher for each stream at least"
    );
    let mut cluster = Cluster::start(&program(options.bin.as_deref())?, 3, Place::Loopback, &[])?;
    cluster.leader().await?;
    let load = Load::new(cluster.clients(), options.keys);
    let revision = load.write_each_key().await?;
    let before = Memory::of(&cluster)?;

    let streams = open(options, &cluster, revision);
    created(&streams, options.streams + 1).await?;
    let with_streams = Memory::of(&cluster)?;
    for stream in &streams {
        stream.want_all();
    }
    created(&streams, options.watchers + 1).await?;
    let with_watchers = Memory::of(&cluster)?;
    report_memory(options, [&before, &with_streams, &with_watchers]);

    let started = Instant::now();
    let writing = load.start(options.rate);
    let outages = kills(options, &mut cluster, started).await?;
    tokio::time::sleep_until((started + Duration::from_secs(options.seconds.into())).into()).await;
    let mut written = writing.stop().await?;
    let took = started.elapsed();
    // After these, nothing that was seen twice can still be on its way.
    load.write_each_key().await?;
    written.acknowledged += options.keys as u64;
    judge(options, &cluster, &streams).await?;
    cluster.check_running()?;
    report(took, &written, &outages, &streams);
    println!("most resident at any moment: {}", Memory::peak_of(&cluster)?);
    println!("every watcher saw each event of its key once and in order");
    Ok(())
}

/// Opens the streams with one watcher each. The first has the one of all keys besides.
fn open(options: &Options, cluster: &Cluster, revision: i64) -> Vec<Stream> {
    let endpoints: Vec<_> = (0..cluster.size()).map(|node| cluster.endpoint(node)).collect();
    let mut watchers: Vec<Vec<Watcher>> = vec![Vec::new(); options.streams];
    watchers[0].push(Watcher::of_all(revision));
    for number in 0..options.watchers {
        watchers[number % options.streams].push(Watcher::of_key(number % options.keys, revision));
    }
    let mut streams = Vec::new();
    for (number, watchers) in watchers.into_iter().enumerate() {
        let at_first = if number == 0 { 2 } else { 1 };
        let mut endpoints = endpoints.clone();
        endpoints.rotate_left(number % cluster.size());
        streams.push(Stream::open(endpoints, watchers, at_first));
    }
    streams
}

/// Waits until so many watchers are there, and gives the servers a moment to put things away.
async fn created(streams: &[Stream], count: usize) -> anyhow::Result<()> {
    eventually("all watchers are created", async || {
        let there: usize = streams.iter().map(|stream| stream.view().created).sum();
        ensure!(there == count, "{there} of {count} watchers are there");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Kills leaders, in equal distances.
async fn kills(options: &Options, cluster: &mut Cluster, started: Instant) -> anyhow::Result<Vec<Outage>> {
    let mut outages = Vec::new();
    for turn in 1..=options.kills {
        let due = f64::from(options.seconds * turn) / f64::from(options.kills + 1);
        tokio::time::sleep_until((started + Duration::from_secs_f64(due)).into()).await;
        let leader = cluster.leader().await?;
        let outage = kill(cluster, leader, Duration::from_secs(1)).await?;
        println!("kill {turn} of {}: {outage}", options.kills);
        outages.push(outage);
    }
    Ok(outages)
}

/// Waits until every watcher has seen the last event of its key. That it has seen all the others is checked event by
/// event: a key's versions have no gaps.
async fn judge(options: &Options, cluster: &Cluster, streams: &[Stream]) -> anyhow::Result<()> {
    let client = cluster.client(0);
    let revision = client.revision(Consistency::Linearizable).await?;
    let stored = client.everything(revision).await?;
    let mut versions = Vec::with_capacity(options.keys);
    for number in 0..options.keys {
        let name = key(number);
        let found = stored.iter().find(|kv| kv.key == name.as_bytes());
        versions.push(found.with_context(|| format!("{name} is gone"))?.version);
    }
    eventually("every watcher has seen all there is", async || {
        for (number, stream) in streams.iter().enumerate() {
            let seen = stream.view();
            if let Some(violation) = seen.violations.first() {
                return Ok(Err(anyhow::anyhow!("stream {number}: {violation}")));
            }
            let behind = seen
                .watchers
                .iter()
                .find(|watcher| !watcher.has_seen(&versions, revision));
            ensure!(
                behind.is_none(),
                "stream {number}: {behind:?} has not seen everything"
            );
        }
        Ok(Ok(()))
    })
    .await?
}

fn report_memory(options: &Options, [before, with_streams, with_watchers]: [&Memory; 3]) {
    println!("resident without watchers: {before}");
    println!("with {} streams of one watcher: {with_streams}", options.streams);
    println!("with {} watchers on them: {with_watchers}", options.watchers);
    let more = options.watchers - options.streams;
    println!(
        "that is {} bytes a stream with its connection and one watcher, and {} bytes each further watcher",
        with_streams.bytes_since(before, options.streams + 1),
        with_watchers.bytes_since(with_streams, more.max(1)),
    );
}

fn report(took: Duration, written: &Written, outages: &[Outage], streams: &[Stream]) {
    let (mut events, mut resumed, mut cuts) = (0, 0, 0);
    let mut delays = Histogram::<u64>::new(3).expect("3 significant digits are within the allowed 0 to 5");
    for stream in streams {
        let seen = stream.view();
        events += seen.events;
        resumed += seen.resumed;
        cuts += seen.cuts;
        delays
            .add(&seen.delays)
            .expect("a histogram that resizes takes any value");
    }
    println!(
        "{} writes acknowledged in {:.1} s, {} of unknown outcome, {} leaders killed",
        written.acknowledged,
        took.as_secs_f64(),
        written.unknown,
        outages.len()
    );
    println!(
        "{events} events delivered; {cuts} streams cut, {resumed} watchers resumed from their last revision + 1"
    );
    let millis = |quantile| Duration::from_micros(delays.value_at_quantile(quantile)).as_secs_f64() * 1000.0;
    println!(
        "ms from sending a write to its event: p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.1}",
        millis(0.5),
        millis(0.9),
        millis(0.99),
        millis(1.0)
    );
}
