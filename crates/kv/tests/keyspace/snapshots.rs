use super::*;

fn everything() -> Keyspace {
    let mut keyspace = prefix_of_three();
    grant(&mut keyspace, 7);
    grant(&mut keyspace, -9);
    ok(
        &mut keyspace,
        Command::Put(Put::new("leased", "v").with_lease(LeaseId(7))),
    );
    ok(
        &mut keyspace,
        Command::LeaseRenew {
            ids: vec![LeaseId(7)],
        },
    );
    delete(&mut keyspace, "a");
    ok(&mut keyspace, compact(4));
    let alarm = Alarm {
        member: MemberId(3),
        kind: AlarmKind::NoSpace,
    };
    ok(
        &mut keyspace,
        Command::Alarm {
            action: AlarmAction::Activate,
            alarm,
        },
    );
    let member = Member {
        id: MemberId(3),
        name: "three".into(),
        peer_urls: vec!["http://three:2380".into()],
        client_urls: vec![],
    };
    ok(&mut keyspace, Command::PublishMember(member));
    keyspace
}

#[test]
fn a_restored_keyspace_is_the_same() {
    let mut keyspace = everything();
    let restored = restore(snapshot(&mut keyspace, 7)).unwrap();
    assert_eq!(restored.hash_kv(None), keyspace.hash_kv(None));
    assert_eq!(restored.compacted(), keyspace.compacted());
    assert!(restored.leases().eq(keyspace.leases()));
    assert!(restored.members().eq(keyspace.members()));
    assert!(restored.alarms().eq(keyspace.alarms()));
    assert_eq!(restored.lease(LeaseId(7)).unwrap().keys.len(), 1);
}

#[test]
fn lease_epochs_go_on_after_a_restore() {
    let mut keyspace = everything();
    let mut restored = restore(snapshot(&mut keyspace, 1 << 20)).unwrap();
    for state in [&mut keyspace, &mut restored] {
        ok(
            state,
            Command::LeaseRenew {
                ids: vec![LeaseId(-9)],
            },
        );
    }
    assert!(restored.leases().eq(keyspace.leases()));
}

#[test]
fn equal_states_make_equal_bytes_swept_or_not() {
    let mut keyspace = everything();
    let before = snapshot(&mut keyspace, 64).concat();
    while keyspace.compact_step(1) {}
    assert_eq!(snapshot(&mut keyspace, 1000).concat(), before);
    let mut restored = restore([before.clone().into()]).unwrap();
    assert_eq!(snapshot(&mut restored, 3).concat(), before);
}

#[test]
fn a_snapshot_is_of_the_moment_it_was_begun() {
    let mut keyspace = prefix_of_three();
    let expected = keyspace.hash_kv(None);
    let mut open = keyspace.begin_snapshot();
    let first = keyspace.snapshot_chunk(&mut open, 20).unwrap();
    put(&mut keyspace, "a", "later");
    delete(&mut keyspace, "c");
    ok(&mut keyspace, compact(7));
    assert!(
        !keyspace.compact_step(100),
        "nothing is removed while a snapshot is open"
    );
    assert!(keyspace.needs_compact_step());
    let mut chunks = vec![first];
    chunks.extend(finish_snapshot(&mut keyspace, open, 20));
    assert_eq!(restore(chunks).unwrap().hash_kv(None), expected);
    let versions = keyspace.size().versions;
    while keyspace.compact_step(100) {}
    assert!(keyspace.size().versions < versions);
}

#[test]
fn every_cut_is_noticed() {
    let whole = snapshot(&mut everything(), 1 << 20).concat();
    for length in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole[..length]);
        let error = restore([cut]).expect_err("a snapshot that is cut is refused");
        assert!(
            matches!(error, RestoreError::CutOff { .. }),
            "cut at {length}: {error}"
        );
    }
}

#[test]
fn every_flipped_byte_is_noticed() {
    let whole = snapshot(&mut everything(), 1 << 20).concat();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        assert!(restore([damaged.into()]).is_err(), "byte {at}");
    }
}

#[test]
fn foreign_and_newer_snapshots_are_named() {
    let whole = snapshot(&mut everything(), 1 << 20).concat();
    assert!(matches!(
        restore([Bytes::from_static(b"not a snapshot")]),
        Err(RestoreError::NotASnapshot)
    ));
    let mut newer = whole.clone();
    newer[7] = 3;
    assert!(matches!(
        restore([newer.into()]),
        Err(RestoreError::UnknownFormat { found: 3, known: 2 })
    ));
    let longer = [&whole[..], b"x"].concat();
    assert!(matches!(
        restore([longer.into()]),
        Err(RestoreError::Inconsistent { .. })
    ));
}

#[test]
fn an_error_of_the_source_is_handed_on() {
    let mut chunks = [Err(std::io::Error::other("broken"))].into_iter();
    assert!(matches!(
        Keyspace::restore(&mut chunks),
        Err(RestoreError::Read(_))
    ));
}
