//! Requests, from the wire.

use std::num::NonZeroUsize;

use quorate_etcd_api::EtcdError;
use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_etcd_api::etcdserverpb::request_op::Request;
use quorate_etcd_api::etcdserverpb::watch_create_request::FilterType;
use quorate_kv::{
    Compare, DeleteRange, Error, KeyRange, LeaseId, Op, Operand, Projection, Put, PutParts, Range, Relation,
    Revision, RevisionFilter, Txn, WatchId, WatchSpec, WatchStart,
};
use tonic::Status;

use super::refused;

/// A put.
pub(crate) fn put(request: pb::PutRequest) -> Result<Put, Status> {
    let parts = PutParts {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    };
    Put::parse(parts).map_err(|error| refused(&error))
}

/// A deletion.
pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> Result<DeleteRange, Status> {
    let keys = KeyRange::parse(request.key, request.range_end);
    Ok(DeleteRange {
        keys: keys.map_err(|error| refused(&error))?,
        prev_kv: request.prev_kv,
    })
}

/// A range.
pub(crate) fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    parse_range(request).map_err(|error| refused(&error))
}

/// A transaction whose lists have at most `allowed` members; one within has what its parent leaves. They
/// are counted before anything in them is looked at, so that the error is the one that etcd finds first.
pub(crate) fn txn(request: pb::TxnRequest, allowed: usize) -> Result<Txn, Status> {
    let lists = [request.success.len(), request.failure.len()];
    let most = lists.into_iter().fold(request.compare.len(), usize::max);
    let left = allowed
        .checked_sub(most)
        .ok_or_else(|| Status::from(EtcdError::TooManyOps))?;
    let compares = request.compare.into_iter().map(compare);
    Ok(Txn {
        compares: compares.collect::<Result<_, _>>()?,
        success: ops(request.success, left)?,
        failure: ops(request.failure, left)?,
    })
}

/// A watcher.
pub(crate) fn watch(request: pb::WatchCreateRequest) -> WatchSpec {
    let filters: Vec<FilterType> = request.filters().collect();
    WatchSpec {
        id: (request.watch_id != 0).then_some(WatchId(request.watch_id)),
        keys: KeyRange::parse_watch(request.key, request.range_end),
        start: WatchStart::from_wire(request.start_revision),
        skip_puts: filters.contains(&FilterType::Noput),
        skip_deletes: filters.contains(&FilterType::Nodelete),
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        progress_notify: request.progress_notify,
    }
}

fn parse_range(request: pb::RangeRequest) -> Result<Range, Error> {
    Ok(Range {
        at: (request.revision > 0).then_some(Revision(request.revision)),
        limit: usize::try_from(request.limit).ok().and_then(NonZeroUsize::new),
        order: request.sort_order.try_into()?,
        target: request.sort_target.try_into()?,
        filter: RevisionFilter {
            min_mod: bound(request.min_mod_revision),
            max_mod: bound(request.max_mod_revision),
            min_create: bound(request.min_create_revision),
            max_create: bound(request.max_create_revision),
        },
        projection: projection(&request),
        keys: KeyRange::parse(request.key, request.range_end)?,
    })
}

/// A range in a transaction, where a revision below 0 is not the newest, but one that may be compacted.
fn range_within(request: pb::RangeRequest) -> Result<Range, Status> {
    let at = (request.revision != 0).then_some(Revision(request.revision));
    Ok(Range {
        at,
        ..range(request)?
    })
}

fn bound(revision: i64) -> Option<Revision> {
    (revision != 0).then_some(Revision(revision))
}

fn projection(request: &pb::RangeRequest) -> Projection {
    match (request.count_only, request.keys_only) {
        (true, _) => Projection::CountOnly,
        (false, true) => Projection::KeysOnly,
        (false, false) => Projection::KeysAndValues,
    }
}

fn ops(requests: Vec<pb::RequestOp>, left: usize) -> Result<Vec<Op>, Status> {
    requests.into_iter().map(|request| op(request, left)).collect()
}

fn op(request: pb::RequestOp, left: usize) -> Result<Op, Status> {
    Ok(match request.request {
        Some(Request::RequestRange(request)) => Op::Range(range_within(request)?),
        Some(Request::RequestPut(request)) => Op::Put(put(request)?),
        Some(Request::RequestDeleteRange(request)) => Op::DeleteRange(delete_range(request)?),
        Some(Request::RequestTxn(request)) => Op::Txn(txn(request, left)?),
        None => return Err(EtcdError::KeyNotFound.into()),
    })
}

