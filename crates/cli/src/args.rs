//! The command line as a whole: its commands, its environment and how it reports a mistake.
//!
//! - `quorate start` takes every long flag from the environment too, as `QUORATE_X` or `ETCD_X`.
//!   A flag wins over `QUORATE_X`, which wins over `ETCD_X`. An empty variable counts as unset,
//!   as it does for etcd.
//! - `quorate ctl` takes its global flags from `ETCDCTL_X`, but not both at once, as etcdctl does not.
//! - A mistake is reported in one line.

use crate::start::config_file;
use crate::start::etcd_flags::{self, Unserved};
use crate::{bench, completion, ctl, dev, member, output, sim, snapshot, start};
use clap::builder::{Styles, ValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::any::TypeId;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// A replicated store that etcd's own clients use, with its tools.
#[derive(Parser)]
#[command(name = "quorate", version, styles = Styles::plain(), after_help = EXAMPLES)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  quorate dev                                     a three-node cluster to try, on 127.0.0.1:2379
  quorate start --name a --data-dir /var/lib/a    one real node
  quorate member list                             who the members are
  quorate snapshot save backup.db                 a backup in etcd's format
  quorate ctl put hello world                     write a key, as etcdctl does
  quorate bench put --clients 100 --total 100000  measure it
  quorate sim run --seeds 100 --seed 1            look for bugs in simulated time";

/// What `quorate` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster in this process, to try things out
    Dev(dev::Options),
    /// Run one node of a real cluster, with etcd's flags and environment variables
    Start(Box<start::Options>),
    /// Show and change the members of a running cluster
    Member(member::Options),
    /// Save the state of a running cluster, look at a backup, restore one
    Snapshot(snapshot::Options),
    /// Read and change what a cluster keeps, with etcdctl's commands
    Ctl(Box<ctl::Options>),
    /// Measure a running cluster
    Bench(bench::Options),
    /// Run the simulator: the real code on simulated time, network and disks
    Sim(sim::Options),
    /// Print what makes a shell complete our commands
    Completion(completion::Options),
    /// Show what a command does
    #[command(after_help = "Example:\n  quorate help snapshot save")]
    Help {
        /// The command
        #[arg(value_name = "COMMAND")]
        words: Vec<OsString>,
    },
    /// Show the version of this program
    #[command(after_help = "Example:\n  quorate version")]
    Version,
}

/// Reads the command line of this process; ends it if there is nothing to run.
pub(crate) fn parse() -> Command {
    let words: Vec<OsString> = with_two_dashes(&env::args_os().collect::<Vec<_>>());
    match read(&words, |name| env::var_os(name)) {
        Ok(command) => command,
        Err(Unreadable::Words(error, path)) => leave(&error, &path),
        Err(Unreadable::Said(message)) => {
            output::complain(&message);
            std::process::exit(USAGE)
        }
        Err(Unreadable::Ctl(message)) => std::process::exit(ctl::refuse(&message)),
    }
}

/// The whole command, for what is made from it.
pub(crate) fn definition() -> clap::Command {
    command(|_| None)
}

/// The help of the command that words name; none if there is no such command.
pub(crate) fn help(words: &[OsString]) -> Option<String> {
    let mut command = definition();
    // What is global is known to inner commands only then.
    command.build();
    for word in words {
        command = command.find_subcommand(word)?.clone();
    }
    Some(command.render_long_help().to_string())
}

/// What `--version` shows.
pub(crate) fn version() -> String {
    definition().render_version()
}

/// Why there is nothing to run.
enum Unreadable {
    /// What clap says of it, and the command that it is about.
    Words(clap::Error, String),
    /// A line that says all.
    Said(String),
    /// The same of `quorate ctl`, as etcdctl says it.
    Ctl(String),
}

/// Reads a command line with an environment.
fn read(words: &[OsString], lookup: impl Fn(&str) -> Option<OsString>) -> Result<Command, Unreadable> {
    // A file, if there is one, takes the place of everything else.
    let of_file = |name: &str| lookup(name).filter(|_| name.ends_with("_CONFIG_FILE"));
    let plain = command(of_file);
    if let Ok(matches) = plain.clone().try_get_matches_from(words)
        && let Some(("start", matches)) = matches.subcommand()
        && let Some(file) = matches.get_one::<PathBuf>("config_file")
    {
        return read_file(file, matches, &lookup).map_err(|message| Unreadable::Said(one_line(&message)));
    }
    let command = command(&lookup);
    let read = command.clone().try_get_matches_from(words).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli.command, matches))
    });
    match read {
        Ok((Command::Start(mut options), matches)) => {
            if let Some(matches) = matches.subcommand_matches("start") {
                let notes = etcd_flags::notes(matches).map_err(Unreadable::Said)?;
                options.notes.extend(notes);
            }
            Ok(Command::Start(options))
        }
        Ok((read, matches)) => match ctl_conflict(&command, &matches, &lookup) {
            Some(message) => Err(Unreadable::Ctl(message)),
            None => Ok(read),
        },
        Err(error) => {
            let path = path(&command, words);
            Err(match (error.kind(), path.starts_with("quorate ctl")) {
                (ErrorKind::InvalidUtf8, false) => Unreadable::Said(no_text(&path, words, &lookup)),
                (ErrorKind::InvalidUtf8, true) => Unreadable::Ctl(no_text(&path, words, &lookup)),
                _ => Unreadable::Words(error, path),
            })
        }
    }
}

