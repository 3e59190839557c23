//! Users, roles and permissions: etcd's rules for changing them, and who may do what.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_kv::*;
use support::*;

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn role(name: &str) -> RoleName {
    RoleName::parse(name).unwrap()
}

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd {
        user: user(name),
        password: Some(PasswordHash::new(format!("hash of {name}"))),
    }
}

fn user_grant(name: &str, given: &str) -> AuthCommand {
    AuthCommand::UserGrantRole {
        user: user(name),
        role: role(given),
    }
}

fn user_revoke(name: &str, taken: &str) -> AuthCommand {
    AuthCommand::UserRevokeRole {
        user: user(name),
        role: role(taken),
    }
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd { role: role(name) }
}

fn role_delete(name: &str) -> AuthCommand {
    AuthCommand::RoleDelete { role: role(name) }
}

fn role_grant(name: &str, access: Access, keys: KeyRange) -> AuthCommand {
    AuthCommand::RoleGrantPermission {
        role: role(name),
        permission: Permission { access, keys },
    }
}

fn revision(keyspace: &Keyspace) -> AuthRevision {
    keyspace.auth().status().revision
}

/// A user as it stands now.
fn caller(keyspace: &Keyspace, name: &str) -> Caller {
    Caller::User(Credentials {
        user: user(name),
        revision: revision(keyspace),
    })
}

/// Applies a command on behalf of a user; its error, or none.
fn try_as(keyspace: &mut Keyspace, name: &str, command: Command) -> Result<Response, Error> {
    let caller = caller(keyspace, name);
    keyspace.apply(Proposal { caller, command }).result
}

fn change(keyspace: &mut Keyspace, command: AuthCommand) {
    let caller = caller(keyspace, "root");
    let command = Command::Auth(command);
    keyspace.apply(Proposal { caller, command }).result.unwrap();
}

#[track_caller]
fn refused(keyspace: &mut Keyspace, command: AuthCommand, error: Error) {
    let before = revision(keyspace);
    assert_eq!(try_as(keyspace, "root", Command::Auth(command)), Err(error));
    assert_eq!(revision(keyspace), before, "a refusal changes nothing");
}

/// A keyspace with authentication on, and the user alice, who has the role `r`.
fn guarded() -> Keyspace {
    let mut keyspace = Keyspace::new();
    for command in [
        user_add("root"),
        user_grant("root", "root"),
        user_add("alice"),
        role_add("r"),
        user_grant("alice", "r"),
        AuthCommand::Enable,
    ] {
        change(&mut keyspace, command);
    }
    keyspace
}

#[test]
fn to_enable_there_must_be_a_root_with_the_role() {
    let mut keyspace = Keyspace::new();
    refused(&mut keyspace, AuthCommand::Enable, Error::RootUserNotExist);
    change(&mut keyspace, user_add("root"));
    refused(&mut keyspace, AuthCommand::Enable, Error::RootRoleNotExist);
    change(&mut keyspace, user_grant("root", "root"));
    change(&mut keyspace, AuthCommand::Enable);
    assert_eq!(keyspace.auth().status().switch, AuthSwitch::On);
}

#[test]
fn root_stays_root_while_it_is_on() {
    let mut keyspace = guarded();
    let delete = || AuthCommand::UserDelete { user: user("root") };
    refused(&mut keyspace, delete(), Error::InvalidAuthMgmt);
    refused(&mut keyspace, role_delete("root"), Error::InvalidAuthMgmt);
    refused(&mut keyspace, user_revoke("root", "root"), Error::InvalidAuthMgmt);
    change(&mut keyspace, AuthCommand::Disable);
    change(&mut keyspace, user_revoke("root", "root"));
    change(&mut keyspace, delete());
}

