//! Connections: requests whose authority is proper or not, written out or Huffman-coded, padded and continued.

use crate::tagged;

pub fn seeds() -> Vec<Vec<u8>> {
    let blocks = [
        get(&plain("127.0.0.1:2379")),
        get(&plain("#initially=[127.0.0.1:2379]")),
        get(&plain("http://127.0.0.1:2379")),
        // `http://a`, Huffman-coded.
        get(&[0x86, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x0f]),
    ];
    let mut seeds: Vec<Vec<u8>> = blocks.iter().map(|block| tagged(1 + 6, request(block))).collect();
    let one_after_another: Vec<Vec<u8>> = blocks.iter().rev().map(|block| request(block)).collect();
    seeds.push(tagged(1 + 2 * 40, one_after_another.concat()));
    seeds.push(tagged(1, continued(&blocks[1])));
    let whole = [
        PREFACE,
        &[0, 0, blocks[1].len() as u8, HEADERS, END_HEADERS, 0, 0, 0, 1],
        &blocks[1],
    ]
    .concat();
    seeds.push(tagged(2 * 10, whole));
    seeds.push(tagged(0, b"GET /health HTTP/1.1\r\nhost: http://b:2\r\n\r\n"));
    seeds
}

/// A GET, as the target's steps: settings, headers in three dresses, data.
fn request(block: &[u8]) -> Vec<u8> {
    let padded = [&[2, 0, 0, 0, 1, 200], block, &[0, 0]].concat();
    [
        frame(3, 0, &[0, 4, 0, 1, 0, 0]),
        frame(0, END_HEADERS, block),
        frame(0, END_HEADERS | PADDED | PRIORITY, &padded),
        frame(2, 1, b"\0\0\0\0\x03abc"),
    ]
    .concat()
}

fn continued(block: &[u8]) -> Vec<u8> {
    let (start, end) = block.split_at(10);
    [frame(0, 0, start), frame(4, END_HEADERS, end)].concat()
}

/// A frame as the target's step; its kind is a place in the target's list of kinds.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let count = u8::try_from(payload.len()).expect("a seed is short");
    [&[kind, flags, count], payload].concat()
}

/// GET, http, /, a path written out; the authority; user-agent: x.
fn get(authority: &[u8]) -> Vec<u8> {
    [
        &[0x82, 0x86, 0x84, 0x04, 0x02, b'/', b'b', 0x41],
        authority,
        &[0x7a, 0x01, b'x'],
    ]
    .concat()
}

fn plain(authority: &str) -> Vec<u8> {
    tagged(u8::try_from(authority.len()).expect("a seed is short"), authority)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
