//! Clients that connect and say nothing.
//!
//! The HTTP library waits for ever until it knows which version of HTTP a client speaks: for the first byte, or for the
//! rest of the preface of HTTP/2 (RFC 9113, section 3.4). Such a connection holds a place of its address.
//!
//! - A deadline holds until the version is known. From there on the version's own apply: the deadline for the header of a
//!   request by HTTP/1.1, pings by HTTP/2.
//! - A connection that is known to speak HTTP/2 may be silent for as long as it answers pings.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use crate::reading::{PREFACE, Reader};

/// Breaks a connection if its client does not say in time what it speaks.
pub(crate) struct Prompt {
    /// Until it is known.
    waiting: Option<Waiting>,
}

struct Waiting {
    deadline: Pin<Box<Sleep>>,
    /// So many bytes have come, all of them the preface's.
    seen: usize,
}

impl Prompt {
    /// For a connection that begins at this moment.
    pub(crate) fn within(patience: Duration) -> Prompt {
        let deadline = Box::pin(tokio::time::sleep(patience));
        let waiting = Some(Waiting { deadline, seen: 0 });
        Prompt { waiting }
    }
}

impl Waiting {
    /// Whether it is known with these bytes which version the client speaks.
    fn is_known_by(&mut self, bytes: &[u8]) -> bool {
        let expected = PREFACE.get(self.seen..).unwrap_or_default();
        self.seen += bytes.len();
        bytes.is_empty() || bytes.len() >= expected.len() || !expected.starts_with(bytes)
    }
}

impl Reader for Prompt {
    fn poll_read(
        &mut self,
        inner: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(waiting) = &mut self.waiting else {
            return inner.poll_read(context, buffer);
        };
        let before = buffer.filled().len();
        if let Poll::Ready(read) = inner.poll_read(context, buffer) {
            if waiting.is_known_by(&buffer.filled()[before..]) {
                self.waiting = None;
            }
            return Poll::Ready(read);
        }
        ready!(waiting.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, SILENT)))
    }
}

const SILENT: &str = "the client did not begin a request in time";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::reading::ReadBy;

    const SHORT: Duration = Duration::from_millis(10);

    /// How reading ends of a client that sends this, byte by byte, and then nothing more.
    async fn ending(sent: &[u8]) -> io::ErrorKind {
        let (mut client, server) = tokio::io::duplex(1);
        let sent = sent.to_vec();
        let _open = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut got = Vec::new();
        let error = ReadBy::new(Prompt::within(SHORT), server)
            .read_to_end(&mut got)
            .await;
        error.unwrap_err().kind()
    }

    #[tokio::test]
    async fn whoever_does_not_say_what_it_speaks_is_cut() {
        for length in [0, 1, 5, PREFACE.len() - 1] {
            assert_eq!(
                ending(&PREFACE[..length]).await,
                io::ErrorKind::TimedOut,
                "{length}"
            );
        }
    }

    #[tokio::test]
    async fn whoever_has_said_it_may_be_silent() {
        for begun in [&PREFACE[..], b"GET", b"PRI *x"] {
            let (mut client, server) = tokio::io::duplex(100);
            client.write_all(begun).await.unwrap();
            let mut server = ReadBy::new(Prompt::within(SHORT), server);
            let mut got = vec![0; begun.len()];
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(got, begun);
            tokio::time::sleep(2 * SHORT).await;
            let silent = futures::poll!(std::pin::pin!(server.read_u8()));
            assert!(silent.is_pending(), "{begun:?}: {silent:?}");
        }
    }
}
