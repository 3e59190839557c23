//! Texts that operators and members write: what is understood prints as a text that means the same.
//!
//! The input is a byte that says what it is to be, and the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_server::{ClusterState, InitialCluster, Suite, TokenKind, Url, Version};
use std::fmt::{Debug, Display};
use std::str::FromStr;

fuzz_target!(|data: &[u8]| {
    let [form, rest @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    match form % 6 {
        0 => prints_alike::<Url>(text),
        1 => prints_alike::<InitialCluster>(text),
        2 => prints_alike::<Suite>(text),
        3 => prints_alike::<Version>(text),
        4 => drop(text.parse::<TokenKind>()),
        _ => drop(text.parse::<ClusterState>()),
    }
});

fn prints_alike<T: FromStr + Display + Debug + PartialEq>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(meant) = text.parse::<T>() {
        let again = meant.to_string().parse().expect("what is printed can be read");
        assert_eq!(meant, again);
    }
}
