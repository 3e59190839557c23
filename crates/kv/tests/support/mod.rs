//! What the tests of the keyspace share: short ways to build commands, and random ones.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

use std::io;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_kv::*;

/// Applies a command that must succeed.
pub fn ok(keyspace: &mut Keyspace, command: Command) -> Response {
    let applied = keyspace.apply(command.clone());
    applied
        .result
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Applies a command that must fail, and checks that nothing has changed.
pub fn err(keyspace: &mut Keyspace, command: Command) -> Error {
    let before = (
        keyspace.hash_kv(None),
        keyspace.leases().count(),
        keyspace.compacted(),
    );
    let applied = keyspace.apply(command.clone());
    let after = (
        keyspace.hash_kv(None),
        keyspace.leases().count(),
        keyspace.compacted(),
    );
    assert_eq!(before, after, "{command:?} failed but changed something");
    assert!(applied.changes.is_empty() && applied.leases.is_empty());
    applied.result.expect_err("the command should fail")
}

/// Applies a put and answers with its revision.
pub fn put(keyspace: &mut Keyspace, key: &str, value: &str) -> i64 {
    ok(keyspace, put_command(key, value));
    keyspace.revision().0
}

/// Deletes one key and answers with how many there were.
pub fn delete(keyspace: &mut Keyspace, key: &str) -> usize {
    match ok(keyspace, delete_command(single(key))) {
        Response::DeleteRange(response) => response.deleted,
        other => panic!("{other:?}"),
    }
}

pub fn put_command(key: &str, value: &str) -> Command {
    Command::Put(Put::new(key.to_owned(), value.to_owned()))
}

pub fn delete_command(keys: KeyRange) -> Command {
    Command::DeleteRange(DeleteRange { keys, prev_kv: false })
}

pub fn txn(keyspace: &mut Keyspace, txn: Txn) -> TxnResponse {
    match ok(keyspace, Command::Txn(txn)) {
        Response::Txn(response) => response,
        other => panic!("{other:?}"),
    }
}

pub fn grant(keyspace: &mut Keyspace, id: i64) {
    ok(
        keyspace,
        Command::LeaseGrant {
            id: LeaseId(id),
            ttl_secs: 10,
        },
    );
}

pub fn revoke(id: i64) -> Command {
    Command::LeaseRevoke {
        id: LeaseId(id),
        cause: RevokeCause::Requested,
    }
}

pub fn compact(revision: i64) -> Command {
    Command::Compact {
        revision: Revision(revision),
    }
}

pub fn single(key: &str) -> KeyRange {
    KeyRange::Single(Bytes::from(key.to_owned()))
}

pub fn span(start: &str, end: &str) -> KeyRange {
    KeyRange::Span {
        start: Bytes::from(start.to_owned()),
        end: Bytes::from(end.to_owned()),
    }
}

pub fn get(keyspace: &Keyspace, key: &str) -> Option<KeyValue> {
    keyspace.range(&Range::new(single(key))).unwrap().kvs.pop()
}

pub fn get_at(keyspace: &Keyspace, key: &str, revision: i64) -> Result<Option<KeyValue>, Error> {
    let range = Range {
        at: Some(Revision(revision)),
        ..Range::new(single(key))
    };
    keyspace.range(&range).map(|mut response| response.kvs.pop())
}

/// The keys of an answer, joined.
pub fn keys(response: &RangeResponse) -> String {
    let keys: Vec<_> = response
        .kvs
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key))
        .collect();
    keys.join(" ")
}

/// The whole of a snapshot, as chunks.
pub fn snapshot(keyspace: &mut Keyspace, chunk: usize) -> Vec<Bytes> {
    let snapshot = keyspace.begin_snapshot();
    finish_snapshot(keyspace, snapshot, chunk)
}

pub fn finish_snapshot(keyspace: &mut Keyspace, mut snapshot: Snapshot, chunk: usize) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while let Some(next) = keyspace.snapshot_chunk(&mut snapshot, chunk) {
        assert!(!next.is_empty() && next.len() <= chunk.max(1));
        chunks.push(next);
    }
    keyspace.end_snapshot(snapshot);
    chunks
}

pub fn restore(chunks: impl IntoIterator<Item = Bytes>) -> Result<Keyspace, RestoreError> {
    Keyspace::restore(&mut chunks.into_iter().map(Ok::<_, io::Error>))
}

/// Every change in a keyspace that was never compacted.
pub fn all_events(keyspace: &Keyspace) -> Vec<Event> {
    let keys: KeyRanges = [&KeyRange::all()].into_iter().collect();
    let limits = HistoryLimits {
        revisions: usize::MAX,
        bytes: usize::MAX,
        scanned: usize::MAX,
    };
    let history = keyspace.history(&keys, Revision::FIRST, &limits).unwrap();
    history.changes.iter().map(Change::to_event).collect()
}

pub fn arb_key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "ab", "abc", "b", "b\0", "c", "z"]).prop_map(Bytes::from)
}

pub fn arb_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => arb_key().prop_map(KeyRange::Single),
        2 => (arb_key(), arb_key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
        1 => arb_key().prop_map(KeyRange::From),
        1 => Just(KeyRange::all()),
    ]
}

