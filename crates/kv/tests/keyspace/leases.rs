use super::*;

fn attached(keyspace: &mut Keyspace, key: &str, lease: i64) {
    ok(
        keyspace,
        Command::Put(Put::new(key.to_owned(), "v").with_lease(LeaseId(lease))),
    );
}

fn lease_keys(keyspace: &Keyspace, id: i64) -> Vec<Bytes> {
    keyspace
        .lease(LeaseId(id))
        .unwrap()
        .keys
        .iter()
        .cloned()
        .collect()
}

fn expired(id: i64, epoch: LeaseEpoch) -> Command {
    Command::LeaseRevoke {
        id: LeaseId(id),
        cause: RevokeCause::Expired { epoch },
    }
}

#[test]
fn a_put_with_an_unknown_lease_spends_no_revision() {
    let mut keyspace = Keyspace::new();
    let command = Command::Put(Put::new("a", "1").with_lease(LeaseId(7)));
    assert_eq!(err(&mut keyspace, command), Error::LeaseNotFound(LeaseId(7)));
    assert_eq!(keyspace.revision(), Revision(1));
}

#[test]
fn an_id_is_granted_once_and_zero_never() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    let again = Command::LeaseGrant {
        id: LeaseId(7),
        ttl_secs: 1,
    };
    assert_eq!(err(&mut keyspace, again), Error::LeaseExists(LeaseId(7)));
    let zero = Command::LeaseGrant {
        id: LeaseId(0),
        ttl_secs: 1,
    };
    assert_eq!(err(&mut keyspace, zero), Error::LeaseNotFound(LeaseId(0)));
    let long = Command::LeaseGrant {
        id: LeaseId(8),
        ttl_secs: MAX_TTL_SECS + 1,
    };
    assert_eq!(err(&mut keyspace, long), Error::LeaseTtlTooLarge);
}

#[test]
fn revoking_deletes_the_keys_in_order_in_one_revision() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    for key in ["c", "a", "b"] {
        attached(&mut keyspace, key, 7);
    }
    let applied = keyspace.apply(revoke(7));
    let changes: Vec<_> = applied
        .changes
        .iter()
        .map(|change| (change.revision().0, change.key()))
        .collect();
    assert_eq!(changes, [(5, &b"a"[..]), (5, &b"b"[..]), (5, &b"c"[..])]);
    assert_eq!(applied.leases, [LeaseEvent::Ended { id: LeaseId(7) }]);
    assert_eq!(keyspace.leases().count(), 0);
}

#[test]
fn revoking_a_lease_without_keys_spends_no_revision() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    ok(&mut keyspace, revoke(7));
    assert_eq!(keyspace.revision(), Revision(1));
    assert_eq!(err(&mut keyspace, revoke(7)), Error::LeaseNotFound(LeaseId(7)));
}

#[test]
fn a_put_moves_its_key_between_leases() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    grant(&mut keyspace, 8);
    attached(&mut keyspace, "a", 7);
    attached(&mut keyspace, "a", 8);
    assert_eq!(
        (lease_keys(&keyspace, 7).len(), lease_keys(&keyspace, 8)),
        (0, vec!["a".into()])
    );
    put(&mut keyspace, "a", "without a lease");
    assert_eq!(lease_keys(&keyspace, 8).len(), 0);
    ok(&mut keyspace, revoke(8));
    assert!(get(&keyspace, "a").is_some());
}

#[test]
fn a_put_may_keep_the_lease() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    attached(&mut keyspace, "a", 7);
    ok(
        &mut keyspace,
        Command::Put(Put {
            lease: Assign::Keep,
            ..Put::new("a", "2")
        }),
    );
    assert_eq!(get(&keyspace, "a").unwrap().lease, Some(LeaseId(7)));
    assert_eq!(lease_keys(&keyspace, 7), ["a"]);
}

#[test]
fn a_deleted_key_leaves_its_lease() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    attached(&mut keyspace, "a", 7);
    delete(&mut keyspace, "a");
    assert_eq!(lease_keys(&keyspace, 7).len(), 0);
}

#[test]
fn an_expiry_that_missed_a_renewal_is_void() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    let seen = keyspace.lease(LeaseId(7)).unwrap().epoch;
    let response = ok(
        &mut keyspace,
        Command::LeaseRenew {
            ids: vec![LeaseId(7), LeaseId(8)],
        },
    );
    let renewals = vec![
        Renewal {
            id: LeaseId(7),
            ttl_secs: Some(10),
        },
        Renewal {
            id: LeaseId(8),
            ttl_secs: None,
        },
    ];
    assert_eq!(response, Response::LeaseRenew(renewals));
    assert_eq!(
        err(&mut keyspace, expired(7, seen)),
        Error::LeaseRenewed(LeaseId(7))
    );
    let current = keyspace.lease(LeaseId(7)).unwrap().epoch;
    ok(&mut keyspace, expired(7, current));
}

#[test]
fn an_expiry_of_an_earlier_lease_of_the_same_id_is_void() {
    let mut keyspace = Keyspace::new();
    grant(&mut keyspace, 7);
    let seen = keyspace.lease(LeaseId(7)).unwrap().epoch;
    ok(&mut keyspace, revoke(7));
    grant(&mut keyspace, 7);
    assert_eq!(
        err(&mut keyspace, expired(7, seen)),
        Error::LeaseRenewed(LeaseId(7))
    );
}
