//! Lines that are typed while a command runs, and arguments with a form of their own: understood, or refused in a
//! line. Nothing panics.

use super::args::{self, Keys};
use super::print::text::{quote, unquote};
use super::{kv, txn, watch, words};
use crate::args::mangled::{mangled, text};
use crate::duration;
use clap::{Args, FromArgMatches};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

const COMPARES: &[&str] = &[
    r#"mod("key") > "0""#,
    r#"val("k\x00\u00e9") = "a b""#,
    r#"ver(`k`) != "-1""#,
    r#"c("k") < "9223372036854775808""#,
    r#"lease("\377") = "7fffffffffffffff""#,
    r#"("#,
    r#"mod("a")="1""#,
];

const OPERATIONS: &[&str] = &[
    "put key \"a value\" --lease=7f",
    "put k --ignore-value --prev-kv=false",
    "get --prefix '' --order=DESCEND --sort-by=MODIFY",
    "get a b --limit -1 --rev 5 --consistency s",
    "get --from-key --keys-only=true \"\\xff\\xff\"",
    "del --prefix a\\",
    "help put",
    "-- --",
];

const WATCHES: &[&str] = &[
    "watch --prefix --rev 7 'a b' -- echo \"x y\"",
    "watch a b --prev-kv=true --progress-notify",
    "progress",
    "watch --",
    "watch -i",
    "watch --help",
];

const DURATIONS: &[&str] = &[
    "5s",
    "1m30s",
    "1.5h",
    "0",
    "100µs",
    "2562047h47m16.854775807s",
    "9e9s",
    "-1s",
    ".s",
];

/// What is said of input that was refused must be a line, if the input was one.
fn assert_line(message: &str) {
    assert!(!message.is_empty() && message.lines().count() == 1, "{message:?}");
}

proptest! {
    #[test]
    fn any_text_is_a_transaction_or_refused_in_a_line(
        compares in vec(prop_oneof![mangled(COMPARES), text()], 0..3),
        operations in vec(prop_oneof![mangled(OPERATIONS), text()], 0..3),
        end in any::<Vec<u8>>(),
    ) {
        let mut input = format!("{}\n\n{}\n\n\n\n", compares.join("\n"), operations.join("\n")).into_bytes();
        input.extend(end);
        if let Err(message) = txn::read_from(&input) {
            assert_line(&message);
        }
    }

    #[test]
    fn any_line_is_a_watch_or_refused_in_a_line(line in prop_oneof![mangled(WATCHES), text()]) {
        let line = line.replace(['\n', '\r'], " ");
        if let Err(message) = watch::check_line(&line) {
            assert_line(&message);
        }
    }

    #[test]
    fn words_come_back_as_they_were_quoted(typed in vec(vec(any::<u8>(), 0..6), 0..5)) {
        let line: Vec<String> = typed.iter().map(|word| quote(word)).collect();
        let expected: Vec<OsString> = typed.into_iter().map(OsString::from_vec).collect();
        prop_assert_eq!(words::split(&line.join(" ")), expected);
    }

    #[test]
    fn any_line_has_words_and_no_end_without_one(line in any::<String>()) {
        let is_empty = words::split(&line).is_empty();
        prop_assert_eq!(is_empty, line.trim().is_empty());
        let _ = unquote(&line);
    }

    #[test]
    fn any_text_is_a_duration_of_gos_or_none(text in prop_oneof![mangled(DURATIONS), text()]) {
        match duration::parse(&text) {
            // Go's are numbers of nanoseconds with 64 bits and a sign.
            Ok(duration) => prop_assert!(i64::try_from(duration.as_nanos()).is_ok(), "{:?}", duration),
            Err(message) => assert_line(&message),
        }
    }

    #[test]
    fn durations_are_read_as_they_are_written(nanos in 0..i64::MAX as u64) {
        let duration = std::time::Duration::from_nanos(nanos);
        prop_assert_eq!(duration::parse(&duration::show(duration)), Ok(duration));
    }

    #[test]
    fn keys_with_a_prefix_are_those_before_its_end(prefix in vec(any::<u8>(), 0..4), rest in vec(any::<u8>(), 0..4)) {
        let keys = Keys::prefixed(prefix.clone());
        let key = [prefix, rest].concat();
        let is_in = |keys: &Keys, key: &[u8]| key >= &keys.key[..] && (keys.range_end == args::ZERO || key < &keys.range_end[..]);
        prop_assert!(key.is_empty() || is_in(&keys, &key));
    }

    #[test]
    fn numbers_are_read_or_refused_in_a_line(text in text(), radix in prop_oneof![Just(10), Just(16)]) {
        let messages = [args::signed(&text, radix).err(), args::unsigned(&text, radix).err()];
        messages.into_iter().flatten().for_each(|message| assert_line(&message));
    }

    #[test]
    fn a_value_from_standard_input_is_put_as_it_is(value in any::<Vec<u8>>(), key in any::<Vec<u8>>()) {
        let command = kv::Put::augment_args(clap::Command::new("put"));
        let words = ["put".into(), "--".into(), OsString::from_vec(key.clone())];
        let put = kv::Put::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap();
        match put.request(|| Ok(value.clone().into())) {
            Ok(request) => prop_assert!(request.key == key && request.value == value),
            Err(_) => prop_assert!(value.is_empty()),
        }
    }
}
