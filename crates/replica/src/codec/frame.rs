//! The frames of a connection between peers.
//!
//! ```text
//! 0   4  magic "QRTE"
//! 4   1  kind
//! 5   3  zero
//! 8   4  length of the body, little-endian
//! 12  4  CRC-32C of bytes 0..12 and the body, little-endian
//! 16  n  body: protobuf
//! ```
//!
//! A connection begins with the dialer's [`Hello`], answered by [`Welcome`] or [`Refusal`]. Before it, a
//! dialer that does not know yet who it is may ask with an [`Inquiry`], answered by [`Introduction`].
//! On a stream of messages only the dialer speaks from then on, but for the answers to its pings. On a bulk
//! stream the dialer makes an offer, the other end says from which chunk to go on, and at the end whether it
//! has all of it.
//!
//! [`VERSION`] grows when a frame is added or changes its meaning. Two ends use the highest version that both
//! speak: 1 has no pings.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use quorate_raft::{Configuration, Envelope, NodeId};

use super::DecodeError;
use super::members::WireConfiguration;
use super::wire::WireEnvelope;

/// The newest version of the protocol that this code speaks.
pub const VERSION: u32 = 2;
/// The first version of the protocol that has [`Frame::Ping`] and [`Frame::Pong`].
pub const PINGS_SINCE: u32 = 2;
/// The oldest version of the protocol that this code speaks.
pub const OLDEST_VERSION: u32 = 1;
/// The bytes of a frame before its body.
pub const HEADER_BYTES: usize = 16;
/// The largest body accepted from a peer that has been welcomed, in bytes.
pub const MAX_BODY_BYTES: usize = 32 << 20;
/// The largest body accepted during a handshake, in bytes.
pub const MAX_HANDSHAKE_BYTES: usize = 4096;

/// Drawn at random when a data directory is first used: tells its life from that of another of the same node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

/// Names a cluster: a node never listens to one of another cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Messages of the consensus core, in order.
    Messages,
    /// Snapshots: a stream of its own, so that they never hold up a heartbeat.
    Bulk,
}

/// The first frame of a connection: who speaks, to whom, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest version of the protocol that the dialer speaks.
    pub version: u32,
    /// The oldest.
    pub oldest_version: u32,
    /// The dialer's cluster.
    pub cluster: ClusterId,
    /// The dialer.
    pub from: NodeId,
    /// Whom it means to reach.
    pub to: NodeId,
    /// Of the dialer's data directory.
    pub incarnation: Incarnation,
    /// What the connection is for.
    pub stream: StreamKind,
}

/// The answer to a [`Hello`] that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that the connection uses.
    pub version: u32,
    /// Of the data directory of the one that was dialed.
    pub incarnation: Incarnation,
}

/// The answer to a [`Hello`] that is not accepted; the connection is then closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// A sentence for the dialer's log.
    pub reason: String,
    /// The dialer was a member, with the directory that it has, and is none any more.
    pub removed: bool,
}

impl Refusal {
    /// One that says nothing of the dialer's being a member.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            removed: false,
        }
    }
}

/// Asks a member which node is to be reached at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The newest version of the protocol that the dialer speaks.
    pub version: u32,
    /// The oldest.
    pub oldest_version: u32,
    /// Where its peers are to reach the dialer, as `host:port`.
    pub address: String,
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The cluster of the one that answers.
    pub cluster: ClusterId,
    /// Who is to be at the address, if it is a member.
    pub node: Option<NodeId>,
    /// The members that the one who answers knows.
    pub members: Configuration,
}

/// Says which snapshot the dialer has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// For the receiver's core, once all of the snapshot is durable there.
    pub announcement: Envelope,
    /// How many chunks there are.
    pub chunks: u32,
    /// Drawn by each start of the dialer: chunks of one life make one file.
    pub life: u64,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a connection.
    Hello(Hello),
    /// Accepts it.
    Welcome(Welcome),
    /// Does not accept it, or an offer.
    Refusal(Refusal),
    /// A message of the consensus core.
    Message(Envelope),
    /// A snapshot to give.
    SnapshotOffer(SnapshotOffer),
    /// Go on from this chunk, counted from 0.
    SnapshotResume {
        /// The first chunk that the receiver does not have.
        next: u32,
    },
    /// One chunk of a snapshot.
    SnapshotChunk {
        /// Its number, from 0.
        number: u32,
        /// Its bytes.
        data: Bytes,
    },
    /// The receiver has all of the snapshot, durably.
    SnapshotDone,
    /// Asks who is to be where the dialer is.
    Inquiry(Inquiry),
    /// Says it.
    Introduction(Introduction),
    /// Asks for an answer, by which the dialer of a stream of messages measures the round trip.
    Ping {
        /// Tells this one from others.
        number: u64,
    },
    /// Answers a ping.
    Pong {
        /// Of the ping.
        number: u64,
    },
}

