//! The audit log: who called what, on which keys, and how it ended.
//!
//! - Lines have the target `quorate::audit`. What only root may do, logins and what somebody had no right to is logged as
//!   `info`, everything else as `debug`; so it is while authentication is off, when nobody is refused.
//! - Who: the user, the name in the certificate that the client has shown, and the address of its connection.
//! - Never a value, a password or a token. Keys are named, up to a bound.
//! - What demands nothing of its caller, such as a health check, is not logged.

use std::fmt::Write;

use http::Extensions;
use parking_lot::Mutex;
use quorate_kv::{
    Access, AuthCommand, Caller, Command, KeyRange, LeaseId, Op, Permission, Range, ReadTxn, Txn,
};
use tonic::{Code, Status};

use crate::addresses::ClientAddress;
use crate::rpc::Demand;
use crate::security::ClientName;

/// Who called, as the log says it.
#[derive(Clone)]
pub(crate) struct Who {
    user: String,
    certificate: String,
    address: String,
}

impl Who {
    /// Somebody who was found to be `caller`, by a request with these extensions.
    pub(crate) fn of(caller: Option<&Caller>, extensions: &Extensions) -> Who {
        let user = caller.map_or_else(|| "?".to_owned(), user_text);
        Who::called(user, extensions)
    }

    /// Somebody who says that it is this user.
    fn claimed(user: &str, extensions: &Extensions) -> Who {
        Who::called(escaped(user.as_bytes()), extensions)
    }

    fn called(user: String, extensions: &Extensions) -> Who {
        let none = || "-".to_owned();
        let certificate = extensions.get::<ClientName>();
        let address = extensions.get::<ClientAddress>();
        Who {
            user,
            certificate: certificate.map_or_else(none, |name| escaped(name.as_str().as_bytes())),
            address: address.map_or_else(none, |ClientAddress(address)| address.to_string()),
        }
    }
}

/// A call that is to be logged when it ends; when its client goes away before, as canceled.
pub(crate) struct Record {
    call: String,
    who: Who,
    demand: Demand,
    keys: Mutex<String>,
    ended: Mutex<Option<Ended>>,
}

/// How a call ended.
#[derive(Clone, Copy)]
pub(crate) enum Ended {
    /// At the gate: its caller may not call it.
    Refused(Code),
    /// In its service.
    Served(Code),
}

impl Record {
    /// The call of a method by somebody.
    pub(crate) fn new(call: String, who: Who, demand: Demand) -> Record {
        Record {
            call,
            who,
            demand,
            keys: Mutex::default(),
            ended: Mutex::new(None),
        }
    }

    /// Notes which keys the call is about.
    pub(crate) fn note(&self, keys: &impl AuditedKeys) {
        if is_of_note(self.demand) || tracing::enabled!(target: "quorate::audit", tracing::Level::INFO) {
            keys.write_keys(&mut Text(&mut self.keys.lock()));
        }
    }

    /// Notes how the call ended.
    pub(crate) fn end(&self, ended: Ended) {
        *self.ended.lock() = Some(ended);
    }

    /// Logs that a watcher was asked for in the course of the call. A watcher is its stream's caller at that time.
    pub(crate) fn log_watcher(&self, caller: &Caller, keys: &KeyRange, outcome: Result<(), &Status>) {
        let code = outcome.map_or_else(Status::code, |()| Code::Ok);
        let who = Who {
            user: user_text(caller),
            ..self.who.clone()
        };
        let mut text = String::new();
        keys.write_keys(&mut Text(&mut text));
        let call = format!("{} create", self.call);
        log(&who, &call, &text, Ended::Served(code), Demand::Decided);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let ended = self.ended.get_mut().unwrap_or(Ended::Served(Code::Cancelled));
        log(&self.who, &self.call, self.keys.get_mut(), ended, self.demand);
    }
}

/// Whether calls with this demand are logged, whatever comes of them.
pub(crate) fn is_audited(demand: Demand) -> bool {
    demand != Demand::Nothing && tracing::enabled!(target: "quorate::audit", tracing::Level::DEBUG)
}

/// Logs that somebody tried to log in as a user, by a request with these extensions.
pub(crate) fn audit_login(user: &str, extensions: &Extensions, outcome: Result<(), &Status>) {
    let code = outcome.map_or_else(Status::code, |()| Code::Ok);
    let who = Who::claimed(user, extensions);
    let call = "/etcdserverpb.Auth/Authenticate";
    // Whoever is not even looked at costs so little that it could fill the log.
    let demand = if code == Code::ResourceExhausted {
        Demand::Nothing
    } else {
        Demand::Root
    };
    log(&who, call, "", Ended::Served(code), demand);
}

