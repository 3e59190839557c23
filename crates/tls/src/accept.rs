//! The listening end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::Stream;
use crate::admit::Admission;
use crate::certificate::ShownChain;
use crate::files::{Contents, Files, KeyPairFiles, TlsError};
use crate::handshake::HandshakeError;
use crate::live::Live;
use crate::terms::Terms;

/// Whose connections are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Anybody's: none is asked for a certificate.
    Anyone,
    /// Those who show a certificate by an authority in this file, in PEM form.
    CertifiedBy(PathBuf),
}

/// Takes TLS connections.
pub struct Acceptor(Live<Accepting>);

/// What connections are taken with.
struct Accepting {
    config: Arc<ServerConfig>,
    /// Who says whose certificates are good; none if none is asked for.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Acceptor {
    /// An acceptor that shows the certificate in `pair` and offers `protocols` (ALPN), best first.
    ///
    /// # Errors
    /// When a file cannot be read or does not contain what it should.
    pub fn open(pair: KeyPairFiles, clients: &Clients, protocols: &[&[u8]]) -> Result<Acceptor, TlsError> {
        Acceptor::open_with(pair, clients, Terms::default(), protocols)
    }

    /// As [`Self::open`], on these terms.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        pair: KeyPairFiles,
        clients: &Clients,
        terms: Terms,
        protocols: &[&[u8]],
    ) -> Result<Acceptor, TlsError> {
        let authorities = match clients {
            Clients::Anyone => None,
            Clients::CertifiedBy(file) => Some(file.clone()),
        };
        let files = Files {
            pair: Some(pair),
            authorities,
            terms,
        };
        Live::open(files, protocols, make).map(Acceptor)
    }

    /// Reads the files again if they have changed. Blocks for as long as that takes. Gives back whether something else
    /// counts now.
    ///
    /// What is wrong with them is logged, and changes nothing.
    pub fn refresh(&self) -> bool {
        self.0.refresh()
    }

    /// Whether a certificate that was good when it was shown is on a list of revoked ones by now.
    #[must_use]
    pub fn has_revoked(&self, shown: &ShownChain) -> bool {
        matches!(
            self.recheck(shown),
            Err(HandshakeError::Certificate(CertificateError::Revoked))
        )
    }

    /// Looks again at certificates that were good when they were shown. That one has expired since is not asked.
    ///
    /// # Errors
    /// When they would be refused by now: one was revoked, or the authority is not trusted any more.
    pub fn recheck(&self, shown: &ShownChain) -> Result<(), HandshakeError> {
        let Some(verifier) = &self.0.current().verifier else {
            return Ok(());
        };
        verifier.verify_client_cert(&shown.leaf, &shown.others, shown.at)?;
        Ok(())
    }

    /// Makes the handshake on a connection that was accepted, within `patience`.
    ///
    /// # Errors
    /// When it does not come to one: the connection is closed then, and the other end was told why.
    pub async fn accept(&self, stream: TcpStream, patience: Duration) -> Result<Stream, HandshakeError> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.0.current().config));
        let handshake = timeout(patience, acceptor.accept(stream).into_fallible()).await;
        match handshake.map_err(|_elapsed| HandshakeError::TimedOut)? {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream.into()))),
            Err((error, stream)) => {
                part(stream).await;
                Err(error.into())
            }
        }
    }
}

/// Lets the other end read the alert: closing with bytes unread would reset the connection and lose it.
async fn part(mut stream: TcpStream) {
    let parting = async {
        stream.shutdown().await?;
        let mut rest = stream.take(UNREAD_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection has ended.
    let _ = timeout(PARTING, parting).await;
}

fn make(files: &Files, contents: &Contents, protocols: &[Vec<u8>]) -> Result<Accepting, TlsError> {
    let terms = &files.terms;
    let provider = terms.protocol.provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&terms.protocol.versions())
        .map_err(|error| files.explain(&error))?;
    let verifier = match (files.authorities(contents)?, &files.authorities) {
        (Some(authorities), Some(file)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
                .with_crls(files.revoked(contents)?)
                .allow_unknown_revocation_status();
            let verifier = verifier.build().map_err(|error| files.distrusted(file, &error))?;
            let allowed = terms.allowed.clone();
            let admission: Arc<dyn ClientCertVerifier> = Arc::new(Admission { verifier, allowed });
            Some(admission)
        }
        _ => None,
    };
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let shown = files.shown(contents)?;
    let shown = shown.ok_or_else(|| TlsError::Generate("no certificate is named".to_owned()))?;
    let made = builder.with_single_cert(shown.chain, shown.key);
    let mut config = made.map_err(|error| files.explain(&error))?;
    config.alpn_protocols = protocols.to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    Ok(Accepting { config, verifier })
}

const PARTING: Duration = Duration::from_secs(1);
const UNREAD_BYTES: u64 = 64 << 10;
