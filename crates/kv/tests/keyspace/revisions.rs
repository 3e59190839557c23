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
