use super::*;
use std::os::unix::ffi::OsStringExt;

fn parse_with(line: &str, environment: &[(&str, &str)]) -> Result<Command, String> {
    let lookup = |name: &str| {
        let found = environment.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.into())
    };
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    read(&words, lookup).map_err(said)
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
fn what_was_typed_is_repeated_whole_and_without_control_characters() {
    for typed in ["Usage:", "For more information", "error: x"] {
        let words = ["quorate", "start", "--listen-peer-urls", typed].map(OsString::from);
        let message = said(read(&words, |_| None).err().unwrap());
        let expected =
            format!("invalid value '{typed}' for '--listen-peer-urls <URLS>': URL {typed:?} must start");
        assert!(message.starts_with(&expected), "{message}");
    }
    let words = ["quorate", "strat\t"].map(OsString::from);
    let message = said(read(&words, |_| None).err().unwrap());
    assert!(message.contains(r"'strat\t'"), "{message}");
    let message = parse_with("quorate start", &[("ETCD_CONFIG_FILE", "no\tsuch.yml")]);
    let message = message.err().unwrap();
    assert!(message.starts_with(r"no\tsuch.yml: "), "{message}");
}

#[test]
fn a_bad_variable_is_a_mistake_too() {
    let message = parse_with("quorate start", &[("ETCD_HEARTBEAT_INTERVAL", "soon")])
        .err()
        .unwrap();
    assert!(message.contains("heartbeat-interval"), "{message}");
}

/// A directory need not have a name that is text; a setting that must be text is not passed over because it is none.
#[test]
fn a_variable_need_not_be_text() {
    let bytes = OsString::from_vec(b"d\xff".to_vec());
    let start = |variable: &str| {
        let lookup = |name: &str| (name == variable).then(|| bytes.clone());
        read(&["quorate", "start"].map(OsString::from), lookup)
    };
    let Ok(Command::Start(options)) = start("QUORATE_DATA_DIR") else {
        panic!("a name of a directory is refused")
    };
    assert_eq!(options.into_config().unwrap().data_dir, PathBuf::from(&bytes));
    let message = said(start("QUORATE_NAME").err().unwrap());
    assert!(
        message.contains("UTF-8") && message.contains("QUORATE_NAME"),
        "{message}"
    );
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
    let message = parse_with("quorate start --discovery d", &[]).err().unwrap();
    assert!(message.contains("--discovery is a flag of etcd's"), "{message}");
    let message = parse_with("quorate dev --wal-dir a", &[]).err().unwrap();
    assert!(message.contains("unexpected argument"), "{message}");
}