impl Frame {
    /// What the frame is called in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Refusal(_) => "Refusal",
            Self::Message(_) => "Message",
            Self::SnapshotOffer(_) => "SnapshotOffer",
            Self::SnapshotResume { .. } => "SnapshotResume",
            Self::SnapshotChunk { .. } => "SnapshotChunk",
            Self::SnapshotDone => "SnapshotDone",
            Self::Inquiry(_) => "Inquiry",
            Self::Introduction(_) => "Introduction",
            Self::Ping { .. } => "Ping",
            Self::Pong { .. } => "Pong",
        }
    }
}

/// Appends a frame to `out`.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Message(envelope) => encode_message(envelope, out),
        Frame::Hello(hello) => put(HELLO, &WireHello::from(hello), out),
        Frame::Welcome(welcome) => put(WELCOME, &WireWelcome::from(welcome), out),
        Frame::Refusal(refusal) => {
            let Refusal { reason, removed } = refusal.clone();
            put(REFUSAL, &WireRefusal { reason, removed }, out);
        }
        Frame::SnapshotOffer(offer) => put(SNAPSHOT_OFFER, &WireOffer::from(offer), out),
        Frame::SnapshotResume { next } => put(SNAPSHOT_RESUME, &WireResume { next: *next }, out),
        Frame::SnapshotChunk { number, data } => {
            let chunk = WireChunk {
                number: *number,
                data: data.clone(),
            };
            put(SNAPSHOT_CHUNK, &chunk, out);
        }
        Frame::SnapshotDone => put(SNAPSHOT_DONE, &WireDone {}, out),
        Frame::Inquiry(inquiry) => put(INQUIRY, &WireInquiry::from(inquiry), out),
        Frame::Introduction(introduction) => put(INTRODUCTION, &WireIntroduction::from(introduction), out),
        Frame::Ping { number } => put(PING, &WirePing { number: *number }, out),
        Frame::Pong { number } => put(PONG, &WirePing { number: *number }, out),
    }
}

/// Appends a message's frame to `out`; the same as [`encode`] of [`Frame::Message`].
pub fn encode_message(envelope: &Envelope, out: &mut BytesMut) {
    put(MESSAGE, &WireEnvelope::from(envelope), out);
}

/// Takes the first frame out of `buffer`; none while it is not complete.
///
/// # Errors
/// When the bytes are no frame, or one with a body of more than `max_body` bytes. Nothing that comes
/// after can be trusted: the connection is to be closed.
pub fn decode(buffer: &mut BytesMut, max_body: usize) -> Result<Option<Frame>, DecodeError> {
    let Some(header) = Header::parse(buffer, max_body)? else {
        return Ok(None);
    };
    let frame_bytes = HEADER_BYTES + header.body_bytes;
    if buffer.len() < frame_bytes {
        return Ok(None);
    }
    let checksum = crc32c::crc32c(&buffer[..CHECKED_HEADER_BYTES]);
    let checksum = crc32c::crc32c_append(checksum, &buffer[HEADER_BYTES..frame_bytes]);
    if checksum != header.checksum {
        return Err(DecodeError::Checksum);
    }
    let body = take_body(buffer, frame_bytes);
    decode_body(header.kind, body).map(Some)
}

/// Takes a frame out of `buffer` and gives its body, of which commands are views.
///
/// A small body is copied: as a view, one short command that is kept would keep the whole buffer,
/// with all the heartbeats around it. A large one is worth the buffer that it fills.
fn take_body(buffer: &mut BytesMut, frame_bytes: usize) -> Bytes {
    if frame_bytes < COPIED_BELOW {
        let body = Bytes::copy_from_slice(&buffer[HEADER_BYTES..frame_bytes]);
        buffer.advance(frame_bytes);
        return body;
    }
    let mut frame = buffer.split_to(frame_bytes).freeze();
    frame.advance(HEADER_BYTES);
    frame
}

/// The fields of a frame's header, checked as far as they can be without the body.
struct Header {
    kind: u8,
    body_bytes: usize,
    checksum: u32,
}

