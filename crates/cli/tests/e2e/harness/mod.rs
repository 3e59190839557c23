//! What the end-to-end tests and the torture run share: real processes of the built binary, a
//! client for each, a workload whose answers can be judged, and the judging.
//!
//! - No process and no directory is left behind, whatever happens to the test.
//! - Every wait has a generous deadline; no test passes or fails by how fast something was.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod faults;
pub(crate) mod process;
pub(crate) mod verify;
pub(crate) mod workload;

use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a test waits for what must happen before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The program that an example tries: `given`, or the one beside the folder that examples are built into.
///
/// # Errors
///
/// If it is not there.
pub(crate) fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let beside = || {
        let example = std::env::current_exe().ok()?;
        Some(example.parent()?.parent()?.join("quorate"))
    };
    let program = given.map(Path::to_owned).or_else(beside);
    let program = program.context("give the program with --bin")?;
    ensure!(
        program.is_file(),
        "{} is missing: build it, or give another with --bin",
        program.display()
    );
    Ok(std::fs::canonicalize(program)?)
}

/// Asks again and again until there is an answer.
///
/// # Errors
///
/// If there is none within [`PATIENCE`]: the last reason, and what was waited for.
pub(crate) async fn eventually<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error).context(format!("waited {PATIENCE:?} in vain: {what}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Runs an asynchronous test on a runtime of its own, from the thread of the test.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(work));
    outcome.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Runs a command to its end.
///
/// # Errors
///
/// If it cannot be run or fails: with what it printed.
pub(crate) fn run(command: &mut std::process::Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