#[test]
fn users_and_roles_are_added_and_taken_once() {
    let mut keyspace = guarded();
    let password = PasswordHash::new("h");
    let delete = |name| AuthCommand::UserDelete { user: user(name) };
    let change_password = |name| AuthCommand::UserChangePassword {
        user: user(name),
        password: password.clone(),
    };
    refused(&mut keyspace, user_add("alice"), Error::UserAlreadyExist);
    refused(&mut keyspace, delete("bob"), Error::UserNotFound);
    refused(&mut keyspace, change_password("bob"), Error::UserNotFound);
    refused(&mut keyspace, user_grant("bob", "r"), Error::UserNotFound);
    refused(&mut keyspace, user_grant("alice", "s"), Error::RoleNotFound);
    refused(&mut keyspace, user_revoke("bob", "r"), Error::UserNotFound);
    refused(&mut keyspace, user_revoke("alice", "s"), Error::RoleNotGranted);
    refused(&mut keyspace, role_add("r"), Error::RoleAlreadyExist);
    refused(&mut keyspace, role_delete("s"), Error::RoleNotFound);
    let keys = single("k");
    refused(
        &mut keyspace,
        role_grant("s", Access::Read, keys.clone()),
        Error::RoleNotFound,
    );
    refused(
        &mut keyspace,
        role_grant("r", Access::Read, span("b", "a")),
        Error::InvalidAuthMgmt,
    );
    let revoke = AuthCommand::RoleRevokePermission {
        role: role("r"),
        keys,
    };
    refused(&mut keyspace, revoke, Error::PermissionNotGranted);
}

#[test]
fn a_role_that_is_deleted_is_taken_from_its_users() {
    let mut keyspace = guarded();
    change(&mut keyspace, role_grant("r", Access::ReadWrite, KeyRange::all()));
    try_as(&mut keyspace, "alice", put_command("k", "v")).unwrap();
    change(&mut keyspace, role_delete("r"));
    let roles = keyspace.auth().user(&caller(&keyspace, "root"), &user("alice"));
    assert_eq!(roles, Ok(Vec::new()));
    let denied = try_as(&mut keyspace, "alice", put_command("k", "v"));
    assert_eq!(denied, Err(Error::PermissionDenied));
}

#[test]
fn a_granted_permission_replaces_that_of_the_same_range() {
    let mut keyspace = guarded();
    for access in [Access::Read, Access::Write] {
        change(&mut keyspace, role_grant("r", access, single("k")));
    }
    change(&mut keyspace, role_grant("r", Access::Read, span("a", "b")));
    let permissions = keyspace
        .auth()
        .role(&caller(&keyspace, "alice"), &role("r"))
        .unwrap();
    let found: Vec<_> = permissions.into_iter().map(|p| (p.access, p.keys)).collect();
    assert_eq!(
        found,
        [(Access::Read, span("a", "b")), (Access::Write, single("k"))]
    );
}

#[test]
fn who_has_not_said_who_it_is_may_nothing() {
    let mut keyspace = guarded();
    assert_eq!(err(&mut keyspace, put_command("k", "v")), Error::UserEmpty);
    for right in [Right::Login, Right::Root, Right::Read(&single("k"))] {
        assert_eq!(keyspace.permit(&Caller::Anonymous, right), Err(Error::UserEmpty));
    }
}

/// What was decided before a change of users counts no more after it: the check and the use are one.
#[test]
fn credentials_of_another_state_are_void() {
    let mut keyspace = guarded();
    let caller = caller(&keyspace, "root");
    change(&mut keyspace, user_add("bob"));
    let command = put_command("k", "v");
    let applied = keyspace.apply(Proposal {
        caller: caller.clone(),
        command,
    });
    assert_eq!(applied.result, Err(Error::AuthOldRevision));
    assert_eq!(
        keyspace.permit(&caller, Right::Read(&single("k"))),
        Err(Error::AuthOldRevision)
    );
}

#[test]
fn a_user_who_is_gone_may_nothing() {
    let mut keyspace = guarded();
    change(&mut keyspace, AuthCommand::UserDelete { user: user("alice") });
    assert_eq!(
        keyspace.permit(&caller(&keyspace, "alice"), Right::Login),
        Err(Error::PermissionDenied)
    );
}

