//! One TCP connection: frames in, frames out, and the handshake of either end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::NodeId;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Office;
use crate::codec::frame::{self, MAX_BODY_BYTES, MAX_HANDSHAKE_BYTES};
use crate::codec::{DecodeError, Frame, Hello, Refusal, StreamKind, Welcome};
use crate::storage::Identity;

/// Why a connection was not made, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("bad frame: {0}")]
    Decode(#[from] DecodeError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
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
}

pub(super) struct Connection {
    stream: TcpStream,
    inbound: BytesMut,
    outbound: BytesMut,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        // A cut link is noticed by what stays unacknowledged, not by retransmissions minutes apart.
        socket.set_tcp_user_timeout(Some(patience))?;
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(KEEPALIVE)
                .with_interval(KEEPALIVE)
                .with_retries(3),
        )?;
        Ok(Self {
            stream,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
        })
    }

    /// Connects to a peer and is welcomed by it.
    pub(super) async fn dial(
        office: &Office,
        to: NodeId,
        stream: StreamKind,
    ) -> Result<Self, ConnectionError> {
        let roster = office.roster();
        let contact = roster.contacts().get(&to);
        let address = contact.map_or("", |contact| contact.address.as_str());
        let connected = timeout(office.patience, TcpStream::connect(address)).await;
        let socket = connected.map_err(|_elapsed| ConnectionError::TimedOut)??;
        let mut connection = Self::new(socket, office.patience)?;
        connection.write(&Frame::Hello(office.hello(to, stream))).await?;
        let answer = timeout(HANDSHAKE, connection.read(MAX_HANDSHAKE_BYTES)).await;
        match answer.map_err(|_elapsed| ConnectionError::TimedOut)?? {
            Frame::Welcome(welcome) => office.check_welcome(to, &welcome)?,
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
                    let answer = Frame::Introduction(office.introduce(&inquiry));
                    self.write(&answer).await?;
                }
                other => return Err(ConnectionError::Unexpected(other.name())),
            }
        }
    }

    /// Welcomes whoever dialed, or refuses it.
    pub(super) async fn answer(&mut self, office: &Office, hello: &Hello) -> Result<(), ConnectionError> {
        match office.check_hello(hello) {
            Ok(welcome) => self.write(&Frame::Welcome(welcome)).await,
            Err(refusal) => {
                self.write(&Frame::Refusal(refusal.clone())).await?;
                Err(refusal.into())
            }
        }
    }

    /// Writes one frame.
    pub(super) async fn write(&mut self, frame: &Frame) -> Result<(), ConnectionError> {
        frame::encode(frame, &mut self.outbound);
        self.stream.write_all(&self.outbound).await?;
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
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ConnectionError> {
        Ok(frame::decode(&mut self.inbound, MAX_BODY_BYTES)?)
    }

    /// Waits for bytes; says how many came.
    pub(super) async fn fill(&mut self) -> Result<usize, ConnectionError> {
        self.inbound.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbound).await? {
            0 => Err(ConnectionError::Closed),
            bytes => Ok(bytes),
        }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl Office {
    fn check_hello(&self, hello: &Hello) -> Result<Welcome, Refusal> {
        let refuse = |reason: String| Err(Refusal { reason });
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
            return refuse(format!(
                "node {:x} is no member of this cluster: it was removed, or is to be added first",
                hello.from.0
            ));
        }
        self.recognize(hello.from, hello.incarnation)?;
        Ok(Welcome {
            version: hello.version.min(frame::VERSION),
            incarnation,
        })
    }

    fn check_welcome(&self, to: NodeId, welcome: &Welcome) -> Result<(), Refusal> {
        self.recognize(to, welcome.incarnation)
    }
}

const HANDSHAKE: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How much room there is for each read, in bytes.
const READ_BYTES: usize = 64 << 10;
