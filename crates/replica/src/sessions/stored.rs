//! The session table in a snapshot: before the machine's own chunks.
//!
//! ```text
//! "QUORSES\n" | version: 4 bytes, 1 | time: 8 | limits: 5 * 8 | number of sessions: 8
//! a session   id: 8 | time to live: 8 | deadline: 8 | acknowledged below: 8 | number of requests: 8
//! a request   seq: 8 | 0: 1 byte              applied, and the response was not kept
//!             seq: 8 | 1: 1 byte | length: 8 | response
//! ```
//!
//! Numbers are little-endian, times are milliseconds; sessions and requests are in order.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::command::{Moment, Seq, SessionId};
use super::table::{Entry, Kept, LIMIT_FIELDS, SessionLimits, Table, TimeToLive};
use crate::machine::RestoreError;
use crate::mutant::mutant;

/// What is left to write of a table.
#[derive(Debug)]
pub(super) struct TableView {
    sessions: std::collections::btree_map::IntoIter<SessionId, Arc<Entry>>,
    /// Encoded and not yet handed out.
    encoded: BytesMut,
}

impl TableView {
    pub(super) fn new(table: &Table) -> Self {
        let mut encoded = BytesMut::from(MAGIC);
        encoded.put_u32_le(VERSION);
        encoded.put_u64_le(table.now.0);
        for field in table.limits.to_fields() {
            encoded.put_u64_le(field);
        }
        let sessions = mutant!(M31, std::collections::BTreeMap::new(), table.sessions.clone());
        encoded.put_u64_le(sessions.len() as u64);
        Self {
            sessions: sessions.into_iter(),
            encoded,
        }
    }

    /// The next `max_bytes` bytes, or all that is left; none at the end.
    pub(super) fn chunk(&mut self, max_bytes: usize) -> Option<Bytes> {
        while self.encoded.len() < max_bytes {
            match self.sessions.next() {
                Some((id, entry)) => encode_session(id, &entry, &mut self.encoded),
                None => break,
            }
        }
        let length = max_bytes
            .clamp(1, self.encoded.len().max(1))
            .min(self.encoded.len());
        (length > 0).then(|| self.encoded.split_to(length).freeze())
    }
}

fn encode_session(id: SessionId, entry: &Entry, out: &mut BytesMut) {
    let fields = [
        id.0,
        entry.ttl.as_millis(),
        entry.deadline.0,
        entry.acknowledged_below.0,
        entry.kept.len() as u64,
    ];
    for field in fields {
        out.put_u64_le(field);
    }
    for (seq, kept) in &entry.kept {
        out.put_u64_le(seq.0);
        match kept {
            Kept::Applied => out.put_u8(APPLIED),
            Kept::Response(response) => {
                out.put_u8(RESPONSE);
                out.put_u64_le(response.len() as u64);
                out.put_slice(response);
            }
        }
    }
}

/// Reads a table; what follows it in the chunks is left there.
pub(super) fn decode(chunks: &mut Chunks<'_>) -> Result<Table, RestoreError> {
    if chunks.take(MAGIC.len() as u64)?.as_ref() != MAGIC {
        return Err(invalid("it does not begin with a table of sessions"));
    }
    let version = chunks.take(4)?.get_u32_le();
    if version != VERSION {
        return Err(invalid(&format!(
            "version {version} of the table of sessions is unknown here; this process may be too old"
        )));
    }
    let mut table = Table::new();
    table.now = Moment(chunks.number()?);
    let mut fields = [0; LIMIT_FIELDS];
    for field in &mut fields {
        *field = chunks.number()?;
    }
    table.limits = SessionLimits::from_fields(fields);
    for _ in 0..chunks.number()? {
        let (id, entry) = decode_session(chunks)?;
        check_order(table.sessions.last_key_value().map(|(last, _)| *last), id)?;
        table.bytes += entry.bytes;
        table.sessions.insert(id, Arc::new(entry));
    }
    Ok(table)
}

fn decode_session(chunks: &mut Chunks<'_>) -> Result<(SessionId, Entry), RestoreError> {
    let id = SessionId(chunks.number()?);
    let mut entry = Entry {
        ttl: TimeToLive::from_millis(chunks.number()?),
        deadline: Moment(chunks.number()?),
        acknowledged_below: Seq(chunks.number()?),
        kept: std::collections::BTreeMap::new(),
        bytes: 0,
    };
    for _ in 0..chunks.number()? {
        let seq = Seq(chunks.number()?);
        check_order(entry.kept.last_key_value().map(|(last, _)| *last), seq)?;
        if seq < entry.acknowledged_below {
            return Err(invalid("a session holds a request that was acknowledged"));
        }
        let kept = decode_kept(chunks)?;
        if mutant!(M63) {
            continue;
        }
        entry.bytes += kept.bytes();
        entry.kept.insert(seq, kept);
    }
    Ok((id, entry))
}

fn decode_kept(chunks: &mut Chunks<'_>) -> Result<Kept, RestoreError> {
    match chunks.take(1)?.get_u8() {
        APPLIED => Ok(Kept::Applied),
        RESPONSE => {
            let length = chunks.number()?;
            Ok(Kept::Response(chunks.take(length)?))
        }
        kind => Err(invalid(&format!("there is no kind {kind} of request"))),
    }
}

fn check_order<T: PartialOrd>(last: Option<T>, next: T) -> Result<(), RestoreError> {
    match last.is_none_or(|last| last < next) {
        true => Ok(()),
        false => Err(invalid("its sessions or requests are out of order")),
    }
}

fn invalid(why: &str) -> RestoreError {
    RestoreError::Invalid(why.to_owned())
}

/// A snapshot's chunks, of which any number of bytes can be taken.
pub(super) struct Chunks<'a> {
    rest: &'a mut dyn Iterator<Item = io::Result<Bytes>>,
    current: Bytes,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(rest: &'a mut dyn Iterator<Item = io::Result<Bytes>>) -> Self {
        Self {
            rest,
            current: Bytes::new(),
        }
    }

    fn number(&mut self) -> Result<u64, RestoreError> {
        Ok(self.take(8)?.get_u64_le())
    }

    /// Exactly `length` bytes. Memory is taken for those that are there only.
    fn take(&mut self, length: u64) -> Result<Bytes, RestoreError> {
        let mut taken = BytesMut::new();
        loop {
            let wanted = length - taken.len() as u64;
            let here =
                usize::try_from(wanted).map_or(self.current.len(), |wanted| wanted.min(self.current.len()));
            let part = self.current.split_to(here);
            // What is kept for long must not keep a whole chunk in memory.
            taken.extend_from_slice(&part);
            if taken.len() as u64 == length {
                return Ok(taken.freeze());
            }
            let next = self.rest.next();
            self.current = next.ok_or_else(|| invalid("its table of sessions is cut short"))??;
        }
    }
}

impl Iterator for Chunks<'_> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.current.is_empty() {
            true => self.rest.next(),
            false => Some(Ok(std::mem::take(&mut self.current))),
        }
    }
}

const MAGIC: &[u8] = b"QUORSES\n";
const VERSION: u32 = 1;
const APPLIED: u8 = 0;
const RESPONSE: u8 = 1;