#[test]
fn only_root_may_manage() {
    let mut keyspace = guarded();
    let alarm = Alarm {
        member: MemberId(1),
        kind: AlarmKind::NoSpace,
    };
    let commands = [
        Command::Auth(user_add("mallory")),
        Command::Auth(user_grant("alice", "root")),
        Command::Auth(AuthCommand::Disable),
        compact(1),
        Command::Alarm {
            action: AlarmAction::Activate,
            alarm,
        },
    ];
    for command in commands {
        assert_eq!(
            try_as(&mut keyspace, "alice", command.clone()),
            Err(Error::PermissionDenied),
            "{command:?}"
        );
    }
    let alice = caller(&keyspace, "alice");
    assert_eq!(keyspace.permit(&alice, Right::Root), Err(Error::PermissionDenied));
    assert_eq!(keyspace.auth().users(&alice), Err(Error::PermissionDenied));
    assert_eq!(keyspace.auth().roles(&alice), Err(Error::PermissionDenied));
    assert_eq!(
        keyspace.auth().user(&alice, &user("root")),
        Err(Error::PermissionDenied)
    );
    assert_eq!(
        keyspace.auth().role(&alice, &RoleName::root()),
        Err(Error::PermissionDenied)
    );
    assert_eq!(keyspace.auth().user(&alice, &user("alice")), Ok(vec![role("r")]));
    assert!(keyspace.permit(&alice, Right::Login).is_ok());
}

#[test]
fn what_members_do_by_themselves_needs_nobodys_rights() {
    let mut keyspace = guarded();
    let id = LeaseId(7);
    change_as_member(&mut keyspace, Command::LeaseGrant { id, ttl_secs: 5 });
    let epoch = keyspace.lease(id).unwrap().epoch;
    let cause = RevokeCause::Expired { epoch };
    ok(&mut keyspace, Command::LeaseRevoke { id, cause });
}

fn change_as_member(keyspace: &mut Keyspace, command: Command) {
    let caller = Caller::Member;
    keyspace.apply(Proposal { caller, command }).result.unwrap();
}

/// A single key's permission is no more than that: not for ranges, not for watches, not in transactions.
#[test]
fn one_key_gives_no_right_to_others() {
    let mut keyspace = guarded();
    change(&mut keyspace, role_grant("r", Access::ReadWrite, single("k")));
    let alice = caller(&keyspace, "alice");
    assert!(keyspace.permit(&alice, Right::Read(&single("k"))).is_ok());
    let beyond = [
        KeyRange::From("k".into()),
        KeyRange::all(),
        span("k", "l"),
        single("k\0"),
    ];
    for keys in beyond {
        let read = Right::Read(&keys);
        assert_eq!(
            keyspace.permit(&alice, read),
            Err(Error::PermissionDenied),
            "{keys:?}"
        );
        let delete = delete_command(keys.clone());
        assert_eq!(
            try_as(&mut keyspace, "alice", delete),
            Err(Error::PermissionDenied),
            "{keys:?}"
        );
    }
}

fn nest(depth: usize, op: Op, branch: fn(Op) -> Txn) -> Command {
    let inner = (0..depth).fold(op, |op, _| Op::Txn(branch(op)));
    Command::Txn(branch(inner))
}

