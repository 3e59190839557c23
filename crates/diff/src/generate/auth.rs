//! Draws the calls of a sequence about users, roles and rights.
//!
//! - It begins with a root, two users and two roles, and with authentication on, so that most of it is about rights.
//! - Watchers and leases that end are left out: what a watcher may see is for other tests.

use super::kv;
use crate::call::{AuthCall, Call, Keys, RoleCall};
use crate::rng::Rng;

/// The calls of the sequence `number` under `seed`.
pub(crate) fn sequence(seed: u64, number: u64, length: usize) -> Vec<Call> {
    let mut rng = Rng::new(seed ^ SALT, number);
    let mut calls = beginning();
    calls.extend((0..length).map(|_| call(&mut rng)));
    calls
}

fn beginning() -> Vec<Call> {
    let add = |name: &str| AuthCall::UserAdd {
        name: name.to_owned(),
        password: PASSWORDS[0].to_owned(),
        no_password: false,
    };
    let has = |user: &str, role: &str| AuthCall::UserGrantRole {
        user: user.to_owned(),
        role: role.to_owned(),
    };
    let calls = vec![
        add("root"),
        AuthCall::Role(RoleCall::Add("root".to_owned())),
        has("root", "root"),
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
    ];
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
        0..2 => AuthCall::UserAdd {
            name: user(rng),
            password: rng.pick(PASSWORDS).to_owned(),
            no_password: rng.one_in(5),
        },
        2 => AuthCall::UserDelete(user(rng)),
        3 => AuthCall::UserChangePassword {
            name: user(rng),
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

/// Keys and ranges of a right: they touch, overlap and contain each other.
fn keys(rng: &mut Rng) -> Keys {
    let (key, end): (&[u8], &[u8]) = rng.pick(&[
        (b"a", b""),
        (b"a", b"b"),
        (b"a", b"c"),
        (b"b", b"c"),
        (b"b", b"d"),
        (b"c", b""),
        (b"c", b"\0"),
        (b"", b"\0"),
        (b"\0", b"\0"),
        (b"d", b"a"),
        (b"a", b"a"),
        (b"", b""),
    ]);
    Keys {
        key: bytes::Bytes::from_static(key),
        range_end: bytes::Bytes::from_static(end),
    }
}

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
        assert_eq!(names.len(), 17, "{names:?}");
    }
}
