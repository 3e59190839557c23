//! Snapshots of the keyspace, in any bytes: they are a state or refused, and a state works as any other.
//!
//! The input is a byte that says what it is: a snapshot as it is, or frames, each of a byte for its kind, two
//! that count, and as many bytes as they count. Frames are given true checksums and a true end.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate_kv::{Caller, Command, DeleteRange, KeyRange, Keyspace, Proposal, Put, PutParts};

fuzz_target!(|data: &[u8]| {
    let [form, rest @ ..] = data else { return };
    let stream = match form % 3 {
        0 => rest.to_vec(),
        format => framed(format, rest),
    };
    let mut chunks = stream
        .chunks(usize::from(form >> 2) * 16 + 16)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
    if let Ok(keyspace) = Keyspace::restore(&mut chunks) {
        live(keyspace);
    }
});

/// It can be restored again, read, written and compacted.
fn live(mut keyspace: Keyspace) {
    let chunks = snapshot(&mut keyspace);
    let mut again = Keyspace::restore(&mut chunks.iter().cloned().map(Ok)).expect("a snapshot is whole");
    assert_eq!(snapshot(&mut again), chunks);
    assert_eq!(again.hash_kv(None), keyspace.hash_kv(None));
    let ids: Vec<_> = keyspace.leases().map(|(id, _)| id).collect();
    let lease = ids.first().map_or(0, |id| id.0);
    apply(&mut keyspace, Command::LeaseRenew { ids });
    let parts = PutParts {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease,
        prev_kv: true,
        ignore_value: false,
        ignore_lease: false,
    };
    apply(
        &mut keyspace,
        Command::Put(Put::parse(parts).expect("it is a put")),
    );
    let delete = DeleteRange {
        keys: KeyRange::all(),
        prev_kv: true,
    };
    let is_empty = apply(&mut keyspace, Command::DeleteRange(delete));
    let revision = keyspace.revision();
    apply(&mut keyspace, Command::Compact { revision });
    while keyspace.compact_step(1) {}
    assert!(!is_empty || keyspace.size().keys == 0);
}

/// Whether it was not refused: alarms may forbid it.
fn apply(keyspace: &mut Keyspace, command: Command) -> bool {
    let caller = Caller::Member;
    keyspace.apply(Proposal { caller, command }).result.is_ok()
}

fn snapshot(keyspace: &mut Keyspace) -> Vec<Bytes> {
    let mut snapshot = keyspace.begin_snapshot();
    std::iter::from_fn(|| keyspace.snapshot_chunk(&mut snapshot, 4096)).collect()
}

fn framed(format: u8, mut steps: &[u8]) -> Vec<u8> {
    let mut stream = [MAGIC, &[format]].concat();
    let (mut frames, mut records) = (0, 0);
    while let [kind, low, high, tail @ ..] = steps {
        let count = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (payload, tail) = tail.split_at(count);
        steps = tail;
        put_frame(kind % 10, payload, &mut stream);
        frames += 1;
        if kind % 10 == RECORDS {
            records += records_in(payload);
        }
    }
    let end = [&[1 << 3], &varint(frames)[..], &[2 << 3], &varint(records)].concat();
    put_frame(END, &end, &mut stream);
    stream
}

fn put_frame(kind: u8, payload: &[u8], stream: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("it is short");
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
    stream.extend(length.to_le_bytes());
    stream.extend(checksum.to_le_bytes());
    stream.push(kind);
    stream.extend(payload);
}

fn records_in(mut payload: &[u8]) -> u64 {
    let mut count = 0;
    while let Some((length, rest)) = payload.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        payload = rest.get(length..).unwrap_or_default();
        count += 1;
    }
    count
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

const MAGIC: &[u8] = b"QUORKVS";
const RECORDS: u8 = 5;
const END: u8 = 6;
