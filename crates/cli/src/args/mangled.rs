//! Whatever is typed, set in the environment or written in a file is understood, or refused in one line that says
//! where it is. Nothing panics.

use super::tests::{said, with_file};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::os::unix::ffi::OsStringExt;

/// What values of flags look like, right and nearly so.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "+5",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "4294967296",
    "1e9",
    "0x10",
    "1.5",
    "true",
    "False",
    "yes",
    "periodic",
    "revision",
    "300ms",
    "1h30m",
    ".5s",
    "1.s",
    "µs",
    "5µs",
    "9999999999999999h",
    "18446744073709551615ns",
    "http://127.0.0.1:2379",
    "https://[::1]:2380/",
    "http://0.0.0.0:0",
    "http://[::]:65536",
    "http://h:1,http://h:2",
    "http://",
    "unix://a:1",
    "default=http://localhost:2380",
    "a=http://h:1,a=http://h:1,b=https://h:2",
    "=http://h:1",
    "a",
    "existing",
    "simple",
    "jwt",
    "jwt,pub-key=a.pub,priv-key=a.key,sign-method=RS512,ttl=1h30m500ms",
    "jwt,sign-method=ES256,priv-key=,ttl=18446744073709551615h",
    "jwt,=,",
    "TLS1.2",
    "TLS1.3",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305,TLS_AES_128_GCM_SHA256",
    "stderr,stdout,a.log",
    "/no/such/file",
    "{}",
    r#"{"maxsize":100,"maxage":18446744073709551615}"#,
    r#"{"maxsize":-1}"#,
    r#"{"maxsize":{"maxsize":[[[["#,
    "json",
    "fatal",
    "*",
    ",",
    ",,a",
    "--",
    "-",
    "--name",
    "a\nb",
    "é\u{301}\u{202e}",
    "Usage:",
    "For more information",
];

/// A value from [`VALUES`], a mangled one, or any text.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(VALUES).prop_map(str::to_owned),
        mangled(VALUES),
        "\\PC{0,12}",
        any::<String>(),
    ]
}

/// One of these with pieces cut out, doubled or put in.
pub(crate) fn mangled(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    let change = (
        any::<Index>(),
        any::<Index>(),
        "[-a-z0-9=,:./\"'\\\\{}\\[\\]#&*| \n\t]{0,3}",
    );
    (select(texts), vec(change, 1..6)).prop_map(|(text, changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (from, to, inserted) in changes {
            let (from, to) = (from.index(chars.len() + 1), to.index(chars.len() + 1));
            let piece: Vec<char> = chars[from.min(to)..from.max(to)].to_vec();
            match from <= to && piece.len() < 8 {
                true => drop(chars.splice(from..to, inserted.chars())),
                false => drop(chars.splice(to.max(from)..to.max(from), piece)),
            }
        }
        chars.into_iter().collect()
    })
}

/// Bytes that need not be text.
fn word() -> impl Strategy<Value = OsString> {
    let bytes = vec(any::<u8>(), 0..8);
    prop_oneof![4 => text().prop_map(OsString::from), 1 => bytes.prop_map(OsString::from_vec)]
}

/// What is said of a command line; a panic if it is not one line.
fn refusal(outcome: Result<Command, Unreadable>) -> Option<String> {
    if let Err(Unreadable::Words(error, _)) = &outcome
        && !error.use_stderr()
    {
        return None; // It is help.
    }
    let message = said(outcome.err()?);
    assert_eq!(message.lines().count(), 1, "{message:?}");
    assert!(!message.contains(char::is_control), "{message:?}");
    Some(message)
}

/// All commands, each by the words that call it, with its flags.
fn commands() -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut waiting = vec![(Vec::new(), definition())];
    while let Some((path, command)) = waiting.pop() {
        for inner in command.get_subcommands() {
            let name = inner.get_name().to_owned();
            waiting.push(([path.as_slice(), &[name]].concat(), inner.clone()));
        }
        let long = command.get_arguments().filter_map(Arg::get_long);
        let short = command.get_arguments().filter_map(Arg::get_short);
        let flags = long.map(|flag| format!("--{flag}"));
        let flags = flags.chain(short.map(|flag| format!("-{flag}")));
        found.push((path, flags.collect()));
    }
    found
}

