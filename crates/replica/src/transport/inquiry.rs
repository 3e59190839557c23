//! How a node that is to join learns who it is: it asks a member.
//!
//! - Whoever adds a member says where its peers will reach it. By that address the member finds itself
//!   in the configuration: its id, and the cluster's.
//! - An answer promises nothing. The node that joins believes the log only.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::BytesMut;
use quorate_raft::{Configuration, MemberKind, NodeId};
use quorate_tls::{PeerCertificate, TlsError};

use super::Office;
use super::security::{Security, host_of};
use crate::codec::frame::{self, ClusterId, MAX_BODY_BYTES};
use crate::codec::{DecodeError, Frame, Inquiry, Introduction, MemberContext, Refusal};
use crate::tls::PeerTls;

/// Who a node that is to join is, and whom it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's id.
    pub node: NodeId,
    /// Whether it is to keep data.
    pub kind: MemberKind,
    /// The members that it may turn to.
    pub members: Configuration,
}

/// Why a node that is to join does not know who it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InquiryError {
    /// Members answered, and none has heard of it.
    #[error(
        "no member of the cluster expects a node at {address}: add it first, by the very address that it advertises"
    )]
    NotExpected {
        /// Where the node says that it is reached.
        address: String,
    },
    /// Nobody answered.
    #[error("none of the members answers; the last that was tried, {member}: {source}")]
    Unreachable {
        /// The last member asked.
        member: String,
        /// Why it did not answer.
        source: io::Error,
    },
    /// The certificates with which the node would ask cannot be used.
    #[error("TLS between peers: {0}")]
    Tls(#[from] TlsError),
    /// There is nobody to ask.
    #[error("no member is named that could be asked")]
    Nobody,
}

/// Asks `members`, one after another, which node is to be at `address`. Blocks meanwhile.
///
/// # Errors
/// When none of them says.
pub fn inquire(members: &[String], address: &str) -> Result<Introduced, InquiryError> {
    inquire_of(members, address, None)
}

/// As [`inquire`], of members that speak TLS.
///
/// # Errors
/// When none of them says, or the certificates cannot be used.
pub fn inquire_securely(
    members: &[String],
    address: &str,
    tls: &PeerTls,
) -> Result<Introduced, InquiryError> {
    inquire_of(members, address, Some(&Security::open(tls)?))
}

fn inquire_of(
    members: &[String],
    address: &str,
    security: Option<&Security>,
) -> Result<Introduced, InquiryError> {
    let mut error = InquiryError::Nobody;
    for member in members {
        let expected = match ask(member, address, security) {
            Ok(introduction) => introduced(introduction),
            // That somebody does not expect it says more than that somebody does not answer.
            Err(_) if matches!(error, InquiryError::NotExpected { .. }) => None,
            Err(source) => {
                let member = member.clone();
                error = InquiryError::Unreachable { member, source };
                continue;
            }
        };
        match expected {
            Some(introduced) => return Ok(introduced),
            None => {
                let address = address.to_owned();
                error = InquiryError::NotExpected { address };
            }
        }
    }
    Err(error)
}

fn introduced(introduction: Introduction) -> Option<Introduced> {
    let node = introduction.node?;
    Some(Introduced {
        cluster: introduction.cluster,
        node,
        kind: introduction.members.kind(node),
        members: introduction.members,
    })
}

fn ask(member: &str, address: &str, security: Option<&Security>) -> io::Result<Introduction> {
    let mut addresses = member.to_socket_addrs()?;
    let first = addresses.next();
    let first = first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    let stream = TcpStream::connect_timeout(&first, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(security) = security else {
        return ask_on(stream, address);
    };
    let connected = security.connector.connect_blocking(host_of(member), stream);
    let stream = connected.map_err(io::Error::other)?;
    let admitted = security.admit(PeerCertificate::shown_on(&stream).as_ref());
    admitted.map_err(|Refusal { reason, .. }| io::Error::other(reason))?;
    ask_on(stream, address)
}

fn ask_on(mut stream: impl Read + Write, address: &str) -> io::Result<Introduction> {
    let mut bytes = BytesMut::new();
    let inquiry = Inquiry {
        version: frame::VERSION,
        oldest_version: frame::OLDEST_VERSION,
        address: address.to_owned(),
    };
    frame::encode(&Frame::Inquiry(inquiry), &mut bytes);
    stream.write_all(&bytes)?;
    stream.flush()?;
    bytes.clear();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match frame::decode(&mut bytes, MAX_BODY_BYTES).map_err(unreadable)? {
            Some(Frame::Introduction(introduction)) => return Ok(introduction),
            Some(Frame::Refusal(Refusal { reason, .. })) => return Err(io::Error::other(reason)),
            Some(other) => return Err(io::Error::other(format!("unexpected {} frame", other.name()))),
            None => {}
        }
        match stream.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

fn unreadable(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Office {
    /// Tells a stranger who the members are, and which of them is to be where it says it is.
    pub(super) fn introduce(&self, inquiry: &Inquiry) -> Introduction {
        let roster = self.roster();
        let members = roster.configuration();
        let is_there = |node: &NodeId| {
            let context = MemberContext::of(&members.info(*node));
            context.addresses.contains(&inquiry.address)
        };
        Introduction {
            cluster: self.identity.cluster,
            node: members.members().into_iter().find(is_there),
            members: members.as_ref().clone(),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
const CHUNK_BYTES: usize = 16 << 10;