fn arb_value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "x", "y", "a longer value"]).prop_map(Bytes::from)
}

pub fn arb_lease() -> impl Strategy<Value = LeaseId> {
    (1i64..4).prop_map(LeaseId)
}

pub fn arb_revision() -> impl Strategy<Value = Revision> {
    (-1i64..40).prop_map(Revision)
}

pub fn arb_put() -> impl Strategy<Value = Put> {
    let value = prop_oneof![5 => arb_value().prop_map(Assign::Set), 1 => Just(Assign::Keep)];
    let lease = prop_oneof![
        5 => Just(Assign::Set(None)),
        2 => arb_lease().prop_map(|lease| Assign::Set(Some(lease))),
        1 => Just(Assign::Keep),
    ];
    (arb_key(), value, lease, any::<bool>()).prop_map(|(key, value, lease, prev_kv)| Put {
        key,
        value,
        lease,
        prev_kv,
    })
}

fn arb_delete() -> impl Strategy<Value = DeleteRange> {
    (arb_range(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}

pub fn arb_read() -> impl Strategy<Value = Range> {
    let order = prop::sample::select(vec![SortOrder::Unsorted, SortOrder::Ascend, SortOrder::Descend]);
    let target = prop::sample::select(vec![
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ]);
    let projection = prop::sample::select(vec![
        Projection::KeysAndValues,
        Projection::KeysOnly,
        Projection::CountOnly,
    ]);
    let bound = || prop::option::weighted(0.15, arb_revision());
    let filter =
        (bound(), bound(), bound(), bound()).prop_map(|(min_mod, max_mod, min_create, max_create)| {
            RevisionFilter {
                min_mod,
                max_mod,
                min_create,
                max_create,
            }
        });
    let at = prop::option::weighted(0.4, arb_revision());
    let limit = prop::option::weighted(0.4, (1usize..5).prop_map(|limit| limit.try_into().unwrap()));
    (arb_range(), at, limit, order, target, filter, projection).prop_map(
        |(keys, at, limit, order, target, filter, projection)| Range {
            keys,
            at,
            limit,
            order,
            target,
            filter,
            projection,
        },
    )
}

fn arb_compare() -> impl Strategy<Value = Compare> {
    let relation = prop::sample::select(vec![
        Relation::Equal,
        Relation::Greater,
        Relation::Less,
        Relation::NotEqual,
    ]);
    let operand = prop_oneof![
        (0i64..3).prop_map(Operand::Version),
        (0i64..20).prop_map(|revision| Operand::Create(Revision(revision))),
        (0i64..20).prop_map(|revision| Operand::Mod(Revision(revision))),
        arb_value().prop_map(Operand::Value),
        prop::option::of(arb_lease()).prop_map(Operand::Lease),
    ];
    (arb_range(), relation, operand).prop_map(|(keys, relation, operand)| Compare {
        keys,
        relation,
        operand,
    })
}

pub fn arb_txn() -> impl Strategy<Value = Txn> {
    let plain = prop_oneof![
        2 => arb_put().prop_map(Op::Put),
        1 => arb_delete().prop_map(Op::DeleteRange),
        1 => arb_read().prop_map(Op::Range),
    ];
    let op = plain.prop_recursive(2, 8, 3, |op| txn_of(op).prop_map(Op::Txn));
    txn_of(op)
}

fn txn_of(op: impl Strategy<Value = Op> + Clone) -> impl Strategy<Value = Txn> {
    let ops = || prop::collection::vec(op.clone(), 0..3);
    (prop::collection::vec(arb_compare(), 0..2), ops(), ops()).prop_map(|(compares, success, failure)| Txn {
        compares,
        success,
        failure,
    })
}

pub fn arb_command() -> impl Strategy<Value = Command> {
    let alarm = prop_oneof![5 => Just(AlarmKind::NoSpace), 1 => Just(AlarmKind::Corrupt)];
    let action = prop_oneof![1 => Just(AlarmAction::Activate), 3 => Just(AlarmAction::Deactivate)];
    let member = MemberId(1);
    prop_oneof![
        12 => arb_put().prop_map(Command::Put),
        4 => arb_delete().prop_map(Command::DeleteRange),
        6 => arb_txn().prop_map(Command::Txn),
        2 => arb_revision().prop_map(|revision| Command::Compact { revision }),
        3 => arb_lease().prop_map(|id| Command::LeaseGrant { id, ttl_secs: id.0 * 10 }),
        1 => arb_lease().prop_map(|id| Command::LeaseRevoke { id, cause: RevokeCause::Requested }),
        1 => (arb_lease(), 0u64..12).prop_map(|(id, epoch)| Command::LeaseRevoke {
            id,
            cause: RevokeCause::Expired { epoch: LeaseEpoch(epoch) },
        }),
        1 => prop::collection::vec(arb_lease(), 0..3).prop_map(|ids| Command::LeaseRenew { ids }),
        1 => Just(Command::PublishMember(Member {
            id: member,
            name: "one".into(),
            peer_urls: vec!["http://one:2380".into()],
            client_urls: vec!["http://one:2379".into()],
        })),
        1 => (action, alarm)
            .prop_map(move |(action, kind)| Command::Alarm { action, alarm: Alarm { member, kind } }),
    ]
}
