//! Draws the calls of a sequence about users, roles and rights.
//!
//! - It begins with a root, a user and two roles, and with authentication on, so that most of it is about rights.
//! - It ends with a root who looks at all that is left.
//! - Watchers and leases that end are left out: what a watcher may see is for other tests.

use super::kv;
use crate::call::{AuthCall, Call, Keys, RoleCall};
use crate::rng::Rng;

/// The calls of the sequence `number` under `seed`.
pub(crate) fn sequence(seed: u64, number: u64, length: usize) -> Vec<Call> {
    let mut rng = Rng::new(seed ^ SALT, number);
    let mut calls = beginning();
    let end = calls.len() + length;
    while calls.len() < end {
        if rng.one_in(100) {
            calls.extend(while_it_is_off(&mut rng));
        } else {
            calls.push(call(&mut rng));
        }
    }
    calls
}

/// What is asked at the end of every sequence, as root, whose password is one of these.
pub(crate) fn ending() -> Vec<Call> {
    let who_is_there = [AuthCall::UserList, AuthCall::Role(RoleCall::List)];
    let users = ["root", "u", "v", "w"].map(|user| AuthCall::UserGet(user.to_owned()));
    let roles = ["r", "s"].map(|role| AuthCall::Role(RoleCall::Get(role.to_owned())));
    let log_ins = ["secret", "other"].map(|password| log_in("root", password));
    let calls = log_ins.into_iter().chain(who_is_there).chain(users).chain(roles);
    calls.map(Call::Auth).collect()
}

/// Root switches authentication off, nobody makes some calls, and it is on again.
fn while_it_is_off(rng: &mut Rng) -> Vec<Call> {
    let mut calls = vec![
        Call::Auth(log_in("root", PASSWORDS[0])),
        Call::Auth(AuthCall::Disable),
    ];
    for _ in 0..rng.below(6) {
        calls.push(match rng.below(3) {
            0 => Call::Auth(administration(rng)),
            1 => Call::Put(kv::put(rng)),
            _ => Call::Range(kv::range_alone(rng)),
        });
    }
    // Without a root, it would stay off.
    calls.extend(root().into_iter().map(Call::Auth));
    calls.push(Call::Auth(AuthCall::Enable));
    calls.push(Call::Auth(log_in("root", PASSWORDS[0])));
    calls
}

/// Makes a user who may do everything.
fn root() -> [AuthCall; 3] {
    [
        add("root"),
        AuthCall::Role(RoleCall::Add("root".to_owned())),
        has("root", "root"),
    ]
}

fn add(name: &str) -> AuthCall {
    AuthCall::UserAdd {
        name: name.to_owned(),
        password: PASSWORDS[0].to_owned(),
        no_password: false,
    }
}

fn has(user: &str, role: &str) -> AuthCall {
    AuthCall::UserGrantRole {
        user: user.to_owned(),
        role: role.to_owned(),
    }
}

/// How many calls set the stage: without them hardly any other says anything.
pub(crate) fn stage() -> usize {
    beginning().len()
}

fn beginning() -> Vec<Call> {
    let mut calls = root().to_vec();
    calls.extend([
        add("u"),
        AuthCall::Role(RoleCall::Add("r".to_owned())),
        has("u", "r"),
        AuthCall::Role(RoleCall::Grant {
            role: "r".to_owned(),
            kind: 2,
            keys: Some(Keys {
                key: "b".into(),
                range_end: "d".into(),
            }),
        }),
        AuthCall::Enable,
        log_in("root", PASSWORDS[0]),
    ]);
    calls.into_iter().map(Call::Auth).collect()
}

fn call(rng: &mut Rng) -> Call {
    match rng.below(100) {
        0..45 => Call::Auth(administration(rng)),
        45..65 => Call::Auth(caller(rng)),
        65..75 => Call::Range(kv::range_alone(rng)),
        75..82 => Call::Put(kv::put(rng)),
        82..88 => Call::Delete(kv::delete(rng)),
        88..95 => Call::Txn(kv::txn(rng)),
        95 => kv::compact(rng),
        96 => Call::AuthStatus,
        97 => Call::Status,
        98 => Call::HashKv(super::revision(rng)),
        _ => rng.pick(&[
            Call::MemberList { linearizable: true },
            Call::Defragment,
            Call::Alarms { kind: 0 },
            Call::Leases,
        ]),
    }
}

