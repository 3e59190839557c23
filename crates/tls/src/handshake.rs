//! Why there is no connection, in words for a log.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most of the errors of the libraries below are passed on in their own words"
)]

use std::io;

use rustls::{CertificateError, InvalidMessage};

/// Why a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// What came is not TLS.
    #[error("the other end does not speak TLS, and this end does")]
    NotTls,
    /// The other end closed the connection.
    #[error("the other end closed the connection during the TLS handshake; does it speak TLS?")]
    Closed,
    /// It took too long.
    #[error("the TLS handshake was not finished in time")]
    TimedOut,
    /// The other end showed no certificate, and must.
    #[error("the other end showed no certificate")]
    NoCertificate,
    /// The other end's certificate is not good.
    #[error("the other end's certificate is not accepted: {}", describe(.0))]
    Certificate(CertificateError),
    /// The other end does not take this one's certificate, or its lack of one.
    #[error("the other end refused the TLS handshake: {0}")]
    Refused(String),
    /// It failed otherwise.
    #[error("TLS: {0}")]
    Failed(rustls::Error),
    /// The host that is to be reached is neither a name nor an address.
    #[error("{0:?} is no host that a certificate could be for")]
    Host(String),
    /// The connection failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> HandshakeError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return HandshakeError::Closed;
        }
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(inner) => inner.clone().into(),
            None => HandshakeError::Io(error),
        }
    }
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> HandshakeError {
        match error {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => HandshakeError::NotTls,
            rustls::Error::NoCertificatesPresented => HandshakeError::NoCertificate,
            rustls::Error::InvalidCertificate(why) => HandshakeError::Certificate(why),
            rustls::Error::AlertReceived(alert) => HandshakeError::Refused(format!("{alert:?}")),
            other => HandshakeError::Failed(other),
        }
    }
}

impl HandshakeError {
    /// What `error`, of a connection whose handshake was finished, says of TLS. In TLS 1.3 whoever dials hears only
    /// then that its certificate is refused.
    #[must_use]
    pub fn found_in(error: &io::Error) -> Option<HandshakeError> {
        let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(inner.clone().into())
    }
}

fn describe(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "it is not by an authority that is trusted here".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::ApplicationVerificationFailure => "its name is not among those allowed".to_owned(),
        other => other.to_string(),
    }
}