/// Each operation needs its own right at any depth, in the branch that is not taken too.
#[test]
fn nested_operations_need_their_rights() {
    let mut keyspace = guarded();
    change(&mut keyspace, role_grant("r", Access::Write, single("w")));
    change(&mut keyspace, role_grant("r", Access::Read, single("r")));
    change(&mut keyspace, role_grant("r", Access::ReadWrite, single("rw")));
    for (lease, key) in [(1, "w"), (2, "secret")] {
        let id = LeaseId(lease);
        change_as_member(&mut keyspace, Command::LeaseGrant { id, ttl_secs: 60 });
        change_as_member(&mut keyspace, Command::Put(Put::new(key, "").with_lease(id)));
    }
    let range = |key| Op::Range(Range::new(single(key)));
    let put = |key: &'static str| Put::new(key, "new");
    let delete = |key, prev_kv| {
        Op::DeleteRange(DeleteRange {
            keys: single(key),
            prev_kv,
        })
    };
    let with_prev = |put: Put| Op::Put(Put { prev_kv: true, ..put });
    let compare = |key| {
        Op::Txn(Txn {
            compares: vec![Compare {
                keys: single(key),
                relation: Relation::Equal,
                operand: Operand::Value("".into()),
            }],
            ..Txn::default()
        })
    };
    let allowed = [
        range("r"),
        Op::Put(put("w")),
        with_prev(put("rw")),
        delete("w", false),
        delete("rw", true),
        compare("r"),
        Op::Put(put("w").with_lease(LeaseId(1))),
    ];
    let denied = [
        range("w"),
        range("secret"),
        Op::Put(put("r")),
        with_prev(put("w")),
        delete("r", false),
        delete("w", true),
        compare("w"),
        Op::Put(put("w").with_lease(LeaseId(2))),
    ];
    let success = |op| Txn {
        success: vec![op],
        ..Txn::default()
    };
    let failure = |op| Txn {
        failure: vec![op],
        ..Txn::default()
    };
    for depth in 0..3 {
        for branch in [success, failure] {
            for op in &allowed {
                let result = try_as(&mut keyspace, "alice", nest(depth, op.clone(), branch));
                assert!(result.is_ok(), "{op:?} at depth {depth}: {result:?}");
            }
            for op in &denied {
                let result = try_as(&mut keyspace, "alice", nest(depth, op.clone(), branch));
                assert_eq!(result, Err(Error::PermissionDenied), "{op:?} at depth {depth}");
            }
        }
    }
}

#[test]
fn a_lease_is_of_those_who_may_write_its_keys() {
    let mut keyspace = guarded();
    change(&mut keyspace, role_grant("r", Access::Write, single("w")));
    let id = LeaseId(1);
    let grant = Command::LeaseGrant { id, ttl_secs: 60 };
    try_as(&mut keyspace, "alice", grant).unwrap();
    let attach = |key: &'static str| Command::Put(Put::new(key, "").with_lease(id));
    try_as(&mut keyspace, "alice", attach("w")).unwrap();
    let renew = || Command::LeaseRenew { ids: vec![id] };
    try_as(&mut keyspace, "alice", renew()).unwrap();
    let alice = caller(&keyspace, "alice");
    assert_eq!(
        keyspace.permit(&alice, Right::LeaseKeys(id)),
        Err(Error::PermissionDenied),
        "its key may not be read"
    );

    change_as_member(&mut keyspace, attach("secret"));
    for command in [renew(), revoke(1), attach("w")] {
        assert_eq!(
            try_as(&mut keyspace, "alice", command.clone()),
            Err(Error::PermissionDenied),
            "{command:?}"
        );
    }
    assert!(get(&keyspace, "secret").is_some());
}

fn login(keyspace: &mut Keyspace, name: &str, revision: AuthRevision) -> Result<Response, Error> {
    let applied = keyspace.apply(Command::Auth(AuthCommand::Login(Login {
        user: user(name),
        revision,
        digest: TokenDigest([7; 32]),
        issued: UnixSeconds(1),
    })));
    let is_opened = |event: &SessionEvent| matches!(event, SessionEvent::Opened { .. });
    assert_eq!(applied.sessions.iter().any(is_opened), applied.result.is_ok());
    applied.result
}

#[test]
fn a_login_counts_at_the_revision_it_was_checked_at() {
    let mut keyspace = guarded();
    let checked_at = revision(&keyspace);
    assert_eq!(login(&mut keyspace, "alice", checked_at), Ok(Response::Auth));
    assert_eq!(login(&mut keyspace, "bob", checked_at), Err(Error::AuthFailed));
    let password = PasswordHash::new("another");
    let user = user("alice");
    change(&mut keyspace, AuthCommand::UserChangePassword { user, password });
    assert_eq!(
        login(&mut keyspace, "alice", checked_at),
        Err(Error::AuthOldRevision)
    );
    change(&mut keyspace, AuthCommand::Disable);
    let now = revision(&keyspace);
    assert_eq!(login(&mut keyspace, "alice", now), Err(Error::AuthNotEnabled));
}