proptest! {
    #[test]
    fn any_words_are_a_command_or_refused_in_a_line(
        command in select(commands()),
        typed in vec((any::<Option<Index>>(), word(), any::<bool>()), 0..6),
    ) {
        let (path, flags) = command;
        let mut words: Vec<OsString> = vec!["quorate".into()];
        words.extend(path.iter().map(OsString::from));
        for (flag, value, is_one_word) in typed {
            match flag.filter(|_| !flags.is_empty()).map(|flag| flag.get(&flags)) {
                Some(flag) if is_one_word => {
                    let mut word = OsString::from(format!("{flag}="));
                    word.push(value);
                    words.push(word);
                }
                flag => words.extend(flag.map(OsString::from).into_iter().chain([value])),
            }
        }
        let words = with_two_dashes(&words);
        if let Some(message) = refusal(read(&words, |_| None)) {
            let is_about_more = ["--config-file", "etcd's", "No such file"];
            let is_whole = message.ends_with("--help`)") || is_about_more.iter().any(|part| message.contains(part));
            prop_assert!(is_whole, "{}", message);
        }
    }

    #[test]
    fn any_value_of_a_flag_of_start_is_taken_or_refused_by_name(flag in any::<Index>(), value in word()) {
        let flags = start::flag_names();
        let flag = flag.get(&flags);
        let mut word = OsString::from(format!("--{flag}="));
        word.push(&value);
        let outcome = read(&["quorate".into(), "start".into(), word.clone()], |_| None);
        match outcome {
            Ok(Command::Start(options)) => check(*options),
            Ok(_) => prop_assert!(false, "another command"),
            Err(error) => {
                let message = refusal(Err(error)).unwrap();
                let is_named = names_of(flag).iter().any(|name| message.contains(name))
                    || message.contains(&format!("{word:?}")) || flag == "config-file";
                prop_assert!(is_named, "--{}: {}", flag, message);
            }
        }
    }

    #[test]
    fn any_value_of_a_variable_is_taken_or_refused_by_name(flag in any::<Index>(), value in word()) {
        let flags = start::flag_names();
        let flag = flag.get(&flags);
        let variable = format!("ETCD_{}", etcd_flags::suffix(flag));
        let lookup = |name: &str| (name == variable).then(|| value.clone());
        match read(&["quorate".into(), "start".into()], lookup) {
            Ok(Command::Start(options)) => check(*options),
            Ok(_) => prop_assert!(false, "another command"),
            Err(error) => {
                let message = refusal(Err(error)).unwrap();
                let is_named = names_of(flag).iter().any(|name| message.contains(name))
                    || message.contains(&variable) || flag == "config-file";
                prop_assert!(is_named, "--{}: {}", flag, message);
            }
        }
    }

    #[test]
    fn any_file_is_understood_or_refused_with_its_name(text in file()) {
        match with_file(&text, "", &[]) {
            Ok(options) => check(options),
            Err(message) => {
                prop_assert_eq!(message.lines().count(), 1, "{:?}", message);
                prop_assert!(message.contains("q.yml"), "{}", message);
            }
        }
    }
}

/// The configuration of a node, which is one or is refused in a line.
fn check(options: start::Options) {
    let outcome = options.into_config().map_err(|error| format!("{error:#}"));
    let outcome = outcome.and_then(|config| config.check().map_err(|error| error.to_string()));
    if let Err(message) = outcome {
        assert_eq!(message.lines().count(), 1, "{message:?}");
    }
}

/// What a flag is called in a message about it.
fn names_of(flag: &str) -> Vec<String> {
    let start = definition().find_subcommand("start").unwrap().clone();
    let all = start.get_arguments().map(start::names);
    let names = all.filter(|names| names.contains(&flag)).flatten();
    names.map(|name| format!("--{name}")).collect()
}

/// Configuration files, right and less so.
fn file() -> impl Strategy<Value = String> {
    const SAMPLES: &[&str] = &[
        include_str!("../../tests/data/etcd-sample.yml"),
        "name: a\nheartbeat-interval: 100\nelection-timeout: 1000\n",
        "client-transport-security:\n  cert-file: c\n  auto-tls: true\n",
        "listen-client-urls: [http://a:1, 'http://b:2']\nwatch-progress-notify-interval: 5000000000\n",
        "{\"name\": \"a\", \"peer-transport-security\": {\"cert-file\": \"c\"}}",
        "a: &a [x, x]\nname: *a\n",
        "? name\n: |\n  a\n--- \nname: b\n...\n",
        "<<: {name: a}\nname: !!str 5\n",
    ];
    let line =
        (any::<Index>(), text(), select(vec!["", "  ", "- ", "\t"])).prop_map(|(flag, value, indent)| {
            let flags = start::flag_names();
            format!("{indent}{}: {value}\n", flag.get(&flags))
        });
    prop_oneof![
        mangled(SAMPLES),
        vec(line, 1..4).prop_map(|lines| lines.concat()),
        any::<String>(),
    ]
}

/// Deep ones are refused before they are too deep for the stack.
#[test]
fn a_file_that_is_deep_or_makes_much_of_itself_is_refused() {
    let deep = [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")];
    for (open, close) in deep {
        let count = 100_000;
        let text = format!("name: {}{}", open.repeat(count), close.repeat(count));
        let error = with_file(&text, "", &[]).err().expect(open);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let last = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", [last.as_str(); 10].join(", "));
    }
    let error = with_file(&laughs, "", &[]).err().unwrap();
    assert!(error.contains("q.yml") && error.lines().count() == 1, "{error}");
}
