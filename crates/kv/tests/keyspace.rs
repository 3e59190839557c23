//! The rules of the keyspace, one test each: revisions, ranges, transactions, compaction, leases, alarms.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use bytes::Bytes;
use quorate_kv::*;
use support::*;

fn prefix_of_three() -> Keyspace {
    let mut keyspace = Keyspace::new();
    put(&mut keyspace, "a", "3"); // 2
    put(&mut keyspace, "b", "2"); // 3
    put(&mut keyspace, "c", "1"); // 4
    put(&mut keyspace, "b", "2"); // 5
    keyspace
}

fn range(keys: KeyRange) -> Range {
    Range::new(keys)
}

fn limited(limit: usize) -> Range {
    Range {
        limit: limit.try_into().ok(),
        ..range(KeyRange::all())
    }
}

fn then(success: Vec<Op>) -> Txn {
    Txn {
        success,
        ..Txn::default()
    }
}

fn put_op(key: &str) -> Op {
    Op::Put(Put::new(key.to_owned(), "v"))
}

fn delete_op(keys: KeyRange) -> Op {
    Op::DeleteRange(DeleteRange { keys, prev_kv: false })
}

fn compare(keys: KeyRange, relation: Relation, operand: Operand) -> Compare {
    Compare {
        keys,
        relation,
        operand,
    }
}

fn holds(keyspace: &mut Keyspace, condition: Compare) -> bool {
    txn(
        keyspace,
        Txn {
            compares: vec![condition],
            ..Txn::default()
        },
    )
    .succeeded
}

mod revisions {
    use super::*;

    #[test]
    fn a_fresh_keyspace_is_at_one_and_never_compacted() {
        let keyspace = Keyspace::new();
        assert_eq!(
            (keyspace.revision(), keyspace.compacted()),
            (Revision(1), Revision(-1))
        );
    }

    #[test]
    fn every_write_is_one_revision() {
        let mut keyspace = Keyspace::new();
        assert_eq!(put(&mut keyspace, "a", "1"), 2);
        assert_eq!(put(&mut keyspace, "a", "1"), 3);
        delete(&mut keyspace, "a");
        assert_eq!(keyspace.revision(), Revision(4));
    }

    #[test]
    fn a_transaction_is_one_revision_with_ordered_changes() {
        let mut keyspace = Keyspace::new();
        put(&mut keyspace, "c", "1");
        let ops = vec![put_op("b"), delete_op(single("c")), put_op("a")];
        let applied = keyspace.apply(Command::Txn(then(ops)));
        let changes: Vec<_> = applied
            .changes
            .iter()
            .map(|change| (change.revision().0, change.key()))
            .collect();
        assert_eq!(changes, [(3, &b"b"[..]), (3, &b"c"[..]), (3, &b"a"[..])]);
        assert_eq!(applied.revision, Revision(3));
    }

    #[test]
    fn version_and_creation_last_as_long_as_the_key() {
        let mut keyspace = Keyspace::new();
        put(&mut keyspace, "a", "1");
        put(&mut keyspace, "a", "2");
        let kv = get(&keyspace, "a").unwrap();
        assert_eq!((kv.create_revision.0, kv.mod_revision.0, kv.version), (2, 3, 2));
        delete(&mut keyspace, "a");
        put(&mut keyspace, "a", "3");
        let kv = get(&keyspace, "a").unwrap();
        assert_eq!((kv.create_revision.0, kv.mod_revision.0, kv.version), (5, 5, 1));
    }

    #[test]
    fn deleting_nothing_spends_no_revision() {
        let mut keyspace = Keyspace::new();
        assert_eq!(delete(&mut keyspace, "a"), 0);
        assert_eq!(keyspace.revision(), Revision(1));
    }

    #[test]
    fn a_deletion_is_an_event_with_key_and_revision_only() {
        let mut keyspace = Keyspace::new();
        put(&mut keyspace, "a", "1");
        let before = get(&keyspace, "a");
        let applied = keyspace.apply(delete_command(single("a")));
        let event = applied.changes[0].to_event();
        assert_eq!(
            event,
            Event::Delete {
                key: "a".into(),
                revision: Revision(3),
                prev: before
            }
        );
    }

