//! The protobuf forms of members and of changes of members.
//!
//! The rules are those of [`super::wire`]: tags are never reused, and what comes in is checked once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_raft::message::{Reconfigure, ReconfigureResponse};
use quorate_raft::{
    Configuration, MemberInfo, MemberKind, NodeId, Precondition, Priority, Rejection, Session, Target,
};

use super::DecodeError;
use super::wire::{Nothing, WireId, needed};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireConfiguration {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    learners: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    info: Vec<WireMember>,
    #[prost(message, optional, tag = "5")]
    pending: Option<WireTarget>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireMember {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(bool, tag = "2")]
    witness: bool,
    #[prost(uint32, tag = "3")]
    priority: u32,
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireTarget {
    #[prost(message, repeated, tag = "1")]
    voters: Vec<WireMember>,
    #[prost(message, repeated, tag = "2")]
    learners: Vec<WireMember>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireReconfigure {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(message, optional, tag = "3")]
    target: Option<WireTarget>,
    /// Absent: whatever members there are.
    #[prost(message, optional, tag = "4")]
    current: Option<WireConfiguration>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct WireReconfigureResponse {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(oneof = "WireChangeOutcome", tags = "3, 4, 5, 6, 7, 8")]
    outcome: Option<WireChangeOutcome>,
    /// Set beside `NotLeader`, which those who do not know this field go by.
    #[prost(bool, tag = "9")]
    too_large: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireChangeOutcome {
    #[prost(message, tag = "3")]
    Begun(WireId),
    #[prost(message, tag = "4")]
    InProgress(Nothing),
    #[prost(message, tag = "5")]
    PreconditionFailed(Nothing),
    #[prost(uint64, tag = "6")]
    KindChange(u64),
    #[prost(message, tag = "7")]
    Transferring(Nothing),
    #[prost(message, tag = "8")]
    NotLeader(Nothing),
}

impl From<&Configuration> for WireConfiguration {
    fn from(configuration: &Configuration) -> Self {
        let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| node.0).collect();
        Self {
            voters: ids(configuration.voters()),
            outgoing: ids(configuration.outgoing()),
            learners: ids(configuration.learners()),
            info: configuration.described().iter().map(WireMember::from).collect(),
            pending: configuration.pending().map(WireTarget::from),
        }
    }
}

impl TryFrom<WireConfiguration> for Configuration {
    type Error = DecodeError;

    fn try_from(wire: WireConfiguration) -> Result<Self, DecodeError> {
        if wire == WireConfiguration::default() {
            return Ok(Self::unknown());
        }
        let ids = |nodes: Vec<u64>| nodes.into_iter().map(NodeId);
        let configuration = Self::joint(ids(wire.voters), ids(wire.outgoing), ids(wire.learners))?;
        let configuration = configuration.with_info(members(wire.info))?;
        Ok(configuration.with_pending(wire.pending.map(Target::try_from).transpose()?))
    }
}

impl From<(&NodeId, &MemberInfo)> for WireMember {
    fn from((node, info): (&NodeId, &MemberInfo)) -> Self {
        Self {
            node: node.0,
            witness: info.kind == MemberKind::Witness,
            priority: info.priority.0,
            context: info.context.clone(),
        }
    }
}

impl From<&Target> for WireTarget {
    fn from(target: &Target) -> Self {
        let ordinary = MemberInfo::default();
        let member = |node: &NodeId| WireMember::from((node, target.info().get(node).unwrap_or(&ordinary)));
        Self {
            voters: target.voters().iter().map(member).collect(),
            learners: target.learners().iter().map(member).collect(),
        }
    }
}

impl TryFrom<WireTarget> for Target {
    type Error = DecodeError;

    fn try_from(wire: WireTarget) -> Result<Self, DecodeError> {
        Ok(Self::new(members(wire.voters), members(wire.learners))?)
    }
}

impl From<&Reconfigure> for WireReconfigure {
    fn from(ask: &Reconfigure) -> Self {
        Self {
            session: ask.session.0,
            seq: ask.seq,
            target: Some((&ask.target).into()),
            current: match &ask.precondition {
                Precondition::Any => None,
                Precondition::Current(configuration) => Some(configuration.as_ref().into()),
            },
        }
    }
}

impl TryFrom<WireReconfigure> for Reconfigure {
    type Error = DecodeError;

    fn try_from(wire: WireReconfigure) -> Result<Self, DecodeError> {
        Ok(Self {
            session: Session(wire.session),
            seq: wire.seq,
            target: needed(wire.target, "target of a change of members")?.try_into()?,
            precondition: match wire.current {
                None => Precondition::Any,
                Some(current) => Precondition::Current(Box::new(current.try_into()?)),
            },
        })
    }
}

impl From<ReconfigureResponse> for WireReconfigureResponse {
    fn from(answer: ReconfigureResponse) -> Self {
        Self {
            session: answer.session.0,
            seq: answer.seq,
            too_large: answer.outcome == Err(Rejection::TooLarge),
            outcome: Some(match answer.outcome {
                Ok(id) => WireChangeOutcome::Begun(id.into()),
                Err(rejection) => rejection.into(),
            }),
        }
    }
}

impl From<Rejection> for WireChangeOutcome {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::ChangeInProgress | Rejection::Overloaded | Rejection::Superseded => {
                Self::InProgress(Nothing {})
            }
            Rejection::PreconditionFailed => Self::PreconditionFailed(Nothing {}),
            Rejection::KindChange(node) => Self::KindChange(node.0),
            Rejection::Transferring | Rejection::BadTransferee => Self::Transferring(Nothing {}),
            Rejection::NoLeader
            | Rejection::NotLeader { .. }
            | Rejection::TooLarge
            | Rejection::Witness
            | Rejection::Removed => Self::NotLeader(Nothing {}),
        }
    }
}

