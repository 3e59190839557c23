use super::*;

#[test]
fn compacted_revisions_are_gone_but_the_compacted_one_is_not() {
    let mut keyspace = prefix_of_three();
    ok(&mut keyspace, compact(4));
    for swept in [false, true] {
        assert_eq!(
            get_at(&keyspace, "b", 3),
            Err(Error::Compacted {
                compacted: Revision(4)
            })
        );
        assert_eq!(
            get_at(&keyspace, "b", 4).unwrap().unwrap().mod_revision,
            Revision(3)
        );
        if !swept {
            while keyspace.compact_step(1) {}
        }
    }
}

#[test]
fn the_future_and_the_past_cannot_be_compacted() {
    let mut keyspace = prefix_of_three();
    assert_eq!(
        err(&mut keyspace, compact(6)),
        Error::FutureRevision { current: Revision(5) }
    );
    ok(&mut keyspace, compact(3));
    assert_eq!(
        err(&mut keyspace, compact(3)),
        Error::Compacted {
            compacted: Revision(3)
        }
    );
    assert_eq!(
        err(&mut keyspace, compact(2)),
        Error::Compacted {
            compacted: Revision(3)
        }
    );
}

#[test]
fn a_fresh_keyspace_may_be_compacted_at_zero_once() {
    let mut keyspace = Keyspace::new();
    assert_eq!(
        err(&mut keyspace, compact(-1)),
        Error::Compacted {
            compacted: Revision::NOTHING_COMPACTED
        }
    );
    ok(&mut keyspace, compact(0));
    assert_eq!(
        err(&mut keyspace, compact(0)),
        Error::Compacted {
            compacted: Revision(0)
        }
    );
}

#[test]
fn a_tombstone_at_the_compacted_revision_stays_for_watchers() {
    let mut keyspace = prefix_of_three();
    delete(&mut keyspace, "a"); // 6
    ok(&mut keyspace, compact(6));
    while keyspace.compact_step(10) {}
    let all: KeyRanges = [&KeyRange::all()].into_iter().collect();
    let history = keyspace
        .history(&all, Revision(6), &HistoryLimits::default())
        .unwrap();
    let event = history.changes[0].to_event();
    assert_eq!(
        event,
        Event::Delete {
            key: "a".into(),
            revision: Revision(6),
            prev: None
        }
    );
}

#[test]
fn the_hash_does_not_depend_on_what_is_removed() {
    let mut keyspace = prefix_of_three();
    delete(&mut keyspace, "a");
    ok(&mut keyspace, compact(6));
    let before = keyspace.hash_kv(None).unwrap();
    while keyspace.compact_step(1) {
        assert_eq!(keyspace.hash_kv(None).unwrap(), before);
    }
    assert_eq!(keyspace.hash_kv(None).unwrap(), before);
}

#[test]
fn the_hash_of_an_old_revision_ignores_what_came_later() {
    let mut keyspace = prefix_of_three();
    let then = keyspace.hash_kv(None).unwrap();
    put(&mut keyspace, "d", "4");
    assert_ne!(keyspace.hash_kv(None).unwrap().hash, then.hash);
    assert_eq!(keyspace.hash_kv(Some(Revision(5))), Ok(then));
    assert_eq!(
        keyspace.hash_kv(Some(Revision(7))),
        Err(Error::FutureRevision { current: Revision(6) })
    );
    ok(&mut keyspace, compact(6));
    assert_eq!(
        keyspace.hash_kv(Some(Revision(5))),
        Err(Error::Compacted {
            compacted: Revision(6)
        })
    );
}

#[test]
fn history_is_cut_between_revisions_and_can_be_gone_on_with() {
    let mut keyspace = Keyspace::new();
    (0..10).for_each(|_| {
        txn(&mut keyspace, then(vec![put_op("a"), put_op("b"), put_op("c")]));
    });
    let all: KeyRanges = [&KeyRange::all()].into_iter().collect();
    let limits = HistoryLimits {
        bytes: 1,
        ..HistoryLimits::default()
    };
    let mut from = Revision(2);
    let mut seen = 0;
    while from <= keyspace.revision() {
        let batch = keyspace.history(&all, from, &limits).unwrap();
        assert_eq!(batch.changes.len(), 3, "one whole revision");
        seen += batch.changes.len();
        from = batch.through.next();
    }
    assert_eq!(seen, 30);
}

#[test]
fn history_gets_past_a_revision_larger_than_its_limits() {
    let mut keyspace = Keyspace::new();
    txn(&mut keyspace, then(vec![put_op("a"), put_op("b"), put_op("c")]));
    let last: KeyRanges = [&single("c")].into_iter().collect();
    let limits = HistoryLimits {
        scanned: 1,
        ..HistoryLimits::default()
    };
    let batch = keyspace.history(&last, Revision(2), &limits).unwrap();
    assert_eq!((batch.through, batch.changes.len()), (Revision(2), 1));
}
