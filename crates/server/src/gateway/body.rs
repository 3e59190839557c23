//! Reads a request's body, from clients who may send too much of it, too slowly, or stop.

use std::pin::Pin;
use std::time::Duration;

use axum::body::BodyDataStream;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// How much of a body is read, and how long that may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes of a message.
    pub(crate) max_bytes: usize,
    /// How long the next [`PACE_BYTES`] may take.
    pub(crate) patience: Duration,
}

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It is longer than the limit.
    TooLong,
    /// Nothing, or too little, has come for so long.
    Stalled(Duration),
    /// The connection broke.
    Broken(axum::Error),
}

impl From<BodyError> for Status {
    /// As a stream says it whose first answers are under way.
    fn from(error: BodyError) -> Status {
        match error {
            BodyError::TooLong => Status::resource_exhausted("quorate: the request is too long"),
            BodyError::Stalled(patience) => Status::cancelled(stalled(patience)),
            BodyError::Broken(error) => {
                Status::invalid_argument(format!("quorate: the request broke off: {error}"))
            }
        }
    }
}

pub(super) fn stalled(patience: Duration) -> String {
    format!("quorate: the rest of the request did not come within {patience:?}")
}

/// The pieces of a body, each of which must come in time if it is waited for.
pub(super) struct Pieces {
    pieces: Pin<Box<BodyDataStream>>,
    patience: Duration,
    deadline: Instant,
    /// Bytes that have come since the deadline was set.
    unpaced: usize,
}

impl Pieces {
    pub(super) fn of(body: Incoming, patience: Duration) -> Pieces {
        Pieces {
            pieces: Box::pin(axum::body::Body::new(body).into_data_stream()),
            patience,
            deadline: Instant::now() + patience,
            unpaced: 0,
        }
    }

    /// The next piece of a message that has begun.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        let Ok(piece) = timeout_at(self.deadline, self.pieces.next()).await else {
            return Some(Err(BodyError::Stalled(self.patience)));
        };
        let piece = piece?.map_err(BodyError::Broken);
        if let Ok(piece) = &piece {
            self.keep_pace(piece.len());
        }
        Some(piece)
    }

    /// The first piece of another message, for as long as the client takes.
    pub(super) async fn next_message(&mut self) -> Option<Result<Bytes, BodyError>> {
        let piece = self.pieces.next().await?;
        self.deadline = Instant::now() + self.patience;
        self.unpaced = 0;
        Some(piece.map_err(BodyError::Broken))
    }

    /// Reads what is left, within bounds.
    pub(super) async fn discard(mut self) {
        let mut length = 0_usize;
        while let Some(Ok(piece)) = self.next().await {
            length = length.saturating_add(piece.len());
            if length > MAX_DISCARDED_BYTES {
                return;
            }
        }
    }

    fn keep_pace(&mut self, bytes: usize) {
        self.unpaced += bytes;
        if self.unpaced >= PACE_BYTES {
            self.unpaced = 0;
            self.deadline = Instant::now() + self.patience;
        }
    }
}

/// Reads a body to its end, even if it is too long: a client that still sends does not see an answer.
pub(super) async fn read_whole(body: Incoming, limits: BodyLimits) -> Result<Bytes, BodyError> {
    let mut pieces = Pieces::of(body, limits.patience);
    let mut read = BytesMut::new();
    let mut length = 0_usize;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        length = length.saturating_add(piece.len());
        if length <= limits.max_bytes {
            read.extend_from_slice(&piece);
        } else if length > limits.max_bytes.saturating_add(MAX_DISCARDED_BYTES) {
            break;
        }
    }
    if length > limits.max_bytes {
        return Err(BodyError::TooLong);
    }
    Ok(read.freeze())
}

/// So much of a body that is too long is read for the sake of its sender.
const MAX_DISCARDED_BYTES: usize = 64 << 20;
/// Whoever sends less than this in the time that it has does not want an answer.
const PACE_BYTES: usize = 64 << 10;
