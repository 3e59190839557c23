//! `lock`: holds a lock until it is interrupted, or while a command runs.

use super::connection::Client;
use super::failure::{Failure, code};
use super::kv::Range;
use super::print::Printer;
use super::queue::{Head, Interrupts, Session, read};
use super::watch::{exit_text, start_text};
use crate::output;
use bytes::Bytes;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// The arguments of `lock`.
#[derive(Args)]
pub(crate) struct Lock {
    /// The name of the lock, and a command to run while it is held
    #[arg(value_name = "NAME [COMMAND]")]
    words: Vec<OsString>,
    /// Seconds after which the lock is free if this process died
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    ttl: i64,
}

impl Lock {
    pub(super) async fn run(&self, client: &Client, printer: Printer) -> Result<(), Failure> {
        let Some((name, command)) = self.words.split_first() else {
            let message = "lock takes a lock name argument and an optional command to execute";
            return Err(Failure::arguments(message));
        };
        if command.is_empty() {
            printer.has_no_table()?;
        }
        let mut interrupts = Interrupts::catch()?;
        let session = Session::begin(client, self.ttl).await?;
        let queue = session.queue_up(name.as_bytes(), Bytes::new());
        let held = tokio::select! {
            head = session.during(queue, "session expired") => head,
            () = interrupts.next() => Err(Failure::error("context canceled")),
        };
        let outcome = match held {
            Err(failure) => Err(failure),
            Ok(head) if command.is_empty() => {
                let held = async {
                    show(client, printer, head).await?;
                    interrupts.next().await;
                    Ok(())
                };
                session.during(held, "session expired").await
            }
            Ok(head) => run_command(command, &head, &session).await,
        };
        let ended = session.end().await;
        outcome.and(ended)
    }
}

async fn show(client: &Client, printer: Printer, head: Head) -> Result<(), Failure> {
    let response = read(client, head.key).await?;
    match response.kvs.is_empty() {
        true => Err(Failure::error("lock lost on init")),
        false => printer.print(&Range::from(&response)),
    }
}

/// Runs a command to its end while the lock is held. The signals that we catch are its own to heed.
async fn run_command(command: &[OsString], head: &Head, session: &Session<'_>) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let mut child = Command::new(program);
    child
        .args(arguments)
        .env("ETCD_LOCK_KEY", OsStr::from_bytes(&head.key))
        .env("ETCD_LOCK_REV", head.revision.to_string());
    let mut running = tokio::task::spawn_blocking(move || child.status());
    let ended = tokio::select! {
        ended = &mut running => ended,
        lost = session.lost() => {
            let reason = lost.err().map_or("its lease has expired".to_string(), |failure| failure.to_string());
            output::complain(&format!("the lock is lost while the command runs: {reason}"));
            running.await
        }
    };
    match ended.map_err(|error| Failure::error(error.to_string()))? {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::with(exit_code(status), exit_text(status))),
        Err(error) => Err(Failure::error(start_text(program, &error))),
    }
}

/// The exit code of a command as a shell has it.
fn exit_code(status: ExitStatus) -> u8 {
    let number = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    number
        .and_then(|number| u8::try_from(number).ok())
        .unwrap_or(code::ERROR)
}
