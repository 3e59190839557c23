//! Certificates of a member: for its clients and for its peers.
//!
//! - What runs is what was meant: a URL and the settings that contradict each other are refused at the start.
//! - Who a client is, is what the certificate says that it has shown itself. Whoever shows none is nobody.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::{PeerTls, TlsProtocol, TlsTerms};
use quorate_tls::{
    Acceptor, Clients, HandshakeError, KeyPairFiles, PeerCertificate, ShownChain, Stream, TlsError,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::ServerConfig;
use crate::flag::raised;
use crate::seldom::Seldom;
use crate::url::{Scheme, Url};

/// How the connections of clients to `https://` URLs are secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// By a certificate and its key in files.
    Certificate {
        /// Where they are.
        pair: KeyPairFiles,
        /// Whether clients must show certificates, too.
        clients: Clients,
        /// What else is demanded of connections and of clients' certificates.
        terms: TlsTerms,
        /// What the common name in a client's certificate means.
        names: CommonNames,
    },
    /// By a self-signed certificate, which is made in the data directory and which nobody vouches for.
    Automatic(TlsProtocol),
}

/// What the common name in a client's certificate means while authentication is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommonNames {
    /// Nothing.
    #[default]
    Unused,
    /// The user whom the client acts as, unless it shows a token.
    Users,
}

/// How connections between members are secured, if their URLs are `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberTls {
    /// By certificates in files.
    Certificates(PeerTls),
    /// By self-signed ones, made in the data directories: nobody can listen, and anybody take part.
    Automatic(TlsProtocol),
}

/// Which settings of TLS contradict each other, and what would be right.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecurityError {
    /// A URL is to be served with TLS, without a certificate.
    #[error("{url} needs a certificate: give {files}, or {automatic}")]
    NoCertificate {
        /// The URL.
        url: Url,
        /// The flags that name files.
        files: &'static str,
        /// The flag that does without.
        automatic: &'static str,
    },
    /// There are certificates, and nobody would see them.
    #[error(
        "a certificate is given, but no URL in {urls} begins with https://: connections would not be secured"
    )]
    Unused {
        /// The flag with the URLs.
        urls: &'static str,
    },
    /// Peers would be reached in two ways.
    #[error(
        "the peer URLs {0} and {1} differ in http:// and https://: peers are secured alike, or not at all"
    )]
    Mixed(Url, Url),
}

