//! `quorate ctl`: etcdctl's commands, in this program, with etcdctl's output, exit codes and environment.
//!
//! - What etcdctl 3.5 prints, this prints, byte for byte, so that scripts need not know which one they run.
//!   `tests/e2e/ctl.sh` compares the two.
//! - Errors are a line `Error: ...` on standard error. Wrong arguments are exit code 128, an unknown flag is 1.
//! - A command can be called by the beginning of its name, if no other begins so: `mem li`.
//! - Keys and values are bytes: arguments need not be text.
//! - It talks to any server of etcd's API, by the same stubs as our other clients (docs/adr/0018-ctl.md).
//!
//! It leaves out sockets of the file system, and what turned etcd's v2 data into v3's (`migrate`).

mod args;
mod auth;
mod check;
mod connection;
mod datascale;
mod discovery;
mod elect;
mod endpoint;
mod failure;
mod flags;
mod help;
mod kv;
mod lease;
mod lock;
mod maintenance;
#[cfg(test)]
mod mangled;
mod member;
mod mirror;
mod print;
mod queue;
mod role;
mod snapshot;
mod terminal;
mod txn;
mod watch;
mod words;

pub(crate) use flags::{conflict, variable};
pub(crate) use print::table::Table;

use crate::{completion, output};
use clap::builder::ValueParser;
use clap::{ArgAction, Args, Subcommand};
use connection::Client;
use failure::{Failure, code};
use flags::Global;
use std::any::TypeId;
use std::ffi::OsString;
use std::process::ExitCode;

/// The arguments of `quorate ctl`.
#[derive(Args)]
#[command(
    infer_subcommands = true,
    after_help = "Examples:\n  quorate ctl put hello world\n  quorate ctl get --prefix config/\n  quorate ctl endpoint status --cluster -w table\n\nEvery global option can also be set by a variable: ETCDCTL_ENDPOINTS stands for --endpoints."
)]
pub(crate) struct Options {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a key
    #[command(
        after_help = "Examples:\n  quorate ctl put hello world\n  quorate ctl put config < config.json"
    )]
    Put(kv::Put),
    /// Read a key, or a range of keys
    #[command(
        after_help = "Examples:\n  quorate ctl get hello\n  quorate ctl get --prefix config/ --keys-only"
    )]
    Get(kv::Get),
    /// Delete a key, or a range of keys
    #[command(after_help = "Examples:\n  quorate ctl del hello\n  quorate ctl del --prefix config/")]
    Del(kv::Del),
    /// Compare keys, and do one thing or another
    #[command(
        after_help = "Example:\n  printf 'mod(\"a\") = \"0\"\\n\\nput a first\\n\\nget a\\n\\n' | quorate ctl txn"
    )]
    Txn(txn::Txn),
    /// Forget the history before a revision
    #[command(
        visible_alias = "compact",
        after_help = "Example:\n  quorate ctl compaction 1000"
    )]
    Compaction(kv::Compaction),
    /// Show events of keys as they happen
    #[command(
        after_help = "Examples:\n  quorate ctl watch --prefix config/\n  quorate ctl watch --prefix config/ -- sh -c 'echo $ETCD_WATCH_KEY'\n  quorate ctl watch -i"
    )]
    Watch(watch::Watch),
    /// Leases and how long they live
    #[command(subcommand, after_help = "Example:\n  quorate ctl lease grant 60")]
    Lease(lease::Lease),
    /// Hold a lock, until interrupted or while a command runs
    #[command(
        after_help = "Examples:\n  quorate ctl lock backup\n  quorate ctl lock backup -- ./backup.sh --all"
    )]
    Lock(lock::Lock),
    /// Lead, until interrupted; or show who leads
    #[command(after_help = "Examples:\n  quorate ctl elect primary host-a\n  quorate ctl elect -l primary")]
    Elect(elect::Elect),
    /// Who the members are, and changes of them
    #[command(subcommand, after_help = "Example:\n  quorate ctl member list -w table")]
    Member(member::Members),
    /// What each endpoint says of itself
    #[command(after_help = "Example:\n  quorate ctl endpoint status --cluster -w table")]
    Endpoint(endpoint::Endpoints),
    /// What the members are alarmed about
    #[command(subcommand, after_help = "Example:\n  quorate ctl alarm list")]
    Alarm(maintenance::Alarms),
    /// Give back space on the disks that is not used
    #[command(after_help = "Example:\n  quorate ctl defrag --cluster")]
    Defrag(maintenance::Defrag),
    /// Let another member lead
    #[command(after_help = "Example:\n  quorate ctl move-leader 91716de20897e7a2")]
    MoveLeader(maintenance::MoveLeader),
    /// Go back to an older version
    #[command(subcommand, after_help = "Example:\n  quorate ctl downgrade validate 3.4")]
    Downgrade(maintenance::Downgrade),
    /// Whether one must log in
    #[command(subcommand, after_help = "Example:\n  quorate ctl auth status")]
    Auth(auth::Auth),
    /// Who may log in
    #[command(subcommand, after_help = "Example:\n  quorate ctl user add alice")]
    User(auth::User),
    /// What users with a role may do
    #[command(subcommand, after_help = "Example:\n  quorate ctl role add reading")]
    Role(role::Roles),
    /// Whether the cluster is fast enough
    #[command(subcommand, after_help = "Example:\n  quorate ctl check perf")]
    Check(check::Check),
    /// The data of a member, in a file
    #[command(subcommand, after_help = "Example:\n  quorate ctl snapshot save backup.db")]
    Snapshot(snapshot::Snapshot),
    /// Copy keys to another cluster, and keep them up to date there
    #[command(after_help = "Example:\n  quorate ctl make-mirror 10.1.0.1:2379 --prefix config/")]
    MakeMirror(mirror::MakeMirror),
    /// Show the global options
    #[command(after_help = "Example:\n  quorate ctl options")]
    Options {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
    /// Show what a command does
    #[command(after_help = "Example:\n  quorate ctl help lease grant")]
    Help {
        /// The command
        #[arg(value_name = "COMMAND")]
        words: Vec<OsString>,
    },
    /// Print what makes a shell complete our commands
    #[command(after_help = "Example:\n  source <(quorate ctl completion bash)")]
    Completion(completion::Options),
    /// Show the version of this program
    #[command(after_help = "Example:\n  quorate ctl version")]
    Version {
        /// Ignored
        #[arg(hide = true)]
        words: Vec<OsString>,
    },
}

