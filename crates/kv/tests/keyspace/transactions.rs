use super::*;

#[test]
fn comparisons_choose_the_branch() {
    let mut keyspace = prefix_of_three();
    let is_two = compare(single("a"), Relation::Equal, Operand::Mod(Revision(2)));
    let both = Txn {
        compares: vec![is_two],
        success: vec![put_op("s")],
        failure: vec![put_op("f")],
    };
    assert!(txn(&mut keyspace, both.clone()).succeeded);
    put(&mut keyspace, "a", "changed");
    assert!(!txn(&mut keyspace, both).succeeded);
    assert!(get(&keyspace, "s").is_some() && get(&keyspace, "f").is_some());
}

#[test]
fn a_missing_key_compares_as_zero_but_has_no_value() {
    let mut keyspace = Keyspace::new();
    let zeros = [
        Operand::Version(0),
        Operand::Create(Revision(0)),
        Operand::Mod(Revision(0)),
        Operand::Lease(None),
    ];
    for zero in zeros {
        assert!(holds(&mut keyspace, compare(single("x"), Relation::Equal, zero)));
    }
    for relation in [
        Relation::Equal,
        Relation::NotEqual,
        Relation::Less,
        Relation::Greater,
    ] {
        let value = Operand::Value(Bytes::new());
        assert!(!holds(&mut keyspace, compare(single("x"), relation, value)));
    }
}

#[test]
fn every_key_of_a_compared_range_must_satisfy() {
    let mut keyspace = prefix_of_three();
    let version = |keys, version| compare(keys, Relation::Equal, Operand::Version(version));
    assert!(
        !holds(&mut keyspace, version(KeyRange::all(), 1)),
        "b has version 2"
    );
    assert!(holds(&mut keyspace, version(span("a", "b"), 1)));
    assert!(
        holds(&mut keyspace, version(span("x", "y"), 0)),
        "an empty range is a missing key"
    );
}

#[test]
fn relations_compare_the_key_to_the_operand() {
    let mut keyspace = prefix_of_three();
    let mut value = |relation, operand: &'static str| {
        holds(
            &mut keyspace,
            compare(single("b"), relation, Operand::Value(operand.into())),
        )
    };
    assert!(value(Relation::Greater, "1") && !value(Relation::Greater, "2"));
    assert!(value(Relation::Less, "3") && value(Relation::NotEqual, "3") && value(Relation::Equal, "2"));
}

#[test]
fn nested_comparisons_see_the_state_before_the_transaction() {
    let mut keyspace = Keyspace::new();
    let missing = compare(single("a"), Relation::Equal, Operand::Version(0));
    let nested = Txn {
        compares: vec![missing],
        success: vec![put_op("b")],
        failure: vec![],
    };
    let response = txn(&mut keyspace, then(vec![put_op("a"), Op::Txn(nested)]));
    let OpResponse::Txn(nested) = &response.responses[1] else {
        panic!("{response:?}")
    };
    assert!(nested.succeeded, "a did not exist before the transaction");
}

#[test]
fn reads_see_the_writes_before_them() {
    let mut keyspace = Keyspace::new();
    let read = Op::Range(Range::new(KeyRange::all()));
    let response = txn(&mut keyspace, then(vec![read.clone(), put_op("a"), read]));
    let revisions_and_counts: Vec<_> = response
        .responses
        .iter()
        .filter_map(|response| match response {
            OpResponse::Range(range) => Some((range.revision.0, range.count)),
            OpResponse::Put(_) | OpResponse::DeleteRange(_) | OpResponse::Txn(_) => None,
        })
        .collect();
    assert_eq!(revisions_and_counts, [(1, 0), (2, 1)]);
    assert_eq!(response.revision, Revision(2));
}

#[test]
fn what_fails_in_a_transaction_fails_before_anything_is_written() {
    let mut keyspace = prefix_of_three();
    let read_at = |revision| Range {
        at: Some(Revision(revision)),
        ..Range::new(single("a"))
    };
    let keep = Put {
        value: Assign::Keep,
        ..Put::new("new", "")
    };
    let fails = [
        (
            Op::Put(Put::new("x", "").with_lease(LeaseId(7))),
            Error::LeaseNotFound(LeaseId(7)),
        ),
        (Op::Put(keep), Error::KeyNotFound),
        (
            Op::Range(read_at(6)),
            Error::FutureRevision { current: Revision(5) },
        ),
    ];
    for (op, expected) in fails {
        let nested = Op::Txn(then(vec![op.clone()]));
        assert_eq!(
            err(&mut keyspace, Command::Txn(then(vec![put_op("other"), op]))),
            expected
        );
        assert_eq!(
            err(&mut keyspace, Command::Txn(then(vec![put_op("other"), nested]))),
            expected
        );
    }
}

#[test]
fn only_the_chosen_branch_is_checked() {
    let mut keyspace = Keyspace::new();
    let bad = Op::Put(Put::new("x", "").with_lease(LeaseId(7)));
    assert!(
        txn(
            &mut keyspace,
            Txn {
                failure: vec![bad],
                ..Txn::default()
            }
        )
        .succeeded
    );
}