impl Header {
    fn parse(mut bytes: &[u8], max_body: usize) -> Result<Option<Self>, DecodeError> {
        // What cannot become a frame is refused by its first bytes, not waited for.
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            let mut found = [0; 4];
            found[..magic.len()].copy_from_slice(magic);
            return Err(DecodeError::Magic(found));
        }
        if bytes.len() < HEADER_BYTES {
            return Ok(None);
        }
        bytes.advance(MAGIC.len());
        let kind = bytes.get_u8();
        if bytes.get_uint(3) != 0 {
            return Err(DecodeError::Reserved);
        }
        let length = bytes.get_u32_le();
        let body_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if body_bytes > max_body {
            return Err(DecodeError::TooLarge {
                length: length.into(),
                max: max_body as u64,
            });
        }
        Ok(Some(Self {
            kind,
            body_bytes,
            checksum: bytes.get_u32_le(),
        }))
    }
}

fn decode_body(kind: u8, body: Bytes) -> Result<Frame, DecodeError> {
    Ok(match kind {
        HELLO => Frame::Hello(WireHello::decode(body)?.try_into()?),
        WELCOME => Frame::Welcome(WireWelcome::decode(body)?.try_into()?),
        REFUSAL => {
            let WireRefusal { reason, removed } = WireRefusal::decode(body)?;
            Frame::Refusal(Refusal { reason, removed })
        }
        MESSAGE => Frame::Message(WireEnvelope::decode(body)?.try_into()?),
        SNAPSHOT_OFFER => Frame::SnapshotOffer(WireOffer::decode(body)?.try_into()?),
        SNAPSHOT_RESUME => Frame::SnapshotResume {
            next: WireResume::decode(body)?.next,
        },
        SNAPSHOT_CHUNK => {
            let WireChunk { number, data } = WireChunk::decode(body)?;
            Frame::SnapshotChunk { number, data }
        }
        SNAPSHOT_DONE => {
            WireDone::decode(body)?;
            Frame::SnapshotDone
        }
        INQUIRY => Frame::Inquiry(WireInquiry::decode(body)?.into()),
        INTRODUCTION => Frame::Introduction(WireIntroduction::decode(body)?.try_into()?),
        PING => Frame::Ping {
            number: WirePing::decode(body)?.number,
        },
        PONG => Frame::Pong {
            number: WirePing::decode(body)?.number,
        },
        unknown => return Err(DecodeError::Kind(unknown)),
    })
}

