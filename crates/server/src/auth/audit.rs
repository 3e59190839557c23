//! The audit log: who called what, on which keys, and how it ended.
//!
//! - Lines have the target `quorate::audit`. What only root may do and what was refused is logged as `info`,
//!   everything else as `debug`.
//! - Never a value, a password or a token. Keys are named, up to a bound.

use std::fmt::Write;

use parking_lot::Mutex;
use quorate_kv::{Caller, Command, KeyRange, Op, Range, ReadTxn, Txn};
use tonic::{Code, Status};

use crate::rpc::Demand;

/// A call that is to be logged when it ends; when its client goes away before, as canceled.
pub(crate) struct Record {
    call: String,
    user: String,
    demand: Demand,
    keys: Mutex<String>,
    ended: Mutex<Option<Code>>,
}

impl Record {
    /// The call of a method on somebody's account.
    pub(crate) fn new(call: String, caller: Option<&Caller>, demand: Demand) -> Record {
        Record {
            call,
            user: caller.map_or_else(|| "?".to_owned(), user_text),
            demand,
            keys: Mutex::default(),
            ended: Mutex::new(None),
        }
    }

    /// Notes which keys the call is about.
    pub(crate) fn note(&self, keys: &impl AuditedKeys) {
        if is_logged(self.demand) {
            keys.write_keys(&mut Text(&mut self.keys.lock()));
        }
    }

    /// Notes how the call ended.
    pub(crate) fn end(&self, code: Code) {
        *self.ended.lock() = Some(code);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = self.ended.get_mut().unwrap_or(Code::Cancelled);
        log(&self.user, &self.call, self.keys.get_mut(), code, self.demand);
    }
}

/// Logs that a watcher was asked for.
pub(crate) fn audit_watch(caller: &Caller, keys: &KeyRange, outcome: &Result<(), Status>) {
    let code = outcome.as_ref().map_or_else(Status::code, |()| Code::Ok);
    let mut text = String::new();
    keys.write_keys(&mut Text(&mut text));
    let call = "/etcdserverpb.Watch/Watch create";
    log(&user_text(caller), call, &text, code, Demand::Decided);
}

/// Logs that somebody tried to log in as a user.
pub(crate) fn audit_login(user: &str, outcome: Result<(), &Status>) {
    let code = outcome.map_or_else(Status::code, |()| Code::Ok);
    let mut name = String::new();
    Text(&mut name).bytes(user.as_bytes());
    log(&name, "/etcdserverpb.Auth/Authenticate", "", code, Demand::Root);
}

fn log(user: &str, call: &str, keys: &str, code: Code, demand: Demand) {
    if is_of_note(demand) || code != Code::Ok {
        tracing::info!(target: "quorate::audit", user, call, keys, result = ?code, "audit");
    } else {
        tracing::debug!(target: "quorate::audit", user, call, keys, result = ?code, "audit");
    }
}

fn is_logged(demand: Demand) -> bool {
    is_of_note(demand) || tracing::enabled!(target: "quorate::audit", tracing::Level::INFO)
}

fn is_of_note(demand: Demand) -> bool {
    match demand {
        Demand::Root => true,
        Demand::Nothing | Demand::Login | Demand::Decided => false,
    }
}

fn user_text(caller: &Caller) -> String {
    match caller {
        Caller::Anonymous => "-".to_owned(),
        Caller::User(credentials) => {
            let mut name = String::new();
            Text(&mut name).bytes(credentials.user.as_str().as_bytes());
            name
        }
        Caller::Member => "member".to_owned(),
    }
}

/// What names the keys it is about.
pub(crate) trait AuditedKeys {
    /// Writes the keys for people.
    fn write_keys(&self, text: &mut Text<'_>);
}

/// Text that stops growing at a bound.
pub(crate) struct Text<'a>(&'a mut String);

