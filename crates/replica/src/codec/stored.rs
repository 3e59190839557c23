//! What the log's records and the snapshots' headers say. The log itself knows bytes only.
//!
//! ```text
//! body of an entry       kind: 1 byte (0 no-op, 1 command, 2 configuration, 3 stripped) | the command's bytes or a protobuf
//! body of a hard state   protobuf { term = 1, vote = 2 (absent: none) }
//! header of a snapshot   protobuf { id = 1 { index = 1, term = 2 }, configuration = 2 }
//! ```

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use quorate_raft::{Configuration, HardState, NodeId, Payload, SnapshotMeta, Term};

use super::DecodeError;
use super::members::WireConfiguration;
use super::wire::WireSnapshotMeta;

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct StoredHardState {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, optional, tag = "2")]
    vote: Option<u64>,
}

/// Appends an entry's body to `out`.
pub fn encode_payload(payload: &Payload, out: &mut BytesMut) {
    match payload {
        Payload::Noop => out.put_u8(NOOP),
        Payload::Stripped => out.put_u8(STRIPPED),
        Payload::Command(command) => {
            out.reserve(1 + command.len());
            out.put_u8(COMMAND);
            out.put_slice(command);
        }
        Payload::Configuration(configuration) => {
            out.put_u8(CONFIGURATION);
            out.put_slice(&WireConfiguration::from(configuration.as_ref()).encode_to_vec());
        }
    }
}

/// Reads an entry's body. A command is a view of `body`, not a copy.
///
/// # Errors
/// When the body is of no known kind, or is no configuration where it says so.
pub fn decode_payload(mut body: Bytes) -> Result<Payload, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    let kind = body.split_to(1);
    match kind.first().copied().unwrap_or(NOOP) {
        NOOP => Ok(Payload::Noop),
        STRIPPED => Ok(Payload::Stripped),
        COMMAND => Ok(Payload::Command(body)),
        CONFIGURATION => {
            let configuration: Configuration = WireConfiguration::decode(body)?.try_into()?;
            Ok(Payload::Configuration(Arc::new(configuration)))
        }
        kind => Err(DecodeError::Kind(kind)),
    }
}

/// The body of a hard state's record.
#[must_use]
pub fn encode_hard_state(state: &HardState) -> Bytes {
    let stored = StoredHardState {
        term: state.term.0,
        vote: state.vote.map(|node| node.0),
    };
    stored.encode_to_vec().into()
}

/// Reads the body of a hard state's record.
///
/// # Errors
/// When it is none.
pub fn decode_hard_state(body: Bytes) -> Result<HardState, DecodeError> {
    let stored = StoredHardState::decode(body)?;
    Ok(HardState {
        term: Term(stored.term),
        vote: stored.vote.map(NodeId),
    })
}

/// The header of a snapshot's file.
#[must_use]
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Vec<u8> {
    WireSnapshotMeta::from(meta).encode_to_vec()
}

/// Reads the header of a snapshot's file.
///
/// # Errors
/// When it is none.
pub fn decode_snapshot_meta(header: &[u8]) -> Result<SnapshotMeta, DecodeError> {
    WireSnapshotMeta::decode(header)?.try_into()
}

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRIPPED: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_raft::{EntryId, Index};

    use super::*;

    fn configuration() -> Arc<Configuration> {
        Arc::new(Configuration::joint([NodeId(1), NodeId(2)], [NodeId(3)], [NodeId(4)]).unwrap())
    }

    #[test]
    fn each_payload_comes_back_from_its_body() {
        for payload in [
            Payload::Noop,
            Payload::Command(Bytes::new()),
            Payload::Command(Bytes::from_static(b"put")),
            Payload::Configuration(configuration()),
        ] {
            let mut out = BytesMut::new();
            encode_payload(&payload, &mut out);
            assert_eq!(decode_payload(out.freeze()), Ok(payload));
        }
    }

    #[test]
    fn a_hard_state_tells_no_vote_from_a_vote_for_node_0() {
        for vote in [None, Some(NodeId(0)), Some(NodeId(7))] {
            let state = HardState { term: Term(3), vote };
            assert_eq!(decode_hard_state(encode_hard_state(&state)), Ok(state));
        }
    }

    #[test]
    fn a_snapshot_header_comes_back() {
        let meta = SnapshotMeta {
            id: EntryId::new(Index(9), Term(2)),
            configuration: configuration(),
        };
        assert_eq!(decode_snapshot_meta(&encode_snapshot_meta(&meta)), Ok(meta));
    }

    #[test]
    fn a_body_of_an_unknown_kind_is_refused() {
        assert_eq!(
            decode_payload(Bytes::from_static(&[9, 1])),
            Err(DecodeError::Kind(9))
        );
        assert_eq!(decode_payload(Bytes::new()), Err(DecodeError::Empty));
    }

    proptest! {
        #[test]
        fn random_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_payload(bytes.clone());
            let _ = decode_hard_state(bytes.clone());
            let _ = decode_snapshot_meta(&bytes);
        }
    }
}
