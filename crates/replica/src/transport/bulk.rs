//! Snapshots on their way: chunk by chunk, each checked, resumed where a connection broke.
//!
//! - The file that is being sent is kept until the transfer has ended.
//! - The receiver's core hears of a snapshot when all of it is durable there.
//! - One snapshot at a time is received. A half-received one is kept for its sender to go on.
//! - Files are read and written on threads made for waiting: messages go on meanwhile.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_raft::{Delivery, EntryId, MemberKind, Message, NodeId, SendSnapshot, SnapshotMeta};
use quorate_wal::CheckpointError;
use tokio::task::spawn_blocking;

use super::Office;
use super::connection::{Connection, ConnectionError};
use super::dial::Backoff;
use crate::codec::frame::SnapshotOffer;
use crate::codec::{Frame, Refusal, StreamKind};
use crate::config::SnapshotWay;
use crate::storage::{Outgoing, SnapshotWriter, StorageError};

/// A snapshot of which some chunks have arrived.
pub(super) struct Receiving {
    from: NodeId,
    id: EntryId,
    life: u64,
    writer: SnapshotWriter,
}

/// A transfer as the observer sees it, from its beginning until it is dropped.
struct Transfer<'a> {
    office: &'a Office,
    way: SnapshotWay,
    began: Instant,
    outcome: Delivery,
}

impl<'a> Transfer<'a> {
    fn begin(office: &'a Office, way: SnapshotWay) -> Self {
        office.observe(|observer| observer.snapshot_began(way));
        Self {
            office,
            way,
            began: Instant::now(),
            outcome: Delivery::Failed,
        }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        let Self { way, outcome, .. } = *self;
        let duration = self.began.elapsed();
        self.office
            .observe(|observer| observer.snapshot_ended(way, outcome, duration));
    }
}

/// Brings a snapshot to a peer, and reports how that ended.
pub(super) async fn send(office: Arc<Office>, request: SendSnapshot) {
    let id = request.meta.id;
    let peer = office.describe(request.announcement.to);
    let mut transfer = Transfer::begin(&office, SnapshotWay::To(request.announcement.to));
    let outcome = match bring(&office, request.clone()).await {
        Ok(()) => {
            transfer.outcome = Delivery::Delivered;
            tracing::info!(%peer, %id, "a snapshot was delivered");
            Delivery::Delivered
        }
        Err(why) => {
            tracing::warn!(%peer, %id, %why, "a snapshot was not delivered");
            Delivery::Failed
        }
    };
    drop(transfer);
    office.deliver.snapshot_sent(request.ended(outcome));
}

