//! The sending end of a stream of messages: connects, sends, connects again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_raft::{Envelope, NodeId};
use quorate_tls::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{Connection, ConnectionError};
use super::lane::Lane;
use super::roster::Contact;
use super::{Office, Standing};
use crate::codec::{StreamKind, frame};

/// Keeps a stream to `to` for ever, and sends on it what comes into the lane.
///
/// The roster need not have its contact any more: a member that was left out is still sent to for a while.
pub(super) async fn keep_sending(office: Arc<Office>, to: NodeId, contact: Contact, lane: Arc<Lane>) {
    let mut backoff = Backoff::new(office.patience / 2);
    loop {
        let peer = office.roster().describe_at(to, &contact);
        let error = match Connection::dial(&office, to, &contact.address, StreamKind::Messages).await {
            Ok(connection) => {
                tracing::info!(%peer, "connected");
                office.note_standing(to, Standing::Member);
                backoff.reset();
                lane.connect();
                let ended = send_all(&office, to, &lane, connection.into_stream()).await;
                lane.disconnect();
                ended
            }
            Err(error) => error,
        };
        if error.is_refused() {
            office.deliver.peer_gone(to);
        }
        if error.says_removed() {
            office.note_standing(to, Standing::Removed);
        }
        // A peer that is down is told of once in a while, not at each attempt.
        if office
            .complaints
            .is_due(Some(to), &error.to_string(), Instant::now())
        {
            tracing::warn!(%peer, %error, "not connected");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Sends until the connection ends, and says how it did.
async fn send_all(office: &Office, to: NodeId, lane: &Lane, stream: Stream) -> ConnectionError {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut batch = Vec::new();
    let mut buffer = BytesMut::new();
    let mut nothing = [0; 1];
    loop {
        tokio::select! {
            read = reader.read(&mut nothing) => {
                return match read {
                    Ok(0) => ConnectionError::Closed,
                    Ok(_) => ConnectionError::Unexpected("answering"),
                    Err(error) => error.into(),
                };
            }
            () = lane.take(&mut batch) => {
                let sent = send_batch(&mut writer, &mut batch, &mut buffer).await;
                match sent {
                    Ok(bytes) => if let Some(observer) = &office.observer {
                        observer.sent(to, bytes);
                    },
                    Err(error) => return error.into(),
                }
            }
        }
    }
}

/// Writes all messages, many of them with one call to the system; says how many bytes.
async fn send_batch(
    writer: &mut (impl AsyncWriteExt + Unpin),
    batch: &mut Vec<Envelope>,
    buffer: &mut BytesMut,
) -> std::io::Result<usize> {
    let mut bytes = 0;
    for envelope in batch.drain(..) {
        frame::encode_message(&envelope, buffer);
        if buffer.len() >= WRITE_BYTES {
            writer.write_all(buffer).await?;
            bytes += buffer.len();
            buffer.clear();
        }
    }
    writer.write_all(buffer).await?;
    writer.flush().await?;
    bytes += buffer.len();
    buffer.clear();
    if buffer.capacity() > KEPT_BYTES {
        *buffer = BytesMut::new();
    }
    Ok(bytes)
}

/// Pauses between attempts: each about twice the one before, none the same at two nodes.
pub(super) struct Backoff {
    pause: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            pause: FIRST_PAUSE,
            longest,
        }
    }

    pub(super) fn reset(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.longest);
        // Without randomness there is no jitter, and nothing worse.
        let permille = getrandom::u32().unwrap_or(0) % 1000;
        pause / 2 + pause * permille / 2000
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// How much is gathered for one write, in bytes.
const WRITE_BYTES: usize = 256 << 10;
/// How large a buffer is kept for the next batch, in bytes.
const KEPT_BYTES: usize = 4 << 20;
