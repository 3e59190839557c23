//! What commands take as arguments: keys as the bytes they are, numbers as Go reads them.

use super::failure::Failure;
use bytes::Bytes;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};
use std::os::unix::ffi::OsStringExt;

/// Keys `[key, range_end)`: one key if the end is empty, all from the key on if it is one zero byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) key: Bytes,
    pub(super) range_end: Bytes,
}

impl Keys {
    /// One key.
    pub(super) fn one(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            range_end: Bytes::new(),
        }
    }

    /// All keys that begin with `prefix`.
    pub(super) fn prefixed(prefix: impl Into<Bytes>) -> Self {
        let key: Bytes = prefix.into();
        match key.is_empty() {
            true => Self::from(key),
            false => Self {
                range_end: prefix_end(&key),
                key,
            },
        }
    }

    /// All keys from `key` on.
    pub(super) fn from(key: impl Into<Bytes>) -> Self {
        let key: Bytes = key.into();
        Self {
            key: match key.is_empty() {
                true => ZERO,
                false => key,
            },
            range_end: ZERO,
        }
    }
}

/// The first key after all that begin with `prefix`; a zero byte if there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX);
    match last {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => ZERO,
    }
}

/// A zero byte: the least key, and the end of ranges without an end.
pub(super) const ZERO: Bytes = Bytes::from_static(b"\0");

/// The bytes of an argument.
pub(super) fn bytes(argument: &OsString) -> Bytes {
    argument.clone().into_vec().into()
}

/// An argument that must be text; what is none of it is replaced.
pub(super) fn text(argument: &OsString) -> String {
    argument.to_string_lossy().into_owned()
}

/// A signed number.
///
/// # Errors
///
/// What Go says of it, if it is none.
pub(super) fn signed(text: &str, radix: u32) -> Result<i64, String> {
    i64::from_str_radix(text, radix).map_err(|error| reason("ParseInt", text, &error))
}

/// An unsigned number.
///
/// # Errors
///
/// As [`signed`].
pub(super) fn unsigned(text: &str, radix: u32) -> Result<u64, String> {
    match text.starts_with('+') {
        true => Err(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")),
        false => u64::from_str_radix(text, radix).map_err(|error| reason("ParseUint", text, &error)),
    }
}

fn reason(function: &str, text: &str, error: &ParseIntError) -> String {
    let is_too_far = matches!(
        error.kind(),
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow
    );
    let what = match is_too_far {
        true => "value out of range",
        false => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {what}")
}

/// A lease, by its id in hexadecimal, which is called `what` if it is none.
///
/// # Errors
///
/// If it is none.
pub(super) fn lease(text: &str, what: &str) -> Result<i64, Failure> {
    signed(text, 16).map_err(|error| Failure::arguments(format!("bad {what} ({error}), expecting ID in Hex")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_lacks_it() {
        assert_eq!(prefix_end(b"p/"), &b"p0"[..]);
        assert_eq!(prefix_end(b"a\xff\xff"), &b"b"[..]);
        assert_eq!(prefix_end(b"\xff"), ZERO);
        assert_eq!(Keys::prefixed(""), Keys::from(""));
        assert_eq!(Keys::from("").key, ZERO);
        assert_eq!(Keys::from("k").range_end, ZERO);
    }

    #[test]
    fn what_is_no_number_is_refused_in_gos_words() {
        assert_eq!(signed("-5", 10), Ok(-5));
        assert_eq!(
            signed("zz", 16).unwrap_err(),
            "strconv.ParseInt: parsing \"zz\": invalid syntax"
        );
        assert_eq!(
            unsigned("99999999999999999", 16).unwrap_err(),
            "strconv.ParseUint: parsing \"99999999999999999\": value out of range"
        );
        assert_eq!(
            lease("", "lease ID").unwrap_err().message(),
            "bad lease ID (strconv.ParseInt: parsing \"\": invalid syntax), expecting ID in Hex"
        );
    }
}