fn log(who: &Who, call: &str, keys: &str, ended: Ended, demand: Demand) {
    let Who {
        user,
        certificate,
        address,
    } = who;
    let (Ended::Refused(result) | Ended::Served(result)) = ended;
    if is_of_note(demand) || is_for_want_of_right(ended) {
        tracing::info!(target: "quorate::audit", user, certificate, client = address, call, keys, ?result, "audit");
    } else {
        tracing::debug!(target: "quorate::audit", user, certificate, client = address, call, keys, ?result, "audit");
    }
}

fn is_of_note(demand: Demand) -> bool {
    match demand {
        Demand::Root => true,
        Demand::Nothing | Demand::Login | Demand::Decided => false,
    }
}

fn is_for_want_of_right(ended: Ended) -> bool {
    match ended {
        Ended::Refused(_) => true,
        Ended::Served(code) => code == Code::PermissionDenied || code == Code::Unauthenticated,
    }
}

fn user_text(caller: &Caller) -> String {
    match caller {
        Caller::Anonymous => "-".to_owned(),
        Caller::User(credentials) => escaped(credentials.user.as_str().as_bytes()),
        Caller::Member => "member".to_owned(),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    Text(&mut text).bytes(bytes);
    text
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

    /// Something that is no key, by its kind and name.
    fn named(&mut self, kind: &str, name: &str) {
        self.begin(kind);
        self.bytes(name.as_bytes());
    }

    fn begin(&mut self, verb: &str) {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push_str(verb);
    }

    fn item(&mut self, verb: &str, keys: &KeyRange) {
        if self.is_full() {
            return;
        }
        self.begin(verb);
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
            Command::LeaseGrant { id, .. } | Command::LeaseRevoke { id, .. } => id.write_keys(text),
            Command::Compact { revision } => text.named("to revision ", &revision.to_string()),
            Command::Alarm { alarm, .. } => text.named("of member ", &format!("{:x}", alarm.member.0)),
            Command::Auth(command) => command.write_keys(text),
            Command::LeaseRenew { .. } | Command::PublishMember(_) => {}
        }
    }
}

impl AuditedKeys for LeaseId {
    fn write_keys(&self, text: &mut Text<'_>) {
        text.named("lease ", &self.to_string());
    }
}

impl AuditedKeys for AuthCommand {
    fn write_keys(&self, text: &mut Text<'_>) {
        match self {
            AuthCommand::Enable | AuthCommand::Disable => {}
            AuthCommand::Login(login) => text.named("user ", login.user.as_str()),
            AuthCommand::UserAdd { user, .. }
            | AuthCommand::UserDelete { user }
            | AuthCommand::UserChangePassword { user, .. } => text.named("user ", user.as_str()),
            AuthCommand::UserGrantRole { user, role } | AuthCommand::UserRevokeRole { user, role } => {
                text.named("user ", user.as_str());
                text.named("role ", role.as_str());
            }
            AuthCommand::RoleAdd { role } | AuthCommand::RoleDelete { role } => {
                text.named("role ", role.as_str());
            }
            AuthCommand::RoleGrantPermission { role, permission } => {
                text.named("role ", role.as_str());
                permission.write_keys(text);
            }
            AuthCommand::RoleRevokePermission { role, keys } => {
                text.named("role ", role.as_str());
                keys.write_keys(text);
            }
        }
    }
}

impl AuditedKeys for Permission {
    fn write_keys(&self, text: &mut Text<'_>) {
        let verb = match self.access {
            Access::Read => "read ",
            Access::Write => "write ",
            Access::ReadWrite => "read and write ",
        };
        text.item(verb, &self.keys);
    }
}

/// What a call is about that is neither keys nor a command, such as a member.
pub(crate) struct About(pub(crate) String);

impl AuditedKeys for About {
    fn write_keys(&self, text: &mut Text<'_>) {
        text.named("", &self.0);
    }
}

/// About so many bytes of keys are written for one call, and so many of one key.
const MAX_TEXT: usize = 1024;
const MAX_KEY: usize = 128;

#[cfg(test)]
mod tests {
    use quorate_kv::{Compare, Operand, PasswordHash, Put, Relation, RoleName, UserName};

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
    fn users_and_roles_are_named_and_no_password() {
        let user: UserName = UserName::parse("al\nice").unwrap();
        let role = RoleName::parse("writer").unwrap();
        let password = Some(PasswordHash::new("secret"));
        let add = AuthCommand::UserAdd {
            user: user.clone(),
            password,
        };
        assert_eq!(text(&Command::Auth(add)), r"user al\nice");
        let grant = AuthCommand::UserGrantRole {
            user,
            role: role.clone(),
        };
        assert_eq!(text(&grant), r"user al\nice, role writer");
        let permission = Permission {
            access: Access::Read,
            keys: KeyRange::From("c".into()),
        };
        let grant = AuthCommand::RoleGrantPermission { role, permission };
        assert_eq!(text(&grant), "role writer, read from c");
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
