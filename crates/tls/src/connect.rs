//! The dialing end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::Stream;
use crate::certificate::ShownChain;
use crate::files::{Contents, Files, KeyPairFiles, TlsError};
use crate::handshake::HandshakeError;
use crate::live::Live;
use crate::terms::Terms;

/// Who is believed to be who they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those whose certificate is for the host that was dialed, by an authority in this file, in PEM form.
    CertifiedBy(PathBuf),
    /// Whoever answers. What is sent cannot be read on the way, but may be sent to anybody.
    Anyone,
}

/// Makes TLS connections.
pub struct Connector(Live<Connecting>);

/// What connections are made with.
struct Connecting {
    config: Arc<ClientConfig>,
    /// Who says whose certificates are good.
    verifier: Arc<dyn ServerCertVerifier>,
}

/// A connection for threads that may wait: `Read` and `Write`.
pub type BlockingStream = StreamOwned<ClientConnection, std::net::TcpStream>;

impl Connector {
    /// A connector that shows the certificate in `pair`, if there is one, and offers `protocols` (ALPN).
    ///
    /// # Errors
    /// When a file cannot be read or does not contain what it should.
    pub fn open(
        pair: Option<KeyPairFiles>,
        trust: &Trust,
        protocols: &[&[u8]],
    ) -> Result<Connector, TlsError> {
        Connector::open_with(pair, trust, Terms::default(), protocols)
    }

    /// As [`Self::open`], on these terms. [`Terms::allowed`] is not asked: whoever dials knows whom it dials.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        pair: Option<KeyPairFiles>,
        trust: &Trust,
        terms: Terms,
        protocols: &[&[u8]],
    ) -> Result<Connector, TlsError> {
        let authorities = match trust {
            Trust::Anyone => None,
            Trust::CertifiedBy(file) => Some(file.clone()),
        };
        let files = Files {
            pair,
            authorities,
            terms,
        };
        Live::open(files, protocols, make).map(Connector)
    }

    /// Reads the files again if they have changed. Blocks for as long as that takes. Gives back whether something else
    /// counts now.
    ///
    /// What is wrong with them is logged, and changes nothing.
    pub fn refresh(&self) -> bool {
        self.0.refresh()
    }

    /// Looks again at certificates that were good when `host` showed them. That one has expired since is not asked.
    ///
    /// # Errors
    /// When they would be refused by now: one was revoked, or the authority is not trusted any more.
    pub fn recheck(&self, host: &str, shown: &ShownChain) -> Result<(), HandshakeError> {
        let host = server_name(host)?;
        let verifier = &self.0.current().verifier;
        verifier.verify_server_cert(&shown.leaf, &shown.others, &host, &[], shown.at)?;
        Ok(())
    }

    /// Makes the handshake on a connection to `host`, a name or an address without brackets, within `patience`.
    ///
    /// # Errors
    /// When it does not come to one, or whoever answers is not trusted to be `host`.
    pub async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
        patience: Duration,
    ) -> Result<Stream, HandshakeError> {
        let connector = TlsConnector::from(Arc::clone(&self.0.current().config));
        let handshake = timeout(patience, connector.connect(server_name(host)?, stream)).await;
        let stream = handshake.map_err(|_elapsed| HandshakeError::TimedOut)??;
        Ok(Stream::Tls(Box::new(stream.into())))
    }

    /// As [`Self::connect`], for a thread that may wait. The stream's own timeouts bound each of its steps.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_blocking(
        &self,
        host: &str,
        mut stream: std::net::TcpStream,
    ) -> Result<BlockingStream, HandshakeError> {
        let connection = ClientConnection::new(Arc::clone(&self.0.current().config), server_name(host)?);
        let mut connection = connection.map_err(HandshakeError::Failed)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, HandshakeError> {
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|_invalid| HandshakeError::Host(host.to_owned()))
}

fn make(files: &Files, contents: &Contents, protocols: &[Vec<u8>]) -> Result<Connecting, TlsError> {
    let protocol = &files.terms.protocol;
    let provider = protocol.provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&protocol.versions())
        .map_err(|error| files.explain(&error))?;
    let verifier: Arc<dyn ServerCertVerifier> = match (files.authorities(contents)?, &files.authorities) {
        (Some(authorities), Some(file)) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider)
                .with_crls(files.revoked(contents)?)
                .allow_unknown_revocation_status();
            verifier.build().map_err(|error| files.distrusted(file, &error))?
        }
        _ => Arc::new(Whoever(provider)),
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier));
    let mut config = match files.shown(contents)? {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let made = builder.with_client_auth_cert(shown.chain, shown.key);
            made.map_err(|error| files.explain(&error))?
        }
    };
    config.alpn_protocols = protocols.to_vec();
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    Ok(Connecting { config, verifier })
}

/// Takes any certificate whose key the other end has.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