/// What is said if something is no text that must be: clap does not say what.
fn no_text(path: &str, words: &[OsString], lookup: &impl Fn(&str) -> Option<OsString>) -> String {
    let definition = definition();
    let variables = definition.get_subcommands().flat_map(|command| {
        let of: fn(&Arg) -> Vec<String> = match command.get_name() {
            "ctl" => |arg| arg.get_long().map(ctl::variable).into_iter().collect(),
            _ => variables_of,
        };
        command.get_arguments().flat_map(of).collect::<BTreeSet<_>>()
    });
    let is_text = |value: &OsString| value.to_str().is_some();
    let variables = variables.filter(|name| lookup(name).is_some_and(|value| !is_text(&value)));
    let words = words.iter().filter(|word| !is_text(word));
    let words = words.map(|word| format!("{word:?}"));
    let found: Vec<String> = words.chain(variables).collect();
    let found = found.join(", ");
    format!(
        "only names of files, keys and values need not be text in UTF-8: correct {found} (see `{path} --help`)"
    )
}

/// What is said of a flag of `quorate ctl` that is given twice over.
fn ctl_conflict(
    command: &clap::Command,
    matches: &ArgMatches,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let matches = matches.subcommand_matches("ctl")?;
    let variable = ctl::conflict(command.find_subcommand("ctl")?, matches, lookup)?;
    Some(format!(
        "conflicting environment variable {variable:?} is shadowed by corresponding command-line flag (either unset environment variable or disable flag)"
    ))
}

/// `quorate start` as a file says. Flags beside it are refused; variables are ignored, as in etcd, with a note.
fn read_file(
    file: &Path,
    given: &ArgMatches,
    lookup: &impl Fn(&str) -> Option<OsString>,
) -> Result<Command, String> {
    let start = command(|_| None);
    let start = start.find_subcommand("start").cloned().unwrap_or_default();
    let flags: Vec<Arg> = start
        .get_arguments()
        .filter(|arg| arg.get_long().is_some_and(|long| long != "config-file"))
        .cloned()
        .collect();
    let is_given = |flag: &&Arg| given.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
    if let Some(flag) = flags.iter().find(is_given).and_then(Arg::get_long) {
        return Err(format!(
            "--config-file takes the place of all other flags: write {flag} into {}, or leave --{flag} out",
            file.display()
        ));
    }
    let settings = config_file::read(file, &flags)?;
    let parse = |words: Vec<String>| {
        let words = ["start".to_owned()].into_iter().chain(words);
        start.clone().try_get_matches_from(words)
    };
    let mut notes = Vec::new();
    for setting in &settings {
        let place = || format!("{}: line {}: {}", file.display(), setting.line, setting.key);
        let matches = parse(vec![setting.word()]);
        let matches = matches.map_err(|error| format!("{}: {}", place(), reason(&error)))?;
        notes.extend(etcd_flags::notes(&matches).map_err(|error| format!("{}: {error}", place()))?);
    }
    let matches = parse(settings.iter().map(config_file::Setting::word).collect());
    let options = matches.and_then(|matches| start::Options::from_arg_matches(&matches));
    let mut options = options.map_err(|error| format!("{}: {}", file.display(), reason(&error)))?;
    notes.extend(shadowed(&flags, lookup, file));
    options.notes = notes;
    Ok(Command::Start(Box::new(options)))
}

/// A note of the variables that do not count because of a file.
fn shadowed(flags: &[Arg], lookup: &impl Fn(&str) -> Option<OsString>, file: &Path) -> Option<String> {
    let set: Vec<String> = flags
        .iter()
        .flat_map(variables_of)
        .filter(|name| lookup(name).is_some_and(|value| !value.is_empty()))
        .collect();
    let is_any = !set.is_empty();
    is_any.then(|| {
        format!(
            "ignoring environment variables, as all settings are in {}: {}",
            file.display(),
            set.join(", ")
        )
    })
}