    #[test]
    fn keeping_a_field_needs_a_key() {
        let mut keyspace = Keyspace::new();
        let keep = Command::Put(Put {
            value: Assign::Keep,
            ..Put::new("a", "")
        });
        assert_eq!(err(&mut keyspace, keep.clone()), Error::KeyNotFound);
        put(&mut keyspace, "a", "1");
        ok(&mut keyspace, keep);
        assert_eq!(get(&keyspace, "a").unwrap().value, "1");
    }

    #[test]
    fn prev_kv_is_the_key_as_it_was() {
        let mut keyspace = Keyspace::new();
        put(&mut keyspace, "a", "1");
        let before = get(&keyspace, "a");
        let Response::Put(response) = ok(
            &mut keyspace,
            Command::Put(Put {
                prev_kv: true,
                ..Put::new("a", "2")
            }),
        ) else {
            panic!("a put answers with a put");
        };
        assert_eq!((response.prev, response.revision), (before, Revision(3)));
    }
}

mod ranges {
    use super::*;

    #[test]
    fn keys_come_in_byte_order() {
        let keyspace = prefix_of_three();
        assert_eq!(keys(&keyspace.range(&range(KeyRange::all())).unwrap()), "a b c");
        assert_eq!(keys(&keyspace.range(&range(span("a", "c"))).unwrap()), "a b");
        assert_eq!(
            keys(&keyspace.range(&range(KeyRange::From("b".into()))).unwrap()),
            "b c"
        );
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        let mut keyspace = prefix_of_three();
        assert_eq!(keyspace.range(&range(span("c", "a"))).unwrap().count, 0);
        let applied = keyspace.apply(delete_command(span("c", "a")));
        assert!(applied.changes.is_empty());
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert_eq!(prefix_of_three().range(&range(single(""))), Err(Error::EmptyKey));
    }

    #[test]
    fn old_revisions_are_readable_and_future_ones_are_not() {
        let mut keyspace = prefix_of_three();
        delete(&mut keyspace, "b"); // 6
        assert_eq!(get_at(&keyspace, "b", 2).unwrap(), None);
        assert_eq!(
            get_at(&keyspace, "b", 4).unwrap().unwrap().mod_revision,
            Revision(3)
        );
        assert_eq!(get_at(&keyspace, "b", 6).unwrap(), None);
        assert_eq!(
            get_at(&keyspace, "b", 7),
            Err(Error::FutureRevision { current: Revision(6) })
        );
    }

    #[test]
    fn an_answer_is_headed_by_the_newest_revision_whatever_is_read() {
        let read = Range {
            at: Some(Revision(2)),
            ..range(KeyRange::all())
        };
        assert_eq!(prefix_of_three().range(&read).unwrap().revision, Revision(5));
    }

    #[test]
    fn a_limit_cuts_keys_but_not_the_count() {
        let keyspace = prefix_of_three();
        let response = keyspace.range(&limited(2)).unwrap();
        assert_eq!(
            (keys(&response).as_str(), response.more, response.count),
            ("a b", true, 3)
        );
        let response = keyspace.range(&limited(3)).unwrap();
        assert_eq!((response.more, response.count), (false, 3));
    }

    #[test]
    fn a_filter_cuts_keys_but_not_the_count() {
        let filter = RevisionFilter {
            min_mod: Some(Revision(5)),
            ..RevisionFilter::default()
        };
        let response = prefix_of_three()
            .range(&Range {
                filter,
                ..range(KeyRange::all())
            })
            .unwrap();
        assert_eq!(
            (keys(&response).as_str(), response.more, response.count),
            ("b", false, 3)
        );
        let filter = RevisionFilter {
            max_create: Some(Revision(3)),
            ..RevisionFilter::default()
        };
        let response = prefix_of_three().range(&Range { filter, ..limited(1) }).unwrap();
        assert_eq!((keys(&response).as_str(), response.more), ("a", true));
    }

    #[test]
    fn sorting_comes_before_the_limit() {
        let sorted = |target| Range {
            order: SortOrder::Descend,
            target,
            ..limited(2)
        };
        let read = |target| keys(&prefix_of_three().range(&sorted(target)).unwrap());
        assert_eq!(read(SortTarget::Key), "c b");
        assert_eq!(read(SortTarget::Mod), "b c");
        assert_eq!(read(SortTarget::Value), "a b");
        assert_eq!(read(SortTarget::Version), "b a");
        assert_eq!(read(SortTarget::Create), "c b");
    }

