//! The command line as a whole: its commands, its environment and how it reports a mistake.
//!
//! - `quorate start` takes every long flag from the environment too, as `QUORATE_X` or `ETCD_X`.
//!   A flag wins over `QUORATE_X`, which wins over `ETCD_X`. An empty variable counts as unset,
//!   as it does for etcd.
//! - `quorate ctl` takes its global flags from `ETCDCTL_X`, but not both at once, as etcdctl does not.
//! - A mistake is reported in one line.

use crate::{bench, completion, ctl, dev, etcd_flags, member, output, sim, snapshot, start};
use clap::builder::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::env;
use std::ffi::OsString;
use std::num::NonZeroU64;

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
    let lookup = |name: &str| env::var(name).ok();
    let command = command(lookup);
    let matches = match command.clone().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => leave(&error, &path(&command, &words)),
    };
    if let Some(message) = ctl_conflict(&command, &matches, &lookup) {
        std::process::exit(ctl::refuse(&message))
    }
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => leave(&error, &path(&command, &words)),
    }
}

/// The whole command, for what is made from it.
pub(crate) fn definition() -> clap::Command {
    command(|_| None)
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
    if let Some(flag) = unserved(error, path) {
        return format!(
            "{flag} is a flag of etcd's that this version of Quorate does not serve (see `{path} --help`)"
        );
    }
    format!("{} (see `{path} --help`)", reason(error))
}

/// Clap's message without anything else, in one line.
pub(crate) fn reason(error: &clap::Error) -> String {
    let rendered = error.to_string();
    let message = rendered.split("Usage:").next().unwrap_or(&rendered);
    let message = message.split("For more information").next().unwrap_or(message);
    one_line(message.trim_start_matches("error:")).replace(" tip: ", "; ")
}

/// The flag that is the mistake, if it is one of etcd's that we do not have.
fn unserved<'a>(error: &'a clap::Error, path: &str) -> Option<&'a str> {
    let is_unknown = path == "quorate start" && error.kind() == ErrorKind::UnknownArgument;
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if is_unknown && etcd_flags::is_unserved(flag) => Some(flag),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<Command, String> {
        let lookup = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let command = command(lookup);
        let matches = command.clone().try_get_matches_from(&words);
        matches
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map(|cli| cli.command)
            .map_err(|error| mistake(&error, &path(&command, &words)))
    }

    fn start_name(line: &str, environment: &[(&str, &str)]) -> String {
        match parse_with(line, environment) {
            Ok(Command::Start(options)) => options.name,
            Ok(_) => panic!("another command was parsed"),
            Err(error) => panic!("{error}"),
        }
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
    fn a_flag_of_ctl_and_its_variable_are_a_conflict() {
        let set = |name: &str| (name == "ETCDCTL_ENDPOINTS").then(|| "a:1".to_string());
        let conflict = |line: &str| {
            let command = command(set);
            let matches = command.clone().try_get_matches_from(line.split_whitespace());
            ctl_conflict(&command, &matches.unwrap(), &set)
        };
        assert_eq!(conflict("quorate ctl get a -w json"), None);
        for line in [
            "quorate ctl get a --endpoints b:1",
            "quorate ctl --endpoints b:1 get a",
            "quorate ctl endpoint health --endpoints=b:1",
        ] {
            let message = conflict(line).expect(line);
            assert!(message.contains("\"ETCDCTL_ENDPOINTS\""), "{message}");
        }
        let unset = |name: &str| (name == "ETCDCTL_ENDPOINTS").then(String::new);
        let command = command(unset);
        let matches = command
            .clone()
            .try_get_matches_from(["quorate", "ctl", "--endpoints=b:1", "get", "a"]);
        assert_eq!(ctl_conflict(&command, &matches.unwrap(), &unset), None);
    }

    #[test]
    fn a_bad_variable_is_a_mistake_too() {
        let message = parse_with("quorate start", &[("ETCD_HEARTBEAT_INTERVAL", "soon")])
            .err()
            .unwrap();
        assert!(message.contains("heartbeat-interval"), "{message}");
    }

    #[test]
    fn a_flag_that_only_etcd_has_is_called_so() {
        let line = "quorate start --quota-backend-bytes=8 --name a";
        let message = parse_with(line, &[]).err().unwrap();
        assert!(
            message.contains("--quota-backend-bytes is a flag of etcd's"),
            "{message}"
        );
        let message = parse_with("quorate dev --wal-dir a", &[]).err().unwrap();
        assert!(message.contains("unexpected argument"), "{message}");
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
