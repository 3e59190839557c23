//! What etcd's users bring along that `quorate start` does not serve: flags and variables.
//!
//! - A flag without a meaning here is accepted, with a note in the log. One without which a node would do harm is refused
//!   (`unserved.rs`), unless its value says not to.
//! - A variable that nobody reads is only warned of: Kubernetes, for one, gives a process variables
//!   that begin like etcd's for a service of that name.

use super::unserved::GROUPS;
use clap::{Arg, ArgAction, ArgMatches};

/// A flag of etcd's that is not served.
pub(crate) struct Unserved {
    /// Its name without dashes.
    pub(crate) name: &'static str,
    takes: Takes,
    pub(crate) verdict: Verdict,
    /// Why, as the rest of a sentence.
    pub(crate) why: &'static str,
}

/// Whether a flag can stand without a value.
#[derive(Clone, Copy)]
enum Takes {
    Switch,
    Value,
}

/// All of them, by name.
pub(crate) fn unserved() -> Vec<Unserved> {
    let mut flags = Vec::new();
    for group in GROUPS {
        let switches = group.switches.iter().map(|name| (*name, Takes::Switch));
        let values = group.values.iter().map(|name| (*name, Takes::Value));
        flags.extend(switches.chain(values).map(|(name, takes)| Unserved {
            name,
            takes,
            verdict: group.verdict,
            why: group.why,
        }));
    }
    flags.sort_by_key(|flag| flag.name);
    flags
}

/// What becomes of a flag that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is accepted, and the log says that it has no effect.
    Noted,
    /// The node does not start with it, unless its value is one of [`HARMLESS`].
    Refused,
}

impl Unserved {
    /// The flag for the parser, which is not in the help.
    pub(crate) fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .hide(true)
            .action(ArgAction::Set);
        match self.takes {
            Takes::Value => arg.num_args(1).allow_hyphen_values(true),
            Takes::Switch => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
        }
    }
}

/// What is to be said of the flags among `matches` that are not served: notes for the log.
///
/// # Errors
///
/// If one of them is refused.
pub(crate) fn notes(matches: &ArgMatches) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for flag in unserved() {
        let Some(value) = matches.get_one::<String>(flag.name) else {
            continue;
        };
        let (name, why) = (flag.name, flag.why);
        match flag.verdict {
            Verdict::Noted => notes.push(format!("--{name} has no effect: {why}")),
            Verdict::Refused if HARMLESS.contains(&value.as_str()) => {}
            Verdict::Refused => {
                return Err(format!(
                    "--{name} is a flag of etcd's that Quorate does not serve: {why}"
                ));
            }
        }
    }
    Ok(notes)
}

/// The variables among `set` that look like settings of a node but belong to none of its `flags`,
/// sorted. An empty variable counts as unset.
pub(crate) fn unread_variables<'a>(
    set: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let read: Vec<String> = flags.into_iter().map(suffix).collect();
    let is_unread = |name: &str| {
        let rest = VARIABLES
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix('_'));
        rest.is_some_and(|rest| !read.iter().any(|suffix| suffix == rest))
    };
    let mut unread: Vec<String> = set
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && is_unread(name))
        .map(|(name, _)| name)
        .collect();
    unread.sort();
    unread
}

/// How the variable of a long flag ends: `DATA_DIR` for `data-dir`.
pub(crate) fn suffix(flag: &str) -> String {
    flag.to_uppercase().replace('-', "_")
}

/// How the variables of flags begin, the one that wins first.
pub(crate) const VARIABLES: [&str; 2] = ["QUORATE", "ETCD"];

/// Values by which a flag asks for nothing.
const HARMLESS: [&str; 8] = ["", "off", "false", "False", "FALSE", "f", "F", "0"];

#[cfg(test)]
mod tests {
    use super::*;

    fn notes_of(words: &str) -> Result<Vec<String>, String> {
        let command = clap::Command::new("start").args(unserved().iter().map(Unserved::arg));
        let words = ["start"].into_iter().chain(words.split_whitespace());
        notes(&command.try_get_matches_from(words).unwrap())
    }

    #[test]
    fn no_name_is_there_twice() {
        assert!(unserved().is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn a_flag_without_a_meaning_is_noted_with_the_reason() {
        let notes = notes_of("--max-wals 5 --pre-vote --socket-reuse-address=false").unwrap();
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].starts_with("--max-wals has no effect: "), "{notes:?}");
        assert_eq!(notes_of(""), Ok(Vec::new()));
    }

    #[test]
    fn a_flag_that_asks_for_what_is_not_given_is_refused() {
        for words in [
            "--discovery-srv=d",
            "--force-new-cluster=true",
            "--discovery http://a",
            "--proxy readonly",
        ] {
            let error = notes_of(words).expect_err(words);
            assert!(error.contains("is a flag of etcd's"), "{error}");
        }
        for words in [
            "--force-new-cluster=false",
            "--force-new-cluster=0",
            "--proxy off",
        ] {
            assert_eq!(notes_of(words), Ok(Vec::new()), "{words}");
        }
    }

    #[test]
    fn a_variable_that_nobody_reads_is_found() {
        let set = [
            ("ETCD_QUOTA_BACKEND_BYTES", "1"),
            ("QUORATE_NMAE", "a"),
            ("ETCD_DATA_DIR", "d"),
            ("QUORATE_DATA_DIR", "d"),
            ("ETCD_EMPTY", ""),
            ("ETCDCTL_API", "3"),
        ];
        let set = set.map(|(name, value)| (name.to_string(), value.to_string()));
        let unread = unread_variables(set, ["data-dir", "name"]);
        assert_eq!(unread, ["ETCD_QUOTA_BACKEND_BYTES", "QUORATE_NMAE"]);
    }
}