impl Text<'_> {
    fn is_full(&self) -> bool {
        self.0.len() >= MAX_TEXT
    }

    /// Keys are any bytes: what is not plain is escaped, so that nobody can forge a line.
    fn bytes(&mut self, bytes: &[u8]) {
        let shown = bytes.get(..MAX_KEY).unwrap_or(bytes);
        // Writing to a string does not fail.
        let _ = write!(self.0, "{}", shown.escape_ascii());
        if shown.len() < bytes.len() {
            self.0.push_str("...");
        }
    }

    fn item(&mut self, verb: &str, keys: &KeyRange) {
        if self.is_full() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push_str(verb);
        match keys {
            KeyRange::Single(key) => self.bytes(key),
            KeyRange::Span { start, end } => {
                self.0.push('[');
                self.bytes(start);
                self.0.push_str(" to ");
                self.bytes(end);
                self.0.push(')');
            }
            KeyRange::From(start) => {
                self.0.push_str("from ");
                self.bytes(start);
            }
        }
        if self.is_full() {
            self.0.push_str(", and more");
        }
    }
}

impl AuditedKeys for KeyRange {
    fn write_keys(&self, text: &mut Text<'_>) {
        text.item("", self);
    }
}

impl AuditedKeys for Range {
    fn write_keys(&self, text: &mut Text<'_>) {
        text.item("get ", &self.keys);
    }
}

impl AuditedKeys for ReadTxn {
    fn write_keys(&self, text: &mut Text<'_>) {
        self.txn().write_keys(text);
    }
}

impl AuditedKeys for Txn {
    fn write_keys(&self, text: &mut Text<'_>) {
        for compare in &self.compares {
            text.item("compare ", &compare.keys);
        }
        for op in self.success.iter().chain(&self.failure) {
            match op {
                Op::Range(range) => range.write_keys(text),
                Op::Put(put) => text.item("put ", &KeyRange::Single(put.key.clone())),
                Op::DeleteRange(delete) => text.item("delete ", &delete.keys),
                Op::Txn(txn) => txn.write_keys(text),
            }
        }
    }
}

impl AuditedKeys for Command {
    fn write_keys(&self, text: &mut Text<'_>) {
        match self {
            Command::Put(put) => text.item("put ", &KeyRange::Single(put.key.clone())),
            Command::DeleteRange(delete) => text.item("delete ", &delete.keys),
            Command::Txn(txn) => txn.write_keys(text),
            Command::LeaseGrant { id, .. } | Command::LeaseRevoke { id, .. } => {
                let _ = write!(text.0, "lease {id}");
            }
            Command::Compact { revision } => {
                let _ = write!(text.0, "to revision {revision}");
            }
            Command::LeaseRenew { .. }
            | Command::PublishMember(_)
            | Command::Alarm { .. }
            | Command::Auth(_) => {}
        }
    }
}

/// About so many bytes of keys are written for one call, and so many of one key.
const MAX_TEXT: usize = 1024;
const MAX_KEY: usize = 128;

#[cfg(test)]
mod tests {
    use quorate_kv::{Compare, Operand, Put, Relation};

    use super::*;

    fn text(keys: &impl AuditedKeys) -> String {
        let mut text = String::new();
        keys.write_keys(&mut Text(&mut text));
        text
    }

    #[test]
    fn every_key_is_named_and_no_value() {
        let txn = Txn {
            compares: vec![Compare {
                keys: KeyRange::Single("a".into()),
                relation: Relation::Equal,
                operand: Operand::Value("secret".into()),
            }],
            success: vec![Op::Put(Put::new("b", "secret"))],
            failure: vec![Op::Txn(Txn {
                success: vec![Op::Range(Range::new(KeyRange::From("c".into())))],
                ..Txn::default()
            })],
        };
        assert_eq!(text(&txn), "compare a, put b, get from c");
    }

    #[test]
    fn no_key_can_forge_a_line_or_fill_the_log() {
        let key = KeyRange::Single("a\nuser=root".into());
        assert_eq!(text(&key), r"a\nuser=root");
        let many = Txn {
            success: vec![Op::Put(Put::new(vec![0; 1000], "")); 100],
            ..Txn::default()
        };
        assert!(text(&many).len() < 2 * MAX_TEXT, "{}", text(&many).len());
    }
}
