//! `quorate snapshot`: backups in etcd's format, taken, looked at and restored.
//!
//! - What is saved is a file that etcd's own tools read; what is read may be theirs.
//! - A file has its name, and a directory its place, when it is complete, verified and durable.

mod restore;
mod save;
mod show;

pub(crate) use restore::{EXAMPLES as RESTORE_EXAMPLES, Options as RestoreOptions, run as restore};

use crate::output;
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use quorate_server::{Backup, HashCheck};
use std::path::PathBuf;

/// The arguments of `quorate snapshot`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  quorate snapshot save backup.db --endpoints 10.0.0.1:2379
  quorate snapshot status backup.db
  quorate snapshot restore backup.db --data-dir /var/lib/quorate")]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Save the state of a running member to a file that etcd's tools read too
    #[command(after_help = "Example:\n  quorate snapshot save backup.db --endpoints 10.0.0.1:2379")]
    Save(save::Options),
    /// Check a backup, of Quorate's or of etcd's, and sum it up
    #[command(after_help = "Example:\n  quorate snapshot status backup.db --output table")]
    Status {
        /// The backup, or the file member/snap/db of an etcd that does not run
        file: PathBuf,
        /// How to print the result
        #[arg(
            long,
            short = 'w',
            visible_alias = "write-out",
            value_enum,
            default_value = "simple"
        )]
        output: StatusOutput,
    },
    /// Make the data directory of a member of a new cluster out of a backup, of Quorate's or of etcd's
    #[command(after_help = restore::EXAMPLES)]
    Restore(Box<restore::Options>),
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// How a backup is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusOutput {
    /// Hash, revision, entries and size in one line, as etcd's tools print them
    Simple,
    /// The same with headings
    Table,
    /// One JSON object, with the names that etcd's tools use
    Json,
    /// One "name" : value a line
    Fields,
}

/// Takes, sums up or restores a backup.
///
/// # Errors
///
/// If there is no backup then, or it cannot be used.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    match options.action {
        Action::Save(options) => save::run(options).await,
        Action::Status { file, output } => sum_up(file, output).await,
        Action::Restore(options) => restore(*options).await,
    }
}

/// Checks a backup and sums it up.
///
/// # Errors
///
/// If it is none, or cannot be read.
pub(crate) async fn sum_up(file: PathBuf, output: StatusOutput) -> anyhow::Result<()> {
    let summed_up = move || Backup::open(&file, HashCheck::IfThere)?.status();
    let status = tokio::task::spawn_blocking(summed_up)
        .await
        .context("cannot wait")??;
    output::print(&show::status(&status, output))
}
