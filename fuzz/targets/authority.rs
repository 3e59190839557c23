//! Connections whose clients may name any authority: a connection goes on alike however it arrives, nothing is
//! changed but authorities that are none, and both ends' tables of headers stay alike.
//!
//! The input is a byte that says in what pieces it arrives and what it is: a connection as it is, or frames,
//! each of a byte for its kind, one for its flags, one that counts, and as many bytes as it counts.

#![no_main]

use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use loona_hpack::Decoder;
use quorate_server::fuzzing::mended;

fuzz_target!(|data: &[u8]| {
    let [form, rest @ ..] = data else { return };
    let sent = match form % 2 {
        0 => rest.to_vec(),
        _ => connection(rest),
    };
    let got = mended([&sent[..]]);
    assert_eq!(mended(sent.chunks(usize::from(form >> 1) + 1)), got, "in pieces");
    let Some((sent_frames, got_frames)) = frames(&sent).zip(frames(&got)) else {
        assert_eq!(sent, got, "this is no HTTP/2");
        return;
    };
    compare(&sent_frames, &got_frames);
    if authorities(&sent_frames).is_some_and(|all| all.iter().all(|one| is_proper(one))) {
        assert_eq!(sent, got, "all authorities are proper");
    }
});

fn connection(mut steps: &[u8]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    while let [kind, flags, count, tail @ ..] = steps {
        let (payload, tail) = tail.split_at(tail.len().min(usize::from(*count)));
        steps = tail;
        // Among few kinds, that those which matter come often.
        bytes.extend([
            0,
            0,
            payload.len() as u8,
            KINDS[usize::from(*kind) % KINDS.len()],
            *flags,
        ]);
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(payload);
    }
    bytes
}

struct Frame<'a> {
    /// Kind, flags and stream.
    head: [u8; 6],
    payload: &'a [u8],
}

/// The frames of a connection; what is left at its end, too. None if it does not begin as one.
fn frames(connection: &[u8]) -> Option<Vec<Frame<'_>>> {
    let mut rest = connection.strip_prefix(PREFACE)?;
    let mut found = Vec::new();
    while let [a, b, c, head @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((head, tail)) = head
            .split_first_chunk::<6>()
            .filter(|(_, tail)| tail.len() >= length)
        else {
            break;
        };
        let (payload, tail) = tail.split_at(length);
        rest = tail;
        found.push(Frame { head: *head, payload });
    }
    found.push(Frame {
        head: [0; 6],
        payload: rest,
    });
    Some(found)
}

/// All is as it was, but for authorities.
fn compare(sent: &[Frame<'_>], got: &[Frame<'_>]) {
    assert_eq!(sent.len(), got.len());
    for (one, other) in sent.iter().zip(got) {
        assert_eq!(one.head, other.head);
        assert!(one.payload == other.payload || one.head[0] == HEADERS);
    }
    let (mut sent_end, mut got_end) = (Decoder::new(), Decoder::new());
    for (one, other) in blocks(sent).into_iter().zip(blocks(got)) {
        let Some((one, other)) = one.zip(other) else {
            return;
        };
        let Ok(one) = sent_end.decode(&one) else { return };
        let other = got_end.decode(&other).expect("what was readable still is");
        assert_eq!(one.len(), other.len());
        for ((name, value), (new_name, new_value)) in one.into_iter().zip(other) {
            // As long as it was: the entry has the same size in the table.
            assert_eq!((&name, value.len()), (&new_name, new_value.len()));
            let is_mended = name == b":authority" && !is_proper(&value) && is_proper(&new_value);
            assert!(value == new_value || is_mended, "{value:?} became {new_value:?}");
        }
    }
}

/// All authorities; none if the headers cannot be read.
fn authorities(frames: &[Frame<'_>]) -> Option<Vec<Vec<u8>>> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for block in blocks(frames) {
        let headers = decoder.decode(&block?).ok()?;
        found.extend(
            headers
                .into_iter()
                .filter(|(name, _)| name == b":authority")
                .map(|(_, value)| value),
        );
    }
    Some(found)
}

fn is_proper(authority: &[u8]) -> bool {
    Authority::try_from(authority).is_ok()
}

/// The header blocks, each with its continuations; none in the place of one that is malformed.
fn blocks(frames: &[Frame<'_>]) -> Vec<Option<Vec<u8>>> {
    let mut found: Vec<Option<Vec<u8>>> = Vec::new();
    for frame in frames {
        match frame.head[0] {
            HEADERS if !frame.payload.is_empty() => found.push(block_of(frame).map(<[u8]>::to_vec)),
            CONTINUATION => match found.last_mut() {
                Some(Some(block)) => block.extend(frame.payload),
                _ => found.push(None),
            },
            _ => {}
        }
    }
    found
}

fn block_of<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    let (flags, mut block) = (frame.head[1], frame.payload);
    if flags & PADDED != 0 {
        let (padding, rest) = block.split_first()?;
        block = &rest[..rest.len().checked_sub(usize::from(*padding))?];
    }
    if flags & PRIORITY != 0 {
        block = block.get(5..)?;
    }
    Some(block)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
const KINDS: [u8; 5] = [HEADERS, HEADERS, 0, 4, CONTINUATION];
