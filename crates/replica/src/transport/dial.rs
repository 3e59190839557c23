//! The sending end of a stream of messages: connects, sends, connects again.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::{Envelope, NodeId};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::connection::{Connection, ConnectionError};
use super::lane::Lane;
use super::ping::Pings;
use super::roster::Contact;
use super::{Membership, Office};
use crate::codec::frame::MAX_HANDSHAKE_BYTES;
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
                office.note_membership(to, Membership::Member);
                backoff.reset();
                Sending::begin(&office, to, &lane).run(connection).await
            }
            Err(error) => error,
        };
        if error.is_refused() {
            office.deliver.peer_gone(to);
        }
        if error.says_removed() {
            office.note_membership(to, Membership::Removed);
        }
        // A peer that is down is told of once in a while, not at each attempt.
        if office
            .complaints
            .is_due(Some(to), &error.to_string(), std::time::Instant::now())
        {
            tracing::warn!(%peer, %error, "not connected");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// A stream that stands. What waits when it is dropped, or is being written, is lost.
struct Sending<'a> {
    office: &'a Office,
    to: NodeId,
    lane: &'a Lane,
    /// What is being written.
    batch: Vec<Envelope>,
    buffer: BytesMut,
}

impl<'a> Sending<'a> {
    fn begin(office: &'a Office, to: NodeId, lane: &'a Lane) -> Self {
        lane.connect();
        office.observe(|observer| observer.connected(to));
        Self {
            office,
            to,
            lane,
            batch: Vec::new(),
            buffer: BytesMut::new(),
        }
    }

    /// Sends until the connection ends, and says how it did.
    async fn run(mut self, mut connection: Connection) -> ConnectionError {
        let mut pings = Pings::on(&connection);
        loop {
            let went_on = tokio::select! {
                heard = connection.fill() => match heard {
                    Ok(_) => self.hear(&mut connection, &mut pings),
                    Err(error) => Err(error),
                },
                () = self.lane.take(&mut self.batch) => self.send_batch(&mut connection).await,
                () = pings.due() => match pings.next(Instant::now()) {
                    Some(ping) => connection.write(&ping).await,
                    None => Ok(()),
                },
            };
            if let Err(error) = went_on {
                return error;
            }
        }
    }

    /// Takes the answers to pings; there is nothing else that the other end may say.
    fn hear(&self, connection: &mut Connection, pings: &mut Pings) -> Result<(), ConnectionError> {
        while let Some(frame) = connection.next(MAX_HANDSHAKE_BYTES)? {
            let round_trip = pings.answered(&frame, Instant::now())?;
            self.office
                .observe(|observer| observer.round_trip(self.to, round_trip));
        }
        Ok(())
    }

    async fn send_batch(&mut self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let bytes = write_batch(connection.writer(), &self.batch, &mut self.buffer).await?;
        self.batch.clear();
        self.office.observe(|observer| observer.sent(self.to, bytes));
        Ok(())
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let lost = self.lane.disconnect() + self.batch.len();
        self.office.observe(|observer| {
            observer.disconnected(self.to);
            if lost > 0 {
                observer.not_sent(self.to, lost);
            }
        });
    }
}

/// Writes all messages, many of them with one call to the system; says how many bytes.
async fn write_batch(
    writer: &mut (impl AsyncWriteExt + Unpin),
    batch: &[Envelope],
    buffer: &mut BytesMut,
) -> std::io::Result<usize> {
    let mut bytes = 0;
    for envelope in batch {
        frame::encode_message(envelope, buffer);
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
