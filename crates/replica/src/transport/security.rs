//! Who may be at the other end of a connection, if peers speak TLS.
//!
//! - Whoever dials checks that the certificate is for the host that it dialed. Whoever is dialed checks that
//!   it is for the host of the member that the other end says it is. A list of names may take the place
//!   of the latter, and counts for both.
//! - That a certificate is by the authority is found out by the handshake, before a word is said.
//! - When files change, each connection that stands is looked at again: one that would be refused by now ends.

use std::sync::Arc;
use std::time::Duration;

use quorate_raft::NodeId;
use quorate_tls::{
    Acceptor, Allowed, Clients, Connector, HandshakeError, PeerCertificate, ShownChain, Stream, TlsError,
    Trust,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::Office;
use super::roster::Roster;
use crate::codec::Refusal;
use crate::tls::{AllowedPeers, PeerTls, TlsTerms};

/// Both ends of a node, and whom they take for whom.
pub(crate) struct Security {
    acceptor: Acceptor,
    pub(super) connector: Connector,
    /// None if nobody is asked who they are.
    allowed: Option<AllowedPeers>,
    /// Counts how often files were read again.
    changes: watch::Sender<u64>,
}

impl Security {
    pub(crate) fn open(tls: &PeerTls) -> Result<Self, TlsError> {
        let (pair, authority, allowed, terms) = match tls {
            PeerTls::Mutual {
                pair,
                trusted_ca_file,
                allowed,
                terms,
            } => {
                // Whose name counts is found out when it is known whom the other end speaks for.
                let terms = TlsTerms {
                    allowed: Allowed::All,
                    ..terms.clone()
                };
                (pair, Some(trusted_ca_file.clone()), Some(allowed.clone()), terms)
            }
            PeerTls::EncryptedOnly { pair, protocol } => {
                let terms = TlsTerms {
                    protocol: protocol.clone(),
                    ..TlsTerms::default()
                };
                (pair, None, None, terms)
            }
        };
        let clients = authority.clone().map_or(Clients::Anyone, Clients::CertifiedBy);
        let trust = authority.map_or(Trust::Anyone, Trust::CertifiedBy);
        Ok(Self {
            acceptor: Acceptor::open_with(pair.clone(), &clients, terms.clone(), &[])?,
            connector: Connector::open_with(Some(pair.clone()), &trust, terms, &[])?,
            allowed,
            changes: watch::Sender::new(0),
        })
    }

    /// Makes the handshake with whoever has dialed.
    pub(super) async fn accept(
        self: &Arc<Self>,
        socket: TcpStream,
        patience: Duration,
    ) -> Result<(Stream, Option<Standing>), HandshakeError> {
        // Before the handshake, so that what changes in its course is noticed after it.
        let changes = self.changes.subscribe();
        let stream = self.acceptor.accept(socket, patience).await?;
        let standing = self.standing(&stream, changes, None);
        Ok((stream, standing))
    }

    /// Makes the handshake with `host`, which was dialed.
    pub(super) async fn connect(
        self: &Arc<Self>,
        host: &str,
        socket: TcpStream,
        patience: Duration,
    ) -> Result<(Stream, Option<Standing>), HandshakeError> {
        let changes = self.changes.subscribe();
        let stream = self.connector.connect(host, socket, patience).await?;
        let standing = self.standing(&stream, changes, Some(host.to_owned()));
        Ok((stream, standing))
    }

    fn standing(
        self: &Arc<Self>,
        stream: &Stream,
        changes: watch::Receiver<u64>,
        dialed: Option<String>,
    ) -> Option<Standing> {
        Some(Standing {
            security: Arc::clone(self),
            dialed,
            shown: stream.shown_chain()?,
            changes,
        })
    }

    /// Whether whoever showed `certificate` may be a peer, as far as that can be said without knowing which.
    pub(super) fn admit(&self, certificate: Option<&PeerCertificate>) -> Result<(), Refusal> {
        let Some(allowed) = &self.allowed else {
            return Ok(());
        };
        let certificate =
            certificate.ok_or_else(|| Refusal::because("no certificate was shown".to_owned()))?;
        match allowed {
            AllowedPeers::MemberHost => Ok(()),
            AllowedPeers::CommonNames(names) => {
                let name = certificate.common_name();
                match name.as_ref().is_some_and(|name| names.contains(name)) {
                    true => Ok(()),
                    false => Err(Refusal::because(format!(
                        "the certificate that was shown has the common name {:?}, which is not among those allowed",
                        name.unwrap_or_default()
                    ))),
                }
            }
            AllowedPeers::Hosts(hosts) => match hosts.iter().any(|host| certificate.is_for(host)) {
                true => Ok(()),
                false => Err(Refusal::because(
                    "the certificate that was shown is for none of the hosts allowed".to_owned(),
                )),
            },
        }
    }

    /// As [`Self::admit`], for somebody who says to be `node`.
    fn admit_as(
        &self,
        node: NodeId,
        certificate: Option<&PeerCertificate>,
        roster: &Roster,
    ) -> Result<(), Refusal> {
        self.admit(certificate)?;
        let (Some(AllowedPeers::MemberHost), Some(certificate)) = (&self.allowed, certificate) else {
            return Ok(());
        };
        match roster.contacts().get(&node) {
            Some(contact) if certificate.is_for(host_of(&contact.address)) => Ok(()),
            Some(contact) => Err(Refusal::because(format!(
                "the certificate that was shown is not for {}, where node {:x} is reached",
                host_of(&contact.address),
                node.0
            ))),
            // Until the log says who the members are, the authority's word has to do.
            None if roster.configuration().is_unknown() => Ok(()),
            // It is refused for being no member, which says more.
            None if !roster.admits(node) => Ok(()),
            None => Err(Refusal::because(format!(
                "where node {:x} is reached is not known, so that no certificate could be for it",
                node.0
            ))),
        }
    }

    fn refresh(&self) {
        let (accepting, connecting) = (self.acceptor.refresh(), self.connector.refresh());
        if accepting || connecting {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

/// What the other end of a connection has shown, to be looked at again when files change.
pub(super) struct Standing {
    security: Arc<Security>,
    /// The host, if it was this node that dialed.
    dialed: Option<String>,
    shown: ShownChain,
    changes: watch::Receiver<u64>,
}

impl Standing {
    /// Fails if files have changed since the last look, and the other end would be refused by them.
    pub(super) fn check(&mut self) -> Result<(), HandshakeError> {
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.look()?;
        }
        Ok(())
    }

    /// Waits until files change by which the other end would be refused; says why. Loses nothing when dropped.
    pub(super) async fn lost(&mut self) -> HandshakeError {
        while self.changes.changed().await.is_ok() {
            if let Err(error) = self.look() {
                return error;
            }
        }
        std::future::pending().await
    }

    fn look(&self) -> Result<(), HandshakeError> {
        match &self.dialed {
            Some(host) => self.security.connector.recheck(host, &self.shown),
            None => self.security.acceptor.recheck(&self.shown),
        }
    }
}

impl Office {
    /// Whether whoever showed `certificate` may speak for `node`.
    pub(super) fn check_certificate(
        &self,
        node: NodeId,
        certificate: Option<&PeerCertificate>,
    ) -> Result<(), Refusal> {
        match &self.security {
            None => Ok(()),
            Some(security) => security.admit_as(node, certificate, &self.roster()),
        }
    }

    /// Whether whoever showed `certificate` may ask who the members are.
    pub(super) fn check_stranger(&self, certificate: Option<&PeerCertificate>) -> Result<(), Refusal> {
        match &self.security {
            None => Ok(()),
            Some(security) => security.admit(certificate),
        }
    }
}

/// Reads certificates again when their files change, for ever.
pub(super) async fn keep_fresh(security: Arc<Security>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let security = Arc::clone(&security);
        // A panic in there would be a bug, and would say so by itself.
        let _ = spawn_blocking(move || security.refresh()).await;
    }
}

/// The host in `host:port`, without brackets.
pub(super) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host)
}

const REFRESH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_port_and_no_brackets() {
        for (address, host) in [
            ("a:1", "a"),
            ("10.0.0.1:2", "10.0.0.1"),
            ("[::1]:3", "::1"),
            ("a", "a"),
        ] {
            assert_eq!(host_of(address), host);
        }
    }
}
