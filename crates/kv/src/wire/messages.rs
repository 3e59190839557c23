//! The messages of a command, field by field. Field numbers are never reused.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::auth::{AuthMessage, CallerMessage};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommandMessage {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub(crate) body: Option<Body>,
    /// None: a client that has not said who it is. From format 2 on.
    #[prost(message, optional, tag = "15")]
    pub(crate) caller: Option<CallerMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Body {
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
    /// From format 2 on.
    #[prost(message, tag = "10")]
    Auth(AuthMessage),
}

/// No value: keep it. No lease: keep it; lease 0: detach.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) value: Option<Bytes>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) lease: Option<i64>,
    #[prost(bool, tag = "4")]
    pub(crate) prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeysMessage {
    #[prost(oneof = "KeysBody", tags = "1, 2, 3")]
    pub(crate) body: Option<KeysBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum KeysBody {
    #[prost(bytes = "bytes", tag = "1")]
    Single(Bytes),
    #[prost(message, tag = "2")]
    Span(SpanMessage),
    #[prost(bytes = "bytes", tag = "3")]
    From(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SpanMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) end: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DeleteRangeMessage {
    #[prost(message, required, tag = "1")]
    pub(crate) keys: KeysMessage,
    #[prost(bool, tag = "2")]
    pub(crate) prev_kv: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeMessage {
    #[prost(message, required, tag = "1")]
    pub(crate) keys: KeysMessage,
    #[prost(int64, optional, tag = "2")]
    pub(crate) at: Option<i64>,
    #[prost(uint64, tag = "3")]
    pub(crate) limit: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) order: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) target: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) projection: u32,
    #[prost(int64, optional, tag = "7")]
    pub(crate) min_mod: Option<i64>,
    #[prost(int64, optional, tag = "8")]
    pub(crate) max_mod: Option<i64>,
    #[prost(int64, optional, tag = "9")]
    pub(crate) min_create: Option<i64>,
    #[prost(int64, optional, tag = "10")]
    pub(crate) max_create: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TxnMessage {
    #[prost(message, repeated, tag = "1")]
    pub(crate) compares: Vec<CompareMessage>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) success: Vec<OpMessage>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) failure: Vec<OpMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OpMessage {
    #[prost(oneof = "OpBody", tags = "1, 2, 3, 4")]
    pub(crate) body: Option<OpBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum OpBody {
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
pub(crate) struct CompareMessage {
    #[prost(message, required, tag = "1")]
    pub(crate) keys: KeysMessage,
    #[prost(uint32, tag = "2")]
    pub(crate) relation: u32,
    #[prost(oneof = "OperandBody", tags = "3, 4, 5, 6, 7")]
    pub(crate) operand: Option<OperandBody>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum OperandBody {
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
pub(crate) struct LeaseGrantMessage {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl_secs: i64,
}

/// No epoch: a client asked for it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRevokeMessage {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) expired_epoch: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseRenewMessage {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) ids: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) client_urls: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlarmMessage {
    #[prost(uint32, tag = "1")]
    pub(crate) action: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) member: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
}
