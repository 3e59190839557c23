//! `options` and `help`: what the command line itself has to say.

use super::failure::Failure;
use crate::args;
use std::ffi::OsString;
use std::fmt::Write;

/// The options that all commands take.
pub(super) fn options() -> String {
    let mut text = "The following options can be passed to any command:\n\n".to_owned();
    let help = command().render_help().to_string();
    let listed = help.split("Global options:\n").nth(1).unwrap_or_default();
    for line in listed
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with(' '))
    {
        let _ = writeln!(text, "{line}");
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// The help of the command that words name.
///
/// # Errors
///
/// If there is no such command.
pub(super) fn of(words: &[OsString]) -> Result<String, Failure> {
    let path: Vec<OsString> = [OsString::from("ctl")].iter().chain(words).cloned().collect();
    args::help(&path).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        Failure::error(format!("Unknown help topic {:?}", words.join(" ")))
    })
}

fn command() -> clap::Command {
    let mut whole = args::definition();
    // What is global is known to inner commands only then.
    whole.build();
    whole.find_subcommand("ctl").cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_global_ones_and_nothing_else() {
        let text = options();
        for option in [
            "--endpoints",
            "--auth-jwt-token",
            "-d, --discovery-srv",
            "--debug",
            "-w, --write-out",
        ] {
            assert!(text.contains(option), "{option} is not in {text}");
        }
        assert!(
            !text.contains("make-mirror") && !text.contains("Examples"),
            "{text}"
        );
    }

    #[test]
    fn help_is_of_the_command_that_is_named() {
        let of = |words: &[&str]| of(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(
            of(&["lease", "grant"])
                .unwrap()
                .contains("quorate ctl lease grant")
        );
        assert!(of(&[]).unwrap().contains("make-mirror"));
        assert_eq!(
            of(&["nope", "x"]).unwrap_err().message(),
            "Unknown help topic \"nope x\""
        );
    }
}
