//! Connections that somebody reads along on: what a client says first is looked at before HTTP sees it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How an HTTP/2 client begins (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads a connection of its own way.
pub(crate) trait Reader: Unpin {
    /// As [`AsyncRead::poll_read`] of a connection whose bytes come from `inner`.
    fn poll_read(
        &mut self,
        inner: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;
}

/// A connection that `reader` reads; what is written to it goes as it is.
pub(crate) struct ReadBy<R, S> {
    reader: R,
    inner: S,
}

impl<R, S> ReadBy<R, S> {
    pub(crate) fn new(reader: R, inner: S) -> ReadBy<R, S> {
        ReadBy { reader, inner }
    }
}

impl<R: Reader, S: AsyncRead + Unpin> AsyncRead for ReadBy<R, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.reader.poll_read(Pin::new(&mut this.inner), context, buffer)
    }
}

impl<R: Unpin, S: AsyncWrite + Unpin> AsyncWrite for ReadBy<R, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
