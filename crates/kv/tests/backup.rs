//! A state that goes through a backup is the same state: at every revision, in leases, alarms, users and roles.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use quorate_kv::{
    Access, Alarm, AlarmAction, AlarmKind, AuthCommand, AuthRevision, AuthSwitch, BackupLimits, BackupUser,
    Bump, Command, DeleteRange, Import, Imported, KeyRange, KeyValue, Keyspace, LeaseId, MemberId, Page,
    PageRequest, PasswordHash, Permission, Projection, Put, Range, Revision, RevisionFilter, RoleName,
    SortOrder, SortTarget, UserName, Version, VersionContent,
};

const SMALL: BackupLimits = BackupLimits {
    bytes: 300,
    scanned: 7,
};

/// All versions of a backup, in small batches, with `between` done after each of them.
fn versions(keyspace: &mut Keyspace, mut between: impl FnMut(&mut Keyspace)) -> Vec<Version> {
    let mut backup = keyspace.begin_backup();
    let mut all = Vec::new();
    loop {
        let batch = keyspace.backup_batch(&mut backup, SMALL).unwrap();
        all.extend(batch.versions);
        if batch.is_last {
            break;
        }
        between(keyspace);
    }
    backup.rewind();
    let limits = BackupLimits {
        bytes: usize::MAX,
        scanned: usize::MAX,
    };
    let again = keyspace.backup_batch(&mut backup, limits).unwrap();
    assert!(again.is_last);
    assert_eq!(again.versions, all, "the second reading differs from the first");
    all
}

/// The state through a backup, with what `between` does on the way.
fn copied(keyspace: &mut Keyspace, between: impl FnMut(&mut Keyspace)) -> Imported {
    let head = keyspace.begin_backup().head().clone();
    let mut import = Import::default();
    for version in versions(keyspace, between).iter().rev() {
        import.add_version(version).unwrap();
    }
    import.reach(head.revision).unwrap();
    if head.compacted > Revision::NOTHING_COMPACTED {
        import.compact(head.compacted).unwrap();
    }
    for (id, ttl) in head.leases {
        import.add_lease(id, ttl).unwrap();
    }
    head.alarms.into_iter().for_each(|alarm| import.add_alarm(alarm));
    import.set_auth(head.auth.switch);
    import.set_auth_revision(head.auth.revision);
    head.users.into_iter().for_each(|user| import.add_user(user));
    for (name, permissions) in head.roles {
        import.add_role(name, permissions);
    }
    import.finish(Bump::default()).unwrap()
}

fn range(at: Revision) -> Range {
    Range {
        keys: KeyRange::all(),
        at: Some(at),
        limit: None,
        order: SortOrder::Unsorted,
        target: SortTarget::Key,
        filter: RevisionFilter::default(),
        projection: Projection::KeysAndValues,
    }
}

/// All that a client can see of two states, at each revision up to one.
fn assert_same(a: &Keyspace, b: &Keyspace, until: Revision) {
    for at in 1..=until.0 {
        let at = Revision(at);
        let kvs = |keyspace: &Keyspace| keyspace.range(&range(at)).map(|found| found.kvs);
        assert_eq!(kvs(a), kvs(b), "at {at}");
        let hash = |keyspace: &Keyspace| keyspace.hash_kv(Some(at)).map(|hash| hash.hash);
        assert_eq!(hash(a), hash(b), "at {at}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, Option<u8>),
    Delete(u8, u8),
    Grant(u8),
    Revoke(u8),
    Compact(u8),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8, any::<u8>(), proptest::option::of(1..4u8)).prop_map(|(k, v, l)| Step::Put(k, v, l)),
        2 => (0..12u8, 0..4u8).prop_map(|(from, count)| Step::Delete(from, count)),
        1 => (1..4u8).prop_map(Step::Grant),
        1 => (1..4u8).prop_map(Step::Revoke),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Sweep),
    ]
}

fn key(number: u8) -> Bytes {
    Bytes::from(vec![b'k', number])
}

