//! The receiving end: whoever connects is asked who it is, and listened to if it is a peer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_raft::{Envelope, NodeId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Office;
use super::bulk;
use super::connection::{Connection, ConnectionError};
use crate::codec::{Frame, StreamKind};

/// Takes connections for ever.
pub(super) async fn accept(office: Arc<Office>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // It is never closed: without a permit there would be nothing to wait for.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, address)) => {
                let office = Arc::clone(&office);
                tokio::spawn(async move {
                    serve(&office, stream, address).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Such as too many open files: it passes, or the operator sees why.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(office: &Office, stream: TcpStream, address: SocketAddr) {
    let ended = listen_to(office, stream).await;
    match ended {
        ConnectionError::Closed => tracing::debug!(%address, "a peer closed its connection"),
        error => tracing::warn!(%address, %error, "a connection was closed"),
    }
}

async fn listen_to(office: &Office, stream: TcpStream) -> ConnectionError {
    let ended = async {
        let mut connection = Connection::new(stream, office.patience)?;
        let hello = connection.answer(office).await?;
        match hello.stream {
            StreamKind::Messages => receive_messages(office, connection, hello.from).await,
            StreamKind::Bulk => bulk::receive(office, connection, hello.from).await,
        }
    };
    match ended.await {
        Ok(never) => match never {},
        Err(error) => error,
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
            office.deliver.receive(&mut envelopes);
        }
        decoded?;
        if let Some(observer) = &office.observer {
            observer.received(from, bytes);
        }
    }
}

fn decode_messages(
    office: &Office,
    connection: &mut Connection,
    from: NodeId,
    envelopes: &mut Vec<Envelope>,
) -> Result<(), ConnectionError> {
    while let Some(frame) = connection.next()? {
        match frame {
            Frame::Message(envelope) => {
                office.check_address(&envelope, from)?;
                envelopes.push(envelope);
            }
            other => return Err(ConnectionError::Unexpected(other.name())),
        }
    }
    Ok(())
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

/// How many connections may be open at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
