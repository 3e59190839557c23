//! Between the messages and the types everybody else uses.

use super::messages::{
    AlarmMessage, Body, CompareMessage, DeleteRangeMessage, KeysBody, KeysMessage, LeaseGrantMessage,
    LeaseRenewMessage, LeaseRevokeMessage, MemberMessage, OpBody, OpMessage, OperandBody, PutMessage,
    RangeMessage, SpanMessage, TxnMessage,
};
use crate::{
    Alarm, AlarmAction, AlarmKind, Assign, Command, Compare, DecodeError, DeleteRange, KeyRange, LeaseEpoch,
    LeaseId, Member, MemberId, Op, Operand, Projection, Put, Range, Relation, Revision, RevisionFilter,
    RevokeCause, SortOrder, SortTarget, Txn,
};

impl From<&Command> for Body {
    fn from(command: &Command) -> Self {
        match command {
            Command::Put(put) => Self::Put(put.into()),
            Command::DeleteRange(delete) => Self::DeleteRange(delete.into()),
            Command::Txn(txn) => Self::Txn(txn.into()),
            Command::Compact { revision } => Self::Compact(revision.0),
            Command::LeaseGrant { id, ttl_secs } => Self::LeaseGrant(LeaseGrantMessage {
                id: id.0,
                ttl_secs: *ttl_secs,
            }),
            Command::LeaseRevoke { id, cause } => Self::LeaseRevoke(LeaseRevokeMessage {
                id: id.0,
                expired_epoch: cause_to_wire(*cause),
            }),
            Command::LeaseRenew { ids } => Self::LeaseRenew(LeaseRenewMessage {
                ids: ids.iter().map(|id| id.0).collect(),
            }),
            Command::PublishMember(member) => Self::PublishMember(member.into()),
            Command::Alarm { action, alarm } => Self::Alarm(AlarmMessage {
                action: action_to_wire(*action),
                member: alarm.member.0,
                kind: alarm_to_wire(alarm.kind),
            }),
            Command::Auth(auth) => Self::Auth(auth.into()),
        }
    }
}

impl TryFrom<Body> for Command {
    type Error = DecodeError;

    fn try_from(body: Body) -> Result<Self, DecodeError> {
        Ok(match body {
            Body::Put(put) => Self::Put(put.into()),
            Body::DeleteRange(delete) => Self::DeleteRange(delete.try_into()?),
            Body::Txn(txn) => Self::Txn(txn.try_into()?),
            Body::Compact(revision) => Self::Compact {
                revision: Revision(revision),
            },
            Body::LeaseGrant(grant) => Self::LeaseGrant {
                id: LeaseId(grant.id),
                ttl_secs: grant.ttl_secs,
            },
            Body::LeaseRevoke(revoke) => Self::LeaseRevoke {
                id: LeaseId(revoke.id),
                cause: revoke
                    .expired_epoch
                    .map_or(RevokeCause::Requested, |epoch| RevokeCause::Expired {
                        epoch: LeaseEpoch(epoch),
                    }),
            },
            Body::LeaseRenew(renew) => Self::LeaseRenew {
                ids: renew.ids.into_iter().map(LeaseId).collect(),
            },
            Body::PublishMember(member) => Self::PublishMember(member.into()),
            Body::Alarm(message) => Self::Alarm {
                action: action_from_wire(message.action)?,
                alarm: Alarm {
                    member: MemberId(message.member),
                    kind: alarm_from_wire(message.kind)?,
                },
            },
            Body::Auth(auth) => Self::Auth(auth.try_into()?),
        })
    }
}

impl From<&Put> for PutMessage {
    fn from(put: &Put) -> Self {
        let value = match &put.value {
            Assign::Set(value) => Some(value.clone()),
            Assign::Keep => None,
        };
        let lease = match put.lease {
            Assign::Set(lease) => Some(lease.map_or(0, |lease| lease.0)),
            Assign::Keep => None,
        };
        Self {
            key: put.key.clone(),
            value,
            lease,
            prev_kv: put.prev_kv,
        }
    }
}