#[test]
fn who_is_deleted_or_changes_its_password_loses_its_tokens() {
    let mut keyspace = guarded();
    let password = PasswordHash::new("another");
    let alice = user("alice");
    let commands = [
        AuthCommand::UserChangePassword {
            user: alice.clone(),
            password,
        },
        AuthCommand::UserDelete { user: alice.clone() },
    ];
    for command in commands {
        let caller = caller(&keyspace, "root");
        let command = Command::Auth(command);
        let applied = keyspace.apply(Proposal { caller, command });
        let user = alice.clone();
        assert_eq!(applied.sessions, [SessionEvent::UserClosed { user }]);
    }
}

/// What anybody can see of users and roles.
fn seen(keyspace: &Keyspace) -> impl PartialEq + std::fmt::Debug + use<> {
    let auth = keyspace.auth();
    let root = Caller::Member;
    let users = auth.users(&root).unwrap();
    let roles = auth.roles(&root).unwrap();
    let of_users: Vec<_> = users.iter().map(|user| auth.user(&root, user)).collect();
    let of_roles: Vec<_> = roles.iter().map(|role| auth.role(&root, role)).collect();
    let passwords: Vec<_> = users.iter().map(|user| auth.password(user).cloned()).collect();
    (auth.status(), users, roles, of_users, of_roles, passwords)
}

#[test]
fn a_snapshot_has_users_and_roles() {
    let mut keyspace = guarded();
    change(&mut keyspace, role_grant("r", Access::ReadWrite, span("a", "b")));
    change(
        &mut keyspace,
        role_grant("r", Access::Read, KeyRange::From("x".into())),
    );
    let user = user("nobody");
    let password = None;
    change(&mut keyspace, AuthCommand::UserAdd { user, password });
    let mut restored = restore(snapshot(&mut keyspace, 100)).unwrap();
    assert_eq!(seen(&restored), seen(&keyspace));
    assert!(try_as(&mut restored, "alice", put_command("a", "v")).is_ok());
    let denied = try_as(&mut restored, "alice", put_command("x", "v"));
    assert_eq!(denied, Err(Error::PermissionDenied));
}

fn arb_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        arb_key().prop_map(KeyRange::Single),
        (arb_key(), arb_key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
        arb_key().prop_map(KeyRange::From),
    ]
}

fn arb_access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::Read, Access::Write, Access::ReadWrite])
}

/// Keys enough to tell apart all ranges that [`arb_range`] makes.
fn probes() -> Vec<Bytes> {
    let ends = ["a", "ab", "abc", "b", "b\0", "c", "z"];
    let near = |end: &str| {
        [
            end.to_owned(),
            format!("{end}\0"),
            format!("{end}\0\0"),
            format!("{end}~"),
        ]
    };
    ends.into_iter().flat_map(near).map(Bytes::from).collect()
}

proptest! {
    /// The union of many intervals against a look at each key.
    #[test]
    fn a_range_is_permitted_when_each_of_its_keys_is(
        permissions in prop::collection::vec((arb_access(), arb_range()), 0..6),
        wanted in arb_range(),
    ) {
        prop_assume!(!wanted.is_empty());
        let mut keyspace = guarded();
        let given: Vec<_> = permissions.into_iter().filter(|(_, keys)| !keys.is_empty()).collect();
        let mut last = std::collections::BTreeMap::new();
        for (access, keys) in given {
            last.insert(keys.clone(), access);
            change(&mut keyspace, role_grant("r", access, keys));
        }
        let may = |access: Access, key: &Bytes| {
            let mut permissions = last.iter();
            permissions.any(|(keys, given)| (*given == access || *given == Access::ReadWrite) && keys.contains(key))
        };
        let all = |access| probes().iter().filter(|key| wanted.contains(key)).all(|key| may(access, key));
        let alice = caller(&keyspace, "alice");
        let read = keyspace.permit(&alice, Right::Read(&wanted)).is_ok();
        prop_assert_eq!(read, all(Access::Read));
        let delete = delete_command(wanted.clone());
        let write = keyspace.permit(&alice, Right::Apply(&delete)).is_ok();
        prop_assert_eq!(write, all(Access::Write));
    }
}