fn apply(keyspace: &mut Keyspace, step: &Step) {
    let command = match *step {
        Step::Put(number, value, lease) => {
            let put = Put::new(key(number), vec![value; usize::from(value) % 40]);
            Command::Put(match lease {
                Some(lease) => put.with_lease(LeaseId(i64::from(lease))),
                None => put,
            })
        }
        Step::Delete(from, count) => Command::DeleteRange(DeleteRange {
            keys: KeyRange::Span {
                start: key(from),
                end: key(from + count),
            },
            prev_kv: false,
        }),
        Step::Grant(id) => Command::LeaseGrant {
            id: LeaseId(i64::from(id)),
            ttl_secs: 60,
        },
        Step::Revoke(id) => Command::LeaseRevoke {
            id: LeaseId(i64::from(id)),
            cause: quorate_kv::RevokeCause::Requested,
        },
        Step::Compact(part) => {
            let revision = keyspace.revision().0 * i64::from(part) / 255;
            Command::Compact {
                revision: Revision(revision),
            }
        }
        Step::Sweep => {
            keyspace.compact_step(5);
            return;
        }
    };
    // What is refused changes nothing.
    let _ = keyspace.apply(command);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_backup_is_the_state_it_was_begun_on(
        before in proptest::collection::vec(step(), 0..120),
        meanwhile in proptest::collection::vec(step(), 0..40),
    ) {
        let mut keyspace = Keyspace::new();
        let mut twin = Keyspace::new();
        for step in &before {
            apply(&mut keyspace, step);
            apply(&mut twin, step);
        }
        let until = keyspace.revision();
        let mut meanwhile = meanwhile.iter();
        let imported = copied(&mut keyspace, |keyspace| {
            meanwhile.by_ref().take(3).for_each(|step| apply(keyspace, step));
        });
        prop_assert_eq!(imported.orphans, 0);
        let mut copy = imported.keyspace;
        prop_assert_eq!((copy.revision(), copy.compacted()), (twin.revision(), twin.compacted()));
        assert_same(&copy, &twin, until);
        let leases = |keyspace: &Keyspace| {
            let leases = keyspace.leases().map(|(id, lease)| (id, lease.ttl_secs, lease.keys.clone()));
            leases.collect::<Vec<_>>()
        };
        prop_assert_eq!(leases(&copy), leases(&twin));
        // The same goes on happening, and a snapshot of it can be restored.
        for step in &before {
            apply(&mut copy, step);
            apply(&mut twin, step);
        }
        assert_same(&copy, &twin, twin.revision());
        let mut snapshot = copy.begin_snapshot();
        let mut chunks = Vec::new();
        while let Some(chunk) = copy.snapshot_chunk(&mut snapshot, 1000) {
            chunks.push(Ok(chunk));
        }
        let again = Keyspace::restore(&mut chunks.into_iter()).unwrap();
        assert_same(&again, &twin, twin.revision());
    }

    /// The pieces of a range together are the range.
    #[test]
    fn pages_are_the_range(
        steps in proptest::collection::vec(step(), 0..80),
        max_keys in 1..6usize,
        max_bytes in 1..60usize,
    ) {
        let mut keyspace = Keyspace::new();
        steps.iter().for_each(|step| apply(&mut keyspace, step));
        let at = keyspace.revision();
        let mut rest = Some(KeyRange::all());
        let mut found = Vec::new();
        while let Some(keys) = rest {
            let request = PageRequest {
                keys,
                at: Some(at),
                projection: Projection::KeysAndValues,
                max_keys,
                max_bytes,
            };
            let page: Page = keyspace.page(&request).unwrap();
            prop_assert!(page.kvs.len() <= max_keys);
            found.extend(page.kvs);
            rest = page.rest;
        }
        prop_assert_eq!(found, keyspace.range(&range(at)).unwrap().kvs);
    }
}

#[test]
fn a_backup_of_a_keyspace_that_was_replaced_is_none() {
    let mut backup = Keyspace::new().begin_backup();
    assert!(Keyspace::new().backup_batch(&mut backup, SMALL).is_none());
}

#[test]
fn history_is_kept_while_a_backup_is_open() {
    let mut keyspace = Keyspace::new();
    for n in 0..10 {
        let _ = keyspace.apply(Command::Put(Put::new("k", n.to_string())));
    }
    let backup = keyspace.begin_backup();
    let revision = keyspace.revision();
    keyspace.apply(Command::Compact { revision }).result.unwrap();
    assert!(!keyspace.compact_step(100));
    assert_eq!(keyspace.size().versions, 10);
    drop(backup);
    keyspace.compact_step(100);
    assert_eq!(keyspace.size().versions, 1);
}

