//! Reading a snapshot: everything is checked before any of it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::lease::Leases;
use crate::record::Record;
use crate::snapshot::{
    AlarmMessage, EndMessage, FORMAT, FORMAT_WITHOUT_AUTH, FRAME_HEADER, FrameKind, HeadMessage,
    LeasesMessage, MAGIC, frame_crc,
};
use crate::snapshot_auth::AuthBuilding;
use crate::store::Store;
use crate::wire::{MemberMessage, alarm_from_wire};
use crate::{Alarm, Keyspace, LeaseEpoch, LeaseId, Member, MemberId, RestoreError, Revision};

/// The chunks of a snapshot. They may be cut anywhere.
type Chunks<'a> = dyn Iterator<Item = io::Result<Bytes>> + 'a;

impl Keyspace {
    /// Builds the state that a snapshot was taken of.
    ///
    /// # Errors
    /// When a chunk cannot be read, when the bytes are not a whole snapshot of a known format, or when they
    /// contradict each other.
    pub fn restore(chunks: &mut Chunks<'_>) -> Result<Self, RestoreError> {
        let mut input = Input {
            chunks,
            buffer: BytesMut::new(),
            offset: 0,
        };
        let format = input.expect_magic()?;
        let mut building = Building::new(format, input.next_frame()?)?;
        loop {
            let frame = input.next_frame()?;
            if frame.kind == FrameKind::End as u8 {
                building.check_end(&frame)?;
                input.expect_nothing()?;
                return building.finish(&frame);
            }
            building.add(frame)?;
        }
    }
}

/// A frame whose checksum is right.
struct Frame {
    offset: u64,
    kind: u8,
    payload: Bytes,
}

impl Frame {
    fn wrong(&self, what: &'static str) -> RestoreError {
        RestoreError::Inconsistent {
            offset: self.offset,
            what,
        }
    }

    fn message<M: Message + Default>(&self) -> Result<M, RestoreError> {
        M::decode(self.payload.clone()).map_err(|_| self.wrong("a message cannot be decoded"))
    }
}

/// The snapshot as one stream of bytes.
struct Input<'a, 'b> {
    chunks: &'a mut Chunks<'b>,
    buffer: BytesMut,
    offset: u64,
}

impl Input<'_, '_> {
    /// The format.
    fn expect_magic(&mut self) -> Result<u8, RestoreError> {
        let start = self.take(MAGIC.len() + 1)?;
        if start[..MAGIC.len()] != MAGIC[..] {
            return Err(RestoreError::NotASnapshot);
        }
        let found = start[MAGIC.len()];
        if found == FORMAT || found == FORMAT_WITHOUT_AUTH {
            Ok(found)
        } else {
            Err(RestoreError::UnknownFormat { found, known: FORMAT })
        }
    }

    fn next_frame(&mut self) -> Result<Frame, RestoreError> {
        let offset = self.offset;
        let mut header = self.take(FRAME_HEADER)?;
        let (length, crc, kind) = (header.get_u32_le(), header.get_u32_le(), header.get_u8());
        let payload = self.take(length as usize)?;
        if frame_crc(kind, &payload) == crc {
            Ok(Frame {
                offset,
                kind,
                payload,
            })
        } else {
            Err(RestoreError::Checksum { offset })
        }
    }

