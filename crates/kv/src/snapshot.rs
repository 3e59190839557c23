//! The whole state as a stream of bytes, written in pieces while commands go on being applied.
//!
//! The stream is [`MAGIC`], a format byte, then frames:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | length of the payload, little-endian |
//! | 4 | CRC-32C of kind and payload |
//! | 1 | kind: a [`FrameKind`] |
//! | … | payload |
//!
//! The first frame is the head, the last the end. Where the stream is cut into chunks means nothing.
//!
//! - A snapshot is the state at the moment it was begun: history is kept, so later writes do no harm, and
//!   the sweep waits while a snapshot is open.
//! - Equal states make equal streams: versions that nobody can see are left out, swept or not.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::record::Record;
use crate::snapshot_auth::{AuthHeadMessage, RoleMessage, UserMessage};
use crate::wire::{MemberMessage, alarm_to_wire};
use crate::{Alarm, Keyspace, Lease, LeaseId, Revision};

pub(crate) const MAGIC: &[u8; 7] = b"QUORKVS";

/// The newest format.
pub(crate) const FORMAT: u8 = 2;

/// The format of a state that nobody has added users or roles to, which older programs read.
pub(crate) const FORMAT_WITHOUT_AUTH: u8 = 1;

/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEADER: usize = 9;

/// A frame of records is closed when it has this many bytes.
const FRAME_BYTES: usize = 64 << 10;

