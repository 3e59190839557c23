//! Where logs go and how they look: standard error, for people or as JSON.
//!
//! - Colours are for a terminal, and only where `NO_COLOR` does not forbid them.
//! - A line that cannot be written is lost; the process goes on without its reader.
//!
//! Log text is for people and for machines that collect it; nothing here reads it back.

use anyhow::anyhow;
use clap::ValueEnum;
use std::env;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// The least severe line that is written. etcd's names; `panic` and `fatal` mean `error` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Every step, for debugging
    Debug,
    /// What an operator wants to know
    Info,
    /// What may need attention
    Warn,
    /// What went wrong
    #[value(aliases = ["dpanic", "panic", "fatal"])]
    Error,
    /// Nothing
    #[value(hide = true)]
    Off,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line of text for people
    #[value(alias = "text")]
    Console,
    /// One JSON object a line
    Json,
}

/// Sends the logs of this process to standard error. `RUST_LOG`, if set, wins over `level`.
///
/// # Errors
///
/// If the process has a log already.
pub(crate) fn start(level: Level, format: Format) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directive(level)));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_coloured())
        .log_internal_errors(false);
    let started = match format {
        Format::Console => lines.with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

fn is_coloured() -> bool {
    let is_forbidden = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_forbidden
}

/// Libraries below us are quieter by one level: their news is rarely an operator's.
fn directive(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug,h2=info,hyper=info,tower=info,tonic=info",
        Level::Info => "info,h2=warn,hyper=warn,tower=warn",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Off => "off",
    }
}