#[test]
fn a_transaction_that_writes_nothing_spends_no_revision() {
    let mut keyspace = prefix_of_three();
    let response = txn(&mut keyspace, then(vec![delete_op(single("nothing"))]));
    assert_eq!(
        (response.revision, keyspace.revision()),
        (Revision(5), Revision(5))
    );
}

#[test]
fn duplicate_keys_are_refused_when_applied_too() {
    let twice = Command::Txn(then(vec![put_op("a"), put_op("a")]));
    assert_eq!(err(&mut Keyspace::new(), twice), Error::DuplicateKey);
}

#[test]
fn a_key_is_put_after_a_deletion_without_an_end() {
    let mut keyspace = prefix_of_three();
    let before = get(&keyspace, "a");
    let delete = delete_op(KeyRange::From("a".into()));
    txn(&mut keyspace, then(vec![delete, put_op("a")]));
    let kv = get(&keyspace, "a").unwrap();
    assert_eq!((kv.create_revision.0, kv.version), (6, 1));
    assert_ne!(before, Some(kv));
    assert_eq!(get(&keyspace, "b"), None);
}

#[test]
fn a_key_that_is_deleted_and_put_at_once_is_created() {
    let mut keyspace = prefix_of_three();
    let delete = delete_op(KeyRange::From("a".into()));
    txn(&mut keyspace, then(vec![delete, put_op("a")]));
    let events = all_events(&keyspace);
    let of_a: Vec<_> = events
        .iter()
        .filter(|event| event.key() == "a")
        .map(|event| (event.revision().0, event.prev().is_some()))
        .collect();
    assert_eq!(of_a[1..], [(6, true), (6, false)]);
}

#[test]
fn puts_are_checked_before_ranges_and_kept_keys_before_leases() {
    let future = || {
        Op::Range(Range {
            at: Some(Revision(100)),
            ..Range::new(single("a"))
        })
    };
    let of_lease = || Op::Put(Put::new("x", "").with_lease(LeaseId(7)));
    let kept = Op::Put(Put {
        value: Assign::Keep,
        ..Put::new("x", "").with_lease(LeaseId(7))
    });
    let refused = |ops| err(&mut prefix_of_three(), Command::Txn(then(ops)));
    let current = Revision(5);
    assert_eq!(refused(vec![future()]), Error::FutureRevision { current });
    let nested = Op::Txn(then(vec![of_lease()]));
    assert_eq!(refused(vec![future(), nested]), Error::LeaseNotFound(LeaseId(7)));
    assert_eq!(refused(vec![future(), kept]), Error::KeyNotFound);
    let alone = Put {
        value: Assign::Keep,
        ..Put::new("x", "").with_lease(LeaseId(7))
    };
    let alone = err(&mut prefix_of_three(), Command::Put(alone));
    assert_eq!(alone, Error::LeaseNotFound(LeaseId(7)));
}

#[test]
fn a_revision_below_zero_is_the_newest_or_compacted() {
    let at = |revision| {
        Command::Txn(then(vec![Op::Range(Range {
            at: Some(Revision(revision)),
            ..Range::new(single("a"))
        })]))
    };
    let mut keyspace = prefix_of_three();
    let response = ok(&mut keyspace, at(-1));
    let Response::Txn(response) = response else {
        panic!("{response:?}");
    };
    assert!(matches!(&response.responses[..], [OpResponse::Range(range)] if range.count == 1));
    let compacted = Revision(-1);
    assert_eq!(err(&mut keyspace, at(-2)), Error::Compacted { compacted });
}

#[test]
fn overlapping_deletes_delete_once() {
    let mut keyspace = prefix_of_three();
    let response = txn(
        &mut keyspace,
        then(vec![delete_op(span("a", "c")), delete_op(KeyRange::all())]),
    );
    let deleted: Vec<_> = response
        .responses
        .iter()
        .map(|response| match response {
            OpResponse::DeleteRange(delete) => delete.deleted,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(deleted, [2, 1]);
}

#[test]
fn a_key_may_be_put_and_then_deleted_by_nested_transactions() {
    let mut keyspace = prefix_of_three();
    let before = get(&keyspace, "a");
    let ops = vec![
        Op::Txn(then(vec![put_op("a")])),
        Op::Txn(then(vec![delete_op(single("a"))])),
    ];
    let applied = keyspace.apply(Command::Txn(then(ops)));
    let prevs: Vec<_> = applied
        .changes
        .iter()
        .map(|change| change.to_event().prev().cloned())
        .collect();
    assert_eq!(
        prevs,
        [before.clone(), before],
        "both say what was there before the revision"
    );
    assert_eq!(get(&keyspace, "a"), None);
}

#[test]
fn a_read_only_transaction_reads() {
    let keyspace = prefix_of_three();
    let read = then(vec![Op::Range(Range::new(KeyRange::all()))])
        .into_read_only()
        .unwrap();
    let response = keyspace.read_txn(&read).unwrap();
    assert_eq!(
        (response.succeeded, response.revision, response.responses.len()),
        (true, Revision(5), 1)
    );
}