fn caller(rng: &mut Rng) -> AuthCall {
    match rng.below(10) {
        0 => AuthCall::LogOut,
        1 => AuthCall::Forge(
            rng.pick(&["nonsense", "nonsense.1", "abcdefghijklmnop.10"])
                .to_owned(),
        ),
        2..5 => log_in("root", PASSWORDS[0]),
        _ => log_in(&user(rng), rng.pick(PASSWORDS)),
    }
}

fn administration(rng: &mut Rng) -> AuthCall {
    match rng.below(32) {
        0..2 => {
            let name = user(rng);
            AuthCall::UserAdd {
                no_password: name == WITHOUT_PASSWORD && rng.one_in(2),
                password: rng.pick(PASSWORDS).to_owned(),
                name,
            }
        }
        2 => AuthCall::UserDelete(user(rng)),
        3 => AuthCall::UserChangePassword {
            name: rng.pick(&["root", "u", "v", "nobody", ""]).to_owned(),
            password: rng.pick(PASSWORDS).to_owned(),
        },
        4..6 => AuthCall::UserGet(user(rng)),
        6 => AuthCall::UserList,
        7..11 => AuthCall::UserGrantRole {
            user: user(rng),
            role: role(rng),
        },
        11..13 => AuthCall::UserRevokeRole {
            user: user(rng),
            role: role(rng),
        },
        13..30 => AuthCall::Role(roles(rng)),
        _ => AuthCall::Enable,
    }
}

fn roles(rng: &mut Rng) -> RoleCall {
    match rng.below(17) {
        0..2 => RoleCall::Add(role(rng)),
        2 => RoleCall::Delete(role(rng)),
        3..6 => RoleCall::Get(role(rng)),
        6 => RoleCall::List,
        7..14 => RoleCall::Grant {
            role: role(rng),
            kind: rng.pick(&[0, 0, 1, 1, 2, 2, 2]),
            keys: (!rng.one_in(20)).then(|| keys(rng)),
        },
        _ => RoleCall::Revoke {
            role: role(rng),
            keys: keys(rng),
        },
    }
}

fn log_in(name: &str, password: &str) -> AuthCall {
    AuthCall::LogIn {
        name: name.to_owned(),
        password: password.to_owned(),
    }
}

fn user(rng: &mut Rng) -> String {
    rng.pick(&["root", "u", "u", "u", "v", "v", "w", "nobody", ""])
        .to_owned()
}

fn role(rng: &mut Rng) -> String {
    rng.pick(&["root", "r", "r", "r", "s", "s", "nothing", ""])
        .to_owned()
}

/// Keys and ranges of a right: they touch, overlap and contain each other. No two begin at the same key: of such
/// ranges, etcd may hold two rights to one.
fn keys(rng: &mut Rng) -> Keys {
    let (key, end): (&[u8], &[u8]) = rng.pick(&[
        (b"A", b"c"),
        (b"a", b""),
        (b"b", b"d"),
        (b"bb", b"c"),
        (b"c", b""),
        (b"cc", b"\0"),
        (b"\0", b"\0"),
        (b"", b"\0"),
        (b"d", b"a"),
        (b"a", b"a"),
        (b"", b""),
    ]);
    Keys {
        key: bytes::Bytes::from_static(key),
        range_end: bytes::Bytes::from_static(end),
    }
}

/// The user that may have no password, and is given no other: etcd takes it, and refuses logins with it.
const WITHOUT_PASSWORD: &str = "w";

const PASSWORDS: &[&str] = &["secret", "secret", "other", ""];

/// So that these sequences share nothing with the others of a seed.
const SALT: u64 = 0xa07;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_about_users_and_roles_is_drawn() {
        let calls = sequence(1, 1, 5_000);
        let name = |call: &Call| {
            let Call::Auth(call) = call else { return None };
            let text = format!("{call:?}").replace("Role(", "Role");
            let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
            Some(text[..end].to_owned())
        };
        let names: std::collections::BTreeSet<String> = calls.iter().filter_map(name).collect();
        assert_eq!(names.len(), 18, "{names:?}");
    }
}
