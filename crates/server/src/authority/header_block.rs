//! A header block of HPACK (RFC 7541, section 6), as far as it takes to find `:authority` written out.
//!
//! Once written out it is in the table of both ends, and later requests refer to it by its place there: those need no
//! mending. An encoder that writes it anew finds its name in the static table, as entry 1.

use http::uri::Authority;
use loona_hpack::huffman::HuffmanDecoder;

/// What there was in a header block.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    /// No authority is written out, or one that can't be read.
    Nothing,
    /// An authority as it should be.
    Proper,
    /// Here is the block with another authority.
    Mended(Vec<u8>),
}

/// Looks for an authority.
pub(super) fn look(block: &[u8]) -> Seen {
    let mut at = 0;
    while let Some(field) = field(block, at) {
        if let Some(value) = field.value.filter(|_| field.name == Some(AUTHORITY)) {
            return look_at(block, value, field.end);
        }
        at = field.end;
    }
    Seen::Nothing
}

/// Looks at an authority, which is written at `start..end`, from its length on.
fn look_at(block: &[u8], start: usize, end: usize) -> Seen {
    let Some((data, length)) = integer(block, start, 7) else {
        return Seen::Nothing;
    };
    let data = &block[data..][..length];
    let authority = if block[start] & HUFFMAN == 0 {
        data.to_vec()
    } else {
        match HuffmanDecoder::new().decode(data) {
            Ok(authority) => authority,
            Err(_) => return Seen::Nothing,
        }
    };
    if Authority::try_from(authority.as_slice()).is_ok() {
        return Seen::Proper;
    }
    let stand_in: Vec<u8> = authority.into_iter().map(host_byte).collect();
    if Authority::try_from(stand_in.as_slice()).is_err() {
        return Seen::Nothing;
    }
    let mut mended = block[..start].to_vec();
    write_length(stand_in.len(), &mut mended);
    mended.extend(stand_in);
    mended.extend_from_slice(&block[end..]);
    Seen::Mended(mended)
}

/// The byte itself, if a host's name may have it.
fn host_byte(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => byte,
        _ => b'-',
    }
}

/// One field of a header block.
struct Field {
    /// The name's place in the table, unless it is written out.
    name: Option<usize>,
    /// Where the value begins, with its length, if it is written out.
    value: Option<usize>,
    end: usize,
}

/// The field at `at`: nothing at the end of the block, and where the block breaks off.
fn field(block: &[u8], at: usize) -> Option<Field> {
    let first = *block.get(at)?;
    let (prefix, has_value) = match first {
        0x80.. => (7, false),
        // With incremental indexing.
        0x40.. => (6, true),
        // An update of the table's size.
        0x20.. => (5, false),
        _ => (4, true),
    };
    let (mut end, index) = integer(block, at, prefix)?;
    if !has_value {
        return Some(Field {
            name: None,
            value: None,
            end,
        });
    }
    let name = (index != 0).then_some(index);
    if name.is_none() {
        end = after_string(block, end)?;
    }
    Some(Field {
        name,
        value: Some(end),
        end: after_string(block, end)?,
    })
}

/// Where a string at `at` has ended.
fn after_string(block: &[u8], at: usize) -> Option<usize> {
    let (data, length) = integer(block, at, 7)?;
    let end = data.checked_add(length)?;
    (end <= block.len()).then_some(end)
}

/// An integer whose first byte has it in its last `prefix` bits (section 5.1): where it has ended, and the integer.
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let most = (1 << prefix) - 1;
    let first = usize::from(*block.get(at)?) & most;
    if first < most {
        return Some((at + 1, first));
    }
    let mut sum = most;
    for (place, byte) in block[at + 1..].iter().take(MAX_INTEGER).enumerate() {
        sum += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((at + 2 + place, sum));
        }
    }
    None
}