#[test]
fn users_roles_and_alarms_go_through_a_backup() {
    let mut keyspace = Keyspace::new();
    let permission = Permission {
        access: Access::Read,
        keys: KeyRange::prefix("a"),
    };
    let root = UserName::root();
    let commands = [
        AuthCommand::UserAdd {
            user: root.clone(),
            password: Some(PasswordHash::new("hash")),
        },
        AuthCommand::UserGrantRole {
            user: root,
            role: RoleName::root(),
        },
        AuthCommand::RoleAdd {
            role: RoleName::parse("r").unwrap(),
        },
        AuthCommand::RoleGrantPermission {
            role: RoleName::parse("r").unwrap(),
            permission,
        },
        AuthCommand::Enable,
    ];
    for command in commands {
        keyspace.apply(Command::Auth(command)).result.unwrap();
    }
    let alarm = Alarm {
        member: MemberId(3),
        kind: AlarmKind::NoSpace,
    };
    let action = AlarmAction::Activate;
    let raise = quorate_kv::Proposal {
        caller: quorate_kv::Caller::Member,
        command: Command::Alarm { action, alarm },
    };
    keyspace.apply(raise).result.unwrap();
    let copy = copied(&mut keyspace, |_| {}).keyspace;
    assert_eq!(copy.begin_backup().head(), keyspace.begin_backup().head());
}

fn put_at(revision: i64, lease: Option<i64>) -> Version {
    let kv = KeyValue {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        create_revision: Revision(2),
        mod_revision: Revision(revision),
        version: revision - 1,
        lease: lease.map(LeaseId),
    };
    Version {
        revision: Revision(revision),
        sub: 0,
        content: VersionContent::Put(kv),
    }
}

#[test]
fn a_key_whose_lease_is_gone_is_kept_without_one() {
    let mut import = Import::default();
    import.add_version(&put_at(2, Some(9))).unwrap();
    import.add_version(&put_at(3, Some(9))).unwrap();
    let imported = import.finish(Bump::default()).unwrap();
    assert_eq!(imported.orphans, 1);
    let found = imported.keyspace.range(&range(Revision(3))).unwrap();
    assert_eq!(found.kvs[0].lease, None);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut import = Import::default();
    assert!(
        import.add_version(&put_at(1, None)).is_err(),
        "the first revision has no keys"
    );
    assert!(import.add_version(&put_at(i64::MAX, None)).is_err());
    let mut version = put_at(5, None);
    version.revision = Revision(6);
    assert!(
        import.add_version(&version).is_err(),
        "filed under another revision"
    );
    let mut version = put_at(5, None);
    if let VersionContent::Put(kv) = &mut version.content {
        kv.create_revision = Revision(6);
    }
    assert!(
        import.add_version(&version).is_err(),
        "created after it was changed"
    );
    assert!(import.add_lease(LeaseId(0), 60).is_err());
    assert!(import.add_lease(LeaseId(1), i64::MAX).is_err());
    import.add_lease(LeaseId(1), 60).unwrap();
    assert!(import.add_lease(LeaseId(1), 60).is_err());
    assert!(import.reach(Revision(-1)).is_err());
    import.add_version(&put_at(5, None)).unwrap();
    import.add_version(&put_at(5, None)).unwrap();
    assert!(
        import.finish(Bump::default()).is_err(),
        "two versions at one place"
    );
}

/// An older program would not write users down whose state says that nothing was ever changed.
#[test]
fn users_are_never_of_the_first_revision() {
    let mut import = Import::default();
    import.add_user(BackupUser {
        name: UserName::root(),
        password: None,
        roles: Vec::new(),
    });
    import.set_auth_revision(AuthRevision(0));
    let status = import.finish(Bump::default()).unwrap().keyspace.auth().status();
    assert_eq!(
        (status.switch, status.revision),
        (AuthSwitch::Off, AuthRevision(2))
    );
}

#[test]
fn a_bump_goes_on_from_later_revisions() {
    for compact in [false, true] {
        let mut import = Import::default();
        import.add_version(&put_at(2, None)).unwrap();
        let bump = Bump { by: 100, compact };
        let mut keyspace = import.finish(bump).unwrap().keyspace;
        assert_eq!(keyspace.revision(), Revision(102));
        assert_eq!(keyspace.range(&range(Revision(50))).is_ok(), !compact);
        let applied = keyspace.apply(Command::Put(Put::new("k", "2")));
        assert_eq!(applied.revision, Revision(103));
    }
}
