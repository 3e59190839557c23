//! One TCP connection, plain or with TLS: frames in, frames out, and the handshake of either end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::NodeId;
use quorate_tls::{HandshakeError, PeerCertificate, Stream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Office;
use super::security::{Standing, host_of};
use crate::codec::frame::{self, MAX_BODY_BYTES, MAX_HANDSHAKE_BYTES};
use crate::codec::{DecodeError, Frame, Hello, Refusal, StreamKind, Welcome};
use crate::storage::Identity;

/// Why a connection was not made, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Tls(HandshakeError),
    #[error("the other end speaks TLS, and this node does not: all members must be set up alike")]
    UnexpectedTls,
    #[error("bad frame: {0}")]
    Decode(DecodeError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("whoever answers is not trusted: {0}")]
    Untrusted(String),
    #[error("no longer trusted: {0}")]
    NoLongerTrusted(HandshakeError),
    #[error("it is no member any more")]
    Left,
    #[error("unexpected {0} frame")]
    Unexpected(&'static str),
    #[error("the message says that it is from {from} to {to}, which this connection is not")]
    Misaddressed { from: NodeId, to: NodeId },
    #[error("no answer in time")]
    TimedOut,
    #[error("closed by the other end")]
    Closed,
}

impl ConnectionError {
    /// Whether the host is there and nothing listens: the peer's process is gone.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Whether the peer says that this node was a member and is none any more.
    pub(super) fn says_removed(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.removed)
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        match HandshakeError::found_in(&error) {
            Some(error) => Self::Tls(error),
            None => Self::Io(error),
        }
    }
}

impl From<HandshakeError> for ConnectionError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => Self::Io(error),
            other => Self::Tls(other),
        }
    }
}

impl From<DecodeError> for ConnectionError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Magic([TLS_ALERT | TLS_HANDSHAKE, TLS_VERSION, _, _]) => Self::UnexpectedTls,
            other => Self::Decode(other),
        }
    }
}

pub(super) struct Connection {
    stream: Stream,
    /// What the other end showed and has the key of.
    certificate: Option<PeerCertificate>,
    /// None if it has shown nothing.
    standing: Option<Standing>,
    /// Of the protocol, once the handshake has settled it.
    version: u32,
    inbound: BytesMut,
    outbound: BytesMut,
}

impl Connection {
    fn new((stream, standing): (Stream, Option<Standing>)) -> Self {
        Self {
            certificate: stream.peer_certificate(),
            stream,
            standing,
            version: frame::OLDEST_VERSION,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
        }
    }

    /// Takes a connection.
    pub(super) async fn accept(office: &Office, socket: TcpStream) -> Result<Self, ConnectionError> {
        set_up(&socket, office.patience)?;
        let stream = match &office.security {
            None => (Stream::Plain(socket), None),
            Some(security) => security.accept(socket, HANDSHAKE).await?,
        };
        Ok(Self::new(stream))
    }

    /// Connects to a peer at an address and is welcomed by it.
    pub(super) async fn dial(
        office: &Office,
        to: NodeId,
        address: &str,
        kind: StreamKind,
    ) -> Result<Self, ConnectionError> {
        let connected = timeout(office.patience, TcpStream::connect(address)).await;
        let socket = connected.map_err(|_elapsed| ConnectionError::TimedOut)??;
        set_up(&socket, office.patience)?;
        let stream = match &office.security {
            None => (Stream::Plain(socket), None),
            Some(security) => security.connect(host_of(address), socket, HANDSHAKE).await?,
        };
        let mut connection = Self::new(stream);
        let admitted = office.check_stranger(connection.certificate.as_ref());
        admitted.map_err(|Refusal { reason, .. }| ConnectionError::Untrusted(reason))?;
        connection.write(&Frame::Hello(office.hello(to, kind))).await?;
        let answer = timeout(HANDSHAKE, connection.read(MAX_HANDSHAKE_BYTES)).await;
        match answer.map_err(|_elapsed| ConnectionError::TimedOut)?? {
            Frame::Welcome(welcome) => {
                office.check_welcome(to, &welcome)?;
                connection.version = welcome.version;
            }
            Frame::Refusal(refusal) => return Err(refusal.into()),
            other => return Err(ConnectionError::Unexpected(other.name())),
        }
        Ok(connection)
    }

    /// Waits for what whoever dialed says of itself; whoever only has a question is answered first.
    pub(super) async fn hello(&mut self, office: &Office) -> Result<Hello, ConnectionError> {
        loop {
            let frame = timeout(HANDSHAKE, self.read(MAX_HANDSHAKE_BYTES)).await;
            match frame.map_err(|_elapsed| ConnectionError::TimedOut)?? {
                Frame::Hello(hello) => return Ok(hello),
                Frame::Inquiry(inquiry) => {
                    let admitted = office.check_stranger(self.certificate.as_ref());
                    self.refuse_unless(admitted).await?;
                    let answer = Frame::Introduction(office.introduce(&inquiry));
                    self.write(&answer).await?;
                }
                other => return Err(ConnectionError::Unexpected(other.name())),
            }
        }
    }

    /// Welcomes whoever dialed, or refuses it.
    pub(super) async fn answer(&mut self, office: &Office, hello: &Hello) -> Result<(), ConnectionError> {
        let checked = office
            .check_certificate(hello.from, self.certificate.as_ref())
            .and_then(|()| office.check_hello(hello));
        let welcome = self.refuse_unless(checked).await?;
        self.version = welcome.version;
        self.write(&Frame::Welcome(welcome)).await
    }

