//! What travels between peers and what is kept in files, byte by byte. Pure functions, no I/O.
//!
//! - [`frame`]: the frames of a connection. [`frame::decode`] takes bytes that anyone may have sent:
//!   it never panics, and never asks for more than its bound.
//! - [`stored`]: what the log's records and the snapshots' headers say.

mod context;
pub mod frame;
mod members;
pub mod stored;
mod wire;

use quorate_raft::{ConfigurationError, SliceError};

pub use context::MemberContext;
pub use frame::{Frame, Hello, Incarnation, Inquiry, Introduction, Refusal, StreamKind, Welcome};

/// Why bytes are not what they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A frame does not begin with the protocol's magic bytes.
    #[error("the frame begins with {0:02x?}: this is not the peer protocol")]
    Magic([u8; 4]),
    /// A frame's reserved bytes are in use.
    #[error("the frame's reserved bytes are not zero")]
    Reserved,
    /// A frame is larger than this end accepts.
    #[error("the frame's body has {length} bytes, more than {max}")]
    TooLarge {
        /// What its header says, in bytes.
        length: u64,
        /// The bound, in bytes.
        max: u64,
    },
    /// A frame's checksum is not that of its bytes.
    #[error("the frame's checksum does not match its bytes")]
    Checksum,
    /// There is no such kind of frame or record.
    #[error("there is no kind {0}")]
    Kind(u8),
    /// It is empty where something is needed.
    #[error("it is empty")]
    Empty,
    /// The bytes are not protobuf, or not of this type.
    #[error("malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field that must be there is not.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// An incarnation has not 16 bytes.
    #[error("an incarnation has 16 bytes, not {0}")]
    Incarnation(usize),
    /// A run of entries is no slice of any log.
    #[error(transparent)]
    Slice(#[from] SliceError),
    /// A run of entries goes beyond the last index there can be.
    #[error("the entries' indexes overflow")]
    IndexOverflow,
    /// Sets of nodes are no configuration.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}