/// Writes the length of a string that is not Huffman-coded.
fn write_length(length: usize, out: &mut Vec<u8>) {
    const MOST: usize = 0x7f;
    let Some(mut rest) = length.checked_sub(MOST) else {
        out.push(u8::try_from(length).expect("below 127"));
        return;
    };
    out.push(0x7f);
    while rest > MOST {
        out.push(u8::try_from(rest & MOST).expect("7 bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("7 bits"));
}

/// `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
const HUFFMAN: u8 = 0x80;

/// So many bytes after the first of an integer: 28 bits, more than a frame has bytes.
const MAX_INTEGER: usize = 4;

#[cfg(test)]
pub(super) mod testing {
    /// The headers of a request, with an authority, and one after it.
    pub(crate) fn get(authority: &[u8]) -> Vec<u8> {
        // GET, http, /, a path written out without indexing; then user-agent: x.
        let mut block = vec![0x82, 0x86, 0x84, 0x04, 0x02, b'/', b'b'];
        block.push(0x41);
        block.extend(authority);
        block.extend([0x7a, 0x01, b'x']);
        block
    }

    /// An authority with its length.
    pub(crate) fn plain(authority: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        super::write_length(authority.len(), &mut bytes);
        bytes.extend(authority.bytes());
        bytes
    }

    /// `http://a`, Huffman-coded, with its length.
    pub(crate) fn huffman_http_a() -> Vec<u8> {
        // h 100111, t 01001, t 01001, p 101011, : 1011100, / 011000, / 011000, a 00011.
        vec![0x86, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x0f]
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{get, huffman_http_a, plain};
    use super::*;

    #[test]
    fn an_authority_that_is_none_is_written_over_with_as_many_bytes() {
        let cases = [
            ("#initially=[127.0.0.1:2379]", "-initially--127.0.0.1-2379-"),
            (
                "#initially=[http://a:1;http://b:2]",
                "-initially--http---a-1-http---b-2-",
            ),
            ("http://127.0.0.1:2379", "http---127.0.0.1-2379"),
            ("/var/run/etcd.sock", "-var-run-etcd.sock"),
            ("a b\u{fc}", "a-b--"),
        ];
        for (improper, stand_in) in cases {
            let mended = get(&plain(stand_in));
            assert_eq!(look(&get(&plain(improper))), Seen::Mended(mended), "{improper}");
        }
    }

    #[test]
    fn a_proper_authority_is_left_alone() {
        for authority in [
            "127.0.0.1:2379",
            "[::1]:2379",
            "etcd.example",
            "u@h:1",
            "localhost",
        ] {
            assert_eq!(look(&get(&plain(authority))), Seen::Proper, "{authority}");
        }
    }

    #[test]
    fn one_that_is_huffman_coded_is_read_too() {
        let mended = get(&plain("http---a"));
        assert_eq!(look(&get(&huffman_http_a())), Seen::Mended(mended));
    }

    #[test]
    fn all_three_kinds_of_literals_are_found() {
        for kind in [0x41, 0x01, 0x11] {
            let block = |authority: &str| [&[kind], plain(authority).as_slice()].concat();
            assert_eq!(look(&block("a/b")), Seen::Mended(block("a-b")));
        }
    }

    #[test]
    fn long_lengths_are_read_and_written() {
        for length in [126, 127, 128, 254, 255, 256, 10_000] {
            let block = get(&plain(&"/".repeat(length)));
            let mended = get(&plain(&"-".repeat(length)));
            assert_eq!(look(&block), Seen::Mended(mended), "{length}");
        }
    }

    /// Later requests refer to the table of headers sent before.
    #[test]
    fn a_block_without_one_tells_nothing() {
        assert_eq!(look(&[0x82, 0x86, 0xbe, 0x3f, 0xe1, 0x1f, 0xbf]), Seen::Nothing);
        assert_eq!(look(&[]), Seen::Nothing);
    }

    #[test]
    fn a_block_that_breaks_off_tells_nothing() {
        let block = get(&plain("http://b:2"));
        let end = block.len() - 3;
        for cut in 0..end {
            assert_eq!(look(&block[..cut]), Seen::Nothing, "cut at {cut}");
        }
        assert!(matches!(look(&block[..end]), Seen::Mended(_)));
    }

    #[test]
    fn any_bytes_are_borne() {
        let mut state = 1_u64;
        for length in 0..20_000 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            };
            let block: Vec<u8> = (0..length % 64).map(|_| next()).collect();
            if let Seen::Mended(mended) = look(&block) {
                assert!(mended.len() <= 2 * block.len() + 2);
            }
        }
    }
}
