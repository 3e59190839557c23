//! Versions as a downgrade names them.

/// Whether etcd can read `text` as the version to go back to: `MAJOR.MINOR`, or a semantic version.
pub(crate) fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, prerelease) = text.split_once('-').unwrap_or((text, ""));
    let numbers: Vec<&str> = numbers.split('.').collect();
    let is_whole = match numbers.len() {
        3 => true,
        // etcd adds the patch, which does not come after anything else.
        2 => prerelease.is_empty() && build.is_empty() && !text.contains('-'),
        _ => false,
    };
    is_whole && numbers.iter().all(|number| is_number(number)) && is_label(prerelease) && is_label(build)
}

/// Go's versions are made of signed numbers. A sign would have been taken for what follows the numbers.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok()
}

/// Identifiers with dots between them, or nothing.
fn is_label(text: &str) -> bool {
    let is_in_identifiers = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_identifier = |part: &str| !part.is_empty() && part.bytes().all(is_in_identifiers);
    text.is_empty() || text.split('.').all(is_identifier)
}

#[cfg(test)]
mod tests {
    use super::is_version;

    /// Each as etcd 3.5.1 takes it.
    #[test]
    fn a_version_is_what_etcd_takes_for_one() {
        for text in [
            "3.4",
            "3.4.0",
            "3.04",
            "03.4",
            "4294967296.4",
            "9223372036854775807.1",
            "3.4.0-rc.1",
            "3.4.0-01",
            "3.4.0-",
            "3.4.0--",
            "3.4.0-+",
            "3.4.0+",
            "3.4.0+b-c",
        ] {
            assert!(is_version(text), "{text:?}");
        }
        for text in [
            "",
            "x",
            "3",
            "3.",
            ".4",
            "3..4",
            "3.4.0.0",
            "v3.4",
            "-3.4",
            "+3.4",
            "3.-4",
            "3.4-",
            "3.4-rc.1",
            "3.4+b",
            "3.4.x",
            " 3.4",
            "3.4 ",
            "3.4.-1",
            "9223372036854775808.1",
            "99999999999999999999.4",
            "3.4.0-rc_1",
            "3.4.0-a..b",
            "3.4.0-é",
            "3.4.0+a+b",
        ] {
            assert!(!is_version(text), "{text:?}");
        }
    }
}
