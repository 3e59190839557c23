//! The `quorate` command: a cluster to try (`dev`), a real node (`start`), changes of members
//! (`member`), etcdctl's commands (`ctl`), backups (`snapshot`), a load generator (`bench`) and the simulator
//! (`sim`).
//!
//! - What people asked for goes to standard output; logs, progress and errors go to standard error.
//! - Whatever goes wrong ends as one line that says what to do, with exit code 1 (2 for a wrong
//!   command line), before anything on disk was touched where that is possible.
//! - It decides nothing about the cluster: it turns flags into configurations and hands them on.

mod args;
mod bench;
mod completion;
mod ctl;
mod dev;
mod duration;
mod endpoint;
mod logging;
mod login;
mod member;
mod output;
mod process;
mod sim;
mod snapshot;
mod start;

use crate::args::Command;
use crate::output::ReaderGone;
use anyhow::Context;
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match args::parse() {
        Command::Dev(options) => block_on(dev::run(options)),
        Command::Start(options) => block_on(start::run(*options)),
        Command::Member(options) => block_on(member::run(options)),
        Command::Snapshot(options) => block_on(snapshot::run(options)),
        Command::Ctl(options) => match block_on(async { Ok(ctl::run(*options).await) }) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Bench(options) => block_on(bench::run(options)),
        Command::Sim(options) => sim::run(options),
        Command::Completion(options) => completion::run(&options),
        Command::Help { words } => help(&words),
        Command::Version => output::print(&args::version()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&args::one_line(&describe(&error)));
            ExitCode::FAILURE
        }
    }
}

fn help(words: &[OsString]) -> anyhow::Result<()> {
    let text = args::help(words).with_context(|| {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        format!(
            "there is no command {:?}: `quorate help` names all",
            words.join(" ")
        )
    })?;
    output::print(&text)
}

/// An error and its causes, except those that an error before them says already.
fn describe(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            said if said.contains(&cause) => text,
            said => format!("{said}: {cause}"),
        }
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime
        .context("cannot start the asynchronous runtime")?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("in use")
            .context("cannot listen: in use; stop it")
            .context("cannot start a");
        assert_eq!(describe(&error), "cannot start a: cannot listen: in use; stop it");
        let error = anyhow!("refused").context("cannot reach a");
        assert_eq!(describe(&error), "cannot reach a: refused");
    }
}