    fn expect_nothing(&mut self) -> Result<(), RestoreError> {
        let offset = self.offset;
        match self.take(1) {
            Err(RestoreError::CutOff { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(RestoreError::Inconsistent {
                offset,
                what: "there are bytes after its end",
            }),
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, RestoreError> {
        while self.buffer.len() < length {
            let Some(chunk) = self.chunks.next() else {
                return Err(RestoreError::CutOff {
                    offset: self.offset + self.buffer.len() as u64,
                });
            };
            self.buffer.extend_from_slice(&chunk?);
        }
        self.offset += length as u64;
        Ok(self.buffer.split_to(length).freeze())
    }
}

/// What has been read so far.
struct Building {
    format: u8,
    revision: Revision,
    compacted: Revision,
    last_lease_epoch: LeaseEpoch,
    leases: Vec<(LeaseId, i64, LeaseEpoch)>,
    members: BTreeMap<MemberId, Member>,
    alarms: BTreeSet<Alarm>,
    auth: AuthBuilding,
    frames: u64,
    records: Vec<Record>,
}

impl Building {
    fn new(format: u8, head: Frame) -> Result<Self, RestoreError> {
        if head.kind != FrameKind::Head as u8 {
            return Err(head.wrong("it does not begin with its head"));
        }
        let message: HeadMessage = head.message()?;
        let (revision, compacted) = (Revision(message.revision), Revision(message.compacted));
        let possible = revision >= Revision::FIRST && revision < Revision(i64::MAX);
        if !possible || compacted > revision || compacted < Revision::NOTHING_COMPACTED {
            return Err(head.wrong("its revisions are impossible"));
        }
        if message.last_lease_epoch > MAX_LEASE_EPOCH {
            return Err(head.wrong("its last epoch of leases is impossible"));
        }
        Ok(Self {
            format,
            revision,
            compacted,
            last_lease_epoch: LeaseEpoch(message.last_lease_epoch),
            leases: Vec::new(),
            members: BTreeMap::new(),
            alarms: BTreeSet::new(),
            auth: AuthBuilding::default(),
            frames: 1,
            records: Vec::new(),
        })
    }

    fn add(&mut self, frame: Frame) -> Result<(), RestoreError> {
        self.frames += 1;
        match frame.kind {
            kind if kind == FrameKind::Leases as u8 => self.add_leases(&frame),
            kind if kind == FrameKind::Member as u8 => self.add_member(&frame),
            kind if kind == FrameKind::Alarm as u8 => self.add_alarm(&frame),
            kind if kind == FrameKind::Records as u8 => self.add_records(&frame),
            kind if self.format >= FORMAT => self.add_auth(kind, &frame),
            _ => Err(frame.wrong("a frame's kind is unknown here")),
        }
    }

    fn add_leases(&mut self, frame: &Frame) -> Result<(), RestoreError> {
        for lease in frame.message::<LeasesMessage>()?.leases {
            let previous = self.leases.last().map(|(id, ..)| id.0);
            if previous.is_some_and(|previous| previous >= lease.id) || lease.id == 0 {
                return Err(frame.wrong("leases are out of order"));
            }
            if lease.epoch > self.last_lease_epoch.0 {
                return Err(frame.wrong("a lease's epoch is from the future"));
            }
            self.leases
                .push((LeaseId(lease.id), lease.ttl_secs, LeaseEpoch(lease.epoch)));
        }
        Ok(())
    }

    fn add_member(&mut self, frame: &Frame) -> Result<(), RestoreError> {
        let member = Member::from(frame.message::<MemberMessage>()?);
        self.members.insert(member.id, member);
        Ok(())
    }

    fn add_alarm(&mut self, frame: &Frame) -> Result<(), RestoreError> {
        let alarm: AlarmMessage = frame.message()?;
        let kind = alarm_from_wire(alarm.kind).map_err(|_| frame.wrong("an alarm's kind is unknown"))?;
        self.alarms.insert(Alarm {
            member: MemberId(alarm.member),
            kind,
        });
        Ok(())
    }

    fn add_auth(&mut self, kind: u8, frame: &Frame) -> Result<(), RestoreError> {
        let added = match kind {
            kind if kind == FrameKind::AuthHead as u8 => {
                self.auth.add_head(&frame.message()?);
                Ok(())
            }
            kind if kind == FrameKind::User as u8 => self.auth.add_user(frame.message()?),
            kind if kind == FrameKind::Role as u8 => self.auth.add_role(frame.message()?),
            _ => Err("a frame's kind is unknown here"),
        };
        added.map_err(|what| frame.wrong(what))
    }

    fn add_records(&mut self, frame: &Frame) -> Result<(), RestoreError> {
        let mut left = &frame.payload[..];
        while !left.is_empty() {
            let (record, rest) =
                split_record(left).ok_or_else(|| frame.wrong("a version of a key is malformed"))?;
            self.add_record(record).map_err(|what| frame.wrong(what))?;
            left = rest;
        }
        Ok(())
    }

    fn add_record(&mut self, record: Record) -> Result<(), &'static str> {
        if self
            .records
            .last()
            .is_some_and(|last| last.order() >= record.order())
        {
            return Err("versions are out of order");
        }
        if record.revision() > self.revision || record.revision() <= Revision::FIRST {
            return Err("a version has an impossible revision");
        }
        self.records.push(record);
        Ok(())
    }

    fn check_end(&self, frame: &Frame) -> Result<(), RestoreError> {
        let end: EndMessage = frame.message()?;
        if (end.frames, end.records) == (self.frames, self.records.len() as u64) {
            Ok(())
        } else {
            Err(frame.wrong("frames are missing"))
        }
    }

    fn finish(self, end: &Frame) -> Result<Keyspace, RestoreError> {
        let store = Store::restored(self.revision, self.compacted, self.records);
        let mut leases = Leases::restored(self.leases.into_iter(), self.last_lease_epoch);
        for record in store.range(&crate::KeyRange::all(), None) {
            let Some(lease) = record.lease() else { continue };
            if leases.get(lease).is_none() {
                return Err(end.wrong("a key has a lease that does not exist"));
            }
            leases.reattach(record.key(), None, Some(lease));
        }
        let auth = self.auth.finish().map_err(|what| end.wrong(what))?;
        let (members, alarms) = (self.members, self.alarms);
        Ok(Keyspace {
            store,
            leases,
            members,
            alarms,
            auth,
            snapshots: Arc::new(()),
        })
    }
}

/// Takes the first record off a payload; none if it is not well formed.
fn split_record(payload: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = payload.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (block, rest) = rest.split_at_checked(length)?;
    Some((Record::parse(block)?, rest))
}

/// Every grant and renewal counts one up, so nobody comes near it.
const MAX_LEASE_EPOCH: u64 = u64::MAX / 2;
