//! What the Rust client of etcd's API does, on three nodes of Quorate whose leader is killed meanwhile.
//!
//! ```text
//! quorate-clients ENDPOINTS CLUSTER-DIRECTORY CLUSTER.SH TLS-ENDPOINT CA-FILE
//! ```
//!
//! tests/e2e/rust_client.sh starts the clusters and calls it. Every check has keys of its own. Ends with the line
//! "N passed, N failed"; the exit code is 0 if nothing failed.

mod auth;
mod basic;
mod leader;
mod owners;
mod watch;

use etcd_client::{Client, ConnectOptions};
use std::error::Error;
use std::fmt::Debug;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The cluster under test.
struct Cluster {
    endpoints: Vec<String>,
    directory: String,
    script: String,
    tls_endpoint: String,
    ca_file: String,
}

impl Cluster {
    async fn client(&self) -> Outcome<Client> {
        Ok(Client::connect(&self.endpoints, Some(options())).await?)
    }

    /// Calls cluster.sh.
    async fn call(&self, command: &str) -> Outcome {
        let mut process = tokio::process::Command::new(&self.script);
        let output = process.args([command, &self.directory]).output().await?;
        ensure(output.status.success(), || {
            format!("{command}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }
}

fn options() -> ConnectOptions {
    ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(5))
        .with_keep_alive(Duration::from_secs(2), Duration::from_secs(2))
}

macro_rules! checks {
    ($cluster:ident, $($check:path),* $(,)?) => {{
        let (mut passed, mut failed) = (0, 0);
        $(
            let started = Instant::now();
            let cluster = Arc::clone(&$cluster);
            // In a task of its own: one that panics has failed, and the others go on.
            let task = tokio::spawn(async move { tokio::time::timeout(PATIENCE, $check(&cluster)).await });
            let outcome = match task.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(format!("it has not ended in {PATIENCE:?}").into()),
                Err(panic) => Err(panic.into()),
            };
            match outcome {
                Ok(()) => {
                    passed += 1;
                    println!("  {} ({:.1} s)", stringify!($check), started.elapsed().as_secs_f64());
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED {}: {error}", stringify!($check));
                }
            }
        )*
        (passed, failed)
    }};
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoints, directory, script, tls_endpoint, ca_file] = arguments.as_slice() else {
        eprintln!("usage: quorate-clients ENDPOINTS CLUSTER-DIRECTORY CLUSTER.SH TLS-ENDPOINT CA-FILE");
        return ExitCode::from(2);
    };
    let cluster = Arc::new(Cluster {
        endpoints: endpoints.split(',').map(str::to_owned).collect(),
        directory: directory.clone(),
        script: script.clone(),
        tls_endpoint: tls_endpoint.clone(),
        ca_file: ca_file.clone(),
    });
    let (passed, failed) = checks!(
        cluster,
        basic::put_get_delete,
        basic::transactions,
        basic::compaction,
        basic::namespaces,
        basic::members,
        basic::maintenance,
        basic::tls,
        watch::from_an_old_revision,
        watch::cancel,
        watch::progress,
        watch::many_on_one_stream,
        owners::leases,
        owners::lease_that_ends,
        owners::lock,
        owners::election,
        leader::watch_across_changes,
        leader::lease_and_lock_across_changes,
        auth::users_and_roles,
        auth::enabled,
    );
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn ensure(holds: bool, or: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(or().into()) }
}

fn equal<T: PartialEq<U> + Debug, U: Debug>(what: &str, found: T, expected: U) -> Outcome {
    ensure(found == expected, || {
        format!("{what}: {found:?} instead of {expected:?}")
    })
}

/// The gRPC status and message of what must fail.
fn refusal<T>(result: Result<T, etcd_client::Error>) -> String {
    match result {
        Ok(_) => "it was not refused".to_owned(),
        Err(etcd_client::Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
        Err(error) => format!("no status: {error}"),
    }
}

const PATIENCE: Duration = Duration::from_secs(120);
