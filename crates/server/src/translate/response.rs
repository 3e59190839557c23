//! Responses, to the wire.

use quorate_etcd_api::etcdserverpb as pb;
use quorate_etcd_api::etcdserverpb::response_op::Response;
use quorate_etcd_api::mvccpb;
use quorate_kv::{
    Alarm, AlarmKind, CancelCause, DeleteRangeResponse, Event, KeyValue, LeaseId, OpResponse, PutResponse,
    RangeResponse, Revision, TxnResponse, WatchId, WatchOutput,
};

use crate::node::Node;

/// The answer to a put under this header.
pub(crate) fn put_response(header: pb::ResponseHeader, response: PutResponse) -> pb::PutResponse {
    pb::PutResponse {
        header: Some(header),
        prev_kv: response.prev.map(key_value),
    }
}

/// The answer to a deletion under this header.
pub(crate) fn delete_range_response(
    header: pb::ResponseHeader,
    response: DeleteRangeResponse,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: count(response.deleted),
        prev_kvs: response.prev.into_iter().map(key_value).collect(),
    }
}

/// The answer to a range under this header.
pub(crate) fn range_response(header: pb::ResponseHeader, response: RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: count(response.count),
    }
}

/// The answer to a transaction under this header; the answers within carry only their revision, and of
/// transactions within not even that.
pub(crate) fn txn_response(header: pb::ResponseHeader, response: TxnResponse) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(op_response).collect(),
    }
}

/// Alarms.
pub(crate) fn alarms(alarms: Vec<Alarm>) -> Vec<pb::AlarmMember> {
    let member = |alarm: Alarm| pb::AlarmMember {
        member_id: alarm.member.0,
        alarm: match alarm.kind {
            AlarmKind::NoSpace => pb::AlarmType::Nospace.into(),
            AlarmKind::Corrupt => pb::AlarmType::Corrupt.into(),
        },
    };
    alarms.into_iter().map(member).collect()
}

/// The name of a kind of alarm.
pub(crate) fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace.as_str_name(),
        AlarmKind::Corrupt => pb::AlarmType::Corrupt.as_str_name(),
    }
}

/// A response of a watch stream.
pub(crate) fn watch_response(node: &Node, output: WatchOutput) -> pb::WatchResponse {
    let header = |revision| Some(node.header(revision));
    let watcher = |id: WatchId, revision| pb::WatchResponse {
        header: header(revision),
        watch_id: id.0,
        ..Default::default()
    };
    match output {
        WatchOutput::Created { id, revision } => pb::WatchResponse {
            created: true,
            ..watcher(id, revision)
        },
        WatchOutput::Refused { reason, revision } => pb::WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_string(),
            ..watcher(NO_WATCHER, revision)
        },
        WatchOutput::Events {
            id,
            revision,
            events,
            prev_kv,
            fragment,
        } => pb::WatchResponse {
            fragment,
            events: match prev_kv {
                true => events.iter().map(|event| watch_event_with_prev(event)).collect(),
                false => events.iter().map(|event| watch_event(event)).collect(),
            },
            ..watcher(id, revision)
        },
        WatchOutput::Progress { id, revision } => watcher(id.unwrap_or(NO_WATCHER), revision),
        WatchOutput::Canceled { id, cause, revision } => pb::WatchResponse {
            canceled: true,
            compact_revision: match cause {
                CancelCause::Compacted { compacted } => compacted.0,
                CancelCause::Requested | _ => 0,
            },
            ..watcher(id, revision)
        },
    }
}

/// The answer to a watcher that its client may not have.
pub(crate) fn watch_denied(node: &Node, status: &tonic::Status) -> pb::WatchResponse {
    pb::WatchResponse {
        header: Some(node.header_now()),
        watch_id: NO_WATCHER.0,
        created: true,
        canceled: true,
        cancel_reason: super::go_error(status),
        ..Default::default()
    }
}

fn watch_event_with_prev(event: &Event) -> mvccpb::Event {
    mvccpb::Event {
        prev_kv: event.prev().cloned().map(key_value),
        ..watch_event(event)
    }
}

fn watch_event(event: &Event) -> mvccpb::Event {
    let (kind, kv) = match event {
        Event::Put { kv, .. } => (mvccpb::event::EventType::Put, key_value(kv.clone())),
        // All that etcd says of a key that is gone.
        Event::Delete { key, revision, .. } => {
            let kv = mvccpb::KeyValue {
                key: key.clone(),
                mod_revision: revision.0,
                ..Default::default()
            };
            (mvccpb::event::EventType::Delete, kv)
        }
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

fn op_response(response: OpResponse) -> pb::ResponseOp {
    let response = match response {
        OpResponse::Range(range) => Response::ResponseRange(range_response(inner(range.revision), range)),
        OpResponse::Put(put) => Response::ResponsePut(put_response(inner(put.revision), put)),
        OpResponse::DeleteRange(delete) => {
            Response::ResponseDeleteRange(delete_range_response(inner(delete.revision), delete))
        }
        OpResponse::Txn(txn) => Response::ResponseTxn(txn_response(pb::ResponseHeader::default(), txn)),
    };
    pb::ResponseOp {
        response: Some(response),
    }
}

/// The header of an answer within a transaction.
fn inner(revision: Revision) -> pb::ResponseHeader {
    pb::ResponseHeader {
        revision: revision.0,
        ..Default::default()
    }
}

/// A key as clients see it.
pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        lease: kv.lease.map_or(0, |LeaseId(id)| id),
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The id that stands for no watcher, or for all of a stream's.
const NO_WATCHER: WatchId = WatchId(-1);
