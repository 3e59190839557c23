//! The bytes of a command: a format number, then a protobuf message.
//!
//! The messages mirror the public types and have no life of their own. Nesting is bounded by the decoder's
//! recursion limit.

mod convert;
mod messages;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{Command, DecodeError};
use messages::CommandMessage;

pub(crate) use convert::{alarm_from_wire, alarm_to_wire};
pub(crate) use messages::MemberMessage;

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