/// Whether what the configuration says of TLS makes sense.
pub(crate) fn check(config: &ServerConfig) -> Result<(), SecurityError> {
    let cluster = config.initial_cluster.iter().flat_map(|(_, urls)| urls);
    let mut peers = config.initial_advertise_peer_urls.iter().chain(cluster);
    let own = &config.listen_peer_urls[0];
    if let Some(other) = peers.find(|url| url.scheme() != own.scheme()) {
        return Err(SecurityError::Mixed(own.clone(), other.clone()));
    }
    let secured = |urls: &[Url]| urls.iter().find(|url| url.scheme() == Scheme::Https).cloned();
    match (secured(&config.listen_peer_urls), &config.peer_tls) {
        (Some(url), None) => Err(SecurityError::NoCertificate {
            url,
            files: "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file",
            automatic: "--peer-auto-tls",
        }),
        (None, Some(_)) => Err(SecurityError::Unused {
            urls: "--listen-peer-urls",
        }),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }?;
    let client_urls = config
        .listen_client_urls
        .iter()
        .chain(&config.listen_metrics_urls);
    let client_urls: Vec<Url> = client_urls.cloned().collect();
    match (secured(&client_urls), &config.client_tls) {
        (Some(url), None) => Err(SecurityError::NoCertificate {
            url,
            files: "--cert-file and --key-file",
            automatic: "--auto-tls",
        }),
        (None, Some(_)) => Err(SecurityError::Unused {
            urls: "--listen-client-urls",
        }),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

/// Whether the common names in clients' certificates are users.
pub(crate) fn names_are_users(config: &ServerConfig) -> bool {
    match &config.client_tls {
        Some(ClientTls::Certificate { names, .. }) => *names == CommonNames::Users,
        Some(ClientTls::Automatic(_)) | None => false,
    }
}

/// The certificates of a member, opened.
pub(crate) struct Security {
    /// For the listeners of `https://` client URLs.
    pub(crate) clients: Option<Arc<Entry>>,
    /// For the replica.
    pub(crate) peers: Option<PeerTls>,
}

impl Security {
    /// Opens the certificates, and makes those that are to be made.
    pub(crate) fn open(config: &ServerConfig) -> Result<Security, TlsError> {
        let directory = config.data_dir.join(DIRECTORY);
        let clients = match &config.client_tls {
            None => None,
            Some(ClientTls::Certificate {
                pair, clients, terms, ..
            }) => Some((pair.clone(), clients.clone(), terms.clone())),
            Some(ClientTls::Automatic(protocol)) => {
                let urls = config.listen_client_urls.iter();
                let pair = automatic(&directory, "client", urls.chain(&config.advertise_client_urls))?;
                let terms = TlsTerms {
                    protocol: protocol.clone(),
                    ..TlsTerms::default()
                };
                Some((pair, Clients::Anyone, terms))
            }
        };
        let acceptor =
            clients.map(|(pair, clients, terms)| Acceptor::open_with(pair, &clients, terms, &PROTOCOLS));
        let peers = match &config.peer_tls {
            None => None,
            Some(MemberTls::Certificates(tls)) => Some(tls.clone()),
            Some(MemberTls::Automatic(protocol)) => {
                let urls = config.listen_peer_urls.iter();
                let pair = automatic(
                    &directory,
                    "peer",
                    urls.chain(&config.initial_advertise_peer_urls),
                )?;
                let protocol = protocol.clone();
                Some(PeerTls::EncryptedOnly { pair, protocol })
            }
        };
        let entry = |acceptor| Arc::new(Entry::new(acceptor, config.limits.max_handshakes, HANDSHAKE));
        Ok(Security {
            clients: acceptor.transpose()?.map(entry),
            peers,
        })
    }
}

/// A self-signed certificate for the hosts of `urls`, and for this machine as it calls itself.
fn automatic<'a>(
    directory: &Path,
    name: &str,
    urls: impl Iterator<Item = &'a Url>,
) -> Result<KeyPairFiles, TlsError> {
    let is_everywhere = |host: &str| host.parse().is_ok_and(|address: IpAddr| address.is_unspecified());
    let hosts = urls.map(Url::host).filter(|host| !is_everywhere(host));
    let hosts: BTreeSet<String> = hosts.chain(LOOPBACK).map(str::to_owned).collect();
    let hosts: Vec<String> = hosts.into_iter().collect();
    quorate_tls::self_signed(directory, name, &hosts)
}

/// Where clients come in by TLS.
pub(crate) struct Entry {
    acceptor: Acceptor,
    /// How many more handshakes may be under way.
    room: Arc<Semaphore>,
    patience: Duration,
    /// Of a failed handshake.
    told: Seldom,
    /// Counts how often certificates were read again.
    changes: watch::Sender<u64>,
}

impl Entry {
    pub(crate) fn new(acceptor: Acceptor, handshakes: usize, patience: Duration) -> Entry {
        Entry {
            acceptor,
            room: Arc::new(Semaphore::new(handshakes.min(Semaphore::MAX_PERMITS))),
            patience,
            told: Seldom::new(),
            changes: watch::Sender::new(0),
        }
    }

    /// Waits for room for one more handshake.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed, so that there is always a permit in the end.
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Makes the handshake on a client's connection.
    pub(crate) async fn enter(&self, stream: TcpStream) -> Result<(Stream, Standing), HandshakeError> {
        // Before the handshake, so that what changes in its course is noticed after it.
        let changes = self.changes.subscribe();
        let stream = self.acceptor.accept(stream, self.patience).await?;
        let shown = stream.shown_chain();
        Ok((stream, Standing { shown, changes }))
    }

    /// Waits until the certificate is revoked that a connection began with.
    pub(crate) async fn revoked(&self, mut standing: Standing) {
        let Some(shown) = standing.shown else {
            return std::future::pending().await;
        };
        while standing.changes.changed().await.is_ok() {
            if self.acceptor.has_revoked(&shown) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Reads certificates again if their files have changed.
    fn refresh(&self) {
        if self.acceptor.refresh() {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Whether a failed handshake is to be logged for the operator: strangers must not fill the log.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.told.is_due(now)
    }
}

/// What the client of a connection has shown, and whether that is to be looked at again.
pub(crate) struct Standing {
    shown: Option<ShownChain>,
    changes: watch::Receiver<u64>,
}

/// Who the client of a request is by the certificate that its connection began with. Requests have it as an
/// extension if clients must show certificates, and this one's has a common name, and only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// Of whoever is at the other end of `stream`.
    pub(crate) fn of(stream: &Stream) -> Option<ClientName> {
        let name = stream
            .peer_certificate()
            .as_ref()
            .and_then(PeerCertificate::common_name);
        name.map(|name| ClientName(name.into()))
    }

    /// The common name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads certificates again when their files change, until the server stops.
pub(crate) async fn keep_fresh(entry: Arc<Entry>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = raised(&mut stop) => return,
        }
        let entry = Arc::clone(&entry);
        // A panic in there would be a bug, and would say so by itself.
        let _ = tokio::task::spawn_blocking(move || entry.refresh()).await;
    }
}

/// What a client may speak on a connection with TLS.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Where self-signed certificates are made, below the data directory.
const DIRECTORY: &str = "tls";
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const HANDSHAKE: Duration = Duration::from_secs(5);
const REFRESH: Duration = Duration::from_secs(1);
