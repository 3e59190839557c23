//! Requests of each kind, alone and after each other.

use crate::step;
use bytes::Bytes;
use prost::Message;
use quorate_etcd_api::authpb;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::{self as pb, range_request, watch_create_request};

pub fn seeds() -> Vec<Vec<u8>> {
    let steps = steps();
    let mut seeds = steps.clone();
    seeds.push(steps.concat());
    seeds.push(steps.iter().rev().cloned().collect::<Vec<_>>().concat());
    seeds
}

fn steps() -> Vec<Vec<u8>> {
    let lease = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    let put = |key: &'static str, lease| pb::PutRequest {
        key: key.into(),
        value: "value".into(),
        lease,
        prev_kv: true,
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        prev_kv: true,
    };
    vec![
        step(7, lease.encode_to_vec()),
        step(0, put("a", 7).encode_to_vec()),
        step(0, put("b", 0).encode_to_vec()),
        step(2, range().encode_to_vec()),
        step(3, txn(0).encode_to_vec()),
        step(3, txn(4).encode_to_vec()),
        step(3, read_only().encode_to_vec()),
        step(4, watch().encode_to_vec()),
        step(5, permission().encode_to_vec()),
        step(1, delete.encode_to_vec()),
        step(
            6,
            pb::CompactionRequest {
                revision: 3,
                physical: true,
            }
            .encode_to_vec(),
        ),
        step(8, pb::LeaseRevokeRequest { id: 7 }.encode_to_vec()),
    ]
}

fn range() -> pb::RangeRequest {
    pb::RangeRequest {
        key: "a".into(),
        range_end: Bytes::from_static(b"\0"),
        limit: 2,
        revision: 2,
        sort_order: range_request::SortOrder::Descend.into(),
        sort_target: range_request::SortTarget::Mod.into(),
        min_mod_revision: 1,
        max_create_revision: 9,
        ..Default::default()
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// A transaction within transactions.
fn txn(depth: usize) -> pb::TxnRequest {
    let put = pb::PutRequest {
        key: format!("t{depth}").into(),
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: "x".into(),
        ..Default::default()
    };
    let mut success = vec![op(Request::RequestPut(put))];
    if depth > 0 {
        success.push(op(Request::RequestTxn(txn(depth - 1))));
    }
    pb::TxnRequest {
        compare: compares(),
        success,
        failure: vec![
            op(Request::RequestDeleteRange(delete)),
            op(Request::RequestRange(range())),
        ],
    }
}

fn compares() -> Vec<pb::Compare> {
    let unions = [
        (CompareTarget::Version, TargetUnion::Version(1)),
        (CompareTarget::Create, TargetUnion::CreateRevision(2)),
        (CompareTarget::Mod, TargetUnion::ModRevision(2)),
        (CompareTarget::Value, TargetUnion::Value("value".into())),
        (CompareTarget::Lease, TargetUnion::Lease(7)),
    ];
    let compare = |(target, union): (CompareTarget, _)| pb::Compare {
        result: CompareResult::NotEqual.into(),
        target: target.into(),
        key: "a".into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    };
    unions.into_iter().map(compare).collect()
}

fn read_only() -> pb::TxnRequest {
    pb::TxnRequest {
        success: vec![op(Request::RequestRange(range()))],
        ..Default::default()
    }
}

fn watch() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: 2,
        filters: vec![watch_create_request::FilterType::Noput.into()],
        watch_id: 3,
        ..Default::default()
    }
}

fn permission() -> authpb::Permission {
    authpb::Permission {
        perm_type: authpb::permission::Type::Readwrite.into(),
        key: "a".into(),
        range_end: "b".into(),
    }
}