pub(super) fn with_file(
    text: &str,
    flags: &str,
    environment: &[(&str, &str)],
) -> Result<start::Options, String> {
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
        | Command::Completion(_)
        | Command::Help { .. }
        | Command::Version => {
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
            "force-new-cluster: true\n",
            ["q.yml: line 1: force-new-cluster", "a flag of etcd's"],
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
    let options = with_file(include_str!("../../tests/data/etcd-sample.yml"), "", &[]).unwrap();
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

/// The flags of etcd's with a value that they take.
fn etcds_flags() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../tests/data/etcd-flags.txt").lines();
    let flags = lines.filter(|line| !line.starts_with('#'));
    flags.map(|line| line.split_once(' ').expect(line))
}

/// Those that stop the start, as `docs/configuration.md` says of each.
const REFUSED: [&str; 6] = [
    "discovery",
    "discovery-endpoints",
    "discovery-srv",
    "discovery-token",
    "force-new-cluster",
    "proxy",
];

/// What comes of flags as etcd takes them: by two dashes, by one, from the environment, from a file.
fn outcomes(flags: &[(&str, &str)]) -> [Result<Command, String>; 4] {
    let typed = |dashes: &str| {
        let words = flags
            .iter()
            .map(|(flag, value)| format!("{dashes}{flag}={value}"));
        let words: Vec<OsString> = ["quorate".to_owned(), "start".to_owned()]
            .into_iter()
            .chain(words)
            .map(OsString::from)
            .collect();
        read(&with_two_dashes(&words), |_| None).map_err(said)
    };
    let lookup = |name: &str| {
        let is_it = |(flag, _): &&(&str, &str)| format!("ETCD_{}", etcd_flags::suffix(flag)) == name;
        flags.iter().find(is_it).map(|(_, value)| value.into())
    };
    let words = ["quorate", "start"].map(OsString::from);
    let lines = flags.iter().map(|(flag, value)| format!("{flag}: '{value}'\n"));
    let file = with_file(&lines.collect::<String>(), "", &[]);
    [
        typed("--"),
        typed("-"),
        read(&words, lookup).map_err(said),
        file.map(|options| Command::Start(options.into())),
    ]
}

#[test]
fn flags_of_etcds_start_a_node_however_they_are_given() {
    let harmless: Vec<_> = etcds_flags()
        .filter(|(flag, _)| !REFUSED.contains(flag))
        .collect();
    assert!(harmless.len() > 150, "{}", harmless.len());
    for outcome in outcomes(&harmless) {
        assert_eq!(outcome.err(), None);
    }
}

#[test]
fn flags_of_etcds_that_would_do_harm_are_refused_however_they_are_given() {
    for flag in etcds_flags().filter(|(flag, _)| REFUSED.contains(flag)) {
        for outcome in outcomes(&[flag]) {
            let message = outcome.err().expect(flag.0);
            assert!(message.contains("a flag of etcd's"), "{message}");
        }
    }
}

#[test]
fn blocks_of_a_file_are_flags() {
    let options = with_file(
        "socket-options:\n  reuse-port: true\n  reuse-address: true\n",
        "",
        &[],
    )
    .unwrap();
    assert!(
        options.notes[0].starts_with("--socket-reuse-address"),
        "{:?}",
        options.notes
    );
    let error = with_file("discovery-config:\n  token: t\n", "", &[])
        .err()
        .unwrap();
    assert!(error.contains("discovery-config.token"), "{error}");
}

#[test]
fn every_flag_of_etcds_is_in_the_documentation() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(file).unwrap();
    for (flag, _) in etcds_flags() {
        assert!(text.contains(&format!("`--{flag}`")), "--{flag}");
    }
}

pub(super) fn said(error: Unreadable) -> String {
    match error {
        Unreadable::Words(error, path) => mistake(&error, &path),
        Unreadable::Said(message) | Unreadable::Ctl(message) => message,
    }
}

#[test]
fn a_variable_of_an_older_name_of_a_flag_is_read() {
    let config = |environment: &[(&str, &str)]| {
        format!("{:?}", start_options("quorate start", environment).log_outputs())
    };
    assert_eq!(config(&[("ETCD_LOG_OUTPUT", "stdout")]), "[Stdout]");
    let both = [("ETCD_LOG_OUTPUT", "stdout"), ("ETCD_LOG_OUTPUTS", "a.log")];
    assert_eq!(config(&both), "[File(\"a.log\")]");
}

#[test]
fn true_and_false_are_what_go_takes_for_them() {
    for value in ["1", "t", "TRUE", "0", "False"] {
        start_options(&format!("quorate start --client-cert-auth={value}"), &[]);
        start_options("quorate start", &[("ETCD_CLIENT_CERT_AUTH", value)]);
    }
    assert!(parse_with("quorate start --client-cert-auth=yes", &[]).is_err());
}

#[test]
fn one_dash_is_enough_for_a_flag_of_start_and_for_no_value() {
    let dashed = |line: &str| {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        with_two_dashes(&words)
            .join(&OsString::from(" "))
            .into_string()
            .unwrap()
    };
    assert_eq!(
        dashed("quorate start -name a -data-dir=d -x -h --name=-b"),
        "quorate start --name a --data-dir=d -x -h --name=-b"
    );
    assert_eq!(
        dashed("quorate ctl get -w json -name"),
        "quorate ctl get -w json -name"
    );
}

#[test]
fn help_and_the_version_are_commands_too() {
    let help_of = |words: &[&str]| help(&words.iter().map(OsString::from).collect::<Vec<_>>());
    assert!(help_of(&[]).unwrap().contains("Usage: quorate <COMMAND>"));
    let saving = help_of(&["snapshot", "save"]).unwrap();
    assert!(saving.contains("Usage: quorate snapshot save"), "{saving}");
    assert_eq!(help_of(&["snapshot", "svae"]), None);
    assert!(matches!(parse_with("quorate version", &[]), Ok(Command::Version)));
    assert!(
        matches!(parse_with("quorate help snapshot save", &[]), Ok(Command::Help { words }) if words.len() == 2)
    );
    assert_eq!(version(), format!("quorate {}\n", env!("CARGO_PKG_VERSION")));
}
