//! The formats that are written down: commands and snapshots. Golden files hold them still; random bytes
//! must never do harm.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_kv::*;
use support::*;

/// One of every command, with every field set somewhere.
fn commands() -> Vec<(&'static str, Command)> {
    let leased = Put {
        prev_kv: true,
        ..Put::new("k", "v").with_lease(LeaseId(-7))
    };
    let expired = RevokeCause::Expired { epoch: LeaseEpoch(3) };
    let member = Member {
        id: MEMBER,
        name: "one".into(),
        peer_urls: vec!["http://one:2380".into()],
        client_urls: vec!["http://one:2379".into(), "unix:/run/one".into()],
    };
    let alarm = |action, kind| Command::Alarm {
        action,
        alarm: Alarm { member: MEMBER, kind },
    };
    vec![
        ("put", put_command("key", "value")),
        ("put-lease", Command::Put(leased)),
        ("delete", delete_command(span("a", "z"))),
        ("txn", Command::Txn(full_txn())),
        ("compact", compact(42)),
        (
            "grant",
            Command::LeaseGrant {
                id: LeaseId(7),
                ttl_secs: 60,
            },
        ),
        ("revoke", revoke(7)),
        (
            "expire",
            Command::LeaseRevoke {
                id: LeaseId(7),
                cause: expired,
            },
        ),
        (
            "renew",
            Command::LeaseRenew {
                ids: vec![LeaseId(7), LeaseId(8)],
            },
        ),
        ("member", Command::PublishMember(member)),
        ("alarm", alarm(AlarmAction::Activate, AlarmKind::NoSpace)),
        ("disarm", alarm(AlarmAction::Deactivate, AlarmKind::Corrupt)),
    ]
}

/// One of every change of users and roles.
fn auth_commands() -> Vec<(&'static str, AuthCommand)> {
    let (user, role) = (alice, || RoleName::parse("reader").unwrap());
    let password = || PasswordHash::new("$2b$10$hash");
    let login = Login {
        user: user(),
        revision: AuthRevision(9),
        digest: TokenDigest([0xab; 32]),
        issued: UnixSeconds(1_800_000_000),
    };
    let user_add = |password| {
        let user = user();
        AuthCommand::UserAdd { user, password }
    };
    let change_password = AuthCommand::UserChangePassword {
        user: user(),
        password: password(),
    };
    let (user_of, role_of) = (user(), role());
    let permission = |access, keys| {
        let permission = Permission { access, keys };
        let role = role();
        AuthCommand::RoleGrantPermission { role, permission }
    };
    let forbid = AuthCommand::RoleRevokePermission {
        role: role(),
        keys: single("k"),
    };
    let revoke = AuthCommand::UserRevokeRole {
        user: user_of.clone(),
        role: role_of.clone(),
    };
    let grant = AuthCommand::UserGrantRole {
        user: user_of,
        role: role_of,
    };
    vec![
        ("enable", AuthCommand::Enable),
        ("disable", AuthCommand::Disable),
        ("login", AuthCommand::Login(login)),
        ("user", user_add(Some(password()))),
        ("user-no-password", user_add(None)),
        ("user-delete", AuthCommand::UserDelete { user: user() }),
        ("password", change_password),
        ("role", AuthCommand::RoleAdd { role: role() }),
        ("grant", grant),
        ("revoke", revoke),
        ("role-delete", AuthCommand::RoleDelete { role: role() }),
        ("permit-read", permission(Access::Read, single("k"))),
        ("permit-write", permission(Access::Write, span("a", "z"))),
        ("permit-both", permission(Access::ReadWrite, KeyRange::all())),
        ("forbid", forbid),
    ]
}

fn alice() -> UserName {
    UserName::parse("alice").unwrap()
}

/// Every change of users and roles, and every kind of caller.
fn proposals() -> Vec<(&'static str, Proposal)> {
    let of_user = Proposal {
        caller: Caller::User(Credentials {
            user: alice(),
            revision: AuthRevision(9),
        }),
        command: put_command("key", "value"),
    };
    let of_member = Proposal {
        caller: Caller::Member,
        ..of_user.clone()
    };
    let auth = auth_commands().into_iter();
    let auth = auth.map(|(name, auth)| (name, Command::Auth(auth).into()));
    auth.chain([("put-of-user", of_user), ("put-of-member", of_member)])
        .collect()
}

#[test]
fn proposals_are_written_as_ever_and_read() {
    let lines = proposals()
        .into_iter()
        .map(|(name, proposal)| format!("{name} {}\n", hex(&proposal.encode())));
    check_golden("commands-v2.txt", &lines.collect::<String>());
    let golden = golden("commands-v2.txt");
    let read = golden.lines().map(|line| line.split_once(' ').unwrap().1);
    let read: Vec<_> = read.map(|text| Proposal::decode(unhex(text)).unwrap()).collect();
    let expected: Vec<_> = proposals().into_iter().map(|(_, proposal)| proposal).collect();
    assert_eq!(read, expected);
}

