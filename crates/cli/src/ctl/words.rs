//! Lines as words, for what is typed while a command runs.

use super::print::text::unquote;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The words of a line. What is between double quotation marks is a string as Go writes it, what is between
/// single ones is as it is.
pub(super) fn split(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' => unquote(rest).map(|(word, after)| (word.to_vec(), after)),
            '\'' => rest[1..]
                .split_once('\'')
                .map(|(word, after)| (word.as_bytes().to_vec(), after)),
            _ => None,
        }
        .unwrap_or_else(|| {
            let bare = rest.trim_start_matches(['"', '\'']);
            let (word, after) = bare.split_at(bare.find(char::is_whitespace).unwrap_or(bare.len()));
            (word.as_bytes().to_vec(), after)
        });
        words.push(OsString::from_vec(word));
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotation_marks_keep_words_together() {
        let words: Vec<OsString> = ["put", "a b", "c\nd", "e\\n", "--lease=1"]
            .map(OsString::from)
            .into();
        assert_eq!(split(r#" put "a b" "c\nd" 'e\n'   --lease=1 "#), words);
        assert_eq!(split("x \"unended"), ["x", "unended"].map(OsString::from));
        assert_eq!(split(r#""\xff""#), [OsString::from_vec(vec![0xff])]);
        assert!(split("  ").is_empty());
    }
}
