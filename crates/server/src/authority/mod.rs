//! Clients whose `:authority` is none.
//!
//! By RFC 9113 (section 8.3.1) `:authority` is a host and a port. Go's gRPC clients send what their resolver was given:
//! etcd's own client 3.5.0 says `#initially=[127.0.0.1:2379]`, and etcdctl 3.4 as Debian builds it, with `--cluster`,
//! `http://127.0.0.1:2379`. etcd never looks at it; our HTTP/2 library resets such a stream with PROTOCOL_ERROR, before
//! anybody can be asked. So what a client says is read on its way in, and an authority that is none is written over.
//!
//! - A client that names a proper authority in its first request costs that one look; its connection is then left alone.
//! - What is written over it has as many bytes. Both ends keep a table of headers sent before (RFC 7541, section 2.3.2),
//!   whose entries are counted in bytes, so theirs and ours hold and drop the same ones.
//! - Nothing else is changed, and what is not understood goes on as it came: the HTTP library judges it.

mod frames;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod header_block;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::reading::Reader;
use frames::Frames;

/// Lets a connection's client name any authority.
pub(crate) struct AnyAuthority {
    /// Reads along, as long as there is a need.
    frames: Option<Frames>,
    /// What was read and has yet to be handed on.
    ready: Vec<u8>,
    handed_on: usize,
}

impl AnyAuthority {
    pub(crate) fn new() -> AnyAuthority {
        AnyAuthority {
            frames: Some(Frames::default()),
            ready: Vec::new(),
            handed_on: 0,
        }
    }

    /// Whether there was something to hand on.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = &self.ready[self.handed_on..];
        if rest.is_empty() {
            return false;
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.handed_on += count;
        if self.handed_on == self.ready.len() {
            self.ready.clear();
            self.handed_on = 0;
        }
        true
    }
}

impl Reader for AnyAuthority {
    fn poll_read(
        &mut self,
        mut inner: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.hand_on(buffer) {
                return Poll::Ready(Ok(()));
            }
            let Some(frames) = &mut self.frames else {
                return inner.poll_read(context, buffer);
            };
            let mut space = [0; READ_SIZE];
            let mut read = ReadBuf::new(&mut space);
            ready!(inner.as_mut().poll_read(context, &mut read))?;
            let has_ended = read.filled().is_empty();
            if !has_ended {
                frames.push(read.filled(), &mut self.ready);
            }
            if has_ended || frames.are_proper() {
                frames.give_up(&mut self.ready);
                self.frames = None;
            }
        }
    }
}

const READ_SIZE: usize = 4096;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::reading::{PREFACE, ReadBy};

    /// What a reader gets of what a client sends in pieces of `size` bytes.
    async fn passed(sent: &[u8], size: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(size);
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
        });
        let mut got = Vec::new();
        ReadBy::new(AnyAuthority::new(), server)
            .read_to_end(&mut got)
            .await
            .unwrap();
        sending.await.unwrap();
        got
    }

    fn connection(blocks: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frames::testing::frame(4, 0, 0, &[]));
        for (block, stream) in blocks.iter().zip((1..).step_by(2)) {
            bytes.extend(frames::testing::frame(1, 4, stream, block));
            bytes.extend(frames::testing::frame(0, 1, stream, b"\0\0\0\0\x03abc"));
        }
        bytes
    }

    #[tokio::test]
    async fn in_pieces_of_any_size_the_same_arrives() {
        use header_block::testing::{get, plain};

        let improper = [get(&plain("#initially=[a:1]")), get(&plain("http://b:2"))];
        let mended = [get(&plain("-initially--a-1-")), get(&plain("http---b-2"))];
        for size in [1, 2, 3, 10, 31, 1000] {
            let got = passed(&connection(&improper), size).await;
            assert_eq!(got, connection(&mended), "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn after_a_proper_first_request_nothing_is_looked_at() {
        use header_block::testing::{get, plain};

        let sent = connection(&[get(&plain("a:1")), get(&plain("http://b:2"))]);
        for size in [1, 7, 1000] {
            assert_eq!(passed(&sent, size).await, sent, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_not_http_2_or_ends_early_goes_on_as_it_came() {
        use header_block::testing::{get, plain};

        let whole = connection(&[get(&plain("http://b:2"))]);
        let head = PREFACE.len() + 9 + 9;
        for cut in [0, 1, 23, 24, 30, 33, 40, head, head + 5] {
            assert_eq!(passed(&whole[..cut], 8).await, &whole[..cut], "cut at {cut}");
        }
        let get = b"GET /health HTTP/1.1\r\nhost: http://b:2\r\n\r\n";
        assert_eq!(passed(get, 8).await, get);
    }
}
