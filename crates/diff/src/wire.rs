//! Calls as etcd's messages, given the state that their revisions and leases relate to.

use bytes::Bytes;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::compare::TargetUnion;
use quorate_etcd_api::etcdserverpb::request_op::Request;

use crate::call::{
    Compare, Delete, Keys, LeaseRef, MemberRef, Op, Operand, Put, Range, Rev, Txn, Value, Watch,
};

/// What the symbols in a call stand for on one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Env<'a> {
    /// The current revision, the same on both servers.
    pub(crate) current: i64,
    /// The compacted revision, the same on both servers.
    pub(crate) compacted: i64,
    /// The ids that this server picked for leases, in order.
    pub(crate) picked: &'a [i64],
    /// The member that this server is.
    pub(crate) member: u64,
}

impl Env<'_> {
    pub(crate) fn revision(&self, revision: Rev) -> i64 {
        match revision {
            Rev::Exactly(number) => number,
            Rev::Current(distance) => self.current.saturating_add(distance),
            Rev::Compacted(distance) => self.compacted.saturating_add(distance),
        }
    }

    pub(crate) fn lease(&self, lease: LeaseRef) -> i64 {
        match lease {
            LeaseRef::Id(id) => id,
            LeaseRef::Picked(number) => {
                let count = self.picked.len().max(1);
                self.picked.get(number % count).copied().unwrap_or(UNKNOWN_LEASE)
            }
        }
    }

    pub(crate) fn member(&self, member: MemberRef) -> u64 {
        match member {
            MemberRef::Itself => self.member,
            MemberRef::Id(id) => id,
        }
    }

    pub(crate) fn range(&self, range: &Range) -> pb::RangeRequest {
        let Keys { key, range_end } = range.keys.clone();
        pb::RangeRequest {
            key,
            range_end,
            limit: range.limit,
            revision: self.revision(range.revision),
            sort_order: range.sort_order,
            sort_target: range.sort_target,
            serializable: range.serializable,
            keys_only: range.keys_only,
            count_only: range.count_only,
            min_mod_revision: self.revision(range.min_mod),
            max_mod_revision: self.revision(range.max_mod),
            min_create_revision: self.revision(range.min_create),
            max_create_revision: self.revision(range.max_create),
        }
    }

    pub(crate) fn put(&self, put: &Put) -> pb::PutRequest {
        pb::PutRequest {
            key: put.key.clone(),
            value: match &put.value {
                Value::Text(text) => text.clone(),
                Value::Long { bytes } => Bytes::from(vec![b'x'; *bytes]),
            },
            lease: self.lease(put.lease),
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        }
    }

    pub(crate) fn delete(&self, delete: &Delete) -> pb::DeleteRangeRequest {
        let Keys { key, range_end } = delete.keys.clone();
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: delete.prev_kv,
        }
    }

    pub(crate) fn txn(&self, txn: &Txn) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: txn.compares.iter().map(|compare| self.compare(compare)).collect(),
            success: txn.success.iter().map(|op| self.op(op)).collect(),
            failure: txn.failure.iter().map(|op| self.op(op)).collect(),
        }
    }

    pub(crate) fn watch(&self, watch: &Watch) -> pb::WatchCreateRequest {
        let Keys { key, range_end } = watch.keys.clone();
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.revision(watch.start),
            progress_notify: watch.progress_notify,
            filters: watch.filters.clone(),
            prev_kv: watch.prev_kv,
            watch_id: watch.id,
            fragment: watch.fragment,
        }
    }

    fn op(&self, op: &Op) -> pb::RequestOp {
        let request = match op {
            Op::Empty => None,
            Op::Range(range) => Some(Request::RequestRange(self.range(range))),
            Op::Put(put) => Some(Request::RequestPut(self.put(put))),
            Op::Delete(delete) => Some(Request::RequestDeleteRange(self.delete(delete))),
            Op::Txn(txn) => Some(Request::RequestTxn(self.txn(txn))),
        };
        pb::RequestOp { request }
    }

    fn compare(&self, compare: &Compare) -> pb::Compare {
        let Keys { key, range_end } = compare.keys.clone();
        pb::Compare {
            result: compare.result,
            target: compare.target,
            key,
            range_end,
            target_union: match &compare.operand {
                Operand::Unset => None,
                Operand::Version(version) => Some(TargetUnion::Version(*version)),
                Operand::Create(at) => Some(TargetUnion::CreateRevision(self.revision(*at))),
                Operand::Mod(at) => Some(TargetUnion::ModRevision(self.revision(*at))),
                Operand::Value(value) => Some(TargetUnion::Value(value.clone())),
                Operand::Lease(lease) => Some(TargetUnion::Lease(self.lease(*lease))),
            },
        }
    }
}

/// What stands for a picked lease when there is none: no lease has it.
const UNKNOWN_LEASE: i64 = 0x7777;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_follow_the_state() {
        let env = Env {
            current: 10,
            compacted: 4,
            picked: &[70, 80],
            member: 9,
        };
        assert_eq!(env.revision(Rev::Current(-3)), 7);
        assert_eq!(env.revision(Rev::Compacted(-1)), 3);
        assert_eq!(env.revision(Rev::Exactly(-1)), -1);
        assert_eq!(env.lease(LeaseRef::Picked(3)), 80);
        assert_eq!(env.lease(LeaseRef::Id(5)), 5);
        assert_eq!(env.member(MemberRef::Itself), 9);
        assert_eq!(
            Env { picked: &[], ..env }.lease(LeaseRef::Picked(0)),
            UNKNOWN_LEASE
        );
    }
}