async fn bring(office: &Arc<Office>, request: SendSnapshot) -> Result<(), String> {
    let to = request.announcement.to;
    let id = request.meta.id;
    let snapshots = office.snapshots.clone();
    let opened = spawn_blocking(move || snapshots.send(id)).await;
    let outgoing = opened
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let offer = SnapshotOffer {
        announcement: request.announcement,
        chunks: match request.kind {
            MemberKind::Full => outgoing.chunks(),
            // It has the members and the place in the log, and wants no state.
            MemberKind::Witness => 0,
        },
        life: office.life,
    };
    let outgoing = Arc::new(outgoing);
    let mut backoff = Backoff::new(office.patience);
    let mut attempts = 1;
    loop {
        match attempt(office, to, &offer, &outgoing).await {
            Ok(()) => return Ok(()),
            Err(error) if attempts == MAX_ATTEMPTS => return Err(error.to_string()),
            Err(error) => tracing::debug!(%to, %id, %error, "a transfer of a snapshot was interrupted"),
        }
        attempts += 1;
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn attempt(
    office: &Office,
    to: NodeId,
    offer: &SnapshotOffer,
    outgoing: &Arc<Outgoing>,
) -> Result<(), ConnectionError> {
    let roster = office.roster();
    let contact = roster.contacts().get(&to).ok_or(ConnectionError::Left)?;
    let mut connection = Connection::dial(office, to, &contact.address, StreamKind::Bulk).await?;
    connection.write(&Frame::SnapshotOffer(offer.clone())).await?;
    let first = match connection.read_soon(ANSWER).await? {
        Frame::SnapshotResume { next } => next,
        Frame::SnapshotDone => return Ok(()),
        Frame::Refusal(refusal) => return Err(refusal.into()),
        other => return Err(ConnectionError::Unexpected(other.name())),
    };
    for number in first..offer.chunks {
        let file = Arc::clone(outgoing);
        let data = blocking(move || file.chunk(number)).await??;
        connection.write(&Frame::SnapshotChunk { number, data }).await?;
    }
    match connection.read_soon(ANSWER).await? {
        Frame::SnapshotDone => Ok(()),
        Frame::Refusal(refusal) => Err(refusal.into()),
        other => Err(ConnectionError::Unexpected(other.name())),
    }
}

/// Takes the snapshots that a peer offers until the connection ends.
pub(super) async fn receive(
    office: &Office,
    mut connection: Connection,
    from: NodeId,
) -> Result<Infallible, ConnectionError> {
    loop {
        let frame = connection.read_soon(ANSWER).await?;
        let Frame::SnapshotOffer(offer) = frame else {
            return Err(ConnectionError::Unexpected(frame.name()));
        };
        office.check_address(&offer.announcement, from)?;
        let Message::InstallSnapshot(meta) = offer.announcement.message.clone() else {
            return Err(ConnectionError::Unexpected(
                "announcement of something else than a snapshot",
            ));
        };
        match take(office, &mut connection, from, &offer, meta).await {
            Ok(()) => {
                office.take_in(from, &mut vec![offer.announcement]);
                connection.write(&Frame::SnapshotDone).await?;
            }
            Err(ConnectionError::Refused(refusal)) => {
                connection.write(&Frame::Refusal(refusal)).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes one offered snapshot durable, from the first chunk that is missing.
async fn take(
    office: &Office,
    connection: &mut Connection,
    from: NodeId,
    offer: &SnapshotOffer,
    meta: SnapshotMeta,
) -> Result<(), ConnectionError> {
    let id = meta.id;
    if has(office, id).await? {
        return Ok(());
    }
    let Ok(mut slot) = office.receiving.try_lock() else {
        return Err(refusal("another snapshot is being received"));
    };
    let half = match slot.take() {
        Some(half) if (half.from, half.id, half.life) == (from, id, offer.life) => Some(half),
        Some(stale) => abandon(office, stale).await.map(|()| None)?,
        None => None,
    };
    let mut receiving = match half {
        Some(receiving) => receiving,
        None => Receiving {
            from,
            id,
            life: offer.life,
            writer: begin(office, meta).await?,
        },
    };
    let mut transfer = Transfer::begin(office, SnapshotWay::From(from));
    let mut next = receiving.writer.chunks();
    connection.write(&Frame::SnapshotResume { next }).await?;
    while next < offer.chunks {
        let chunk = match read_chunk(connection, &receiving.writer).await {
            Ok(chunk) => chunk,
            Err(error) => {
                *slot = Some(receiving);
                return Err(error);
            }
        };
        receiving = write(office, receiving, chunk).await?;
        next += 1;
    }
    finish(office, receiving).await?;
    transfer.outcome = Delivery::Delivered;
    Ok(())
}

async fn read_chunk(connection: &mut Connection, writer: &SnapshotWriter) -> Result<Bytes, ConnectionError> {
    match connection.read_soon(ANSWER).await? {
        Frame::SnapshotChunk { number, data } if writer.is_next(number) => Ok(data),
        other => Err(ConnectionError::Unexpected(other.name())),
    }
}

async fn has(office: &Office, id: EntryId) -> Result<bool, ConnectionError> {
    let snapshots = office.snapshots.clone();
    let ids = blocking(move || snapshots.ids()).await?;
    Ok(office.or_fail(ids)?.contains(&id))
}

async fn begin(office: &Office, meta: SnapshotMeta) -> Result<SnapshotWriter, ConnectionError> {
    let snapshots = office.snapshots.clone();
    // Those received before, and ignored by the core, go here: pruned at their end, one that is still
    // to be restored could go with them.
    let begin = move || {
        snapshots.prune()?;
        snapshots.create(&meta)
    };
    match blocking(begin).await? {
        Err(error @ StorageError::Busy { .. }) => Err(refusal(&error.to_string())),
        created => office.or_fail(created),
    }
}

async fn write(
    office: &Office,
    mut receiving: Receiving,
    chunk: Bytes,
) -> Result<Receiving, ConnectionError> {
    let write = move || (receiving.writer.write_chunk(&chunk), receiving);
    let (written, receiving) = blocking(write).await?;
    if let Err(error) = office.or_fail(written) {
        abandon(office, receiving).await?;
        return Err(error);
    }
    Ok(receiving)
}

async fn abandon(office: &Office, receiving: Receiving) -> Result<(), ConnectionError> {
    let abandoned = blocking(move || receiving.writer.abandon()).await?;
    office.or_fail(abandoned)
}

async fn finish(office: &Office, receiving: Receiving) -> Result<(), ConnectionError> {
    let finished = blocking(move || receiving.writer.finish()).await?;
    office.or_fail(finished)
}

impl Office {
    /// A disk that cannot store a snapshot is one that the node cannot go on with; a peer that sends
    /// what no snapshot may hold is one to hang up on.
    fn or_fail<T>(&self, result: Result<T, StorageError>) -> Result<T, ConnectionError> {
        result.map_err(|error| {
            let is_peers_fault = matches!(
                error,
                StorageError::Snapshot {
                    source: CheckpointError::TooLarge { .. },
                    ..
                }
            );
            if !is_peers_fault {
                self.deliver.fail(&error);
            }
            ConnectionError::Io(std::io::Error::other(error))
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConnectionError> {
    spawn_blocking(work)
        .await
        .map_err(|error| ConnectionError::Io(error.into()))
}

fn refusal(reason: &str) -> ConnectionError {
    ConnectionError::Refused(Refusal::because(reason))
}

/// How often a transfer is taken up again before it has failed.
const MAX_ATTEMPTS: u32 = 6;
/// How long the other end may be busy with its disk.
const ANSWER: Duration = Duration::from_secs(30);
