//! Text for people and for scripts that read lines, with Go's way of quoting.

use bytes::Bytes;
use quorate_etcd_api::etcdserverpb::ResponseHeader;
use quorate_etcd_api::mvccpb::KeyValue;
use std::fmt::{Display, Write as _};

/// Output under construction. Keys and values go into it as they are, whatever bytes they are.
#[derive(Default)]
pub(crate) struct Text {
    bytes: Vec<u8>,
    hex: bool,
}

impl Text {
    /// Nothing yet; keys and values will be written in hexadecimal if `hex`.
    pub(crate) fn new(hex: bool) -> Self {
        Self {
            bytes: Vec::new(),
            hex,
        }
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.bytes.extend_from_slice(format!("{line}\n").as_bytes());
    }

    /// A line that is a key or a value.
    pub(crate) fn data(&mut self, data: &[u8]) {
        match self.hex {
            true => {
                let digits = data.iter().map(|byte| format!("\\x{byte:02x}"));
                self.bytes.extend(digits.collect::<String>().into_bytes());
            }
            false => self.bytes.extend_from_slice(data),
        }
        self.bytes.push(b'\n');
    }

    /// A key and its value, each in a line.
    pub(crate) fn key_value(&mut self, kv: &KeyValue) {
        self.data(&kv.key);
        self.data(&kv.value);
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A line `"name" : value`.
    pub(crate) fn field(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("\"{name}\" : {value}"));
    }

    /// A line `"name" : "value"`.
    pub(crate) fn quoted(&mut self, name: &str, value: &[u8]) {
        self.field(name, quote(value));
    }

    /// The four fields of a header, if there is one.
    pub(crate) fn header(&mut self, header: Option<&ResponseHeader>) {
        let Some(header) = header else { return };
        self.field("ClusterID", header.cluster_id);
        self.field("MemberID", header.member_id);
        self.field("Revision", header.revision);
        self.field("RaftTerm", header.raft_term);
    }

    /// The fields of a key, each with `prefix` before its name.
    pub(crate) fn key_value_fields(&mut self, prefix: &str, kv: &KeyValue) {
        self.quoted(&format!("{prefix}Key"), &kv.key);
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.quoted(&format!("{prefix}Value"), &kv.value);
        self.field(&format!("{prefix}Lease"), kv.lease);
    }
}

/// Bytes between quotation marks, as Go's `%q` has it.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote_char(c, &mut text));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn quote_char(c: char, text: &mut String) {
    let named = match c {
        '\x07' => Some('a'),
        '\x08' => Some('b'),
        '\x0c' => Some('f'),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\x0b' => Some('v'),
        '"' | '\\' => Some(c),
        _ => None,
    };
    let code = u32::from(c);
    let _ = match named {
        Some(name) => write!(text, "\\{name}"),
        None if is_printable(c) => write!(text, "{c}"),
        None if code < 0x80 => write!(text, "\\x{code:02x}"),
        None if code < 0x1_0000 => write!(text, "\\u{code:04x}"),
        None => write!(text, "\\U{code:08x}"),
    };
}

fn is_printable(c: char) -> bool {
    match c.is_ascii() {
        true => c == ' ' || c.is_ascii_graphic(),
        false => c.escape_debug().len() == 1,
    }
}

/// Reads a Go string literal at the beginning of `text`; what it says and what is after it.
///
/// None if there is none, or it does not end.
pub(crate) fn unquote(text: &str) -> Option<(Bytes, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (inside, after) = rest.split_once('`')?;
        return Some((Bytes::copy_from_slice(inside.as_bytes()), after));
    }
    let mut rest = text.strip_prefix('"')?;
    let mut value = Vec::new();
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((value.into(), rest)),
            '\n' => return None,
            '\\' => rest = escape(rest, &mut value)?,
            c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Reads what follows a backslash into `value`; what is after it.
fn escape<'a>(text: &'a str, value: &mut Vec<u8>) -> Option<&'a str> {
    let c = text.chars().next()?;
    let rest = &text[c.len_utf8()..];
    let digits = |from: &'a str, count: usize, radix| {
        let code = u32::from_str_radix(from.get(..count)?, radix).ok()?;
        Some((code, &from[count..]))
    };
    let plain = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '"' => c as u8,
        'x' | '0'..='7' => {
            let (code, rest) = match c {
                'x' => digits(rest, 2, 16)?,
                _ => digits(text, 3, 8)?,
            };
            value.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let (code, rest) = digits(rest, if c == 'u' { 4 } else { 8 }, 16)?;
            let c = char::from_u32(code)?;
            value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    value.push(plain);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_quoted_as_go_quotes_them() {
        let quoted: [(&[u8], &str); 5] = [
            (b"foo", r#""foo""#),
            (b"a\nb\t\"\\\x00", r#""a\nb\t\"\\\x00""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
            ("é\u{2028}".as_bytes(), "\"é\\u2028\""),
            (b"", r#""""#),
        ];
        for (bytes, text) in quoted {
            assert_eq!(quote(bytes), text);
        }
    }

    #[test]
    fn what_is_quoted_can_be_read_again() {
        let all: Vec<u8> = (0..=255).collect();
        let quoted = format!("{} rest", quote(&all));
        assert_eq!(unquote(&quoted), Some((Bytes::from(all), " rest")));
        let raw = unquote("`a\\n`)").map(|(value, rest)| (value.to_vec(), rest));
        assert_eq!(raw, Some((b"a\\n".to_vec(), ")")));
        assert_eq!(unquote(r#""\101\u00e9""#).unwrap().0, "Aé".as_bytes());
        for bad in ["", "a", "\"a", "\"\\", "\"\\q\"", "`a", "\"\\x1\""] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    #[test]
    fn hexadecimal_is_for_keys_and_values_only() {
        let mut text = Text::new(true);
        text.line("OK");
        text.data(b"a\n");
        assert_eq!(text.into_bytes(), b"OK\n\\x61\\x0a\n");
    }
}