/// Runs a command to its end; the exit code of the process.
pub(crate) async fn run(options: Options) -> ExitCode {
    match options.run().await {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(Failure::Silent(code)) => ExitCode::from(code),
        Err(Failure::Said { code, message }) => {
            endpoint::say(&format!("Error: {message}"));
            ExitCode::from(code)
        }
    }
}

/// Says what is wrong with a command line; the exit code of the process.
pub(crate) fn refuse(message: &str) -> i32 {
    endpoint::say(&format!("Error: {message}"));
    i32::from(code::ERROR)
}

impl Options {
    async fn run(self) -> Result<(), Failure> {
        let mut flags = self.global;
        flags.discover().await?;
        let flags = &flags;
        let printer = flags.printer()?;
        let client = || Client::new(flags);
        match self.command {
            Command::Put(put) => put.run(&client()?, printer).await,
            Command::Get(get) => get.run(&client()?, printer).await,
            Command::Del(del) => del.run(&client()?, printer).await,
            Command::Txn(txn) => txn.run(&client()?, printer).await,
            Command::Compaction(compaction) => compaction.run(&client()?).await,
            Command::Watch(watch) => watch.run(&client()?, printer).await,
            Command::Lease(lease) => lease.run(&client()?, printer).await,
            Command::Lock(lock) => lock.run(&client()?, printer).await,
            Command::Elect(elect) => elect.run(&client()?, printer).await,
            Command::Member(member) => member.run(&client()?, printer).await,
            Command::Endpoint(endpoints) => endpoints.run(flags, printer).await,
            Command::Alarm(alarm) => alarm.run(&client()?, printer).await,
            Command::Defrag(defrag) => defrag.run(&client()?).await,
            Command::MoveLeader(move_leader) => move_leader.run(&client()?).await,
            Command::Downgrade(downgrade) => downgrade.run(&client()?, printer).await,
            Command::Auth(auth) => auth.run(&client()?, printer).await,
            Command::User(user) => user.run(&client()?, printer).await,
            Command::Role(role) => role.run(&client()?, printer).await,
            Command::Check(check) => check.run(flags, &client()?).await,
            Command::Snapshot(snapshot) => snapshot.run(flags, printer).await,
            Command::MakeMirror(mirror) => mirror.run(&client()?).await,
            Command::Options { .. } => Ok(output::print(&help::options())?),
            Command::Help { words } => Ok(output::print(&help::of(&words)?)?),
            Command::Completion(options) => Ok(completion::run(&options)?),
            Command::Version { .. } => Ok(output::print(&version())?),
        }
    }
}

fn version() -> String {
    format!(
        "quorate version: {}\nAPI version: 3.5\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// A command whose flags that are true or false take a value as Go's do: `--prefix` and `--prefix=false`.
pub(crate) fn as_go_has_them(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let is_switch = matches!(arg.get_action(), ArgAction::Set | ArgAction::SetTrue)
            && arg.get_value_parser().type_id() == TypeId::of::<bool>();
        let default = arg.get_default_values().first().cloned();
        match is_switch {
            true => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .value_name("BOOL")
                .value_parser(ValueParser::new(boolean))
                .default_value(default.unwrap_or("false".into()))
                .default_missing_value("true")
                .hide_possible_values(true)
                .hide_default_value(true),
            false => arg,
        }
    });
    command.mut_subcommands(as_go_has_them)
}

/// Commands below `path` with their usage as one reads it: how many arguments there may be is for the command to
/// check, so that it can say so in etcdctl's words.
pub(crate) fn with_usage(command: clap::Command, path: &str) -> clap::Command {
    let path = format!("{path} {}", command.get_name());
    let shown = |id: &str| {
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_id() == id && !arg.is_hide_set())?;
        Some(arg.get_value_names()?.first()?.to_string())
    };
    let usage = match (shown("words"), shown("command")) {
        (Some(words), Some(_)) => format!("{path} [OPTIONS] {words} [-- COMMAND...]"),
        (Some(words), None) => format!("{path} [OPTIONS] {words}"),
        (None, _) => return command.mut_subcommands(|inner| with_usage(inner, &path)),
    };
    command.override_usage(usage)
}

/// What Go takes for true and false.
///
/// # Errors
///
/// If it is neither.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it must be true or false".to_string()),
    }
}