impl TryFrom<WireReconfigureResponse> for ReconfigureResponse {
    type Error = DecodeError;

    fn try_from(wire: WireReconfigureResponse) -> Result<Self, DecodeError> {
        Ok(Self {
            session: Session(wire.session),
            seq: wire.seq,
            outcome: match needed(wire.outcome, "outcome of a change of members")? {
                WireChangeOutcome::Begun(id) => Ok(id.into()),
                WireChangeOutcome::InProgress(Nothing {}) => Err(Rejection::ChangeInProgress),
                WireChangeOutcome::PreconditionFailed(Nothing {}) => Err(Rejection::PreconditionFailed),
                WireChangeOutcome::KindChange(node) => Err(Rejection::KindChange(NodeId(node))),
                WireChangeOutcome::Transferring(Nothing {}) => Err(Rejection::Transferring),
                WireChangeOutcome::NotLeader(Nothing {}) if wire.too_large => Err(Rejection::TooLarge),
                WireChangeOutcome::NotLeader(Nothing {}) => Err(Rejection::NotLeader { leader: None }),
            },
        })
    }
}

fn members(wire: Vec<WireMember>) -> BTreeMap<NodeId, MemberInfo> {
    let member = |wire: WireMember| {
        let kind = match wire.witness {
            true => MemberKind::Witness,
            false => MemberKind::Full,
        };
        let info = MemberInfo {
            kind,
            priority: Priority(wire.priority),
            context: wire.context,
        };
        (NodeId(wire.node), info)
    };
    wire.into_iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn received(wire: &WireReconfigureResponse) -> Result<quorate_raft::EntryId, Rejection> {
        let bytes = wire.encode_to_vec();
        let wire = WireReconfigureResponse::decode(bytes.as_slice()).unwrap();
        ReconfigureResponse::try_from(wire).unwrap().outcome
    }

    fn refused(rejection: Rejection) -> WireReconfigureResponse {
        WireReconfigureResponse::from(ReconfigureResponse {
            session: Session(5),
            seq: 8,
            outcome: Err(rejection),
        })
    }

    #[test]
    fn a_change_that_is_too_large_is_not_worth_another_attempt() {
        let answer = refused(Rejection::TooLarge);
        assert_eq!(received(&answer), Err(Rejection::TooLarge));
        let not_leader = Err(Rejection::NotLeader { leader: None });
        assert_eq!(received(&refused(Rejection::NoLeader)), not_leader);
        // A node that does not know the field sees only the rest.
        let of_old = WireReconfigureResponse {
            too_large: false,
            ..answer
        };
        assert_eq!(received(&of_old), not_leader);
    }
}
