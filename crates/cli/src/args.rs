//! The command line as a whole: its commands, its environment and how it reports a mistake.
//!
//! - `quorate start` takes every long flag from the environment too, as `QUORATE_X` or `ETCD_X`.
//!   A flag wins over `QUORATE_X`, which wins over `ETCD_X`. An empty variable counts as unset,
//!   as it does for etcd.
//! - `quorate ctl` takes its global flags from `ETCDCTL_X`, but not both at once, as etcdctl does not.
//! - A mistake is reported in one line.

use crate::start::config_file;
use crate::start::etcd_flags::{self, UNSERVED, Unserved};
use crate::{bench, completion, ctl, dev, member, output, sim, snapshot, start};
use clap::builder::Styles;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
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
}

/// Reads the command line of this process; ends it if there is nothing to run.
pub(crate) fn parse() -> Command {
    let words: Vec<OsString> = env::args_os().collect();
    match read(&words, |name| env::var(name).ok()) {
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
fn read(words: &[OsString], lookup: impl Fn(&str) -> Option<String>) -> Result<Command, Unreadable> {
    // A file, if there is one, takes the place of everything else.
    let of_file = |name: &str| lookup(name).filter(|_| name.ends_with("_CONFIG_FILE"));
    let plain = command(of_file);
    if let Ok(matches) = plain.clone().try_get_matches_from(words)
        && let Some(("start", matches)) = matches.subcommand()
        && let Some(file) = matches.get_one::<PathBuf>("config_file")
    {
        return read_file(file, matches, &lookup).map_err(Unreadable::Said);
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
        Err(error) => Err(Unreadable::Words(error, path(&command, words))),
    }
}

/// What is said of a flag of `quorate ctl` that is given twice over.
fn ctl_conflict(
    command: &clap::Command,
    matches: &ArgMatches,
    lookup: &impl Fn(&str) -> Option<String>,
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
    lookup: &impl Fn(&str) -> Option<String>,
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
fn shadowed(flags: &[Arg], lookup: &impl Fn(&str) -> Option<String>, file: &Path) -> Option<String> {
    let names = flags.iter().filter_map(Arg::get_long).flat_map(|long| {
        let suffix = etcd_flags::suffix(long);
        etcd_flags::VARIABLES.map(|prefix| format!("{prefix}_{suffix}"))
    });
    let set: Vec<String> = names
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
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// A number that counts something there must be one of at least.
pub(crate) fn positive(text: &str) -> Result<NonZeroU64, String> {
    text.parse()
        .map_err(|_| format!("it must be a whole number from 1 to {}", u64::MAX))
}

fn command(lookup: impl Fn(&str) -> Option<String>) -> clap::Command {
    let for_start = |arg: &Arg| {
        let suffix = etcd_flags::suffix(arg.get_long()?);
        let names = etcd_flags::VARIABLES
            .iter()
            .map(|prefix| format!("{prefix}_{suffix}"));
        names.into_iter().find_map(|name| set(&lookup, &name))
    };
    let for_ctl = |arg: &Arg| {
        let name = ctl::variable(arg.get_long()?);
        set(&lookup, &name).filter(|_| arg.is_global_set())
    };
    Cli::command()
        .mut_subcommand("start", |start| {
            let start = start.args(UNSERVED.iter().map(Unserved::arg));
            start.mut_args(|arg| with_default(arg, for_start))
        })
        .mut_subcommand("ctl", |ctl| {
            ctl::with_usage(ctl::as_go_has_them(ctl), "quorate").mut_args(|arg| with_default(arg, for_ctl))
        })
}

/// The value of a variable that is set to something.
fn set(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.is_empty())
}

/// `arg` with a default of its own, if there is one.
fn with_default(arg: Arg, default: impl Fn(&Arg) -> Option<String>) -> Arg {
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
    let message = rendered.split("Usage:").next().unwrap_or(&rendered);
    let message = message.split("For more information").next().unwrap_or(message);
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
mod tests {
    use super::*;

    fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<Command, String> {
        let lookup = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        read(&words, lookup).map_err(|error| match error {
            Unreadable::Words(error, path) => mistake(&error, &path),
            Unreadable::Said(message) | Unreadable::Ctl(message) => message,
        })
    }

    fn start_options(line: &str, environment: &[(&str, &str)]) -> start::Options {
        match parse_with(line, environment) {
            Ok(Command::Start(options)) => *options,
            Ok(_) => panic!("another command was parsed"),
            Err(error) => panic!("{error}"),
        }
    }

    fn start_name(line: &str, environment: &[(&str, &str)]) -> String {
        start_options(line, environment).name().to_owned()
    }

    #[test]
    fn the_definition_is_consistent() {
        command(|_| None).debug_assert();
    }

    #[test]
    fn a_flag_wins_over_our_variable_which_wins_over_etcds() {
        let etcd = ("ETCD_NAME", "etcd");
        let ours = ("QUORATE_NAME", "ours");
        assert_eq!(start_name("quorate start", &[]), "default");
        assert_eq!(start_name("quorate start", &[etcd]), "etcd");
        assert_eq!(start_name("quorate start", &[etcd, ours]), "ours");
        assert_eq!(start_name("quorate start --name flag", &[etcd, ours]), "flag");
        assert_eq!(start_name("quorate start", &[("QUORATE_NAME", ""), etcd]), "etcd");
    }

    #[test]
    fn mistakes_are_one_line_and_name_the_command() {
        let lines = [
            "quorate start --nmae a",
            "quorate start --election-timeout soon",
            "quorate dev --nodes none",
            "quorate bench put --clients",
            "quorate sim replay",
            "quorate strat",
        ];
        for line in lines {
            let message = parse_with(line, &[]).err().expect(line);
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(message.contains("(see `quorate"), "{message}");
        }
        let message = parse_with("quorate start --nmae a", &[]).err().unwrap();
        assert!(
            message.contains("'--nmae'") && message.contains("'--name'"),
            "{message}"
        );
        assert!(message.ends_with("(see `quorate start --help`)"), "{message}");
        let message = parse_with("quorate sim run --seeds x", &[]).err().unwrap();
        assert!(message.ends_with("(see `quorate sim run --help`)"), "{message}");
    }

    #[test]
    fn a_bad_variable_is_a_mistake_too() {
        let message = parse_with("quorate start", &[("ETCD_HEARTBEAT_INTERVAL", "soon")])
            .err()
            .unwrap();
        assert!(message.contains("heartbeat-interval"), "{message}");
    }

    #[test]
    fn flags_of_etcds_that_are_not_served_are_noted_or_refused() {
        let line = "quorate start --max-wals 5 --name a --pre-vote --quota-backend-bytes=8";
        let notes = start_options(line, &[("ETCD_MAX_SNAPSHOTS", "3")]).notes;
        for flag in [
            "--max-wals",
            "--pre-vote",
            "--quota-backend-bytes",
            "--max-snapshots",
        ] {
            assert!(
                notes.iter().any(|note| note.starts_with(flag)),
                "{flag}: {notes:?}"
            );
        }
        let message = parse_with("quorate start --wal-dir w", &[]).err().unwrap();
        assert!(message.contains("--wal-dir is a flag of etcd's"), "{message}");
        let message = parse_with("quorate dev --wal-dir a", &[]).err().unwrap();
        assert!(message.contains("unexpected argument"), "{message}");
    }

    fn with_file(text: &str, flags: &str, environment: &[(&str, &str)]) -> Result<start::Options, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("q.yml");
        std::fs::write(&file, text).unwrap();
        let line = format!("quorate start --config-file {} {flags}", file.display());
        match parse_with(&line, environment)? {
            Command::Start(options) => Ok(*options),
            Command::Dev(_)
            | Command::Member(_)
            | Command::Snapshot(_)
            | Command::Ctl(_)
            | Command::Bench(_)
            | Command::Sim(_)
            | Command::Completion(_) => {
                panic!("another command was parsed")
            }
        }
    }

    #[test]
    fn a_file_takes_the_place_of_flags_and_variables() {
        let options = with_file(
            "name: f\nmax-wals: 5\n",
            "",
            &[("ETCD_NAME", "e"), ("QUORATE_DATA_DIR", "d")],
        );
        let options = options.unwrap();
        assert_eq!(options.name(), "f");
        assert!(options.notes[0].starts_with("--max-wals"), "{:?}", options.notes);
        assert!(
            options.notes[1].contains("ETCD_NAME") && options.notes[1].contains("QUORATE_DATA_DIR"),
            "{:?}",
            options.notes
        );
        let error = with_file("name: f\n", "--name g", &[]).err().unwrap();
        assert!(error.contains("--name") && error.contains("q.yml"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("v.yml");
        std::fs::write(&file, "name: v").unwrap();
        let file = file.display().to_string();
        assert_eq!(start_name("quorate start", &[("ETCD_CONFIG_FILE", &file)]), "v");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_place() {
        for (text, parts) in [
            (
                "name: a\nheartbeat-interval: soon\n",
                ["q.yml: line 2: heartbeat-interval", "soon"],
            ),
            ("nmae: a\n", ["q.yml: line 1", "\"name\""]),
            (
                "unsafe-no-fsync: true\n",
                ["q.yml: line 1: unsafe-no-fsync", "a flag of etcd's"],
            ),
            (
                "client-transport-security:\n  auto-tls: maybe\n",
                ["q.yml: line 2: client-transport-security.auto-tls", "maybe"],
            ),
        ] {
            let error = with_file(text, "", &[]).err().expect(text);
            for part in parts {
                assert!(error.contains(part), "{part:?} is missing in {error:?}");
            }
        }
    }

    /// The keys of the sample that comes with etcd 3.5, with values as they are in it.
    #[test]
    fn etcds_own_sample_is_read() {
        let options = with_file(include_str!("../tests/data/etcd-sample.yml"), "", &[]).unwrap();
        assert_eq!(options.name(), "default");
        assert!(options.notes.iter().all(|note| note.contains("has no effect")));
    }

    #[test]
    fn a_number_that_cannot_be_zero_says_so() {
        for line in [
            "quorate start --heartbeat-interval 0",
            "quorate sim run --seeds 0",
            "quorate bench put --rate 0",
        ] {
            let message = parse_with(line, &[]).err().expect(line);
            assert!(message.contains("a whole number from 1 to"), "{message}");
        }
    }

    #[test]
    fn every_command_has_an_example() {
        let mut waiting = vec![command(|_| None)];
        while let Some(command) = waiting.pop() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            waiting.extend(command.get_subcommands().cloned());
        }
    }
}