impl From<PutMessage> for Put {
    fn from(put: PutMessage) -> Self {
        Self {
            key: put.key,
            value: put.value.map_or(Assign::Keep, Assign::Set),
            lease: put
                .lease
                .map_or(Assign::Keep, |lease| Assign::Set(LeaseId::from_wire(lease))),
            prev_kv: put.prev_kv,
        }
    }
}

impl From<&KeyRange> for KeysMessage {
    fn from(keys: &KeyRange) -> Self {
        let body = match keys.clone() {
            KeyRange::Single(key) => KeysBody::Single(key),
            KeyRange::Span { start, end } => KeysBody::Span(SpanMessage { start, end }),
            KeyRange::From(start) => KeysBody::From(start),
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<KeysMessage> for KeyRange {
    type Error = DecodeError;

    fn try_from(keys: KeysMessage) -> Result<Self, DecodeError> {
        Ok(match keys.body.ok_or(DecodeError::Field("key range"))? {
            KeysBody::Single(key) => Self::Single(key),
            KeysBody::Span(SpanMessage { start, end }) => Self::Span { start, end },
            KeysBody::From(start) => Self::From(start),
        })
    }
}

impl From<&DeleteRange> for DeleteRangeMessage {
    fn from(delete: &DeleteRange) -> Self {
        Self {
            keys: (&delete.keys).into(),
            prev_kv: delete.prev_kv,
        }
    }
}

impl TryFrom<DeleteRangeMessage> for DeleteRange {
    type Error = DecodeError;

    fn try_from(delete: DeleteRangeMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            keys: delete.keys.try_into()?,
            prev_kv: delete.prev_kv,
        })
    }
}

impl From<&Range> for RangeMessage {
    fn from(range: &Range) -> Self {
        let number = |revision: Option<Revision>| revision.map(|revision| revision.0);
        Self {
            keys: (&range.keys).into(),
            at: number(range.at),
            limit: range.limit.map_or(0, |limit| limit.get() as u64),
            order: order_to_wire(range.order),
            target: target_to_wire(range.target),
            projection: projection_to_wire(range.projection),
            min_mod: number(range.filter.min_mod),
            max_mod: number(range.filter.max_mod),
            min_create: number(range.filter.min_create),
            max_create: number(range.filter.max_create),
        }
    }
}

impl TryFrom<RangeMessage> for Range {
    type Error = DecodeError;

    fn try_from(range: RangeMessage) -> Result<Self, DecodeError> {
        let filter = RevisionFilter {
            min_mod: range.min_mod.map(Revision),
            max_mod: range.max_mod.map(Revision),
            min_create: range.min_create.map(Revision),
            max_create: range.max_create.map(Revision),
        };
        let limit = usize::try_from(range.limit).unwrap_or(usize::MAX);
        Ok(Self {
            keys: range.keys.try_into()?,
            at: range.at.map(Revision),
            limit: std::num::NonZeroUsize::new(limit),
            order: order_from_wire(range.order)?,
            target: target_from_wire(range.target)?,
            filter,
            projection: projection_from_wire(range.projection)?,
        })
    }
}

impl From<&Txn> for TxnMessage {
    fn from(txn: &Txn) -> Self {
        let ops = |ops: &[Op]| {
            ops.iter()
                .map(|op| OpMessage {
                    body: Some(op.into()),
                })
                .collect()
        };
        Self {
            compares: txn.compares.iter().map(CompareMessage::from).collect(),
            success: ops(&txn.success),
            failure: ops(&txn.failure),
        }
    }
}

impl TryFrom<TxnMessage> for Txn {
    type Error = DecodeError;

    fn try_from(txn: TxnMessage) -> Result<Self, DecodeError> {
        let ops = |ops: Vec<OpMessage>| ops.into_iter().map(Op::try_from).collect::<Result<_, _>>();
        Ok(Self {
            compares: txn
                .compares
                .into_iter()
                .map(Compare::try_from)
                .collect::<Result<_, _>>()?,
            success: ops(txn.success)?,
            failure: ops(txn.failure)?,
        })
    }
}

impl From<&Op> for OpBody {
    fn from(op: &Op) -> Self {
        match op {
            Op::Range(range) => Self::Range(range.into()),
            Op::Put(put) => Self::Put(put.into()),
            Op::DeleteRange(delete) => Self::DeleteRange(delete.into()),
            Op::Txn(txn) => Self::Txn(txn.into()),
        }
    }
}

impl TryFrom<OpMessage> for Op {
    type Error = DecodeError;