    #[test]
    fn an_unordered_target_sorts_what_the_limit_has_left() {
        let read = Range {
            target: SortTarget::Value,
            ..limited(1)
        };
        let ordered = Range {
            order: SortOrder::Ascend,
            ..read.clone()
        };
        assert_eq!(keys(&prefix_of_three().range(&ordered).unwrap()), "c");
        assert_eq!(
            keys(&prefix_of_three().range(&read).unwrap()),
            "b",
            "the lesser of a and b"
        );
    }

    #[test]
    fn projections_drop_values_or_all() {
        let keyspace = prefix_of_three();
        let only = |projection| Range {
            projection,
            ..range(KeyRange::all())
        };
        let response = keyspace.range(&only(Projection::KeysOnly)).unwrap();
        assert!(
            response
                .kvs
                .iter()
                .all(|kv| kv.value.is_empty() && kv.version > 0)
        );
        let response = keyspace.range(&only(Projection::CountOnly)).unwrap();
        assert_eq!((response.kvs.len(), response.count, response.more), (0, 3, false));
    }
}

mod transactions {
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
}

mod compaction {
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
}

mod leases {
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
}

mod alarms {
    use super::*;

    fn alarm(action: AlarmAction, kind: AlarmKind) -> Command {
        Command::Alarm {
            action,
            alarm: Alarm {
                member: MemberId(1),
                kind,
            },
        }
    }

    #[test]
    fn no_space_refuses_what_grows_and_nothing_else() {
        let mut keyspace = prefix_of_three();
        grant(&mut keyspace, 7);
        ok(&mut keyspace, alarm(AlarmAction::Activate, AlarmKind::NoSpace));
        assert_eq!(err(&mut keyspace, put_command("a", "1")), Error::NoSpace);
        assert_eq!(
            err(
                &mut keyspace,
                Command::LeaseGrant {
                    id: LeaseId(8),
                    ttl_secs: 1
                }
            ),
            Error::NoSpace
        );
        let nested = Txn {
            failure: vec![Op::Txn(then(vec![put_op("a")]))],
            ..Txn::default()
        };
        assert_eq!(err(&mut keyspace, Command::Txn(nested)), Error::NoSpace);
        assert_eq!(delete(&mut keyspace, "a"), 1);
        txn(&mut keyspace, then(vec![delete_op(single("b"))]));
        ok(&mut keyspace, compact(3));
        ok(&mut keyspace, revoke(7));
        assert_eq!(keyspace.range(&range(KeyRange::all())).unwrap().count, 1);
        ok(&mut keyspace, alarm(AlarmAction::Deactivate, AlarmKind::NoSpace));
        put(&mut keyspace, "a", "1");
    }

    #[test]
    fn corrupt_refuses_every_write_but_no_read() {
        let mut keyspace = prefix_of_three();
        grant(&mut keyspace, 7);
        ok(&mut keyspace, alarm(AlarmAction::Activate, AlarmKind::Corrupt));
        let writes = [
            put_command("a", "1"),
            delete_command(single("a")),
            Command::Txn(then(vec![])),
            compact(3),
            revoke(7),
        ];
        for write in writes {
            assert_eq!(err(&mut keyspace, write), Error::Corrupt);
        }
        assert!(get(&keyspace, "a").is_some());
    }

    #[test]
    fn alarms_are_listed_by_member() {
        let mut keyspace = Keyspace::new();
        let raised = Alarm {
            member: MemberId(1),
            kind: AlarmKind::NoSpace,
        };
        let answer = ok(&mut keyspace, alarm(AlarmAction::Activate, AlarmKind::NoSpace));
        assert_eq!(answer, Response::Alarm(vec![raised]));
        assert_eq!(keyspace.alarms().collect::<Vec<_>>(), [raised]);
        let answer = ok(&mut keyspace, alarm(AlarmAction::Deactivate, AlarmKind::Corrupt));
        assert_eq!(answer, Response::Alarm(vec![]), "there is none to lift");
    }
}

mod snapshots {
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
}
