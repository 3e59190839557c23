//! The long run: three processes under load, killed with `kill -9` and cut off by iptables, judged
//! at the end, with figures.
//!
//! ```text
//! cargo run --release -p quorate-cli --example torture -- --kills 30 --cuts 10
//! ```
//!
//! Cuts need root, iproute2, iptables and util-linux: the run then re-executes itself in a sandbox
//! of new network, mount and process namespaces. The kernel takes the sandbox and everything in it
//! away when the run ends, however it ends.

#![allow(clippy::print_stdout, reason = "its figures are what it is run for")]

#[path = "../../tests/e2e/harness/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod harness;

use anyhow::{Context, ensure};
use clap::Parser;
use harness::cluster::{Cluster, Cut, Place};
use harness::faults::{Outage, Role, cut_leader, kill, roll};
use harness::program;
use harness::verify::{State, agreement, check_record};
use harness::workload::{Record, Workload};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Kill and cut off nodes of a cluster under load, and judge what is left.
#[derive(Parser)]
struct Options {
    /// How often a node is killed: each in turn, and the leader every other time
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// How often the leader is killed besides
    #[arg(long, default_value_t = 0)]
    leader_kills: usize,
    /// How often all nodes are restarted, one after the other, as for an upgrade
    #[arg(long, default_value_t = 1)]
    rolls: usize,
    /// How often the leader's network is cut
    #[arg(long, default_value_t = 10)]
    cuts: usize,
    /// The quorate program [default: the one beside this one]
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Writers on each node
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Milliseconds without a leader before a node campaigns
    #[arg(long, default_value_t = 1000)]
    election_timeout: u64,
    /// Commands applied between two snapshots
    #[arg(long, default_value_t = 1000)]
    snapshot_count: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if options.cuts > 0 && std::env::var_os(SANDBOX).is_none() {
        in_sandbox()
    } else {
        in_runtime(&options)
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again, with the same arguments, in namespaces of its own.
fn in_sandbox() -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(SANDBOX, "1")
        .status()
        .context("cannot run unshare, of util-linux")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn in_runtime(options: &Options) -> anyhow::Result<ExitCode> {
    if options.cuts > 0 {
        prepare_sandbox()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(torture(options))?;
    Ok(ExitCode::SUCCESS)
}

/// The names of network namespaces are files; ours must not be seen outside.
fn prepare_sandbox() -> anyhow::Result<()> {
    std::fs::create_dir_all("/run/netns")?;
    harness::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run/netns"]))?;
    harness::run(Command::new("ip").args(["link", "set", "lo", "up"])).map(|_| ())
}

async fn torture(options: &Options) -> anyhow::Result<()> {
    let mut cluster = start(options)?;
    cluster.leader().await?;
    let workload = Workload::start(&cluster.clients(), options.writers).await?;
    let kills = kills(&mut cluster, options.kills).await?;
    let leader_kills = leader_kills(&mut cluster, options.leader_kills).await?;
    let kills = [kills, leader_kills].concat();
    let rolls = rolls(&mut cluster, options.rolls, &workload).await?;
    let cuts = cuts(&mut cluster, options.cuts).await?;
    let record = workload.stop().await;
    cluster.check_running()?;
    let state = agreement(&cluster.clients()).await?;
    report(options, [&kills, &rolls, &cuts], &record, &state);
    check_record(&record, &state)?;
    ensure!(
        record.acknowledged() > 0 && record.reads > 0,
        "the workload did nothing"
    );
    println!("every acknowledged write is there, all nodes agree, no stale read was seen");
    Ok(())
}

fn start(options: &Options) -> anyhow::Result<Cluster> {
    let place = if options.cuts > 0 {
        Place::Namespaces
    } else {
        Place::Loopback
    };
    let election = options.election_timeout.to_string();
    let heartbeat = (options.election_timeout / 10).to_string();
    let snapshots = options.snapshot_count.to_string();
    let flags = [
        "--election-timeout",
        election.as_str(),
        "--heartbeat-interval",
        heartbeat.as_str(),
        "--snapshot-count",
        snapshots.as_str(),
    ];
    Cluster::start(&program(options.bin.as_deref())?, 3, place, &flags)
}

/// Every node in turn; every other time whichever leads.
async fn kills(cluster: &mut Cluster, count: usize) -> anyhow::Result<Vec<Outage>> {
    let mut outages = Vec::new();
    for turn in 0..count {
        let in_turn = (turn / 2) % cluster.size();
        let node = if turn % 2 == 0 {
            in_turn
        } else {
            cluster.leader().await?
        };
        let pause = Duration::from_millis(100 + 150 * (turn as u64 % 4));
        let outage = kill(cluster, node, pause)
            .await
            .with_context(|| format!("kill {}", turn + 1))?;
        println!("kill {:>3} of {count}: {outage}", turn + 1);
        outages.push(outage);
    }
    Ok(outages)
}

async fn leader_kills(cluster: &mut Cluster, count: usize) -> anyhow::Result<Vec<Outage>> {
    let mut outages = Vec::new();
    for turn in 0..count {
        let node = cluster.leader().await?;
        let outage = kill(cluster, node, Duration::from_millis(100)).await?;
        println!("leader kill {:>3} of {count}: {outage}", turn + 1);
        outages.push(outage);
    }
    Ok(outages)
}

/// Every node in turn, the leader of the moment last.
async fn rolls(cluster: &mut Cluster, count: usize, load: &Workload) -> anyhow::Result<Vec<Outage>> {
    let mut outages = Vec::new();
    for turn in 0..count {
        let leader = cluster.leader().await?;
        for node in cluster.others(leader).into_iter().chain([leader]) {
            let outage = roll(cluster, node, load).await?;
            println!("roll {:>3} of {count}: {outage}", turn + 1);
            outages.push(outage);
        }
    }
    Ok(outages)
}

async fn cuts(cluster: &mut Cluster, count: usize) -> anyhow::Result<Vec<Outage>> {
    let mut outages = Vec::new();
    for (turn, cut) in [Cut::Peers, Cut::Link, Cut::FromPeers]
        .into_iter()
        .cycle()
        .take(count)
        .enumerate()
    {
        let pause = Duration::from_millis(1500);
        let outage = cut_leader(cluster, cut, pause)
            .await
            .with_context(|| format!("cut {}", turn + 1))?;
        println!("cut  {:>3} of {count}: {outage}, {cut:?}", turn + 1);
        outages.push(outage);
    }
    Ok(outages)
}

fn report(options: &Options, outages: [&[Outage]; 3], record: &Record, state: &State) {
    let [kills, rolls, cuts] = outages;
    println!(
        "\nelection timeout {} ms, snapshot every {}",
        options.election_timeout, options.snapshot_count
    );
    println!(
        "{} writes acknowledged, {} requests of unknown outcome, {} linearizable reads, {} violations",
        record.acknowledged(),
        record.unknown,
        record.reads,
        record.violations.len(),
    );
    println!(
        "revision {}, {} keys, hash {:08x} on all nodes",
        state.revision,
        state.all.len(),
        state.hash()
    );
    let (leader, follower): (Vec<Outage>, Vec<Outage>) =
        kills.iter().partition(|outage| outage.role == Role::Leader);
    print_outages("kill -9 of the leader", &leader);
    print_outages("kill -9 of a follower", &follower);
    let (leader, follower): (Vec<Outage>, Vec<Outage>) =
        rolls.iter().partition(|outage| outage.role == Role::Leader);
    print_outages(
        "the leader restarted in good order, longest time without a write",
        &leader,
    );
    print_outages(
        "a follower restarted in good order, longest time without a write",
        &follower,
    );
    print_outages("the leader's network cut", cuts);
}

/// Quantiles and a histogram of the times until writes resumed.
fn print_outages(what: &str, outages: &[Outage]) {
    let mut millis: Vec<u128> = outages
        .iter()
        .map(|outage| outage.until_write.as_millis())
        .collect();
    millis.sort_unstable();
    let (Some(least), Some(most)) = (millis.first(), millis.last()) else {
        return;
    };
    let median = millis[millis.len() / 2];
    println!(
        "\n{what}: {} times; ms until writes resumed: min {least}, p50 {median}, max {most}",
        millis.len()
    );
    let width = [20, 50, 100, 200, 500, 1000]
        .into_iter()
        .find(|width| (*most - *least) / width < MOST_BUCKETS)
        .unwrap_or(2000);
    for bucket in *least / width..=*most / width {
        let count = millis.iter().filter(|ms| **ms / width == bucket).count();
        println!(
            "  {:>5}..{:<5} {}",
            bucket * width,
            (bucket + 1) * width,
            "#".repeat(count)
        );
    }
}

/// Set for the run inside the sandbox.
const SANDBOX: &str = "QUORATE_TORTURE_SANDBOX";
const MOST_BUCKETS: u128 = 20;
