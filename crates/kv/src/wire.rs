//! The bytes of a command: a format number, then a protobuf message.
//!
//! The structs here mirror the public types field by field and have no life of their own. Field numbers are
//! never reused. Nesting is bounded by the decoder's recursion limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, Oneof};

use crate::{
    Alarm, AlarmAction, AlarmKind, Assign, Command, Compare, DecodeError, DeleteRange, KeyRange, LeaseEpoch,
    LeaseId, Member, MemberId, Op, Operand, Projection, Put, Range, Relation, Revision, RevisionFilter,
    RevokeCause, SortOrder, SortTarget, Txn,
};

/// The newest format; the only one so far.
const FORMAT: u8 = 1;

pub(crate) fn encode(command: &Command) -> Bytes {
    let message = CommandMessage {
        body: Some(command.into()),
    };
    let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
    bytes.put_u8(FORMAT);
    message.encode(&mut bytes).expect("the buffer grows as needed");
    bytes.freeze()
}

pub(crate) fn decode(mut bytes: Bytes) -> Result<Command, DecodeError> {
    if !bytes.has_remaining() {
        return Err(DecodeError::Empty);
    }
    let found = bytes.get_u8();
    if found != FORMAT {
        return Err(DecodeError::UnknownFormat { found, known: FORMAT });
    }
    CommandMessage::decode(bytes)?
        .body
        .ok_or(DecodeError::Field("body"))?
        .try_into()
}

#[derive(Clone, PartialEq, Message)]
struct CommandMessage {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Body {
    #[prost(message, tag = "1")]
    Put(PutMessage),
    #[prost(message, tag = "2")]
    DeleteRange(DeleteRangeMessage),
    #[prost(message, tag = "3")]
    Txn(TxnMessage),
    #[prost(int64, tag = "4")]
    Compact(i64),
    #[prost(message, tag = "5")]
    LeaseGrant(LeaseGrantMessage),
    #[prost(message, tag = "6")]
    LeaseRevoke(LeaseRevokeMessage),
    #[prost(message, tag = "7")]
    LeaseRenew(LeaseRenewMessage),
    #[prost(message, tag = "8")]
    PublishMember(MemberMessage),
    #[prost(message, tag = "9")]
    Alarm(AlarmMessage),
}

/// No value: keep it. No lease: keep it; lease 0: detach.
#[derive(Clone, PartialEq, Message)]
struct PutMessage {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    value: Option<Bytes>,
    #[prost(int64, optional, tag = "3")]
    lease: Option<i64>,
    #[prost(bool, tag = "4")]
    prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
struct KeysMessage {
    #[prost(oneof = "KeysBody", tags = "1, 2, 3")]
    body: Option<KeysBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum KeysBody {
    #[prost(bytes = "bytes", tag = "1")]
    Single(Bytes),
    #[prost(message, tag = "2")]
    Span(SpanMessage),
    #[prost(bytes = "bytes", tag = "3")]
    From(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "bytes", tag = "1")]
    start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    end: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteRangeMessage {
    #[prost(message, required, tag = "1")]
    keys: KeysMessage,
    #[prost(bool, tag = "2")]
    prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeMessage {
    #[prost(message, required, tag = "1")]
    keys: KeysMessage,
    #[prost(int64, optional, tag = "2")]
    at: Option<i64>,
    #[prost(uint64, tag = "3")]
    limit: u64,
    #[prost(uint32, tag = "4")]
    order: u32,
    #[prost(uint32, tag = "5")]
    target: u32,
    #[prost(uint32, tag = "6")]
    projection: u32,
    #[prost(int64, optional, tag = "7")]
    min_mod: Option<i64>,
    #[prost(int64, optional, tag = "8")]
    max_mod: Option<i64>,
    #[prost(int64, optional, tag = "9")]
    min_create: Option<i64>,
    #[prost(int64, optional, tag = "10")]
    max_create: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnMessage {
    #[prost(message, repeated, tag = "1")]
    compares: Vec<CompareMessage>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<OpMessage>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<OpMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct OpMessage {
    #[prost(oneof = "OpBody", tags = "1, 2, 3, 4")]
    body: Option<OpBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum OpBody {
    #[prost(message, tag = "1")]
    Range(RangeMessage),
    #[prost(message, tag = "2")]
    Put(PutMessage),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeMessage),
    #[prost(message, tag = "4")]
    Txn(TxnMessage),
}

#[derive(Clone, PartialEq, Message)]
struct CompareMessage {
    #[prost(message, required, tag = "1")]
    keys: KeysMessage,
    #[prost(uint32, tag = "2")]
    relation: u32,
    #[prost(oneof = "OperandBody", tags = "3, 4, 5, 6, 7")]
    operand: Option<OperandBody>,
}

#[derive(Clone, PartialEq, Oneof)]
enum OperandBody {
    #[prost(int64, tag = "3")]
    Version(i64),
    #[prost(int64, tag = "4")]
    Create(i64),
    #[prost(int64, tag = "5")]
    Mod(i64),
    #[prost(bytes = "bytes", tag = "6")]
    Value(Bytes),
    #[prost(int64, tag = "7")]
    Lease(i64),
}

#[derive(Clone, PartialEq, Message)]
struct LeaseGrantMessage {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl_secs: i64,
}

/// No epoch: a client asked for it.
#[derive(Clone, PartialEq, Message)]
struct LeaseRevokeMessage {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(uint64, optional, tag = "2")]
    expired_epoch: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct LeaseRenewMessage {
    #[prost(int64, repeated, tag = "1")]
    ids: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberMessage {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct AlarmMessage {
    #[prost(uint32, tag = "1")]
    action: u32,
    #[prost(uint64, tag = "2")]
    member: u64,
    #[prost(uint32, tag = "3")]
    kind: u32,
}

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
