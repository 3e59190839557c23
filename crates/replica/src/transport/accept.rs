//! The receiving end: whoever connects is asked who it is, and listened to if it is a peer.
//!
//! - Of one address there are so many connections, and so many that have not said who they are: see `crowd`.
//! - Whoever has not said it in time is closed, even if it asks questions meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_raft::{Envelope, Message, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Office;
use super::bulk;
use super::connection::{Connection, ConnectionError};
use super::crowd::{Crowd, Crowded, Entered, Most};
use crate::codec::frame::MAX_BODY_BYTES;
use crate::codec::{Frame, StreamKind};

/// Takes connections for ever.
pub(super) async fn accept(office: Arc<Office>, listener: TcpListener, most: Most) {
    let crowd = Arc::new(Crowd::new(most));
    let room = Arc::new(Semaphore::new(
        MAX_WELCOMED
            .saturating_add(most.pending)
            .min(Semaphore::MAX_PERMITS),
    ));
    loop {
        // It is never closed: without a permit there would be nothing to wait for.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, address)) => match crowd.enter(address.ip()) {
                Ok(entered) => {
                    let office = Arc::clone(&office);
                    tokio::spawn(async move {
                        serve(&office, stream, address, entered).await;
                        drop(permit);
                    });
                }
                Err(crowded) => turn_away(&office, address, crowded),
            },
            Err(error) => {
                // Such as too many open files: it passes, or the operator sees why.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells of a connection that is closed since there are too many.
fn turn_away(office: &Office, address: SocketAddr, crowded: Crowded) {
    office.observe(|observer| observer.turned_away());
    let reason = format!("turned away: {crowded}");
    if office.complaints.is_due(None, &reason, Instant::now()) {
        tracing::warn!(%address, "a connection was closed at once: {crowded}");
    }
}

async fn serve(office: &Office, stream: TcpStream, address: SocketAddr, entered: Entered) {
    let (from, error) = listen_to(office, stream, entered).await;
    let peer = from.map_or_else(|| "unknown".to_owned(), |node| office.describe(node));
    if let ConnectionError::Closed = error {
        tracing::debug!(%peer, %address, "a peer closed its connection");
        return;
    }
    // Strangers who claim many ids share one account with those who claim none.
    let account = from.filter(|node| office.roster().configuration().is_member(*node));
    if office
        .complaints
        .is_due(account, &format!("accepted: {error}"), Instant::now())
    {
        tracing::warn!(%peer, %address, %error, "a connection was closed");
    }
}

/// Why it ended, and who was at the other end, if that was said.
async fn listen_to(
    office: &Office,
    stream: TcpStream,
    mut entered: Entered,
) -> (Option<NodeId>, ConnectionError) {
    let mut from = None;
    let ended = async {
        let mut connection = Connection::accept(office, stream).await?;
        let hello = timeout(INTRODUCTION, connection.hello(office)).await;
        let hello = hello.map_err(|_elapsed| ConnectionError::TimedOut)??;
        from = Some(hello.from);
        connection.answer(office, &hello).await?;
        entered.welcome();
        match hello.stream {
            StreamKind::Messages => receive_messages(office, connection, hello.from).await,
            StreamKind::Bulk => bulk::receive(office, connection, hello.from).await,
        }
    }
    .await;
    match ended {
        Ok(never) => match never {},
        Err(error) => (from, error),
    }
}

/// Passes messages on until the connection ends.
async fn receive_messages(
    office: &Office,
    mut connection: Connection,
    from: NodeId,
) -> Result<std::convert::Infallible, ConnectionError> {
    let mut envelopes = Vec::new();
    loop {
        let bytes = connection.fill().await?;
        let decoded = decode_messages(office, &mut connection, from, &mut envelopes);
        // What came before a bad frame is as good as what came before a cut.
        if !envelopes.is_empty() {
            office.take_in(from, &mut envelopes);
        }
        if decoded.is_err() {
            office.observe(|observer| observer.not_received(from, 1));
        }
        let ping = decoded?;
        office.observe(|observer| observer.received(from, bytes));
        if let Some(number) = ping {
            connection.write(&Frame::Pong { number }).await?;
        }
    }
}

/// Takes all messages out that are complete; says which ping is to be answered. If there is more than one, the
/// last stands for all.
fn decode_messages(
    office: &Office,
    connection: &mut Connection,
    from: NodeId,
    envelopes: &mut Vec<Envelope>,
) -> Result<Option<u64>, ConnectionError> {
    let mut ping = None;
    while let Some(frame) = connection.next(MAX_BODY_BYTES)? {
        match frame {
            Frame::Message(envelope) => {
                office.check_address(&envelope, from)?;
                // The core takes it to mean that the snapshot is here: it comes after its data only.
                if let Message::InstallSnapshot(_) = envelope.message {
                    return Err(ConnectionError::Unexpected(
                        "InstallSnapshot without data, in a message",
                    ));
                }
                envelopes.push(envelope);
            }
            Frame::Ping { number } if connection.has_pings() => ping = Some(number),
            other => return Err(ConnectionError::Unexpected(other.name())),
        }
    }
    Ok(ping)
}

impl Office {
    /// A peer speaks for itself only, and to this node only.
    pub(super) fn check_address(&self, envelope: &Envelope, from: NodeId) -> Result<(), ConnectionError> {
        if envelope.from == from && envelope.to == self.identity.node {
            return Ok(());
        }
        Err(ConnectionError::Misaddressed {
            from: envelope.from,
            to: envelope.to,
        })
    }
}

/// How many connections of those who have said who they are there is room for at once; more wait in the system's queue.
const MAX_WELCOMED: usize = 256;
/// How long whoever has questions first may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