    /// Tells the other end of a refusal.
    async fn refuse_unless<T>(&mut self, outcome: Result<T, Refusal>) -> Result<T, ConnectionError> {
        if let Err(refusal) = &outcome {
            self.write(&Frame::Refusal(refusal.clone())).await?;
        }
        Ok(outcome?)
    }

    /// Writes one frame.
    pub(super) async fn write(&mut self, frame: &Frame) -> Result<(), ConnectionError> {
        // A snapshot's sender writes for long without reading.
        if let Some(standing) = &mut self.standing {
            standing.check().map_err(ConnectionError::NoLongerTrusted)?;
        }
        frame::encode(frame, &mut self.outbound);
        self.stream.write_all(&self.outbound).await?;
        self.stream.flush().await?;
        self.outbound.clear();
        Ok(())
    }

    /// Waits for one frame.
    pub(super) async fn read(&mut self, max_body: usize) -> Result<Frame, ConnectionError> {
        loop {
            if let Some(frame) = frame::decode(&mut self.inbound, max_body)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Waits for one frame, but not for longer than a peer that is alive may need.
    pub(super) async fn read_soon(&mut self, patience: Duration) -> Result<Frame, ConnectionError> {
        let frame = timeout(patience, self.read(MAX_BODY_BYTES)).await;
        frame.map_err(|_elapsed| ConnectionError::TimedOut)?
    }

    /// A frame that is there already; none if it is not complete.
    pub(super) fn next(&mut self, max_body: usize) -> Result<Option<Frame>, ConnectionError> {
        Ok(frame::decode(&mut self.inbound, max_body)?)
    }

    /// Whether both ends know pings. Once the handshake is made.
    pub(super) fn has_pings(&self) -> bool {
        self.version >= frame::PINGS_SINCE
    }

    /// Waits for bytes; says how many came. Loses nothing when dropped.
    pub(super) async fn fill(&mut self) -> Result<usize, ConnectionError> {
        self.inbound.reserve(READ_BYTES);
        let read = tokio::select! {
            // First: whoever sends without a pause is cut off as well.
            biased;
            error = lost(&mut self.standing) => return Err(ConnectionError::NoLongerTrusted(error)),
            read = self.stream.read_buf(&mut self.inbound) => read?,
        };
        match read {
            0 => Err(ConnectionError::Closed),
            bytes => Ok(bytes),
        }
    }

    /// Where frames can be written that were encoded elsewhere.
    pub(super) fn writer(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

/// Waits until the other end is not trusted any more, for ever if it need not be.
async fn lost(standing: &mut Option<Standing>) -> HandshakeError {
    match standing {
        Some(standing) => standing.lost().await,
        None => std::future::pending().await,
    }
}

fn set_up(socket: &TcpStream, patience: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // A cut link is noticed by what stays unacknowledged, not by retransmissions minutes apart.
    socket.set_tcp_user_timeout(Some(patience))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE)
            .with_retries(3),
    )
}

impl Office {
    fn check_hello(&self, hello: &Hello) -> Result<Welcome, Refusal> {
        let refuse = |reason: String| Err(Refusal::because(reason));
        let Identity {
            cluster,
            node,
            incarnation,
        } = self.identity;
        if hello.oldest_version > frame::VERSION || hello.version < frame::OLDEST_VERSION {
            let (theirs, oldest) = (hello.version, hello.oldest_version);
            let (ours, our_oldest) = (frame::VERSION, frame::OLDEST_VERSION);
            return refuse(format!(
                "you speak protocol versions {oldest} to {theirs}, this node {our_oldest} to {ours}"
            ));
        }
        if hello.cluster != cluster {
            return refuse(format!(
                "you are of cluster {}, this node of {cluster}",
                hello.cluster
            ));
        }
        if hello.to != node {
            return refuse(format!(
                "you want node {:x}, this is node {:x}",
                hello.to.0, node.0
            ));
        }
        if !self.roster().admits(hello.from) {
            let from = hello.from.0;
            let removed = self.known.lock().is_known(hello.from, hello.incarnation);
            let why = match removed {
                true => "it was removed",
                false => "it was removed, or is to be added first",
            };
            let reason = format!("node {from:x} is no member of this cluster: {why}");
            return Err(Refusal { reason, removed });
        }
        self.recognize(hello.from, hello.incarnation)?;
        Ok(Welcome {
            version: hello.version.min(frame::VERSION),
            incarnation,
        })
    }

    fn check_welcome(&self, to: NodeId, welcome: &Welcome) -> Result<(), Refusal> {
        if !(frame::OLDEST_VERSION..=frame::VERSION).contains(&welcome.version) {
            return Err(Refusal::because(format!(
                "it wants to speak protocol version {}, this node speaks {} to {}",
                welcome.version,
                frame::OLDEST_VERSION,
                frame::VERSION
            )));
        }
        self.recognize(to, welcome.incarnation)
    }
}

const HANDSHAKE: Duration = Duration::from_secs(5);
/// How the records of TLS begin that are the first on a connection: their kind, then their version.
const TLS_ALERT: u8 = 21;
const TLS_HANDSHAKE: u8 = 22;
const TLS_VERSION: u8 = 3;
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How much room there is for each read, in bytes.
const READ_BYTES: usize = 64 << 10;
