//! The tables in `docs/configuration.md`, held to the flags that there are.
//!
//! `QUORATE_WRITE_DOCS=1 cargo test -p quorate-cli tables` writes them.

use super::Options;
use super::etcd_flags::{Verdict, unserved as all_unserved};
use super::names;
use clap::{Arg, Args};
use std::fmt::Write;
use std::path::Path;

/// The flags that etcd does not have.
const OWN: &[&str] = &[
    "auto-promote-learners",
    "initial-witnesses",
    "max-connections-per-address",
    "max-failed-logins",
    "max-handshakes",
    "max-leases",
    "max-peer-connections-per-address",
    "max-pending-peer-connections",
    "max-watchers",
    "max-watchers-per-stream",
    "min-password-bytes",
];

fn effective() -> String {
    let command = Options::augment_args(clap::Command::new("start"));
    let mut table = String::new();
    let mut heading = String::new();
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long() else { continue };
        let of = arg.get_help_heading().unwrap_or_default();
        if of != heading {
            heading = of.to_owned();
            let _ = write!(table, "\n### {heading}\n\n| flag | default | |\n|---|---|---|\n");
        }
        let _ = writeln!(
            table,
            "| `--{long}`{} | {} | {} |",
            marks(long, arg),
            default(arg),
            help(arg)
        );
    }
    table
}

fn marks(long: &str, arg: &Arg) -> String {
    let mut marks = String::new();
    if OWN.contains(&long) {
        marks.push_str(" *");
    }
    for alias in arg.get_all_aliases().unwrap_or_default() {
        let _ = write!(marks, ", `--{alias}`");
    }
    marks
}

fn default(arg: &Arg) -> String {
    let values: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .filter(|value| !value.is_empty())
        .collect();
    match values.is_empty() {
        true => String::new(),
        false => format!("`{}`", values.join(",")),
    }
}

fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    help.replace('|', "\\|").replace('*', "\\*")
}

fn unserved(verdict: Verdict) -> String {
    let mut table = "\n| flag | why |\n|---|---|\n".to_owned();
    let mut flags = all_unserved();
    flags.retain(|flag| flag.verdict == verdict);
    flags.sort_by_key(|flag| flag.why);
    for group in flags.chunk_by(|a, b| a.why == b.why) {
        let names: Vec<String> = group.iter().map(|flag| format!("`--{}`", flag.name)).collect();
        let _ = writeln!(table, "| {} | {} |", names.join(", "), group[0].why);
    }
    table
}

/// `text` with what is between the marks of `name` replaced.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("\n<!-- end of {name} -->"));
    let (head, rest) = text.split_once(&begin).expect(name);
    let (_, tail) = rest.split_once(&end).expect(name);
    format!("{head}{begin}{table}{end}{tail}")
}

#[test]
fn the_tables_of_flags_are_those_in_the_docs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let written = std::fs::read_to_string(&file).unwrap();
    let mut text = with_table(&written, "effective", &effective());
    text = with_table(&text, "without effect", &unserved(Verdict::Noted));
    text = with_table(&text, "refused", &unserved(Verdict::Refused));
    if std::env::var_os("QUORATE_WRITE_DOCS").is_some() {
        std::fs::write(&file, &text).unwrap();
        return;
    }
    assert!(
        text == written,
        "docs/configuration.md is not up to date: run QUORATE_WRITE_DOCS=1 cargo test -p quorate-cli tables"
    );
}

#[test]
fn no_flag_is_both_served_and_not() {
    let command = Options::augment_args(clap::Command::new("start"));
    for arg in command.get_arguments() {
        for name in names(arg) {
            assert!(all_unserved().iter().all(|flag| flag.name != name), "{name}");
        }
    }
}

/// Each test that `docs/security.md` names for a lesson is there.
#[test]
fn the_tests_that_lessons_name_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named: Vec<(&str, &str)> = text
        .split('`')
        .filter(|code| code.starts_with("crates/"))
        .filter_map(|code| code.split_once(": "))
        .collect();
    assert!(named.len() > 20, "{}", named.len());
    for (file, test) in named {
        let code = std::fs::read_to_string(root.join(file)).expect(file);
        assert!(code.contains(&format!("fn {test}(")), "{file} has no test {test}");
    }
}
