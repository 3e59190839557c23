//! Snapshots of small states: an empty one, one with everything in it, one without users.

use crate::{step, tagged};
use bytes::Bytes;
use quorate_kv::{
    Access, Alarm, AlarmAction, AlarmKind, AuthCommand, Command, DeleteRange, KeyRange, Keyspace, LeaseId,
    Member, MemberId, PasswordHash, Permission, Put, PutParts, Revision, RoleName, UserName,
};

pub fn seeds() -> Vec<Vec<u8>> {
    let mut without_users = Keyspace::new();
    for command in keys() {
        without_users.apply(command);
    }
    let mut full =
        Keyspace::restore(&mut chunks(&mut without_users).into_iter().map(Ok)).expect("it is whole");
    for command in users() {
        full.apply(command);
    }
    [Keyspace::new(), without_users, full]
        .iter_mut()
        .flat_map(of)
        .collect()
}

fn of(keyspace: &mut Keyspace) -> [Vec<u8>; 2] {
    let stream = chunks(keyspace).concat();
    let format = stream[MAGIC_BYTES];
    let mut rest = &stream[MAGIC_BYTES + 1..];
    let mut steps = Vec::new();
    while let [a, b, c, d, _, _, _, _, kind, tail @ ..] = rest {
        let (payload, tail) = tail.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        rest = tail;
        // The target makes the end itself.
        if *kind != END {
            steps.extend(step(*kind, payload));
        }
    }
    [tagged(0, stream), tagged(format, steps)]
}

fn chunks(keyspace: &mut Keyspace) -> Vec<Bytes> {
    let mut snapshot = keyspace.begin_snapshot();
    std::iter::from_fn(|| keyspace.snapshot_chunk(&mut snapshot, 4096)).collect()
}

fn put(key: &'static str, lease: i64) -> Command {
    let parts = PutParts {
        key: key.into(),
        value: "value".into(),
        lease,
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    };
    Command::Put(Put::parse(parts).expect("it is a put"))
}

fn keys() -> Vec<Command> {
    let member = Member {
        id: MemberId(3),
        name: "a".to_owned(),
        peer_urls: vec!["http://a:2380".to_owned()],
        client_urls: vec!["http://a:2379".to_owned()],
    };
    let alarm = Alarm {
        member: MemberId(3),
        kind: AlarmKind::NoSpace,
    };
    vec![
        Command::LeaseGrant {
            id: LeaseId(7),
            ttl_secs: 60,
        },
        Command::LeaseGrant {
            id: LeaseId(9),
            ttl_secs: 5,
        },
        put("a", 7),
        put("b", 0),
        put("a", 9),
        Command::DeleteRange(DeleteRange {
            keys: KeyRange::parse("b".into(), Bytes::new()).expect("it is a key"),
            prev_kv: false,
        }),
        put("b", 7),
        put("c", 0),
        Command::Compact {
            revision: Revision(4),
        },
        Command::PublishMember(member),
        Command::Alarm {
            action: AlarmAction::Activate,
            alarm,
        },
    ]
}

fn users() -> Vec<Command> {
    let user = || UserName::parse("root").expect("it is a name");
    let role = || RoleName::parse("reader").expect("it is a name");
    let permission = Permission {
        access: Access::Read,
        keys: KeyRange::parse("a".into(), "b".into()).expect("it is a range"),
    };
    let hash = PasswordHash::new("$2b$04$abcdefghijklmnopqrstuuWzGT0vJqNmhzn0y1mZz1wJ8kZ6zq5a2".to_owned());
    let commands = [
        AuthCommand::UserAdd {
            user: user(),
            password: Some(hash),
        },
        AuthCommand::RoleAdd { role: role() },
        AuthCommand::RoleGrantPermission {
            role: role(),
            permission,
        },
        AuthCommand::UserGrantRole {
            user: user(),
            role: role(),
        },
        AuthCommand::UserGrantRole {
            user: user(),
            role: RoleName::parse("root").expect("it is a name"),
        },
        AuthCommand::Enable,
    ];
    commands.into_iter().map(Command::Auth).collect()
}

const MAGIC_BYTES: usize = 7;
const END: u8 = 6;
