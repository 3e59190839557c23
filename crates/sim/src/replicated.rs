//! What the simulated nodes replicate: registers, with production's sessions of clients around them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate::machine::{DecodeResponseError, EncodeError, Repeatable};
use quorate::sessions::Sessions;
use quorate_raft::{EntryId, Index, Term};

use crate::digest::Digest;
use crate::history::{Answer, Value};
use crate::registers::{Registers, Response};

/// The state machine.
pub(crate) type Replicated = Sessions<Registers>;

/// Everything that a snapshot must carry.
pub(crate) fn content(machine: &Replicated) -> Digest {
    let registers = machine.machine().content();
    registers.display(&format_args!("{:?}", machine.table()))
}

impl Repeatable for Registers {
    fn encode_response(response: &Response) -> Result<Bytes, EncodeError> {
        let (kind, value) = match response.answer {
            Answer::Written => (WRITTEN, None),
            Answer::Swapped => (SWAPPED, None),
            Answer::Kept(value) => (KEPT, value),
            Answer::Found(_) => return Err(EncodeError("a command finds nothing".to_owned())),
        };
        let mut bytes = BytesMut::with_capacity(25);
        bytes.put_u64(response.id.index.0);
        bytes.put_u64(response.id.term.0);
        bytes.put_u8(kind);
        bytes.put_u64(value.map_or(0, |value| value.0 + 1));
        Ok(bytes.freeze())
    }

    fn decode_response(mut bytes: Bytes) -> Result<Response, DecodeResponseError> {
        let cut = |error: bytes::TryGetError| DecodeResponseError(error.to_string());
        let index = Index(bytes.try_get_u64().map_err(cut)?);
        let term = Term(bytes.try_get_u64().map_err(cut)?);
        let kind = bytes.try_get_u8().map_err(cut)?;
        let value = bytes.try_get_u64().map_err(cut)?.checked_sub(1).map(Value);
        let answer = match kind {
            WRITTEN => Answer::Written,
            SWAPPED => Answer::Swapped,
            KEPT => Answer::Kept(value),
            other => return Err(DecodeResponseError(format!("there is no response {other}"))),
        };
        Ok(Response {
            id: EntryId::new(index, term),
            answer,
        })
    }
}

const WRITTEN: u8 = 1;
const SWAPPED: u8 = 2;
const KEPT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_given_again_as_they_were() {
        let answers = [
            Answer::Written,
            Answer::Swapped,
            Answer::Kept(None),
            Answer::Kept(Some(Value(0))),
        ];
        for answer in answers {
            let id = EntryId::new(Index(3), Term(2));
            let bytes = Registers::encode_response(&Response { id, answer }).unwrap();
            assert_eq!(Registers::decode_response(bytes), Ok(Response { id, answer }));
        }
        assert!(Registers::decode_response(Bytes::from_static(&[9; 25])).is_err());
        assert!(Registers::decode_response(Bytes::from_static(b"short")).is_err());
    }
}
