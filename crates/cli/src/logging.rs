//! Where logs go and how they look: standard error unless told otherwise, for people or as JSON.
//!
//! - Colours are for a terminal, and only where `NO_COLOR` does not forbid them.
//! - A line that cannot be written is lost; the process goes on without its reader.
//!
//! Log text is for people and for machines that collect it; nothing here reads it back.

mod rotation;

pub(crate) use rotation::Rotation;

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use rotation::Rotating;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file, which is made if it is not there.
    File(PathBuf),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Output, String> {
        match text {
            "" => Err("it is empty: give stderr, stdout or the path of a file".to_owned()),
            // systemd keeps what a service writes to standard error.
            "default" | "stderr" | "systemd/journal" => Ok(Output::Stderr),
            "stdout" => Ok(Output::Stdout),
            path => Ok(Output::File(path.into())),
        }
    }
}

/// Sends the logs of this process to standard error. `RUST_LOG`, if set, wins over `level`.
///
/// # Errors
///
/// If the process has a log already.
pub(crate) fn start(level: Level, format: Format) -> anyhow::Result<()> {
    start_to(level, format, &[Output::Stderr], None)
}

/// As [`start`], to all of these outputs. Files are rotated, if it is said how.
///
/// # Errors
///
/// If the process has a log already, or a file cannot be written to.
pub(crate) fn start_to(
    level: Level,
    format: Format,
    outputs: &[Output],
    rotation: Option<Rotation>,
) -> anyhow::Result<()> {
    let outputs = Outputs::open(outputs, rotation)?;
    let is_for_people = outputs.0.iter().all(|opened| matches!(opened, Opened::Stderr));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directive(level)));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(outputs)
        .with_ansi(is_for_people && is_coloured())
        .log_internal_errors(false);
    let started = match format {
        Format::Console => lines.with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

/// The outputs, opened.
struct Outputs(Vec<Opened>);

enum Opened {
    Stderr,
    Stdout,
    File(File),
    Rotating(Rotating),
}

impl Outputs {
    fn open(outputs: &[Output], rotation: Option<Rotation>) -> anyhow::Result<Outputs> {
        let mut opened = Vec::new();
        for output in outputs {
            opened.push(match output {
                Output::Stderr => Opened::Stderr,
                Output::Stdout => Opened::Stdout,
                Output::File(path) => Opened::file(path, rotation)
                    .with_context(|| format!("--log-outputs: {}", path.display()))?,
            });
        }
        Ok(Outputs(opened))
    }
}

impl Opened {
    fn file(path: &Path, rotation: Option<Rotation>) -> io::Result<Opened> {
        match rotation {
            Some(rotation) => Rotating::open(path, rotation).map(Opened::Rotating),
            None => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                file.map(Opened::File)
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines(&self.0)
    }
}

/// One line's way to all outputs: one that fails does not keep it from the others.
struct Lines<'a>(&'a [Opened]);

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut outcome = Ok(bytes.len());
        for output in self.0 {
            let written = match output {
                Opened::Stderr => io::stderr().write_all(bytes),
                Opened::Stdout => io::stdout().write_all(bytes),
                Opened::File(file) => (&*file).write_all(bytes),
                Opened::Rotating(file) => file.write_all(bytes),
            };
            outcome = written.and(outcome);
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_to_all_outputs_and_files_grow() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a.log"), directory.path().join("b.log"));
        std::fs::write(&a, "before\n").unwrap();
        let named = [&a, &b].map(|path| path.display().to_string().parse().unwrap());
        let outputs = Outputs::open(&named, None).unwrap();
        outputs.make_writer().write_all(b"line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&a).unwrap(), "before\nline\n");
        assert_eq!(std::fs::read_to_string(&b).unwrap(), "line\n");
        let nowhere: Output = directory
            .path()
            .join("no/c.log")
            .display()
            .to_string()
            .parse()
            .unwrap();
        let error = Outputs::open(&[nowhere], None).err().unwrap().to_string();
        assert!(
            error.contains("--log-outputs") && error.contains("c.log"),
            "{error}"
        );
        assert_eq!("default".parse(), Ok(Output::Stderr));
    }
}
