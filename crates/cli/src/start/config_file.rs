//! The file that a node's settings can come from: etcd's `--config-file`, in YAML or JSON.
//!
//! - A key is a flag's name, or stands in one of etcd's [blocks](BLOCKS). Each becomes that flag, so that what a
//!   flag takes and refuses is said in one place.
//! - What is wrong is told with the file, the line and the key; a key that nobody knows, with the nearest that is known.
//! - As in etcd, a setting that is empty is none, and a duration may be a number of nanoseconds.

use super::config_blocks::{BLOCKS, Block};
use crate::args::one_line;
use clap::Arg;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::any::TypeId;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// A setting in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its key, below the block that it is in.
    pub(crate) key: String,
    /// Where it is, from 1.
    pub(crate) line: u64,
    /// The flag that it is, without dashes.
    pub(crate) flag: String,
    /// What the flag is given.
    pub(crate) value: String,
}

impl Setting {
    /// As a word of a command line.
    pub(crate) fn word(&self) -> String {
        format!("--{}={}", self.flag, self.value)
    }
}

/// Reads the settings in a file; `flags` are all that there are.
///
/// # Errors
///
/// If it cannot be read, is no YAML, or has a key that is no setting: in one line that names the place.
pub(crate) fn read(file: &Path, flags: &[Arg]) -> Result<Vec<Setting>, String> {
    let named = |problem: &dyn fmt::Display| format!("{}: {problem}", file.display());
    let text = read_text(file).map_err(|error| named(&error))?;
    let value: Value = match text.trim().is_empty() {
        true => Value::Nothing,
        false => serde_saphyr::from_str(&text).map_err(|error| named(&one_line(&error.to_string())))?,
    };
    let pairs = match value {
        Value::Nothing => Vec::new(),
        Value::Block(pairs) => pairs,
        Value::Text(_) | Value::Integer(_) | Value::List(_) => {
            return Err(named(&"there must be lines of the form key: value in it"));
        }
    };
    let mut settings = Vec::new();
    for pair in pairs {
        match BLOCKS.iter().find(|block| block.key == pair.key) {
            Some(block) => read_block(block, pair, flags, &mut settings),
            None => read_setting(pair, "", flags, &mut settings),
        }
        .map_err(|problem| named(&problem))?;
    }
    Ok(settings)
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(file)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    match length as u64 > MAX_BYTES {
        true => Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes"))),
        false => Ok(text),
    }
}

fn read_block(block: &Block, pair: Pair, flags: &[Arg], into: &mut Vec<Setting>) -> Result<(), String> {
    let inner = match pair.value {
        Value::Nothing => return Ok(()),
        Value::Block(inner) => inner,
        Value::Text(_) | Value::Integer(_) | Value::List(_) => {
            return Err(format!(
                "line {}: {} must be a block of settings, each on an indented line of its own",
                pair.line, pair.key
            ));
        }
    };
    for mut pair in inner {
        let Some((_, flag)) = block.keys.iter().find(|(key, _)| *key == pair.key) else {
            let known = block.keys.iter().map(|(key, _)| *key);
            return Err(unknown(&pair, block.key, known));
        };
        let key = std::mem::replace(&mut pair.key, (*flag).to_owned());
        read_setting(pair, &format!("{}.{key}", block.key), flags, into)?;
    }
    Ok(())
}

/// Reads a setting whose key is a flag; `shown` is what the file calls it, if something else.
fn read_setting(pair: Pair, shown: &str, flags: &[Arg], into: &mut Vec<Setting>) -> Result<(), String> {
    let is_it = |flag: &&Arg| {
        flag.get_long_and_visible_aliases()
            .is_some_and(|names| names.contains(&pair.key.as_str()))
            || flag
                .get_all_aliases()
                .is_some_and(|names| names.contains(&pair.key.as_str()))
    };
    let Some(flag) = flags.iter().find(is_it) else {
        let blocks = BLOCKS.iter().map(|block| block.key);
        let known = flags.iter().filter_map(Arg::get_long).chain(blocks);
        return Err(unknown(&pair, "", known));
    };
    let is_duration = flag.get_value_parser().type_id() == TypeId::of::<Duration>();
    let value = match (pair.value, is_duration) {
        (Value::Integer(nanos), true) => format!("{nanos}ns"),
        (value, _) => value.text().ok_or_else(|| {
            format!(
                "line {}: {} must be a value, or a list of values",
                pair.line, pair.key
            )
        })?,
    };
    if !value.is_empty() {
        into.push(Setting {
            flag: flag.get_long().unwrap_or(&pair.key).to_owned(),
            key: if shown.is_empty() {
                pair.key
            } else {
                shown.to_owned()
            },
            line: pair.line,
            value,
        });
    }
    Ok(())
}