/// All of `text` in one line: what a message says after its first line is kept, in sequence.
///
/// What would move the cursor or change the terminal is shown and not done: a message repeats what was typed.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    let shown = line.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    shown.collect()
}

/// A number that counts something there must be one of at least.
pub(crate) fn positive(text: &str) -> Result<NonZeroU64, String> {
    text.parse()
        .map_err(|_| format!("it must be a whole number from 1 to {}", u64::MAX))
}

fn command(lookup: impl Fn(&str) -> Option<OsString>) -> clap::Command {
    let for_start = |arg: &Arg| variables_of(arg).into_iter().find_map(|name| set(&lookup, &name));
    let for_ctl = |arg: &Arg| {
        let name = ctl::variable(arg.get_long()?);
        set(&lookup, &name).filter(|_| arg.is_global_set())
    };
    Cli::command()
        .mut_subcommand("start", |start| {
            let start = start.args(etcd_flags::unserved().iter().map(Unserved::arg));
            start.mut_args(|arg| with_default(with_gos_booleans(arg), for_start))
        })
        .mut_subcommand("ctl", |ctl| {
            ctl::with_usage(ctl::as_go_has_them(ctl), "quorate").mut_args(|arg| with_default(arg, for_ctl))
        })
}

/// The variables of a flag of `quorate start`, the one that wins first.
fn variables_of(arg: &Arg) -> Vec<String> {
    let names = start::names(arg);
    let of = |prefix| {
        names
            .iter()
            .map(move |name| format!("{prefix}_{}", etcd_flags::suffix(name)))
    };
    etcd_flags::VARIABLES.into_iter().flat_map(of).collect()
}

/// `arg` with whatever etcd takes for true and false, if it is one or the other.
fn with_gos_booleans(arg: Arg) -> Arg {
    match arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        true => arg
            .value_parser(ValueParser::new(ctl::boolean))
            .hide_possible_values(true),
        false => arg,
    }
}

/// A command line with the flags of `quorate start` as clap has them: etcd takes them with one dash too.
fn with_two_dashes(words: &[OsString]) -> Vec<OsString> {
    let mut words = words.to_vec();
    if words.get(1).is_none_or(|command| command != "start") {
        return words;
    }
    let known = start::flag_names();
    for word in words.iter_mut().skip(2) {
        let Some(flag) = word.to_str().and_then(|text| text.strip_prefix('-')) else {
            continue;
        };
        let name = flag.split('=').next().unwrap_or(flag);
        if known.iter().any(|known| known == name) {
            *word = format!("--{flag}").into();
        }
    }
    words
}

/// The value of a variable that is set to something.
fn set(lookup: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<OsString> {
    lookup(name).filter(|value| !value.is_empty())
}

/// `arg` with a default of its own, if there is one.
fn with_default(arg: Arg, default: impl Fn(&Arg) -> Option<OsString>) -> Arg {
    match default(&arg) {
        Some(value) => arg.default_value(value),
        None => arg,
    }
}

/// Ends the process with help on standard output, or with a mistake in one line on standard error.
fn leave(error: &clap::Error, path: &str) -> ! {
    let asked = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    if asked.contains(&error.kind()) {
        error.exit()
    }
    if path.starts_with("quorate ctl") {
        std::process::exit(ctl::refuse(&mistake(error, path)))
    }
    output::complain(&mistake(error, path));
    std::process::exit(error.exit_code())
}

/// Clap's message without its usage block, in one line, for the command at `path`.
fn mistake(error: &clap::Error, path: &str) -> String {
    format!("{} (see `{path} --help`)", reason(error))
}

/// Clap's message without anything else, in one line.
pub(crate) fn reason(error: &clap::Error) -> String {
    let rendered = error.to_string();
    // What was typed is in it, and may look like what comes after the message.
    let message = rendered.rsplit_once("\n\nFor more information");
    let message = message.map_or(rendered.as_str(), |(message, _)| message);
    let message = message
        .rsplit_once("\n\nUsage:")
        .map_or(message, |(message, _)| message);
    one_line(message.trim_start_matches("error:")).replace(" tip: ", "; ")
}

/// The command that `words` name, as one types it.
fn path(command: &clap::Command, words: &[OsString]) -> String {
    let mut path = vec!["quorate"];
    let mut command = command;
    for word in words.iter().skip(1) {
        let Some(next) = command.find_subcommand(word) else {
            break;
        };
        path.push(next.get_name());
        command = next;
    }
    path.join(" ")
}

/// The exit code of a wrong command line.
const USAGE: i32 = 2;

#[cfg(test)]
pub(crate) mod mangled;
#[cfg(test)]
mod tests;
