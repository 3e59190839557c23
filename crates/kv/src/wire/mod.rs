//! The bytes of a proposal: a format number, then a protobuf message.
//!
//! | format | what it can say beyond the one before |
//! |---|---|
//! | 1 | commands of callers that have not said who they are |
//! | 2 | who calls; changes of users and roles |
//!
//! Each proposal has the lowest format that can say it: a cluster that has never used authentication writes
//! what members know that have never heard of it.
//!
//! The messages mirror the public types and have no life of their own. Nesting is bounded by the decoder's
//! recursion limit.

mod auth;
mod convert;
mod messages;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{Caller, Command, DecodeError, Proposal};
use auth::CallerMessage;
use messages::{Body, CommandMessage};

pub(crate) use auth::PermissionMessage;
pub(crate) use convert::{alarm_from_wire, alarm_to_wire};
pub(crate) use messages::MemberMessage;

const FORMAT_WITHOUT_CALLER: u8 = 1;

/// The newest format.
const FORMAT: u8 = 2;

pub(crate) fn encode(caller: &Caller, command: &Command) -> Bytes {
    let message = CommandMessage {
        body: Some(command.into()),
        caller: CallerMessage::of(caller).filter(|_| !is_of_members(command)),
    };
    let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
    bytes.put_u8(match needs_caller(&message) {
        true => FORMAT,
        false => FORMAT_WITHOUT_CALLER,
    });
    message.encode(&mut bytes).expect("the buffer grows as needed");
    bytes.freeze()
}

pub(crate) fn decode(mut bytes: Bytes) -> Result<Proposal, DecodeError> {
    if !bytes.has_remaining() {
        return Err(DecodeError::Empty);
    }
    let found = bytes.get_u8();
    if found != FORMAT && found != FORMAT_WITHOUT_CALLER {
        return Err(DecodeError::UnknownFormat { found, known: FORMAT });
    }
    let message = CommandMessage::decode(bytes)?;
    if found == FORMAT_WITHOUT_CALLER && needs_caller(&message) {
        // A program that knows only this format would have read something else.
        return Err(DecodeError::Field("format"));
    }
    let command = message.body.ok_or(DecodeError::Field("body"))?.try_into()?;
    let caller = message.caller.map(Caller::try_from).transpose()?;
    let caller = caller
        .filter(|_| !is_of_members(&command))
        .unwrap_or(Caller::Anonymous);
    Ok(Proposal { caller, command })
}

fn needs_caller(message: &CommandMessage) -> bool {
    message.caller.is_some() || matches!(message.body, Some(Body::Auth(_)))
}

/// Who proposes this needs no right to it, so that its caller need not be written.
fn is_of_members(command: &Command) -> bool {
    matches!(command, Command::PublishMember(_))
        || matches!(
            command,
            Command::LeaseRevoke {
                cause: crate::RevokeCause::Expired { .. },
                ..
            }
        )
}
