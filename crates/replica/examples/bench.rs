//! How many commands a second a cluster commits, as a program that embeds Quorate gets them.
//!
//! ```text
//! cargo run --release -p quorate --example bench                   # no disk, no sockets
//! cargo run --release -p quorate --example bench -- --on disk      # real files, TCP on loopback
//! cargo run --release -p quorate --example bench -- -c 256 -n 4000000 --rounds 3
//! ```
//!
//! The flags are those of openraft's `cluster_benchmark`, and what is measured is the same: tokio tasks, each
//! with one command of 8 bytes under way at a time, against a machine that does next to nothing. Here `-n` is
//! the number of commands of all clients together.

#![expect(clippy::print_stdout, reason = "it measures, and reports to whoever runs it")]

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use quorate::machine::{ApplyError, EncodeError, RestoreError, SnapshotError};
use quorate::{Config, EntryId, LocalNetwork, Machine, NodeId, Replica, RoleKind};

/// Measures a cluster of replicas in one process.
#[derive(Parser)]
struct Args {
    /// How many clients propose, each one command at a time. Several numbers are measured one after another.
    #[arg(short = 'c', long, value_delimiter = ',', default_values_t = [1, 64, 256, 1024, 4096])]
    clients: Vec<u64>,
    /// How many commands are proposed by all clients together; by default as many as take some seconds.
    #[arg(short = 'n', long)]
    operations: Option<u64>,
    /// How many replicas there are.
    #[arg(short = 'm', long, default_value_t = 3)]
    members: u64,
    /// How many threads the clients have.
    #[arg(short = 'w', long, default_value_t = 1)]
    workers: usize,
    /// How often each number is measured; the fastest round counts.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// What is under the replicas.
    #[arg(long, value_enum, default_value_t = On::Memory)]
    on: On,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// A log in memory, and messages handed over within the process.
    Memory,
    /// A durable log in a temporary directory, and TCP on loopback.
    Disk,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers)
        .enable_all()
        .build()?;
    println!("clients     commits/s      ns/commit");
    for clients in &args.clients {
        let operations = args
            .operations
            .unwrap_or_else(|| default_operations(&args, *clients));
        let mut best = Duration::MAX;
        for _ in 0..args.rounds {
            best = best.min(runtime.block_on(measure(&args, *clients, operations))?);
        }
        let ns = best.as_nanos() as f64 / operations as f64;
        println!("{clients:>7} {:>13.0} {ns:>14.0}", 1e9 / ns);
    }
    Ok(())
}

fn default_operations(args: &Args, clients: u64) -> u64 {
    let each = match args.on {
        On::Memory => 100_000,
        On::Disk => 5_000,
    };
    (each * clients).min(each * 40)
}

async fn measure(args: &Args, clients: u64, operations: u64) -> Result<Duration, Failure> {
    let directory = tempfile::tempdir()?;
    let nodes = start(args, directory.path())?;
    let leader = leader_of(&nodes).await?;
    run(&leader, clients, operations / 20 + 1).await?;
    let started = Instant::now();
    run(&leader, clients, operations).await?;
    let elapsed = started.elapsed();
    for node in nodes {
        node.shutdown().await;
    }
    Ok(elapsed)
}

/// Proposes `operations` commands, of each client one at a time.
async fn run(leader: &Replica<Count>, clients: u64, operations: u64) -> Result<(), Failure> {
    let client = |number: u64| {
        let leader = leader.clone();
        let share = operations / clients + u64::from(number < operations % clients);
        tokio::spawn(async move {
            for command in 0..share {
                leader.propose(command).await?;
            }
            Ok::<(), quorate::ProposeError>(())
        })
    };
    let tasks: Vec<_> = (0..clients).map(client).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

fn start(args: &Args, directory: &std::path::Path) -> Result<Vec<Replica<Count>>, Failure> {
    let listeners = (1..=args.members)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    let network = LocalNetwork::new();
    let mut nodes = Vec::new();
    for (node, listener) in (1..).zip(listeners) {
        let mut config = Config::new(node).peers((1..).zip(addresses.clone()));
        config.listener = Some(Arc::new(listener));
        nodes.push(match args.on {
            On::Memory => Replica::start_local(config, Count::default(), &network)?,
            On::Disk => Replica::start(
                config.data_dir(directory.join(node.to_string())),
                Count::default(),
            )?,
        });
    }
    Ok(nodes)
}

async fn leader_of(nodes: &[Replica<Count>]) -> Result<Replica<Count>, Failure> {
    let mut status = nodes[0].watch_status();
    let leads = |leader: Option<NodeId>| nodes.iter().find(|node| Some(node.node()) == leader);
    let known = status.wait_for(|status| status.leader.is_some()).await?.leader;
    let leader = leads(known).ok_or("the leader is no member")?;
    let mut status = leader.watch_status();
    status.wait_for(|status| status.role == RoleKind::Leader).await?;
    Ok(leader.clone())
}

/// Counts the commands.
#[derive(Default)]
struct Count(u64);

impl Machine for Count {
    type Command = u64;
    type Response = u64;
    type Query = ();
    type Answer = u64;
    type Snapshot = Option<u64>;

    fn encode(command: u64) -> Result<Bytes, EncodeError> {
        Ok(Bytes::copy_from_slice(&command.to_le_bytes()))
    }

    fn apply(&mut self, _id: EntryId, _command: Bytes) -> Result<u64, ApplyError> {
        self.0 += 1;
        Ok(self.0)
    }

    fn query(&mut self, (): ()) -> u64 {
        self.0
    }

    fn begin_snapshot(&mut self) -> Option<u64> {
        Some(self.0)
    }

    fn snapshot_chunk(
        &mut self,
        snapshot: &mut Option<u64>,
        _max: usize,
    ) -> Result<Option<Bytes>, SnapshotError> {
        let count = snapshot.take();
        Ok(count.map(|count| Bytes::copy_from_slice(&count.to_le_bytes())))
    }

    fn end_snapshot(&mut self, _snapshot: Option<u64>) {}

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), RestoreError> {
        for chunk in chunks {
            let count = chunk?.as_ref().try_into();
            let count = count.map_err(|_| RestoreError::Invalid("it is not 8 bytes long".to_owned()))?;
            self.0 = u64::from_le_bytes(count);
        }
        Ok(())
    }
}