/// How many leases a frame has at most.
const FRAME_LEASES: usize = 2048;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// A [`HeadMessage`].
    Head = 1,
    /// A [`LeasesMessage`].
    Leases = 2,
    /// A member.
    Member = 3,
    /// An [`AlarmMessage`].
    Alarm = 4,
    /// Records by key and position, each after its length in 4 bytes.
    Records = 5,
    /// An [`EndMessage`].
    End = 6,
    /// An [`AuthHeadMessage`]. From format 2 on, as the next two.
    AuthHead = 7,
    /// A [`UserMessage`].
    User = 8,
    /// A [`RoleMessage`].
    Role = 9,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeadMessage {
    #[prost(int64, tag = "1")]
    pub(crate) revision: i64,
    #[prost(int64, tag = "2")]
    pub(crate) compacted: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_lease_epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeasesMessage {
    #[prost(message, repeated, tag = "1")]
    pub(crate) leases: Vec<LeaseMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LeaseMessage {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl_secs: i64,
    #[prost(uint64, tag = "3")]
    pub(crate) epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlarmMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) member: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EndMessage {
    /// How many frames there are before this one.
    #[prost(uint64, tag = "1")]
    pub(crate) frames: u64,
    /// How many records there are in them.
    #[prost(uint64, tag = "2")]
    pub(crate) records: u64,
}

/// A snapshot being read. While it lives, compactions free no memory.
#[derive(Debug)]
pub struct Snapshot {
    /// Shared with the keyspace it is of.
    open: Arc<()>,
    revision: Revision,
    compacted: Revision,
    /// The last record that was written.
    last: Option<Record>,
    frames: u64,
    records: u64,
    ended: bool,
    /// Written, not handed out.
    pending: BytesMut,
}

impl Keyspace {
    /// Begins a snapshot of the state as it is.
    pub fn begin_snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot {
            open: Arc::clone(&self.snapshots),
            revision: self.revision(),
            compacted: self.compacted(),
            last: None,
            frames: 0,
            records: 0,
            ended: false,
            pending: BytesMut::new(),
        };
        snapshot.pending.put_slice(MAGIC);
        snapshot.pending.put_u8(match self.auth.is_pristine() {
            true => FORMAT_WITHOUT_AUTH,
            false => FORMAT,
        });
        self.write_all_but_keys(&mut snapshot);
        snapshot
    }

    /// The next piece, of at most `max_bytes`; none when all of it has been read.
    ///
    /// # Panics
    /// If the snapshot is of another keyspace, which would mix two states.
    pub fn snapshot_chunk(&self, snapshot: &mut Snapshot, max_bytes: usize) -> Option<Bytes> {
        assert!(
            Arc::ptr_eq(&self.snapshots, &snapshot.open),
            "a snapshot at revision {} is read from another keyspace than it was begun on",
            snapshot.revision
        );
        let max_bytes = max_bytes.max(1);
        while snapshot.pending.len() < max_bytes && !snapshot.ended {
            self.write_records(snapshot);
        }
        let length = snapshot.pending.len().min(max_bytes);
        (length > 0).then(|| snapshot.pending.split_to(length).freeze())
    }

    /// Ends a snapshot, read to its end or not. Dropping it does the same.
    pub fn end_snapshot(&mut self, snapshot: Snapshot) {
        drop(snapshot);
    }

    fn write_all_but_keys(&self, snapshot: &mut Snapshot) {
        let head = HeadMessage {
            revision: self.revision().0,
            compacted: self.compacted().0,
            last_lease_epoch: self.leases.last_epoch().0,
        };
        snapshot.write_message(FrameKind::Head, &head);
        let leases: Vec<LeaseMessage> = self.leases.iter().map(LeaseMessage::from).collect();
        for leases in leases.chunks(FRAME_LEASES) {
            snapshot.write_message(
                FrameKind::Leases,
                &LeasesMessage {
                    leases: leases.to_vec(),
                },
            );
        }
        for member in self.members.values() {
            snapshot.write_message(FrameKind::Member, &MemberMessage::from(member));
        }
        for alarm in &self.alarms {
            snapshot.write_message(FrameKind::Alarm, &AlarmMessage::from(alarm));
        }
        if !self.auth.is_pristine() {
            self.write_auth(snapshot);
        }
    }

    fn write_auth(&self, snapshot: &mut Snapshot) {
        let head = AuthHeadMessage::from(self.auth.status());
        snapshot.write_message(FrameKind::AuthHead, &head);
        for user in self.auth.all_users() {
            snapshot.write_message(FrameKind::User, &UserMessage::from(user));
        }
        for role in self.auth.all_roles() {
            snapshot.write_message(FrameKind::Role, &RoleMessage::from(role));
        }
    }

    /// Writes a frame of records; after the last one, the end.
    fn write_records(&self, snapshot: &mut Snapshot) {
        let mut payload = BytesMut::new();
        let last = snapshot.last.take();
        let after = last.as_ref().map_or(&b""[..], Record::key);
        for history in self.store.index.from(after) {
            let done = last
                .as_ref()
                .filter(|last| last.key() == history.key())
                .map(Record::position);
            for record in history.visible_from(snapshot.compacted, done) {
                if record.revision() > snapshot.revision {
                    break;
                }
                if payload.len() >= FRAME_BYTES {
                    snapshot.write_frame(FrameKind::Records, &payload);
                    return;
                }
                put_record(&mut payload, record);
                snapshot.records += 1;
                snapshot.last = Some(record.clone());
            }
        }
        if !payload.is_empty() {
            snapshot.write_frame(FrameKind::Records, &payload);
        }
        snapshot.write_end();
    }
}

impl Snapshot {
    /// The revision it is of.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    fn write_end(&mut self) {
        let end = EndMessage {
            frames: self.frames,
            records: self.records,
        };
        self.write_message(FrameKind::End, &end);
        self.ended = true;
    }

    fn write_message(&mut self, kind: FrameKind, message: &impl Message) {
        self.write_frame(kind, &message.encode_to_vec());
    }

    fn write_frame(&mut self, kind: FrameKind, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame holds little more than one record");
        self.pending.reserve(FRAME_HEADER + payload.len());
        self.pending.put_u32_le(length);
        self.pending.put_u32_le(frame_crc(kind as u8, payload));
        self.pending.put_u8(kind as u8);
        self.pending.put_slice(payload);
        self.frames += 1;
    }
}

/// The checksum of a frame.
pub(crate) fn frame_crc(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)
}

fn put_record(payload: &mut BytesMut, record: &Record) {
    let block = record.block();
    payload.put_u32_le(u32::try_from(block.len()).expect("requests are far smaller than 4 GiB"));
    payload.put_slice(block);
}

impl From<(LeaseId, &Lease)> for LeaseMessage {
    fn from((id, lease): (LeaseId, &Lease)) -> Self {
        Self {
            id: id.0,
            ttl_secs: lease.ttl_secs,
            epoch: lease.epoch.0,
        }
    }
}

impl From<&Alarm> for AlarmMessage {
    fn from(alarm: &Alarm) -> Self {
        Self {
            member: alarm.member.0,
            kind: alarm_to_wire(alarm.kind),
        }
    }
}
