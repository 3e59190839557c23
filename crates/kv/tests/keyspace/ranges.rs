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