fn compare(request: pb::Compare) -> Result<Compare, Status> {
    let relation = match CompareResult::try_from(request.result) {
        Ok(CompareResult::Equal) => Relation::Equal,
        Ok(CompareResult::Greater) => Relation::Greater,
        Ok(CompareResult::Less) => Relation::Less,
        Ok(CompareResult::NotEqual) => Relation::NotEqual,
        Err(_) => return Err(Status::invalid_argument("quorate: unknown result of a compare")),
    };
    let operand = operand(request.target, request.target_union)?;
    let keys = KeyRange::parse(request.key, request.range_end);
    Ok(Compare {
        keys: keys.map_err(|error| refused(&error))?,
        relation,
        operand,
    })
}

/// A union that is not set, or set to another target's, counts as 0 or empty.
fn operand(target: i32, union: Option<TargetUnion>) -> Result<Operand, Status> {
    let target = CompareTarget::try_from(target)
        .map_err(|_| Status::invalid_argument("quorate: unknown target of a compare"))?;
    Ok(match (target, union) {
        (CompareTarget::Version, Some(TargetUnion::Version(version))) => Operand::Version(version),
        (CompareTarget::Version, _) => Operand::Version(0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(at))) => Operand::Create(Revision(at)),
        (CompareTarget::Create, _) => Operand::Create(Revision(0)),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(at))) => Operand::Mod(Revision(at)),
        (CompareTarget::Mod, _) => Operand::Mod(Revision(0)),
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => Operand::Value(value),
        (CompareTarget::Value, _) => Operand::Value(bytes::Bytes::new()),
        (CompareTarget::Lease, Some(TargetUnion::Lease(id))) => Operand::Lease(LeaseId::from_wire(id)),
        (CompareTarget::Lease, _) => Operand::Lease(None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_union_compares_to_zero_or_nothing() {
        let operands = [
            (CompareTarget::Version, Operand::Version(0)),
            (CompareTarget::Create, Operand::Create(Revision(0))),
            (CompareTarget::Mod, Operand::Mod(Revision(0))),
            (CompareTarget::Value, Operand::Value(bytes::Bytes::new())),
            (CompareTarget::Lease, Operand::Lease(None)),
        ];
        for (target, operand) in operands {
            let request = pb::Compare {
                key: "k".into(),
                target: target.into(),
                ..Default::default()
            };
            assert_eq!(compare(request).unwrap().operand, operand);
        }
    }

    #[test]
    fn an_unknown_compare_is_refused_rather_than_guessed() {
        let request = |result, target| pb::Compare {
            key: "k".into(),
            result,
            target,
            ..Default::default()
        };
        for request in [request(9, 0), request(0, 9)] {
            assert_eq!(compare(request).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn lists_are_counted_before_they_are_read() {
        let range = || pb::RequestOp {
            request: Some(Request::RequestRange(pb::RangeRequest::default())),
        };
        let request = |count: usize| pb::TxnRequest {
            success: (0..count).map(|_| range()).collect(),
            ..Default::default()
        };
        let within = |count: usize| pb::TxnRequest {
            failure: vec![pb::RequestOp {
                request: Some(Request::RequestTxn(request(count))),
            }],
            ..Default::default()
        };
        let message = |request, allowed| txn(request, allowed).unwrap_err().message().to_owned();
        let (too_many, empty) = (EtcdError::TooManyOps.message(), EtcdError::EmptyKey.message());
        assert_eq!(message(request(3), 2), too_many);
        assert_eq!(message(request(2), 2), empty);
        assert_eq!(message(within(2), 2), too_many);
        assert_eq!(message(within(1), 2), empty);
    }

    #[test]
    fn in_a_transaction_a_revision_below_zero_is_kept() {
        let at = |revision| {
            let request = pb::RequestOp {
                request: Some(Request::RequestRange(pb::RangeRequest {
                    key: "k".into(),
                    revision,
                    ..Default::default()
                })),
            };
            let Ok(Op::Range(range)) = op(request, 1) else {
                panic!("it is no range");
            };
            range.at
        };
        assert_eq!(
            (at(-7), at(0), at(7)),
            (Some(Revision(-7)), None, Some(Revision(7)))
        );
    }

    #[test]
    fn numbers_that_mean_nothing_are_left_out() {
        let request = |number| pb::RangeRequest {
            key: "k".into(),
            limit: number,
            revision: number,
            ..Default::default()
        };
        for number in [0, -1] {
            let range = range(request(number)).unwrap();
            assert_eq!((range.limit, range.at), (None, None));
        }
        let range = range(request(3)).unwrap();
        assert_eq!((range.limit, range.at), (NonZeroUsize::new(3), Some(Revision(3))));
    }
}