/// Format 1 has no callers: a program that knows no other would apply the command of anybody.
#[test]
fn a_caller_needs_its_format() {
    for (name, proposal) in proposals() {
        let mut bytes = proposal.encode().to_vec();
        assert_eq!(bytes[0], 2, "{name}");
        bytes[0] = 1;
        assert_eq!(
            Proposal::decode(bytes.into()),
            Err(DecodeError::Field("format")),
            "{name}"
        );
    }
    let (_, of_user) = &proposals()[15];
    assert!(
        Command::decode(of_user.encode()).is_err(),
        "its caller would be lost"
    );
}

/// What members propose by themselves is written as ever, so that older members go on beside newer ones.
#[test]
fn members_publish_themselves_in_the_first_format() {
    let alone = ["member", "expire"];
    let commands = commands();
    let mut commands = commands.iter().filter(|(name, _)| alone.contains(name));
    let is_first = |command: &Command| {
        let command = command.clone();
        let caller = Caller::Member;
        Proposal { caller, command }.encode()[0] == 1
    };
    assert!(commands.all(|(_, command)| is_first(command)));
}

const MEMBER: MemberId = MemberId(0xdead_beef);

fn full_txn() -> Txn {
    let operands = [
        (Relation::Equal, Operand::Version(1)),
        (Relation::Greater, Operand::Create(Revision(2))),
        (Relation::Less, Operand::Mod(Revision(3))),
        (Relation::NotEqual, Operand::Value("v".into())),
        (Relation::Equal, Operand::Lease(Some(LeaseId(7)))),
    ];
    let compares = operands.map(|(relation, operand)| Compare {
        keys: single("k"),
        relation,
        operand,
    });
    Txn {
        compares: compares.to_vec(),
        success: vec![
            Op::Range(full_range()),
            Op::Put(Put {
                value: Assign::Keep,
                lease: Assign::Keep,
                ..Put::new("k", "")
            }),
            Op::DeleteRange(DeleteRange {
                keys: KeyRange::all(),
                prev_kv: true,
            }),
        ],
        failure: vec![Op::Txn(Txn {
            success: vec![Op::Put(Put::new("k", ""))],
            ..Txn::default()
        })],
    }
}

