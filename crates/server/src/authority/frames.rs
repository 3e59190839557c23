//! The frames of an HTTP/2 connection, as far as it takes to find its requests' headers (RFC 9113, sections 3.4, 4.1, 6.2).

use super::header_block::{self, Seen};
use crate::reading::PREFACE;

/// Reads along with one connection.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    /// What was read and can't be handed on before the rest of it is here.
    held: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// Of the preface, so many bytes have been seen.
    Preface(usize),
    FrameHeader,
    /// The payload of a frame of headers, of so many bytes.
    Headers(usize),
    /// So many bytes that are none of our concern.
    Skip(usize),
    /// There is nothing to mend here.
    Proper,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames {
            state: State::Preface(0),
            held: Vec::new(),
        }
    }
}

impl Frames {
    /// Takes what was read, and appends to `out` what can be handed on.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Preface(seen) => self.preface(seen, bytes, out),
                State::FrameHeader => self.frame_header(bytes, out),
                State::Headers(length) => self.headers(length, bytes, out),
                State::Skip(count) => {
                    let (skipped, rest) = bytes.split_at(count.min(bytes.len()));
                    out.extend_from_slice(skipped);
                    self.skip(count - skipped.len());
                    rest
                }
                State::Proper => {
                    out.extend_from_slice(bytes);
                    &[]
                }
            };
        }
    }

    /// Whether nothing further needs to be read along.
    pub(super) fn are_proper(&self) -> bool {
        matches!(self.state, State::Proper)
    }

    /// Hands on what was held, as it came.
    pub(super) fn give_up(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.state = State::Proper;
    }

    fn preface<'a>(&mut self, seen: usize, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let expected = &PREFACE[seen..];
        let (new, rest) = bytes.split_at(expected.len().min(bytes.len()));
        out.extend_from_slice(new);
        self.state = if new != &expected[..new.len()] {
            State::Proper
        } else if new.len() == expected.len() {
            State::FrameHeader
        } else {
            State::Preface(seen + new.len())
        };
        rest
    }

    fn frame_header<'a>(&mut self, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(rest) = self.hold(FRAME_HEADER, bytes) else {
            return &[];
        };
        let length = usize::try_from(u32::from_be_bytes([0, self.held[0], self.held[1], self.held[2]]))
            .expect("24 bits fit");
        if self.held[3] == HEADERS && (1..=MAX_FRAME).contains(&length) {
            self.state = State::Headers(length);
        } else {
            out.append(&mut self.held);
            self.skip(length);
        }
        rest
    }

    fn headers<'a>(&mut self, length: usize, bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(rest) = self.hold(FRAME_HEADER + length, bytes) else {
            return &[];
        };
        let block = block_of(&self.held);
        match header_block::look(&self.held[block.clone()]) {
            Seen::Proper => {
                self.state = State::Proper;
                out.append(&mut self.held);
                return rest;
            }
            Seen::Nothing => {}
            Seen::Mended(mended) => {
                let length = length - block.len() + mended.len();
                if length <= MAX_FRAME {
                    let length = u32::try_from(length).expect("a frame's length").to_be_bytes();
                    self.held.splice(block, mended);
                    self.held[..3].copy_from_slice(&length[1..]);
                }
            }
        }
        out.append(&mut self.held);
        self.state = State::FrameHeader;
        rest
    }

    /// Holds bytes until there are `count`: what is left of `bytes` then.
    fn hold<'a>(&mut self, count: usize, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (new, rest) = bytes.split_at((count - self.held.len()).min(bytes.len()));
        self.held.extend_from_slice(new);
        (self.held.len() == count).then_some(rest)
    }

    fn skip(&mut self, count: usize) {
        self.state = match count {
            0 => State::FrameHeader,
            _ => State::Skip(count),
        };
    }
}

/// Where in a frame of headers its header block is: without padding and priority.
fn block_of(frame: &[u8]) -> std::ops::Range<usize> {
    let flags = frame[4];
    let (mut start, mut end) = (FRAME_HEADER, frame.len());
    if flags & PADDED != 0 {
        end = end.saturating_sub(usize::from(frame[start]));
        start += 1;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    if start > end {
        FRAME_HEADER..FRAME_HEADER
    } else {
        start..end
    }
}

const FRAME_HEADER: usize = 9;

/// The greatest frame that our end takes, as it never offers a greater one.
const MAX_FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

#[cfg(test)]
pub(super) mod testing {
    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::super::header_block::testing::{get, huffman_http_a, plain};
    use super::testing::frame;
    use super::*;

    fn pushed(frames: &[Vec<u8>]) -> (Frames, Vec<u8>) {
        let (mut reader, mut out) = (Frames::default(), Vec::new());
        reader.push(PREFACE, &mut out);
        assert_eq!(out, PREFACE);
        out.clear();
        reader.push(&frames.concat(), &mut out);
        (reader, out)
    }

    #[test]
    fn padding_and_priority_stay_where_they_are() {
        let dress = |block: &[u8]| [&[2, 0, 0, 0, 1, 200], block, &[0, 0]].concat();
        let flags = 4 | PADDED | PRIORITY;
        let improper = frame(1, flags, 1, &dress(&get(&plain("http://b"))));
        let mended = frame(1, flags, 1, &dress(&get(&plain("http---b"))));
        assert_eq!(pushed(&[improper]).1, mended);
    }

    #[test]
    fn other_frames_do_not_end_the_search() {
        let settings = frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]);
        let update = frame(8, 0, 0, &[0, 0, 1, 0]);
        let (reader, out) = pushed(&[settings.clone(), update.clone()]);
        assert!(!reader.are_proper());
        assert_eq!(out, [settings, update].concat());
    }

    #[test]
    fn headers_that_make_no_sense_go_on_as_they_came() {
        let cases = [
            frame(1, 4, 1, &[]),
            frame(1, 4 | PADDED, 1, &[9, 0x82]),
            frame(1, 4 | PRIORITY, 1, &[0x82]),
            frame(1, 4, 1, &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            frame(1, 4, 1, &vec![0x41; MAX_FRAME + 1]),
        ];
        for case in cases {
            assert_eq!(pushed(std::slice::from_ref(&case)).1, case);
        }
    }

    /// A frame can't grow beyond what our end takes.
    #[test]
    fn a_full_frame_is_left_alone() {
        let mut block = get(&huffman_http_a());
        block.resize(MAX_FRAME, 0x82);
        let full = frame(1, 4, 1, &block);
        assert_eq!(pushed(std::slice::from_ref(&full)).1, full);
    }
}
