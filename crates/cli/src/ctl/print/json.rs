//! JSON as Go's encoder writes etcd's structs: in the order of their fields, most of them left out when
//! they are zero.

use quorate_etcd_api::authpb::Permission;
use quorate_etcd_api::etcdserverpb::{Member, ResponseHeader};
use quorate_etcd_api::mvccpb::KeyValue;
use std::fmt::Display;

/// A JSON object under construction.
pub(crate) struct Object(String);

impl Object {
    /// One without members.
    pub(crate) fn new() -> Self {
        Self(String::new())
    }

    /// A member that is always there; `value` is JSON.
    pub(crate) fn always(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0 += &format!("{comma}\"{name}\":{value}");
        self
    }

    /// A number, left out if it is zero.
    pub(crate) fn number<N: Display + Default + PartialEq>(self, name: &str, value: N) -> Self {
        match value == N::default() {
            true => self,
            false => self.always(name, value),
        }
    }

    /// A truth, left out if it is none.
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        match value {
            true => self.always(name, true),
            false => self,
        }
    }

    /// A text, left out if it is empty.
    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        match value {
            "" => self,
            value => self.always(name, text(value)),
        }
    }

    /// Bytes in base64, left out if there are none.
    pub(crate) fn bytes(self, name: &str, value: &[u8]) -> Self {
        match value {
            [] => self,
            value => self.always(name, base64(value)),
        }
    }

    /// A list, left out if it is empty; its elements are JSON.
    pub(crate) fn list<T: Display>(self, name: &str, elements: impl IntoIterator<Item = T>) -> Self {
        match list(elements).as_str() {
            "[]" => self,
            some => self.always(name, some),
        }
    }

    /// Something that may not be there.
    pub(crate) fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.always(name, value),
            None => self,
        }
    }

    /// The header of a response as a member.
    pub(crate) fn header(self, name: &str, header: Option<&ResponseHeader>) -> Self {
        self.maybe(name, header.map(|header| Self::new().header_fields(header).end()))
    }

    /// The fields of a header among the members.
    pub(crate) fn header_fields(self, header: &ResponseHeader) -> Self {
        self.number("cluster_id", header.cluster_id)
            .number("member_id", header.member_id)
            .number("revision", header.revision)
            .number("raft_term", header.raft_term)
    }

    /// The JSON.
    pub(crate) fn end(self) -> String {
        format!("{{{}}}", self.0)
    }
}

/// A list of JSON values.
pub(crate) fn list<T: Display>(elements: impl IntoIterator<Item = T>) -> String {
    let elements: Vec<String> = elements.into_iter().map(|element| element.to_string()).collect();
    format!("[{}]", elements.join(","))
}

/// A text, with what Go escapes for the sake of HTML.
pub(crate) fn text(value: &str) -> String {
    let mut json = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => json += "\\n",
            '\r' => json += "\\r",
            '\t' => json += "\\t",
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..' ' => {
                json += &format!("\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json + "\""
}

/// Bytes in base64, between quotation marks.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut json = String::with_capacity(bytes.len() / 3 * 4 + 6);
    json.push('"');
    for group in bytes.chunks(3) {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            json.push(match digit <= group.len() {
                true => char::from(DIGITS[value as usize]),
                false => '=',
            });
        }
    }
    json.push('"');
    json
}

/// A key with its value.
pub(crate) fn key_value(kv: &KeyValue) -> String {
    Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .end()
}

/// A member of the cluster.
pub(crate) fn member(member: &Member) -> String {
    Object::new()
        .number("ID", member.id)
        .text("name", &member.name)
        .list("peerURLs", member.peer_ur_ls.iter().map(|url| text(url)))
        .list("clientURLs", member.client_ur_ls.iter().map(|url| text(url)))
        .flag("isLearner", member.is_learner)
        .end()
}

/// A permission.
pub(crate) fn permission(permission: &Permission) -> String {
    Object::new()
        .number("permType", permission.perm_type)
        .bytes("key", &permission.key)
        .bytes("range_end", &permission.range_end)
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_base64() {
        let coded: [(&[u8], &str); 5] = [
            (b"", "\"\""),
            (b"a", "\"YQ==\""),
            (b"k2", "\"azI=\""),
            (b"foo", "\"Zm9v\""),
            (b"\xff\xfe\xfd\xfc", "\"//79/A==\""),
        ];
        for (bytes, json) in coded {
            assert_eq!(base64(bytes), json);
        }
    }

    #[test]
    fn objects_leave_out_what_is_zero_and_are_json() {
        let json = Object::new()
            .number("a", 0)
            .text("b", "x\"<\n\u{1}")
            .flag("c", false)
            .list("d", Vec::<String>::new())
            .always("e", 0)
            .end();
        assert_eq!(json, r#"{"b":"x\"\u003c\n\u0001","e":0}"#);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["b"], "x\"<\n\u{1}");
    }
}
