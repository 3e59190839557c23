//! What a certificate says: whose it is, and for how long.

use std::path::Path;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::connect::BlockingStream;
use crate::files::{TlsError, malformed};

/// The certificate that the other end of a connection showed, was found good, and has the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate(CertificateDer<'static>);

impl PeerCertificate {
    pub(crate) fn first_of(chain: Option<&[CertificateDer<'static>]>) -> Option<PeerCertificate> {
        let first = chain?.first()?;
        Some(PeerCertificate(first.clone()))
    }

    pub(crate) fn of(certificate: &CertificateDer<'_>) -> PeerCertificate {
        PeerCertificate(certificate.clone().into_owned())
    }

    /// One that nobody has found good: any bytes.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn unchecked(der: Vec<u8>) -> PeerCertificate {
        PeerCertificate(der.into())
    }

    /// The one that was shown on a connection, if one was.
    #[must_use]
    pub fn shown_on(stream: &BlockingStream) -> Option<PeerCertificate> {
        PeerCertificate::first_of(stream.conn.peer_certificates())
    }

    /// The common name of its subject. None if it has none, or more than one: who would say which counts?
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        let (_, parsed) = X509Certificate::from_der(&self.0).ok()?;
        let mut names = parsed.subject().iter_common_name();
        match (names.next(), names.next()) {
            (Some(name), None) => name
                .as_str()
                .ok()
                .map(str::to_owned)
                .filter(|name| !name.is_empty()),
            _ => None,
        }
    }

    /// Whether it is for `host`, a name or an address, by one of its subject alternative names.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        is_for(&self.0, host)
    }
}

/// The certificates that the other end showed, and when: by them it can be looked at again.
#[derive(Clone, Debug)]
pub struct ShownChain {
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) others: Vec<CertificateDer<'static>>,
    pub(crate) at: UnixTime,
}

impl ShownChain {
    pub(crate) fn of(chain: Option<&[CertificateDer<'static>]>) -> Option<ShownChain> {
        let (leaf, others) = chain?.split_first()?;
        Some(ShownChain {
            leaf: leaf.clone(),
            others: others.to_vec(),
            at: UnixTime::now(),
        })
    }
}

pub(crate) fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(name), Ok(parsed)) = (
        ServerName::try_from(host),
        ParsedCertificate::try_from(certificate),
    ) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

/// Fails if it is no certificate.
pub(crate) fn check_readable(file: &Path, certificate: &CertificateDer<'_>) -> Result<(), TlsError> {
    match X509Certificate::from_der(certificate) {
        Ok(_) => Ok(()),
        Err(error) => Err(malformed(file, error)),
    }
}

/// Tells the operator if a list of revoked certificates should have been followed by another.
pub(crate) fn warn_of_old_list(file: &Path, list: &[u8]) {
    let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else {
        return;
    };
    let Some(next_update) = parsed.next_update() else {
        return;
    };
    if next_update < ASN1Time::now() {
        let file = file.display();
        tracing::warn!(%file, %next_update, "a list of revoked certificates is older than it should be; it counts all the same");
    }
}

/// Tells the operator if others will not take the certificate, or soon will not.
pub(crate) fn warn_of_expiry(file: &Path, certificate: &CertificateDer<'_>) {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return;
    };
    let validity = parsed.validity();
    let (file, not_before, not_after) = (file.display(), validity.not_before, validity.not_after);
    match validity.time_to_expiration() {
        Some(left) if left.whole_days() < SOON_DAYS => {
            tracing::warn!(%file, %not_after, "a certificate of this node expires soon");
        }
        Some(_) => {}
        None => {
            tracing::warn!(%file, %not_before, %not_after, "a certificate of this node is not valid at this time: others refuse it");
        }
    }
}

const SOON_DAYS: i64 = 14;
