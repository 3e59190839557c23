//! How the places of queues are written, and asked for.

use bytes::Bytes;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_etcd_api::etcdserverpb::request_op::Request as OpRequest;
use quorate_etcd_api::etcdserverpb::response_op::Response as OpAnswer;
use quorate_etcd_api::etcdserverpb::{Compare, RangeRequest, RequestOp, ResponseOp};
use quorate_etcd_api::mvccpb::KeyValue;
use quorate_kv::{LeaseId, Revision};

use super::Entry;

/// An operation of a transaction.
pub(super) fn op(request: OpRequest) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The key that a range within a transaction has found.
pub(super) fn found(answer: ResponseOp) -> Option<KeyValue> {
    match answer.response {
        Some(OpAnswer::ResponseRange(mut range)) => range.kvs.pop(),
        _ => None,
    }
}

/// That a key was created at this revision; 0: that there is none.
pub(super) fn was_created_at(key: &Bytes, revision: Revision) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision.0)),
        ..Default::default()
    }
}

/// The first of a queue.
pub(super) fn first_of(name: &[u8]) -> RangeRequest {
    RangeRequest {
        key: prefix(name),
        range_end: prefix_end(name),
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        limit: 1,
        ..Default::default()
    }
}

/// The last of those in a queue who are before this rank.
pub(super) fn last_before(name: &[u8], rank: Revision) -> RangeRequest {
    RangeRequest {
        sort_order: SortOrder::Descend.into(),
        max_create_revision: rank.prev().0,
        keys_only: true,
        ..first_of(name)
    }
}

/// What the keys of a queue begin with.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key after all with the prefix.
pub(super) fn prefix_end(name: &[u8]) -> Bytes {
    [name, b"0"].concat().into()
}

/// etcd's recipes write the lease as Go writes a number in base 16: without zeros in front, with its sign.
pub(super) fn place_key(entry: &Entry) -> Bytes {
    let LeaseId(id) = entry.lease;
    let sign = if id < 0 { "-" } else { "" };
    let lease = format!("{sign}{:x}", id.unsigned_abs());
    [&prefix(&entry.name), lease.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, lease: i64) -> Bytes {
        place_key(&Entry {
            name: name.to_owned().into(),
            lease: LeaseId(lease),
            value: Bytes::new(),
        })
    }

    #[test]
    fn a_place_has_the_key_that_etcds_recipes_give_it() {
        assert_eq!(key("jobs", 0x694d_7f2a), "jobs/694d7f2a");
        assert_eq!(key("", 10), "/a");
        assert_eq!(key("jobs", -255), "jobs/-ff");
        assert_eq!(key("jobs", i64::MIN), "jobs/-8000000000000000");
    }

    #[test]
    fn a_prefix_ends_where_its_keys_do() {
        for lease in [1, -1, i64::MAX] {
            let key = key("jobs", lease);
            assert!(prefix(b"jobs") < key && key < prefix_end(b"jobs"), "{key:?}");
        }
    }
}