fn unknown<'a>(pair: &Pair, block: &str, known: impl Iterator<Item = &'a str>) -> String {
    let place = match block {
        "" => String::new(),
        block => format!(" in {block}"),
    };
    let nearest = known.min_by_key(|name| distance(name, &pair.key));
    format!(
        "line {}: {:?} is no setting{place}; the nearest is {:?}",
        pair.line,
        pair.key,
        nearest.unwrap_or_default()
    )
}

/// How many letters are to be added, left out or replaced to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// What stands in a file.
#[derive(Debug)]
enum Value {
    Nothing,
    Text(String),
    Integer(i64),
    List(Vec<Value>),
    Block(Vec<Pair>),
}

#[derive(Debug)]
struct Pair {
    key: String,
    line: u64,
    value: Value,
}

impl Value {
    /// As a flag takes it; none for what no flag could.
    fn text(self) -> Option<String> {
        match self {
            Value::Nothing => Some(String::new()),
            Value::Text(text) => Some(text),
            Value::Integer(number) => Some(number.to_string()),
            Value::List(values) => {
                let texts: Option<Vec<String>> = values.into_iter().map(Value::text).collect();
                Some(texts?.join(","))
            }
            Value::Block(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a block")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            pairs.push(Pair {
                line: key.defined.line(),
                key: key.value,
                value: map.next_value()?,
            });
        }
        Ok(Value::Block(pairs))
    }
}

const MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Vec<Arg> {
        let name = Arg::new("name").long("name").alias("old-name");
        let wait = Arg::new("wait")
            .long("wait")
            .value_parser(|text: &str| text.parse::<u64>().map(Duration::from_nanos));
        let urls = Arg::new("urls").long("listen-client-urls");
        let tls = ["cert-file", "peer-cert-file", "client-crl-file"].map(|name| Arg::new(name).long(name));
        [name, wait, urls].into_iter().chain(tls).collect()
    }

    fn read_str(text: &str) -> Result<Vec<Setting>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("q.yml");
        std::fs::write(&file, text).unwrap();
        read(&file, &flags())
    }

    fn words(text: &str) -> Vec<String> {
        let settings = read_str(text).unwrap();
        settings.iter().map(Setting::word).collect()
    }

    #[test]
    fn settings_are_flags_in_yaml_and_in_json() {
        let yaml = "# a comment\nname: 'a'\nwait: 5\nlisten-client-urls: [http://a:1, http://b:2]\n\
                    client-transport-security:\n  cert-file: c\n  crl-file: r\n  key-file:\n\
                    peer-transport-security:\n  cert-file: p\n";
        let expected = [
            "--name=a",
            "--wait=5ns",
            "--listen-client-urls=http://a:1,http://b:2",
            "--cert-file=c",
            "--client-crl-file=r",
            "--peer-cert-file=p",
        ];
        assert_eq!(words(&yaml.replace("  key-file:\n", "")), expected);
        let json = r#"{"name": "a", "wait": 5, "client-transport-security": {"cert-file": "c"}}"#;
        assert_eq!(words(json), ["--name=a", "--wait=5ns", "--cert-file=c"]);
        assert_eq!(words("old-name: a"), ["--name=a"]);
    }

    #[test]
    fn what_is_empty_is_no_setting() {
        for text in [
            "",
            "# nothing\n",
            "name:\n",
            "name: ''\nclient-transport-security:\n",
        ] {
            assert_eq!(words(text), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, parts) in [
            ("name: a\n\nnmae: b\n", ["line 3", "\"nmae\"", "\"name\""]),
            (
                "client-transport-security:\n  cret-file: c\n",
                ["line 2", "\"cret-file\"", "in client-transport-security"],
            ),
            ("name:\n  a: b\n", ["line 1", "name", "must be a value"]),
            (
                "client-transport-security: 5\n",
                ["line 1", "client-transport-security", "block"],
            ),
            ("- a\n", ["q.yml", "key: value", ""]),
            ("name: a\nname: b\n", ["q.yml", "name", "duplicate"]),
            ("name: [a\n", ["q.yml", "", ""]),
        ] {
            let error = read_str(text).expect_err(text);
            assert_eq!(error.lines().count(), 1, "{error}");
            for part in parts {
                assert!(error.contains(part), "{part:?} is missing in {error:?}");
            }
        }
        let error = read(Path::new("/no/such.yml"), &flags()).unwrap_err();
        assert!(error.contains("/no/such.yml"), "{error}");
    }
}