    fn try_from(op: OpMessage) -> Result<Self, DecodeError> {
        Ok(match op.body.ok_or(DecodeError::Field("operation"))? {
            OpBody::Range(range) => Self::Range(range.try_into()?),
            OpBody::Put(put) => Self::Put(put.into()),
            OpBody::DeleteRange(delete) => Self::DeleteRange(delete.try_into()?),
            OpBody::Txn(txn) => Self::Txn(txn.try_into()?),
        })
    }
}

impl From<&Compare> for CompareMessage {
    fn from(compare: &Compare) -> Self {
        let operand = match &compare.operand {
            Operand::Version(version) => OperandBody::Version(*version),
            Operand::Create(revision) => OperandBody::Create(revision.0),
            Operand::Mod(revision) => OperandBody::Mod(revision.0),
            Operand::Value(value) => OperandBody::Value(value.clone()),
            Operand::Lease(lease) => OperandBody::Lease(lease.map_or(0, |lease| lease.0)),
        };
        let relation = relation_to_wire(compare.relation);
        Self {
            keys: (&compare.keys).into(),
            relation,
            operand: Some(operand),
        }
    }
}

impl TryFrom<CompareMessage> for Compare {
    type Error = DecodeError;

    fn try_from(compare: CompareMessage) -> Result<Self, DecodeError> {
        let operand = match compare.operand.ok_or(DecodeError::Field("operand"))? {
            OperandBody::Version(version) => Operand::Version(version),
            OperandBody::Create(revision) => Operand::Create(Revision(revision)),
            OperandBody::Mod(revision) => Operand::Mod(Revision(revision)),
            OperandBody::Value(value) => Operand::Value(value),
            OperandBody::Lease(lease) => Operand::Lease(LeaseId::from_wire(lease)),
        };
        let relation = relation_from_wire(compare.relation)?;
        Ok(Self {
            keys: compare.keys.try_into()?,
            relation,
            operand,
        })
    }
}

impl From<&Member> for MemberMessage {
    fn from(member: &Member) -> Self {
        Self {
            id: member.id.0,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
        }
    }
}

impl From<MemberMessage> for Member {
    fn from(member: MemberMessage) -> Self {
        Self {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
        }
    }
}

fn cause_to_wire(cause: RevokeCause) -> Option<u64> {
    match cause {
        RevokeCause::Requested => None,
        RevokeCause::Expired { epoch } => Some(epoch.0),
    }
}

/// Numbers the variants of an enum for the wire.
macro_rules! numbered {
    ($to:ident, $from:ident, $type:ident, $field:literal, $($number:literal = $variant:ident),+) => {
        pub(crate) fn $to(value: $type) -> u32 {
            match value {
                $($type::$variant => $number,)+
            }
        }

        pub(crate) fn $from(number: u32) -> Result<$type, DecodeError> {
            match number {
                $($number => Ok($type::$variant),)+
                _ => Err(DecodeError::Field($field)),
            }
        }
    };
}
pub(super) use numbered;

numbered!(
    action_to_wire,
    action_from_wire,
    AlarmAction,
    "alarm action",
    1 = Activate,
    2 = Deactivate
);
numbered!(
    alarm_to_wire,
    alarm_from_wire,
    AlarmKind,
    "alarm kind",
    1 = NoSpace,
    2 = Corrupt
);
numbered!(
    order_to_wire,
    order_from_wire,
    SortOrder,
    "sort order",
    0 = Unsorted,
    1 = Ascend,
    2 = Descend
);
numbered!(
    target_to_wire,
    target_from_wire,
    SortTarget,
    "sort target",
    0 = Key,
    1 = Version,
    2 = Create,
    3 = Mod,
    4 = Value
);
numbered!(
    projection_to_wire,
    projection_from_wire,
    Projection,
    "projection",
    0 = KeysAndValues,
    1 = KeysOnly,
    2 = CountOnly
);
numbered!(
    relation_to_wire,
    relation_from_wire,
    Relation,
    "relation",
    0 = Equal,
    1 = Greater,
    2 = Less,
    3 = NotEqual
);
