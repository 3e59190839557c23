//! What a request came to, in a form in which two servers can be compared.

use serde_json::{Map, Value};

use super::client::Raw;
use super::symbols::Symbols;

/// The status, what the body is said to be, and the body: JSON where it is, text elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0 if there was none.
    pub(super) status: u16,
    pub(super) content_type: String,
    /// The lines of a stream, if there are several, are an array.
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn new(raw: &Raw) -> Answer {
        Answer {
            status: raw.status,
            content_type: raw.content_type.clone(),
            body: read(&raw.body),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.status == 200
    }

    /// The text of an error; nothing, if it is none, or has the form of a stream's.
    pub(super) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }

    /// Whether it is an error of a call, all of it.
    pub(super) fn is_refused_as(&self, status: u16, code: i32) -> bool {
        let fields = self.body.as_object().map_or(0, Map::len);
        self.status == status
            && fields == 3
            && self.body["code"] == code
            && self.body["error"].is_string()
            && self.body["error"] == self.body["message"]
    }

    /// Whether there is one: the server did not hang, or close the connection.
    pub(super) fn is_one(&self) -> bool {
        self.status != 0
    }

    /// Whether it is an error of a call by which the server says what the client did wrong, or what must be so
    /// first: no failure of its own.
    pub(super) fn is_refused_by_code(&self) -> bool {
        let code = self.body["code"].as_i64();
        let status = match code {
            Some(3 | 9 | 11) => 400,
            Some(5) => 404,
            Some(6) => 409,
            Some(7) => 403,
            Some(8) => 429,
            Some(16) => 401,
            _ => return false,
        };
        // etcd 3.4 has another status for a failed precondition.
        self.body["error"].is_string() && (self.status == status || (self.status, code) == (412, Some(9)))
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        format!("{} {} {:#}", self.status, self.content_type, self.body)
    }

    /// Replaces the server's own ids, and what tells of its insides, in an answer of the method at `path`.
    pub(super) fn normalize(&mut self, path: &str, symbols: &Symbols) {
        replace_ids(&mut self.body, symbols);
        let lines = match self.body.as_array_mut() {
            Some(lines) => lines.as_mut_slice(),
            None => std::slice::from_mut(&mut self.body),
        };
        for line in lines {
            let message = match line.get_mut("result") {
                Some(result) => result,
                None => line,
            };
            if let Value::Object(fields) = message {
                normalize_message(fields, path);
            }
        }
    }
}

/// A JSON value; or a line for each; or text.
fn read(body: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(body) {
        return value;
    }
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    match lines
        .map(serde_json::from_slice)
        .collect::<Result<Vec<Value>, _>>()
    {
        Ok(lines) if !lines.is_empty() => Value::Array(lines),
        _ => Value::String(String::from_utf8_lossy(body).into_owned()),
    }
}

/// Replaces ids wherever they are.
fn replace_ids(value: &mut Value, symbols: &Symbols) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| replace_ids(field, symbols)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_ids(item, symbols)),
        Value::String(text) => symbols.replace(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces what is a server's own by whether it is there.
fn normalize_message(fields: &mut Map<String, Value>, path: &str) {
    if let Some(Value::Object(header)) = fields.get_mut("header") {
        hide(header, &["cluster_id", "raft_term"]);
    }
    match path.rsplit('/').next().unwrap_or_default() {
        "status" => {
            hide(fields, &["version", "raftIndex", "raftTerm", "raftAppliedIndex"]);
            // A server that holds next to nothing leaves them out.
            fields.remove("dbSize");
            fields.remove("dbSizeInUse");
        }
        "hash" => hide(fields, &["hash"]),
        "authenticate" => hide(fields, &["token"]),
        "list" => members(fields).for_each(|member| {
            // Their ports differ.
            hide(member, &["peerURLs", "clientURLs"]);
        }),
        "timetolive" => {
            keep_granted(fields);
            // It is a set: the order is that of a hash.
            sort(fields, "keys");
        }
        // Those that end at nearly the same time come in either order.
        "leases" => sort(fields, "leases"),
        _ => {}
    }
}

fn hide(fields: &mut Map<String, Value>, names: &[&str]) {
    for (_, field) in fields
        .iter_mut()
        .filter(|(name, _)| names.contains(&name.as_str()))
    {
        *field = Value::String("its own".to_owned());
    }
}

fn members(fields: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let members = fields.get_mut("members").and_then(Value::as_array_mut);
    members.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn sort(fields: &mut Map<String, Value>, name: &str) {
    if let Some(Value::Array(items)) = fields.get_mut(name) {
        items.sort_by_key(ToString::to_string);
    }
}

/// Whole seconds that have passed are not the same for both.
fn keep_granted(fields: &mut Map<String, Value>) {
    let seconds = |name| fields.get(name)?.as_str()?.parse::<i64>().ok();
    if let (Some(left), Some(granted)) = (seconds("TTL"), seconds("grantedTTL"))
        && (0..=SEQUENCE_SECS).contains(&granted.saturating_sub(left))
    {
        fields.insert("TTL".to_owned(), granted.to_string().into());
    }
}

/// Longer than any sequence takes.
const SEQUENCE_SECS: i64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(path: &str, body: &str) -> Value {
        let mut answer = Answer::new(&Raw {
            status: 200,
            content_type: "application/json".to_owned(),
            body: body.to_owned().into(),
        });
        answer.normalize(path, &Symbols::of_member("20"));
        answer.body
    }

    #[test]
    fn only_what_is_a_servers_own_is_hidden() {
        let own =
            r#"{"header":{"cluster_id":"1","member_id":"20","raft_term":"2","revision":"3"},"version":"4"}"#;
        let other =
            r#"{"header":{"cluster_id":"5","member_id":"20","raft_term":"6","revision":"3"},"version":"7"}"#;
        assert_eq!(
            answer("/v3/maintenance/status", own),
            answer("/v3/maintenance/status", other)
        );
        // Elsewhere a version is that of a key.
        assert_ne!(answer("/v3/kv/range", own), answer("/v3/kv/range", other));
        assert_ne!(
            answer("/v3/kv/range", "{}"),
            answer("/v3/kv/range", r#"{"header":{}}"#)
        );
    }

    #[test]
    fn lines_of_a_stream_are_read_one_by_one() {
        let lines = "{\"result\":{\"header\":{\"raft_term\":\"2\"},\"ID\":\"7\"}}\n{\"result\":{}}\n";
        let expected =
            serde_json::json!([{"result": {"header": {"raft_term": "its own"}, "ID": "7"}}, {"result": {}}]);
        assert_eq!(answer("/v3/lease/keepalive", lines), expected);
        assert_eq!(answer("/v3/nothing", "Not Found\n"), "Not Found\n");
    }

    #[test]
    fn time_that_has_passed_is_no_difference() {
        let path = "/v3/lease/timetolive";
        let left = |seconds| answer(path, &format!(r#"{{"TTL":"{seconds}","grantedTTL":"600"}}"#));
        assert_eq!(left(600), left(597));
        assert_ne!(left(600), left(-1));
        assert_ne!(left(600), left(100));
    }
}