fn put(kind: u8, body: &impl prost::Message, out: &mut BytesMut) {
    let start = out.len();
    let body_bytes = body.encoded_len();
    // Whoever makes frames bounds them far below this: commands and chunks have bounds of their own.
    let length = u32::try_from(body_bytes).expect("a frame has less than 4 GiB");
    out.reserve(HEADER_BYTES + body_bytes);
    out.put_slice(&MAGIC);
    out.put_u8(kind);
    out.put_bytes(0, 3);
    out.put_u32_le(length);
    out.put_u32_le(0);
    body.encode(out).expect("a BytesMut grows as needed");
    let checksum = crc32c::crc32c(&out[start..start + CHECKED_HEADER_BYTES]);
    let checksum = crc32c::crc32c_append(checksum, &out[start + HEADER_BYTES..]);
    out[start + CHECKED_HEADER_BYTES..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireHello {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    oldest_version: u32,
    #[prost(uint64, tag = "3")]
    cluster: u64,
    #[prost(uint64, tag = "4")]
    from: u64,
    #[prost(uint64, tag = "5")]
    to: u64,
    #[prost(bytes = "bytes", tag = "6")]
    incarnation: Bytes,
    #[prost(uint32, tag = "7")]
    stream: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireWelcome {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "bytes", tag = "2")]
    incarnation: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRefusal {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(bool, tag = "2")]
    removed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireOffer {
    #[prost(message, optional, tag = "1")]
    announcement: Option<WireEnvelope>,
    #[prost(uint32, tag = "2")]
    chunks: u32,
    #[prost(fixed64, tag = "3")]
    life: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireResume {
    #[prost(uint32, tag = "1")]
    next: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireChunk {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireDone {}

#[derive(Clone, PartialEq, prost::Message)]
struct WireInquiry {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    oldest_version: u32,
    #[prost(string, tag = "3")]
    address: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireIntroduction {
    #[prost(uint64, tag = "1")]
    cluster: u64,
    #[prost(uint64, optional, tag = "2")]
    node: Option<u64>,
    #[prost(message, optional, tag = "3")]
    members: Option<WireConfiguration>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WirePing {
    #[prost(uint64, tag = "1")]
    number: u64,
}

impl From<&Inquiry> for WireInquiry {
    fn from(inquiry: &Inquiry) -> Self {
        Self {
            version: inquiry.version,
            oldest_version: inquiry.oldest_version,
            address: inquiry.address.clone(),
        }
    }
}

impl From<WireInquiry> for Inquiry {
    fn from(wire: WireInquiry) -> Self {
        Self {
            version: wire.version,
            oldest_version: wire.oldest_version,
            address: wire.address,
        }
    }
}

impl From<&Introduction> for WireIntroduction {
    fn from(introduction: &Introduction) -> Self {
        Self {
            cluster: introduction.cluster.0,
            node: introduction.node.map(|node| node.0),
            members: Some((&introduction.members).into()),
        }
    }
}

impl TryFrom<WireIntroduction> for Introduction {
    type Error = DecodeError;

    fn try_from(wire: WireIntroduction) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: ClusterId(wire.cluster),
            node: wire.node.map(NodeId),
            members: wire.members.unwrap_or_default().try_into()?,
        })
    }
}

impl From<&Hello> for WireHello {
    fn from(hello: &Hello) -> Self {
        Self {
            version: hello.version,
            oldest_version: hello.oldest_version,
            cluster: hello.cluster.0,
            from: hello.from.0,
            to: hello.to.0,
            incarnation: Bytes::copy_from_slice(&hello.incarnation.0.to_be_bytes()),
            stream: match hello.stream {
                StreamKind::Messages => STREAM_MESSAGES,
                StreamKind::Bulk => STREAM_BULK,
            },
        }
    }
}

impl TryFrom<WireHello> for Hello {
    type Error = DecodeError;

    fn try_from(wire: WireHello) -> Result<Self, DecodeError> {
        Ok(Self {
            version: wire.version,
            oldest_version: wire.oldest_version,
            cluster: ClusterId(wire.cluster),
            from: NodeId(wire.from),
            to: NodeId(wire.to),
            incarnation: incarnation(&wire.incarnation)?,
            stream: match wire.stream {
                STREAM_MESSAGES => StreamKind::Messages,
                STREAM_BULK => StreamKind::Bulk,
                _ => return Err(DecodeError::Missing("known kind of stream")),
            },
        })
    }
}

impl From<&Welcome> for WireWelcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            version: welcome.version,
            incarnation: Bytes::copy_from_slice(&welcome.incarnation.0.to_be_bytes()),
        }
    }
}

impl TryFrom<WireWelcome> for Welcome {
    type Error = DecodeError;

    fn try_from(wire: WireWelcome) -> Result<Self, DecodeError> {
        Ok(Self {
            version: wire.version,
            incarnation: incarnation(&wire.incarnation)?,
        })
    }
}

impl From<&SnapshotOffer> for WireOffer {
    fn from(offer: &SnapshotOffer) -> Self {
        Self {
            announcement: Some((&offer.announcement).into()),
            chunks: offer.chunks,
            life: offer.life,
        }
    }
}

impl TryFrom<WireOffer> for SnapshotOffer {
    type Error = DecodeError;

    fn try_from(wire: WireOffer) -> Result<Self, DecodeError> {
        let announcement = wire.announcement.ok_or(DecodeError::Missing("announcement"))?;
        Ok(Self {
            announcement: announcement.try_into()?,
            chunks: wire.chunks,
            life: wire.life,
        })
    }
}

fn incarnation(bytes: &[u8]) -> Result<Incarnation, DecodeError> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| DecodeError::Incarnation(bytes.len()))?;
    Ok(Incarnation(u128::from_be_bytes(bytes)))
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

const MAGIC: [u8; 4] = *b"QRTE";
const CHECKED_HEADER_BYTES: usize = 12;
const COPIED_BELOW: usize = 16 << 10;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;
const MESSAGE: u8 = 4;
const SNAPSHOT_OFFER: u8 = 5;
const SNAPSHOT_RESUME: u8 = 6;
const SNAPSHOT_CHUNK: u8 = 7;
const SNAPSHOT_DONE: u8 = 8;
const INQUIRY: u8 = 9;
const INTRODUCTION: u8 = 10;
const PING: u8 = 11;
const PONG: u8 = 12;
const STREAM_MESSAGES: u32 = 1;
const STREAM_BULK: u32 = 2;