fn full_range() -> Range {
    Range {
        at: Some(Revision(3)),
        limit: 5.try_into().ok(),
        order: SortOrder::Descend,
        target: SortTarget::Value,
        filter: RevisionFilter {
            min_mod: Some(Revision(1)),
            max_mod: Some(Revision(9)),
            min_create: Some(Revision(2)),
            max_create: Some(Revision(8)),
        },
        projection: Projection::KeysOnly,
        ..Range::new(span("a", "b"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| d.try_into().unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn golden(name: &str) -> String {
    let path = golden_path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` writes it instead, for a format that was never released.
fn check_golden(name: &str, written: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden_path(name), written).unwrap();
    }
    assert_eq!(golden(name), written);
}

#[test]
fn commands_are_written_as_ever() {
    let lines = commands()
        .into_iter()
        .map(|(name, command)| format!("{name} {}\n", hex(&command.encode())));
    check_golden("commands-v1.txt", &lines.collect::<String>());
}

#[test]
fn commands_of_old_are_read() {
    let golden = golden("commands-v1.txt");
    let read = golden.lines().map(|line| {
        let (name, text) = line.split_once(' ').unwrap();
        (name.to_owned(), Command::decode(unhex(text)).unwrap())
    });
    let expected = commands()
        .into_iter()
        .map(|(name, command)| (name.to_owned(), command));
    assert_eq!(read.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

fn sample() -> Keyspace {
    let mut keyspace = Keyspace::new();
    let alarm = Alarm {
        member: MemberId(1),
        kind: AlarmKind::NoSpace,
    };
    // Under the alarm nothing more would be put, and the transaction deletes every key.
    let applied = |name: &str| name != "alarm" && name != "txn";
    for (_, command) in commands().into_iter().filter(|(name, _)| applied(name)) {
        drop(keyspace.apply(command).result);
    }
    grant(&mut keyspace, 9);
    ok(
        &mut keyspace,
        Command::Put(Put::new("leased", "value").with_lease(LeaseId(9))),
    );
    ok(
        &mut keyspace,
        Command::Alarm {
            action: AlarmAction::Activate,
            alarm,
        },
    );
    delete(&mut keyspace, "key");
    keyspace
}

#[test]
fn snapshots_are_written_as_ever_and_read() {
    let mut keyspace = sample();
    let written = snapshot(&mut keyspace, 1 << 20).concat();
    check_golden("snapshot-v1.txt", &(hex(&written) + "\n"));
    let restored = restore([unhex(&golden("snapshot-v1.txt"))]).unwrap();
    assert_eq!(restored.hash_kv(None), keyspace.hash_kv(None));
}

/// The next grant would count beyond what can be counted.
#[test]
fn a_snapshot_with_an_impossible_epoch_of_leases_is_refused() {
    let whole = unhex(&golden("snapshot-v1.txt"));
    let (magic, frames) = whole.split_at(8);
    let (head, rest) = frames.split_at(9 + usize::from(frames[0]));
    let with_last_epoch = |epoch: &[u8]| {
        // The golden head ends with its field 3, the last epoch.
        let mut head = [&head[8..head.len() - 1], epoch].concat();
        let length = u32::try_from(head.len() - 1).unwrap().to_le_bytes();
        let checksum = crc32c::crc32c(&head).to_le_bytes();
        head.splice(0..0, [length, checksum].concat());
        restore([[magic, &head, rest].concat().into()])
    };
    assert!(with_last_epoch(&[2]).is_ok());
    let refusal = with_last_epoch(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).unwrap_err();
    assert!(refusal.to_string().contains("epoch"), "{refusal}");
}

/// With users and roles there is a new format; without them the old one is written.
#[test]
fn snapshots_with_users_are_written_as_ever_and_read() {
    let mut keyspace = sample();
    for (_, proposal) in proposals()
        .into_iter()
        .filter(|(name, _)| !name.contains("delete"))
    {
        drop(keyspace.apply(proposal).result);
    }
    let written = snapshot(&mut keyspace, 1 << 20).concat();
    check_golden("snapshot-v2.txt", &(hex(&written) + "\n"));
    let mut restored = restore([unhex(&golden("snapshot-v2.txt"))]).unwrap();
    assert_eq!(snapshot(&mut restored, 1 << 20).concat(), written);
    assert!(restored.auth().password(&alice()).is_some());
    let mut as_first = written.clone();
    as_first[7] = 1;
    assert!(restore([as_first.into()]).is_err(), "format 1 has no users");
}

#[test]
fn the_hash_is_as_ever() {
    assert_eq!(sample().hash_kv(None).unwrap().hash, 4_131_380_539);
}

#[test]
fn a_command_of_a_newer_format_is_refused() {
    let mut bytes = put_command("k", "v").encode().to_vec();
    bytes[0] = 3;
    assert_eq!(
        Command::decode(bytes.into()),
        Err(DecodeError::UnknownFormat { found: 3, known: 2 })
    );
    assert_eq!(Command::decode(Bytes::new()), Err(DecodeError::Empty));
    assert_eq!(
        Command::decode(Bytes::from_static(&[1])),
        Err(DecodeError::Field("body"))
    );
}

fn nested(depth: usize) -> Command {
    let inner = (1..depth).fold(Txn::default(), |inner, _| Txn {
        success: vec![Op::Txn(inner)],
        ..Txn::default()
    });
    Command::Txn(inner)
}

#[test]
fn whatever_nesting_is_checked_is_decoded() {
    let deepest = nested(MAX_TXN_DEPTH);
    deepest.check(&Limits::default()).unwrap();
    assert_eq!(Command::decode(deepest.encode()), Ok(deepest));
}

#[test]
fn endless_nesting_is_refused() {
    assert!(matches!(
        Command::decode(nested(1000).encode()),
        Err(DecodeError::Malformed(_))
    ));
    assert_eq!(
        err(&mut Keyspace::new(), nested(MAX_TXN_DEPTH + 1)),
        Error::TooManyOps
    );
}

#[test]
fn a_decoded_value_shares_the_memory_it_came_in() {
    let bytes = put_command("key", "value").encode();
    let within = bytes.as_ptr_range();
    let Command::Put(Put {
        value: Assign::Set(value),
        ..
    }) = Command::decode(bytes.clone()).unwrap()
    else {
        panic!("a put is a put");
    };
    assert!(within.contains(&value.as_ptr()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn commands_survive_a_round_trip(command in arb_command()) {
        prop_assert_eq!(Command::decode(command.encode()), Ok(command));
    }

    #[test]
    fn random_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let with_format = [1, 2].map(|format| [&[format], &bytes[..]].concat());
        for bytes in with_format.into_iter().chain([bytes.clone()]) {
            if let Ok(command) = Proposal::decode(bytes.into()) {
                Keyspace::new().apply(command);
            }
        }
        let with_magic = [&b"QUORKVS\x02"[..], &bytes].concat();
        prop_assert!(restore([bytes.into()]).is_err());
        prop_assert!(restore([with_magic.into()]).is_err());
    }

    /// Damage gets further than noise.
    #[test]
    fn damaged_commands_are_no_harm(
        commands in prop::collection::vec((arb_command(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut keyspace = Keyspace::new();
        for (command, at, byte) in commands {
            let mut bytes = command.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            keyspace.apply(command);
            if let Ok(damaged) = Command::decode(bytes.into()) {
                keyspace.apply(damaged);
            }
            while keyspace.compact_step(100) {}
        }
        let restored = restore(snapshot(&mut keyspace, 500)).unwrap();
        prop_assert_eq!(restored.hash_kv(None), keyspace.hash_kv(None));
    }
}
